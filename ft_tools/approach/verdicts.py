"""What the asker proposes or asks about: now, later or no."""

from collections.abc import Mapping, Sequence

from ft_tools.approach.conditions import APPROACHES, UNKNOWN
from ft_tools.approach.decision import blocks_of, holds, others, stages
from ft_tools.approach.path import COUNT, Rung, steps
from ft_tools.approach.presumed import FAULTS
from ft_tools.approach.report import ApproachVerdict, MeasuredSystem
from ft_tools.approach.request import TRAINING, Approach, ApproachRequest, Considered
from ft_tools.approach.situation import Situation
from ft_tools.approach.table import table
from ft_tools.approach.table_rows import Alternative, BlockRow, Decision

BASELINES: Mapping[Approach, str] = {"prompting": "zero_shot", "few_shot": "few_shot"}
"""Approach -> the best prompt where it is what is used today."""

WITHOUT_TRAINING: frozenset[Approach] = frozenset(
    {"constrained_decoding", "few_shot", "rag", "long_context", "tool_lookup"}
)
"""What is tried in hours: where little is known, now, on the condition that it is for."""

PROMPTS_FIRST: frozenset[Approach] = frozenset(
    {"prompting", "few_shot", "prompt_optimization", "constrained_decoding"}
)
"""First steps that training waits for: it would not be now beside one of them."""

BEYOND_PROMPTS = TRAINING | {"prompt_optimization"}
TESTED = "as what the test measures first, with what can be written by hand"
BASELINE = "as the baseline, measured before anything is trained"

OF_A_KIND: frozenset[Approach] = frozenset({"sft", "small_model_fine_tuning"})

BESIDE: frozenset[Approach] = frozenset({"prompting", "build_eval_first"})
"""What is never put off: it goes on beside any step."""

RUNNING: Mapping[Approach, tuple[str, Sequence[str]]] = {
    "few_shot": ("prompting_tried", ("few_shot", "optimized")),
    "constrained_decoding": ("schema_enforced", ("yes",)),
    "rag": ("retrieval", ("misses", "unmeasured", "finds")),
}
"""Approach -> the choice whose value says that it is in use."""
PERMITTED = "once who owns the data has permitted in writing to send it to the API"
WITH_TRAINING = "with training ({} comes first): "
PROMPTED_FIRST = "after {}, if the target is still missed: "
REPAIRED = "once the fault is found: "
COUNTED = "once the checked examples are counted"
MEASURED = "if what is measured first misses the target"
STILL_MISSED = "if the target is still missed"
STILL_DEAR = "if it is still too dear or too slow"
PREPARES: frozenset[Approach] = frozenset({"build_eval_first", "collect_data_first"})
"""What changes neither price nor delay."""
KEEP = "keep it: it is in use, and the next steps build on it"
FAULTY = (
    "once the fault is found: that run anew, from the model that it started from and not from its "
    "last checkpoint"
)
COMPARED = (
    "once that comparison shows what is missing: anew from the released model, with what was found"
)
UNASKED = "if a prompt misses the test, checked rows exist, and the first step allows it"
UNRUN = "once the fault is found, if the repaired run misses the target"
AGAIN = "with other data or another set-up: the same again will not reach the goal"


def verdicts(
    request: ApproachRequest, row: Decision, rungs: Sequence[Rung], now: Situation
) -> list[ApproachVerdict]:
    """Answer what is considered, in the order asked: by a row of answers, else by the path."""
    given: dict[Considered, ApproachVerdict] = {
        approach: _verdict(approach, row, rungs, now)
        for approach in APPROACHES
        if approach in request.considering
    }
    first = rungs[0].approach
    return [
        _said(asked, first, now) or given[asked] for asked in dict.fromkeys(request.considering)
    ]


