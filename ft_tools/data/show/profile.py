"""The profile of a file: what it is, what each column holds, and some rows to quote."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.map.conditions import values_at
from ft_tools.data.read.example_texts import text_of as text_of_turns
from ft_tools.data.read.ledger import NUM_PARTS, Ledger
from ft_tools.data.read.rows import KINDS, Reader
from ft_tools.data.read.spread import Spread
from ft_tools.data.report import ColumnProfile, Profile
from ft_tools.data.request import FileRequest
from ft_tools.errors import BadData, BadInput
from ft_tools.formats.column_counts import (
    MOST_COLUMNS,
    MOST_HASHED,
    NAME_CHARS,
    ColumnCounts,
    UnreadColumns,
    leaves_of,
    shown,
)
from ft_tools.formats.example import Example
from ft_tools.formats.formats import columns_read, normalise
from ft_tools.formats.readers.rows import Row

NUM_DRAWN = 5
MOST_ROWS = 50_000
"""Rows that are counted; a call answers within seconds."""
MOST_COMPARED, MOST_TEMPLATED = 2_000, 1_000
"""Texts that are compared with each other, and in which templates are counted."""
LEAST_CHARS, LEAST_WORDS = 20, 3
"""Mean length and words from which a column's texts are compared. Judgement."""
TEMPLATED_FRACTION = 0.5
"""Of texts that follow templates, from which on these are counted. Judgement."""
MOST_ABOUT, MOST_FOLDERS = 3, 6
LISTED_CHARS = 60
"""Longest value up to which the few values of a column are listed."""
PROMPTS = "prompts"


