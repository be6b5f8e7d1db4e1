"""Read the rows of an SQLite table or query, without being able to write or to run for ever."""

import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData, BadInput
from ft_tools.examples.json_stream import Row

MAX_SECONDS = 300.0
STEPS = 100_000
"""Instructions of the database between two looks at the clock."""
SELECT = re.compile(r"\s*(?:SELECT|WITH)\b", re.IGNORECASE)
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")


def read_sqlite(path: Path, query: str | None = None) -> Iterator[Row]:
    """Yield the rows of a query; without one, of the only table.

    Raises:
        BadInput: It is no SELECT, or there are several tables and none is named.
        BadData: The database refuses it or takes too long.
    """
    if query is not None and not SELECT.match(query):
        raise BadInput(f"query={query!r} is no SELECT; give one SELECT statement")
    until = time.monotonic() + MAX_SECONDS
    database = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        database.execute("PRAGMA trusted_schema=OFF")
        database.set_progress_handler(lambda: int(time.monotonic() > until), STEPS)
        cursor = database.execute(query or f'SELECT * FROM "{_only_table(path, database)}"')
        names = [column[0] for column in cursor.description]
        for number, cells in enumerate(cursor, 1):
            yield Row(number, dict(zip(names, map(_plain, cells), strict=True)), None)
    except sqlite3.Error as error:
        problem = f"is a database that refuses the query ({type(error).__name__})"
        raise BadData(path, problem, "check the SELECT and its column names") from error
    finally:
        database.close()


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
