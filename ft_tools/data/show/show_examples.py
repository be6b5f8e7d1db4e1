"""show_examples: what a file holds, and rows of it, quoted and within a budget."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.data.judge import privacy
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.conditions import values_at
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.named_columns import require_none
from ft_tools.data.pipeline import Methods, process, with_completed_mapping
from ft_tools.data.read.example_texts import text_of as text_of_turns
from ft_tools.data.read.rows import Reader
from ft_tools.data.report import ColumnProfile, QuotedValue, ShowReport
from ft_tools.data.request import MOST_TOKENS, PrepareRequest, ShowRequest
from ft_tools.data.show.profile import nothing_selected, scan_file
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.errors import Refused
from ft_tools.formats.column_counts import MOST_LISTED, NAME_CHARS, items_of, leaves_of, text_of
from ft_tools.formats.quoting import cut_to, quote
from ft_tools.formats.readers.documents import require_data
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import RAW_CHARS, Source, raw_line
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
SPARE_TOKENS, NUM_ROWS, MOST_ROWS, ROW_CHARS = 150, 5, 20, 50
"""Of a profile for some rows, or for the names of columns without a place; rows, as many in a
larger budget, and the least of each."""
MOST_TABLES, MOST_NAMED = 3, 300
"""Sheets of which one is chosen; characters of the columns that are only named."""
HELD_CHARS = 80
"""Of what a column holds, where not all columns fit."""
FEW, MOST_ABSENT = 5, 20
"""Rows that are cut where none fits the budget; rows that are named for what they lack."""
CHARS_A_TOKEN, TURN_CHARS = 4, 60
FRAME_CHARS = 80
"""Of a row beside its text: its number, its length and quotation marks."""
TEXT_CHARS = (2000, 1000, 500, 250, 160, 80, 60, 45, 35, 25, 18, 12)
"""Lengths to which texts are cut until a row fits."""
MOST_GROUPS, MOST_IN_GROUP, PROMPT_CHARS = 10, 4, 400
"""Of contradictions."""


def show_examples(request: ShowRequest) -> ShowReport:
    """Return the profile of a file, or quote rows of it.

    Raises:
        NotFound: The file is not there.
        BadData: It is not data.
        BadInput: `path` is a folder of documents.
        Refused: It is a test part that was set aside.
    """
    path = workspace.existing(request.path)
    require_data(path)
    readable = ((n, row.value) for _, n, _, row in _numbered(request, path) if not row.problem)
    sealed = not request.unseal and are_test_rows(readable)
    if sealed and (request.ranges or request.contradictions):
        raise Refused(f"{path.name} {SEALED}")
    if request.contradictions:
        return _contradicting_rows(request)
    if request.ranges:
        return _rows(request, path)
    report = _profile(request, path)
    if sealed:
        return report.model_copy(update={"examples": [], "warnings": [f"{path.name} {SEALED}"]})
    return report


def _contradicting_rows(request: ShowRequest) -> ShowReport:
    """Quote the first rows with one prompt and different answers, group by group.

    Of each group the prompt stands with the first row.
    """
    asked, problems = with_completed_mapping(
        PrepareRequest(
            **request.model_dump(include={"path", "sheet", "query", "encoding", "where"}),
            mapping=request.mapping or ColumnMapping(),
        )
    )
    data = process(asked, Methods(with_pairs=False), problems=problems)
    require_none(data.problems)
    total, end = len(data.groups), request.offset + MOST_GROUPS
    groups = [group[:MOST_IN_GROUP] for group in data.groups[request.offset : end]]
    texts: dict[int, tuple[str, str]] = {}
    for index, _, example in data.scan.examples_at({at for group in groups for at in group}):
        prompt, answer = map(text_of_turns, example.prompt_and_answer())
        mark = "" if example.label is None else f" [{'good' if example.label else 'bad'}]"
        texts[index] = f"{prompt[:PROMPT_CHARS]} ", f"=> {answer}{mark}"
    found: list[tuple[int, str, str]] = []
    for group in groups:
        for at in group:
            text = "".join(texts[at] if at == group[0] else texts[at][1:])
            found.append((data.scan.ledger.lines[at], "contradiction", text))
    warnings = [] if total else ["no two rows have the same prompt and different answers"]
    if len(groups) < total:
        more = f"; next: offset={end}" if end < total else ""
        warnings.append(f"{len(groups)} of {total} groups, from offset {request.offset}{more}")
    if any(len(group) > MOST_IN_GROUP for group in data.groups[request.offset : end]):
        warnings.append(f"of each group the first {MOST_IN_GROUP} rows are quoted")
    examples = _within_budget(found, _chars(request))
    return ShowReport(examples=examples, warnings=warnings, num_contradictions=total)


def _profile(request: ShowRequest, path: Path) -> ShowReport:
    """Return what each column holds with some rows, as much of both as the budget allows."""
    looked, profile = scan_file(request, path)
    again = request.model_dump(mode="json", exclude_unset=True, exclude={"max_tokens"})
    is_open = profile.format == "unknown" or any(one.decide for one in profile.columns)
    tables = [name for name in looked.tables[:MOST_TABLES] if quote(name, NAME_CHARS)[1]]
    if tables and tables[0] == looked.tables[0]:
        again["sheet"] = tables[0]
    sheets = [next_step("show_other_table", {**again, "sheet": name}) for name in tables[:0:-1]]
    steps = [*sheets, next_step("map_file" if is_open else "check_file", again)]
    most = request.max_tokens or PROFILE_TOKENS
    report = ShowReport(profile=profile.model_copy(update={"columns": []}), next_steps=steps)
    room = most - _tokens(report) - SPARE_TOKENS
    columns, others = _listed(profile.columns, room, max(room, room + VALUES_TOKENS - most))
    shown = {"columns": columns, "num_more_columns": len(others)}
    named = cut_to(", ".join(others), MOST_NAMED)
    warnings = [f"{len(others)} more columns (raise max_tokens): {named}"] if others else []
    update = {"profile": profile.model_copy(update=shown), "warnings": warnings}
    report = report.model_copy(update=update)
    chars = CHARS_A_TOKEN * max(0, most - _tokens(report))
    while True:
        num = min(MOST_ROWS if request.max_tokens else NUM_ROWS, chars // ROW_CHARS)
        examples = [_cells(number, row, chars // num) for number, row in looked.spread(num)]
        made = report.model_copy(update={"examples": examples})
        if not examples or _tokens(made) <= most:
            return made
        chars = 3 * chars // 4


def _tokens(part: ShowReport | ColumnProfile) -> int:
    return estimate_tokens(part.model_dump_json(exclude_defaults=True))


def _listed(
    columns: Sequence[ColumnProfile], room: int, room_for_few: int
) -> tuple[list[ColumnProfile], list[str]]:
    """Return the columns that fit, and the names of the others.

    Those that have to be decided, of few values, come first, and may take more if that is enough.
    """

    def has_few(one: ColumnProfile) -> bool:
        return isinstance(one.distinct, int) and 1 < one.distinct <= MOST_LISTED

    if sum(map(_tokens, columns)) > room:
        columns = [
            one if has_few(one) else one.model_copy(update={"holds": cut_to(one.holds, HELD_CHARS)})
            for one in columns
        ]
    due = {at for at, one in enumerate(columns) if one.decide and has_few(one)}
    is_enough = sum(_tokens(columns[at]) for at in due) <= room_for_few
    used, kept = 0, set[int]()
    for at in sorted(
        range(len(columns)), key=lambda at: (at not in due, not columns[at].decide, at)
    ):
        size = _tokens(columns[at])
        if used + size <= (room_for_few if at in due and is_enough else room):
            used += size
            kept.add(at)
    return (
        [one for at, one in enumerate(columns) if at in kept],
        [one.name for at, one in enumerate(columns) if at not in kept],
    )


def _fitting(make: Callable[[int], str], most: int) -> str | None:
    """Return a text whose parts are cut to the largest of `TEXT_CHARS` with which it fits."""
    return next((text for text in map(make, TEXT_CHARS) if len(text) <= most), None)


def _cells(number: int, row: Any, most: int) -> QuotedValue:
    """Quote a row with its cells between bars, each cut to the same length."""
    values = list(row.values()) if isinstance(row, Mapping) else [row]
    cells = [_cell(privacy.mask_all(value)) for value in values]
    text = " | ".join(cells)
    shown = _fitting(lambda chars: " | ".join(cut_to(cell, chars) for cell in cells), most) or text
    quoted, is_whole = quote(shown, most)
    return QuotedValue(
        row=number,
        value=quoted,
        truncated=not is_whole or shown != text,
        original_chars=sum(len(_as_text(value)) for value in values),
    )


def _cell(value: Any) -> str:
    """Return what a cell says without brackets and quotation marks; of turns their longest texts.

    >>> _cell([{"by": {"role": "user"}, "text": "Where is it?"}]), _cell({"a": {"b": 1}, "c": "x"})
    ('Where is it?', 'a.b=1, c=x')
    """
    turns = items_of(as_turns(value))
    if turns and all(isinstance(turn, Mapping) for turn in turns):
        parts = [[text_of(part) for _, part in leaves_of("", turn)] for turn in turns]
        texts = [
            max(some, key=lambda one: (one.count(" "), len(one)), default="") for some in parts
        ]
        said = [text for text in texts if " " in text] or texts
        return " / ".join(cut_to(text, TURN_CHARS) for text in said)
    if isinstance(value, Mapping):
        return ", ".join(f"{name[1:]}={text_of(one)}" for name, one in leaves_of("", value))
    return _as_text(value)


def _rows(request: ShowRequest, path: Path) -> ShowReport:
    """Quote the rows that are asked for, whole, until the budget ends."""
    wanted, at = request.ranges, 0
    end = max(one.stop for one in wanted)
    found: list[tuple[int, str | None, Any]] = []
    met: set[int] = set()
    rest: list[range] = []
    warnings: list[str] = []
    budget, used, last = _chars(request), 0, 0
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
    there = [one for one in found if one[2] is not NOT_THERE]
    examples = _within_budget(there, budget, request.offset)
    raise_it = f"raise max_tokens (at most {MOST_TOKENS:,})"
    if rest:
        warnings.append(f"next: lines {_spelled(rest)}, or {raise_it}")
    else:
        warnings += _not_there(request, wanted, met, last)
    if absent := [str(line) for line, _, value in found if value is NOT_THERE]:
        warnings.append(
            f"no field {request.field!r} in {len(absent)} rows "
            f"({', '.join(absent[:MOST_ABSENT])}): leave `field` out to see the row; items of a "
            "list have numbers: messages.0.content"
        )
    if cut := sum(one.truncated for one in examples):
        warnings.append(f"{cut} rows are cut: {raise_it}, or choose columns or field")
    return ShowReport(examples=examples, warnings=list(dict.fromkeys(warnings)))


def _not_there(
    request: ShowRequest, wanted: Sequence[range], met: set[int], last: int
) -> Iterator[str]:
    """Yield which rows are missing."""
    blank = [one for one in wanted if len(one) == 1 and one.start <= last]
    beyond = [range(max(one.start, last + 1), one.stop) for one in wanted]
    missing = [one for one in blank if one.start not in met]
    missing += [one for one in beyond if one and one.stop < sys.maxsize]
    if missing:
        rows = "that `where` selects" if request.where else "of this file"
        why = f"blank, part of another, or beyond the last row {rows}, {last}"
        yield f"no row {_spelled(missing)}: {why}"


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
    raw, rule = raw_line(source, row.number), RULES[row.problem]
    why = f"row {line} cannot be read ({row.problem}): {rule.message}; {rule.cure}"
    try:
        json.loads(raw or "null")
    except json.JSONDecodeError as error:
        # Python's parser quotes nothing.
        if len(raw) < RAW_CHARS:
            why = f"line {line} is no JSON from character {error.pos + 1} on: {error.msg}"
    except RecursionError:
        pass
    if len(warnings) < MOST_ABSENT:
        warnings.append(why)
    return f"<{row.problem}> {raw}".strip()


def _spelled(ranges: Iterable[range]) -> str:
    """Return ranges as `lines` takes them.

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


