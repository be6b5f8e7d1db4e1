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
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData, MissingExtra
from ft_tools.examples.json_stream import Row

MEMORY_BYTES = 2**30
CPU_SECONDS = 120
MAX_UNPACKED_BYTES = 400 * 2**20
MAX_EXPANSION = 200
MAX_MEMBERS = 5_000
MEMBERS = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")
"""What tells a workbook from other zip archives."""


def is_workbook(path: Path) -> bool:
    """Tell whether a zip archive is a workbook."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist()[:MAX_MEMBERS])
            mime = archive.read("mimetype")[:60] if "mimetype" in names else b""
    except (OSError, ValueError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return False
    is_sheet = b"spreadsheet" in mime
    return any(name in names for name in MEMBERS[:2]) or (is_sheet and MEMBERS[2] in names)


def read_sheet(path: Path, sheet: str | None = None) -> Iterator[Row]:
    """Yield the rows of a sheet below its first row, which names the columns.

    Args:
        path: The workbook.
        sheet: Its name; None: the first one that has rows.

    Raises:
        BadData: It cannot be read within the bounds, or has no such sheet.
        MissingExtra: python-calamine is not installed.
    """
    if find_spec("python_calamine") is None:
        raise MissingExtra("data", "python-calamine")
    _require_bounded(path)
    command = [sys.executable, "-m", "ft_tools.examples.spreadsheet", str(path), sheet or ""]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        try:
            yield from _rows(path, child.stdout)
        finally:
            child.kill()


def _rows(path: Path, stream: Any) -> Iterator[Row]:
    header: list[str] | None = None
    notes: tuple[str, ...] = ()
    number = 0
    for line in stream:
        value = json.loads(line)
        if isinstance(value, dict):
            if "error" in value:
                raise BadData(path, value["error"], "name a sheet that it has, or save it as CSV")
            return
        if header is None:
            header = [str(cell) for cell in value]
            named = [name for name in header if name.strip()]
            notes = ("repeated_key",) if len(set(named)) < len(named) else ()
            continue
        number += 1
        cells = [None if cell == "" else cell for cell in value]
        if any(cell is not None for cell in cells):
            yield Row(number, dict(zip(header, cells, strict=False)), None, notes)
    raise BadData(
        path,
        "is no workbook that can be read within 1 GiB and two minutes",
        "save the sheet as CSV (UTF-8)",
    )


def _require_bounded(path: Path) -> None:
    """Refuse a zip bomb by what its directory says; the limits of the child are the real bound."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile as error:
        raise BadData(path, "is a damaged workbook", "save it again, or as CSV") from error
    unpacked = sum(member.file_size for member in members)
    most = max(MAX_EXPANSION * path.stat().st_size, 2**24)
    if len(members) > MAX_MEMBERS or unpacked > min(MAX_UNPACKED_BYTES, most):
        problem = f"unpacks to {unpacked / 2**20:.0f} MiB in {len(members)} parts"
        raise BadData(path, problem, "save the sheet as CSV (UTF-8)")


def _write_rows(path: str, sheet: str) -> None:
    """Write each row of a sheet as a JSON line, and an object at the end."""
    from python_calamine import CalamineWorkbook

    out = sys.stdout
    book = CalamineWorkbook.from_path(path)
    names = [sheet] if sheet else list(book.sheet_names)
    if sheet and sheet not in book.sheet_names:
        out.write(json.dumps({"error": "has no sheet of this name"}) + "\n")
        return
    for name in names:
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=True)
        if len(rows) > 1:
            for row in rows:
                out.write(json.dumps([_plain(cell) for cell in row]) + "\n")
            out.write(json.dumps({"end": True}) + "\n")
            return
    out.write(json.dumps({"error": "has no sheet with a header and a row"}) + "\n")


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
