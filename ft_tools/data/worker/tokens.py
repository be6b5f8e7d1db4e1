"""Count tokens with a model's own tokenizer and chat template, within bounds."""

import json
import sys
from collections.abc import Sequence
from typing import Any

from ft_tools.data.judge.findings import note
from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.tool import no_tokenizer
from ft_tools.formats.example import Example, content_of, thoughts_of
from ft_tools.formats.masking import MeasuredExample
from ft_tools.models.resolve import tokenizer_files
from ft_tools.runs.processes.answers import JsonProcess, Unanswered

CPU_SECONDS = 10
"""Of the processor, for an example of a few turns, which takes milliseconds."""
# An example is rendered up to each of its answers. A tenth of what ChatML and a byte-level BPE of
# 1,024 tokens do on a busy core (2.3 to 2.8 million characters).
CHARS_A_SECOND = 250_000
MOST_CPU_SECONDS = 300
"""Of the processor: what may need more by its size is not rendered."""
# By the clock, on a machine that is busy with other things.
LOAD_SECONDS = 600.0
CLOCK = 12
"""Seconds by the clock for each of the processor."""
# Each example that ends the process costs its time; then the template is not asked any more.
MOST_DEATHS = 2
PARTS = ("task", "messages", "chosen", "rejected", "text", "tools")
SERVER = "ft_tools.formats.worker.start_chat_template"


class TemplateTokens:
    """A process that renders examples in a model's chat template and counts their tokens."""

    def __init__(self, model: str, max_length: int, cpu_seconds: int = CPU_SECONDS) -> None:
        """Start it.

        Raises:
            BadInput: The model has no tokenizer that can be loaded.
        """
        load_from = tokenizer_files(model)
        self._cpu_seconds = cpu_seconds
        self._num_too_long = 0
        limits = [str(max_length), str(cpu_seconds)]
        self._command = [sys.executable, "-m", SERVER, load_from, *limits]
        self._process: JsonProcess | None = None
        self._deaths = 0
        loaded = self._start()
        if loaded is None or "method" not in loaded:
            raise no_tokenizer(model)
        self.method = str(loaded["method"])

    def measure(self, examples: Sequence[Example]) -> list[MeasuredExample]:
        """Count the tokens of examples, one after the other."""
        return list(map(self.measure_one, examples))

    def measure_one(self, example: Example) -> MeasuredExample:
        """Count an example's tokens; an estimate and the finding if the template does not end.

        Also an estimate, but no finding, for an example whose rendering takes long by its size.
        """
        if self._seconds(example) > MOST_CPU_SECONDS:
            self._num_too_long += 1
            return lengths_of([example])[0]
        answer = self._ask(example)
        if answer is None:
            return lengths_of([example])[0]._replace(findings=("template_too_slow",))
        if "measured" not in answer:
            return lengths_of([example])[0]._replace(findings=("template_refuses",))
        whole, last, findings, trained = answer["measured"]
        return MeasuredExample(whole, last, tuple(findings), trained)

    def notes(self) -> list[str]:
        """Return what was not counted."""
        return [note("tokens_too_long", count=self._num_too_long)] if self._num_too_long else []

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            process.end()

    def _seconds(self, example: Example) -> int:
        """Return the seconds of the processor that an example may take, by its size."""
        turns = [*example.messages, *example.chosen, *example.rejected]
        said = [*map(content_of, turns), *map(thoughts_of, turns)]
        chars = len(json.dumps(example.tools or [])) + sum(map(len, said))
        num_answers = len([turn for turn in turns if turn["role"] == "assistant"])
        return self._cpu_seconds + (1 + num_answers) * chars // CHARS_A_SECOND

    def _start(self) -> dict[str, Any] | None:
        self._process = JsonProcess(self._command)
        try:
            return self._process.read(LOAD_SECONDS)
        except Unanswered:
            self._process = None
            return None

    def _ask(self, example: Example) -> dict[str, Any] | None:
        """Return the answer; None if the process died over this example, or is given up."""
        if self._deaths >= MOST_DEATHS:
            return None
        if self._process is None:
            self._start()
        if self._process is None:
            self._deaths = MOST_DEATHS
            return None
        seconds = self._seconds(example)
        plain = {name: getattr(example, name) for name in PARTS}
        question = {"example": plain, "cpu_seconds": seconds}
        try:
            return self._process.ask(question, CLOCK * seconds)
        except Unanswered:
            self._deaths += 1
            self._process = None
            return None
