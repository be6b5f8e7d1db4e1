"""Small tokenizers of the kinds that llama.cpp's converter reads."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GemmaTokenizer, LlamaTokenizer, PreTrainedTokenizerFast

from benchmarks.family_rows import TINY_VOCABULARY
from benchmarks.small_models import TEMPLATE
from ft_tools.shipping import comparison_text, converter_script
from tests.tiny.trainings import conversations

PIECES: dict[str, dict[str, Any]] = {
    "llama": {"unk_id": 0, "bos_id": 1, "eos_id": 2},
    "gemma": {
        "pad_id": 0,
        "eos_id": 1,
        "bos_id": 2,
        "unk_id": 3,
        **{f"{name}_piece": f"<{name}>" for name in ("pad", "eos", "bos", "unk")},
    },
}
# Its converter asks for them by name.
OF_GLM = ["[gMASK]", "<sop>", "<|user|>", "<|observation|>"]
SPLITTING = "smollm"
CONTROLS = ["<mask>", "<|im_start|>", "<|im_end|>"]


def make_tokenizer(kind: str, folder: Path) -> Any:
    """Put a small tokenizer of a kind into a folder: byte pairs, or SentencePiece's pieces.

    llama.cpp's converter reads each family's kind and no other.
    """
    if kind == "bytes":
        tokenizer = byte_pairs()
    else:
        tokenizer = pieces(kind, folder, texts(), TINY_VOCABULARY, CONTROLS)
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def texts() -> list[str]:
    """Return what the tokenizers are made of: the text that is measured, and what is trained on."""
    talks = [message for row in conversations(100) for message in row["messages"]]
    return [*comparison_text.built_in(), *(f"{m['role']}\n{m['content']}" for m in talks)]


def byte_pairs() -> Any:
    """Return a tokenizer of byte pairs."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TINY_VOCABULARY,
        special_tokens=["<|endoftext|>", *CONTROLS, *OF_GLM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>")


def pieces(
    kind: str, folder: Path, lines: Iterable[str], vocabulary: int, controls: list[str]
) -> Any:
    """Return SentencePiece's tokenizer of some lines, and put its own file into a folder."""
    corpus = folder / "corpus.txt"
    corpus.write_text("\n".join(lines), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.Train(
        input=str(corpus),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=vocabulary,
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
        control_symbols=controls,
        **PIECES[kind],
    )
    corpus.unlink()
    whole = GemmaTokenizer if kind == "gemma" else LlamaTokenizer
    return whole.from_pretrained(folder, add_prefix_space=False)


def know_splitting(folder: Path) -> None:
    """Have the converter take the small tokenizers' splitting for one that llama.cpp knows.

    It tells a splitting by what a published vocabulary makes of a text, which no small tokenizer
    has. Weights and metadata are converted as ever.
    """
    shutil.copytree(converter_script.script().parent, folder)
    source = folder / "conversion" / "base.py"
    known = source.read_text(encoding="utf-8")
    as_known = known.replace("  res = None\n", f"  res = {SPLITTING!r}\n", 1)
    source.write_text(as_known, encoding="utf-8")
    os.environ[converter_script.VARIABLE] = str(folder)
