"""recommend_approach: the facts, the ladder under them, what is blocked, and evidence."""

from collections.abc import Sequence
from typing import Any

from ft_tools.advice import evidence
from ft_tools.advice.blocks import blocks
from ft_tools.advice.facts import Facts
from ft_tools.advice.gather import gather
from ft_tools.advice.ladder import Placed, first, place, table
from ft_tools.advice.report import ApproachReport, Block, Question, Rung
from ft_tools.advice.request import ApproachRequest
from ft_tools.contract import NextStep

MOST_PASSAGES = {"concise": 3, "detailed": 5}
MOST_QUESTIONS = 3
MOST_SHOWN = 4
"""Rungs that a concise report describes beside those that are considered."""
MOST_BLOCKS = 3
MOST_FACTS = 6


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
    """Say what comes first, what that leaves of what is considered, and when to stop."""
    said = [f"First: {start.row.id} ({start.row.title}); stop when {start.row.stop}."]
    for each in placed:
        if each.row.id in request.considering and each is not start:
            why = f" ({each.rung.why})" if each.rung.why else ""
            said.append(f"{each.row.id}: {each.rung.state}{why}.")
    if not request.evaluations:
        said.append("Nothing was measured here yet.")
    return " ".join(said)


def _decided_by(start: Placed, placed: Sequence[Placed], request: ApproachRequest) -> list[str]:
    """Return what excludes the rungs before the first one, and those that are considered."""
    earlier = placed[: placed.index(start)]
    considered = [each for each in placed if each.row.id in request.considering]
    return list(dict.fromkeys(name for each in (*earlier, *considered) for name in each.ids))


def _questions(start: Placed, placed: Sequence[Placed], request: ApproachRequest) -> list[Question]:
    """Return what is unknown and would move a rung: of what is considered, then in order."""
    considered = [each for each in placed if each.row.id in request.considering]
    unknown = [name for each in (*considered, *placed) for name in each.unknown]
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
    if start.row.id == "build_eval_first":
        why = "splits off a test part, which is remembered and kept out of training"
        return [NextStep(tool="prepare_dataset", arguments=rows, why=why)]
    if start.row.id in EVALUATED and request.model:
        systems = [{"name": start.row.id, **model}]
        arguments = {"dataset": request.dataset, "systems": systems}
        why = "measures it; use held-out rows and your own prompt"
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
    """Return a report of at most about 600 tokens."""
    shown = {report.approach, *request.considering}
    others = [each for each in report.ladder if each.rung not in shown]
    possible = [each.rung for each in others if each.state == "possible"]
    shown |= set(possible[: max(0, MOST_SHOWN - len(shown))])
    rest: dict[str, list[str]] = {}
    for each in report.ladder:
        if each.rung not in shown:
            rest.setdefault(each.state, []).append(each.rung)
    return ApproachReport.model_validate(
        report.model_dump()
        | {
            "numbers": {},
            "facts": report.facts[:MOST_FACTS],
            "ladder": [_short(each) for each in report.ladder if each.rung in shown],
            "others": rest,
            "blocked": [_named(each) for each in report.blocked[:MOST_BLOCKS]],
            "evidence": [
                each.model_copy(update={"says": ". ".join(each.says.split(". ")[:2])})
                for each in report.evidence
            ],
        }
    )


def _short(rung: Rung) -> Rung:
    return rung.model_copy(update={"source": ""})


def _named(block: Block) -> Block:
    return block.model_copy(update={"override": "", "source": ""})
