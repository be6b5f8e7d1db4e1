"""Count tokens and show masks with a model's own tokenizer and chat template, within bounds."""

import json
import os
import select
import subprocess
import sys
import time
from typing import Any

from ft_tools.data.example import Example
from ft_tools.data.masks import Masked, Measured
from ft_tools.data.scan import lengths_of
from ft_tools.errors import BadInput
from ft_tools.models.resolve import resolve_model

CPU_SECONDS = 10
"""Of the processor, for one example; a long one takes milliseconds."""
# By the clock, on a machine that is busy with other things.
LOAD_SECONDS = 600.0
ANSWER_SECONDS = 120.0
# Each example that ends the process costs its time; then the template is not asked any more.
MOST_DEATHS = 2
READ_BYTES = 1 << 16
TWO_STARTS = (
    "the template writes the beginning-of-sequence token and the tokenizer adds its own: a trainer "
    "that renders to text first trains on two"
)
SERVER = "ft_tools.workers.audit_template"


class TemplateTokens:
    """A process that renders examples in a model's chat template and counts their tokens."""

    def __init__(self, model: str, max_length: int, cpu_seconds: int = CPU_SECONDS) -> None:
        """Start it.

        Raises:
            BadInput: The model has no tokenizer that can be loaded.
        """
        load_from = str(resolve_model(model).load_from)
        limits = [str(max_length), str(cpu_seconds)]
        self._command = [sys.executable, "-m", SERVER, load_from, *limits]
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._deaths = 0
        loaded = self._start()
        if loaded is None or "method" not in loaded:
            raise BadInput(
                f"model={model!r} has no tokenizer that can be loaded; name a folder with "
                "tokenizer.json, or leave `model` out for an estimate"
            )
        self.method = str(loaded["method"])
        self._notes: list[str] = loaded["notes"]

    def measure(self, example: Example) -> Measured:
        """Count an example's tokens; an estimate and the finding if the template does not end."""
        answer = self._ask("measure", example)
        if answer is None:
            return lengths_of(example)._replace(findings=("template_too_slow",))
        if "measured" not in answer:
            return lengths_of(example)._replace(findings=("template_refuses",))
        whole, last, findings, trained = answer["measured"]
        return Measured(whole, last, tuple(findings), trained)

    def masks(self, example: Example) -> list[Masked]:
        """Return what a model reads of an example, and what of it is trained on."""
        answer = self._ask("masks", example) or {}
        return [
            Masked(name, tuple((text, kind) for text, kind in pieces))
            for name, pieces in answer.get("masks", [])
        ]

    def notes(self) -> list[str]:
        """Say what training with this tokenizer has to mind."""
        starts = (self._ask("starts_twice") or {}).get("starts_twice")
        return [*self._notes, TWO_STARTS] if starts else list(self._notes)

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> dict[str, Any] | None:
        self._unread = b""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        return self._read(LOAD_SECONDS)

    def _ask(self, what: str, example: Example | None = None) -> dict[str, Any] | None:
        """Return the answer; None if the process died over this example, or is given up."""
        if self._deaths >= MOST_DEATHS:
            return None
        if self._process is None and self._start() is None:
            self._deaths = MOST_DEATHS
            return None
        question = {"op": what, "example": None if example is None else _plain(example)}
        answer = None
        if self._write(json.dumps(question).encode() + b"\n"):
            answer = self._read(ANSWER_SECONDS)
        if answer is None:
            self._deaths += 1
            self.close()
        return answer

    def _write(self, line: bytes) -> bool:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            while line:
                line = line[self._process.stdin.write(line) or 0 :]
        except BrokenPipeError:
            return False
        return True

    def _read(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line; None if there is none in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            data = os.read(stream, READ_BYTES) if ready else b""
            if not data:
                return None
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


def _plain(example: Example) -> dict[str, Any]:
    return {
        "task": example.task,
        "messages": example.messages,
        "chosen": example.chosen,
        "rejected": example.rejected,
        "text": example.text,
        "tools": example.tools,
    }
