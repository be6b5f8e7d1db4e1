"""Whether there is something to learn in tokenized examples, and whether their answers end."""

from collections.abc import Sequence

from ft_tools.formats.masking import TokenizedSequence, ends_its_answer, truncate
from ft_tools.training.findings import refusal
from ft_tools.training.token_counts import DataReport

SPLITS = "bfd_split"
"""The packing strategy that loses nothing of a long sequence."""
PACKED = 1000
"""Sequences that are packed together: a batch of datasets' `map`."""


class Tally:
    """Count sequences of one file as they are tokenized, and keep those that can be learned."""

    def __init__(self, max_length: int | None, packing: str = "") -> None:
        self.kept: list[TokenizedSequence] = []
        self.num_sequences = 0
        self.num_truncated = 0
        self.lengths: list[tuple[int, int]] = []
        """(tokens, trained tokens) of each sequence, before it is cut."""
        # Packing may split long sequences and keep their rest.
        self._max_length = None if packing == SPLITS else max_length

    def add(self, one: TokenizedSequence) -> None:
        """Cut a sequence to the length and keep it if something is left to learn."""
        self.num_sequences += 1
        self.lengths.append((len(one.input_ids), one.num_trained))
        short = truncate(one, self._max_length)
        self.num_truncated += short is not one
        if short.num_trained:
            self.kept.append(short)

    def report(self, num_examples: int) -> DataReport:
        """Return the counts of a file with so many lines."""
        return DataReport(
            num_examples=num_examples,
            num_sequences=self.num_sequences,
            num_truncated=self.num_truncated,
            num_dropped=self.num_sequences - len(self.kept),
            num_tokens=sum(len(one.input_ids) for one in self.kept),
            num_trained_tokens=sum(one.num_trained for one in self.kept),
            num_prompt_drifts=sum(one.prompt_drifts for one in self.kept),
        )

    def require_learnable(self, path: str, ends: set[int]) -> None:
        """Refuse to train on nothing, or on answers that never end."""
        if not self.kept:
            sizes = {"sequences": self.num_sequences, "length": self._max_length}
            raise refusal("nothing_to_learn", path=path, **sizes)
        whole = [one for one in self.kept if len(one.input_ids) != self._max_length]
        if whole and not any(ends_its_answer(one, ends) for one in whole):
            raise refusal("answers_do_not_end", path=path)


def require_answers(
    path: str, max_length: int | None, answers: Sequence[list[int]], special: set[int]
) -> None:
    """Refuse preferences of which nothing is left, or whose good answers never end.

    Args:
        path: The file, for the message.
        max_length: Where sequences are cut.
        answers: Tokens of the answers that are left, of pairs the chosen ones.
        special: Ids of the special tokens.
    """
    if not answers:
        raise refusal("prompts_fill_length", path=path, length=max_length)
    if not any(special.intersection(answer[-4:]) for answer in answers):
        raise refusal("answers_do_not_end", path=path)


def count_answers(
    task: str, num_examples: int, max_length: int | None, lengths: Sequence[tuple[int, int]]
) -> DataReport:
    """Count what became of a file's preferences.

    `lengths` are (prompt tokens, answer tokens) of what is left; a DPO example has two sequences.
    """
    limit = max_length or max((p + a for p, a in lengths), default=0)
    num_sequences = num_examples * (2 if task == "dpo" else 1)
    return DataReport(
        num_examples=num_examples,
        num_sequences=num_sequences,
        num_truncated=sum(prompt + answer > limit for prompt, answer in lengths),
        num_dropped=num_sequences - len(lengths),
        num_tokens=sum(min(prompt + answer, limit) for prompt, answer in lengths),
        num_trained_tokens=sum(min(answer, limit - prompt) for prompt, answer in lengths),
    )


def packs(lengths: Sequence[int], size: int, packing: str = "bfd") -> int:
    """Return how many packs of `size` tokens hold sequences of these lengths.

    Best fit, longest first, of a thousand sequences at a time, as TRL packs.
    Source: arXiv 2404.10830; TRL 1.16, data_utils.py.

    >>> packs([5, 4, 3, 2, 1], 8), packs([9, 4], 8), packs([9, 4], 8, SPLITS)
    (2, 2, 2)
    """
    batches = [lengths[at : at + PACKED] for at in range(0, len(lengths), PACKED)]
    return sum(_best_fit(batch, size, splits=packing == SPLITS) for batch in batches)


def _best_fit(lengths: Sequence[int], size: int, *, splits: bool) -> int:
    whole = sum(length // size for length in lengths) if splits else 0
    parts = [length % size if splits else min(length, size) for length in lengths]
    # room -> packs with that much room left
    rooms = [0] * (size + 1)
    made = 0
    for length in sorted(filter(None, parts), reverse=True):
        room = next((r for r in range(length, size + 1) if rooms[r]), None)
        if room is None:
            made, room = made + 1, size
        else:
            rooms[room] -= 1
        rooms[room - length] += 1
    return whole + made
