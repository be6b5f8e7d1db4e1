"""recommend_approach: the facts, the ladder under them, what is blocked, and evidence."""

import re
from collections.abc import Mapping

from ft_tools.advice.facts import Facts
from ft_tools.advice.gather import gather
from ft_tools.advice.ladder import PlacedRung, blocks, first, place, table
from ft_tools.advice.report import ApproachReport, Passage, Question
from ft_tools.advice.request import ApproachRequest, RungId
from ft_tools.contract import NextStep
from ft_tools.explain.search import search
from ft_tools.next_steps import next_step

MOST_PASSAGES = 5
SOURCE = re.compile(
    r"^Source: (\S+) \((read|abstract|excerpt|second hand|judgement)\)$", re.MULTILINE
)
"""Line of a passage of references/evidence/: an address, and how it was read."""
MOST_QUESTIONS = 3
EVALUATED = {"prompting", "few_shot", "constrained_decoding", "prompt_optimization"}
TRAINED = {"sft", "small_model_fine_tuning", "distillation", "sft_and_rag"}
PREFERENCES = {"dpo", "kto"}
ANY_REWARD = [{"kind": "equals"}]
"""Of a launch that is proposed: whoever calls it names the check of the task."""


def recommend_approach(request: ApproachRequest) -> ApproachReport:
    """Recommend the first rung that no fact excludes, and show what that rests on.

    Raises:
        NotFound: The dataset, the documents or an evaluation is not there.
        BadInput: A run is no finished evaluation, or the documents hold no text.
        OutsideWorkspace: A path leaves the workspace.
    """
    facts = gather(request)
    held = blocks(facts)
    placed = place(facts, held, request.considering)
    start = first(placed, request.considering)
    considered = [placed[name] for name in dict.fromkeys(request.considering)]
    earlier = list(placed.values())[: list(placed).index(start.row.id)]
    said = [f"First: {start.row.title} ({start.row.id})."]
    said += [f"{each.row.id}: {each.rung.state}." for each in considered if each is not start]
    if not request.evaluations and not request.tried and request.target_met is None:
        said.append("Nothing was measured here yet.")
    return ApproachReport(
        summary=" ".join(said),
        approach=start.row.id,
        decided_by=list(dict.fromkeys(i for each in (*earlier, *considered) for i in each.ids)),
        facts=list(facts.rows),
        numbers=dict(facts.numbers),
        ladder=[each.rung for each in placed.values()],
        blocked=held,
        evidence=_evidence(request),
        questions=_questions(start, placed, request),
        next_steps=[*facts.next_steps, *_next_steps(start, facts, request)],
    )


def _evidence(request: ApproachRequest) -> list[Passage]:
    """Return the passages that share most with the problem and with what is considered.

    Each is its claim (the heading), its text, and its first source with how that was read.
    """
    titles = {row.id: row.title for row in table().rungs}
    considered = (f"{titles[rung]} {rung}" for rung in request.considering)
    found = []
    for section in search(" ".join([request.problem, *considered]), MOST_PASSAGES, "evidence"):
        source = SOURCE.search(section.text)
        claim = f"{section.headings[-1]}."
        says = " ".join([claim, *SOURCE.sub("", section.text).split()])
        address, grade = source.groups() if source else ("", "")
        cited = {"source": address, "grade": grade, "section": section.id}
        found.append(Passage(claim=claim, says=says, **cited))
    return found


def _questions(
    start: PlacedRung, placed: Mapping[RungId, PlacedRung], request: ApproachRequest
) -> list[Question]:
    """Return what is unknown and would move a rung: one that is considered, if any is."""
    gates: dict[RungId, list[str]] = {"clear_terms": ["terms"], "build_eval_first": ["eval_rows"]}
    unknown = gates.get(start.row.id, [])
    usual = [each for each in placed.values() if start.row.id != "do_nothing"]
    asked = [placed[name] for name in request.considering]
    for each in [*asked, placed["do_nothing"]] if asked else usual:
        unknown = [*unknown, *(each.unknown if each.rung.state != "blocked" else ())]
    found = dict[str, Question]()
    for name in unknown:
        if (asked_of := table().questions.get(name)) is not None:
            found.setdefault(asked_of.field, asked_of)
    return list(found.values())[:MOST_QUESTIONS]


def _next_steps(start: PlacedRung, facts: Facts, request: ApproachRequest) -> list[NextStep]:
    """Return the call that the first rung begins with."""
    if request.dataset is None or facts.next_steps:
        return []
    first, model, test_set = start.row.id, request.model, facts.words.get("test_set")
    if first == "build_eval_first" and test_set is None:
        return [next_step("split_test_part", {"path": request.dataset})]
    if first in EVALUATED | {"build_eval_first"} and model:
        arguments = {"model": model, "dataset": test_set or request.dataset}
        return [next_step("measure_prompt", arguments, "" if test_set else "unseen_rows")]
    if first in TRAINED and model:
        given = {"model": model, "dataset": request.dataset, "gpu": request.gpu}
        return [next_step("choose_settings", given)]
    if first == "rl_verifiable_reward" and model:
        rewarded = {"model": model, "dataset": request.dataset, "rewards": ANY_REWARD}
        return [next_step("test_rewards", rewarded)]
    if first in PREFERENCES | TRAINED | {"collect_data_first"}:
        return [next_step("audit_first", {"path": request.dataset})]
    return []
