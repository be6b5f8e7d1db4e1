"""Say what was decided of a table's rows: labels, notes and what the test part tells."""

import math
from collections.abc import Mapping

from ft_tools import facts
from ft_tools.data.prepare.choose_parts import ASKED_AGAIN, SAME_GROUP
from ft_tools.data.prepare.column_mapping import ColumnMapping, are_classes
from ft_tools.data.prepare.decided import Decided, Part
from ft_tools.data.prepare.row_decisions import MAX_COMPARED
from ft_tools.formats.columns import PLAIN_NAME
from ft_tools.formats.remembered_test_sets import to_forget
from ft_tools.metrics.sample_size import (
    FEWEST_EXAMPLES,
    detectable_effect,
    examples_needed,
)
from ft_tools.metrics.verdicts import ALPHA, normal_quantile

OFTEN, MANY_ENDINGS = 10, 0.1
"""Times that a last line comes, and share of such answers, from which they are told. Ours."""
WIDEST = 0.5
"""Standard deviation of right and wrong answers, half of each."""

WANTED_EFFECT = 0.1
"""As smallest_effect_fraction of `evaluate`."""


def labels_of(decided: Decided) -> dict[str, dict[str, int]]:
    """Return how balanced each answer field with few values is; no value of the data is named."""
    made = {}
    for name, counts in decided.labels.items():
        if PLAIN_NAME.fullmatch(name) and are_classes(counts):
            sizes = counts.values()
            made[name] = {"classes": len(counts), "largest": max(sizes), "smallest": min(sizes)}
    return made


def notes_of(decided: Decided, *, is_share_chosen: bool) -> list[str]:
    """Say how far similar prompts were looked for, and why rows are in a part or in none.

    Args:
        decided: What becomes of the rows.
        is_share_chosen: Whether the size of the test part was chosen here.
    """
    counts = decided.counts()
    num_test = counts.get("test", 0)
    num_rows = sum(counts.get(part, 0) for part in ("train", "validation", "test"))
    notes = about_test_rows(num_test, num_rows if is_share_chosen else 0)
    notes += _about_wordings(decided) + _about_endings(decided)
    if not decided.compared:
        notes.append(
            f"similar prompts were not compared (up to {MAX_COMPARED:,} rows are): only equal "
            "prompts are kept in one part"
        )
    if again := sum(decided.parts[at] == Part.TEST for at in decided.tested):
        notes.append(
            f"{again} rows are of a test set of this workspace, such as an earlier preparation "
            "writes, and stay in the test part with what belongs to them; to split anew, "
            f"{to_forget()}"
        )
        if num_test > again:
            notes.append(
                f"{num_test - again} rows become test rows: files that were prepared or cleaned "
                "before may hold them, and launches refuse those; audit the new training file"
            )
    if lost := counts.get(SAME_GROUP, 0):
        notes.append(
            f"{lost} earlier rows are left out ({SAME_GROUP}): their group has rows among the "
            "latest ones, which are the test part; without time_column whole groups are set aside "
            "and none is lost, without group_by groups are in both parts"
        )
    if lost := decided.counts().get(ASKED_AGAIN, 0):
        notes.append(
            f"{lost} earlier rows are left out ({ASKED_AGAIN}): they ask what one of the latest "
            "rows, which are the test part, asks in the same or similar words"
        )
    return notes


def about_turns(mapping: ColumnMapping, left_out: Mapping[str, int]) -> list[str]:
    """Say what conversations were made of, and how many turns are left out for which reason."""
    if mapping.turns is None:
        return []
    notes = ["turns are joined to conversations, which the counts count"]
    if counted := ", ".join(f"{count} {why}" for why, count in sorted(left_out.items()) if count):
        notes.append(f"turns left out of conversations: {counted}")
    return notes


def wordings_in(decided: Decided) -> dict[str, int]:
    """Return how many wordings there are and how many each held-out part has alone."""
    held = decided.held_out
    return {} if held is None else held._asdict()


def _about_endings(decided: Decided) -> list[str]:
    """Say that many answers end in the same few lines; no word of the data is repeated."""
    often = [count for count in decided.endings.values() if count >= OFTEN]
    num_rows = sum(part != Part.REMOVED for part in decided.parts)
    if sum(often) < MANY_ENDINGS * num_rows or not often:
        return []
    return [
        f"{sum(often)} answers end with one of {len(often)} lines that come {OFTEN} times or more, "
        "such as signatures: they are learned as part of the answer; take them out of the data if "
        "the program that sends the answer adds its own"
    ]


def _about_wordings(decided: Decided) -> list[str]:
    """Say which wordings were held out, or that none could be."""
    if (held := decided.held_out) is None:
        return []
    if held.num_test + held.num_validation:
        return [
            f"prompts follow few templates: of {held.num_wordings} wordings, {held.num_test} are "
            f"in the test part alone and {held.num_validation} in the validation part alone, so "
            "that what is measured is new wordings; near_duplicates='lexical' has all in each part"
        ]
    return [
        "prompts follow few templates, and no wording can be held out whole (time_column takes the "
        "latest rows, a class has one alone, or rows that stay together, such as those of group_by "
        "or of an earlier test part, are of most): test scores are too good for new wordings; add "
        "rows in other wordings"
    ]


def about_test_rows(num_test: int, num_rows: int = 0) -> list[str]:
    """Say what so many test rows tell; nothing where that is what usually matters, as asked for.

    Args:
        num_test: Rows of the test part.
        num_rows: Rows of all parts if the share was chosen here; else 0.

    >>> about_test_rows(23)[0][:59], about_test_rows(150)
    ('23 test rows show only differences of 0.23 or more between ', [])
    >>> about_test_rows(5)[0][:44]
    '5 test rows (fewer than 6) show no differenc'
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
