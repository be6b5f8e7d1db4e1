"""The time of a plan's step: measured in small, for as many blocks as the model has."""

import pytest

from ft_tools.runs.hardware.devices import find_device
from ft_tools.training import preflight
from ft_tools.training.plan import plan_sft
from ft_tools.training.preflight import VARIABLE, StepQuestion, question_of
from ft_tools.training.request import SftRequest
from tests.tiny.trainings import LIBRARY_WARNINGS, QUICK, conversations, write_jsonl

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]


def question(folder, **changed):
    asked = {
        "config": str(folder), "config_sha256": "", "device": "cpu", "dtype": "float32",
        "precision": "float32", "peft": {"r": 4, "target_modules": "all-linear"}, "init": {},
        "checkpointing": False, "rows": 4, "length": 32, "trained_fraction": 0.5,
    }  # fmt: skip
    return StepQuestion(**asked | changed)


def test_a_plan_is_estimated_by_a_step_of_its_shape_once(workspace, tiny_model_in, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    # For a machine with other work to do.
    monkeypatch.setattr(preflight, "SECONDS", 120.0)
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "cache"))
    write_jsonl(workspace / "train.jsonl", conversations(32))
    request = SftRequest(
        model=tiny_model_in, dataset="train.jsonl", training={**QUICK, "max_steps": 50},
        accept_findings=["too_few_examples", "validation_unwatched", "no_eval_set"],
        accept_reason="a test",
    )  # fmt: skip
    first = plan_sft(request).estimate.duration
    assert "measured on this machine" in first.source
    assert 0 < first.low_seconds < first.high_seconds
    answers = {file: file.stat().st_mtime for file in (workspace / "cache").rglob("*.json")}
    assert plan_sft(request).estimate.duration.low_seconds == first.low_seconds
    assert {f: f.stat().st_mtime for f in (workspace / "cache").rglob("*.json")} == answers
    # The checks passed by then; a step of another shape that takes too long leaves the table.
    monkeypatch.setattr(preflight, "SECONDS", 0.5)
    other = request.model_copy(update={"training": {**QUICK, "max_steps": 50, "max_length": 24}})
    late = plan_sft(other)
    assert "too long" in late.estimate.duration.source
    assert late.missing == []


def test_a_step_is_timed_in_the_numbers_that_the_run_computes_with(workspace, tiny_model_in):
    write_jsonl(workspace / "train.jsonl", conversations(32))
    request = SftRequest(
        model=tiny_model_in, dataset="train.jsonl", training={**QUICK, "max_steps": 50},
        accept_findings=["too_few_examples", "validation_unwatched", "no_eval_set"],
        accept_reason="a test",
    )  # fmt: skip
    plan = plan_sft(request)
    for precision in ("float32", "bfloat16", "float16"):
        device = plan.device.model_copy(update={"precision": precision})
        there = plan.model_copy(update={"device": device})
        assert question_of(there, 0.0).precision == precision


def test_a_step_that_kills_its_process_leaves_the_checks(workspace, tiny_model_in, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(preflight, "SECONDS", 120.0)
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "cache"))
    (workspace / "config.json").write_text('{"model_type": "nothing"}')
    asked = {"quantized": False, "step": question(workspace)}
    found = preflight.tried(find_device("cpu"), **asked)
    assert found.step is None
    assert found.why_no_step
    assert {one.state for one in found.checks} == {"passed"}
