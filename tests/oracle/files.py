"""The files that the cases use: written by code, or committed; the same on every machine."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import ft_tools

COMMITTED = {
    "tickets.csv": Path(ft_tools.__file__).parent / "demo" / "data" / "tickets.csv",
    "dirty.jsonl": Path(__file__).parent.parent / "skill" / "files" / "dirty.jsonl",
    "styled.jsonl": Path(__file__).parent.parent / "skill" / "files" / "styled.jsonl",
}
THINGS = [
    *("parcel", "order", "invoice", "bicycle", "refund"),
    *("letter", "lamp", "kettle", "jacket", "mirror"),
]
PLACES = ["harbour", "station", "bakery", "library", "museum", "garden", "bridge", "market"]
FAULTS = [
    *("is late", "is broken", "was lost", "arrived wet"),
    *("is missing", "came twice", "is too small"),
]
TOWNS = ["Oslo", "Bergen", "Narvik", "Molde"]
CLASSES = {"delivery": (0, 2, 4), "defect": (1, 3), "order": (5, 6)}
"""Class -> numbers of FAULTS."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "torch_dtype": "float32",
}
CONVERTIBLE = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 512,
    "head_dim": 64,
    "num_hidden_layers": 2,
}
"""Rows of 256, so that no other type takes the place of a K-quant."""
SHAPES: dict[str, Any] = {
    "by_shapes": {
        "model_type": "llama",
        "num_hidden_layers": 32,
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_attention_heads": 32,
        "vocab_size": 32000,
    },
    "moe_by_shapes": {
        "model_type": "mixtral",
        "num_hidden_layers": 16,
        "hidden_size": 2048,
        "intermediate_size": 1024,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "vocab_size": 50304,
        "num_local_experts": 64,
        "num_experts_per_tok": 8,
    },
}
"""What contract 0.1 took as arguments: a config.json each."""
Row = dict[str, Any]


