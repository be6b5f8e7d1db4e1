"""Checks that a process of their own answers: the user's own code, and SQL."""

import ast
import base64
import logging
import math
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, PlanChanged
from ft_tools.metrics.checks.answers import Row, as_text, code_in
from ft_tools.metrics.checks.request import Python, Sql
from ft_tools.metrics.isolation.jail import LIMITS_ONLY, Limits
from ft_tools.metrics.isolation.probe import available
from ft_tools.metrics.isolation.process import START_SECONDS, JailedProcess, JailEnded
from ft_tools.publish import sha256

JAILED = Path(__file__).parent / "jailed"
MOST_DATABASE_MIB = 100
OWN_LIMITS = Limits(memory_mib=16384, processes=64, file_mib=64, tmp_mib=64, open_files=256)
"""For the user's own code, which may load what is installed."""
SQL_LIMITS = Limits(memory_mib=4 * MOST_DATABASE_MIB + 1024)

log = logging.getLogger(__name__)


class Service:
    """Answers one message after the other, for code of the user's own and for SQL.

    It is isolated where something isolates, and else a process with limits.
    """

    def __init__(self, program: Path, told: Any, limits: Limits) -> None:
        """Prepare it; the first message starts it.

        Args:
            program: As in `JailedProcess`.
            told: Its first message, sent again to each new process.
            limits: What it may take.
        """
        self._program, self._told, self._limits = program, told, limits
        self._jail: JailedProcess | None = None
        self.first: Any = None
        """What the process answered to its first message."""

    def ask(self, message: Any, seconds: float) -> Any:
        """Return the answer to a message.

        Raises:
            JailEnded: There is none.
        """
        is_fresh = self._jail is None
        jail = self._jail or self.start()
        try:
            return jail.ask(message, time.monotonic() + seconds)
        except JailEnded as error:
            self._jail = None
            if is_fresh or error.why != "ended":
                raise
            # It may have ended before: with the thread that started it, or of an earlier answer.
            return self.ask(message, seconds)

    def start(self) -> JailedProcess:
        """Start the process.

        Raises:
            JailEnded: It ended over its first message.
        """
        jail = JailedProcess(available() or LIMITS_ONLY, self._program, self._limits)
        self.first = jail.ask(self._told, time.monotonic() + START_SECONDS)
        self._jail = jail
        return jail

    def close(self) -> None:
        """End the process."""
        if self._jail is not None:
            self._jail.close()
            self._jail = None


class SqlScorer:
    """Scores queries by their rows."""

    def __init__(self, check: Sql, paths: Sequence[Path]) -> None:
        """Copy the databases.

        Raises:
            BadInput: A file is no SQLite database, or too large.
        """
        copies = [base64.b64encode(copy_of(path)).decode() for path in paths]
        self._check = check
        self._service = Service(JAILED / "database.py", {"databases": copies}, SQL_LIMITS)
        self.close = self._service.close

    def score(self, answer: str, row: Row) -> float | None:
        """Return 1 for a query with the reference's rows; None where the reference has none."""
        check = self._check
        asked = {
            "answer": code_in(answer),
            "reference": as_text(row[check.reference]),
            "ordered": check.ordered,
            "seconds": check.seconds,
        }
        try:
            found = self._service.ask(asked, 2 * check.seconds)
        except JailEnded:
            return 0.0
        if "failed" in found:
            log.error("a row cannot be checked by SQL: %s", found["failed"])
            return None
        return float(found["score"])


class PythonScorer:
    """Scores answers by the user's own function."""

    def __init__(self, check: Python, path: Path) -> None:
        """Read the file; nothing of it runs before an answer is scored.

        Raises:
            PlanChanged: It is not the file of the plan.
            BadInput: It defines no `score`.
        """
        if check.sha256 and sha256(path) != check.sha256:
            raise PlanChanged(f"{path} changed since the plan was confirmed; make the plan again")
        self._check, self._path = check, path
        self._service = Service(JAILED / "own_code.py", {"source": source_of(path)}, OWN_LIMITS)
        self.close = self._service.close

    def score(self, answer: str, row: Row) -> float | None:
        """Return what the function does for an answer; None where it fails.

        Raises:
            BadInput: The file cannot be run at all.
        """
        try:
            found = self._service.ask({"answer": answer, "row": row}, self._check.seconds)
        except JailEnded as error:
            found = {"failed": error.why}
        first: Any = self._service.first
        if isinstance(first, dict) and "failed" in first:
            why = first["failed"]
            raise BadInput(f"{self._path} cannot be run ({why}); run it alone and correct it")
        score = found.get("score")
        if isinstance(score, float) and math.isfinite(score) and 0 <= score <= 1:
            return score
        if "failed" in found or score is not None:
            log.error("score() of %s failed: %s", self._path, found.get("failed", "not 0 to 1"))
        return None


def source_of(path: Path) -> str:
    """Return the source of the user's own check.

    Raises:
        BadInput: It is not Python, or defines no function `score` of two arguments.
    """
    cure = "define `def score(answer: str, row: dict) -> float | None` in it"
    try:
        source = path.read_text(encoding="utf-8")
        nodes = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadInput(f"{path} is not Python; {cure}") from error
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    if not any(one.name == "score" and len(one.args.args) == 2 for one in functions):
        raise BadInput(f"{path} has no function score with two arguments; {cure}")
    return source


def copy_of(path: Path) -> bytes:
    """Return the content of an SQLite database as of now.

    Raises:
        BadInput: It is none, or too large.
    """
    size = path.stat().st_size / 2**20
    if size > MOST_DATABASE_MIB:
        problem = f"{path} has {size:.0f} MiB, and at most {MOST_DATABASE_MIB} are checked against"
        raise BadInput(f"{problem}; name a database with part of the rows")
    # Without a log there is nothing that a reader would have to lock, and so to write.
    has_log = path.with_name(f"{path.name}-wal").exists()
    address = f"{path.as_uri()}?mode=ro{'' if has_log else '&immutable=1'}"
    try:
        with (
            closing(sqlite3.connect(address, uri=True)) as file,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            file.backup(copy)
            content = bytearray(copy.serialize())
    except sqlite3.Error as error:
        raise BadInput(f"{path} is not an SQLite database ({error}); name one") from error
    # A copy in memory has no write-ahead log, whatever the file had.
    content[18:20] = b"\1\1"
    return bytes(content)
