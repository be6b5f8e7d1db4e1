"""What is remembered of each example: hashes, words as numbers, lengths, why it goes.

Flat arrays; the texts themselves are not kept: writing the cleaned files reads the input again. One
example takes about 110 bytes and 4 for each of its words.
"""

import json
from array import array
from collections.abc import Iterator
from hashlib import blake2b

from ft_tools.formats.example import Example, Message, content_of
from ft_tools.similarity.rows import Rows
from ft_tools.similarity.words import KEPT

MASK = (1 << 64) - 1
_DIGITS = bytes(c if chr(c) in "0123456789" else 32 for c in range(256))
_ENCODE = json.JSONEncoder(sort_keys=True).encode


class Ledger(Rows):
    """The examples of an audit, by index: those of the validation file first, then the others."""

    def __init__(self, *, with_pairs: bool, with_questions: bool = False) -> None:
        """Make an empty one.

        Args:
            with_pairs: Whether the words are remembered, for the lexical search.
            with_questions: Whether each question of a conversation is, to find leaks.
        """
        super().__init__(with_pairs=with_pairs)
        self.lines = array("Q")
        self.whole = array("Q")
        self.first_prompt = array("Q")
        self.tokens = array("L")
        self.answer_tokens = array("L")
        self.split_key = array("L")
        self.reasons: list[str] = ["kept"]
        """Why examples are left out, by what `removal` has."""
        self.original: dict[int, tuple[int, float]] = {}
        """Of a removed duplicate: the kept index and the score."""
        self._with_questions = with_questions
        self._questions = array("Q")
        self._question_ends = array("Q")
        self._split_keys: dict[str, int] = {}

    def add_unread(self, line: int, reason: str) -> int:
        """Add a row that is no example; return its index."""
        return self._add(line, [0, 0, 0, 0, 0], 0, 0, "", reason)

    def add(self, example: Example, lengths: tuple[int, int], split_key: str) -> int:
        """Add an example with its (whole, answer) tokens; return its index."""
        asked, answered = example.prompt_and_answer()
        first = next((content_of(m) for m in asked if m["role"] == "user"), "")
        hashes = [
            hash_of(_whole(example)),
            hash_of(_joined(asked) + _tools(example)) if asked else 0,
            hash_of(_joined(answered)),
            hash_of(_joined(example.rejected)) if example.rejected else 0,
            hash_of(first.strip()) if first else 0,
        ]
        index = self._add(example.line, hashes, *lengths, split_key, None)
        for column, turns in zip(self.numbers, (asked, answered), strict=True):
            column[index] = _numbers_in("\n".join(map(content_of, turns)))
        self.label[index] = -1 if example.label is None else bool(example.label)
        if self._with_questions:
            self._questions.extend(_questions(asked))
            self._question_ends[index] = len(self._questions)
        return index

    def questions_at(self, index: int) -> "array[int]":
        """Return the hashes of what each answer of an example was asked, the system left out.

        The last one is of the whole prompt; a text has none.
        """
        start = self._question_ends[index - 1] if index else 0
        return self._questions[start : self._question_ends[index]]

    def remove(
        self, index: int, reason: str, original: int | None = None, score: float = 1.0
    ) -> None:
        """Leave an example out; the first reason stays."""
        if self.removal[index] != KEPT:
            return
        self.removal[index] = self._reason(reason)
        if original is not None:
            self.original[index] = (original, score)

    def original_of(self, index: int) -> tuple[int, float]:
        """Return the kept original of a removed duplicate, and the score.

        Originals that went too are followed. The score is that of the last step: the first one is a
        copy if there are two.
        """
        original, score = self.original[index]
        while original in self.original:
            original, score = self.original[original]
        return original, score

    def reason_of(self, index: int) -> str | None:
        """Return why an example is left out; None if it is kept."""
        return None if self.removal[index] == KEPT else self.reasons[self.removal[index]]

    def kept(self, *, validation: bool) -> list[int]:
        """Return the indices that are kept, of the validation file or of the others."""
        first, end = (0, self.num_validation) if validation else (self.num_validation, len(self))
        return [index for index in range(first, end) if self.removal[index] == KEPT]

    def _add(
        self,
        line: int,
        hashes: list[int],
        tokens: int,
        answer_tokens: int,
        split_key: str,
        reason: str | None,
    ) -> int:
        whole, prompt, answer, rejected, first_prompt = hashes
        index = self.add_parts(prompt, answer, rejected)
        self.lines.append(line)
        self.whole.append(whole)
        self.first_prompt.append(first_prompt)
        self.tokens.append(tokens)
        self.answer_tokens.append(answer_tokens)
        self.split_key.append(self._split_keys.setdefault(split_key, len(self._split_keys)))
        self.removal[index] = self._reason(reason) if reason else KEPT
        self._question_ends.append(len(self._questions))
        return index

    def _reason(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)


def hash_of(text: str) -> int:
    """Return 64 bits, never 0, of this process only: other processes have other ones.

    They are Python's SipHash: two of a million texts collide once in 30 million files.

    >>> hash_of("a") == hash_of("a"), hash_of("a") == hash_of("b")
    (True, False)
    """
    return hash(text) & MASK or 1


def _numbers_in(text: str) -> int:
    """Return a hash of the numbers of a text, with their count in the last byte; 0 of none.

    >>> _numbers_in("7 of 12") & 0xFF, _numbers_in("a-7/12") == _numbers_in("7, 12")
    (2, True)
    """
    numbers = text.encode("ascii", "replace").translate(_DIGITS).split()
    return (hash(tuple(numbers)) << 8 & MASK) | min(len(numbers), 0xFF) if numbers else 0


def _whole(example: Example) -> str:
    """Return a text that two examples share only if they are the same."""
    turns = example.messages
    if example.task != "sft" or example.tools or not turns or any(len(m) != 2 for m in turns):
        return _ENCODE(example.row())
    # Turns of a role and a text: the lengths say where each ends.
    return "".join(f"{m['role']}\x1f{len(m['content'])}\x1f{m['content']}" for m in turns)


def _joined(messages: list[Message]) -> str:
    return "\x1e".join(f"{m['role']}\x1f{content_of(m).strip()}" for m in messages)


def _tools(example: Example) -> str:
    """Return what may be called: another answer is right where another tool is at hand."""
    return json.dumps(example.tools, sort_keys=True) if example.tools else ""


def _questions(asked: list[Message]) -> Iterator[int]:
    """Yield a hash of what was said before each answer, the system's turns left out."""
    turns = [m for m in asked if m["role"] != "system"]
    so_far = blake2b(digest_size=8)
    for at, turn in enumerate(turns):
        said = _joined([turn]).encode("utf-8", "surrogatepass")
        so_far.update(blake2b(said, digest_size=8).digest())
        if at + 1 == len(turns) or turns[at + 1]["role"] == "assistant":
            yield int.from_bytes(so_far.digest(), "little") or 1
