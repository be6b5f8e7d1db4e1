"""A jailed process that is kept, and started again where an answer ended it."""

import time
from pathlib import Path
from typing import Any

from ft_tools.metrics.isolation.jail import LIMITS_ONLY, Limits
from ft_tools.metrics.isolation.probe import available
from ft_tools.metrics.isolation.process import START_SECONDS, JailedProcess, JailEnded


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