@dataclass
class FileScan:
    """What reading a file once found."""

    num_rows: int = 0
    columns: dict[str, ColumnCounts] = field(default_factory=dict)
    formats: "Counter[str]" = field(default_factory=Counter)
    unread: UnreadColumns = field(default_factory=UnreadColumns)
    """Columns of rows of a known format that it does not read."""
    about: list[str] = field(default_factory=list)
    tables: tuple[str, ...] = ()
    """Of several sheets or lists that nobody chose: the one that is read, and the others."""
    problems: "Counter[str]" = field(default_factory=Counter)
    drawn: Spread[tuple[int, Any]] = field(default_factory=lambda: Spread(4 * NUM_DRAWN))
    """Rows spread over the file, with their numbers."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Of columns of texts, those that are compared; of a known format, the prompts."""

    @property
    def format(self) -> str:
        """Return the format that most rows have."""
        return self.formats.most_common(1)[0][0] if self.formats else "unknown"

    def spread(self, num: int = NUM_DRAWN) -> list[tuple[int, Any]]:
        """Return some of the drawn rows."""
        rows = self.drawn.items
        if len(rows) <= num:
            return rows
        return [rows[(2 * at + 1) * len(rows) // (2 * num)] for at in range(num)]

    def add(self, number: int, row: Row) -> None:
        """Count a row."""
        self.num_rows += 1
        self.drawn.add(lambda: (number, row.value))
        example = normalise(number, row.value)
        self.formats[example.format] += 1
        if not isinstance(row.value, Mapping):
            return
        is_known = example.format != "unknown"
        if is_known:
            self.unread.add(row.value, columns_read(row.value, example.format), number)
            if asked := text_of_turns(example.prompt_and_answer()[0]):
                self._keep_text(PROMPTS, asked)
        for name, value in row.value.items():
            for leaf, inner in leaves_of(str(name), value):
                counts = self.columns.get(leaf) or ColumnCounts(leaf)
                if len(self.columns) < 2 * MOST_COLUMNS:
                    self.columns.setdefault(leaf, counts)
                counts.add(inner, number)
                if not is_known and isinstance(inner, str) and "[]" not in leaf:
                    self._keep_text(leaf, inner)

    def _keep_text(self, name: str, text: str) -> None:
        known = self.texts.setdefault(name, [])
        if len(known) < MOST_COMPARED:
            known.append(text)


def scan_file(request: FileRequest, path: Path) -> tuple[FileScan, Profile]:
    """Read a file once, and return what its columns hold.

    Raises:
        BadData: No row can be read.
    """
    reader = Reader(request, path)
    looked = FileScan()
    for _, number, row in islice(reader.numbered(), MOST_ROWS):
        looked.about += row.about
        looked.tables = row.tables or looked.tables
        if row.problem:
            looked.problems[row.problem] += 1
        else:
            looked.add(number, row)
    if not looked.num_rows:
        if looked.problems:
            why = f"no row can be read ({looked.problems.most_common(1)[0][0]})"
            raise BadData(path, why, "give JSONL, JSON, CSV, a workbook or Parquet")
        if reader.sources[0].kind == "sqlite" and reader.sources[0].select:
            raise BadData(path, "the query returns no row", "check its tables and conditions")
        if request.where:
            raise nothing_selected(request, path)
        raise BadData(path, "holds no row", "name a file with rows")
    profile = Profile(
        file=_structure_of(looked, reader),
        format=looked.format,
        num_rows=looked.num_rows + sum(looked.problems.values()),
        columns=[_column(looked, one) for one in looked.columns.values()],
        similar=_similar(looked),
    )
    return looked, profile


def nothing_selected(request: FileRequest, path: Path) -> BadInput:
    """Return what refuses a `where` that no row fits, with what its columns hold."""
    columns = [ColumnCounts(name) for name in request.where]
    reader = Reader(request.model_copy(update={"where": {}}), path)
    for source in reader.sources:
        for row in islice(reader.raw(source), MOST_ROWS):
            for one in columns if isinstance(row.value, Mapping) else ():
                for value in values_at(row.value, one.name):
                    one.add(value, row.number)
    held = "; ".join(privacy.mask(one.described) for one in columns)
    return BadInput(f"where: no row has these values in all its columns, which hold: {held}")


def _structure_of(looked: FileScan, reader: Reader) -> str:
    sources = reader.sources
    kinds = ", ".join(dict.fromkeys(KINDS[one.kind] for one in sources))
    parts = [f"{len(sources)} files, {kinds}" if len(sources) > 1 else kinds]
    folders = Counter(one.path.parent.name for one in sources if one.member is None)
    if len(folders) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in folders.most_common(MOST_FOLDERS))
        parts.append(f"files in folders: {listed}")
    parts += [f"the first {MOST_ROWS:,} rows"] if looked.num_rows >= MOST_ROWS else []
    parts += [one.encoding for one in sources[:1] if one.encoding != "utf-8"]
    parts += list(dict.fromkeys(looked.about))[:MOST_ABOUT]
    parts += [f"{count} rows with {name}" for name, count in looked.problems.most_common(3)]
    return "; ".join(parts)


def _column(looked: FileScan, one: ColumnCounts) -> ColumnProfile:
    is_read = looked.format != "unknown" and one.name not in looked.unread.columns
    is_all = one.num_rows == looked.num_rows
    return ColumnProfile(
        name=shown(one.name, NAME_CHARS),
        type=one.type,
        filled=None if is_all else round(one.num_rows / looked.num_rows, 3),
        distinct=one.num_different if one.num_different < MOST_HASHED else f"over {MOST_HASHED}",
        holds=_holds(one),
        decide=None if is_read or one.has_all_different else True,
    )


def _holds(one: ColumnCounts) -> str:
    """Return the values where they are few and short, else their range."""
    if one.is_listed and one.longest <= LISTED_CHARS:
        values = one.values.most_common()
        return ", ".join(f"{shown(privacy.mask(value))} {count}" for value, count in values)
    return privacy.mask(one.range)


def _similar(looked: FileScan) -> str:
    """Return how many texts of the columns have a near-duplicate; empty if few have one."""
    parts = []
    for name, texts in looked.texts.items():
        is_long = sum(map(len, texts)) >= LEAST_CHARS * len(texts)
        # Ids and addresses have no words to compare.
        is_long = is_long and sum(len(text.split()) for text in texts) >= LEAST_WORDS * len(texts)
        if name == PROMPTS if looked.format != "unknown" else is_long:
            parts += [f"{shown(name, NAME_CHARS)}: {alike}" for alike in _alike(texts)]
    return "; ".join(parts[:3])


def _alike(texts: Sequence[str]) -> list[str]:
    """Return how many of some texts have a near-duplicate or follow templates, if any does."""
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.by_words import Lexical
    from ft_tools.similarity.word_hashes import tokens_in
    from ft_tools.similarity.wordings import wordings_of
    from ft_tools.similarity.words import tokens_of

    ledger = Ledger(with_pairs=True)
    first: dict[str, int] = {}
    for line, text in enumerate(texts):
        asked = [{"role": "user", "content": text}]
        at = ledger.add(Example(line, "prompt_only", "sft", asked), (0, 0), "")
        ledger.link(at, first.setdefault(text, at))
    ledger.add_words(tokens_in(part for text in texts for part in (text, *[""] * (NUM_PARTS - 1))))
    Lexical(ledger).link_near_prompts()
    sizes = Counter(ledger.linked(at) for at in range(len(ledger)))
    num_twins = sum(size for size in sizes.values() if size > 1)
    wordings = wordings_of([tokens_of(text) for text in texts[:MOST_TEMPLATED]])
    follow = f"{wordings.fraction:.0%} follow {wordings.number} templates"
    is_templated = wordings.fraction >= TEMPLATED_FRACTION
    if not num_twins and not is_templated:
        return []
    about = f"{num_twins} of {len(texts)} compared have a near-duplicate"
    return [f"{about}, {follow}" if is_templated else about]
