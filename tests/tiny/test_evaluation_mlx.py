"""MLX answers what torch answers: same texts, same grammar, same adapters."""

import copy
import re

import pytest

pytest.importorskip("mlx_lm")

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedTokenizerFast,
    set_seed,
)

from ft_tools.evaluation.systems.grammar import grammar_of
from ft_tools.evaluation.systems.models import LoadPlan
from ft_tools.evaluation.systems.spec import Decoding
from ft_tools.evaluation.worker.mlx_writer import MlxWriter
from tests.tiny.evaluating import IN_FLOAT32, plan_of, writers_of
from tests.tiny.test_training_mlx import CONFIGS, full

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore::FutureWarning")]
ON_MLX = LoadPlan(device="mlx", place="mlx", dtype="float32", num_bytes=0)
BEGIN = "abcdefghijklmnopqrst"
PROMPTS = [f"{BEGIN}{tail}" for tail in ("x", "yz.,", "XYZ!?#%", "0123456789ABCDEFGHIJKLMNOP")]
TOKENS = 10
ENDS = [1, 12, 122, 142]


@pytest.fixture(scope="module")
def tokenizer():
    """Give a token to each letter."""
    letters = {chr(33 + at): 3 + at for at in range(90)}
    words = models.WordLevel({"<pad>": 0, "<eos>": 1, "<bos>": 2} | letters, unk_token="!")
    made = Tokenizer(words)
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


@pytest.fixture(scope="module")
def described(tokenizer, tmp_path_factory):
    """Save models whose texts depend on the whole prompt, and on their generation config."""
    found = {}
    for name, config in CONFIGS.items():
        set_seed(1)
        found[name] = tmp_path_factory.mktemp(name)
        # As transformers starts them, they would repeat the last token.
        spread = copy.deepcopy(config)
        spread.initializer_range, spread.tie_word_embeddings, spread.vocab_size = 0.3, False, 160
        AutoModelForCausalLM.from_config(spread).save_pretrained(found[name])
        tokenizer.save_pretrained(found[name])
        penalty = 1.3 if name == "llama" else None
        config = GenerationConfig(eos_token_id=ENDS, repetition_penalty=penalty)
        config.save_pretrained(found[name])
    return found


def both(folder, adapter=None):
    files = plan_of(folder, adapter)
    return [writers_of(plan, files)[0] for plan in (IN_FLOAT32, ON_MLX)]


@pytest.mark.parametrize("name", ["llama", "gemma3_text", full("qwen3"), full("phi3")])
def test_texts_are_those_of_torch(described, name):
    theirs, ours = both(described[name])
    assert isinstance(ours, MlxWriter)
    wanted = theirs.generate(PROMPTS, TOKENS)
    assert ours.generate(PROMPTS, TOKENS) == wanted
    # Rows differ in length and in their end.
    assert len({output.text for output in wanted}) == len(PROMPTS)
    assert {output.finished for output in wanted} == {True, False}
    assert [ours.generate([prompt], TOKENS)[0] for prompt in PROMPTS] == wanted


def test_a_grammar_constrains_both_alike(tiny_model):
    theirs, ours = both(tiny_model)
    grammar = grammar_of(Decoding(regex="[ab]{3}[0-9]{2}[.]"), None, [])
    wanted = theirs.generate(PROMPTS, TOKENS, grammar)
    assert ours.generate(PROMPTS, TOKENS, grammar) == wanted
    assert all(re.fullmatch("[ab]{3}[0-9]{2}[.]", output.text) for output in wanted)
    assert ours.generate(PROMPTS, TOKENS) != wanted


def test_an_adapter_of_peft_is_loaded_and_the_base_is_below_it(described, tmp_path):
    folder = described["llama"]
    set_seed(3)
    patterns = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}, "use_rslora": True}
    config = LoraConfig(r=4, target_modules="all-linear", **patterns)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    tuned, base = plan_of(folder, tmp_path), plan_of(folder)
    theirs, ours = (writers_of(plan, tuned, base) for plan in (IN_FLOAT32, ON_MLX))
    assert ours[0].model is ours[1].model
    wanted = theirs[0].generate(PROMPTS, TOKENS)
    assert ours[0].generate(PROMPTS, TOKENS) == wanted
    below = ours[1].generate(PROMPTS, TOKENS)
    assert below == theirs[1].generate(PROMPTS, TOKENS)
    assert below != wanted
