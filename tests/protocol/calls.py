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

GOOD: dict[str, dict[str, object]] = {
    "recommend_approach": {"symptoms": ["style"], "num_demonstrations": 400},
    "list_runs": {},
    "get_run": {"run_id": RUN_ID, "log_lines": 5},
    "cancel_run": {"run_id": RUN_ID},
    "resume_run": {"run_id": RUN_ID},
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
    (workspace / "heldout.jsonl").write_text(lines.splitlines(True)[0], encoding="utf-8")
    model = workspace / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    run = workspace / "runs" / RUN_ID
    run.mkdir(parents=True, mode=0o700)
    info = {"run_id": RUN_ID, "kind": "audit", "name": "interrupted", "created_at": 1.0}
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    (run / "request.json").write_text("{}", encoding="utf-8")
    (run / "plan.json").write_text("{}", encoding="utf-8")
    (run / "log.txt").write_text("a line\n", encoding="utf-8")