MET = "{} meets the target{} and is the cheapest that does ({}): use it and train nothing."
OPEN = (
    "{} is the cheapest that nothing beats beyond chance{} ({}): if that is enough, use it and "
    "train nothing; the evaluation has no target. Else:"
)
MISSED = (
    "{} is the cheapest that nothing beats beyond chance{} and not shown to meet the target ({}): "
    "compare with it."
)
AS_MEASURED = "as measured: {} meets the target{}"
NOT_ENOUGH = "if {}, which meets the target{}, is not enough in use"


def measured_words(best: MeasuredSystem) -> str:
    """Say what an evaluation showed of its cheapest sufficient system, or that nothing beats."""
    said = {True: MET, None: OPEN, False: MISSED}[best.meets_target]
    return said.format(best.name, _score(best), best.evaluation)


def beside_measured(
    answers: Sequence[ApproachVerdict], best: MeasuredSystem | None
) -> Sequence[ApproachVerdict]:
    """Put what meets the target before what is merely likely to: it is used, the rest waits."""
    if best is None or not best.meets_target:
        return answers
    here = AS_MEASURED.format(best.name, _score(best))
    rest = NOT_ENOUGH.format(best.name, _score(best))
    return [
        answer.model_copy(update={"verdict": "now", "condition": here, "instead": None})
        if answer.approach == best.approach
        else answer.model_copy(update={"verdict": "later", "condition": rest})
        if answer.approach in BEYOND_PROMPTS and answer.verdict != "no"
        else answer
        for answer in answers
    ]


STEP = "step {}: {}"
OFF_THE_PATH = "off the path: {}"


def placed(answers: Sequence[ApproachVerdict], rungs: Sequence[Rung]) -> Sequence[ApproachVerdict]:
    """Say of what is later which step of the path it is, or that only its condition brings it."""
    return [
        answer.model_copy(update={"condition": _place(answer, rungs)})
        if answer.verdict == "later"
        else answer
        for answer in answers
    ]


def _place(answer: ApproachVerdict, rungs: Sequence[Rung]) -> str:
    places = (i for i, rung in enumerate(rungs, 1) if _has(rung, answer.approach))
    place = next(places, None)
    said = OFF_THE_PATH if place is None else STEP.replace("{}", str(place), 1)
    return said.format(answer.condition)


def _score(best: MeasuredSystem) -> str:
    return "" if best.score is None else f" ({best.metric} {best.score:.2f})"


def guide(approach: Approach, now: Situation) -> str:
    """Say what decides whether an approach works: for training, by what is trained."""
    of_kind = table().kinds[now.kind].guide if approach in OF_A_KIND else ""
    return of_kind or table().approaches[approach].guide


def amount(now: Situation) -> str:
    """Say how many examples the task needs: the first row on `data_amount` that holds."""
    rows = (row for row in table().answers if row.asked == "data_amount")
    return next(row.condition for row in rows if holds(row.when, now))


def _said(asked: Considered, first: Approach, now: Situation) -> ApproachVerdict | None:
    """Return the first row of answers that holds.

    Not where the first step is what is asked; nor does it allow what a block speaks against. How
    one trains is later where training is neither the first step nor was done, and so is a run
    whose fault is looked for.
    """
    if asked == first:
        return None
    found = (row for row in table().answers if row.asked == asked and holds(row.when, now))
    against = any(block.approach == asked and holds(block.when, now) for block in table().blocks)
    row = next((row for row in found if not (against and row.verdict == "now")), None)
    if row is None:
        return None
    is_faulty = _is_faulty(first, now) and asked in now.tried and row.verdict == "now"
    trains = first in TRAINING or first == "check_setup" or bool(now.tried)
    waits = row.of_training and not trains
    before = WITH_TRAINING.format(first) if waits else REPAIRED if is_faulty else ""
    if row.verdict == "now" and asked in TRAINING - now.tried and first in PROMPTS_FIRST:
        before = PROMPTED_FIRST.format(first)
    return ApproachVerdict(
        approach=asked,
        verdict="later" if before else row.verdict,
        condition="; ".join([f"{before}{row.condition}", *_amount_of(asked, row.verdict, now)]),
        why=row.why,
        instead=None if row.verdict == "now" or asked not in APPROACHES else first,
        source=table().evidence[row.evidence].source,
    )


