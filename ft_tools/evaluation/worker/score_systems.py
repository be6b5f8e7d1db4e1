"""Score every system's answers, and compare each system with the reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ft_tools import workspace
from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.metrics import measures
from ft_tools.evaluation.metrics.choose_metrics import is_latin
from ft_tools.evaluation.metrics.schema import read_schema
from ft_tools.evaluation.metrics.scoring import (
    Found,
    Rouge,
    Scores,
    assemble,
    compare_macro_f1,
    score,
)
from ft_tools.evaluation.report import Comparison
from ft_tools.evaluation.systems.system import Answered
from ft_tools.evaluation.worker.judging import judge_answers
from ft_tools.evaluation.worker.likelihoods import add_likelihoods
from ft_tools.evaluation.worker.state import State


@dataclass(frozen=True)
class Compared:
    """The comparisons with the reference, and every system's scores."""

    comparisons: list[Comparison]
    scores: dict[str, Scores]
    whole_set: dict[str, dict[str, float]]
    """System -> measures of the whole set, such as macro F1, that no example has by itself."""


def compare_systems(state: State, answers: Mapping[str, list[Answered]]) -> Compared:
    """Score all systems; Holm's correction is over every comparison that is made."""
    scores = score_systems(state, answers)
    chosen = list(state.plan.metrics)
    if "perplexity" in chosen:
        add_likelihoods(state, scores["baseline"], scores["tuned"])
    reference, *others = answers
    found: Found = {}
    means: dict[tuple[str, str], tuple[float, float]] = {}
    whole_set: dict[str, dict[str, float]] = {name: {} for name in answers}
    for name in others:
        before, after = scores[reference], scores[name]
        for metric in before:
            found[name, metric] = compare(
                before[metric],
                after[metric],
                clusters=state.settings.clusters,
                scale=measures.METRICS[metric].scale,
                seed=state.settings.seed,
            )
            means[name, metric] = (fmean(before[metric]), fmean(after[metric]))
        if "classification" in chosen:
            first, second = ([a.text for a in answers[one]] for one in (reference, name))
            paired, values = compare_macro_f1(first, second, state.references, state.settings)
            found[name, "macro_f1"], means[name, "macro_f1"] = paired, values
            whole_set[reference]["macro_f1"], whole_set[name]["macro_f1"] = values
    if "judge" in chosen:
        for metric, (paired, values) in judge_answers(state, answers).items():
            found["tuned", metric], means["tuned", metric] = paired, values
    return Compared(assemble(found, means, state.settings), scores, whole_set)


def score_systems(state: State, answers: Mapping[str, list[Answered]]) -> dict[str, Scores]:
    """Return each system's score of each example."""
    references = state.references
    chosen = list(state.plan.metrics)
    rouge = rouge_function(references) if "rouge" in chosen else None
    schema = state.request.json_schema
    conforms = read_schema(workspace.existing(schema)) if schema else None
    pattern = state.request.regex
    return {
        name: score(
            chosen,
            said,
            references,
            pattern=pattern,
            conforms=conforms,
            rouge=rouge,
            rows=[example.row for example in state.examples],
            tolerance=state.request.number_tolerance,
        )
        for name, said in answers.items()
    }


def rouge_function(references: Sequence[str]) -> Rouge:
    """Return rouge-score's F values; its own tokenizer unless the texts are not Latin."""
    # It loads NLTK and scikit-learn: a second or two that only this metric needs.
    from rouge_score import rouge_scorer

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
