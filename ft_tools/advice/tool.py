"""recommend_approach: the facts, the ladder under them, what is blocked, and evidence."""

import json
from collections.abc import Container, Sequence
from typing import Any

from ft_tools.advice import evidence
from ft_tools.advice.blocks import blocks
from ft_tools.advice.facts import Facts
from ft_tools.advice.gather import gather
from ft_tools.advice.ladder import Placed, first, place, table
from ft_tools.advice.report import ApproachReport, Block, Passage, Question, Rung, State
from ft_tools.advice.request import ApproachRequest, RungId
from ft_tools.contract import NextStep, compact

MOST_PASSAGES = {"concise": 3, "detailed": 5}
MOST_QUESTIONS = 3
LENGTHS = ((2, 3, 2, 6), (1, 2, 2, 6), (0, 2, 1, 5), (0, 1, 1, 4))
"""Of a concise report, the longest that fits: further rungs, passages, questions, facts."""
MOST_CHARS = 2_000
"""About 550 tokens."""
HIGHEST_CHARS = 2_400
"""Above it evidence is left out, too."""
MOST_BLOCKS = 3


def recommend_approach(request: ApproachRequest) -> ApproachReport:
    """Recommend the first rung that no fact excludes, and show what that rests on.

    Raises:
        NotFound: The dataset, the documents or an evaluation is not there.
        BadInput: A run is no finished evaluation, or the documents hold no text.
        OutsideWorkspace: A path leaves the workspace.
    """
    facts = gather(request)
    held = blocks(facts)
    placed = place(facts, held)
    start = first(placed, request.considering)
    passages = evidence.passages(
        request.problem, request.considering, MOST_PASSAGES[request.response_format]
    )
    report = ApproachReport(
        summary=_summary(start, placed, request),
        approach=start.row.id,
        decided_by=_decided_by(start, placed, request),
        facts=list(facts.rows),
        numbers=dict(facts.numbers),
        ladder=[each.rung for each in placed],
        blocked=held,
        evidence=passages,
        questions=_questions(start, placed, request),
        next_steps=[*facts.next_steps, *_next_steps(start, facts, request)],
    )
    return report if request.response_format == "detailed" else _concise(report, request)


def _summary(start: Placed, placed: Sequence[Placed], request: ApproachRequest) -> str:
    """Return what comes first, and the state of what is considered."""
    said = [f"First: {start.row.title} ({start.row.id})."]
    said += [
        f"{each.row.id}: {_state(each)}."
        for each in placed
        if each.row.id in request.considering and each is not start
    ]
    if not request.evaluations:
        said.append("Nothing was measured here yet.")
    return " ".join(said)


def _state(placed: Placed) -> str:
    """Return a rung's state with what decides it; its row in the ladder names all rules."""
    rules = [name for name in placed.ids if name in placed.row.blocked_by]
    if rules:
        others = f" and {len(rules) - 1} more" if len(rules) > 1 else ""
        return f"blocked by {rules[0]}{others}"
    before = {"blocked": ": ", "needs": " "}.get(placed.rung.state, ", ")
    return placed.rung.state + (before + placed.rung.why if placed.rung.why else "")


def _decided_by(start: Placed, placed: Sequence[Placed], request: ApproachRequest) -> list[str]:
    """Return what excludes the rungs before the first one, and those that are considered."""
    earlier = placed[: placed.index(start)]
    considered = [each for each in placed if each.row.id in request.considering]
    return list(dict.fromkeys(name for each in (*earlier, *considered) for name in each.ids))


def _questions(start: Placed, placed: Sequence[Placed], request: ApproachRequest) -> list[Question]:
    """Return what is unknown and would move a rung: of what is considered, then in order."""
    open_ones = [each for each in placed if each.rung.state != "blocked"]
    considered = [each for each in open_ones if each.row.id in request.considering]
    unknown = [name for each in (*considered, *open_ones) for name in each.unknown]
    if start.row.open_below:
        unknown = [*start.row.open_below, *unknown]
    if start.row.id == "clear_terms":
        unknown = ["terms", *unknown]
    known = table().questions
    asked = [known[name] for name in dict.fromkeys(unknown) if name in known]
    fields = dict[str, str]()
    for each in asked:
        fields.setdefault(each.field, each.ask)
    return [Question(field=name, ask=ask) for name, ask in fields.items()][:MOST_QUESTIONS]


EVALUATED = {"prompting", "few_shot", "constrained_decoding", "prompt_optimization"}
TRAINED = {"sft", "small_model_fine_tuning", "distillation", "sft_and_rag"}
PREFERENCES = {"dpo", "kto"}


