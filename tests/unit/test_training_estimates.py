"""How long runs take and how much disk: by card, number of processes, and way of sharing."""

import json
from dataclasses import replace

import pytest

from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.state.records import RunInfo
from ft_tools.training.estimates import Work, disk_bytes, duration, earlier_rates
from ft_tools.training.plan import plan_sft
from ft_tools.workspace import runs_dir
from tests.unit.launches import sft


def work(model="NVIDIA A100-SXM4-80GB", processes=1):
    card = Device(name="cuda", model=model, memory_gib=80.0, precision="bfloat16")
    return Work("sft", "lora", 8_000_000_000, "", card, processes)


def test_eight_processes_take_an_eighth_of_the_time_or_a_little_more(workspace):
    one, eight = duration(work(), 10**8, 2.0), duration(work(processes=8), 10**8, 2.0)
    assert eight.low_seconds == pytest.approx(one.low_seconds / 8, rel=0.05)
    assert one.high_seconds / 8 < eight.high_seconds < one.high_seconds / 5


@pytest.mark.parametrize(
    ("card", "slower"), [("Tesla T4", 312 / 65), ("V100-SXM2-32GB", 312 / 125)]
)
def test_cards_without_bfloat16_have_a_duration_from_their_rate_of_float16(workspace, card, slower):
    known, fast = duration(work(card), 10**8, None), duration(work(), 10**8, None)
    assert known.low_seconds == pytest.approx(slower * fast.low_seconds, rel=0.05)
    # The control: a card that no table lists has none.
    assert duration(work("NVIDIA Unheard-of 9000"), 10**8, None) is None


def test_earlier_runs_give_a_rate_by_their_steps_without_their_evaluations(files):
    plan = plan_sft(sft())
    like = Work("sft", "lora", 5000, plan.model.config_sha256, plan.device, evaluated_tokens=500)
    assert earlier_rates(like) == []
    run_dir = runs_dir() / "sft-0123456789abcdef"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=1.0)
    (run_dir / "run.json").write_text(info.model_dump_json())
    (run_dir / "plan.json").write_text(plan.model_dump_json())
    # Ten tokens a second: whatever the evaluations between the steps took.
    for number, rates in ((4, []), (6, [10.0])):
        rows = [
            {"step": step, "step_seconds": 2.0, "num_tokens": 20.0 * step, "loss": 1.0}
            for step in range(1, number + 1)
        ]
        rows.insert(2, {"step": 2, "eval_loss": 1.0, "eval_runtime": 500.0})
        (run_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
        assert earlier_rates(like) == rates
        # The other engine has another speed.
        assert earlier_rates(replace(like, engine="mlx")) == []
    found = duration(like, 1000, None)
    # 100 seconds of steps, and 500 tokens of evaluations at half the cost of trained ones.
    assert found.low_seconds == pytest.approx(0.7 * 125, rel=0.05)
    assert found.high_seconds == pytest.approx(1.4 * 125, rel=0.05)


def test_a_sharded_run_writes_more_to_the_disk():
    alone = disk_bytes(10**9)
    assert disk_bytes(10**9, "fsdp") - alone == 4 * 4 * 10**9
    assert disk_bytes(None, "fsdp") == disk_bytes(None)
