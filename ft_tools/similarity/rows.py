"""The rows that are compared: hashes of their parts, words as numbers, which go, what is linked.

Flat arrays, without numpy until something is compared; the texts themselves are not kept.
"""

from array import array
from typing import TYPE_CHECKING

from ft_tools.similarity.links import Links
from ft_tools.similarity.words import KEPT, MAX_WORDS, NUM_PARTS, PROMPT

if TYPE_CHECKING:
    from ft_tools.similarity.word_hashes import Tokens, WordNumbers
    from ft_tools.similarity.word_pairs import WordPairs

PART_KINDS = bytes(part == PROMPT for part in range(NUM_PARTS))
# About 200 MB of English. Each takes 4 bytes, and some 40 more while it is searched.
MAX_HELD_WORDS = 1 << 25


class Rows:
    """Rows to compare, by index, those of a validation file first."""

    def __init__(self, *, with_pairs: bool) -> None:
        """Make none; with pairs, their words are remembered for the search by words."""
        self.prompt = array("Q")
        self.answer = array("Q")
        self.rejected = array("Q")
        """Hashes of the whole parts; 0 where there is none."""
        self.label = array("b")
        """Of an answer marked good (1) or bad (0), else -1; rows with different ones are not near,
        unless one is of the validation file."""
        self.numbers = array("Q"), array("Q")
        """What numbers stand in the prompt and in the answer: a hash above their count (a byte)."""
        self.removal = array("B")
        """`KEPT`, or why a row is left out."""
        self.links = Links()
        """Rows that stay on one side of the split."""
        self.num_validation = 0
        self._held = array("I")
        """The words of each part of each row, one after another."""
        self._held_ends = array("Q")
        self._paired: WordPairs | None = None
        self.num_paired = 0
        """Rows whose words are held: the first ones, all unless `MAX_HELD_WORDS` are."""
        self.num_cut = 0
        """Texts of which only the first `MAX_WORDS` words are."""
        self.with_pairs = with_pairs
        self._numbers: WordNumbers | None = None

    def __len__(self) -> int:
        return len(self.removal)

    def add_parts(self, prompt: int, answer: int = 0, rejected: int = 0) -> int:
        """Add a row by the hashes of its parts; return its index."""
        columns = (self.prompt, self.answer, self.rejected, *self.numbers, self.label, self.removal)
        values = (prompt, answer, rejected, 0, 0, -1, KEPT)
        for column, value in zip(columns, values, strict=True):
            column.append(value)
        return len(self) - 1

    def add_words(self, tokens: "Tokens") -> None:
        """Remember the words of the next examples, while there is room.

        Args:
            tokens: Of the prompt, the answer and the rejected answer of each, empty for rows that
                are none.
        """
        if not self.with_pairs or len(self._held) >= MAX_HELD_WORDS:
            return
        import numpy as np

        from ft_tools.similarity.word_hashes import WordNumbers

        self._numbers = self._numbers or WordNumbers()
        lengths = np.diff(tokens.ends, prepend=0)
        kept = np.minimum(lengths, MAX_WORDS)
        ends = len(self._held) + np.cumsum(kept)
        # The last example may go beyond the bound.
        num = 1 + int(np.searchsorted(ends[NUM_PARTS - 1 :: NUM_PARTS], MAX_HELD_WORDS))
        lengths, kept, ends = (of[: NUM_PARTS * num] for of in (lengths, kept, ends))
        words = tokens.hashes[: lengths.sum()]
        if (kept < lengths).any():
            within = np.arange(len(words)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            words = words[within < MAX_WORDS]
        self._held.frombytes(self._numbers.of(words).tobytes())
        self._held_ends.frombytes(ends.astype(np.uint64).tobytes())
        self.num_cut += int((kept < lengths).sum())
        self.num_paired = len(self._held_ends) // NUM_PARTS

    @property
    def pairs(self) -> "WordPairs":
        """The pairs of neighbouring words, text `NUM_PARTS * index + part`, prompts apart."""
        num_texts = NUM_PARTS * len(self)
        if self._paired is None or self._paired.num_texts != num_texts:
            # numpy comes with it, which tools that compare nothing do without.
            from ft_tools.similarity.word_pairs import WordPairs

            rest = array("Q", [len(self._held)]) * (num_texts - len(self._held_ends))
            self._paired = WordPairs(self._held, self._held_ends + rest, PART_KINDS * len(self))
        return self._paired

    def prompt_words_at(self, index: int) -> "array[int]":
        """Return the words of an example's prompt as numbers; none if they were not remembered."""
        if index >= self.num_paired:
            return array("I")
        at = NUM_PARTS * index + PROMPT
        return self._held[self._held_ends[at - 1] if at else 0 : self._held_ends[at]]

    def differ_in_numbers(self, index: int, other: int) -> bool:
        """Return whether both the questions and the answers of two examples have other numbers.

        As many in each, in the same places: what is asked has another result.
        """
        pairs = [(column[index], column[other]) for column in self.numbers]
        return all(one != two and one & 0xFF == two & 0xFF for one, two in pairs)

    def link(self, index: int, other: int) -> None:
        """Keep two examples on one side of the split: their prompts are near."""
        self.links.link(index, other)

    def linked(self, index: int) -> int:
        """Return the first example that a chain of links connects with this one, or itself."""
        return self.links.linked(index)
