"""What the first pass over the data found."""

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ft_tools.data.judge.new_information import AddedFacts
from ft_tools.data.map.apply_mapping import MappedRow, apply_mapping
from ft_tools.data.map.conversations import Joining
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.masking import mask_example
from ft_tools.data.map.named_columns import NamedColumns
from ft_tools.data.map.times import is_month_first, sortable
from ft_tools.data.read.ledger import KEPT, Ledger
from ft_tools.data.read.rows import Reader, changed
from ft_tools.data.read.spread import Spread
from ft_tools.data.understand.languages import UNKNOWN, Languages
from ft_tools.data.understand.preferences import PairStatistics
from ft_tools.data.understand.trainers import TrainerCounts
from ft_tools.formats.answer_kinds import MAX_ANSWERS, labels_in
from ft_tools.formats.column_counts import UnreadColumns
from ft_tools.formats.example import Example
from ft_tools.formats.formats import normalise
from ft_tools.formats.loss_marks import TrainedAnswers
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source
from ft_tools.formats.test_sets import TestRows, known_test_rows
from ft_tools.similarity.wordings import MOST_DRAWN, num_templated

CURE = "call the tool again"
STRATUM_CHARS, MOST_STRATA = 60, 50
"""Answers that are classes, which the parts hold in proportion. Judgement."""


class Kind(NamedTuple):
    """What is counted by rows: many rows have one of few kinds."""

    format: str
    """`unknown`, `unreadable` or `left_out` of a row that is no example."""
    language: str = UNKNOWN
    trained: TrainedAnswers = TrainedAnswers.ONLY_ANSWER
    """Which answers are in the loss."""
    has_marked: bool = False
    """Whether it marks an answer as one not to train."""


