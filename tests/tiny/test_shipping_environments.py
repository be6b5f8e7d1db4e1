"""GPTQ, AWQ and FP8 in the environment that is built for them: `make test-environments`."""

import json

import pytest

from ft_tools.shipping import llm_compressor_environment
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft
from tests.tiny.measuring_gguf import wait

pytestmark = [pytest.mark.environments]
MINUTES = 60


def finished(tool, request, **arguments):
    """Confirm a plan and wait for its run; the finished run."""
    digest = tool(request(**arguments)).plan_hash
    run_id = tool(request(**arguments, confirm=digest)).run_id
    run = wait(run_id, lambda run: False, seconds=60 * MINUTES)
    assert run.state == "succeeded", run.error.message if run.error else run.log_tail
    return run


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def talk(number):
    asked = f"Parcel {number} has been missing since day {number % 9}."
    answer = json.dumps({"category": "delivery", "parcel": number, "late": number % 2 == 0})
    turns = {"user": asked, "assistant": answer}
    return {"messages": [{"role": role, "content": text} for role, text in turns.items()]}


@pytest.fixture
def data(workspace):
    write_lines(workspace / "train.jsonl", [talk(i) for i in range(200)])
    write_lines(workspace / "held_out.jsonl", [talk(i) for i in range(500, 524)])
    return workspace


def shipped(run):
    """Return the finished formats by name, all made, each with a model that reads the same ids."""
    found = {row["format"]: row for row in run.result["formats"]}
    for row in found.values():
        assert row["state"] == "made", row
        assert row["quality"] is None or row["quality"]["tokenizer_parity"], row
    return found


def test_gptq_awq_and_fp8_of_a_tiny_model_are_made_and_loaded_back(data, tiny_model_in):
    run = finished(
        merge_and_quantize,
        ShipRequest,
        source=tiny_model_in,
        formats=["safetensors", "gptq:4", "awq:4", "fp8"],
        calibration="train.jsonl",
        held_out="held_out.jsonl",
    )
    found = shipped(run)
    assert llm_compressor_environment.is_built()
    for name in ("gptq:4", "awq:4", "fp8"):
        assert found[name]["quality"]["mean_kl"] < 0.01, found[name]
        assert found[name]["size_bytes"] < 0.85 * found["safetensors"]["size_bytes"], name
        assert found[name]["tokens_per_second"] > 0
    guide = (data / "runs" / run.run_id / "artifacts" / "HANDOFF.md").read_text()
    assert "vllm serve ./gptq-4" in guide


def test_an_sft_run_is_shipped_and_calibrated_on_its_own_data(data, smollm2):
    """A real run on the demo model, from training to 4 bits, with the task measured on the way."""
    sft = finished(
        launch_sft,
        SftRequest,
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        dataset="train.jsonl",
        training={"max_steps": 8, "learning_rate": 5e-4, "per_device_train_batch_size": 4},
        accept_findings=["no_quality_filter", "validation_unwatched"],
        accept_reason="a test of shipping",
    )
    run = finished(
        merge_and_quantize,
        ShipRequest,
        source=sft.run_id,
        formats=["safetensors", "gguf:Q8_0", "gguf:Q4_K_M", "bnb:nf4", "gptq:4", "fp8"],
        held_out="held_out.jsonl",
    )
    plan = json.loads((data / "runs" / run.run_id / "plan.json").read_bytes())
    assert plan["calibration"] == str(data / "train.jsonl")
    found = shipped(run)
    # Eight steps change little, and bfloat16 rounds some of that away.
    assert 0.75 < run.result["merge_check"]["applied_fraction"] < 1.1
    assert all(
        said.endswith("8 of 8 conversations") for said in run.result["prompt_proof"].values()
    )
    kl = {name: row["quality"]["mean_kl"] for name, row in found.items() if row["quality"]}
    assert kl["gguf:Q8_0"] <= 0.01
    assert max(kl["gptq:4"], kl["fp8"], kl["gguf:Q4_K_M"]) < 0.2, kl
    # NF4 without calibration hurts so small a model, and its verdict says so; damage costs 20 nats.
    assert kl["bnb:nf4"] < 2, kl
    assert found["bnb:nf4"]["quality"]["verdict"] == "fail"
    assert (
        {"exact_match", "json_valid", "json_fields"}
        == set(run.result["task"])
        == set(found["gptq:4"]["task"])
    )
