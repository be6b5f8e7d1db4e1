"""The tokens that end an answer: of the tokenizer, the model's configs, and the chat template."""

from typing import Any

# Ends of a turn that a template writes and some configs leave out.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>")


def end_tokens(tokenizer: Any, *configured: Any) -> list[int]:
    """Return every token that ends an answer, the tokenizer's first.

    Args:
        tokenizer: Of the model.
        configured: `eos_token_id` of its configs: a token, several, or None.
    """
    found: list[int] = []
    for value in (tokenizer.eos_token_id, *configured):
        found += value if isinstance(value, list) else [] if value is None else [value]
    vocabulary = tokenizer.get_vocab()
    template = str(tokenizer.chat_template or "")
    found += [vocabulary[end] for end in TURN_ENDS if end in vocabulary and end in template]
    return list(dict.fromkeys(found))
