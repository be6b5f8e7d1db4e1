"""What the first pass over the data found."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ft_tools.data.judge.new_information import AddedFacts
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.understand.fields import JsonFields
from ft_tools.data.understand.preferences import PairStatistics
from ft_tools.data.understand.trainers import Traits
from ft_tools.data.understand.variety import Variety
from ft_tools.formats.answer_kinds import MAX_ANSWERS, labels_in
from ft_tools.formats.readers.source import Source
from ft_tools.formats.remembered_test_sets import TestRows, known_test_rows
from ft_tools.formats.verdict_columns import Column, UnreadColumns
from ft_tools.formats.wordings import Wordings


@dataclass
class Scan:
    """What the first pass found."""

    ledger: Ledger
    inputs: tuple[Path, Path | None]
    """The data, and the validation file if one was given; the latter is read first."""
    formats: "Counter[str]" = field(default_factory=Counter)
    format_of: "array[int]" = field(default_factory=lambda: array("B"))
    """Per index, a number of `format_names`."""
    format_names: list[str] = field(default_factory=list)
    scripts: "Counter[str]" = field(default_factory=Counter)
    found: "dict[str, array[int]]" = field(default_factory=dict)
    """Finding id -> indices, in order."""
    traits: "Counter[Traits]" = field(default_factory=Counter)
    pairs: PairStatistics = field(default_factory=PairStatistics)
    parts: "Counter[str]" = field(default_factory=Counter)
    """How many training examples have a system turn, tools, tool turns, several answers."""
    secrets: "Counter[str]" = field(default_factory=Counter)
    variety: Variety = field(default_factory=Variety)
    wordings: Wordings = field(default_factory=Wordings)
    added_facts: AddedFacts = field(default_factory=AddedFacts)
    trained_tokens: "array[int]" = field(default_factory=lambda: array("L"))
    """Per index, tokens in the loss; 0 where they were not counted."""
    loss: "array[int]" = field(default_factory=lambda: array("B"))
    """Per index, which of its answers are trained: a `Trained`."""
    has_marked: bytearray = field(default_factory=bytearray)
    """Per index, whether a conversation marks an answer as one not to train."""
    as_prompts: bool = False
    """Whether the cleaned files have prompts and completions, to keep answers out of the loss."""
    num_as_trained: int = 0
    """Rows that the launch tools read as they are."""
    files: "list[tuple[Source, int]]" = field(default_factory=list)
    """Each file with the row number before its first."""
    versions: "dict[Path, tuple[int, int]]" = field(default_factory=dict)
    """Size and time of change of each file when it was read first."""
    fields: JsonFields = field(default_factory=JsonFields)
    answer_labels: dict[int, dict[str, str]] = field(default_factory=dict)
    """Hash of an answer -> its labels by field; only of the first different answers."""
    test_rows: TestRows = field(default_factory=known_test_rows)
    """What must not be trained on, by content."""
    test_sets: "Counter[str]" = field(default_factory=Counter)
    """File that remembers a test set -> training examples that are among its rows."""
    test_keys: list[tuple[int, int]] = field(default_factory=list)
    """Of the rows of a test file: what they are known by."""
    unread: UnreadColumns = field(default_factory=UnreadColumns)
    labels: Column | None = None
    """The column that is mapped to the label of marked answers."""
    about: list[str] = field(default_factory=list)
    """What reading says of the files of the data: their sheets, their headers."""
    in_validation: bool = False
    """Whether the validation file is being read; its rows are not counted as training data."""
    script_of: "array[int]" = field(default_factory=lambda: array("B"))
    script_names: list[str] = field(default_factory=list)
    language_of: "array[int]" = field(default_factory=lambda: array("B"))
    language_names: list[str] = field(default_factory=list)

    @property
    def num_trained_tokens(self) -> int | None:
        """Return the tokens in the loss of the kept examples; None if they were not counted."""
        if not any(self.trained_tokens):
            return None
        return sum(self.trained_tokens[index] for index in self.ledger.kept(validation=False))

    def remember_labels(self, index: int, answer: str) -> None:
        """Read the labels of an answer, unless it was seen before."""
        key = self.ledger.answer[index]
        if key not in self.answer_labels and len(self.answer_labels) < MAX_ANSWERS:
            self.answer_labels[key] = labels_in(answer)

    def note(self, finding: str, index: int) -> None:
        """Record that a finding holds for an example."""
        self.found.setdefault(finding, array("Q")).append(index)
