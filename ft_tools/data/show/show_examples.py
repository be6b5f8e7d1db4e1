"""show_examples: what a file holds, and rows of it, quoted and within a budget."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.conditions import values_at
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.named_columns import require_none
from ft_tools.data.pipeline import Methods, process, with_completed_mapping
from ft_tools.data.read.example_texts import text_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.report import ShowReport
from ft_tools.data.request import MOST_TOKENS, PrepareRequest, ShowRequest
from ft_tools.data.show.budget import CHARS_A_TOKEN, Quoted, as_text, within_budget
from ft_tools.data.show.profile import nothing_selected, profile_report
from ft_tools.errors import Refused
from ft_tools.formats.readers.documents import require_data
from ft_tools.formats.readers.rows import Row
from ft_tools.formats.readers.source import Source, raw_line
from ft_tools.formats.test_sets import are_test_rows

NOT_THERE = object()
SEALED = (
    "is a test part that was set aside, so its rows are not quoted: whoever reads them fits the "
    "work to them. Read the training part; pass unseal=true if it is no test part any more"
)
ROWS_TOKENS = 2_000
FEW, MOST_ABSENT = 5, 20
"""Rows that are cut where none fits the budget; rows that are named for what they lack."""
FRAME_CHARS = 80
"""Of a row beside its text: its number, its length and quotation marks."""
MOST_GROUPS, MOST_IN_GROUP, PROMPT_CHARS = 10, 4, 400
"""Of contradictions."""
MARKS = {None: "", True: " [good]", False: " [bad]"}


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
    numbered = Reader(request, path).numbered()
    readable = ((number, row.value) for _, number, row in numbered if not row.problem)
    sealed = not request.unseal and are_test_rows(readable)
    if sealed and (request.ranges or request.contradictions):
        raise Refused(f"{path.name} {SEALED}")
    if request.contradictions:
        return _contradicting_rows(request)
    if request.ranges:
        return _rows(request, path)
    report = profile_report(request, path)
    if sealed:
        warnings = [f"{path.name} {SEALED}", *report.warnings]
        return report.model_copy(update={"examples": [], "warnings": warnings})
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
    whole = data.groups[request.offset : end]
    groups = [group[:MOST_IN_GROUP] for group in whole]
    examples = {
        at: one for at, _, one in data.scan.examples_at({at for group in groups for at in group})
    }
    found: list[Quoted] = []
    for group in groups:
        for at in group:
            prompt, answer = map(text_of, examples[at].prompt_and_answer())
            text = f"=> {answer}{MARKS[examples[at].label]}"
            text = f"{prompt[:PROMPT_CHARS]} {text}" if at == group[0] else text
            found.append(Quoted(data.scan.ledger.lines[at], text, "contradiction"))
    warnings = [] if total else ["no two rows have the same prompt and different answers"]
    if len(groups) < total:
        more = f"; next: offset={end}" if end < total else ""
        warnings.append(f"{len(groups)} of {total} groups, from offset {request.offset}{more}")
    if groups != whole:
        warnings.append(f"of each group the first {MOST_IN_GROUP} rows are quoted")
    quoted = within_budget(found, _chars(request))
    return ShowReport(examples=quoted, warnings=warnings, num_contradictions=total)


def _rows(request: ShowRequest, path: Path) -> ShowReport:
    """Quote the rows that are asked for, whole, until the budget ends."""
    wanted, budget = request.ranges, _chars(request)
    found: list[Quoted] = []
    absent: list[str] = []
    warnings: list[str] = []
    met: set[int] = set()
    used, last, rest = 0, 0, ""
    for last, is_wanted, source, line, row in _numbered(request, path):
        warnings += row.about
        if not is_wanted:
            continue
        value = _value_of(request, source, line, row, warnings)
        size = FRAME_CHARS + len(as_text(value))
        # Where not even the first row fits, some are cut to equal shares.
        if found and used + size > budget and (used <= budget or len(found) >= FEW):
            rest = _spelled(range(max(last, one.start), one.stop) for one in wanted)
            break
        met.add(last)
        if value is NOT_THERE:
            absent.append(str(line))
        else:
            used += size
            found.append(Quoted(line, value, request.field))
    if request.where and not last:
        raise nothing_selected(request, path)
    examples = within_budget(found, budget, request.offset)
    raise_it = f"raise max_tokens (at most {MOST_TOKENS:,})"
    if rest:
        warnings.append(f"next: lines {rest}, or {raise_it}")
    elif missing := _missing(wanted, met, last):
        rows = "that `where` selects" if request.where else "of this file"
        why = f"blank, part of another, or beyond the last row {rows}, {last}"
        warnings.append(f"no row {missing}: {why}")
    if absent:
        warnings.append(
            f"no field {request.field!r} in {len(absent)} rows "
            f"({', '.join(absent[:MOST_ABSENT])}): leave `field` out to see the row; items of a "
            "list have numbers: messages.0.content"
        )
    if cut := sum(one.truncated for one in examples):
        warnings.append(f"{cut} rows are cut: {raise_it}, or choose columns or field")
    return ShowReport(examples=examples, warnings=list(dict.fromkeys(warnings)))


def _numbered(request: ShowRequest, path: Path) -> Iterator[tuple[int, bool, Source, int, Row]]:
    """Yield rows up to the last one asked for, each with its number and whether it is asked for.

    What `where` selects is numbered by itself.
    """
    wanted = request.ranges
    end = max(one.stop for one in wanted)
    for count, (source, line, row) in enumerate(Reader(request, path).numbered(), 1):
        number = count if request.where else line
        while len(wanted) > 1 and wanted[0].stop <= number:
            del wanted[0]
        yield number, number in wanted[0], source, line, row
        if number + 1 >= end:
            return


def _missing(wanted: Sequence[range], met: set[int], last: int) -> str:
    """Return which rows are not there: those asked for alone, and ranges beyond the last row."""
    alone = [one for one in wanted if len(one) == 1 and one.start not in met]
    beyond = [range(max(one.start, last + 1), one.stop) for one in wanted if len(one) > 1]
    return _spelled([*alone, *(one for one in beyond if one.stop < sys.maxsize)])


def _spelled(ranges: Iterable[range]) -> str:
    """Return ranges as `lines` takes them.

    >>> _spelled([range(1, 4), range(7, 8), range(9, sys.maxsize)])
    '1-3, 7, 9-999999999'
    """
    ends = [(one.start, min(one.stop - 1, 10**9 - 1)) for one in ranges if one]
    return ", ".join(f"{start}-{end}" if end > start else str(start) for start, end in ends)


def _value_of(
    request: ShowRequest, source: Source, line: int, row: Row, warnings: list[str]
) -> Any:
    """Return what is quoted of a row: its parts, or its text if it cannot be read."""
    if not row.problem:
        return _part_of(request, row.value)
    raw, rule = raw_line(source, row.number), RULES[row.problem]
    if len(warnings) < MOST_ABSENT:
        why = f"{rule.message}; {rule.cure}"
        warnings.append(f"row {line} cannot be read ({row.problem}): {why}")
    return f"<{row.problem}> {raw}".strip()


def _part_of(request: ShowRequest, value: Any) -> Any:
    """Return what of a row is quoted."""
    if request.field is not None:
        return _part(value, request.field)
    if not request.columns or not isinstance(value, dict):
        return value
    parts = {name: _part(value, name) for name in request.columns}
    return {
        name: (values_at(value, name) or None) if part is NOT_THERE else part
        for name, part in parts.items()
    }


def _part(value: Any, path: str) -> Any:
    """Return a column, dotted inside objects, of a list by number; or NOT_THERE."""
    if isinstance(value, list):
        value = {str(number): item for number, item in enumerate(value)}
    if not isinstance(value, dict):
        return NOT_THERE
    if path in value:
        return value[path]
    dots = [at for at, char in enumerate(path) if char == "." and path[:at] in value]
    parts = (_part(value[path[:at]], path[at + 1 :]) for at in dots)
    return next((part for part in parts if part is not NOT_THERE), NOT_THERE)


def _chars(request: ShowRequest) -> int:
    """Return how many characters rows may have in all."""
    return CHARS_A_TOKEN * (request.max_tokens or ROWS_TOKENS)
