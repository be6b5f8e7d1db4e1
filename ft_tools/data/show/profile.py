"""The profile of a file: what it is, what each column holds, and some rows, within a budget."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.map.conditions import values_at
from ft_tools.data.read.example_texts import text_of as text_of_turns
from ft_tools.data.read.ledger import hash_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.spread import Spread
from ft_tools.data.report import ColumnProfile, Profile, ShowReport
from ft_tools.data.request import MOST_TOKENS, FileRequest, ShowRequest
from ft_tools.data.show.budget import CHARS_A_TOKEN, cells_of, grouped
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.errors import BadData, BadInput
from ft_tools.formats.column_counts import (
    MOST_COLUMNS,
    MOST_HASHED,
    MOST_LISTED,
    NAME_CHARS,
    ColumnCounts,
    UnreadColumns,
    leaves_of,
    shown,
)
from ft_tools.formats.formats import columns_read, normalise
from ft_tools.formats.quoting import cut_to, quote
from ft_tools.formats.readers.file_kinds import KINDS
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import recognise
from ft_tools.formats.trl_formats import is_trained_as_it_is
from ft_tools.next_steps import next_step
from ft_tools.similarity.rows import Rows
from ft_tools.similarity.words import NUM_PARTS

NUM_ROWS, MOST_ROWS, ROW_CHARS = 5, 20, 50
"""Rows that are quoted, as many in a larger budget, and the least characters of each."""
PROFILE_TOKENS, SPARE_TOKENS = 600, 150
"""Of a profile; of these, for some quoted rows."""
HELD_CHARS, MOST_TABLES = 80, 3
"""Of what a column holds, where not all columns fit; sheets of which one is chosen."""
MOST_READ, MOST_PROFILED = 50_000, 2 * MOST_COLUMNS
"""Rows and columns that are counted; a call answers within seconds."""
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
    drawn: Spread[tuple[int, Any]] = field(default_factory=lambda: Spread(4 * NUM_ROWS))
    """Rows spread over the file, with their numbers."""
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Of columns of texts, those that are compared; of a known format, the prompts."""

    @property
    def format(self) -> str:
        """Return the format that most rows have."""
        return self.formats.most_common(1)[0][0] if self.formats else "unknown"

    def spread(self, num: int) -> list[tuple[int, Any]]:
        """Return some of the drawn rows."""
        rows = self.drawn.items
        if len(rows) <= num:
            return rows
        return [rows[(2 * at + 1) * len(rows) // (2 * num)] for at in range(num)]

    def add(self, number: int, row: Row) -> None:
        """Count a row."""
        self.about += row.about
        self.tables = row.tables or self.tables
        if row.problem:
            self.problems[row.problem] += 1
            return
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
                if len(self.columns) < MOST_PROFILED:
                    self.columns.setdefault(leaf, counts)
                counts.add(inner, number)
                if not is_known and isinstance(inner, str) and "[]" not in leaf:
                    self._keep_text(leaf, inner)

    def _keep_text(self, name: str, text: str) -> None:
        known = self.texts.setdefault(name, [])
        if len(known) < MOST_COMPARED:
            known.append(text)


def profile_report(request: ShowRequest, path: Path) -> ShowReport:
    """Return what each column holds with some rows, as much of both as the budget allows.

    Raises:
        BadData: No row can be read.
    """
    looked, profile = scan_file(request, path)
    again = request.model_dump(mode="json", exclude_unset=True, exclude={"max_tokens"})
    tables = [name for name in looked.tables[:MOST_TABLES] if quote(name, NAME_CHARS)[1]]
    if tables and tables[0] == looked.tables[0]:
        again["sheet"] = tables[0]
    steps = [next_step("show_other_table", {**again, "sheet": name}) for name in tables[:0:-1]]
    if profile.format == "unknown" or any(one.decide for one in profile.columns):
        steps.append(next_step("map_file", again))
    else:
        rows = looked.drawn.items
        is_plain = path.is_file() and recognise(path).is_plain
        is_trained = is_plain and all(is_trained_as_it_is(*row) for row in rows)
        steps.append(next_step("check_file" if is_trained else "convert_file", again))
    most = request.max_tokens or PROFILE_TOKENS
    report = ShowReport(profile=profile.model_copy(update={"columns": []}), next_steps=steps)
    fitting = fitted(profile, most, _tokens(report))
    report = report.model_copy(update={"profile": fitting})
    chars = CHARS_A_TOKEN * max(0, most - _tokens(report))
    while True:
        num = min(MOST_ROWS if request.max_tokens else NUM_ROWS, chars // ROW_CHARS)
        examples = [cells_of(number, row, chars // num) for number, row in looked.spread(num)]
        whole = report.model_copy(update={"examples": examples})
        if not examples or _tokens(whole) <= most:
            return whole
        chars = 3 * chars // 4


def _tokens(part: ShowReport | ColumnProfile) -> int:
    return estimate_tokens(part.model_dump_json(exclude_defaults=True))


def _has_few(one: ColumnProfile) -> bool:
    return isinstance(one.distinct, int) and 1 < one.distinct <= MOST_LISTED


def fitted(profile: Profile, most: int = PROFILE_TOKENS, used: int = 0) -> Profile:
    """Return a profile with what columns hold as far as that fits, and the names of all others.

    Those that have to be decided come first, of few values before any.

    Args:
        profile: With all columns.
        most: Tokens of the report.
        used: Those of the report without any column.
    """
    room, columns = most - used - SPARE_TOKENS, profile.columns
    needed = sum(map(_tokens, columns))
    is_tight = needed > room
    if is_tight:
        # All names are listed: what a column adds is what it holds.
        room -= estimate_tokens(grouped(one.name for one in columns))
        cut = [{} if _has_few(one) else {"holds": cut_to(one.holds, HELD_CHARS)} for one in columns]
        columns = [one.model_copy(update=by) for one, by in zip(columns, cut, strict=True)]
    kept = set[int]()
    rank = [2 - bool(one.decide) * (1 + _has_few(one)) for one in columns]
    for at in sorted(range(len(columns)), key=rank.__getitem__):
        one = columns[at]
        size = _tokens(one) - is_tight * estimate_tokens(one.name.rpartition(".")[2])
        # Few values that have to be decided say more than quoted rows.
        if size <= room + (0 if rank[at] else SPARE_TOKENS // 2):
            room -= size
            kept.add(at)
    shown = [columns[at] for at in sorted(kept)]
    others = [one.name for at, one in enumerate(columns) if at not in kept]
    update: dict[str, Any] = {"columns": shown, "num_more_columns": len(others)}
    if others:
        raised = min(MOST_TOKENS, -(-(most + needed) // 100) * 100)
        left = CHARS_A_TOKEN * max(0, most - used - sum(map(_tokens, shown)))
        hint = f"show_examples with max_tokens={raised} shows what they hold: "
        update["more_columns"] = hint + cut_to(grouped(others), max(0, left - len(hint)))
    return profile.model_copy(update=update)


def scan_file(request: FileRequest, path: Path) -> tuple[FileScan, Profile]:
    """Read a file once, and return what its columns hold.

    Raises:
        BadData: No row can be read.
    """
    reader = Reader(request, path)
    looked = FileScan()
    for _, number, row in islice(reader.numbered(), MOST_READ):
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
    for _, number, row in islice(reader.numbered(), MOST_READ):
        for one in columns if isinstance(row.value, Mapping) else ():
            for value in values_at(row.value, one.name):
                one.add(value, number)
    held = "; ".join(privacy.mask(one.described) for one in columns)
    return BadInput(f"where: no row has these values in all its columns, which hold: {held}")


def _structure_of(looked: FileScan, reader: Reader) -> str:
    sources = reader.sources
    kinds = ", ".join(dict.fromkeys(KINDS[one.kind].title for one in sources))
    parts = [f"{len(sources)} files, {kinds}" if len(sources) > 1 else kinds]
    folders = Counter(one.path.parent.name for one in sources if one.member is None)
    if len(folders) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in folders.most_common(MOST_FOLDERS))
        parts.append(f"files in folders: {listed}")
    parts += [f"the first {MOST_READ:,} rows"] if looked.num_rows >= MOST_READ else []
    is_cut = len(looked.columns) == MOST_PROFILED
    parts += [f"the first {MOST_PROFILED} columns"] if is_cut else []
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
            parts += [f"{shown(name, NAME_CHARS)}: {alike}"] if (alike := _alike(texts)) else []
    return "; ".join(parts[:3])


def _alike(texts: Sequence[str]) -> str:
    """Return how many of some texts have a near-duplicate or follow templates; empty if few do."""
    # numpy comes with it, which tools that compare nothing do without.
    from ft_tools.similarity.by_words import Lexical
    from ft_tools.similarity.word_hashes import tokens_in
    from ft_tools.similarity.wordings import wordings_of
    from ft_tools.similarity.words import tokens_of

    rows, first = Rows(with_pairs=True), dict[str, int]()
    for text in texts:
        at = rows.add_parts(hash_of(text))
        rows.link(at, first.setdefault(text, at))
    rows.add_words(tokens_in(part for text in texts for part in (text, *[""] * (NUM_PARTS - 1))))
    Lexical(rows).link_near_prompts()
    sizes = Counter(map(rows.linked, range(len(rows))))
    num_twins = sum(size for size in sizes.values() if size > 1)
    wordings = wordings_of([tokens_of(text) for text in texts[:MOST_TEMPLATED]])
    found = [f"{num_twins} of {len(texts)} compared have a near-duplicate"] if num_twins else []
    if wordings.fraction >= TEMPLATED_FRACTION:
        found.append(f"{wordings.fraction:.0%} follow {wordings.number} templates")
    return ", ".join(found)