def _chars(request: ShowRequest) -> int:
    """Return how many characters rows may have in all."""
    return CHARS_A_TOKEN * (request.max_tokens or ROWS_TOKENS)


def _within_budget(
    values: Sequence[tuple[int, str | None, Any]], left: int, offset: int = 0
) -> list[QuotedValue]:
    """Quote (line, field, value) so that short ones are whole, and long ones get equal shares."""
    quoted: dict[int, QuotedValue] = {}
    by_length = sorted(range(len(values)), key=lambda at: len(_as_text(values[at][2])))
    for done, at in enumerate(by_length):
        line, name, value = values[at]
        share = min(len(_as_text(value)), left // (len(values) - done))
        left -= share
        quoted[at] = _quoted(line, name, value, share, offset)
    return [quoted[at] for at in range(len(values))]


def _quoted(line: int, field: str | None, value: Any, most: int, offset: int) -> QuotedValue:
    # Masked before it becomes JSON, whose escapes would hide where a key begins.
    masked = privacy.mask_all(value)
    text = _as_text(masked)
    quoted, is_whole = quote(text[offset:], most if len(text) > most else 6 * most)
    if not is_whole and isinstance(value, Mapping) and not offset:
        # With all texts cut to equal lengths each column can be seen, if they are not too many.
        shorter = _fitting(lambda chars: _as_text(_shortened(masked, chars)), most)
        quoted = quote(shorter, most)[0] if shorter is not None else quoted
    chars = len(_as_text(value))
    return QuotedValue(
        row=line, field=field, value=quoted, truncated=not is_whole, original_chars=chars
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
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
