"""What one example says: its texts, their lengths, and which checks they may concern."""

from functools import lru_cache

from ft_tools.data.judge import privacy, text_faults
from ft_tools.data.repeats.words import tokens_of
from ft_tools.data.understand.lengths import TOKENS_PER_TURN, estimate_tokens
from ft_tools.examples.example import Example, Message, content_of, thoughts_of
from ft_tools.examples.trained_pieces import Measured


def text_of(messages: list[Message]) -> str:
    """Return what turns say and think, but the system's: it is shared and would make all alike."""
    turns = [m for m in messages if m["role"] != "system"]
    return "\n".join([*map(content_of, turns), *filter(None, map(thoughts_of, turns))])


def lengths_of(example: Example) -> Measured:
    """Estimate the tokens of an example from its characters."""
    asked, answered = example.prompt_and_answer()
    if example.text is not None:
        count = estimate_tokens(example.text)
        return Measured(count, count)
    answer = max(_estimate(answered), _estimate(example.rejected))
    return Measured(_estimate(asked) + answer, answer)


def _estimate(messages: list[Message]) -> int:
    texts = [*map(content_of, messages), *filter(None, map(thoughts_of, messages))]
    return sum(map(estimate_tokens, texts)) + TOKENS_PER_TURN * len(messages)


def telling_words_of(
    example: Example, asked: list[Message], answered: list[Message], words: list[list[str]]
) -> frozenset[str]:
    """Return the telling words of all turns; `words` has those of the prompt and both answers."""
    turns = [*asked, *answered, *example.rejected]
    others = [turn for turn in turns if turn["role"] == "system"]
    if example.task == "sft":
        others += example.messages[len(asked) + len(answered) :]
    found = text_faults.telling_words(*words)
    return found.union(*(_words_in(content_of(turn)) for turn in others))


@lru_cache(maxsize=16)
def _words_in(text: str) -> frozenset[str]:
    """Return the telling words of what the system says, as a rule the same in many rows."""
    return text_faults.telling_words(tokens_of(text))


def may_be_private(example: Example) -> bool:
    """Tell quickly whether an example could hold a secret or personal data."""
    turns = [*example.messages, *example.chosen, *example.rejected]
    if example.text is not None or example.tools or any(len(turn) != 2 for turn in turns):
        return True
    # What remains beside what the turns say are the names of their two fields and of roles.
    return privacy.may_hold("\n".join([turn["content"] for turn in turns]))
