"""What is remembered of each example: hashes, word pairs, lengths and its fate, in flat arrays.

The texts themselves are not kept; writing the cleaned files reads the input again. One example
takes about 80 bytes and 8 for each of its word pairs.
"""

import hashlib
import json
import re
from array import array
from collections import defaultdict
from itertools import pairwise

from ft_tools.data.example import Example, Message, content_of

# A word, or one character of a script without spaces.
WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
ANSWER_BIT = 1 << 63
KEPT = 0
MAX_PAIRS = 4000


class Ledger:
    """The examples of an audit, by index: those of the validation file first, then the others."""

    def __init__(self, *, with_pairs: bool) -> None:
        self.lines = array("Q")
        self.whole = array("Q")
        self.prompt = array("Q")
        self.answer = array("Q")
        self.first_prompt = array("Q")
        self.tokens = array("L")
        self.answer_tokens = array("L")
        self.stratum = array("L")
        self.fate = array("B")
        """Index into `reasons`: why it is left out; 0 is kept."""
        self.reasons: list[str] = ["kept"]
        self.twin: dict[int, tuple[int, float]] = {}
        """Of a removed duplicate: the kept index and the score."""
        self._links: dict[int, int] = {}
        self.num_validation = 0
        self.pairs = array("Q")
        """Word pairs of each example, sorted, one after another; answers carry ANSWER_BIT."""
        self.pair_ends = array("Q")
        self._with_pairs = with_pairs
        self._words: dict[str, int] = defaultdict(lambda: len(self._words) + 1)
        self._strata: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.lines)

    def add_unread(self, line: int, reason: str) -> int:
        """Add a row that is no example; return its index."""
        return self._add(line, [0, 0, 0, 0], 0, 0, "", reason)

    def add(self, example: Example, lengths: tuple[int, int], stratum: str) -> int:
        """Add an example with its (whole, answer) tokens; return its index."""
        asked, answered = example.prompt_and_answer()
        first = next((content_of(m) for m in asked if m["role"] == "user"), "")
        hashes = [
            hash_of(json.dumps(example.row(), sort_keys=True)),
            hash_of(_joined(asked)) if asked else 0,
            hash_of(_joined(answered)),
            hash_of(first.strip()) if first else 0,
        ]
        index = self._add(example.line, hashes, *lengths, stratum, None)
        return index

    def add_pairs(self, prompt: str, answer: str) -> None:
        """Remember the word pairs of the example that was added last."""
        if self._with_pairs:
            self.pairs.extend(sorted(self._pairs_of(prompt)))
            self.pairs.extend(sorted(pair | ANSWER_BIT for pair in self._pairs_of(answer)))
            self.pair_ends[-1] = len(self.pairs)

    def pairs_at(self, index: int) -> "array[int]":
        """Return the word pairs of an example."""
        start = self.pair_ends[index - 1] if index else 0
        return self.pairs[start : self.pair_ends[index]]

    def remove(self, index: int, reason: str, twin: int | None = None, score: float = 1.0) -> None:
        """Leave an example out; the first reason stays."""
        if self.fate[index] != KEPT:
            return
        self.fate[index] = self._reason(reason)
        if twin is not None:
            self.twin[index] = (twin, score)

    def link(self, index: int, other: int) -> None:
        """Keep two examples on one side of the split: their prompts are near."""
        one, two = self.linked(index), self.linked(other)
        if one != two:
            self._links[max(one, two)] = min(one, two)

    def linked(self, index: int) -> int:
        """Return the first example that a chain of links connects with this one, or itself."""
        root = index
        while root in self._links:
            root = self._links[root]
        while index != root:
            self._links[index], index = root, self._links[index]
        return root

    def twin_of(self, index: int) -> tuple[int, float]:
        """Return the kept twin of a removed duplicate, through twins that went too, and the score.

        The score is that of the last step: the first one is a copy if there are two.
        """
        twin, score = self.twin[index]
        while twin in self.twin:
            twin, score = self.twin[twin]
        return twin, score

    def reason_of(self, index: int) -> str | None:
        """Return why an example is left out; None if it is kept."""
        return None if self.fate[index] == KEPT else self.reasons[self.fate[index]]

    def kept(self, *, validation: bool) -> list[int]:
        """Return the indices that are kept, of the validation file or of the others."""
        part = (
            range(self.num_validation)
            if validation
            else range(self.num_validation, len(self.lines))
        )
        return [index for index in part if self.fate[index] == KEPT]

    def _add(
        self,
        line: int,
        hashes: list[int],
        tokens: int,
        answer_tokens: int,
        stratum: str,
        reason: str | None,
    ) -> int:
        self.lines.append(line)
        for column, value in zip(
            (self.whole, self.prompt, self.answer, self.first_prompt), hashes, strict=True
        ):
            column.append(value)
        self.tokens.append(tokens)
        self.answer_tokens.append(answer_tokens)
        self.stratum.append(self._strata.setdefault(stratum, len(self._strata)))
        self.fate.append(self._reason(reason) if reason else KEPT)
        self.pair_ends.append(len(self.pairs))
        return len(self.lines) - 1

    def _reason(self, reason: str) -> int:
        if reason not in self.reasons:
            self.reasons.append(reason)
        return self.reasons.index(reason)

    def _pairs_of(self, text: str) -> set[int]:
        """Return the pairs of neighbouring words, as numbers; one word alone is its own pair."""
        words = [self._words[word] for word in WORDS.findall(text.casefold())[:MAX_PAIRS]]
        if len(words) == 1:
            return {words[0]}
        return {(a << 31) | b for a, b in pairwise(words)}


def hash_of(text: str) -> int:
    """Return 64 bits of BLAKE2b, never 0: two of a million texts collide once in 30 million files.

    >>> hash_of("a") == hash_of("a"), hash_of("a") == hash_of("b")
    (True, False)
    """
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def _joined(messages: list[Message]) -> str:
    return "\x1e".join(f"{m['role']}\x1f{content_of(m).strip()}" for m in messages)
