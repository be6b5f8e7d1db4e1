"""The rows of a request: what one pass over them found, and how they are read again.

The first of two passes: each row is mapped, checked and remembered; texts are not kept.
"""

import gc
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ft_tools.data.judge import privacy, text_faults, turn_faults
from ft_tools.data.judge.findings import RULES
from ft_tools.data.judge.new_information import AddedFacts
from ft_tools.data.map.answers import is_empty, text_of_cell
from ft_tools.data.map.apply_mapping import LEFT_OUT, NO_ANSWER, MappedRow, apply_mapping
from ft_tools.data.map.conditions import deciding, holds, values_at
from ft_tools.data.map.conversations import Joining, is_one_turn
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.masking import mask_example
from ft_tools.data.map.named_columns import NamedColumns
from ft_tools.data.map.times import is_month_first, sortable
from ft_tools.data.read.example_texts import lengths_of, text_of
from ft_tools.data.read.ledger import Ledger, hash_of
from ft_tools.data.read.rows import Reader, changed
from ft_tools.data.read.spread import Spread
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.understand.languages import UNKNOWN, Languages
from ft_tools.data.understand.preferences import PairStatistics
from ft_tools.data.understand.trainers import TrainerCounts
from ft_tools.formats.answer_kinds import MAX_ANSWERS, labels_in
from ft_tools.formats.column_counts import UnreadColumns, cell_at
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.formats import columns_read, is_as_trained, normalise
from ft_tools.formats.loss_marks import TrainedAnswers, has_marked_answer, trained_answers
from ft_tools.formats.masking import MeasuredExample
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source
from ft_tools.formats.test_sets import TestRows, keys_of, known_test_rows
from ft_tools.formats.training_rows import trained_rows
from ft_tools.similarity.word_hashes import tokens_in
from ft_tools.similarity.wordings import MOST_DRAWN, num_templated
from ft_tools.similarity.words import KEPT

# What an example's structure may lack and trainers still train on it.
HARMLESS = {
    "placeholder_input",
    "implicit_prompt",
    "chosen_begins_rejected",
    "ends_with_user",
    "identical_pair",
}
Tick = Callable[[int], None]
"""Called now and then with the number of rows read; may raise to stop."""
TICK_ROWS = 500
Measure = Callable[[Sequence[Example]], list[MeasuredExample]]
BATCH_ROWS, BATCH_CHARS = 256, 1 << 18
"""Rows that are checked together, and about how many characters they may have in all."""
UNKNOWN_CHARS = BATCH_CHARS // 64
"""What a row counts for of which the length is not known."""
CURE = "call the tool again"
STRATUM_CHARS, MOST_STRATA = 60, 50
"""Answers that are classes, which the parts hold in proportion. Judgement."""
NOTHING = MappedRow(None)


class Kind(NamedTuple):
    """What is counted by rows: many rows have one of few kinds."""

    format: str
    """`unknown`, `unreadable` or `left_out` of a row that is no example."""
    language: str = UNKNOWN
    trained: TrainedAnswers = TrainedAnswers.ONLY_ANSWER
    """Which answers are in the loss."""
    has_marked: bool = False
    """Whether it marks an answer as one not to train."""


@dataclass(slots=True)
class _ScannedRow:
    """A row of a batch, and what is known of it so far."""

    row: Row
    made: MappedRow = NOTHING
    example: Example = field(init=False)
    """Unless the row has a problem."""
    is_tested: bool = False
    """Whether the row belongs to a test set, as it stands in the file or masked."""
    is_trained: bool = False
    """Whether a run was trained on it."""
    is_known: bool = False
    """Whether it is an example of a known format: only then it has what follows."""
    asked: list[Message] = field(init=False)
    prompt: str = ""
    answer: str = ""
    rejected: str = ""
    found: list[str] = field(default_factory=list)
    broken: bool = False
    tokens: MeasuredExample = field(init=False)
    language: str = UNKNOWN


