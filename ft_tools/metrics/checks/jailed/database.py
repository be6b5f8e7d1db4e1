"""Queries against copies of databases in memory, read-only, with a limit of time and size."""

import base64
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

MOST_ROWS = 100_000
MOST_VALUE_BYTES = 2**20
STEPS = 1000
"""Between two looks at the clock."""
ALLOWED = {
    sqlite3.SQLITE_SELECT,
    sqlite3.SQLITE_READ,
    sqlite3.SQLITE_FUNCTION,
    sqlite3.SQLITE_RECURSIVE,
}
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: MOST_VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 100_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 1000,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 50,
    sqlite3.SQLITE_LIMIT_ATTACHED: 0,
}
Rows = list[tuple[Any, ...]]


class Database:
    """One copy."""

    def __init__(self, content: bytes) -> None:
        self._connection = sqlite3.connect(":memory:")
        # The limits come later: a database may be longer than one of its values.
        self._connection.deserialize(content)
        self._deadline = 0.0
        for limit, value in LIMITS.items():
            self._connection.setlimit(limit, value)
        self._connection.set_progress_handler(lambda: time.monotonic() > self._deadline, STEPS)
        self._connection.set_authorizer(
            lambda action, *_: sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY
        )
        self.reference = lru_cache(maxsize=1024)(partial(self.rows, most=MOST_ROWS))

    def rows(self, query: str, seconds: float, *, most: int) -> Rows:
        """Return at most so many rows, and one more if there are more."""
        self._deadline = time.monotonic() + seconds
        cursor = self._connection.execute(query)
        # What writes nothing and returns no columns, such as an empty statement, is no query.
        if cursor.description is None:
            raise sqlite3.OperationalError("no query")
        return [tuple(map(_plain, row)) for row in cursor.fetchmany(most + 1)]


def main(receive: Callable[[], Any], send: Callable[[Any], None]) -> None:
    """Open the copies, then compare each answer's rows with its reference's."""
    told = receive()
    databases = [Database(base64.b64decode(one)) for one in told["databases"]]
    send({})
    while (asked := receive()) is not None:
        send(compare(databases, asked))


def compare(databases: list[Database], asked: Any) -> dict[str, Any]:
    """Return whether an answer has the reference's rows in each database, or what is broken."""
    seconds = asked["seconds"] / len(databases) / 2
    try:
        wanted = [one.reference(asked["reference"], seconds) for one in databases]
    except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
        return {"failed": f"the reference: {type(error).__name__}"}
    if not any(wanted) or max(map(len, wanted)) > MOST_ROWS:
        return {"failed": "the reference has no row in any database, or too many"}
    try:
        for one, rows in zip(databases, wanted, strict=True):
            found = one.rows(asked["answer"], seconds, most=len(rows))
            if found != rows and (asked["ordered"] or Counter(found) != Counter(rows)):
                return {"score": 0.0}
    except (sqlite3.Error, sqlite3.Warning, ValueError, MemoryError):
        return {"score": 0.0}
    return {"score": 1.0}


def _plain(value: Any) -> Any:
    """Return a value as it is compared: numbers to nine digits, by whatever order they summed."""
    return float(f"{value:.9g}") if isinstance(value, float) else value
