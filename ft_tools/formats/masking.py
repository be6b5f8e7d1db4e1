"""Turn examples into tokens and labels: what is trained on, decided by position, not by token.

A label is the token itself where the loss counts and -100 where it does not. Positions come from
rendering the conversation up to each turn, so no template needs `{% generation %}` marks, and a
tokenizer whose padding token is its end token (SmolLM2, Qwen) keeps the end in the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ft_tools.formats.formats import num_shared
from ft_tools.formats.trl_formats import Example, Format

IGNORED = -100
Messages = list[dict[str, Any]]
LossOn = Literal["answers", "everything"]
Render = Callable[[Messages, bool], list[int]]
"""Messages, and whether to open the assistant's turn at the end -> token ids."""
TAIL = 4
"""Tokens at the end of an answer among which its end-of-turn token must be."""


@dataclass(frozen=True)
class TokenizedSequence:
    """One training sequence; `labels` is as long as `input_ids`."""

    input_ids: list[int]
    labels: list[int]
    prompt_drifts: bool = False
    """Whether the prompt alone is rendered differently from the prompt inside the example."""

    @property
    def num_trained(self) -> int:
        """Return how many tokens the loss counts."""
        return sum(label != IGNORED for label in self.labels)


def tokenize_chat(
    render: Render, messages: Messages, first_answer: int = 0, loss_on: LossOn = "answers"
) -> list[TokenizedSequence]:
    """Tokenize a conversation and mark its answers.

    One sequence, if each prefix of the conversation is rendered as it is inside the whole. Where a
    template renders a turn differently once others follow (it may drop earlier reasoning), one
    sequence an answer, each as the model meets it.
    """
    whole = render(messages, False)
    if loss_on == "everything":
        return [TokenizedSequence(whole, list(whole))]
    answers = [
        i for i, m in enumerate(messages) if m["role"] == "assistant" and i >= max(first_answer, 1)
    ]
    labels = [IGNORED] * len(whole)
    for i in answers:
        before = render(messages[:i], True)
        after = whole if i + 1 == len(messages) else render(messages[: i + 1], False)
        if whole[: len(after)] != after or after[: len(before)] != before:
            return [_one_answer(render, messages[: j + 1]) for j in answers]
        labels[len(before) : len(after)] = after[len(before) :]
    return [TokenizedSequence(whole, labels)]


def tokenize_text(
    encode: Callable[[str], list[int]], prompt: str, completion: str, end: str
) -> TokenizedSequence:
    """Tokenize a prompt and a completion of plain text; the end token is appended and trained."""
    complete = completion if completion.endswith(end) else completion + end
    whole = encode(prompt + complete)
    before = encode(prompt) if prompt else []
    start = num_shared(before, whole)
    labels = [IGNORED] * start + whole[start:]
    return TokenizedSequence(whole, labels, prompt_drifts=start < len(before))


def tokenize_example(
    example: Example,
    form: Format,
    *,
    render: Callable[[Example], Render],
    encode: Callable[[str], list[int]],
    end: str,
    loss_on: LossOn,
) -> list[TokenizedSequence]:
    """Tokenize an SFT example of any format."""
    if form == "text":
        return [tokenize_text(encode, "", example["text"], end)]
    if form == "prompt_completion_text":
        one = tokenize_text(encode, example["prompt"], example["completion"], end)
        if loss_on == "everything":
            one = TokenizedSequence(one.input_ids, list(one.input_ids))
        return [one]
    if form == "prompt_completion_messages":
        prompt: Messages = example["prompt"]
        whole = prompt + example["completion"]
        return tokenize_chat(render(example), whole, len(prompt), loss_on)
    return tokenize_chat(render(example), example["messages"], 0, loss_on)


def truncate(one: TokenizedSequence, max_length: int | None) -> TokenizedSequence:
    """Keep the first `max_length` tokens, as TRL's `keep_start` does."""
    if max_length is None or len(one.input_ids) <= max_length:
        return one
    return TokenizedSequence(one.input_ids[:max_length], one.labels[:max_length], one.prompt_drifts)


def ends_its_answer(one: TokenizedSequence, end_ids: set[int]) -> bool:
    """Return whether an end-of-turn token is trained at the end of the last answer.

    Without it the loss falls as usual and the model never learns to stop.
    """
    trained = [label for label in one.labels if label != IGNORED]
    return bool(end_ids.intersection(trained[-TAIL:]))


def _one_answer(render: Render, messages: Messages) -> TokenizedSequence:
    whole = render(messages, False)
    before = render(messages[:-1], True)
    start = num_shared(before, whole)
    labels = [IGNORED] * start + whole[start:]
    return TokenizedSequence(whole, labels, prompt_drifts=start < len(before))


class MeasuredExample(NamedTuple):
    """How long an example is, and what counting it showed."""

    whole: int
    """Tokens of all of it; of a pair, of the prompt with its longer answer."""
    answer: int
    """Tokens from where the last answer begins."""
    findings: tuple[str, ...] = ()
    trained: int | None = None
    """Tokens that the loss counts within max_length; None if that was not counted."""
