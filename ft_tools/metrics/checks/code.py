"""Run the code of answers against tests: in two jails, between which this process stands."""

import ast
import os
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ft_tools.metrics.checks.answers import Row, code_in
from ft_tools.metrics.checks.request import Tests
from ft_tools.metrics.isolation import probe
from ft_tools.metrics.isolation.jail import Limits
from ft_tools.metrics.isolation.process import JailedProcess, JailEnded, NotIsolated

PROGRAM = Path(__file__).parent / "jailed" / "code.py"
GRACE_SECONDS = 30


class TestsScorer:
    """Scores answers by their tests, several at a time."""

    def __init__(self, check: Tests) -> None:
        """Prepare it.

        Raises:
            Missing: Nothing isolates here.
        """
        self._check = check
        self._isolation = probe.require()
        self._limits = Limits(cpu_seconds=int(check.seconds) + GRACE_SECONDS)

    def score(self, answers: Sequence[str], rows: Sequence[Row]) -> list[float | None]:
        """Return 1 for each answer that passes, 0 for others; None where the tests are broken."""
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return list(pool.map(self._scored, answers, rows))

    def _scored(self, answer: str, row: Row) -> float | None:
        check = self._check
        tests = tests_of(row[check.column])
        named = check.entry_point and row.get(check.entry_point, check.entry_point)
        told = {"part": "tests", "tests": tests, "entry_point": named}
        try:
            with (
                JailedProcess(self._isolation, PROGRAM, self._limits) as answering,
                JailedProcess(self._isolation, PROGRAM, self._limits) as testing,
            ):
                return self._verdict(answering, testing, code_in(answer), told)
        except NotIsolated:
            return None

    def _verdict(
        self, answering: JailedProcess, testing: JailedProcess, code: str, told: dict[str, Any]
    ) -> float | None:
        """Pass questions of the tests to the answer until the tests end."""
        deadline = time.monotonic() + self._check.seconds
        nonce = secrets.token_hex(16)
        try:
            names = answering.ask({"part": "answer", "code": code}, deadline).get("names")
            if not names or told["entry_point"] not in {None, *names}:
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


def tests_of(value: Any) -> str | None:
    """Return the tests of a row; None where it has no text."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return "\n".join(value)
    return value if isinstance(value, str) else None


def problem_of(tests: str | None) -> str:
    """Return why tests cannot fail any answer, or cannot run; empty if neither."""
    try:
        nodes = list(ast.walk(ast.parse(tests or "")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "is not Python"
    for node in nodes:
        if isinstance(node, ast.Assert | ast.Raise):
            return ""
        if isinstance(node, ast.Attribute) and node.attr.startswith(("assert", "fail", "raises")):
            return ""
    return "has no assertion"
