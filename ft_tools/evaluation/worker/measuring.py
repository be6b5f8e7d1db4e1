"""The steps of an evaluation: generate, measure references, score, ask the judge, compare.

Outputs are saved as they come (outputs.jsonl), so a resumed run goes on where it was.
"""

import json
import math
import time
from collections.abc import Sequence
from statistics import fmean

from rouge_score import rouge_scorer

from ft_tools import workspace
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.intervals.paired import Paired
from ft_tools.evaluation.metrics import measures
from ft_tools.evaluation.metrics.choose import is_latin
from ft_tools.evaluation.metrics.general import NEW_TOKENS, general_prompts, general_texts
from ft_tools.evaluation.metrics.schema import read_schema
from ft_tools.evaluation.metrics.scoring import (
    Answered,
    Rouge,
    Scores,
    Settings,
    assemble,
    compare_macro_f1,
    compare_scores,
    score,
)
from ft_tools.evaluation.report import Comparison
from ft_tools.evaluation.worker.judging import judge_answers
from ft_tools.evaluation.worker.state import SIDES, State
from ft_tools.evaluation.worker.writer import Likelihood, Writer, generate_all, whole_text
from ft_tools.publish import append_line

LIKELIHOOD_BATCH = 8


def generate(
    state: State, name: str, side: str, prompts: Sequence[tuple[int, str]], max_new_tokens: int
) -> list[Answered]:
    """Generate what is missing of a set of (line, prompt), and return all of it in order."""
    if state.plan.alone and side == "tuned":
        side = "baseline"
    missing = [(line, prompt) for line, prompt in prompts if (name, side, line) not in state.saved]
    done, total = len(prompts) - len(missing), len(prompts)
    began = time.monotonic()
    texts = [prompt for _, prompt in missing]
    batches = generate_all(state.writer(side), texts, max_new_tokens, state.plan.batch_size)
    for indices, outputs, seconds in batches if missing else ():
        for i, output in zip(indices, outputs, strict=True):
            row = {
                "set": name,
                "side": side,
                "line": missing[i][0],
                "text": output.text,
                "num_tokens": output.num_tokens,
                "finished": output.finished,
                "seconds": round(seconds / len(indices), 4),
            }
            append_line(state.session.run_dir / "outputs.jsonl", json.dumps(row))
            state.saved[name, side, missing[i][0]] = row
        done += len(indices)
        fresh = done - (total - len(missing))
        eta = (time.monotonic() - began) / fresh * (total - done)
        state.session.progress(done, total, eta)
        state.check_stop()
    rows = [state.saved[name, side, line] for line, _ in prompts]
    return [Answered(r["text"], r["num_tokens"], r["finished"], r["seconds"]) for r in rows]


def generate_held_out(state: State, side: str) -> list[Answered]:
    """Generate one model's answers to the held-out prompts."""
    state.session.phase(f"generating: held-out examples, {side}")
    prompts = [(e.line, state.pair.render(e, state.plan.rendering)) for e in state.examples]
    return generate(state, "held_out", side, prompts, state.plan.max_new_tokens)


def compare_held_out(
    state: State, answers: dict[str, list[Answered]]
) -> tuple[list[Comparison], tuple[Scores, Scores]]:
    """Score and compare everything that was chosen for the held-out examples."""
    references = [example.reference for example in state.examples]
    chosen = list(state.plan.metrics)
    rouge = rouge_function(references) if "rouge" in chosen else None
    schema = state.request.json_schema
    conforms = read_schema(workspace.existing(schema)) if schema else None
    pattern = state.request.regex
    before, after = (
        score(chosen, answers[side], references, pattern=pattern, conforms=conforms, rouge=rouge)
        for side in SIDES
    )
    if "perplexity" in chosen:
        add_likelihoods(state, before, after)
    settings = state.settings
    found: dict[str, Paired] = {}
    means: dict[str, tuple[float, float]] = {}
    for name in before:
        found[name] = compare(
            before[name],
            after[name],
            clusters=settings.clusters,
            scale=measures.METRICS[name].scale,
            seed=settings.seed,
        )
        means[name] = (fmean(before[name]), fmean(after[name]))
    if "classification" in chosen:
        texts = [[answer.text for answer in answers[side]] for side in SIDES]
        paired, values = compare_macro_f1(texts[0], texts[1], references, settings)
        found["macro_f1"], means["macro_f1"] = paired, values
    if "judge" in chosen:
        judged = judge_answers(state, answers)
        found |= {name: paired for name, (paired, _) in judged.items()}
        means |= {name: values for name, (_, values) in judged.items()}
    return assemble(found, means, settings), (before, after)