def _next_steps(start: Placed, facts: Facts, request: ApproachRequest) -> list[NextStep]:
    """Return the call that the first rung begins with."""
    if request.dataset is None or facts.next_steps:
        return []
    rows: dict[str, Any] = {"path": request.dataset}
    model = {"model": request.model} if request.model else {}
    gpu = {"gpu": request.gpu} if request.gpu else {}
    test_set = facts.words.get("test_set")
    if start.row.id == "build_eval_first" and test_set is None:
        why = "splits off a test part, which is remembered and kept out of training"
        return [NextStep(tool="prepare_dataset", arguments=rows, why=why)]
    if start.row.id in EVALUATED | {"build_eval_first"} and request.model:
        arguments = {**model, "dataset": test_set or request.dataset}
        why = "measures it on held-out rows; use your own prompt"
        why += "" if test_set else ", and pass rows that nothing learns from"
        return [NextStep(tool="evaluate", arguments=arguments, why=why)]
    if start.row.id in TRAINED and request.model:
        arguments = {**model, "dataset": request.dataset, **gpu}
        why = "returns the launch with settings that fit"
        return [NextStep(tool="suggest_lora_config", arguments=arguments, why=why)]
    if start.row.id in PREFERENCES | TRAINED | {"collect_data_first"}:
        why = "finds what is wrong with the rows before they are trained on"
        return [NextStep(tool="audit_dataset", arguments=rows, why=why)]
    return []


def _concise(report: ApproachReport, request: ApproachRequest) -> ApproachReport:
    """Return a report of at most about 600 tokens: whole rungs, but few of them."""
    usual = {row.id for row in table().rungs if not row.optional and not row.gate}
    answered = [report.approach, *request.considering]
    usual.discard("collect_data_first")  # it is always possible
    later = [r.rung for r in report.ladder if r.state == "possible" and r.rung in usual]
    relevant = usual.union(request.considering)
    blocked = [each for each in report.blocked if relevant.intersection(each.rungs)]
    covered = {rung for each in blocked for rung in each.rungs}
    # Those that no rule blocks but a fact: only their row says which.
    by_fact = [r.rung for r in report.ladder if r.state == "blocked" and r.rung in usual - covered]
    for num_later, num_passages, num_questions, num_facts in LENGTHS:
        first = answered + (by_fact if num_passages > 1 else [])
        shown = list(dict.fromkeys(first + later))[: len(set(first)) + num_later]
        short = report.model_copy(
            update={
                "numbers": {},
                "facts": report.facts[:num_facts],
                "ladder": [_short(r, answered, blocked) for r in report.ladder if r.rung in shown],
                "others": _others(report, relevant.difference(shown)),
                "blocked": [_named(each, shown) for each in blocked[:MOST_BLOCKS]],
                "evidence": [_claim(each) for each in report.evidence[:num_passages]],
                "questions": report.questions[:num_questions],
            }
        )
        size = len(json.dumps(compact(short)))
        if size <= MOST_CHARS:
            break
    return short if size <= HIGHEST_CHARS else short.model_copy(update={"evidence": []})


def _named(block: Block, shown: Container[RungId]) -> Block:
    """Return a block without what explain says of it, and the shown rungs that it blocks."""
    rungs = [each for each in block.rungs if each in shown] or block.rungs
    return block.model_copy(update={"rungs": rungs, "override": "", "source": ""})


def _others(report: ApproachReport, rungs: Container[RungId]) -> dict[State, list[RungId]]:
    """Return the other rungs that are possible or blocked; what is missing is in the questions."""
    found: dict[State, list[RungId]] = {}
    for each in report.ladder:
        if each.rung in rungs and each.state in {"possible", "blocked"}:
            found.setdefault(each.state, []).append(each.rung)
    return found


def _short(rung: Rung, answered: Container[RungId], blocked: Sequence[Block]) -> Rung:
    """Return a rung without its source; what it costs only where it was asked about."""
    rules = [each.id for each in blocked if rung.rung in each.rungs]
    left_out = {"source": ""} if rung.rung in answered else {"source": "", "cost": "", "stop": ""}
    if rung.state == "blocked":
        left_out |= {"cost": "", "stop": ""} | ({"why": ", ".join(rules)} if rules else {})
    return rung.model_copy(update=left_out)


def _claim(passage: Passage) -> Passage:
    """Return a passage cut to its claim, which is its first sentence."""
    says = passage.says.split(". ")[0]
    return passage.model_copy(update={"says": says, "section": ""})
