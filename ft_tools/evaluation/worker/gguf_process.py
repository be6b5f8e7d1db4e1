"""A GGUF file that answers in a process of its own.

Where llama.cpp meets what it did not expect it aborts, and the process ends with it: that one, and
not the evaluation, which keeps its answers so far and says what happened.
"""

import signal
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ft_tools.errors import BadInput, KilledForMemory
from ft_tools.evaluation.held_out import HeldOut, Message
from ft_tools.evaluation.worker.writer import Likelihood, Output
from ft_tools.formats.worker import today
from ft_tools.runs.processes.json_process import JsonProcess, NoAnswer
from ft_tools.runs.processes.start import command

MODULE = "ft_tools.evaluation.worker.gguf_generation"
SECONDS = 10.0**7
"""For an answer: a prompt takes as long as it takes, and a cancel ends both processes."""


class GgufProcess:
    """A writer, as `GgufWriter`, which it asks."""

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            BadInput: llama.cpp cannot load it.
        """
        self._path = path
        self._process = JsonProcess([*command(MODULE), path, repr(today.now())])
        try:
            opened = self._answer(lambda: self._process.read(SECONDS))
        except BadInput:
            self._process.end()
            raise
        self.template: str | None = opened["template"]
        self.end_text: str = opened["end_text"]

    def render(self, example: HeldOut, rendering: str) -> str:
        """Write the prompt with the template that is in the file."""
        return str(self._ask("render", asdict(example), rendering))

    def chat(
        self, messages: list[Message], tools: list[dict[str, Any]] | None, *, answer_next: bool
    ) -> str:
        """Apply the chat template that is in the file."""
        return str(self._ask("chat", messages, tools, answer_next))

    def encode(self, text: str) -> list[int]:
        """Tokenize a rendered text.

        Raises:
            BadInput: It is longer than the model was made for.
        """
        ids: list[int] = self._ask("encode", text)
        return ids

    def generate(
        self, prompts: Sequence[str], max_new_tokens: int, grammar: str | None = None
    ) -> list[Output]:
        """Continue each prompt greedily, one after the other; with a grammar, as it allows."""
        found = self._ask("generate", list(prompts), max_new_tokens, grammar)
        return [Output(**one) for one in found]

    def likelihoods(self, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Measure how well each whole text is predicted after the prompt it begins with."""
        return [Likelihood(**one) for one in self._ask("likelihoods", list(texts))]

    def close(self) -> None:
        """End the process, which frees the model."""
        self._process.end()

    def _ask(self, task: str, *arguments: Any) -> Any:
        question = {"task": task, "arguments": arguments}
        return self._answer(lambda: self._process.ask(question, SECONDS))

    def _answer(self, read: Callable[[], dict[str, Any]]) -> Any:
        try:
            said = read()
        except NoAnswer:
            raise self._ended() from None
        if "refused" in said:
            raise BadInput(said["refused"])
        return said["answer"]

    def _ended(self) -> BadInput:
        code = self._process.exit_code
        if code == -signal.SIGKILL:
            return KilledForMemory(
                f"llama.cpp was killed while it ran {self._path}, most likely because memory ran "
                "out; close other programs, then resume_run: outputs so far are kept"
            )
        if code is not None and code > 0:
            return BadInput(f"{self._path} could not answer: get_run with log_lines shows why")
        return BadInput(
            f"llama.cpp ended with {code} while it ran {self._path}: get_run with log_lines shows "
            "its words; `python -m pip install -U llama-cpp-python`, or evaluate another format"
        )
