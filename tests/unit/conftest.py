"""What several files of unit tests use."""

import json
import struct

import pytest

from tests.unit.launches import CHATML, CONFIG, write


@pytest.fixture
def files(workspace, monkeypatch):
    """Write a model's small files, a data set and pairs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    for name in ("instruct", "base"):
        (workspace / name).mkdir()
        (workspace / name / "config.json").write_text(json.dumps(CONFIG))
        header = json.dumps({"w": {"dtype": "F32", "shape": [100, 50], "data_offsets": [0, 20000]}})
        data = struct.pack("<Q", len(header)) + header.encode() + bytes(20000)
        (workspace / name / "model.safetensors").write_bytes(data)
    (workspace / "instruct" / "chat_template.jinja").write_text(CHATML)
    write(workspace / "train.jsonl", 0, 30)
    write(workspace / "held_out.jsonl", 30, 40)
    pairs = [
        {
            "prompt": [{"role": "user", "content": f"Where is parcel {i}?"}],
            "chosen": [{"role": "assistant", "content": f"Parcel {i} is in Oslo."}],
            "rejected": [{"role": "assistant", "content": f"Parcel {i}? No idea."}],
        }
        for i in range(20)
    ]
    (workspace / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    return workspace
