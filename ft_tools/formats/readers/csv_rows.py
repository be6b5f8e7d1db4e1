"""Read CSV and TSV row by row: a row that cannot be read is a finding, and reading goes on."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import BinaryIO

from ft_tools.formats.readers.header import FEWEST_RAGGED, LOOKED_AT, find_header
from ft_tools.formats.readers.rows import ROW_BYTES, Row

SEPARATOR = re.compile(r'"?sep=([^\w\s"]|\t)"?[\r\n]*', re.IGNORECASE)
"""A first line that Excel reads, and writes in some languages."""
SEPARATORS = ",;\t|"
BELOW = 6
"""Lines by which the separator is found below a title without any. Judgement."""


def read_csv(stream: BinaryIO, separator: str, encoding: str = "utf-8") -> Iterator[Row]:
    """Yield CSV rows as objects of strings; cells that hold JSON lists are parsed by the formats.

    A quote that is never closed makes csv read on to the cell cap, so the loss is bounded.
    """
    csv.field_size_limit(ROW_BYTES)
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    text = io.TextIOWrapper(stream, encoding=encoding, errors=errors, newline="")
    try:
        first, number = _first_line(text)
        if said := SEPARATOR.fullmatch(first):
            separator, (first, more) = said[1], _first_line(text)
            number += more
        below = list(islice(_lines(text), BELOW))
        separator = separator or _separator(first, below)
        lines = chain([first], below, _lines(text))
        yield from _csv_rows(csv.reader(lines, delimiter=separator), number)
    finally:
        # The stream is closed by who opened it.
        text.detach()


def _first_line(text: io.TextIOWrapper) -> tuple[str, int]:
    """Return the next line that is not blank, empty at the end, and how many lines were read."""
    number = 1
    while (line := text.readline(65536)) and not line.strip():
        number += 1
    return line, number


def _separator(first: str, below: Sequence[str]) -> str:
    r"""Return what separates cells: the commonest in the first line, unless that is a title.

    Below a title all lines have another one equally often, and the header has only that.

    >>> below = ["a;b;c\n", 'd, e;"f;";g\n'] * 3
    >>> _separator("a,b\n", ["1,x;y;z\n"] * 6), _separator("Export\n", below)
    (',', ';')
    """
    likely = max(SEPARATORS, key=first.count)
    lines = [line for line in below if line.strip()]
    if len(lines) <= FEWEST_RAGGED or likely in lines[0]:
        return likely
    for other in SEPARATORS.replace(likely, ""):
        # Cells in quotes may hold it; the last one may go on below.
        *rows, _ = csv.reader(lines, delimiter=other)
        widths = set(map(len, rows))
        if other not in first and len(widths) == 1 and widths.pop() >= FEWEST_RAGGED:
            return other
    return likely


def _csv_rows(reader: Iterator[list[str]], first_line: int) -> Iterator[Row]:
    """Yield the rows below the header; the first one says where that was found."""
    lines = _cells_of(reader)
    first = list(islice(lines, LOOKED_AT))
    if not first or first[0] is None:
        return
    header = find_header([cells or [] for cells in first], first_line)
    number, about = 0, header.about
    for cells in chain(first[header.at + 1 :], lines):
        if cells is not None and not cells:
            continue
        number += 1
        if cells is None or len(cells) != len(header.names):
            row = Row(number, None, "csv_columns")
        elif not all(map(str.isascii, cells)) and any(map(_undecoded, cells)):
            row = Row(number, None, "not_utf8")
        else:
            row = Row(number, dict(zip(header.names, cells, strict=True)), None)
        yield row._replace(about=about) if about else row
        about = ()


def _cells_of(reader: Iterator[list[str]]) -> Iterator[list[str] | None]:
    """Yield the cells of every line; None where they cannot be read."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    """Yield lines of at most the row cap, so that a line without an end stays bounded."""
    while line := text.readline(ROW_BYTES):
        yield line


def _undecoded(cell: str) -> bool:
    return any("\udc80" <= char <= "\udcff" for char in cell)