@contextmanager
def _no_search_for_cycles() -> Iterator[None]:
    """Let Python not look for cycles: rows are in none, and it would look at each part of them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Scan:
    """The rows of a request: those of the validation file first, if there is one.

    Args:
        request: Its mapping is completed.
        inputs: The data, and the validation file.
        benchmarks: Whose questions are looked for.
        with_pairs: Whether words are remembered, for the lexical search.
        limit: Rows of the data that are read; None is all.
    """

    def __init__(
        self,
        request: AuditRequest | PrepareRequest,
        inputs: tuple[Path, Path | None],
        benchmarks: Benchmarks,
        *,
        with_pairs: bool,
        limit: int | None = None,
    ) -> None:
        self.path, self.validation = inputs
        self._request, self._benchmarks, self._limit = request, benchmarks, limit
        self._audit = request if isinstance(request, AuditRequest) else None
        self.mapping = request.mapping or ColumnMapping()
        """What the caller said of the columns; empty: nothing."""
        self._is_plain = self.mapping == ColumnMapping(ignore=self.mapping.ignore)
        self._masks = self._audit is None and self.mapping.masks_all
        """Whether secrets and personal data are replaced before anything else."""
        reader = Reader(request, self.path)
        self.files: list[Source] = reader.sources
        self._readers = [(reader, False)]
        if self.validation is not None:
            # What chooses rows of the data says nothing of the validation file.
            plain = request.model_copy(
                update={"sheet": None, "query": None, "encoding": None, "where": {}}
            )
            self._readers.insert(0, (Reader(plain, self.validation), True))
        self._in_validation = False
        """Whether its rows are being read, which are not counted as training data."""
        self._versions: dict[Path, tuple[int, int]] = {}
        """Size and time of change of each file when it was read first."""
        self.about: list[str] = []
        """What reading says of the files of the data: their sheets, their headers."""

        self.ledger = Ledger(with_pairs=with_pairs, with_questions=self.validation is not None)
        self.found: dict[str, array[int]] = {}
        """Finding id -> indices, in order."""
        self._kinds: dict[Kind, int] = {}
        self._kind_of = array("H")
        self._trained_tokens = array("L")
        """Per index, tokens in the loss; 0 where they were not counted."""
        self.as_prompts = False
        """Whether the cleaned files have prompts and completions: answers stay out of the loss."""
        self.unlabelled: set[int] = set()
        """Rows without an answer."""
        self.tested: set[int] = set()
        """Rows of a test set of this workspace, which a preparation puts into its test part."""
        self.trained: set[int] = set()
        """Rows that a run was trained on, which never become test rows."""
        self._test_rows = known_test_rows()
        self._trained_rows = TestRows({}) if self._audit else trained_rows()
        self.test_sets: Counter[str] = Counter()
        """File that remembers a test set -> training examples that are among its rows."""
        self.test_keys: list[tuple[int, int]] = []
        """Of the rows of a test file: what they are known by."""
        self._times: dict[int, str] = {}
        self._preferred = reader.preferred
        self.ranks: dict[int, tuple[int, ...]] = {}
        """By each preferred column: the place of the value that a row has."""
        self._first_in_group: dict[int, int] = {}
        """By the hash of the values of `group_by`."""
        self._strata: set[str] = set()
        """Short answers, each a stratum of its own."""
        self.answer_labels: dict[int, dict[str, str]] = {}
        """Hash of an answer -> its labels by field; only of the first different answers."""

        self.joining = Joining()
        self.unread = UnreadColumns(self.mapping.ignore)
        self.named = NamedColumns(self.mapping, reader.preferred)
        """What the columns hold that the mapping names."""
        self.masked: Counter[str] = Counter()
        self.left_out_by: dict[str, Counter[str]] = {}
        """Column of `keep` or `drop` -> values of the rows that it leaves out."""
        """Kind of secret or personal data -> examples in which it is replaced."""
        self.counts: Counter[str] = Counter()
        """masked (values), corrected, stripped, as_trained: rows that launches read as they are."""
        self.changed_by: Counter[str] = Counter()
        """Pattern of `replace` -> examples in which it found something."""
        self.secrets: Counter[str] = Counter()
        self.trainers = TrainerCounts()
        self.pairs = PairStatistics()
        self.languages = Languages()
        self.added_facts = AddedFacts()
        self._prompts = Spread[str](MOST_DRAWN)

    # --- what the rows are

    @property
    def reads_by_mapping(self) -> bool:
        """Return whether the mapping alone, and no known format, says what is read of a row."""
        return not self.mapping.is_as_it_is or self.mapping.turns is not None

    @cached_property
    def num_templated(self) -> int:
        """Return about how many prompts follow few templates, once all are read; 0 if few do."""
        return num_templated(self._prompts.items, self._prompts.num_seen)

    @cached_property
    def kinds(self) -> list[Kind]:
        """Return the kind of each row, once all are read."""
        kinds = list(self._kinds)
        return [kinds[number] for number in self._kind_of]

    @cached_property
    def formats(self) -> "Counter[str]":
        """Return how many rows of the data have which format, once all are read."""
        return Counter(kind.format for kind in self.kinds[self.ledger.num_validation :])

    @property
    def num_trained_tokens(self) -> int | None:
        """Return the tokens in the loss of the kept examples; None if they were not counted."""
        if not any(self._trained_tokens):
            return None
        return sum(self._trained_tokens[index] for index in self.ledger.kept(validation=False))

    def times_of_rows(self) -> Callable[[int], str]:
        """Return what gives the time of an example by `time_column`, later behind."""
        month_first = bool(is_month_first(self._times.values()))
        return lambda at: sortable(self._times.get(at, ""), month_first=month_first)

    def note(self, finding: str, index: int) -> None:
        """Record that a finding holds for an example."""
        self.found.setdefault(finding, array("Q")).append(index)

    # --- the second pass

    def example_of(self, number: int, value: Any) -> Example:
        """Return the example of a row that is known to have one, as it was compared."""
        example = self._made(number, value).example or Example(number, "unknown", "sft")
        if self._masks:
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
        for reader, _ in self._readers:
            self._require_same(reader)
            for row in reader.rows():
                if self._limit is not None and index == len(self.ledger):
                    return
                if index >= len(self.ledger) or self.ledger.lines[index] != row.number:
                    raise changed(reader.path, CURE)
                yield index, row
                index += 1
            self._require_same(reader)
        if index != len(self.ledger):
            raise changed(self.path, CURE)

    def _require_same(self, reader: Reader) -> None:
        if not reader.versions().items() <= self._versions.items():
            raise changed(reader.path, CURE)

    # --- the first pass

    @_no_search_for_cycles()
    def read(self, tick: Tick, measure: Measure) -> "Scan":
        """Read every row once: map it, check it, remember it.

        Raises:
            BadData: A file is not data.
            BadInput: A pattern of the mapping needs too long.
        """
        ledger = self.ledger
        for reader, in_validation in self._readers:
            self._in_validation = in_validation
            self._versions |= reader.versions()
            observe = None if self._in_validation else self._observing()
            rows = reader.rows(self.joining, observe)
            for batch in self._batches(rows if self._in_validation else islice(rows, self._limit)):
                self._take(batch, measure)
                tick(len(ledger))
            if self._in_validation:
                ledger.num_validation = len(ledger)
        self._settle_loss()
        return self

    def problems(self) -> list[str]:
        """Return what of the mapping is undecided: speakers without a role, values without a place.

        A value that is named may be in the rows that were not read.
        """
        num_read = len(self.ledger) - self.ledger.num_validation
        is_whole = self._limit is None or num_read < self._limit
        is_sample = not is_whole or bool(self._request.where)
        return self.joining.problems() + self.named.problems(is_sample=is_sample)

    def _observing(self) -> Callable[[Row], None] | None:
        """Return what looks at each row for columns that are named, and those unread."""
        turns = self.mapping.turns
        used = self.mapping.used_columns().union(self._preferred)
        of_a_turn = self.mapping.used_columns(is_turn=True).union(self._preferred)

        def observe(row: Row) -> None:
            self.named.add(row.value)
            if self.reads_by_mapping and isinstance(row.value, Mapping):
                is_turn = turns is not None and is_one_turn(turns, row.value)
                self.unread.add(row.value, of_a_turn if is_turn else used, row.number)

        return observe if self.named.unmet else None

    def _batches(self, rows: Iterable[Row]) -> Iterator[list[_ScannedRow]]:
        """Yield rows with their examples, some at a time: what is counted by arrays is faster."""
        batch: list[_ScannedRow] = []
        num_chars = 0
        for row in rows:
            taken = _ScannedRow(row)
            if not row.problem:
                self._make(taken)
            known = len(taken.prompt) + len(taken.answer) + len(taken.rejected) or UNKNOWN_CHARS
            num_chars += known if row.num_chars is None else row.num_chars
            batch.append(taken)
            if len(batch) >= BATCH_ROWS or num_chars >= BATCH_CHARS:
                yield batch
                batch, num_chars = [], 0
        if batch:
            yield batch

    def _made(self, number: int, value: Any) -> MappedRow:
        """Return the example of a row, not masked yet."""
        if self._is_plain:
            return MappedRow(normalise(number, value))
        return apply_mapping(self.mapping, number, value)

    def _make(self, taken: _ScannedRow) -> None:
        """Make the example of a row."""
        made = taken.made = self._made(taken.row.number, taken.row.value)
        if made.example is None:
            return
        example = taken.example = made.example
        taken.is_known = example.format != "unknown"
        if not taken.is_known:
            return
        if self._masks:
            # A test set is remembered as it was given, or as an earlier preparation wrote it.
            taken.is_tested = example in self._test_rows
            taken.is_trained = example in self._trained_rows
            self._count_masked(mask_example(example))
        taken.asked, answered = example.prompt_and_answer()
        taken.prompt, taken.answer = text_of(taken.asked), text_of(answered)
        taken.rejected = text_of(example.rejected)

    def _count_masked(self, kinds: Collection[str]) -> None:
        """Count the values that were replaced in an example by their kinds."""
        self.masked.update(set(kinds))
        self.counts["masked"] += len(kinds)

    def _take(self, batch: list[_ScannedRow], measure: Measure) -> None:
        """Check the rows of a batch, and remember them in their order."""
        known = [taken for taken in batch if taken.is_known]
        for taken in known:
            self._check(taken)
        # What is broken anyway is not put to a template, which would only refuse it.
        for by, some in (
            (measure, [t for t in known if not t.broken]),
            (lengths_of, [t for t in known if t.broken]),
        ):
            for taken, tokens in zip(some, by([t.example for t in some]), strict=True):
                taken.tokens = tokens
                taken.found += tokens.findings
        named = {*self.mapping.row_columns, *self._preferred}
        for taken in known if not self._in_validation else ():
            self._understand(taken)
            if not self.reads_by_mapping and isinstance(taken.row.value, Mapping):
                used = named.union(columns_read(taken.row.value, taken.example.format))
                self.unread.add(taken.row.value, used, taken.row.number)
        for taken in batch:
            self._keep(taken) if taken.is_known else self._leave_out(taken)
        if self.ledger.with_pairs:
            texts = [text for t in batch for text in (t.prompt, t.answer, t.rejected)]
            self.ledger.add_words(tokens_in(texts))

    def _check(self, taken: _ScannedRow) -> None:
        """Check for faults of a single example."""
        example = taken.example
        taken.found = [*taken.row.notes, *turn_faults.structure(example)]
        taken.broken = any(RULES[name].removes for name in taken.found if name not in HARMLESS)
        taken.found += [*text_faults.contents(example), *self._privacy(example)]
        if self._benchmarks.num_questions:
            questions = [content_of(turn) for turn in taken.asked if turn["role"] == "user"]
            taken.found += self._benchmarks.matches(taken.prompt, questions, taken.answer)

    def _privacy(self, example: Example) -> list[str]:
        """Return which findings about secrets and personal data hold for an example."""
        turns = [*example.messages, *example.chosen, *example.rejected]
        is_plain = example.text is None and not example.tools and all(len(t) == 2 for t in turns)
        # Beside what its turns say, such an example has the names of roles only.
        if is_plain and not privacy.may_hold("\n".join([turn["content"] for turn in turns])):
            return []
        answered, other = map("\n".join, example.texts())
        found = []
        if secrets := privacy.secrets_in(f"{other}\n{answered}"):
            self.secrets.update(secrets)
            found.append("secret")
        if privacy.personal_data_in(answered):
            found.append("personal_data_in_answer")
        elif privacy.personal_data_in(other):
            found.append("personal_data_in_prompt")
        return found

    def _understand(self, taken: _ScannedRow) -> None:
        """Count what an example is about; note its language, and whether it is a test row."""
        example, prompt, answer = taken.example, taken.prompt, taken.answer
        asked, taken.language = self.languages.add(prompt or answer, answer or prompt)
        if UNKNOWN not in (asked, taken.language) and asked != taken.language:
            taken.found.append("answer_in_other_language")
        self.added_facts.add(prompt, answer, taken.language)
        if prompt:
            self._prompts.add(lambda: prompt)
        if self._audit is None:
            taken.is_tested = taken.is_tested or example in self._test_rows
            taken.is_trained = taken.is_trained or example in self._trained_rows
        elif self._audit.purpose == "test":
            self.test_keys.append(keys_of(example))
        elif (test_set := self._test_rows.set_of(example)) is not None:
            self.test_sets[test_set] += 1
            taken.found.append("test_row")

    def _keep(self, taken: _ScannedRow) -> None:
        """Remember an example."""
        self.about += taken.row.about
        example, audit = taken.example, self._audit
        lengths = (taken.tokens.whole, taken.tokens.answer)
        index = self.ledger.add(example, lengths, self._stratum_of(example, taken.answer))
        key = self.ledger.answer[index]
        if key not in self.answer_labels and len(self.answer_labels) < MAX_ANSWERS:
            self.answer_labels[key] = labels_in(taken.answer)
        trained, has_marked = trained_answers(example), has_marked_answer(example)
        kind = Kind(example.format, taken.language, trained, has_marked)
        self._add_kind(kind, taken.tokens.trained or 0)
        removes_personal = audit is not None and audit.personal_data == "remove"
        kept_anyway: set[str] = set() if removes_personal else {"personal_data_in_answer"}
        if self._in_validation:
            # A validation file may be the benchmark itself: nothing is trained on it.
            kept_anyway.add("benchmark_ngram")
        self._note_all(index, taken.found, kept_anyway)
        self.counts["as_trained"] += is_as_trained(example, taken.row.value)
        if self._in_validation:
            return
        self._group(index, taken)
        # A side that is not there is no shorter one, and the same text twice has no difference.
        if example.task != "sft" and not taken.broken and "identical_pair" not in taken.found:
            self.pairs.add(example)
        if audit is not None:
            whole, answer = lengths
            is_cut = whole - answer >= audit.max_length and bool(taken.asked)
            is_dropped = whole > audit.max_length
            # TRL cuts a long example, Axolotl drops it.
            too_long = (
                "answer_cut_off" if is_cut else "",
                "longer_than_sequence_len_dropped" if is_dropped else "",
            )
            self.trainers.add(example, taken.row.value, broken=taken.broken, too_long=too_long)

    def _stratum_of(self, example: Example, answer: str) -> str:
        """Name what the parts hold in proportion: label, class, or format and length of answer."""
        if example.task == "kto":
            return f"kto {example.label}"
        if self.reads_by_mapping and len(answer) <= STRATUM_CHARS:
            if len(self._strata) < MOST_STRATA:
                self._strata.add(answer)
            if answer in self._strata:
                return f"answer {answer}"
        return f"{example.format} {len(answer).bit_length()}"

    def _leave_out(self, taken: _ScannedRow) -> None:
        """Remember a row that is no example."""
        self.about += taken.row.about
        if taken.row.problem:
            kind, why = "unreadable", [taken.row.problem]
        elif taken.made.example is None:
            why = [taken.made.problem]
            kind = "left_out" if why[0] in LEFT_OUT else "unreadable"
        else:
            kind, why = "unknown", taken.example.problems
        index = self.ledger.add_unread(taken.row.number, why[0])
        self._add_kind(Kind(kind))
        if not self._in_validation:
            self.trainers.add_unread(why[0])
        if why[0] in {"not_kept", "dropped"} and isinstance(taken.row.value, Mapping):
            by = (self.mapping.keep, self.mapping.drop)
            column, value = deciding(taken.row.value, *by)
            self.left_out_by.setdefault(column, Counter())[value] += 1
        if why[0] == NO_ANSWER:
            self.unlabelled.add(index)
        self._note_all(index, [one for one in why if one in RULES])

    def _add_kind(self, kind: Kind, trained_tokens: int = 0) -> None:
        """Remember the kind of the next row."""
        self._kind_of.append(self._kinds.setdefault(kind, len(self._kinds)))
        self._trained_tokens.append(trained_tokens)

    def _note_all(
        self, index: int, found: Iterable[str], kept_anyway: Collection[str] = ()
    ) -> None:
        """Note the findings of a row, and remove it for those that remove."""
        for name in dict.fromkeys(found):
            self.note(name, index)
            if RULES[name].removes and name not in kept_anyway:
                self.ledger.remove(index, name)

    def _group(self, index: int, taken: _ScannedRow) -> None:
        """Remember what decides which part an example goes to."""
        mapping, row, made = self.mapping, taken.row.value, taken.made
        self.counts["corrected"] += made.is_corrected
        self.counts["stripped"] += bool(made.changed_by)
        self.changed_by.update(made.changed_by)
        self._count_masked(made.masked)
        if taken.is_tested:
            self.tested.add(index)
        elif taken.is_trained:
            self.trained.add(index)
        if mapping.time_column:
            time = cell_at(row, mapping.time_column)
            # Of the turns of a conversation, the latest.
            times = map(text_of_cell, time if isinstance(time, list) else [time])
            self._times[index] = max(times, key=sortable, default="")
        if self._preferred:
            self.ranks[index] = tuple(
                next((at for at, one in enumerate(values) if holds(row, name, [one])), len(values))
                for name, values in self._preferred.items()
            )
        if mapping.group_by:
            cells = [cell_at(row, name) or values_at(row, name) for name in mapping.group_by]
            # Rows of which nothing says to whom they belong are no group.
            if not all(map(is_empty, cells)):
                key = hash_of("\x1f".join(map(text_of_cell, cells)))
                self.ledger.link(index, self._first_in_group.setdefault(key, index))

    def _settle_loss(self) -> None:
        """Choose the form of the cleaned files; note what is not trained only there, or nowhere."""
        kept = [at for at in range(len(self.ledger)) if self.ledger.removal[at] == KEPT]
        kinds = list(self._kinds)
        trained = {kinds[self._kind_of[at]].trained for at in kept}
        no_prompts = {TrainedAnswers.ALL_OF_SEVERAL, TrainedAnswers.SOME_BETWEEN}
        self.as_prompts = TrainedAnswers.LAST_OF_SEVERAL in trained and not trained & no_prompts
        some_only = {TrainedAnswers.LAST_OF_SEVERAL, TrainedAnswers.SOME_BETWEEN}
        for at in kept:
            kind = kinds[self._kind_of[at]]
            if kind.trained in some_only and not self.as_prompts:
                self.note("untrained_lost", at)
            elif kind.has_marked:
                self.note("untrained_answer", at)
