"""Which tokens are trained on, against masks written by hand for six chat templates."""

import re

import pytest
from jinja2 import Environment

from ft_tools.formats.masking import (
    IGNORED,
    TokenizedSequence,
    ends_its_answer,
    tokenize_chat,
    tokenize_text,
    truncate,
)

CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin|>{% for m in messages %}<|head|>{{ m.role }}<|/head|>\n\n{{ m.content }}<|eot|>"
    "{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
MISTRAL = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
GEMMA = (
    "<bos>{% for m in messages %}<sot>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content }}<eot>\n{% endfor %}{% if add_generation_prompt %}<sot>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}<|endoftext|>{% endif %}"
)
# Like Qwen3: the empty thought is put before the last answer only.
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think></think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Template -> trained stretches of each sequence, written by hand.
EXPECTED = {
    "chatml": (CHATML, [["two<|im_end|>\n", "four<|im_end|>\n"]]),
    "llama3": (LLAMA3, [["two<|eot|>", "four<|eot|>"]]),
    "mistral": (MISTRAL, [[" two</s>", " four</s>"]]),
    "gemma": (GEMMA, [["two<eot>\n", "four<eot>\n"]]),
    "phi": (PHI, [["two<|end|>\n<|endoftext|>"], ["four<|end|>\n<|endoftext|>"]]),
    "thinking": (
        THINKING,
        [["<think></think>two<|im_end|>\n"], ["<think></think>four<|im_end|>\n"]],
    ),
}


class Words:
    """A tokenizer with a token for each marker, word and blank."""

    def __init__(self, template):
        self.template = Environment().from_string(template)
        self.texts = []

    def encode(self, text):
        pieces = re.findall(r"<[^>]*>|\[/?INST\]|\w+|\s|.", text)
        for piece in pieces:
            if piece not in self.texts:
                self.texts.append(piece)
        return [self.texts.index(piece) for piece in pieces]

    def render(self, messages, opens):
        return self.encode(self.template.render(messages=messages, add_generation_prompt=opens))

    def trained(self, one):
        stretches, current = [], ""
        for token, label in zip(one.input_ids, one.labels, strict=True):
            assert label in {token, IGNORED}
            if label != IGNORED:
                current += self.texts[token]
            elif current:
                stretches.append(current)
                current = ""
        return [*stretches, current] if current else stretches


@pytest.mark.parametrize("name", EXPECTED)
def test_the_answers_and_their_ends_are_trained_and_nothing_else(name):
    template, expected = EXPECTED[name]
    words = Words(template)
    made = tokenize_chat(words.render, CHAT)
    assert [words.trained(one) for one in made] == expected
    ends = {i for i, text in enumerate(words.texts) if text.startswith("<") and "end" in text}
    ends |= {i for i, text in enumerate(words.texts) if text in {"<|eot|>", "</s>", "<eot>"}}
    assert all(ends_its_answer(one, ends) for one in made)


@pytest.mark.parametrize(
    ("messages", "arguments", "trained"),
    [
        # A prompt is not trained, even if it has answers, nor one before any question.
        (CHAT, {"first_answer": 3}, ["four<|im_end|>\n"]),
        ([CHAT[1], *CHAT[2:]], {}, ["four<|im_end|>\n"]),
        (CHAT[:2], {"loss_on": "everything"},
         ["<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"]),
    ],
)  # fmt: skip
def test_only_what_is_asked_for_is_trained(messages, arguments, trained):
    words = Words(CHATML)
    (one,) = tokenize_chat(words.render, messages, **arguments)
    assert words.trained(one) == trained


def test_plain_text_ends_with_the_end_token_which_is_trained():
    words = Words("")
    one = tokenize_text(words.encode, "one ", "two", "<end>")
    assert words.trained(one) == ["two<end>"]
    assert tokenize_text(words.encode, "one ", "two<end>", "<end>") == one
    assert words.trained(tokenize_text(words.encode, "", "one two", "<end>")) == ["one two<end>"]


def test_a_prompt_that_merges_with_its_answer_is_noticed():
    words = Words("")
    one = tokenize_text(words.encode, "on", "e two", "<end>")
    assert (one.prompt_drifts, words.trained(one)) == (True, ["one two<end>"])


def test_truncation_keeps_the_start_and_a_missing_end_token_is_noticed():
    one = TokenizedSequence([1, 2, 3, 9], [IGNORED, IGNORED, 3, 9])
    assert truncate(one, 4) is truncate(one, None) is one
    assert [truncate(one, length).num_trained for length in (3, 2)] == [1, 0]
    assert ends_its_answer(one, {9})
    assert not ends_its_answer(one, {1})