@dataclass
class Scan:
    """What the first pass found."""

    ledger: Ledger
    inputs: tuple[Path, Path | None]
    """The data, and the validation file if one was given; the latter is read first."""
    readers: tuple[Reader | None, ...] = ()
    """Of the inputs."""
    mapping: ColumnMapping = field(default_factory=ColumnMapping)
    """What the caller said of the columns; empty: nothing."""
    joining: Joining = field(default_factory=Joining)
    is_sample: bool = False
    """Whether only the first rows were read."""
    in_validation: bool = False
    """Whether the validation file is being read; its rows are not counted as training data."""
    masks: bool = False
    """Whether secrets and personal data are replaced before anything else."""
    masked: "Counter[str]" = field(default_factory=Counter)
    """Kind of secret or personal data -> examples in which it is replaced."""
    counts: "Counter[str]" = field(default_factory=Counter)
    """masked (values), office_addresses and fictional_numbers (which are not masked), corrected,
    stripped, as_trained (rows that launches read as they are)."""
    changed_by: "Counter[str]" = field(default_factory=Counter)
    """Pattern of `replace` -> examples in which it found something."""
    found: "dict[str, array[int]]" = field(default_factory=dict)
    """Finding id -> indices, in order."""
    kinds: list[Kind] = field(default_factory=list)
    kind_of: "array[int]" = field(default_factory=lambda: array("H"))
    """Per index, a number of `kinds`."""
    trained_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    """Per index, tokens in the loss; 0 where they were not counted."""
    as_prompts: bool = False
    """Whether the cleaned files have prompts and completions, to keep answers out of the loss."""

    unlabelled: set[int] = field(default_factory=set)
    """Rows without an answer."""
    tested: set[int] = field(default_factory=set)
    """Rows of a test set of this workspace, which a preparation puts into its test part."""
    trained: set[int] = field(default_factory=set)
    """Rows that a run was trained on, which never become test rows."""
    test_rows: TestRows = field(default_factory=known_test_rows)
    """What must not be trained on, by content."""
    trained_rows: TestRows = field(default_factory=lambda: TestRows({}))
    """What runs were trained on, by content; empty if nobody asks."""
    test_sets: "Counter[str]" = field(default_factory=Counter)
    """File that remembers a test set -> training examples that are among its rows."""
    test_keys: list[tuple[int, int]] = field(default_factory=list)
    """Of the rows of a test file: what they are known by."""
    times: dict[int, str] = field(default_factory=dict)
    first_in_group: dict[int, int] = field(default_factory=dict)
    """By the hash of the values of `group_by`."""
    strata: set[str] = field(default_factory=set)
    """Short answers, each a stratum of its own."""

    trainers: TrainerCounts = field(default_factory=TrainerCounts)
    pairs: PairStatistics = field(default_factory=PairStatistics)
    languages: Languages = field(default_factory=Languages)
    prompts: Spread[str] = field(default_factory=lambda: Spread(MOST_DRAWN))
    added_facts: AddedFacts = field(default_factory=AddedFacts)
    answer_labels: dict[int, dict[str, str]] = field(default_factory=dict)
    """Hash of an answer -> its labels by field; only of the first different answers."""
    secrets: "Counter[str]" = field(default_factory=Counter)
    about: list[str] = field(default_factory=list)
    """What reading says of the files of the data: their sheets, their headers."""
    versions: "dict[Path, tuple[int, int]]" = field(default_factory=dict)
    """Size and time of change of each file when it was read first."""

    def __post_init__(self) -> None:
        self.unread = UnreadColumns(self.mapping.ignore)
        self.named = NamedColumns(self.mapping)
        """What the columns hold that the mapping names."""
        self._is_plain = self.mapping == ColumnMapping(ignore=self.mapping.ignore)
        self._numbers: dict[Kind, int] = {}

    @property
    def files(self) -> list[Source]:
        """Return the files of the data."""
        reader = self.readers[0]
        return reader.sources if reader else []

    @property
    def reads_by_mapping(self) -> bool:
        """Return whether the mapping alone, and no known format, says what is read of a row."""
        return not self.mapping.is_as_it_is or self.mapping.turns is not None

    @cached_property
    def num_templated(self) -> int:
        """Return about how many prompts follow few templates, once all are read; 0 if few do."""
        return num_templated(self.prompts.items, self.prompts.num_seen)

    def make(self, number: int, value: Any) -> MappedRow:
        """Make the example of a row, not masked yet."""
        if self._is_plain:
            return MappedRow(normalise(number, value))
        return apply_mapping(self.mapping, number, value)

    def mask(self, example: Example) -> None:
        """Mask an example of the first pass if its secrets and personal data are to be replaced."""
        if self.masks and (kinds := mask_example(example)):
            self.count_masked(kinds)

    def count_masked(self, kinds: Collection[str]) -> None:
        """Count the values that were replaced in an example by their kinds."""
        self.masked.update(set(kinds))
        self.counts["masked"] += len(kinds)

    def note(self, finding: str, index: int) -> None:
        """Record that a finding holds for an example."""
        self.found.setdefault(finding, array("Q")).append(index)

    def add_kind(self, kind: Kind, trained_tokens: int = 0) -> None:
        """Remember the kind of the next row."""
        number = self._numbers.setdefault(kind, len(self.kinds))
        if number == len(self.kinds):
            self.kinds.append(kind)
        self.kind_of.append(number)
        self.trained_tokens.append(trained_tokens)

    def kind_at(self, index: int) -> Kind:
        """Return the kind of a row."""
        return self.kinds[self.kind_of[index]]

    @cached_property
    def formats(self) -> "Counter[str]":
        """Return how many rows of the data have which format, once all are read."""
        counts: Counter[str] = Counter()
        for number, count in Counter(self.kind_of[self.ledger.num_validation :]).items():
            counts[self.kinds[number].format] += count
        return counts

    def example_of(self, number: int, value: Any) -> Example:
        """Return the example of a row that is known to have one, as it was compared."""
        example = self.make(number, value).example or Example(number, "unknown", "sft")
        if self.masks:
            mask_example(example)
        return example

    def examples_at(self, wanted: Collection[int]) -> Iterator[tuple[int, Row, Example]]:
        """Yield (index, row, example) of some rows, as they were compared.

        Raises:
            BadData: As `read_again`.
        """
        last = max(wanted, default=-1)
        for index, row in self.read_again() if wanted else ():
            if index in wanted:
                yield index, row, self.example_of(self.ledger.lines[index], row.value)
            if index == last:
                return

    def read_again(self) -> Iterator[tuple[int, Row]]:
        """Yield (index, row) of everything that was scanned, in the same order.

        Raises:
            BadData: A file is not what it was when it was scanned.
        """
        index = 0
        for part, reader in zip(reversed(self.inputs), reversed(self.readers), strict=True):
            if part is None or reader is None:
                continue
            if not reader.versions().items() <= self.versions.items():
                raise changed(part, CURE)
            for row in reader.rows():
                if self.is_sample and index == len(self.ledger):
                    return
                if index >= len(self.ledger) or self.ledger.lines[index] != row.number:
                    raise changed(part, CURE)
                yield index, row
                index += 1
            if not reader.versions().items() <= self.versions.items():
                raise changed(part, CURE)
        if index != len(self.ledger):
            raise changed(self.inputs[0], CURE)

    def times_of_rows(self) -> Callable[[int], str]:
        """Return what gives the time of an example by `time_column`, later behind."""
        month_first = bool(is_month_first(self.times.values()))
        return lambda at: sortable(self.times.get(at, ""), month_first=month_first)

    def stratum_of(self, example: Example, answer: str) -> str:
        """Name what the parts hold in proportion: label, class, or format and length of answer."""
        if example.task == "kto":
            return f"kto {example.label}"
        if self.reads_by_mapping and len(answer) <= STRATUM_CHARS:
            if len(self.strata) < MOST_STRATA:
                self.strata.add(answer)
            if answer in self.strata:
                return f"answer {answer}"
        return f"{example.format} {len(answer).bit_length()}"

    @property
    def num_trained_tokens(self) -> int | None:
        """Return the tokens in the loss of the kept examples; None if they were not counted."""
        if not any(self.trained_tokens):
            return None
        return sum(self.trained_tokens[index] for index in self.ledger.kept(validation=False))

    def remember_answer(self, index: int, answer: str) -> None:
        """Read the labels of an answer, unless it was seen before."""
        key = self.ledger.answer[index]
        if key not in self.answer_labels and len(self.answer_labels) < MAX_ANSWERS:
            self.answer_labels[key] = labels_in(answer)

    def settle_loss(self) -> None:
        """Choose the form of the cleaned files; note what is not trained only there, or nowhere."""
        kept = [at for at in range(len(self.ledger)) if self.ledger.removal[at] == KEPT]
        trained = {self.kind_at(at).trained for at in kept}
        no_prompts = {TrainedAnswers.ALL_OF_SEVERAL, TrainedAnswers.SOME_BETWEEN}
        self.as_prompts = TrainedAnswers.LAST_OF_SEVERAL in trained and not trained & no_prompts
        some_only = {TrainedAnswers.LAST_OF_SEVERAL, TrainedAnswers.SOME_BETWEEN}
        for at in kept:
            kind = self.kind_at(at)
            if kind.trained in some_only and not self.as_prompts:
                self.note("untrained_lost", at)
            elif kind.has_marked:
                self.note("untrained_answer", at)
