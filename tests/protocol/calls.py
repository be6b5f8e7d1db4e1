"""A good call of each tool, over files that `prepare` writes into the workspace."""

import json
from pathlib import Path

RUN_ID = "audit-00000000000000ff"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"

GOOD: dict[str, dict[str, object]] = {
    "recommend_approach": {"considering": ["sft"], "num_examples": 400},
    "audit_dataset": {"path": "data.jsonl"},
    "prepare_dataset": {"path": "data.csv"},
    "create_dataset": {
        "source": "data.jsonl",
        "kind": "variations",
        "output_dir": "made",
        "options": {"variations": [{"change": "typing_errors"}]},
    },
    "show_examples": {"path": "data.jsonl", "lines": [1]},
    "suggest_lora_config": {"model": "model", "goal": "style", "num_examples": 500},
    "estimate_vram": {"model": "meta-llama/Llama-3.1-8B", "method": "qlora", "gpu": "RTX 4090"},
    "launch_sft": {"model": "model", "dataset": "data.jsonl"},
    "launch_dpo": {"model": "model", "dataset": "pairs.jsonl"},
    "launch_grpo": {
        "model": "model",
        "dataset": "prompts.jsonl",
        "rewards": [{"kind": "number"}],
        "probe": False,
    },
    "merge_and_quantize": {"source": "model", "formats": ["gguf:Q8_0"]},
    "evaluate": {"model": "model", "baseline": "model", "dataset": "heldout.jsonl"},
    "get_run": {"run_id": RUN_ID, "log_lines": 5},
    "cancel_run": {"run_id": RUN_ID},
    "resume_run": {"run_id": RUN_ID},
    "explain": {"topic": "launch_sft options"},
}


def prepare(workspace: Path) -> None:
    """Write a dataset, a tiny model's config and a run that was interrupted."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Where is parcel number {number}, please?"},
                {"role": "assistant", "content": f"Parcel {number} left depot {number % 7} today."},
            ]
        }
        for number in range(40)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "data.jsonl").write_text(lines, encoding="utf-8")
    table = [f"Where is parcel {number}?,It left depot {number % 7} today." for number in range(40)]
    (workspace / "data.csv").write_text("question,answer\n" + "\n".join(table), encoding="utf-8")
    (workspace / "heldout.jsonl").write_text(lines.splitlines(True)[0], encoding="utf-8")
    pairs = [
        {
            "prompt": row["messages"][:1],
            "chosen": row["messages"][1:],
            "rejected": [{"role": "assistant", "content": f"No idea, number {number}."}],
        }
        for number, row in enumerate(rows)
    ]
    text = "".join(json.dumps(pair) + "\n" for pair in pairs)
    (workspace / "pairs.jsonl").write_text(text, encoding="utf-8")
    prompts = [{"prompt": f"What is {n} times 3?", "answer": str(3 * n)} for n in range(1, 41)]
    text = "".join(json.dumps(prompt) + "\n" for prompt in prompts)
    (workspace / "prompts.jsonl").write_text(text, encoding="utf-8")
    model = workspace / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    (model / "model.safetensors").write_bytes(_weights())
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    (model / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    run = workspace / "runs" / RUN_ID
    run.mkdir(parents=True, mode=0o700)
    info = {"run_id": RUN_ID, "kind": "audit", "name": "interrupted", "created_at": 1.0}
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    (run / "request.json").write_text("{}", encoding="utf-8")
    (run / "plan.json").write_text("{}", encoding="utf-8")
    (run / "log.txt").write_text("a line\n", encoding="utf-8")


def _weights():
    """Return a safetensors file with the embedding and the layers that an adapter is put on."""
    layers = [f"self_attn.{name}_proj" for name in "qkvo"]
    layers += [f"mlp.{name}_proj" for name in ("gate", "up", "down")]
    shapes = {"model.embed_tokens.weight": [512, 64]}
    shapes |= {f"model.layers.0.{name}.weight": [64, 64] for name in layers}
    header, end = {}, 0
    for name, (rows, columns) in shapes.items():
        begin, end = end, end + rows * columns * 4
        header[name] = {"dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(end)
