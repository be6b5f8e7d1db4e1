"""What of an example is trained on, piece by piece, for a page that shows it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ft_tools.formats.example import Example

Kind = Literal["context", "trained", "cut"]
"""Read but not trained on; trained on; behind max_length."""
IGNORED = -100
BROKEN = "\ufffd"
# A character of UTF-8 has at most four bytes; a token may hold a single one of them.
MOST_TOKENS_A_CHARACTER = 8


class Measured(NamedTuple):
    """How long an example is, and what counting it showed."""

    whole: int
    """Tokens of all of it; of a pair, of the prompt with its longer answer."""
    answer: int
    """Tokens from where the last answer begins."""
    findings: tuple[str, ...] = ()
    trained: int | None = None
    """Tokens that the loss counts within max_length; None if that was not counted."""


@dataclass(frozen=True)
class Masked:
    """One sequence as a model reads it: pieces of text, and whether each is trained on."""

    name: str
    """Empty, or the side of a pair."""
    pieces: tuple[tuple[str, Kind], ...]


def no_masks(_: Example) -> list[Masked]:
    """Return nothing: without a model it is not known what is trained on."""
    return []


def pieces_of(
    decode: Callable[[list[int]], str], ids: Sequence[int], labels: Sequence[int], max_length: int
) -> tuple[tuple[str, Kind], ...]:
    r"""Cut a sequence into its tokens; those that only together make a character stay together.

    Args:
        decode: Turns token ids into text.
        ids: The sequence.
        labels: As long; -100 where the loss does not count.
        max_length: Tokens the sequence is cut at.

    >>> spell = {1: "Hi", 2: "\ufffd", 3: "!"}
    >>> decode = lambda ids: "\u00e9" if ids == [2, 2] else "".join(spell[i] for i in ids)
    >>> pieces_of(decode, [1, 2, 2, 3], [-100, 2, 2, 3], 3) == (
    ...     ("Hi", "context"), ("\u00e9", "trained"), ("!", "cut"))
    True
    """
    pieces: list[tuple[str, Kind]] = []
    at = 0
    while at < len(ids):
        end = at + 1
        text = decode(list(ids[at:end]))
        while BROKEN in text and end < min(len(ids), at + MOST_TOKENS_A_CHARACTER):
            end += 1
            text = decode(list(ids[at:end]))
        if BROKEN in text:
            # No character came of it: show the first token alone.
            end, text = at + 1, BROKEN
        elif at:
            # Decoders of SentencePiece take the blank from what they take for a beginning.
            before, here = list(ids[at - 1 : at]), list(ids[at:end])
            if decode([*before, *here]) == f"{decode(before)} {text}":
                text = f" {text}"
        kind: Kind = "context" if labels[at] == IGNORED else "trained"
        pieces.append((text, "cut" if at >= max_length else kind))
        at = end
    return tuple(pieces)
