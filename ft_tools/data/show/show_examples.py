"""show_examples: what a file holds, and rows of it, quoted and within a budget."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.data.judge import privacy
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.conditions import values_at
from ft_tools.data.read.rows import Reader
from ft_tools.data.report import ColumnProfile, Profile, QuotedValue, ShowReport
from ft_tools.data.request import MOST_TOKENS, ShowRequest
from ft_tools.data.show.contradictions import contradicting_rows
from ft_tools.data.show.profile import nothing_selected, scan_file
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.errors import BadInput, Refused
from ft_tools.formats.column_counts import MOST_LISTED, NAME_CHARS, items_of, leaves_of, text_of
from ft_tools.formats.quoting import cut_to, quote
from ft_tools.formats.readers.documents import is_documents
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import RAW_CHARS, Source, has_data, raw_line
from ft_tools.formats.test_sets import are_test_rows
from ft_tools.formats.turns import as_turns
from ft_tools.next_steps import next_step

NOT_THERE = object()
SEALED = (
    "is a test part that was set aside, so its rows are not quoted: whoever reads them fits the "
    "work to them. Read the training part; pass unseal=true if it is no test part any more"
)
PROFILE_TOKENS, VALUES_TOKENS, ROWS_TOKENS = 600, 900, 2_000
"""Of a profile; of one that would hide few values that have to be decided; of rows."""
MOST_TABLES, MOST_NAMED = 3, 300
"""Sheets of which one is chosen; characters of the columns that are only named."""
HELD_CHARS = 80
"""Of what a column holds, where not all columns are listed."""
FEW, MOST_ABSENT = 5, 20
"""Rows that are cut where none fits the budget; rows that are named for what they lack."""
CHARS_A_TOKEN = 4
FRAME_CHARS = 80
"""Of a row beside its text: its number, its length and quotation marks."""
TEXT_CHARS = (2000, 1000, 500, 250, 160, 80, 60, 45, 35, 25, 18, 12)
"""Lengths to which texts are cut until a row fits."""
SIZES = (
    *((5, 160, 40), (5, 100, 30), (3, 120, 30), (2, 120, 30), (1, 120, 30)),
    *((1, 80, 20), (1, 60, 16), (0, 0, 18), (0, 0, 16), (0, 0, 14), (0, 0, 12), (0, 0, 10)),
    *((0, 0, 8), (0, 0, 6)),
)
"""Rows, characters of each, and columns, until the profile fits its budget."""
LARGER = ((20, 1000, 200), (20, 400, 100), (10, 400, 60))
"""The same for a budget that was asked for."""
FIRST_TURNS, MOST_SHORT, SHORT_CHARS = 2, 2, 12
"""Turns of a list that are quoted, and of each how many short texts beside the longest."""
CELL_CHARS = (400, 200, 100, 60, 40, 25, 15, 8)


def show_examples(request: ShowRequest) -> ShowReport:
    """Return the profile of a file, or quote rows of it.

    Raises:
        NotFound: The file is not there.
        BadData: It is not data.
        BadInput: `path` is a folder of documents.
        Refused: It is a test part that was set aside.
    """
    path = workspace.existing(request.path)
    if is_documents(path) and not has_data(path):
        raise BadInput(
            f"{request.path!r} holds documents, which have no examples to show: audit_dataset "
            "counts them, and recommend_approach (documents) says what they are good for"
        )
    sealed = not request.unseal and are_test_rows(_readable(request, path))
    if sealed and (request.ranges or request.contradictions):
        raise Refused(f"{path.name} {SEALED}")
    if request.contradictions:
        rows = list(contradicting_rows(request))
        examples = _within_budget(request, [(line, "contradiction", text) for line, text in rows])
        none = "no two rows have the same prompt and different answers"
        return ShowReport(examples=examples, warnings=[] if rows else [none])
    if request.ranges:
        return _rows(request, path)
    report = _profile(request, path)
    if sealed:
        return report.model_copy(update={"examples": [], "warnings": [f"{path.name} {SEALED}"]})
    return report


def _readable(request: ShowRequest, path: Path) -> Iterator[tuple[int, Any]]:
    for _, number, _, row in _numbered(request, path):
        if not row.problem:
            yield number, row.value


def _profile(request: ShowRequest, path: Path) -> ShowReport:
    """Return what each column holds with some rows, as much of both as the budget allows."""
    looked, profile = scan_file(request, path)
    again = request.model_dump(mode="json", exclude_unset=True, exclude={"max_tokens"})
    is_open = profile.format == "unknown" or any(one.decide for one in profile.columns)
    what = "its turns" if looked.turns else "what is asked and answered"
    tables = [name for name in looked.tables[:MOST_TABLES] if quote(name, NAME_CHARS)[1]]
    if tables and tables[0] == looked.tables[0]:
        again["sheet"] = tables[0]
    sheets = [next_step("show_other_table", {**again, "sheet": name}) for name in tables[:0:-1]]
    steps = [*sheets, next_step("map_file" if is_open else "check_file", again, what=what)]
    report = ShowReport(profile=profile)
    sizes = (*LARGER, *SIZES) if request.max_tokens else SIZES
    most = request.max_tokens or PROFILE_TOKENS
    # Rows go first, then columns of many values, and the values of the others last of all.
    shows_all = [size for size in sizes if not _hides_values(profile, size[2])]
    tries = [(size, most, True) for size in shows_all]
    more_room = request.max_tokens or VALUES_TOKENS
    tries += [(size, more_room, True) for size in shows_all if not size[0]]
    tries += [(size, most, is_whole) for is_whole in (True, False) for size in sizes]
    for (num_rows, chars, num_columns), budget, is_whole in tries:
        shown = _cut(profile, num_columns, is_whole=is_whole)
        listed = {one.name for one in shown.columns}
        others = [one.name for one in profile.columns if one.name not in listed]
        named = cut_to(_named(others), MOST_NAMED)
        more = f"{len(others)} more columns (raise max_tokens): {named}"
        report = ShowReport(
            profile=shown,
            examples=[_cells(n, row, chars) for n, row in looked.spread(num_rows)],
            warnings=[more] if shown.num_more_columns else [],
            next_steps=steps,
        )
        tokens = estimate_tokens(report.model_dump_json(exclude_defaults=True))
        if tokens <= budget:
            break
    return report


def _named(columns: Iterable[str]) -> str:
    """Return names of columns, those inside the same object behind one another.

    >>> _named(["title", "mapping[].id", "mapping[].message.id", "mapping[].message.status"])
    'title, mapping[].id, mapping[].message.{id, status}'
    """
    inside: dict[str, list[str]] = {}
    for name in columns:
        before, dot, last = ("", "", name) if name.startswith('"') else name.rpartition(".")
        inside.setdefault(before + dot, []).append(last)
    several = {before: len(before) > 0 and len(names) > 1 for before, names in inside.items()}
    return ", ".join(
        f"{before}{{{', '.join(names)}}}" if several[before] else f"{before}{', '.join(names)}"
        for before, names in inside.items()
    )


def _cut(profile: Profile, num_columns: int, *, is_whole: bool) -> Profile:
    """Return a profile with fewer columns: those stay that have to be decided, of few values."""
    ranked = sorted(profile.columns, key=_has_nothing_to_decide)[:num_columns]
    columns = [one for one in profile.columns if one in ranked]
    more = len(profile.columns) - len(columns)
    if more:
        columns = [
            one
            if is_whole and _has_few_values(one)
            else one.model_copy(update={"holds": cut_to(one.holds, HELD_CHARS)})
            for one in columns
        ]
    return profile.model_copy(update={"columns": columns, "num_more_columns": more})


def _has_nothing_to_decide(one: ColumnProfile) -> tuple[bool, bool]:
    return one.decide is None, not _has_few_values(one)


def _hides_values(profile: Profile, num_columns: int) -> bool:
    """Return whether so many columns leave one out that has few values and to be decided."""
    return sum(one.decide is True and _has_few_values(one) for one in profile.columns) > num_columns


def _has_few_values(one: ColumnProfile) -> bool:
    return isinstance(one.distinct, int) and 1 < one.distinct <= MOST_LISTED


def _cells(number: int, row: Any, max_chars: int) -> QuotedValue:
    """Quote a row with the cells of its columns between bars, each cut to the same length."""
    values = list(row.values()) if isinstance(row, Mapping) else [row]
    masked = [[privacy.mask(part) for part in _parts_of(value)] for value in values]
    cells, text = masked, ""
    for most in CELL_CHARS:
        cells = [[cut_to(part, most // len(cell)) for part in cell] for cell in masked]
        text = " | ".join(" / ".join(cell) for cell in cells)
        if len(text) <= max_chars:
            break
    quoted, is_whole = quote(text, 2 * max_chars)
    has_more = any(len(items_of(as_turns(value)) or []) > FIRST_TURNS for value in values)
    return QuotedValue(
        row=number,
        value=quoted,
        truncated=not is_whole or cells != masked or has_more,
        original_chars=sum(len(_as_text(value)) for value in values),
    )


def _parts_of(value: Any) -> list[str]:
    """Return what a cell says without brackets and quotation marks; of turns the first ones.

    >>> _parts_of([{"by": {"role": "user"}, "text": "Where is it?"}]), _parts_of({"a": {"b": 1}})
    (['user: Where is it?'], ['a.b=1'])
    """
    turns = items_of(as_turns(value))
    if turns and all(isinstance(turn, Mapping) for turn in turns):
        return [_turn(turn) for turn in turns[:FIRST_TURNS]]
    if isinstance(value, Mapping):
        return [", ".join(f"{name[1:]}={text_of(v)}" for name, v in leaves_of("", value))]
    return [_as_text(value)]


def _turn(turn: Mapping[str, Any]) -> str:
    """Return the longest text of a turn, behind the first short ones, such as who speaks."""
    values = [" ".join(text_of(value).split()) for _, value in leaves_of("", turn)]
    longest = max(values, key=len, default="")
    short = [one for one in values if len(one) <= SHORT_CHARS and one != longest][:MOST_SHORT]
    return f"{' '.join(short)}: {longest}" if short else longest


def _rows(request: ShowRequest, path: Path) -> ShowReport:
    """Quote the rows that are asked for, whole, until the budget ends."""
    wanted, at = request.ranges, 0
    end = max(one.stop for one in wanted)
    found: list[tuple[int, str | None, Any]] = []
    met: set[int] = set()
    rest: list[range] = []
    warnings: list[str] = []
    budget, used, last = CHARS_A_TOKEN * (request.max_tokens or ROWS_TOKENS), 0, 0
    for source, number, line, row in _numbered(request, path):
        last = number
        warnings += row.about
        while at < len(wanted) - 1 and wanted[at].stop <= number:
            at += 1
        if number in wanted[at]:
            value = _value_of(request, source, line, row, warnings)
            size = FRAME_CHARS + len(_as_text(value))
            # Where not even the first row fits, some are cut to equal shares.
            if found and used + size > budget and (used <= budget or len(found) >= FEW):
                rest = [range(max(number, one.start), one.stop) for one in wanted[at:]]
                break
            used += size
            met.add(number)
            found.append((line, request.field, value))
        if number + 1 >= end:
            break
    if request.where and not last:
        raise nothing_selected(request, path)
    examples = _within_budget(request, [one for one in found if one[2] is not NOT_THERE])
    raise_it = f"raise max_tokens (at most {MOST_TOKENS:,})"
    if rest:
        warnings.append(f"next: rows {_spelled(rest)}, or {raise_it}")
    else:
        rest = [range(max(one.start, last + 1), one.stop) for one in wanted]
        beyond = [one for one in rest if one and one.stop < sys.maxsize]
        blank = [one for one in wanted if len(one) == 1 and one.start <= last]
        blank = [one for one in blank if one.start not in met]
        absent = [line for line, _, value in found if value is NOT_THERE]
        warnings += _not_there(request, beyond, blank, absent, last)
    if cut := sum(one.truncated for one in examples):
        warnings.append(f"{cut} rows are cut: {raise_it}, or choose columns or field")
    return ShowReport(examples=examples, warnings=list(dict.fromkeys(warnings)))


def _numbered(request: ShowRequest, path: Path) -> Iterator[tuple[Source, int, int, Row]]:
    """Yield (file, number, line, row); what `where` selects is numbered by itself."""
    for count, (source, line, row) in enumerate(Reader(request, path).numbered(), 1):
        yield source, count if request.where else line, line, row


def _value_of(
    request: ShowRequest, source: Source, line: int, row: Row, warnings: list[str]
) -> Any:
    """Return what is quoted of a row: its parts, or its text if it cannot be read."""
    if not row.problem:
        return _part_of(request, row.value)
    raw = raw_line(source, row.number)
    if len(warnings) < MOST_ABSENT:
        warnings.append(_why_unreadable(line, raw, row.problem))
    return f"<{row.problem}> {raw}".strip()


def _spelled(ranges: Iterable[range]) -> str:
    """Return ranges as `rows` takes them.

    >>> _spelled([range(1, 4), range(7, 8), range(9, sys.maxsize)])
    '1-3, 7, 9-999999999'
    """
    ends = [(one.start, min(one.stop - 1, 10**9 - 1)) for one in ranges]
    return ", ".join(f"{start}-{end}" if end > start else str(start) for start, end in ends)


def _part_of(request: ShowRequest, value: Any) -> Any:
    """Return what of a row is quoted."""
    if request.field is not None:
        return _part(value, request.field)
    if not request.columns or not isinstance(value, Mapping):
        return value
    parts = {name: _part(value, name) for name in request.columns}
    return {
        name: (values_at(value, name) or None) if part is NOT_THERE else part
        for name, part in parts.items()
    }


def _part(value: Any, path: str) -> Any:
    """Return a column, dotted inside objects, of a list by number; or NOT_THERE."""
    if isinstance(value, list):
        number, _, rest = path.partition(".")
        if not number.isdecimal() or int(number) >= len(value):
            return NOT_THERE
        return _part(value[int(number)], rest) if rest else value[int(number)]
    if not isinstance(value, Mapping):
        return NOT_THERE
    if path in value:
        return value[path]
    dots = [at for at, char in enumerate(path) if char == "." and path[:at] in value]
    parts = (_part(value[path[:at]], path[at + 1 :]) for at in dots)
    return next((part for part in parts if part is not NOT_THERE), NOT_THERE)


def _within_budget(
    request: ShowRequest, values: Sequence[tuple[int, str | None, Any]]
) -> list[QuotedValue]:
    """Quote (line, field, value) so that short ones are whole, and long ones get equal shares."""
    left = CHARS_A_TOKEN * (request.max_tokens or ROWS_TOKENS)
    quoted: dict[int, QuotedValue] = {}
    by_length = sorted(range(len(values)), key=lambda at: len(_as_text(values[at][2])))
    for done, at in enumerate(by_length):
        line, name, value = values[at]
        share = min(len(_as_text(value)), left // (len(values) - done))
        left -= share
        quoted[at] = _quoted(line, name, value, share, request.offset)
    return [quoted[at] for at in range(len(values))]


def _quoted(line: int, field: str | None, value: Any, max_chars: int, offset: int) -> QuotedValue:
    if value is NOT_THERE:
        return QuotedValue(row=line, field=field, value=None, truncated=False, original_chars=0)
    # Masked before it becomes JSON, whose escapes would hide where a key begins.
    masked = privacy.mask_all(value)
    text = _as_text(masked)
    room = max_chars if len(text) > max_chars else 6 * max_chars
    quoted, is_whole = quote(text[offset:], room)
    if not is_whole and isinstance(value, Mapping) and not offset:
        # With all texts cut to equal lengths each column can be seen, if they are not too many.
        cut = (quote(_as_text(_shortened(masked, most)), max_chars) for most in TEXT_CHARS)
        quoted = next((shorter for shorter, fits in cut if fits), quoted)
    return QuotedValue(
        row=line,
        field=field,
        value=quoted,
        truncated=not is_whole,
        original_chars=len(_as_text(value)),
    )


def _shortened(value: Any, most: int, depth: int = 4) -> Any:
    """Return a value whose texts have at most so many characters, and one more that says so."""
    if isinstance(value, str):
        return cut_to(value, most)
    if depth and isinstance(value, Mapping):
        return {name: _shortened(inner, most, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list):
        return [_shortened(inner, most, depth - 1) for inner in value]
    return value


def _as_text(value: Any) -> str:
    if value is NOT_THERE:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _why_unreadable(number: int, raw: str, problem: str) -> str:
    """Return where a line stops being JSON, as Python's parser says it, which quotes nothing."""
    try:
        json.loads(raw or "null")
    except json.JSONDecodeError as error:
        if len(raw) < RAW_CHARS:
            return f"line {number} is no JSON from character {error.pos + 1} on: {error.msg}"
    except RecursionError:
        pass
    rule = RULES[problem]
    return f"row {number} cannot be read ({problem}): {rule.message}; {rule.cure}"


def _not_there(
    request: ShowRequest,
    beyond: Sequence[range],
    blank: Sequence[range],
    absent: Sequence[int],
    last: int,
) -> Iterator[str]:
    """Yield which rows or fields are missing, and what to read instead."""
    if beyond:
        rows = "row that `where` selects" if request.where else "row of this file"
        end = f"the last {rows} is {last}" if last else "there is none"
        yield f"no row {_spelled(beyond)}: {end}"
    if blank:
        yield f"no row {_spelled(blank)}: blank, or part of another"
    if absent:
        listed = ", ".join(map(str, absent[:MOST_ABSENT]))
        listed += f" and {len(absent) - MOST_ABSENT} more" if len(absent) > MOST_ABSENT else ""
        yield (
            f"no field {request.field!r} in row {listed}: leave `field` out to see the row; "
            "items of a list have numbers: messages.0.content"
        )
