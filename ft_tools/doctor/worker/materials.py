"""The small random model and the examples that the self-test works on."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LONG = 20
"""Times that a long answer repeats a short one of about 13 tokens."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def make_model(folder: Path, shape: dict[str, int]) -> None:
    """Save a random Llama and a small tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([answer for pair in rows(64) for answer in pair], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[2]
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder)


def rows(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Return questions and answers of our own."""
    towns = ("Oslo", "Bergen", "Narvik", "Molde", "Tromso")
    return [
        (f"Where is parcel number {i}?", f"Parcel {i} is in {towns[i % 5]}.")
        for i in range(start, start + count)
    ]


def make_data(folder: Path) -> None:
    """Write the files."""
    files = {"train": (96, 0), "validation": (16, 1000), "held_out": (8, 2000), "long": (64, 3000)}
    for name, (count, start) in files.items():
        times = LONG if name == "long" else 1
        lines = [
            json.dumps({"messages": [{"role": "user", "content": question},
                                     {"role": "assistant", "content": " ".join([answer] * times)}]})
            for question, answer in rows(count, start)
        ]  # fmt: skip
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
