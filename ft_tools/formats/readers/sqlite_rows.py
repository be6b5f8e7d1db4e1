"""Read the rows of an SQLite table or query, without being able to write or to run for ever."""

import contextlib
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.abandoned_calls import require_waiting
from ft_tools.errors import Abandoned, BadData, BadInput
from ft_tools.formats.readers.rows import Row

ROW_LEAST_BYTES = 100
"""What the smallest row counts for: rows are bounded, too."""
STEPS = 100_000
"""Instructions of the database between two looks at what it has done."""
MOST_SECONDS = 10.0
"""Until the next row: a query that sorts or joins without end is not read."""
SELECT = re.compile(r"\s*(?:SELECT|WITH)\b", re.IGNORECASE)
MOST_COLUMNS = 30
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")
DAMAGED = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT}
"""Codes of what is no fault of the query."""


def read_sqlite(path: Path, query: str | None, cap: int) -> Iterator[Row]:
    """Yield the rows of a query; without one, of the only table.

    Raises:
        BadInput: It is no SELECT, or there are several tables and none is named.
        BadData: The database is damaged, refuses the query, takes too long, or returns too much.
    """
    if query is not None and not SELECT.match(query):
        raise BadInput(f"query={query!r} is no SELECT; give one SELECT statement")
    num_rows = returned = 0
    until = time.monotonic() + MOST_SECONDS

    def is_over() -> bool:
        with contextlib.suppress(Abandoned):
            require_waiting()
            return time.monotonic() > until
        return True

    database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        database.execute("PRAGMA trusted_schema=OFF")
        database.set_progress_handler(is_over, STEPS)
        cursor = database.execute(query or f'SELECT * FROM "{_only_table(path, database)}"')
        names = [column[0] for column in cursor.description]
        if twice := next((name for name in names if names.count(name) > 1), None):
            cure = "name each with AS, such as q.body AS question, a.body AS answer"
            raise BadInput(f"query returns two columns named {twice!r}; {cure}")
        while (cells := cursor.fetchone()) is not None:
            row = dict(zip(names, map(_plain, cells), strict=True))
            size = sum(len(name) + len(str(cell)) + 6 for name, cell in row.items())
            returned += max(size, ROW_LEAST_BYTES)
            num_rows += 1
            if returned > cap:
                problem = f"returns more than {cap / 2**20:.0f} MiB, {num_rows:,} rows so far"
                raise BadData(path, problem, "check the join conditions, or add a LIMIT")
            yield Row(num_rows, row, None, num_chars=size)
            # What a row was used for took no time of the query.
            until = time.monotonic() + MOST_SECONDS
    except sqlite3.Error as error:
        require_waiting()
        raise BadData(path, *_problem_and_cure(error, num_rows)) from error
    finally:
        database.close()


def _problem_and_cure(error: sqlite3.Error, num_rows: int) -> tuple[str, str]:
    """Return what is wrong, and what to do; SQLite's own words may quote the file."""
    code = getattr(error, "sqlite_errorcode", None)
    if code == sqlite3.SQLITE_INTERRUPT:
        problem = f"computed for too long, {num_rows:,} rows so far"
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
    plain = "; ".join(
        f"{name}: {_columns(database, name)}" for name in tables[:20] if PLAIN.fullmatch(name)
    )
    problem = f"is a database of {len(tables)} tables ({plain})"
    raise BadData(path, problem, "pass query='SELECT ... FROM ...', which may join them")


def _columns(database: sqlite3.Connection, table: str) -> str:
    """Return the names of a table's columns that are plain."""
    cursor = database.execute(f'SELECT * FROM "{table}" LIMIT 0')
    names = [column[0] for column in cursor.description]
    return ", ".join(name for name in names[:MOST_COLUMNS] if PLAIN.fullmatch(name))


def _plain(cell: Any) -> Any:
    return cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
