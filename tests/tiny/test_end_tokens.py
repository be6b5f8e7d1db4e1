"""The token that ends an answer is found in the templates of the families, which TRL brings."""

from importlib.resources import files

import pytest

from ft_tools.models.worker.end_tokens import end_tokens
from tests.tiny.conftest import make_tokenizer

pytestmark = pytest.mark.tiny
EXPECTED = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "gemma3": "<end_of_turn>",
    "gemma4_v5": "<turn|>",
    "glm4moe": None,
    "gptoss": "<|return|>",
    "llama3_2": "<|eot_id|>",
    "muse_glimmer": "<|eot|>",
    "nemotron_3_nano": "<|im_end|>",
    "phi3": "<|end|>",
    "qwen3_5_think": "<|im_end|>",
}


@pytest.fixture(scope="module")
def tokenizer():
    found = make_tokenizer()
    ends = sorted({end for end in EXPECTED.values() if end})
    found.add_special_tokens({"additional_special_tokens": ends})
    found.eos_token = "<|endoftext|>"
    return found


@pytest.mark.parametrize("family", EXPECTED)
def test_an_answer_ends_where_the_template_ends_it(tokenizer, family):
    template = files("trl") / "chat_templates" / f"{family}.jinja"
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    ends = tokenizer.convert_ids_to_tokens(end_tokens(tokenizer))
    # Not <|end|> for gpt-oss: it closes the thoughts, and the answer follows.
    assert ends == ["<|endoftext|>", *filter(None, [EXPECTED[family]])]


def test_a_template_that_fails_leaves_the_configured_ends(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('system first') }}"
    assert end_tokens(tokenizer, [7, 9], 7) == [tokenizer.eos_token_id, 7, 9]
