"""Faults during a real training: nothing is lost or corrupt, and there is a state and an advice.

The disk is a real small one (tmpfs), filled just before each kind of write.
"""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ft_tools import publish
from ft_tools import workspace as workspace_module
from ft_tools.runs.state.directory import read_events
from ft_tools.training import checkpoints
from ft_tools.training.request import SftRequest
from tests.tiny.faulty import FAULTS, WRITES
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    losses,
    prepared,
    same_bits,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
DISK_MIB = 160
STEPS = 6
PLAIN = ("full:checkpoint", "term")
ALL = (*(f"full:{write}" for write in WRITES), *(name for name in FAULTS if name != "none"))
# How the first attempt ends; what is not named is a full disk.
ENDS = {
    "term": ("interrupted", "preempted"),
    "kill": ("running", None),
    "cut": ("running", None),
    # The next attempt is asked for, with half the micro-batch.
    "memory": ("running", None),
    "clock": ("succeeded", None),
}


@pytest.fixture
def disk(small_disk, tmp_path, monkeypatch, tiny_model):
    """Write a model and data into a workspace on a small disk."""
    place = small_disk(DISK_MIB * 1024)
    monkeypatch.setenv(workspace_module.VARIABLE, str(place))
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(tmp_path / "cache"))
    shutil.copytree(tiny_model, place / "tiny-llama")
    write_jsonl(place / "train.jsonl", conversations(24))
    write_jsonl(place / "held_out.jsonl", conversations(6, first=100))


def request_(engine, faults):
    training = {**QUICK, "max_steps": STEPS, "eval_steps": 2, "save_steps": 2, "logging_steps": 1}
    return SftRequest(
        model="tiny-llama",
        engine=engine,
        dataset="train.jsonl",
        validation="held_out.jsonl",
        peft={"r": 2, "lora_dropout": 0.1},
        training=training,
    )


def under(faults, engine):
    """Train once under each fault and once without; (run folders by fault, what was printed)."""
    runs = {
        fault: prepared(request_(engine, faults), f"f{i}").run_dir for i, fault in enumerate(faults)
    }
    argv = [sys.executable, "-m", "tests.tiny.faulty"]
    argv += [word for fault, run_dir in runs.items() for word in (str(run_dir), fault)]
    done = subprocess.run(
        argv, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return runs, {line["fault"]: line for line in lines}


@pytest.mark.parametrize(
    ("engine", "faults", "trials"),
    [
        ("torch", PLAIN, 60),
        pytest.param("torch", ALL, 1000, marks=pytest.mark.faults),
        pytest.param("mlx", ALL, 200, marks=pytest.mark.faults),
    ],
    ids=["plain", "full", "mlx"],
)
def test_a_fault_loses_nothing_leaves_an_advice_and_no_damage_is_missed(
    disk, engine, faults, trials, record_property
):
    if engine == "mlx":
        pytest.importorskip("mlx_lm")
    runs, ended = under(("none", *faults), engine)
    whole = runs.pop("none")
    assert ended.pop("none")["first"]["state"] == "succeeded"
    for fault, run_dir in runs.items():
        first, second = ended[fault]["first"], ended[fault]["second"]
        expected = ENDS.get(fault, ("interrupted", "disk_full"))
        assert (first["state"], first["reason"]) == expected, (fault, first)
        if expected[1] == "disk_full":
            assert "free some space" in first["hint"], fault
        last = second or first
        assert last["state"] == "succeeded", (fault, last, log_of(run_dir))
        assert publish.verify(run_dir / "artifacts" / "adapter") == [], fault
        kept = checkpoints.all_of(run_dir / "checkpoints")
        assert kept, fault
        assert [c.name for c in kept if checkpoints.problems(c)] == [], fault
        adapter = weights_of(run_dir / "artifacts" / "adapter")
        if fault == "memory":
            # Another micro-batch adds in another order.
            assert any("out of memory" in event.message for event in read_events(run_dir))
        else:
            assert same_bits(adapter, weights_of(whole / "artifacts" / "adapter")), fault
            assert losses(run_dir.name) == losses(whole.name), fault
    missed = missed_damage(whole, trials)
    record_property("P5", f"{trials} trials, {len(missed)} missed")
    assert missed == []


def log_of(run_dir):
    return (run_dir / "log.txt").read_text(errors="replace")[-2000:]


def missed_damage(run_dir, trials):
    """Damage a checkpoint and the adapter of a run in so many ways; those that are not found."""
    folders = [checkpoints.all_of(run_dir / "checkpoints")[-1], run_dir / "artifacts" / "adapter"]
    dice, missed = random.Random(3), []
    for trial in range(trials):
        folder = folders[trial % 2]
        undo = damage(folder, dice)
        found = checkpoints.problems(folder) if trial % 2 == 0 else publish.verify(folder)
        if not found:
            missed.append((trial, folder.name))
        undo()
    assert all(publish.verify(folder) == [] for folder in folders)
    return missed


def damage(folder, dice):
    """Flip a bit, cut, or swap two files; a function that undoes it."""
    files = [f for f in sorted(folder.rglob("*")) if f.is_file() and f.stat().st_size]
    files.remove(folder / publish.MANIFEST)
    first, second = dice.sample(files, 2)
    before = {file: file.read_bytes() for file in (first, second)}
    how = dice.choice(["flip", "cut", "swap"])
    data = bytearray(before[first])
    if how == "swap" and before[first] != before[second]:
        first.write_bytes(before[second])
        second.write_bytes(before[first])
    elif how == "cut":
        first.write_bytes(data[: dice.randrange(len(data))])
    else:
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        first.write_bytes(data)
    return lambda: [file.write_bytes(content) for file, content in before.items()]
