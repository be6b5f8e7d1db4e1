"""Read CSV and TSV row by row: a row that cannot be read is a finding, and reading goes on."""

import csv
import io
import re
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from ft_tools.examples.json_stream import ROW_BYTES, Row

SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?[\r\n]*', re.IGNORECASE)
"""A first line that Excel reads, and writes in some languages."""


def read_csv(stream: BinaryIO, separator: str, encoding: str = "utf-8") -> Iterator[Row]:
    """Yield CSV rows as objects of strings; cells that hold JSON lists are parsed by the formats.

    A quote that is never closed makes csv read on to the cell cap, so the loss is bounded.
    """
    csv.field_size_limit(ROW_BYTES)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
    try:
        first = _first_line(text)
        if said := SEPARATOR.fullmatch(first):
            separator, first = said[1], _first_line(text)
        separator = separator or max(",;\t|", key=first.count)
        yield from _csv_rows(csv.reader(chain([first], _lines(text)), delimiter=separator))
    finally:
        # The stream is closed by who opened it.
        text.detach()


def _first_line(text: io.TextIOWrapper) -> str:
    """Return the next line that is not blank; empty at the end."""
    while (line := text.readline(65536)) and not line.strip():
        pass
    return line


def _csv_rows(reader: Iterator[list[str]]) -> Iterator[Row]:
    try:
        header = next(reader)
    except (StopIteration, csv.Error):
        return
    named = [name for name in header if name.strip()]
    notes = ("repeated_key",) if len(set(named)) < len(named) else ()
    number = 0
    while True:
        number += 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield Row(number, None, "csv_columns")
            continue
        if not cells:
            number -= 1
        elif len(cells) != len(header):
            yield Row(number, None, "csv_columns")
        elif not all(map(str.isascii, cells)) and any(map(_undecoded, cells)):
            yield Row(number, None, "not_utf8")
        else:
            yield Row(number, dict(zip(header, cells, strict=True)), None, notes)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines of at most the row cap, so that a line without an end stays bounded."""
    while line := text.readline(ROW_BYTES):
        yield line


def _undecoded(cell: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in cell)
