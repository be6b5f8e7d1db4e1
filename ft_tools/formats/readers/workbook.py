"""Read Excel and OpenDocument sheets in a process of its own, with bounds.

A workbook of a few hundred bytes can ask for gigabytes (a cell far down and to the right, a zip
bomb), and the reader is native code. So a child with a limit on memory and time reads it and writes
JSON lines; run as a module, this file is that child.
"""

import json
import os
import resource
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ft_tools.errors import BadData, require_installed
from ft_tools.formats.quoting import quote
from ft_tools.formats.readers.header import LOOKED_AT, find_header
from ft_tools.formats.readers.rows import Row

MEMORY_BYTES = 2**30
CPU_SECONDS = 120
MAX_MEMBERS = 5_000
MOST_SHEETS = 10
"""Sheets that are named."""
SIZED_BYTES = 8 * 2**20
"""Of a workbook of which each sheet is read for its rows and columns."""
SHEET_CHARS = 31
"""The longest name that Excel allows."""
MEMBERS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")
"""What tells a workbook from other zip archives."""


def is_workbook(path: Path) -> bool:
    """Return whether a zip archive is a workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist()[:MAX_MEMBERS])
            mime = archive.open("mimetype").read(60) if "mimetype" in names else b""
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False
    is_sheet = b"spreadsheet" in mime
    return any(name in names for name in MEMBERS[:2]) or (is_sheet and MEMBERS[2] in names)


def read_sheet(path: Path, sheet: str | None = None) -> Iterator[Row]:
    """Yield the rows of a sheet below the line that names the columns, numbered from there.

    Raises:
        BadData: It cannot be read within the bounds, or has no such sheet.
        MissingExtra: python-calamine is not installed.
    """
    require_installed("data", "python_calamine")
    command = [sys.executable, "-m", "ft_tools.formats.readers.workbook", str(path), sheet or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            yield from _rows(path, child.stdout)
            if child.wait() != 0:
                problem = "is no workbook that can be read within 1 GiB and two minutes"
                raise BadData(path, problem, "save the sheet as CSV (UTF-8)")
        finally:
            child.kill()


def _rows(path: Path, stream: Iterable[bytes]) -> Iterator[Row]:
    """Yield what the child has written; a child that was killed leaves a line without an end."""
    values = (json.loads(line) for line in stream if line.endswith(b"\n"))
    told: dict[str, Any] = next(values, {})
    if "error" in told:
        cure = f"name one of its sheets ({_quoted(told['sheets'])}), or save it as CSV"
        raise BadData(path, told["error"], cure)
    first: list[list[Any]] = list(islice(values, LOOKED_AT))
    if not first:
        return
    header = find_header(first, told["line"], told["column"])
    kept = [at for at in range(len(header.names)) if at not in told["empty"]]
    about, tables = (*_sheet_notes(told), *header.about), tuple(told["open"])
    for number, value in enumerate(chain(first[header.at + 1 :], values), 1):
        cells = [None if cell == "" else cell for cell in value]
        if any(cell is not None for cell in cells):
            row = {header.names[at]: cells[at] for at in kept}
            yield Row(number, row, None, about=about, tables=tables)
            about, tables = (), ()


def _sheet_notes(told: dict[str, Any]) -> list[str]:
    """Return which of several sheets is read, where nobody chose one."""
    if not told["open"]:
        return []
    read, *others = told["open"]
    return [
        f"sheet {_quoted([read], told['sizes'])} is read; the workbook has {len(others)} more "
        f"({_quoted(others, told['sizes'])}; names are quoted data): `sheet` reads another"
    ]


def _quoted(names: list[str], sizes: Mapping[str, list[int]] = MappingProxyType({})) -> str:
    """Return names of sheets as data: a workbook's text is nobody's instruction."""
    more = f" and {len(names) - MOST_SHEETS} more" if len(names) > MOST_SHEETS else ""
    listed = [
        f"{quote(name, SHEET_CHARS)[0]}{' {} x {}'.format(*sizes[name]) if name in sizes else ''}"
        for name in names[:MOST_SHEETS]
    ]
    return ", ".join(listed) + more


def _write_rows(path: str, wanted: str) -> None:
    """Write an object about a sheet, and each of its rows as a JSON line."""
    from python_calamine import CalamineWorkbook, SheetTypeEnum

    book = CalamineWorkbook.from_path(path)
    sheets = list(book.sheet_names)
    told: dict[str, Any] = {"sheets": sheets}
    rows: list[list[Any]] = []
    chosen = [name for name in sheets if wanted in {"", name}]
    for name in chosen:
        sheet = book.get_sheet_by_name(name)
        rows = sheet.to_python(skip_empty_area=True)
        if len(rows) < 2:
            continue
        line, column = sheet.start or (0, 0)
        empty = [at for at in range(len(rows[0])) if all(row[at] == "" for row in rows)]
        several = [] if wanted or len(sheets) == 1 else sheets
        is_sized = several and os.path.getsize(path) <= SIZED_BYTES
        tables = [one.name for one in book.sheets_metadata if one.typ == SheetTypeEnum.WorkSheet]
        sized = map(book.get_sheet_by_name, tables[:MOST_SHEETS] if is_sized else [])
        told |= {"line": line + 1, "column": column, "empty": empty}
        told["open"] = [name, *(one for one in several if one != name)] if several else []
        told["sizes"] = {one.name: [one.height, one.width] for one in sized}
        break
    else:
        of = "with a header and a row" if chosen else "of this name"
        told["error"] = f"has no sheet {of}"
    for value in (told, *([_plain(cell) for cell in row] for row in rows)):
        sys.stdout.write(json.dumps(value) + "\n")


def _plain(cell: Any) -> Any:
    """Return a cell as JSON has it; a whole number that Excel keeps as a float is one again."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() and abs(cell) < 2**53 else cell
    return cell if isinstance(cell, str | bool | int) or cell is None else str(cell)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    os.nice(1)
    _write_rows(sys.argv[1], sys.argv[2])
