"""What stands beside the answer: what decided, what not to do, what the asker has, mistakes."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ft_tools.approach.conditions import (
    CONSIDERS,
    CONSIDERS_NONE,
    LISTS,
    SETS,
    TRIED,
    UNKNOWN,
    Condition,
    Range,
)
from ft_tools.approach.decision import blocks_of, decide, holds, others, stages
from ft_tools.approach.path import Rung
from ft_tools.approach.report import Asset, Block, ClassicRule, Measurement, Mistake, Option
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.situation import Situation
from ft_tools.approach.table import table
from ft_tools.approach.table_rows import Decision, Duty, NoteRow
from ft_tools.contract import Reason


def reasons(row: Decision, now: Situation) -> list[Reason]:
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


def duties(now: Situation) -> list[Duty]:
    """Return what binds data about people, and data that may not leave where a model is remote."""
    about_people = now.choices["personal_data"] == "yes"
    binding = {"personal_data": about_people, "external_api": now.needs_permission}
    return [duty for name, duty in table().duties.items() if binding[name]]


MOST_NOTES = 3
"""Notes of a kind that a summary says."""


def notes(rungs: Sequence[Rung], now: Situation, *, is_last: bool) -> list[NoteRow]:
    """Return what is said before the first step, of what was observed; or after it, as a bound."""
    named = {rung.approach for rung in rungs} | now.considers
    rows = (row for row in table().notes if row.is_last == is_last and holds(row.when, now))
    found = [row for row in rows if not row.of or not named.isdisjoint(row.of)]
    return [row for row in found if row.is_enough][:1] or found[:MOST_NOTES]


def note_reasons(rungs: Sequence[Rung], now: Situation) -> list[Reason]:
    """Return the notes with their evidence."""
    rows = [row for is_last in (False, True) for row in notes(rungs, now, is_last=is_last)]
    return [
        Reason(
            rule=row.says,
            observed="; ".join(text for field in row.when if (text := _seen(field, now))),
            source=table().evidence[row.evidence].source,
        )
        for row in rows
    ]


def terms(request: ApproachRequest, now: Situation) -> list[Reason]:
    """Return what binds the data: a named teacher's terms, the law on people's; no legal advice."""
    seen = "personal_data = yes" if request.personal_data else "symptoms: privacy"
    found = [Reason(rule=d.rule, observed=seen, source=d.source) for d in duties(now)]
    if request.teacher is not None and request.teacher_terms is None:
        facts = table().teachers[request.teacher]
        seen = f"teacher = {request.teacher}, product_use = {request.product_use or UNKNOWN}"
        found.append(Reason(rule=f"Its terms: {facts.note}", observed=seen, source=facts.source))
    return found


def _seen(field: str, now: Situation) -> str:
    if field in ("all", "any"):
        return "needs: " + ", ".join(sorted(now.needs)) if now.needs else ""
    if field == CONSIDERS:
        return "considering: " + ", ".join(sorted(now.considers))
    if field == TRIED:
        return "tried: " + ", ".join(sorted(now.tried))
    if field in LISTS:
        return f"{field}: " + ", ".join(sorted(now.lists[field]))
    if field in (*SETS, CONSIDERS_NONE):
        return ""
    if field == "prompting_tried" and now.assumes_prompt:
        return "prompting_tried = not said: the question is about training"
    if field in now.choices:
        return f"{field} = {now.choices[field]}"
    value = now.numbers[field]
    if field == "demonstrations" and value == 0 and now.numbers["num_demonstrations"]:
        return f"usable demonstrations = 0 of {now.numbers['num_demonstrations']:g}"
    if not now.presumed.keys().isdisjoint((field, f"num_{field}")) and value:
        return f"{field} = not counted, taken as {value:,.0f}"
    return f"{field} = {UNKNOWN if value is None else f'{value:g}'}"


def _line(field: str, condition: Condition) -> str:
    if not isinstance(condition, Range):
        return ""
    thresholds = table().thresholds
    bounds = {"at least": condition.at_least, "below": condition.below}
    parts = [f"{word} {thresholds[name].value:g}" for word, name in bounds.items() if name]
    return f"{field} {' and '.join(parts)}"


NOTHING: tuple[object, ...] = (None, [], False, "none", 0)
PRESUMED = "Not counted, so count it first; if it is enough: "


def assets(request: ApproachRequest, now: Situation) -> list[Asset]:
    """Return one line for each asset that is named; the first row of it that holds."""
    found: dict[str, Asset] = {}
    for row in table().assets:
        taken = now.presumed.get(row.asset)
        if (taken or getattr(request, row.asset) not in NOTHING) and holds(row.when, now):
            use = PRESUMED + row.use[0].lower() + row.use[1:] if taken else row.use
            found.setdefault(row.asset, Asset(asset=row.asset, use=use))
    return list(found.values())


RAG_ELSEWHERE = "a fact is missing that is written down in a text: retrieval comes before training"

MOST_SHOWN = 4
"""Measurements and mistakes shown: a report has to be read whole."""

SETTLED: frozenset[Approach] = frozenset({"do_nothing"})


def alternatives(request: ApproachRequest, row: Decision, now: Situation) -> list[Option]:
    """Return the row's alternatives; behind the eval gate, also what would come next.

    Retrieval is always among the answers while knowledge is missing, whatever decided.
    """
    options = [Option(approach=other.approach, when=other.when) for other in others(row, now)]
    if row.approach == "build_eval_first":
        later = decide(request.model_copy(update={"has_eval_set": True})).approach
        if later not in ("build_eval_first", "do_nothing"):
            options.insert(0, Option(approach=later, when="the held-out test exists"))
    offered = {row.approach, *(option.approach for option in options)}
    if "knowledge" in now.needs and not offered & {"rag", "sft_and_rag"}:
        options.append(Option(approach="rag", when=RAG_ELSEWHERE))
    return options


def blocked(rungs: Sequence[Rung], now: Situation) -> list[Block]:
    """Return the approaches that would be a mistake here and are not in the path."""
    in_path = {rung.approach for rung in rungs} | set(stages(rungs[0].approach, now)[0])
    return [
        Block(approach=approach, rule=block.rule, why=block.why, source=block.evidence_source)
        for approach in dict.fromkeys(block.approach for block in table().blocks)
        if approach not in in_path
        for block in blocks_of(approach, now)
    ]


def classics(now: Situation) -> list[ClassicRule]:
    """Return the rules of thumb that apply, with their limits."""
    evidence = table().evidence
    return [
        ClassicRule(rule=row.rule, limit=row.limit, source=evidence[row.evidence].source)
        for row in table().classics
        if holds(row.when, now)
    ]


def measurements(approach: Approach, now: Situation) -> list[Measurement]:
    """Return the measurements that could change the decision."""
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


def mistakes(approach: Approach, now: Situation, asked: AbstractSet[str]) -> list[Mistake]:
    """Return the common mistakes that no question already covers."""
    evidence = table().evidence
    found = [
        Mistake(mistake=row.mistake, ask=row.ask, source=evidence[row.evidence].source)
        for row in table().mistakes
        if row.field not in asked
        and approach in (row.approaches or [approach])
        and holds(row.when, now)
    ]
    return found[:MOST_SHOWN] if approach not in SETTLED else []
