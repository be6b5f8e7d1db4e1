"""A GGUF file predicts what its model predicts, for each architecture."""

import shutil
from functools import cache

import gguf
import pytest
import sentencepiece
import torch
from tokenizers import normalizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GemmaTokenizer,
    LlamaTokenizer,
)

from ft_tools.shipping import comparison_text, formats
from ft_tools.shipping.programs import ProgramFailed
from ft_tools.shipping.worker import llama, llama_job
from tests.tiny.measuring_gguf import measure, proof_of, write_gguf

pytestmark = pytest.mark.tiny

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# llama.cpp's Gemma 3 has a global layer after each five local ones and scales by the head's size,
# as the published models do; its Phi 3 has no sliding window, so texts must not reach beyond one.
GEMMA = {"sliding_window": 64, "num_hidden_layers": 6, "query_pre_attn_scalar": 32}
PHI = {"original_max_position_embeddings": 256, "sliding_window": 256}
HEAD = {"head_dim": 32}
# Rows of 256, so that no other type stands in for a K-quant.
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 128, "sliding_window": None}
ARCHITECTURES = {
    "llama": (HEAD, "smollm2"),
    "qwen2": ({}, "prefix"),
    "qwen3": (HEAD, "smollm2"),
    "gemma3_text": (HEAD | GEMMA, "gemma"),
    "mistral": (WIDE, "plain"),
    "phi3": (PHI, "prefix"),
    "mixtral": (HEAD | {"num_local_experts": 4}, "smollm2"),
}
# Phi 3's own name for the end of a text, which llama.cpp looks for in every model of that kind.
LLAMA_PIECES = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "control_symbols": ["<|endoftext|>"]}
GEMMA_PIECES = {
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "control_symbols": ["<mask>"],
    **{f"{name}_piece": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
}


def make_tokenizer(kind, folder, smollm2):
    """Put a tokenizer into a folder: the demo model's, or a small SentencePiece one."""
    folder.mkdir()
    if kind == "smollm2":
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (smollm2 / name).exists():
                shutil.copy(smollm2 / name, folder / name)
        return AutoTokenizer.from_pretrained(folder)
    (folder / "corpus.txt").write_text("\n".join(comparison_text.built_in()))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=512,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=kind == "prefix",
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
        **(GEMMA_PIECES if kind == "gemma" else LLAMA_PIECES),
    )
    if kind == "gemma":
        tokenizer = GemmaTokenizer.from_pretrained(folder)
    else:
        tokenizer = LlamaTokenizer.from_pretrained(folder, add_prefix_space=kind == "prefix")
    if kind == "prefix":
        # As in the tokenizer.json of Llama 2 and Phi 3: a space goes before any text.
        backend = tokenizer.backend_tokenizer
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
        )
        backend.pre_tokenizer = None
    tokenizer.save_pretrained(folder)
    return tokenizer


def make_model(architecture, folder, vocab_size):
    given = SMALL | {"vocab_size": vocab_size} | ARCHITECTURES[architecture][0]
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **given))
    # Random weights of the usual size predict nothing; larger ones make the comparison mean it.
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim > 1 and "embed" not in name:
                parameter.mul_(4.0)
    made.half().save_pretrained(folder)


@pytest.fixture(scope="module")
def converted(tmp_path_factory, smollm2, converter_script):
    """Give a function that converts a model of an architecture once: folder, file, tokenizer."""
    root = tmp_path_factory.mktemp("architectures")

    @cache
    def convert(name):
        folder, file = root / name, root / f"{name}.gguf"
        tokenizer = make_tokenizer(ARCHITECTURES[name][-1], folder, smollm2)
        make_model(name, folder, len(tokenizer))
        llama.convert(folder, file, "f16", lambda: None)
        return folder, file, tokenizer

    return convert


# Two more of the kinds of tokenizers that the others have.
FULL = {"llama", "qwen2"}


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=[pytest.mark.faults] if name in FULL else [])
        for name in ARCHITECTURES
    ],
)
def test_a_gguf_file_predicts_what_its_model_predicts(
    tmp_path, converted, architecture, record_property
):
    folder, file, tokenizer = converted(architecture)
    found = measure(file, proof_of(tmp_path, tokenizer, folder, 2))
    record_property("mean KL", found.mean_kl)
    assert found.tokenizer_parity
    assert found.mean_kl <= 1e-4, found
    assert found.top1_agreement > 0.97, found


def test_a_file_without_the_adapter_would_be_seen(tmp_path, converted):
    """The negative control: the same measure over a model with one weight changed a little."""
    folder, file, tokenizer = converted("qwen3")
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    model = AutoModelForCausalLM.from_pretrained(other, dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight.mul_(1.1)
    model.save_pretrained(other)
    assert measure(file, proof_of(tmp_path, tokenizer, other, 2)).mean_kl > 1e-4


def test_every_type_is_made_without_an_importance_matrix(tmp_path):
    """Rows of 256 weights: what smaller ones fall back to would need none."""
    whole = tmp_path / "whole.gguf"
    write_gguf(whole, layers=4)
    tensors = {tensor.name for tensor in gguf.GGUFReader(whole).tensors}
    rows = [row for row in formats.FORMATS if row.family == "gguf" and row.bits_per_weight < 16]
    for row in rows:
        llama_job.quantize(whole, tmp_path / "made.gguf", row)
        made = gguf.GGUFReader(tmp_path / "made.gguf")
        assert {tensor.name for tensor in made.tensors} == tensors, row.name
    refused = formats.Format("gguf:IQ3_XS", "gguf", 3.4977)
    with pytest.raises(ProgramFailed):
        llama_job.quantize(whole, tmp_path / "made.gguf", refused)
