"""Our decoding loop against the library's own, one prompt at a time, on several architectures."""

import pytest
import torch
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Mamba2Config,
    Mamba2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from ft_tools.evaluation.worker import decoding

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore::FutureWarning")]

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NEW = 14


def llama():
    return LlamaForCausalLM(LlamaConfig(**SHAPE))


def windowed():
    return MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=8))


def running_state():
    sizes = {"num_heads": 8, "head_dim": 16, "state_size": 16, "n_groups": 1, "chunk_size": 16}
    config = Mamba2Config(
        vocab_size=300, hidden_size=64, num_hidden_layers=2, initializer_range=0.4, **sizes
    )
    return Mamba2ForCausalLM(config)


@pytest.fixture(params=[llama, windowed, running_state])
def model(request):
    torch.manual_seed(3)
    return request.param().eval()


def prompts():
    """Give prompts of unequal length with 20 tokens in common."""
    torch.manual_seed(4)
    shared = torch.randint(10, 300, (20,)).tolist()
    return [shared + torch.randint(10, 300, (n,)).tolist() for n in (3, 9, 1, 6, 6)]


@torch.inference_mode()
def by_the_library(model, row, ends):
    config = GenerationConfig(
        do_sample=False, max_new_tokens=NEW, eos_token_id=ends or None, pad_token_id=0
    )
    ids = torch.tensor([row])
    made = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=config
    )
    return made[0, len(row) :].tolist()


def until_end(row, ends):
    return row[: next((i + 1 for i, token in enumerate(row) if token in ends), len(row))]


@torch.inference_mode()
def test_a_batch_is_what_the_library_makes_of_each_prompt_alone(model):
    rows = prompts()
    free = [by_the_library(model, row, []) for row in rows]
    assert len({tuple(row) for row in free}) > 1
    # Tokens that come at different places make rows end at different times, some never.
    ends = [free[0][2], free[1][5]]
    alone = [by_the_library(model, row, ends) for row in rows]
    assert len({len(row) for row in alone}) > 1
    together = decoding.decode(model, rows, NEW, ends)
    assert [until_end(row, ends) for row in together] == alone


@torch.inference_mode()
def test_ended_rows_leave_the_batch_and_a_shared_beginning_is_read_once():
    torch.manual_seed(3)
    model = llama().eval()
    rows = prompts()
    ends = [by_the_library(model, rows[0], [])[2]]
    lengths = [len(by_the_library(model, row, ends)) for row in rows]
    seen = []
    model.register_forward_pre_hook(
        lambda _, __, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    decoding.decode(model, rows, NEW, ends)
    assert seen[0] == (1, 20)
    assert seen[1] == (5, 9)
    alive = [sum(length > step for length in lengths) for step in range(1, max(lengths))]
    assert [shape[0] for shape in seen[2:]] == alive
    assert all(shape[1] == 1 for shape in seen[2:])
