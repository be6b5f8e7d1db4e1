"""The profile of a file: what it is, what each column holds, and some quoted rows."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.read.example_texts import text_of as said_in
from ft_tools.data.read.rows import Reader
from ft_tools.data.report import ColumnProfile, Profile
from ft_tools.data.request import FileRequest
from ft_tools.data.show.variety_of_texts import Alike, alike_texts
from ft_tools.errors import BadData
from ft_tools.formats.column_counts import (
    MOST_COLUMNS,
    MOST_HASHED,
    NAME_CHARS,
    TURN_KEYS,
    ColumnCounts,
    leaves_of,
    shown,
)
from ft_tools.formats.detect_format import columns_read
from ft_tools.formats.formats import normalise
from ft_tools.formats.readers.rows import Row

NUM_DRAWN = 5
MOST_ROWS = 50_000
"""Rows that are counted; a call answers within seconds."""
MOST_COMPARED = 2_000
"""Texts that are compared with each other."""
LEAST_CHARS = 20
"""Mean length from which a column's texts are compared. Judgement."""
KINDS = {
    "jsonl": "JSON lines",
    "json_values": "JSON",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
    "sheet": "workbook",
    "sqlite": "SQLite",
}
MOST_ABOUT = 3
LISTED_CHARS = 60
"""Longest value up to which the few values of a column are listed."""


@dataclass
class Looked:
    """What reading a file once found."""

    num_rows: int = 0
    columns: dict[str, ColumnCounts] = field(default_factory=dict)
    formats: "Counter[str]" = field(default_factory=Counter)
    read: set[str] = field(default_factory=set)
    """Columns that the known format reads."""
    about: list[str] = field(default_factory=list)
    problems: "Counter[str]" = field(default_factory=Counter)
    drawn: list[tuple[int, Any]] = field(default_factory=list)
    """Rows spread over the file, with their numbers."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Of columns of texts, those that are compared; of a known format, the prompts."""

    @property
    def format(self) -> str:
        """Return the format that most rows have."""
        return self.formats.most_common(1)[0][0] if self.formats else "unknown"


PROMPTS = "prompts"


def look(request: FileRequest, path: Path) -> tuple[Looked, Reader]:
    """Read a file once and count what its columns hold."""
    reader = Reader(request, path)
    looked = Looked()
    stride = 1
    before = 0
    for source in reader.sources:
        last = 0
        for row in islice(reader.raw(source), MOST_ROWS - looked.num_rows):
            last = row.number
            looked.about += row.about
            if row.problem:
                looked.problems[row.problem] += 1
                continue
            _add(looked, before + row.number, row)
            if looked.num_rows % stride == 0:
                looked.drawn.append((before + row.number, row.value))
                if len(looked.drawn) >= 4 * NUM_DRAWN:
                    looked.drawn = looked.drawn[::2]
                    stride *= 2
            looked.num_rows += 1
        before += last
    return looked, reader


def _add(looked: Looked, number: int, row: Row) -> None:
    example = normalise(number, row.value)
    looked.formats[example.format] += 1
    if not isinstance(row.value, Mapping):
        return
    is_known = example.format != "unknown"
    if is_known:
        looked.read |= columns_read(row.value, example.format)
        if asked := said_in(example.prompt_and_answer()[0]):
            _keep_text(looked, PROMPTS, asked)
    for name, value in row.value.items():
        for leaf, inner in leaves_of(str(name), value):
            _counts(looked.columns, leaf).add(inner, number)
            if not is_known and isinstance(inner, str) and "[]" not in leaf:
                _keep_text(looked, leaf, inner)


def _counts(columns: dict[str, ColumnCounts], name: str) -> ColumnCounts:
    if name not in columns and len(columns) >= 2 * MOST_COLUMNS:
        return ColumnCounts(name)
    return columns.setdefault(name, ColumnCounts(name))


def _keep_text(looked: Looked, name: str, text: str) -> None:
    known = looked.texts.setdefault(name, [])
    if len(known) < MOST_COMPARED:
        known.append(text)


def profile_of(request: FileRequest, path: Path) -> Profile:
    """Return the profile of a file, without quoted rows.

    Raises:
        BadData: It holds no row that can be read.
    """
    looked, reader = look(request, path)
    return made_of(looked, reader, path)


def made_of(looked: Looked, reader: Reader, path: Path) -> Profile:
    """Return the profile from what was counted.

    Raises:
        BadData: No row can be read.
    """
    if not looked.num_rows:
        if looked.problems:
            why = f"no row can be read ({looked.problems.most_common(1)[0][0]})"
            raise BadData(path, why, "give JSONL, JSON, CSV, a workbook or Parquet")
        if reader.sources[0].kind == "sqlite" and reader.sources[0].select:
            raise BadData(path, "the query returns no row", "check its tables and conditions")
        raise BadData(path, "holds no row", "name a file with rows, and a `where` that some meet")
    columns = list(looked.columns.values())
    return Profile(
        file=_about(looked, reader),
        format=looked.format,
        num_rows=looked.num_rows + sum(looked.problems.values()),
        columns=[_column(looked, one) for one in columns],
        similar=_similar(looked),
    )


def _about(looked: Looked, reader: Reader) -> str:
    sources = reader.sources
    kinds = ", ".join(dict.fromkeys(KINDS.get(one.kind, one.kind) for one in sources))
    parts = [f"{len(sources)} files, {kinds}" if len(sources) > 1 else kinds]
    parts += [f"the first {MOST_ROWS:,} rows"] if looked.num_rows >= MOST_ROWS else []
    parts += [one.encoding for one in sources[:1] if one.encoding != "utf-8"]
    parts += list(dict.fromkeys(looked.about))[:MOST_ABOUT]
    parts += [f"{count} rows with {name}" for name, count in looked.problems.most_common(3)]
    return "; ".join(parts)


def _column(looked: Looked, one: ColumnCounts) -> ColumnProfile:
    top = one.name.partition("[")[0].partition(".")[0]
    key = one.name.rpartition("[].")[2] if "[]." in one.name else ""
    is_read = top in looked.read and (not key or key.partition(".")[0] in TURN_KEYS)
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
    if one.type == "number":
        return f"{one.low:g} to {one.high:g}"
    ends = dict.fromkeys([one.shortest, one.longest])
    return f"{' to '.join(f'{end:,}' for end in ends)} characters"


def _similar(looked: Looked) -> str:
    """Return how many texts of the columns have a near-duplicate; empty if few have one."""
    texts = {
        name: found
        for name, found in looked.texts.items()
        if sum(map(len, found)) >= LEAST_CHARS * len(found)
    }
    if looked.format != "unknown":
        texts = {name: found for name, found in looked.texts.items() if name == PROMPTS}
    said = [
        f"{shown(name, NAME_CHARS)}: {alike}"
        for name, found in texts.items()
        if (alike := _alike(alike_texts(found)))
    ]
    return "; ".join(said[:3])


def _alike(alike: Alike) -> str:
    if not alike.num_with_twin and not alike.num_templates:
        return ""
    said = f"{alike.num_with_twin} of {alike.num_texts} compared have a near-duplicate"
    if alike.num_templates:
        said += f", {alike.templated_fraction:.0%} follow {alike.num_templates} templates"
    return f"{said}, {alike.num_words:,} different words"


def spread(drawn: Iterable[tuple[int, Any]], num: int = NUM_DRAWN) -> list[tuple[int, Any]]:
    """Return some rows spread over those that were drawn."""
    rows = list(drawn)
    return (
        [rows[(2 * at + 1) * len(rows) // (2 * num)] for at in range(num)]
        if len(rows) > num
        else rows
    )
