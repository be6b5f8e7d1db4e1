"""What one example says: its texts, their lengths, and which checks they may concern."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

from ft_tools.data.judge import privacy, text_faults
from ft_tools.data.understand.lengths import TOKENS_PER_TURN, estimate_all
from ft_tools.formats.example import Example, Message, content_of, thoughts_of
from ft_tools.formats.trained_pieces import Measured


def text_of(messages: list[Message]) -> str:
    """Return what turns say and think, but the system's: it is shared and would make all alike."""
    turns = [m for m in messages if m["role"] != "system"]
    return "\n".join([*map(content_of, turns), *filter(None, map(thoughts_of, turns))])


def lengths_of(examples: Sequence[Example]) -> list[Measured]:
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
        Measured(asked + max(answered, rejected), max(answered, rejected))
        for asked, answered, rejected in zip(parts, parts, parts, strict=True)
    ]


def telling_words_of(
    example: Example, asked: list[Message], answered: list[Message], said: frozenset[str]
) -> frozenset[str]:
    """Return the telling words of all turns; `said` has those of the prompt and both answers."""
    turns = [*asked, *answered, *example.rejected]
    others = [turn for turn in turns if turn["role"] == "system"]
    if example.task == "sft":
        others += example.messages[len(asked) + len(answered) :]
    return said.union(*(_words_in(content_of(turn)) for turn in others))


@lru_cache(maxsize=16)
def _words_in(text: str) -> frozenset[str]:
    """Return the telling words of what the system says, as a rule the same in many rows."""
    return text_faults.telling_words(text)


def that_may_be_private(examples: Sequence[Example]) -> set[int]:
    """Return quickly which examples could hold a secret or personal data."""
    said = []
    unusual = set()
    for at, example in enumerate(examples):
        turns = [*example.messages, *example.chosen, *example.rejected]
        if example.text is not None or example.tools or any(len(turn) != 2 for turn in turns):
            unusual.add(at)
            turns = []
        # What remains beside what the turns say are the names of their two fields and of roles.
        said.append("\n".join([turn["content"] for turn in turns]))
    return unusual | privacy.that_may_hold(said)
