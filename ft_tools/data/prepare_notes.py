"""Notes of a preparation: what the test part tells, and why rows are in a part or in none."""

import math
from collections.abc import Iterator, Mapping

from ft_tools import facts
from ft_tools.data.map.apply_mapping import NO_ANSWER
from ft_tools.data.read.scanned import Scan
from ft_tools.data.split.parts import ASKED_AGAIN, SAME_GROUP, Parts
from ft_tools.formats.remembered_test_sets import to_forget
from ft_tools.metrics.sample_size import (
    FEWEST_EXAMPLES,
    detectable_effect,
    examples_needed,
)
from ft_tools.metrics.verdicts import ALPHA, normal_quantile

WIDEST = 0.5
"""Standard deviation of right and wrong answers, half of each."""
WANTED_EFFECT = 0.1
"""As smallest_effect_fraction of `evaluate`."""
MOST_ABOUT = 5


def notes_of(
    scanned: Scan,
    parts: Parts,
    counts: Mapping[str, int],
    *,
    is_share_chosen: bool,
    compared: bool,
) -> list[str]:
    """Return what the counts do not say by themselves.

    Args:
        scanned: What was read.
        parts: Where each row goes.
        counts: Outcome -> rows.
        is_share_chosen: Whether the size of the test part was chosen here.
        compared: Whether similar prompts were compared, as far as that was asked for.
    """
    num_test = counts.get("test", 0)
    num_rows = sum(counts.get(part, 0) for part in ("train", "validation", "test"))
    notes = list(dict.fromkeys(scanned.about))[:MOST_ABOUT]
    notes += about_test_rows(num_test, num_rows if is_share_chosen else 0)
    notes += _about_left_out(scanned, counts, num_rows)
    if scanned.mapping.turns is not None:
        notes.append("turns are joined to conversations, which the counts count")
        left_out = sorted(scanned.joining.left_out.items())
        if listed := ", ".join(f"{count} {why}" for why, count in left_out if count):
            notes.append(f"turns left out of conversations: {listed}")
    if (held := parts.held_out) is not None:
        notes.append(
            f"prompts follow few templates: of {held.num_wordings}, {held.num_test} are in the "
            f"test part alone and {held.num_validation} in the validation part alone"
            if held.num_test + held.num_validation
            else "prompts follow few templates, and none can be held out whole (a class has one "
            "alone, or rows that stay together are of most): test scores are too good for "
            "questions that people word themselves"
        )
    if not compared:
        notes.append("similar prompts were not compared: only equal ones are kept in one part")
    if again := parts.num_earlier:
        notes.append(
            f"{again} rows are of a test set of this workspace, such as an earlier preparation "
            f"writes, and stay in the test part with what belongs to them; to split anew, "
            f"{to_forget()}"
        )
        if num_test > again:
            notes.append(
                f"{num_test - again} rows become test rows: files that were prepared or cleaned "
                "before may hold them, and launches refuse those"
            )
    if parts.num_trained:
        notes.append(
            f"{parts.num_trained} rows were trained on by runs of this workspace, or belong to "
            "such, and stay out of the test part"
        )
    for why, said in LOST.items():
        if lost := counts.get(why, 0):
            notes.append(f"{lost} earlier rows are left out ({why}): {said}")
    return notes


def _about_left_out(scanned: Scan, counts: Mapping[str, int], num_rows: int) -> Iterator[str]:
    """Yield what is said of rows in no part, and of values that are replaced."""
    elsewhere = counts.get(NO_ANSWER, 0) + counts.get("in_a_pair", 0)
    if left_out := sum(counts.values()) - num_rows - elsewhere:
        yield f"{left_out} rows are left out; removed.jsonl keeps each with its reason"
    if scanned.num_masked:
        yield f"{scanned.num_masked} values are masked: secrets and personal data"


LOST = {
    SAME_GROUP: "their group has rows among the latest ones, which are the test part; without "
    "time_column whole groups are set aside and none is lost",
    ASKED_AGAIN: "they ask what one of the latest rows, which are the test part, asks in the same "
    "or similar words",
}


def about_test_rows(num_test: int, num_rows: int = 0) -> list[str]:
    """Return what so many test rows show; nothing where that is enough, as asked for.

    Args:
        num_test: Rows of the test part.
        num_rows: Rows of all parts if the share was chosen here; else 0.

    >>> about_test_rows(23)[0][:59], about_test_rows(150)
    ('23 test rows show only differences of 0.23 or more between ', [])
    >>> about_test_rows(67, 270)[0][:58]
    '67 test rows, 25% of all, show a score to within 0.12 and '
    """
    discordance = facts.number("evaluation.discordance")
    effect = detectable_effect(num_test, discordance)
    is_enough = effect <= WANTED_EFFECT
    if not num_test or (is_enough and not num_rows):
        return []
    needed = examples_needed(WANTED_EFFECT, discordance)
    share = f", {num_test / num_rows:.0%} of all," if num_rows else ""
    within = WIDEST * normal_quantile(1 - ALPHA / 2) / math.sqrt(num_test)
    shown_by = f"show a score to within {within:.2f} and " if num_rows else "show "
    shown_by += f"only differences of {effect:.2f} or more"
    if num_test < FEWEST_EXAMPLES:
        shown_by = f"(fewer than {FEWEST_EXAMPLES}) show no difference"
    said = f"{num_test} test rows{share} {shown_by} between two systems"
    more = f"; {WANTED_EFFECT:g} takes about {needed}: raise test_fraction, or add rows"
    return [said if is_enough else said + more]
