"""show_examples: text of a dataset, quoted and length-limited."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools import workspace
from ft_tools.data.judge import privacy
from ft_tools.data.judge.findings import RULES
from ft_tools.data.read.both_passes import rows_of
from ft_tools.data.report import Quoted, ShowReport
from ft_tools.data.request import ShowRequest
from ft_tools.errors import BadInput
from ft_tools.formats.columns import COLUMN
from ft_tools.formats.quoting import quote
from ft_tools.formats.readers.documents import is_documents
from ft_tools.formats.readers.source import RAW_CHARS, has_data, raw_line

NOT_THERE = object()
TEXT_CHARS = (80, 60, 45, 35, 25, 18, 12)
"""Lengths to which texts are cut until a row fits."""


def show_examples(request: ShowRequest) -> ShowReport:
    """Quote rows of a file.

    Raises:
        NotFound: The file is not there.
        BadData: It is not data.
    """
    path = workspace.existing(request.path)
    if is_documents(path) and not has_data(path):
        raise BadInput(
            f"{request.path!r} holds documents, which have no examples to show: audit_dataset "
            "counts them, and recommend_approach (documents) says what they are good for; examples "
            "are shown of JSONL, JSON, CSV and Parquet files"
        )
    wanted = sorted(set(request.lines))
    found: dict[int, Any] = {}
    unread: set[int] = set()
    warnings: list[str] = []
    number = 0
    for source, row, number in rows_of(path):
        warnings += row.about
        if number in wanted and not row.problem:
            found[number] = row.value
        elif number in wanted and row.problem:
            raw = raw_line(source, row.number)
            found[number] = f"<{row.problem}> {raw}".strip()
            unread.add(number)
            warnings.append(_why_unreadable(number, raw) or _cure(number, row.problem))
        if number >= wanted[-1]:
            break
    whole = request.model_copy(update={"field": None})
    # A row that cannot be read has no fields.
    examples = [_quoted(whole if line in unread else request, found, line) for line in wanted]
    warnings += _not_there(request, found, examples, number)
    return ShowReport(examples=examples, warnings=warnings)


def _why_unreadable(number: int, raw: str) -> str:
    """Say where a line stops being JSON, in the words of Python's parser, which quote nothing."""
    try:
        json.loads(raw or "null")
    except json.JSONDecodeError as error:
        if len(raw) < RAW_CHARS:
            return f"line {number} is no JSON from character {error.pos + 1} on: {error.msg}"
    except RecursionError:
        pass
    return ""


def _cure(number: int, problem: str) -> str:
    return f"row {number} cannot be read ({problem}): {RULES[problem].cure}"


def _not_there(
    request: ShowRequest, found: Mapping[int, Any], examples: Sequence[Quoted], last: int
) -> list[str]:
    """Say which rows or fields are missing, and where to look instead."""
    empty = [one.line for one in examples if one.value is None]
    beyond = [line for line in empty if line > last]
    blank = [line for line in empty if line not in found and line <= last]
    warnings = []
    if beyond:
        why = f"the last one of this file is {last}" if last else "this file has none"
        warnings.append(f"no row {_listed(beyond)}: {why}")
    if blank:
        warnings.append(f"no example in line {_listed(blank)}: it is blank or part of another row")
    if lacking := [line for line in empty if line in found]:
        where = f"row {_listed(lacking)}"
        why = "leave `field` out to see the row; items of a list have numbers: messages.0.content"
        warnings.append(f"no field {request.field!r} in {where}: {why}")
    return warnings


def _listed(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines))


def _quoted(request: ShowRequest, found: Mapping[int, Any], line: int) -> Quoted:
    value: Any = found.get(line)
    there = line in found
    if there and request.field is not None:
        value = _part(value, request.field)
        there = value is not NOT_THERE
    if not there:
        return Quoted(line=line, field=request.field, value=None, truncated=False, original_chars=0)
    # Masked before it becomes JSON, whose escapes would hide where a key begins.
    masked = _as_text(privacy.mask_all(value))
    shown, is_whole = quote(masked[request.offset :], request.max_chars)
    if not is_whole and isinstance(value, Mapping) and not request.offset:
        shown = _with_every_column(privacy.mask_all(value), request.max_chars) or shown
    return Quoted(
        line=line,
        field=request.field,
        value=shown,
        truncated=not is_whole,
        original_chars=len(_as_text(value)),
    )


def _part(value: Any, path: str) -> Any:
    """Return a column, dotted inside objects, of a list by number; or NOT_THERE.

    `column 6` is the sixth one with its name, as an object.
    """
    if isinstance(value, list):
        number, _, rest = path.partition(".")
        if not number.isdecimal() or int(number) >= len(value):
            return NOT_THERE
        return _part(value[int(number)], rest) if rest else value[int(number)]
    if not isinstance(value, Mapping):
        return NOT_THERE
    if path in value:
        return value[path]
    if (by_number := COLUMN.fullmatch(path)) and 0 < (place := int(by_number[1])) <= len(value):
        return dict([list(value.items())[place - 1]])
    dots = [at for at, char in enumerate(path) if char == "." and path[:at] in value]
    parts = (_part(value[path[:at]], path[at + 1 :]) for at in dots)
    return next((part for part in parts if part is not NOT_THERE), NOT_THERE)


def _with_every_column(row: Mapping[str, Any], max_chars: int) -> str | None:
    """Quote a row with its texts cut to equal lengths, so that each column can be seen.

    Returns:
        None if there are too many columns for that.
    """
    for most in TEXT_CHARS:
        shown, is_whole = quote(_as_text(_shortened(row, most)), max_chars)
        if is_whole:
            return shown
    return None


def _shortened(value: Any, most: int, depth: int = 4) -> Any:
    """Return a value whose texts have at most so many characters, and one more that says so."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}\u2026"
    if depth and isinstance(value, Mapping):
        return {name: _shortened(inner, most, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list):
        return [_shortened(inner, most, depth - 1) for inner in value]
    return value


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
