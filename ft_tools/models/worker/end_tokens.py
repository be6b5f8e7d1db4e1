"""The tokens that end an answer: of the tokenizer, the model's configs, and the chat template."""

from typing import Any

ANSWER = "ANSWER"


def end_tokens(tokenizer: Any, *configured: Any) -> list[int]:
    """Return every token that ends an answer, the tokenizer's first."""
    found: list[int] = []
    for value in (tokenizer.eos_token_id, *configured, template_end(tokenizer)):
        found += value if isinstance(value, list) else [] if value is None else [value]
    return list(dict.fromkeys(found))


def after_channel(tokenizer: Any, ids: list[int]) -> list[int]:
    """Return the ids of gpt-oss' last message, whose marks decoding would drop; else all.

    Source: https://github.com/openai/harmony, the format's channels.
    """
    added = tokenizer.added_tokens_encoder
    mark = added.get("<|message|>")
    if mark not in ids or "<|channel|>" not in added:
        return ids
    return ids[len(ids) - ids[::-1].index(mark) :]


def template_end(tokenizer: Any) -> int | None:
    """Return the added token that the chat template writes after an answer; some configs lack it.

    None where it writes none (GLM's next role ends a turn), or does not render a short talk.
    """
    if not tokenizer.chat_template:
        return None
    talk = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(talk, tokenize=False))
    except Exception:  # whatever a template refuses, it says nothing about the end then
        return None
    _, answer, rest = text.rpartition(ANSWER)
    if not answer:
        return None
    first: list[int] = tokenizer(rest, add_special_tokens=False)["input_ids"][:1]
    is_added = bool(first) and first[0] in tokenizer.added_tokens_decoder
    return first[0] if is_added else None
