"""A run on MLX that is killed at random moments ends as if nothing had been."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ft_tools import workspace as workspace_module
from ft_tools.training.worker import sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    SftRequest,
    conversations,
    losses,
    prepared,
    same_bits,
    weights_of,
    write_jsonl,
)

pytest.importorskip("mlx_lm")

pytestmark = [pytest.mark.tiny, pytest.mark.faults, *LIBRARY_WARNINGS]
KILLS = 20


def test_20_kills_at_random_moments_change_no_bit(workspace, tiny_model_in, monkeypatch):
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(workspace / "cache"))
    write_jsonl(workspace / "train.jsonl", conversations(30))
    request = SftRequest(
        model=tiny_model_in,
        dataset="train.jsonl",
        engine="mlx",
        peft={"r": 4, "lora_dropout": 0.1},
        training={**QUICK, "max_steps": 8 * KILLS, "logging_steps": 1, "save_steps": 3},
        accept_findings=["validation_unwatched", "no_quality_filter"],
        accept_reason="a test",
    )
    killed = prepared(request, "killed").run_dir
    done = subprocess.run(
        [sys.executable, "-m", "tests.tiny.killing", str(KILLS), "5", str(killed)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    log = (killed / "log.txt").read_text(errors="replace")
    assert (answer["kills"], answer["return_code"]) == (KILLS, 0), log[-3000:]
    whole = prepared(request, "whole")
    report = sft.work(whole)
    name = Path(report.artifact).name
    assert same_bits(weights_of(killed / "artifacts" / name), weights_of(report.artifact))
    assert losses(killed.name) == losses(whole.run_dir.name)
