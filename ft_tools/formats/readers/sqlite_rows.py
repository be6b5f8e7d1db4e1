"""Read the rows of an SQLite table or query, without being able to write or to run for ever."""

import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.abandoned_calls import require_waiting
from ft_tools.errors import Abandoned, BadData, BadInput
from ft_tools.formats.readers.header import distinct
from ft_tools.formats.readers.rows import Row

MAX_SECONDS = 10.0
"""That the database may compute, and what it returns may take longer: so a slow query ends within
a call, and a large table is read to its end."""
ROWS_PER_SECOND, BYTES_PER_SECOND = 1_000, 4 * 2**20
ROW_LEAST_BYTES = 100
"""What the smallest row counts for: rows are bounded, too."""
STEPS = 100_000
"""Instructions of the database between two looks at the clock."""
SELECT = re.compile(r"\s*(?:SELECT|WITH)\b", re.IGNORECASE)
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
"""Codes of what is no fault of the query."""


class _Clock:
    """How long the database computes, without the time in which its rows are used."""

    def __init__(self) -> None:
        self.spent = 0.0
        self.num_rows = 0
        self.num_bytes = 0
        self._started = 0.0

    def start(self) -> None:
        self._started = time.monotonic()

    def stop(self) -> None:
        self.spent += time.monotonic() - self._started

    def is_over(self) -> bool:
        """Return whether the database takes too long, or nobody waits for it."""
        try:
            require_waiting()
        except Abandoned:
            return True
        returned = max(self.num_rows / ROWS_PER_SECOND, self.num_bytes / BYTES_PER_SECOND)
        return self.spent + time.monotonic() - self._started > MAX_SECONDS + returned


def read_sqlite(path: Path, query: str | None, cap: int) -> Iterator[Row]:
    """Yield the rows of a query; without one, of the only table.

    Args:
        path: The database.
        query: A SELECT.
        cap: Bytes that the rows may have in all.

    Raises:
        BadInput: It is no SELECT, or there are several tables and none is named.
        BadData: The database is damaged, refuses the query, takes too long, or returns too much.
    """
    if query is not None and not SELECT.match(query):
        raise BadInput(f"query={query!r} is no SELECT; give one SELECT statement")
    clock = _Clock()
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        database.execute("PRAGMA trusted_schema=OFF")
        database.set_progress_handler(clock.is_over, STEPS)
        clock.start()
        cursor = database.execute(query or f'SELECT * FROM "{_only_table(path, database)}"')
        names = distinct([column[0] for column in cursor.description])
        while (cells := cursor.fetchone()) is not None:
            clock.stop()
            row = dict(zip(names, map(_plain, cells), strict=True))
            size = sum(len(name) + len(str(cell)) + 6 for name, cell in row.items())
            clock.num_rows += 1
            clock.num_bytes += max(size, ROW_LEAST_BYTES)
            if clock.num_bytes > cap:
                problem = f"returns more than {cap / 2**20:.0f} MiB, {clock.num_rows:,} rows so far"
                raise BadData(path, problem, "check the join conditions, or add a LIMIT")
            yield Row(clock.num_rows, row, None, num_chars=size)
            clock.start()
    except sqlite3.Error as error:
        require_waiting()
        raise BadData(path, *_said(error, clock)) from error
    finally:
        database.close()


def _said(error: sqlite3.Error, clock: _Clock) -> tuple[str, str]:
    """Return what is wrong, and what to do; SQLite's own words may quote the file."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT:
        problem = f"computed longer than {MAX_SECONDS:.0f} s for {clock.num_rows:,} rows"
        return problem, "check the join conditions, add a LIMIT, or save the rows as a table first"
    # Extended codes carry the plain one in their last byte.
    if code is not None and code & 0xFF in DAMAGED:
        return "is a damaged SQLite database", "copy or export it again, or save it as CSV (UTF-8)"
    if isinstance(error, sqlite3.ProgrammingError):
        return "takes one statement, without placeholders", "give one SELECT"
    problem = f"is a database that refuses the query ({type(error).__name__})"
    return problem, "check the SELECT and the names of its tables and columns"


def _only_table(path: Path, database: sqlite3.Connection) -> str:
    found = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')"
    tables = [name for (name,) in database.execute(found) if not name.startswith("sqlite_")]
    if len(tables) == 1:
        return str(tables[0]).replace('"', '""')
    plain = ", ".join(name for name in tables[:20] if PLAIN.fullmatch(name))
    problem = f"is a database of {len(tables)} tables ({plain})"
    raise BadData(path, problem, "prepare_dataset with query='SELECT ... FROM ...' reads one")


def _plain(cell: Any) -> Any:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
