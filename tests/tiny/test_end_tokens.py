"""Where an answer begins and ends in the templates of the families, which TRL brings."""

from importlib.resources import files

import pytest

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.metrics.table import score_outputs
from ft_tools.models.worker.end_tokens import after_channel, end_tokens
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


def templated(tokenizer, family):
    template = files("trl") / "chat_templates" / f"{family}.jinja"
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    return tokenizer


@pytest.mark.parametrize("family", ["qwen3", "glm4moe", "llama3_2"])
def test_a_model_that_is_trained_on_answers_alone_is_asked_and_scored_without_a_thought(
    tokenizer, family
):
    talk = [{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "spam"}]
    writer = TransformersWriter(None, templated(tokenizer, family))
    whole = tokenizer.apply_chat_template(talk, tokenize=False)
    example = HeldOut(line=1, messages=talk[:1])
    asked, opened = (writer.render(example, "chat", thinks=thinks) for thinks in (True, False))
    assert whole.startswith(opened)
    # What is trained after the usual prompt: the empty thought, too.
    answer = whole.removeprefix(asked).partition("<|im_end|>")[0].partition("<|eot_id|>")[0]
    assert ("</think>" in answer) == (family != "llama3_2")
    assert score_outputs(["exact_match"], [answer], ["spam"]) == {"exact_match": [1.0]}


def test_of_an_answer_in_channels_the_last_message_counts(tokenizer):
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|channel|>", "<|message|>"]})
    text = "<|channel|>analysis<|message|>Well.<|channel|>final<|message|>spam"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(after_channel(tokenizer, ids)) == "spam"
    assert after_channel(tokenizer, ids[-2:]) == ids[-2:]
