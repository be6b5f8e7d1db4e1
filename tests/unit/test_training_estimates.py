"""How long runs take and how much disk: by card, number of processes, and way of sharing."""

import json

import pytest

from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.launchers.table import Place
from ft_tools.training.estimates import disk_bytes, duration, earlier_rates
from ft_tools.training.plan import plan_sft
from ft_tools.training.preflight import PreflightResult, StepTime
from ft_tools.training.training_plan import Estimate, ModelPlan, TrainingPlan
from tests.made_runs import made_run
from tests.unit.launches import sft

UNTIMED = PreflightResult()


def plan_on(model="NVIDIA A100-SXM4-80GB", **place):
    """Return what of a plan its time and its size on disk depend on."""
    return TrainingPlan.model_construct(
        task="sft", method="lora", peft={"r": 16}, place=Place(**place),
        device=Device(name="cuda", model=model, memory_gib=80.0, precision="bfloat16"),
        model=ModelPlan(name="m", load_from="m", base_model="m", num_params=8_000_000_000),
        training={"gradient_accumulation_steps": 1},
        estimate=Estimate(steps=1, tokens=0, disk_bytes=0),
    )  # fmt: skip


def test_eight_processes_take_an_eighth_of_the_time_or_a_little_more(workspace):
    one, eight = (duration(plan_on(processes=n), UNTIMED, (10**8, 0)) for n in (1, 8))
    assert eight.low_seconds == pytest.approx(one.low_seconds / 8, rel=0.05)
    assert one.high_seconds / 8 < eight.high_seconds < one.high_seconds / 5


@pytest.mark.parametrize(
    ("card", "slower"), [("Tesla T4", 312 / 65), ("V100-SXM2-32GB", 312 / 125)]
)
def test_cards_without_bfloat16_have_a_duration_from_their_rate_of_float16(workspace, card, slower):
    known, fast = (duration(plan, UNTIMED, (10**8, 0)) for plan in (plan_on(card), plan_on()))
    assert known.low_seconds == pytest.approx(slower * fast.low_seconds, rel=0.05)
    # The control: a card that no table lists has none.
    assert duration(plan_on("NVIDIA Unheard-of 9000"), UNTIMED, (10**8, 0)) is None


def test_earlier_runs_give_a_rate_by_their_steps_without_their_evaluations(files):
    plan = plan_sft(sft())
    assert earlier_rates(plan) == []
    run_dir = made_run("sft-0123456789abcdef", files={"plan": plan})
    # Ten tokens a second: whatever the evaluations between the steps took.
    for number, rates in ((4, []), (6, [10.0])):
        rows = [
            {"step": step, "step_seconds": 2.0, "num_tokens": 20.0 * step, "loss": 1.0}
            for step in range(1, number + 1)
        ]
        rows.insert(2, {"step": 2, "eval_loss": 1.0, "eval_runtime": 500.0})
        (run_dir / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in rows))
        assert earlier_rates(plan) == rates
        # The other engine has another speed.
        assert earlier_rates(plan.model_copy(update={"engine": "mlx"})) == []
    found = duration(plan, UNTIMED, (1000, 500))
    # 100 seconds of steps, and 500 tokens of evaluations at half the cost of trained ones.
    assert found.low_seconds == pytest.approx(0.69 * 125, rel=0.05)
    assert found.high_seconds == pytest.approx(1.34 * 125, rel=0.05)


def test_checkpoints_take_time_where_they_are_large():
    plan = plan_on().model_copy(update={
        "method": "full", "training": {"gradient_accumulation_steps": 1, "save_steps": 2,
                                       "per_device_train_batch_size": 1},
        "estimate": Estimate(steps=5, tokens=0, disk_bytes=0),
    })  # fmt: skip
    step = {"train": 1e-3, "forward": 1e-4, "optimizer": 0.0}
    without, with_ = (
        duration(plan, PreflightResult(step=StepTime(**step, save=save)), (1000, 0))
        for save in (0.0, 1e-9)
    )
    # Three checkpoints of twelve bytes a weight and an artifact of four.
    written = (3 * 12 + 4) * 8
    assert with_.high_seconds - without.high_seconds == pytest.approx(1.34 * written, rel=0.05)


def test_a_sharded_run_writes_more_to_the_disk():
    full = plan_on(processes=2).model_copy(update={"method": "full"})
    sharded = full.model_copy(update={"place": Place(processes=2, sharding="fsdp")})
    assert disk_bytes(sharded) - disk_bytes(full) == 4 * 4 * 8 * 10**9
    assert disk_bytes(plan_on()) < disk_bytes(full) / 20