def _is_faulty(first: Approach, now: Situation) -> bool:
    """Tell whether a fault of a run is looked for, and not merely its gain measured."""
    is_fault = bool(now.needs & {"setup", "lost"}) or table().kinds[now.kind].is_prompted
    return first == "check_setup" and is_fault


def _amount_of(asked: Considered, verdict: str, now: Situation) -> list[str]:
    """Who asks about collecting examples asks how many, unless that is asked beside it."""
    is_open = asked == "collect_data_first" and "data_amount" not in now.considers
    return [f"about this many: {amount(now)}"] if is_open and verdict == "now" else []


def _verdict(
    asked: Approach, row: Decision, rungs: Sequence[Rung], now: Situation
) -> ApproachVerdict:
    against = blocks_of(asked, now)
    rules = [block.rule for block in against]
    why = guide(asked, now)
    evidence = table().evidence[row.evidence[0]].source
    first = rungs[0].approach
    at_once, afterwards = stages(first, now)
    if asked == first or asked in at_once:
        what = _at_once(asked, row, rungs, now)
        return ApproachVerdict(
            approach=asked, verdict="now", condition=what, why=why, rules=rules, source=evidence
        )
    if asked in afterwards:
        return ApproachVerdict(
            approach=asked,
            verdict="later",
            condition=f"after the first stage of {first}",
            why=why,
            rules=rules,
            source=evidence,
        )
    is_in_path = asked in [rung.approach for rung in rungs]
    if any(block.is_firm or not (block.until or is_in_path) for block in against):
        return _against(asked, against, first)
    other = next((each for each in others(row, now) if each.approach == asked), None)
    place = next((i for i, rung in enumerate(rungs) if _has(rung, asked)), None)
    if first == "check_setup" and asked in TRAINING:
        return ApproachVerdict(
            approach=asked,
            verdict="later",
            condition=_after_the_fault(asked, other, now),
            why=why,
            instead=first,
            source=evidence,
        )
    if other is None and place is None and against:
        return _against(asked, against, first)
    if beside := _beside(asked, first, place, now):
        return ApproachVerdict(
            approach=asked, verdict="now", condition=beside, why=why, source=evidence
        )
    if place is None and asked in now.tried:
        return ApproachVerdict(
            approach=asked,
            verdict="later",
            condition=AGAIN,
            why=why,
            instead=first,
            source=evidence,
        )
    own = _own_row(asked, now)
    is_open = row.is_general and asked in WITHOUT_TRAINING and not (other or own or against)
    if is_open and place is None:
        return ApproachVerdict(
            approach=asked,
            verdict="now",
            condition=table().approaches[asked].useful_when,
            why=why,
            source=evidence,
        )
    return ApproachVerdict(
        approach=asked,
        verdict="later",
        condition=_condition(asked, other, place, own, rungs, now),
        why=why,
        rules=rules,
        instead=first,
        source=against[0].evidence_source if against else evidence,
    )


def _at_once(asked: Approach, row: Decision, rungs: Sequence[Rung], now: Situation) -> str:
    """Say on what condition the first step, or a part of it, is taken now."""
    first = rungs[0].approach
    parts = [row.how if asked == first else f"as part of {first}"]
    parts += _amount_of(asked, "now", now)
    if not row.how:
        parts.append(PERMITTED if now.needs_permission else "")
        parts += _done_first(asked, rungs, now) if asked in TRAINING else []
    is_open = now.choices["teacher_terms"] == UNKNOWN and asked in TRAINING
    if is_open and now.choices["data_source"] == "stronger_model":
        parts.append("if its teacher's terms allow it")
    return ", ".join(filter(None, parts))


def _done_first(asked: Approach, rungs: Sequence[Rung], now: Situation) -> list[str]:
    """Say what comes before training that starts now: what lifts its blocks, a measurement."""
    lifted = [f"once {block.until}" for block in blocks_of(asked, now) if block.until]
    first = steps(rungs)[0].measure_first
    counted = [COUNTED] if COUNT in first else []
    return [*lifted, *counted, *([MEASURED] if set(first) - {COUNT} else [])]


