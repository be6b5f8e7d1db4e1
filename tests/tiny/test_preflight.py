"""The preflight: small real work in the run's environment, named failures, an honest cache."""

import time

import pytest
import torch

from ft_tools import abandoned_calls
from ft_tools import workspace as workspace_module
from ft_tools.doctor.tool import trials
from ft_tools.errors import Missing
from ft_tools.runs.hardware.devices import Device, find_device
from ft_tools.training import preflight
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft
from tests.tiny.trainings import QUICK, conversations, write_jsonl

pytestmark = pytest.mark.tiny
PARTS = ["device", "matmul", "nf4", "attention", "loss"]


@pytest.fixture
def _asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv(preflight.VARIABLE, "1")
    monkeypatch.setattr(preflight, "SECONDS", 120.0)
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(tmp_path / "cache"))
    # Libraries may print while they are imported.
    (tmp_path / "sitecustomize.py").write_text("print('loaded')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # bitsandbytes needs no compiler here.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")


@pytest.mark.usefixtures("_asked_for")
def test_a_plan_is_offered_after_its_parts_worked_and_they_are_tried_once(workspace, tiny_model_in):
    device = find_device("cpu")
    found = preflight.tried(device, quantized=True).checks
    assert [(one.id, one.state) for one in found] == [(name, "passed") for name in PARTS]
    began = time.monotonic()
    assert preflight.tried(device, quantized=True).checks == found
    assert time.monotonic() - began < 1.0
    shown = list(trials())
    assert [check.state for check in shown] == ["ok"] * len(PARTS)
    # What fails is missing in the plan, by name and with the cure, and nothing is started.
    write_jsonl(workspace / "rows.jsonl", conversations(8))
    asked = SftRequest(
        model="tiny-llama", dataset="rows.jsonl", accept_reason="a test",
        accept_findings=["validation_unwatched", "too_few_examples"],
        training=QUICK | {"max_steps": 1, "model_init_kwargs": {"attn_implementation": "nothing"}},
    )  # fmt: skip
    plan = launch_sft(asked)
    (problem,) = plan.plan["missing"]
    assert problem.startswith("preflight_attention")
    with pytest.raises(Missing, match="nothing was started"):
        launch_sft(asked.model_copy(update={"confirm": plan.plan_hash}))


@pytest.mark.usefixtures("_asked_for")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch can use the card")
def test_a_torch_that_cannot_use_the_card_is_named_with_its_build():
    card = {"memory_gib": 80.0, "precision": "bfloat16", "capability": 8.0}
    device = Device(name="cuda", model="NVIDIA A100", **card)
    (found,) = preflight.tried(device, quantized=False).checks
    assert (found.id, found.state) == ("device", "failed")
    ((problem,), _) = preflight.problems([found], device)
    assert problem.startswith("preflight_device: torch ")
    assert "cannot use NVIDIA A100" in problem


@pytest.mark.usefixtures("_asked_for")
def test_one_that_takes_too_long_stops_nobody_and_is_not_remembered(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "SECONDS", 0.1)
    device = find_device("cpu")
    for _ in range(2):
        (late,) = preflight.tried(device, quantized=False).checks
        assert (late.id, late.state) == ("unfinished", "skipped")
    assert list((tmp_path / "cache").rglob("*.late"))
    failed, unknown = preflight.problems([late], device)
    assert (failed, [line.partition(":")[0] for line in unknown]) == ([], ["preflight_unfinished"])


@pytest.mark.usefixtures("_asked_for")
def test_a_call_that_has_little_time_left_does_not_wait_and_the_next_one_tries_again(tmp_path):
    call = abandoned_calls.Call()
    call.began -= abandoned_calls.ANSWER_SECONDS - 0.2
    began = time.monotonic()
    with abandoned_calls.waiting(call):
        (late,) = preflight.tried(find_device("cpu"), quantized=False).checks
    assert time.monotonic() - began < 10
    assert late.id == "unfinished"
    # The control: one that had all its time is not tried again for ten minutes.
    assert not list((tmp_path / "cache").rglob("*.late"))
