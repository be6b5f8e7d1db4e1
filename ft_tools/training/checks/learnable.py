"""Whether there is something to learn in tokenized examples, and whether their answers end."""

from collections.abc import Sequence

from ft_tools.formats.masking import TokenizedSequence, ends_its_answer
from ft_tools.training.findings import refusal
from ft_tools.training.token_counts import DataReport

SPLITS = "bfd_split"
"""The packing strategy that loses nothing of a long sequence."""
PACKED = 1000
"""Sequences that are packed together: a batch of datasets' `map`."""


class Tally:
    """What is counted of one file's sequences as they are tokenized."""

    def __init__(self, max_length: int | None = None) -> None:
        self.max_length = max_length
        self.uncut: list[tuple[int, int]] = []
        """(tokens, trained tokens) of each sequence, before it is cut."""
        self.left: list[tuple[int, int]] = []
        """The same of those with something to learn, cut."""
        self.num_truncated = 0

    def add(self, tokens: int, trained: int, trained_left: int | None = None) -> bool:
        """Count a sequence, and return whether anything of it is left to learn.

        Of an answer at the end what is cut is missing; others say what is left of them.
        """
        self.uncut.append((tokens, trained))
        cut = max(0, tokens - self.max_length) if self.max_length else 0
        left = trained - cut if trained_left is None else trained_left
        if left > 0:
            self.left.append((tokens - cut, left))
            self.num_truncated += cut > 0
        return left > 0

    def report(
        self, num_examples: int, num_sequences: int | None = None, num_prompt_drifts: int = 0
    ) -> DataReport:
        """Return the counts of a file with so many lines; by default every sequence was added."""
        found = len(self.uncut) if num_sequences is None else num_sequences
        return DataReport(
            num_examples=num_examples,
            num_sequences=found,
            num_truncated=self.num_truncated,
            num_dropped=found - len(self.left),
            num_tokens=sum(tokens for tokens, _ in self.left),
            num_trained_tokens=sum(trained for _, trained in self.left),
            num_prompt_drifts=num_prompt_drifts,
        )


def count_prompts(lengths: Sequence[int]) -> DataReport:
    """Count prompts of so many tokens, to which the model writes the answers itself."""
    number = len(lengths)
    return DataReport(
        num_examples=number, num_sequences=number, num_truncated=0, num_dropped=0,
        num_tokens=sum(lengths), num_trained_tokens=0,
    )  # fmt: skip


def require_learnable(
    path: str, tally: Tally, kept: Sequence[TokenizedSequence], ends: set[int]
) -> None:
    """Refuse to train on nothing, or on answers that never end."""
    if not kept:
        sizes = {"sequences": len(tally.uncut), "length": tally.max_length}
        raise refusal("nothing_to_learn", path=path, **sizes)
    whole = [one for one in kept if len(one.input_ids) != tally.max_length]
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