def rouge_function(references: Sequence[str]) -> Rouge:
    """Return rouge-score's F values; its own tokenizer unless the texts are not Latin."""
    names = ["rouge1", "rouge2", "rougeL"]
    tokenizer = None if is_latin(references) else _AllScripts()
    scorer = rouge_scorer.RougeScorer(names, use_stemmer=False, tokenizer=tokenizer)

    def rouge(output: str, reference: str) -> dict[str, float]:
        scores = scorer.score(reference, output)
        return {name: float(scores[name].fmeasure) for name in names}

    return rouge


class _AllScripts:
    """Words of any script for rouge-score; where a script has no spaces, its characters."""

    def tokenize(self, text: str) -> list[str]:
        tokens: list[str] = []
        for word in measures.words(text):
            # Kana, CJK and Hangul start at U+3040; they write without spaces, or nearly so.
            tokens += list(word) if any(ord(c) >= 0x3040 for c in word) else [word]
        return tokens


def add_likelihoods(state: State, before: Scores, after: Scores) -> None:
    """Measure how well each model predicts the references, in units both share."""
    state.session.phase("measuring the references")
    texts = []
    for example in state.examples:
        prompt = state.pair.render(example, state.plan.rendering)
        writer = state.pair.tuned if state.pair.tuned.template else state.pair.baseline
        texts.append((prompt, whole_text(writer, prompt, example, state.plan.rendering)))
    found = [measure(state, state.writer(side), texts) for side in SIDES]
    add_shared_unit(state, found, before, after)


def add_shared_unit(
    state: State, found: list[list[Likelihood]], before: Scores, after: Scores
) -> None:
    """Put likelihoods into the scores: per token, or per byte where the tokens differ."""
    same = state.pair.same_tokens()
    name = "log_perplexity" if same else "bits_per_byte"
    for scores, side in zip((before, after), found, strict=True):
        scores[name] = [
            one.nats / one.num_tokens if same else one.nats / one.num_bytes / math.log(2)
            for one in side
        ]


def measure(state: State, writer: Writer, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
    """Measure (prompt, whole text) pairs in batches of similar length."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i][1]))
    found: dict[int, Likelihood] = {}
    for start in range(0, len(order), LIKELIHOOD_BATCH):
        batch = order[start : start + LIKELIHOOD_BATCH]
        values = writer.likelihoods([texts[i] for i in batch])
        found |= dict(zip(batch, values, strict=True))
        state.session.progress(len(found), len(texts))
        state.check_stop()
    return [found[i] for i in range(len(texts))]


def evaluate_general(state: State) -> list[Comparison]:
    """Compare what the models could do before: general text, and a few questions of each kind."""
    before, after = Scores(), Scores()
    settings = Settings(state.request.seed, state.request.smallest_effect_fraction)
    state.session.phase("measuring general text")
    texts = [("", text) for text in general_texts()]
    found = [measure(state, state.writer(side), texts) for side in SIDES]
    add_shared_unit(state, found, before, after)
    asked = general_prompts()
    rendered = [
        (i, state.pair.render(HeldOut(line=i, messages=[{"role": "user", "content": p.prompt}]),
                            "chat"))
        for i, p in enumerate(asked)
    ]  # fmt: skip
    for scores, side in zip((before, after), SIDES, strict=True):
        state.session.phase(f"generating: general questions, {side}")
        answers = generate(state, "general", side, rendered, NEW_TOKENS)
        passed = [float(p.passes(a.text)) for p, a in zip(asked, answers, strict=True)]
        scores["general_questions"] = [
            value for value, p in zip(passed, asked, strict=True) if p.kind != "refusal"
        ]
        scores["refusals"] = [
            value for value, p in zip(passed, asked, strict=True) if p.kind == "refusal"
        ]
    rows = compare_scores(before, after, settings)
    return [
        row.model_copy(update={"metric": f"general_{row.metric}"})
        if row.metric in {"log_perplexity", "bits_per_byte"}
        else row
        for row in rows
    ]
