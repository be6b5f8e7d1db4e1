"""What was decided of each row: where it goes, or why it is left out."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from ft_tools.data.read.ledger import Ledger
from ft_tools.formats.remembered_test_sets import TestRows, known_test_rows
from ft_tools.formats.wordings import Wordings


class Part(IntEnum):
    """Where a row goes."""

    REMOVED = 0
    TRAIN = 1
    VALIDATION = 2
    TEST = 3
    UNLABELLED = 4


class HeldOut(NamedTuple):
    """Wordings, in all and by part; 0 in each part where none can be held out."""

    num_wordings: int
    num_test: int
    num_validation: int


@dataclass
class Decided:
    """What becomes of each row."""

    ledger: Ledger
    task: str
    outcomes: list[str]
    """Per example, why it is left out; empty if it stays."""
    test_rows: TestRows = field(default_factory=known_test_rows)
    parts: bytearray = field(default_factory=bytearray)
    marks: "array[int]" = field(default_factory=lambda: array("b"))
    """1 for good, 0 for bad, -1 for neither."""
    marked_with: dict[str, "Counter[str]"] = field(default_factory=dict)
    """good, bad or not_marked -> the values that say so, and how often."""
    corrected: set[int] = field(default_factory=set)
    """Rows of which a better answer is used."""
    groups: "array[int]" = field(default_factory=lambda: array("Q"))
    """Hash of the values of `group_by`; 0 without."""
    times: list[str] = field(default_factory=list)
    labels: dict[str, "Counter[str]"] = field(default_factory=dict)
    partner: dict[int, int] = field(default_factory=dict)
    """Of a pair: the index of the later row -> that of the earlier one."""
    tested: set[int] = field(default_factory=set)
    """Rows of a test set of this workspace, as an earlier preparation wrote one."""
    num_conflicting: int = 0
    """Rows whose prompt has different answers, before a rule decides."""
    num_with_majority: int = 0
    """Prompts of which one answer is the most frequent."""
    wordings: Wordings = field(default_factory=Wordings)
    """Of the prompts."""
    classes: dict[int, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    """Of the first rows: (column, value) of each answer column."""
    masked: "Counter[str]" = field(default_factory=Counter)
    """Kind of secret or personal data -> rows in which it is replaced."""
    endings: "Counter[str]" = field(default_factory=Counter)
    """Last line of an answer of several lines -> rows."""
    held_out: HeldOut | None = None
    """Where prompts follow few templates and whole wordings were to be held out."""
    num_kept: int = 0
    """Rows beside which these are counted: no copies, and none that is left out."""
    compared: bool = True

    def lose(self, at: int, why: str) -> None:
        """Leave a row out, of the parts only: whoever calls it has removed it from the ledger."""
        self.outcomes[at] = why
        self.parts[at] = Part.REMOVED

    def drop(self, at: int, why: str) -> None:
        """Leave a row out."""
        self.ledger.remove(at, why)
        self.lose(at, why)

    def counts(self) -> dict[str, int]:
        """Count the rows by outcome."""
        names = {Part.TRAIN: "train", Part.VALIDATION: "validation", Part.TEST: "test"}
        names[Part.UNLABELLED] = "no_answer"
        made: Counter[str] = Counter()
        for at, part in enumerate(self.parts):
            made[self.outcomes[at] or names.get(Part(part), "removed")] += 1
        return dict(made.most_common())
