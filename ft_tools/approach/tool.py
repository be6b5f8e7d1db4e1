"""recommend_approach: the cheapest approach that is sufficient, and what it rests on."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from ft_tools.approach.cost import bracket, shortening
from ft_tools.approach.gpu_time import stand_in
from ft_tools.approach.request import (
    TRAINING,
    Approach,
    ApproachReport,
    ApproachRequest,
    Block,
    ClassicRule,
    Measurement,
    Mistake,
    Option,
    Question,
)
from ft_tools.approach.situation import SETS, UNKNOWN, Situation, situation
from ft_tools.approach.table import Condition, Decision, Range, table
from ft_tools.contract import NextStep, Reason
from ft_tools.rules import rule

RAG_ELSEWHERE = "a fact is missing that stands in a text: retrieval comes before training"

MOST_SHOWN = 4
"""Of the measurements and of the mistakes: an answer has to be read whole."""

SETTLED: frozenset[Approach] = frozenset({"do_nothing"})

_GOALS = {
    "steps": "reasoning",
    "labels": "classification",
    "taste": "style",
    "jargon": "domain",
    "knowledge": "domain",
    "manner": "style",
    "format": "style",
}
"""Need -> `goal` of suggest_lora_config; the first that is there wins."""


def recommend_approach(request: ApproachRequest) -> ApproachReport:
    """Return the cheapest sufficient way to mend a model's answers, training or not.

    Returns one approach with its evidence, its cost bracket, what would be better under other
    conditions, what not to do, and the unknowns that would change the answer. Does not read data;
    for that use audit_dataset.
    """
    now = situation(request, table().needs)
    row = _decide(now)
    facts = table().approaches[row.approach]
    questions = _questions(request, row)
    return ApproachReport(
        approach=row.approach,
        row=row.id,
        summary=f"{facts.summary}. {row.why}",
        actions=facts.actions,
        alternatives=_alternatives(request, row, now),
        blocked=_blocked(row, now),
        questions=questions,
        classic_rules=_classics(now),
        measurements=_measurements(row.approach, now),
        mistakes=_mistakes(row.approach, now, {question.field for question in questions}),
        cost_bracket=bracket(row.approach, request),
        reasons=[*_reasons(row, now), *filter(None, [shortening(request)])],
        next_steps=_next_steps(row.approach, request, now),
    )


def decide(request: ApproachRequest) -> Decision:
    """Return the first row of the table whose conditions all hold; the last row has none."""
    return _decide(situation(request, table().needs))


def holds(when: Mapping[str, Condition], now: Situation) -> bool:
    """Tell whether every condition of a row holds."""
    return all(_holds(field, condition, now) for field, condition in when.items())


def _decide(now: Situation) -> Decision:
    return next(row for row in table().rows if holds(row.when, now))


def _holds(field: str, condition: Condition, now: Situation) -> bool:
    if isinstance(condition, Range):
        return _within(condition, now.numbers[field])
    if field == "all":
        return now.needs.issuperset(condition)
    if field == "any":
        return not now.needs.isdisjoint(condition)
    if field == "none":
        return now.needs.isdisjoint(condition)
    return now.choices[field] in condition


def _within(bounds: Range, value: float | None) -> bool:
    if value is None:
        return bounds.unknown
    if bounds.at_least is not None and value < table().thresholds[bounds.at_least].value:
        return False
    return bounds.below is None or value < table().thresholds[bounds.below].value


def _alternatives(request: ApproachRequest, row: Decision, now: Situation) -> list[Option]:
    """Return the row's alternatives; behind the eval gate, also what would come next.

    Retrieval is always among the answers while knowledge is missing, whatever decided.
    """
    options = [Option(approach=other.approach, when=other.when) for other in row.alternatives]
    if row.approach == "build_eval_first":
        later = decide(request.model_copy(update={"has_eval_set": True})).approach
        if later not in ("build_eval_first", "do_nothing"):
            options.insert(0, Option(approach=later, when="the held-out test exists"))
    offered = {row.approach, *(option.approach for option in options)}
    if "knowledge" in now.needs and not offered & {"rag", "sft_and_rag"}:
        options.append(Option(approach="rag", when=RAG_ELSEWHERE))
    return options


def _blocked(row: Decision, now: Situation) -> list[Block]:
    blocks: dict[tuple[Approach, str], Block] = {}
    for block in table().blocks:
        if block.approach != row.approach and holds(block.when, now):
            blocks.setdefault(
                (block.approach, block.rule),
                Block(
                    approach=block.approach,
                    rule=block.rule,
                    why=block.why,
                    source=rule(block.rule).source,
                ),
            )
    return list(blocks.values())


def _classics(now: Situation) -> list[ClassicRule]:
    evidence = table().evidence
    return [
        ClassicRule(rule=row.rule, limit=row.limit, source=evidence[row.evidence].source)
        for row in table().classics
        if holds(row.when, now)
    ]


def _measurements(approach: Approach, now: Situation) -> list[Measurement]:
    evidence = table().evidence
    found = [
        Measurement(
            measure=row.measure,
            result=row.result,
            then=row.then,
            source=evidence[row.evidence].source,
        )
        for row in table().measurements
        if approach in (row.approaches or [approach]) and holds(row.when, now)
    ]
    return found[:MOST_SHOWN] if approach not in SETTLED else []


def _mistakes(approach: Approach, now: Situation, asked: AbstractSet[str]) -> list[Mistake]:
    evidence = table().evidence
    found = [
        Mistake(mistake=row.mistake, ask=row.ask, source=evidence[row.evidence].source)
        for row in table().mistakes
        if row.field not in asked
        and approach in (row.approaches or [approach])
        and holds(row.when, now)
    ]
    return found[:MOST_SHOWN] if approach not in SETTLED else []


def _questions(request: ApproachRequest, row: Decision) -> list[Question]:
    """Ask for what is missing if some value of it leads to another approach: each is tried."""
    questions = []
    for field, ask in table().questions.items():
        if getattr(request, field) not in (None, [], "unknown"):
            continue
        leads = {
            decide(request.model_copy(update={field: value})).approach for value in _values(field)
        } - {row.approach}
        if leads:
            questions.append(Question(field=field, ask=ask, would_lead_to=sorted(leads)))
    return sorted(questions, key=_weight)


def _weight(question: Question) -> bool:
    """Order questions: what could spare a training run, or start one, first."""
    return not set(question.would_lead_to) & (TRAINING | {"do_nothing"})


def _values(field: str) -> Sequence[Any]:
    """Return values of a field that between them reach every row that depends on it."""
    if field == "symptoms":
        return [[symptom] for symptom in table().needs["quality"]]
    if field in _CHOICE_VALUES:
        return _CHOICE_VALUES[field]
    if field == "success_fraction":
        return [0.0, 0.5]
    lines = {int(threshold.value) for threshold in table().thresholds.values()}
    return sorted({0, 10**12} | lines | {line - 1 for line in lines if line > 0})


_CHOICE_VALUES: dict[str, Sequence[Any]] = {
    "prompting_tried": ("none", "zero_shot", "few_shot", "optimized"),
    "target_met": (True, False),
    "has_documents": (True, False),
    "knowledge_changes": ("never", "yearly", "monthly", "weekly", "daily"),
    "wrong_with_passage": (True, False),
    "schema_enforced": (True, False),
    "has_verifiable_reward": (True, False),
    "has_eval_set": (True, False),
    "data_source": ("human", "production_logs", "stronger_model", "same_model_family"),
    "teacher_terms": ("allowed", "forbidden"),
    "budget": ("low", "medium", "high"),
    "checkpoint": ("base", "instruct", "sft_run"),
}


def _reasons(row: Decision, now: Situation) -> list[Reason]:
    """Return the row that decided, then its evidence."""
    facts = table()
    seen = [text for field in row.when if (text := _seen(field, now))]
    lines = [text for field, condition in row.when.items() if (text := _line(field, condition))]
    first = facts.evidence[row.evidence[0]]
    decided = Reason(
        rule=row.why,
        observed="; ".join(seen) or "no row above applies",
        threshold="; ".join(lines) or None,
        source=first.source,
    )
    cited = (facts.evidence[key] for key in row.evidence)
    return [
        decided,
        *(
            Reason(rule=each.claim, observed=f"evidence, {each.grade}", source=each.source)
            for each in cited
        ),
    ]


def _seen(field: str, now: Situation) -> str:
    if field in ("all", "any"):
        return "needs: " + ", ".join(sorted(now.needs)) if now.needs else ""
    if field in SETS:
        return ""
    if field in now.choices:
        return f"{field} = {now.choices[field]}"
    value = now.numbers[field]
    return f"{field} = {UNKNOWN if value is None else f'{value:g}'}"


def _line(field: str, condition: Condition) -> str:
    if not isinstance(condition, Range):
        return ""
    thresholds = table().thresholds
    bounds = {"at least": condition.at_least, "below": condition.below}
    parts = [f"{word} {thresholds[name].value:g}" for word, name in bounds.items() if name]
    return f"{field} {' and '.join(parts)}"


def _next_steps(approach: Approach, request: ApproachRequest, now: Situation) -> list[NextStep]:
    given = request.model_dump(exclude_none=True, exclude_unset=True)
    fillings = {
        "dataset": request.dataset or "data.jsonl",
        "model": request.model or stand_in(approach),
        "gpu": request.gpu,
        "num_demonstrations": request.num_demonstrations,
        "goal": next((goal for need, goal in _GOALS.items() if need in now.needs), "instruction"),
    }
    steps = []
    for step in table().approaches[approach].next:
        arguments = {name: _filled(value, fillings) for name, value in step.arguments.items()}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        if step.tool == "recommend_approach":
            arguments = given | arguments
        steps.append(NextStep(tool=step.tool, arguments=arguments, why=step.why))
    return steps


def _filled(value: Any, fillings: Mapping[str, Any]) -> Any:
    """Fill in a `{name}`; None drops the argument."""
    if isinstance(value, str) and value.startswith("{"):
        return fillings[value.strip("{}")]
    return value
