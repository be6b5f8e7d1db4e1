"""A GGUF file predicts what its model predicts, for each architecture."""

import json
import re
import shutil
from functools import cache

import gguf
import pytest
import sentencepiece
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GemmaTokenizer,
    LlamaTokenizer,
)

from ft_tools.shipping import comparison_text, formats
from ft_tools.shipping.programs import ProgramFailed
from ft_tools.shipping.worker import llama, llama_job, shipped_formats
from tests.tiny.measuring_gguf import measure, proof_of, shipment_in, write_gguf

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
# as the published models do.
GEMMA = {"sliding_window": 64, "num_hidden_layers": 6, "query_pre_attn_scalar": 32}
HEAD = {"head_dim": 32}
# Rows of 256, so that no other type stands in for a K-quant.
WIDE = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 128, "sliding_window": None}
ARCHITECTURES = {
    "qwen3": (HEAD, "smollm2"),
    "gemma3_text": (HEAD | GEMMA, "gemma"),
    "mistral": (WIDE, "llama"),
    "mixtral": (HEAD | {"num_local_experts": 4}, "smollm2"),
}
GEMMA_PIECES = {
    "pad_id": 0,
    "eos_id": 1,
    "bos_id": 2,
    "unk_id": 3,
    "control_symbols": ["<mask>"],
    **{f"{name}_piece": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
}
TOKENIZERS = {
    "gemma": (GemmaTokenizer, GEMMA_PIECES, {}),
    "llama": (LlamaTokenizer, {"unk_id": 0, "bos_id": 1, "eos_id": 2}, {"add_prefix_space": False}),
}


def make_tokenizer(kind, folder, smollm2):
    """Put a tokenizer into a folder: the demo model's, or a small SentencePiece one."""
    folder.mkdir()
    if kind == "smollm2":
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (smollm2 / name).exists():
                shutil.copy(smollm2 / name, folder / name)
        return AutoTokenizer.from_pretrained(folder)
    family, pieces, options = TOKENIZERS[kind]
    (folder / "corpus.txt").write_text("\n".join(comparison_text.built_in()))
    sentencepiece.SentencePieceTrainer.Train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=512,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
        **pieces,
    )
    tokenizer = family.from_pretrained(folder, **options)
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


@pytest.mark.parametrize("architecture", ARCHITECTURES)
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


def test_a_file_that_llama_cpp_aborts_on_costs_its_format_and_not_the_run(tmp_path, tiny_model):
    shipment = shipment_in(tmp_path, tiny_model, "gguf:F32", "safetensors")
    # A token goes to more experts than there are.
    write_gguf(tmp_path / "scratch" / "source-f32.gguf", width=32, experts=(4, 5))
    proof = proof_of(tmp_path, AutoTokenizer.from_pretrained(tiny_model))
    aborted, said = shipped_formats.ship_format(shipment, formats.find("gguf:F32"), proof)
    assert (aborted.state, said) == ("failed", [])
    assert re.match(r"llama.cpp \(.*\) aborted: ", aborted.error), aborted.error


def test_an_answer_of_a_file_ends_at_every_end_that_the_model_has(tmp_path, converted):
    folder, file, tokenizer = converted("qwen3")
    shipment = shipment_in(tmp_path, folder, "gguf:F16")
    proof = proof_of(tmp_path, tokenizer, folder, 1)

    def answer():
        found = shipped_formats.run_gguf(shipment, formats.find("gguf:F16"), proof, file)
        return found.answers[0]

    whole = answer()
    path = shipment.merged / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [tokenizer.eos_token_id, whole[1]]}))
    assert len(whole) > 1
    assert answer() == whole[: whole.index(whole[1])]
