"""What one example says: its texts, and their lengths."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from ft_tools.data.understand.lengths import TOKENS_PER_TURN, estimate_all
from ft_tools.formats.example import Example, Message, content_of, thoughts_of
from ft_tools.formats.masking import MeasuredExample


def text_of(messages: list[Message]) -> str:
    """Return what turns say and think, but the system's: it is shared and would make all alike."""
    turns = [m for m in messages if m["role"] != "system"]
    return "\n".join([*map(content_of, turns), *filter(None, map(thoughts_of, turns))])


def lengths_of(examples: Sequence[Example]) -> list[MeasuredExample]:
    """Estimate the tokens of examples from their characters."""
    texts: list[str] = []
    ends, marks = [0], []
    for example in examples:
        for turns in (*example.prompt_and_answer(), example.rejected):
            texts += map(content_of, turns)
            texts += filter(None, map(thoughts_of, turns))
            ends.append(len(texts))
            # A text is in no template.
            marks.append(TOKENS_PER_TURN * len(turns) if example.text is None else 0)
    up_to = [0, *accumulate(estimate_all(texts))]
    spans = zip(pairwise(ends), marks, strict=True)
    parts = iter([up_to[end] - up_to[start] + around for (start, end), around in spans])
    return [
        MeasuredExample(asked + max(answered, rejected), max(answered, rejected))
        for asked, answered, rejected in zip(parts, parts, parts, strict=True)
    ]
