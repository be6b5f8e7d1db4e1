"""What a Mac is found to be, with the branches of macOS forced on this machine."""

import os
import platform
import sys

import pytest

from ft_tools.doctor.machine import _gpu
from ft_tools.evaluation.plan_warnings import about_loading
from ft_tools.evaluation.systems.models import LoadPlan, Models
from ft_tools.models import mlx
from ft_tools.models.resolve import ModelSource
from ft_tools.runs import process_tree
from ft_tools.training.checks import engine
from ft_tools.training.request import SftRequest


def put(folder, name, script):
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


@pytest.fixture
def on_a_mac(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Apple M4 Max\\n68719476736", "M4 Max 64GB"),
        ("Apple M1\\n8589934592", "M1 8GB"),
        ("Intel(R) Core(TM) i7\\n17179869184", ""),
        ("", ""),
    ],
)
def test_a_mac_says_what_it_is(on_a_mac, said, name):
    put(on_a_mac, "sysctl", f"printf '{said}'")
    assert mlx.mac_name() == name


@pytest.mark.skipif(not mlx.is_installed(), reason="the extra mlx is not installed")
def test_a_mac_trains_adapters_with_mlx_and_everything_else_with_torch_and_the_reason(on_a_mac):
    source = ModelSource(kind="hub", name="m")

    def chosen(**changed):
        request = SftRequest(**{"model": "m", "dataset": "train.jsonl"} | changed)
        return engine.choose(request, source, {}, {})

    assert chosen() == ("mlx", [])
    assert chosen(engine="torch") == ("torch", [])
    name, (why,) = chosen(method="full")
    assert name == "torch"
    assert "trains on the CPU with torch, not on the GPU with MLX: it trains adapters" in why


def test_elsewhere_torch_trains(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    request = SftRequest(model="m", dataset="train.jsonl")
    source = ModelSource(kind="hub", name="m")
    assert engine.choose(request, source, {}, {}) == ("torch", [])


def test_the_doctor_of_a_mac_says_what_runs_where(on_a_mac):
    put(on_a_mac, "sysctl", "printf 'Apple M2\\n25769803776'")
    (check,) = _gpu()
    assert check.found.startswith("M2 24GB: adapters train with MLX; evaluations and merges run on")


def test_the_plan_of_an_evaluation_says_that_the_gpu_of_a_mac_is_idle(monkeypatch, on_a_mac):
    loading = LoadPlan(place="cpu", dtype="float32", num_bytes=0)
    (said,) = about_loading(loading, Models({}))
    assert "evaluations run on the CPU with torch" in said
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert about_loading(loading, Models({})) == []


def test_a_mac_is_kept_awake_while_a_worker_lives(on_a_mac, monkeypatch):
    put(on_a_mac, "caffeinate", f'echo "$@" > {on_a_mac}/told')
    started = []
    popen = process_tree.subprocess.Popen
    monkeypatch.setattr(
        process_tree.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k))
    )
    process_tree.keep_awake(os.getpid())
    assert started[0].wait(30) == 0
    assert (on_a_mac / "told").read_text() == f"-i -w {os.getpid()}\n"
    # The control: elsewhere nothing is started.
    monkeypatch.setattr(sys, "platform", "linux")
    process_tree.keep_awake(os.getpid())
    assert len(started) == 1
