"""Models are loaded in one place, where they fit, and without a second copy in memory."""

import json
import os
import subprocess
import sys

import kernels
import pytest
import torch
from transformers import (
    Gemma3nForCausalLM,
    Gemma3nTextConfig,
    MixtralConfig,
    MixtralForCausalLM,
)

from ft_tools.models.placement import Placement
from ft_tools.models.quantized import NF4, nf4
from ft_tools.models.worker import loading

pytestmark = pytest.mark.tiny


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """Save a model whose experts are files of their own and one parameter once loaded: 170 MB."""
    folder = tmp_path_factory.mktemp("experts")
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 14}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512}
    torch.manual_seed(0)
    config = MixtralConfig(**shape, **heads, num_local_experts=16, num_experts_per_tok=2)
    MixtralForCausalLM(config).bfloat16().save_pretrained(folder)
    return folder


def test_a_card_that_filled_up_meanwhile_is_passed_over():
    tried = []

    def load_at(where):
        tried.append(where.device)
        if where.device == "cuda:0":
            raise torch.OutOfMemoryError("full")
        if where.device == "auto":
            raise RuntimeError("CUDA error: out of memory")
        return "loaded"

    places = [Placement(name, "bfloat16", 1) for name in ("cuda:0", "auto", "cpu")]
    assert loading.load_first(places, load_at) == "loaded"
    assert tried == ["cuda:0", "auto", "cpu"]
    with pytest.raises(RuntimeError, match="out of memory"):
        loading.load_first(places[:2], load_at)
    # The control: what is not memory is not tried elsewhere.
    tried.clear()
    with pytest.raises(ZeroDivisionError):
        loading.load_first(places, lambda where: tried.append(where.device) or 1 / 0)
    assert tried == ["cuda:0"]


def test_experts_are_loaded_without_a_second_copy(experts):
    """Measured in a process of its own; the control loads in float32 and converts."""
    weights = sum(file.stat().st_size for file in experts.glob("*.safetensors"))
    argv = [sys.executable, "-m", "tests.tiny.load_peak", str(experts)]
    # Blocks as large as those of a real model go back to the kernel when they are freed.
    variables = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, env=variables)
    peaks = json.loads(done.stdout)
    assert peaks["ours"] < 1.25 * weights, (peaks, weights)
    assert peaks["converted"] > 2.0 * weights, (peaks, weights)


def test_layers_that_a_class_clamps_itself_stay_whole_in_4_bits(tmp_path):
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": [128, 128]}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}
    shape |= {"vocab_size": 128, "vocab_size_per_layer_input": 128, "laurel_rank": 8}
    shape |= {"hidden_size_per_layer_input": 16, "num_kv_shared_layers": 0}
    shape |= {"activation_sparsity_pattern": [0.0, 0.0], "pad_token_id": 0}
    shape |= {"layer_types": ["sliding_attention", "full_attention"], "altup_coef_clip": 120.0}
    Gemma3nForCausalLM(Gemma3nTextConfig(**shape)).save_pretrained(tmp_path)
    here = Placement("cpu", "float32", 0)
    ids = torch.arange(1, 17)[None]

    def step(quantization):
        model = loading.load(tmp_path, here, quantization=quantization).train()
        return model, model(input_ids=ids, labels=ids).loss.item()

    with pytest.raises(RuntimeError):
        step(NF4)
    model, loss = step(nf4("gemma3n_text"))
    assert 4 < loss < 7
    packed = {name for name, p in model.named_parameters() if p.dtype == torch.uint8}
    assert any("q_proj" in name for name in packed)
    assert not any("coefs" in name or "lm_head" in name for name in packed)


def test_a_kernel_that_was_fetched_is_loaded_without_asking_the_hub(tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    kept = tmp_path / "kernels--someone--sums" / "snapshots" / commit
    (kept / "build" / "torch-universal").mkdir(parents=True)
    (kept / "build" / "torch-universal" / "__init__.py").write_text("TOTAL = 6\n")
    about = {"name": "sums", "id": "sums_1", "version": 1, "license": "MIT"}
    about |= {"python-depends": [], "backend": {"type": "cpu"}}
    (kept / "build" / "torch-universal" / "metadata.json").write_text(json.dumps(about))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("LOCAL_KERNELS", "a/b=/dev/null")
    loading.use_kept_kernel("sdpa")
    loading.use_kept_kernel(f"someone/sums@{commit[::-1]}")
    assert os.environ["LOCAL_KERNELS"] == "a/b=/dev/null"
    loading.use_kept_kernel(f"someone/sums@{commit}")
    assert os.environ["LOCAL_KERNELS"] == f"a/b=/dev/null:someone/sums={kept}"
    assert kernels.get_kernel("someone/sums", revision=commit).TOTAL == 6
