"""Checks that run something: an answer's code against tests, its query, the user's own function.

What a model wrote runs in jails only. Queries and the user's own code run in one where something
isolates, else in a process with limits.
"""

import ast
import base64
import logging
import math
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, PlanChanged
from ft_tools.metrics.checks.answers import Row, as_text, code_in, tests_of
from ft_tools.metrics.checks.request import Python, Sql, Tests
from ft_tools.metrics.isolation import probe
from ft_tools.metrics.isolation.jail import LIMITS_ONLY, Isolation, Limits
from ft_tools.metrics.isolation.process import (
    START_SECONDS,
    JailedProcess,
    JailEnded,
    NotIsolated,
)
from ft_tools.publish import sha256

JAILED = Path(__file__).parent / "jailed"
CODE = JAILED / "code.py"
GRACE_SECONDS = 30
MOST_DATABASE_MIB = 100
OWN_LIMITS = Limits(memory_mib=16384, processes=64, file_mib=64, tmp_mib=64, open_files=256)
"""For the user's own code, which may load what is installed."""
SQL_LIMITS = Limits(memory_mib=4 * MOST_DATABASE_MIB + 1024)
ScoreOne = Callable[[str, Row], float | None]

log = logging.getLogger(__name__)


def tests_score(check: Tests) -> Callable[[Sequence[str], Sequence[Row]], list[float | None]]:
    """Return what scores answers by their tests, several at a time: 1 or 0; None: tests are broken.

    Raises:
        Missing: Nothing isolates here.
    """
    isolation = probe.require()

    def score(answer: str, row: Row) -> float | None:
        try:
            return _tested(check, isolation, answer, row)
        except NotIsolated:
            return None

    def score_all(answers: Sequence[str], rows: Sequence[Row]) -> list[float | None]:
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(score, answers, rows))

    return score_all


def _tested(check: Tests, isolation: Isolation, answer: str, row: Row) -> float | None:
    """Pass questions of the tests in one jail to the answer in another until the tests end."""
    limits = Limits(cpu_seconds=int(check.seconds) + GRACE_SECONDS)
    entry = check.entry_point and row.get(check.entry_point, check.entry_point)
    nonce = secrets.token_hex(16)
    told = {"part": "tests", "tests": tests_of(row[check.column]), "entry_point": entry}
    with (
        JailedProcess(isolation, CODE, limits) as answering,
        JailedProcess(isolation, CODE, limits) as testing,
    ):
        deadline = time.monotonic() + check.seconds
        try:
            code = {"part": "answer", "code": code_in(answer)}
            names = answering.ask(code, deadline).get("names")
            if not names or entry not in {None, *names}:
                return 0.0
            said = testing.ask(told | {"names": names, "nonce": nonce}, deadline)
            while "ask" in said:
                said = testing.ask(answering.ask(said["ask"], deadline), deadline)
        except (JailEnded, AttributeError, TypeError):
            # Whichever of the two ended, or said what is no message, its tests have not passed.
            return 0.0
    if said.get("nonce") != nonce:
        return 0.0
    return None if said["broken"] else float(said["passed"] is True)


class Service:
    """A process that answers one message after the other; started anew where it ended."""

    def __init__(self, program: Path, told: Any, limits: Limits) -> None:
        """Prepare it; the first message starts it, and `told` is sent to each new process."""
        self._program, self._told, self._limits = program, told, limits
        self._jail: JailedProcess | None = None
        self.first: Any = None
        """What the process answered to its first message."""

    def ask(self, message: Any, seconds: float) -> Any:
        """Return the answer to a message, or raise JailEnded."""
        is_fresh, jail = self._jail is None, self._jail
        if jail is None:
            jail = JailedProcess(probe.available() or LIMITS_ONLY, self._program, self._limits)
            self.first = jail.ask(self._told, time.monotonic() + START_SECONDS)
            self._jail = jail
        try:
            return jail.ask(message, time.monotonic() + seconds)
        except JailEnded as error:
            self._jail = None
            if is_fresh or error.why != "ended":
                raise
            # It may have ended before: with the thread that started it, or of an earlier answer.
            return self.ask(message, seconds)

    def close(self) -> None:
        """End the process."""
        if self._jail is not None:
            self._jail.close()
            self._jail = None


def sql_score(check: Sql, paths: Sequence[Path], opened: ExitStack) -> ScoreOne:
    """Return what scores queries: 1 for the reference's rows; None where the reference has none.

    Raises:
        BadInput: A file is no SQLite database, or too large.
    """
    copies = [base64.b64encode(copy_of(path)).decode() for path in paths]
    told = {"databases": copies}
    service = opened.enter_context(closing(Service(JAILED / "database.py", told, SQL_LIMITS)))

    def score(answer: str, row: Row) -> float | None:
        asked = {
            "answer": code_in(answer),
            "reference": as_text(row[check.reference]),
            "ordered": check.ordered,
            "seconds": check.seconds,
        }
        try:
            found = service.ask(asked, 2 * check.seconds)
        except JailEnded:
            return 0.0
        if "failed" in found:
            log.error("a row cannot be checked by SQL: %s", found["failed"])
            return None
        return float(found["score"])

    return score


def python_score(check: Python, path: Path, opened: ExitStack) -> ScoreOne:
    """Return what the user's own function does for an answer, as a function; None where it fails.

    Nothing of the file runs before an answer is scored; that raises BadInput if it cannot be run.

    Raises:
        PlanChanged: It is not the file of the plan.
        BadInput: It defines no `score`.
    """
    if check.sha256 and sha256(path) != check.sha256:
        raise PlanChanged(f"{path} changed since the plan was confirmed; make the plan again")
    told = {"source": source_of(path)}
    service = opened.enter_context(closing(Service(JAILED / "own_code.py", told, OWN_LIMITS)))

    def score(answer: str, row: Row) -> float | None:
        try:
            found = service.ask({"answer": answer, "row": row}, check.seconds)
        except JailEnded as error:
            found = {"failed": error.why}
        first: Any = service.first
        if isinstance(first, dict) and "failed" in first:
            why = first["failed"]
            raise BadInput(f"{path} cannot be run ({why}); run it alone and correct it")
        value = found.get("score")
        if isinstance(value, float) and math.isfinite(value) and 0 <= value <= 1:
            return value
        if "failed" in found or value is not None:
            log.error("score() of %s failed: %s", path, found.get("failed", "not 0 to 1"))
        return None

    return score


def source_of(path: Path) -> str:
    """Return the source of the user's own check; refuse a file without its function."""
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
    """Return the content of an SQLite database as of now; refuse what is none, or too large."""
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
