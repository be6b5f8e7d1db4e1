"""GPTQ, AWQ and FP8 in the environment that is built for them: `make test-environments`."""

import json

import pytest

from ft_tools.shipping import llm_compressor_environment
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from tests.tiny.measuring_gguf import wait

pytestmark = [pytest.mark.environments]
MINUTES = 60


def write_talks(path, numbers):
    rows = []
    for number in numbers:
        asked = f"Parcel {number} has been missing since day {number % 9}."
        answer = json.dumps({"category": "delivery", "parcel": number, "late": number % 2 == 0})
        turns = {"user": asked, "assistant": answer}
        rows.append({"messages": [{"role": role, "content": turns[role]} for role in turns]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_gptq_awq_and_fp8_of_a_tiny_model_are_made_and_loaded_back(workspace, tiny_model_in):
    write_talks(workspace / "train.jsonl", range(200))
    write_talks(workspace / "held_out.jsonl", range(500, 524))
    given = {
        "source": tiny_model_in,
        "formats": ["safetensors", "gptq:4", "awq:4", "fp8"],
        "calibration": "train.jsonl",
        "held_out": "held_out.jsonl",
    }
    digest = merge_and_quantize(ShipRequest(**given)).plan_hash
    run_id = merge_and_quantize(ShipRequest(**given, confirm=digest)).run_id
    run = wait(run_id, lambda run: False, seconds=60 * MINUTES)
    assert run.state == "succeeded", run.error.message if run.error else run.log_tail
    assert llm_compressor_environment.is_built()
    whole, *found = run.result["formats"]
    for row in found:
        assert row["state"] == "made", row
        assert row["quality"]["tokenizer_parity"], row
        assert row["quality"]["mean_kl"] < 0.01, row
        assert row["size_bytes"] < 0.85 * whole["size_bytes"], row
        assert row["tokens_per_second"] > 0
        assert row["task"].keys() == {"exact_match", "json_valid", "json_fields"}