def _after_the_fault(asked: Approach, other: Alternative | None, now: Situation) -> str:
    """Say when training follows a check: the run that is at fault again, or what was never run."""
    if now.choices["stated"] == "no" and not now.tried:
        return UNASKED if other is None else f"if {other.when}"
    if asked in now.tried or (not now.tried and _may_be_at_fault(asked, now)):
        return FAULTY if _is_faulty("check_setup", now) else COMPARED
    return UNRUN if other is None else f"if {other.when}"


def _may_be_at_fault(asked: Approach, now: Situation) -> bool:
    """Tell whether a run that nobody named can have been this: not SFT, where rewards failed."""
    runs = FAULTS.get(now.choices["fault_of"])
    return runs is None or asked in runs


def _beside(asked: Approach, first: Approach, place: int | None, now: Situation) -> str:
    """Say how an approach goes on beside the first step: compared with it, tried on it, or kept."""
    if first == "build_eval_first" and asked in BASELINES:
        return TESTED
    if first == "build_eval_first" and place == 1:
        return table().approaches[asked].beside_test
    if place is not None:
        return ""
    is_compared = first in BEYOND_PROMPTS and _is_baseline(asked, now)
    return BASELINE if is_compared else _kept(asked, now)


def _kept(asked: Approach, now: Situation) -> str:
    """Say why an approach goes on beside the path: it is in use, or nothing puts it off."""
    field, values = RUNNING.get(asked, ("", ()))
    if field and now.choices[field] in values and not (now.assumes_prompt and asked == "few_shot"):
        return KEEP
    is_beside = asked == "build_eval_first" or "quality" in now.needs
    return table().approaches[asked].useful_when if asked in BESIDE and is_beside else ""


def _condition(
    asked: Approach,
    other: Alternative | None,
    place: int | None,
    own: Decision | None,
    rungs: Sequence[Rung],
    now: Situation,
) -> str:
    """Say when it is its turn: what its row says, its place in the path, or what it is good for."""
    if other is not None:
        return f"if {other.when}"
    before = rungs[0 if place is None else place - 1].approach
    if place is not None or own is not None:
        is_dear = "economy" in now.needs and "quality" not in now.needs
        if is_dear and before in PREPARES:
            return f"after {before}"
        return f"after {before}, {STILL_DEAR if is_dear else STILL_MISSED}"
    return table().approaches[asked].useful_when


def _own_row(asked: Approach, now: Situation) -> Decision | None:
    """Return a row for this approach whose conditions hold although another row decided.

    Training is not offered beside what decided: its last row holds wherever there are examples.
    """
    rows = (row for row in table().rows if row.approach == asked and asked not in TRAINING)
    return next((row for row in rows if holds(row.when, now)), None)


def _has(rung: Rung, asked: Considered) -> bool:
    at_once, afterwards = stages(rung.approach, rung.now)
    return asked == rung.approach or asked in at_once or asked in afterwards


def _is_baseline(asked: Approach, now: Situation) -> bool:
    """Tell whether it is a prompt that is in use today, or none was measured yet."""
    tried = UNKNOWN if now.assumes_prompt else now.choices["prompting_tried"]
    return asked in BASELINES and tried in (UNKNOWN, BASELINES[asked])


def _against(asked: Approach, against: Sequence[BlockRow], first: Approach) -> ApproachVerdict:
    """Refuse for good if anything speaks against it for good; else name what would lift it."""
    worst = min(against, key=lambda block: (bool(block.until), not block.is_firm))
    condition = f"{'until' if worst.is_firm else 'when'} {worst.until}" if worst.until else ""
    is_later = bool(worst.aside or worst.until) and not worst.is_firm
    return ApproachVerdict(
        approach=asked,
        verdict="later" if is_later else "no",
        condition=worst.aside or condition,
        why=worst.why,
        rules=[block.rule for block in against],
        instead=first,
        source=worst.evidence_source,
    )