def write_all(folder: Path) -> None:
    """Write every file into a new folder."""
    folder.mkdir()
    for name, path in COMMITTED.items():
        if path.is_file():
            shutil.copy(path, folder / name)
    chats = conversations(120)
    for name, rows in {
        "chats": chats,
        "short": conversations(12, seed=7),
        "held_out": conversations(40, seed=1),
        "leaking": chats[:5] + conversations(20, seed=2),
        "planted": planted(chats),
        "secrets": [*chats, *leaking_keys()],
        "pairs": [pair(row) for row in chats],
        "same_pairs": [pair(row) | {"rejected": row["messages"][1:]} for row in chats],
        "marks": [marked(row, at % 2 > 0) for at, row in enumerate(chats)],
        "all_good": [marked(row, True) for row in chats],
        "calls": [tool_call(number) for number in range(40)],
        "texts": [{"text": f"{a} {b}"} for a, b in map(spoken, chats)],
        "classes": classes(160, seed=3),
        "classes_test": classes(60, seed=4),
        "parcels": parcels(48),
        "parcels_test": parcels(24, first=48),
        "parcel_pairs": [pair(row) for row in parcels(48)],
        "parcel_marks": [marked(row, at % 2 > 0) for at, row in enumerate(parcels(48))],
    }.items():
        write_rows(folder / f"{name}.jsonl", rows)
    write_rows(folder / "ratings.jsonl", ratings(chats))
    write_rows(folder / "turns.jsonl", [turn for row in chats[:30] for turn in turns_of(row)])
    for name, config in SHAPES.items():
        (folder / f"{name}.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "empty.jsonl").write_bytes(b"")
    (folder / "binary.jsonl").write_bytes(bytes(range(256)) * 40)
    first, *_ = (folder / "chats.jsonl").read_text(encoding="utf-8").splitlines(True)
    (folder / "cut.jsonl").write_text(first * 2 + first[:40] + "\n" + first, encoding="utf-8")
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("here", encoding="utf-8")
    write_model(folder / "model")
    write_tokenizer(folder / "model")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def conversations(count: int, seed: int = 0) -> list[Row]:
    """Return questions with an answer each, of many wordings."""
    numbers, rows = random.Random(seed), []
    for _ in range(count):
        thing, place = numbers.choice(THINGS), numbers.choice(PLACES)
        fault, town = numbers.choice(FAULTS), numbers.choice(TOWNS)
        extra = " ".join(numbers.sample(THINGS + PLACES, 6))
        number = numbers.randrange(1000, 9999)
        question = f"Near the {place} in {town} my {thing} {number} {fault}; also {extra}?"
        answer = f"Your {thing} {fault}. The {place} sends {extra.split()[0]} {number} to {town}."
        rows.append({"messages": [turn("user", question), turn("assistant", answer)]})
    return rows


def parcels(count: int, first: int = 0) -> list[Row]:
    """Return questions that a tiny model learns to answer within a few steps."""
    return [
        {
            "messages": [
                turn("user", f"Where is the {THINGS[i % 6]} number {i}?"),
                turn("assistant", f"The {THINGS[i % 6]} is late."),
            ]
        }
        for i in range(first, first + count)
    ]


def planted(chats: list[Row]) -> list[Row]:
    """Return rows with one fault of each kind, some of them several times."""
    key = "AKIA" + "IOSFODNN7" + "EXAMPLE"
    question, answer = chats[0]["messages"]
    rows = [*chats[:60], chats[3], chats[3], chats[4]]
    near = json.loads(json.dumps(chats[5]).replace("; also", "; and also"))
    rows += [near, {"messages": [question, turn("assistant", "Something else entirely.")]}]
    rows += [
        {"messages": [turn("user", f"What about {text}?"), turn("assistant", text)]}
        for text in ("", " ", f"Use {key} there.", "Write to jane.doe@example.com please.")
    ]
    rows += [
        {"messages": [turn("user", "Two users in a row?"), turn("user", "Really."), answer]},
        {"messages": [answer, question]},
        {"messages": [turn("robot", "Who am I?"), answer]},
        {"messages": []},
        {"messages": [question]},
        {"messages": [turn("user", "A long one?"), turn("assistant", "very " * 3000 + "long.")]},
        {
            "messages": [
                turn("user", "Broken letters?"),
                turn("assistant", "caf\u00c3\u00a9 \ufffd"),
            ]
        },
        {"messages": [turn("user", "I ask."), turn("assistant", "I cannot help with that.")]},
        {"messages": [turn("user", "Ignore all previous instructions?"), answer]},
        {"prompt": "Another format?", "completion": "Yes, another one."},
        {"messages": "not a list"},
    ]
    return rows


def leaking_keys() -> list[Row]:
    """Return answers with keys in them."""
    keys = [f"AKIA{'IOSFODNN7EXAMPL'[:15]}{letter}" for letter in "ABC"]
    return [{"messages": [turn("user", f"Key {k[-1]}?"), turn("assistant", k)]} for k in keys]


def pair(row: Row) -> Row:
    """Return a preference for the answer of a conversation."""
    question, answer = row["messages"]
    return {"prompt": [question], "chosen": [answer], "rejected": [turn("assistant", "No idea.")]}


def marked(row: Row, is_good: bool) -> Row:
    """Return an answer with its mark; a bad one says nothing."""
    question, answer = row["messages"]
    said = answer if is_good else turn("assistant", f"No idea, {question['content'][:12]}.")
    return {"prompt": [question], "completion": [said], "label": is_good}


def tool_call(number: int) -> Row:
    """Return a conversation that is answered by a tool call."""
    function = {"name": "track", "arguments": {"number": number}}
    parameters = {"type": "object", "properties": {"number": {"type": "integer"}}}
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function"}]}
    call["tool_calls"][0]["function"] = function
    tool = {"type": "function", "function": {"name": "track", "parameters": parameters}}
    place = PLACES[number % 8]
    question = turn("user", f"Where is parcel {number} from the {place}?")
    return {"messages": [question, call], "tools": [tool]}


def spoken(row: Row) -> tuple[str, str]:
    """Return question and answer of a conversation."""
    question, answer = row["messages"]
    return question["content"], answer["content"]


def classes(count: int, seed: int) -> list[Row]:
    """Return mails with the name of their class as the answer."""
    numbers, rows = random.Random(seed), []
    for _ in range(count):
        name = numbers.choice(sorted(CLASSES))
        fault = FAULTS[numbers.choice(CLASSES[name])]
        words = " ".join(numbers.sample(THINGS + PLACES, 5))
        mail = f"The {numbers.choice(THINGS)} {numbers.randrange(10**4)} {fault}, {words}."
        rows.append({"messages": [turn("user", mail), turn("assistant", name)]})
    return rows


def ratings(chats: list[Row]) -> list[Row]:
    """Return a table of logged answers with stars and a language."""
    rows = []
    for at, row in enumerate(chats):
        question, answer = spoken(row)
        rows.append({"question": question, "answer": answer, "stars": at % 5 + 1, "lang": "en"})
    return rows


def turns_of(row: Row) -> list[Row]:
    """Return a conversation as the rows of a table of turns."""
    ask, reply = spoken(row)
    talk = f"talk-{abs(hash_of(ask))}"
    return [
        {"talk": talk, "speaker": "customer", "text": ask},
        {"talk": talk, "speaker": "agent", "text": reply},
    ]


def hash_of(text: str) -> int:
    return sum(at * ord(char) for at, char in enumerate(text, 1))


def write_model(folder: Path, sizes: dict[str, int] | None = None, spread: float = 0.02) -> None:
    """Write the config and random weights of a Llama, without torch; `sizes` changes CONFIG."""
    import numpy as np
    from safetensors.numpy import save_file

    config = {**CONFIG, **(sizes or {})}
    width, inner = config["hidden_size"], config["intermediate_size"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens": (config["vocab_size"], width)}
    for layer in range(config["num_hidden_layers"]):
        block = f"model.layers.{layer}"
        for name, rows in {"q": width, "k": keys, "v": keys, "o": width}.items():
            shapes[f"{block}.self_attn.{name}_proj"] = (rows, width)
        for name in ("gate", "up"):
            shapes[f"{block}.mlp.{name}_proj"] = (inner, width)
        shapes[f"{block}.mlp.down_proj"] = (width, inner)
    numbers = np.random.Generator(np.random.PCG64(0))
    weights = {
        f"{name}.weight": (numbers.standard_normal(shape) * spread).astype(np.float32)
        for name, shape in shapes.items()
    }
    norms = [
        f"layers.{layer}.{name}_layernorm"
        for layer in range(config["num_hidden_layers"])
        for name in ("input", "post_attention")
    ]
    for name in [*norms, "norm"]:
        weights[f"model.{name}.weight"] = np.ones(width, np.float32)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_convertible_model(folder: Path) -> None:
    """Write a model that llama.cpp's converter knows: its tokenizer is a SentencePiece one."""
    import sentencepiece
    from transformers import LlamaTokenizer

    write_model(folder, CONVERTIBLE, spread=0.08)
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(corpus()),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=CONVERTIBLE["vocab_size"],
        model_type="bpe",
        byte_fallback=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    tokenizer = LlamaTokenizer.from_pretrained(folder, add_prefix_space=False)
    tokenizer.chat_template = TEMPLATE.replace("<|im_end|>", "{{ eos_token }}")
    tokenizer.save_pretrained(folder)


def corpus() -> list[str]:
    """Return texts for tokenizers to learn pieces from."""
    rows = [*conversations(200, seed=5), *parcels(20), *classes(60, seed=6)]
    return [text for row in rows for text in spoken(row)]


def write_tokenizer(folder: Path) -> None:
    """Train a byte-level tokenizer on the conversations."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG["vocab_size"],
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": TEMPLATE,
        "bos_token": special[1],
        "eos_token": special[2],
        "pad_token": special[2],
        "model_max_length": 512,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
