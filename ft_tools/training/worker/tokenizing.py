"""Examples as tokens, by the model's tokenizer and template: for the plan's counts and the run.

Imports no torch: the process that counts for a plan does without.
"""

import contextlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError

from ft_tools.formats.formats import num_shared
from ft_tools.formats.masking import (
    LossOn,
    Messages,
    Render,
    TokenizedSequence,
    tokenize_example,
    truncate,
)
from ft_tools.formats.training_rows import DatasetFacts, tools_of
from ft_tools.formats.trl_formats import Example
from ft_tools.training.checks.learnable import SPLITS, Tally, require_learnable
from ft_tools.training.findings import refusal
from ft_tools.training.grpo.prompts import asked_of


def supervised(
    tokenizer: Any,
    facts: DatasetFacts,
    rows: Iterable[tuple[int, Example]],
    loss_on: LossOn,
    cut: tuple[int | None, str],
) -> tuple[list[TokenizedSequence], Tally]:
    """Return the sequences of supervised examples with something to learn, cut, and the counts.

    `rows` are lines with their examples; `cut` is the length, and the strategy of packing, which
    may split long sequences and keep their rest.

    Raises:
        Refused: Nothing is left to learn, the answers do not end, or the template refuses one.
    """
    tally, kept = Tally(None if cut[1] == SPLITS else cut[0]), []
    for line, example in rows:
        with refused_by_template(f"{facts.path}:{line}", example):
            found = tokenize_example(
                example,
                facts.format,
                render=partial(renderer, tokenizer),
                encode=partial(encoded, tokenizer),
                end=tokenizer.eos_token or "",
                loss_on=loss_on,
            )
        for one in found:
            short = truncate(one, tally.max_length)
            if tally.add(len(one.input_ids), one.num_trained, short.num_trained):
                kept.append(short)
    require_learnable(facts.path, tally, kept, end_ids(tokenizer))
    return kept, tally


def prompt_and_answers(tokenizer: Any, facts: DatasetFacts, example: Example) -> list[list[int]]:
    """Return a prompt, and the prompt with each of its answers, as TRL's trainers tokenize them."""
    names = ("completion",) if "completion" in example else ("chosen", "rejected")
    answers, asked = [example[name] for name in names], example.get("prompt")
    if facts.format in {"pairs_text", "marks_text"}:
        # TRL closes an answer in plain text itself.
        end = tokenizer.eos_token or ""
        wholes = [asked + answer.removesuffix(end) + end for answer in answers]
        return [encoded(tokenizer, text) for text in (asked, *wholes)]
    if asked is None:
        chosen, rejected = answers
        shared = num_shared(chosen[:-1], rejected[:-1])
        asked, answers = chosen[:shared], [chosen[shared:], rejected[shared:]]
    render = renderer(tokenizer, example)
    return [render(asked, True), *(render(asked + answer, False) for answer in answers)]


def prompt_ids(tokenizer: Any, example: Example) -> list[int]:
    """Return a prompt that is answered by the model, as GRPOTrainer tokenizes it."""
    asked = asked_of(example)
    if isinstance(asked, str):
        return encoded(tokenizer, asked)
    return renderer(tokenizer, {})(asked, True)


def encoded(tokenizer: Any, text: str) -> list[int]:
    """Tokenize plain text, with the special tokens that the tokenizer adds."""
    return list(tokenizer(text)["input_ids"])


def renderer(tokenizer: Any, example: Example) -> Render:
    """Return the function that applies the chat template to an example's messages."""
    tools = tools_of(example)

    def render(messages: Messages, opens: bool) -> list[int]:
        ids = tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=opens, tokenize=True, return_dict=False
        )
        return list(ids)

    return render


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the special tokens."""
    added = tokenizer.added_tokens_decoder.items()
    return {i for i, token in added if token.special} | set(tokenizer.all_special_ids)


def end_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the tokens that may end an answer: all special ones but the start."""
    return special_ids(tokenizer) - ({tokenizer.bos_token_id} - {tokenizer.eos_token_id})


@contextlib.contextmanager
def refused_by_template(where: str, example: Example) -> Iterator[None]:
    """Turn a template's error into the refusal of an example, `where` it is.

    The template's own words stay unsaid: they are those of whoever made the model.
    """
    try:
        yield
    except TemplateSyntaxError as error:
        raise refusal("template_syntax", line=error.lineno) from None
    except TemplateError:
        fields = ("messages", "prompt", "completion", "chosen", "rejected")
        given = [turn for name in fields for turn in example.get(name) or ()]
        turns = [turn for turn in given if isinstance(turn, dict)]
        row = "template_rejects"
        if any(turn["role"] in {"system", "developer"} for turn in turns):
            row = "template_rejects_system"
        elif any(turn.get("tool_calls") or turn["role"] == "tool" for turn in turns):
            row = "template_rejects_tools"
        raise refusal(row, where=where) from None
