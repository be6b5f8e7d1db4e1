"""P22: a tracker that raises an error changes nothing about a run."""

import sys

import pytest

from ft_tools.runs.state import directory
from ft_tools.training.request import SftRequest
from ft_tools.training.worker import sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    prepared,
    same_bits,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]
# A package in place of trackio, as accelerate uses it; what it does is the fault.
TRACKIO = """
import json, os
HOW = {how!r}
class Config:
    def update(self, values, allow_val_change=False):
        pass
config = Config()
class Run:
    def __init__(self):
        self.number = 0
    def write(self, line):
        with open(os.path.join({folder!r}, "seen.jsonl"), "a") as file:
            file.write(line + chr(10))
    def log(self, values, step=None):
        self.number += 1
        if HOW == "raises" and self.number == 2:
            raise ConnectionError("hf_" + "s3cretWords" * 4)
        self.write(json.dumps(dict(values, step=step)))
    def finish(self):
        self.write("finished")
def init(project, name=None):
    assert project and name.startswith("sft-")
    return Run()
"""


def trained(workspace, monkeypatch, how, name):
    """Train with a tracker of a kind; (report, run folder, what it has seen)."""
    request = SftRequest(
        model="tiny-llama",
        dataset=write_jsonl(workspace / "train.jsonl", conversations(24)),
        training={**QUICK, "max_steps": 6, "logging_steps": 1, "report_to": "trackio"},
    )
    package = workspace / f"packages-{name}"
    (package / "trackio").mkdir(parents=True)
    text = TRACKIO.format(how=how, folder=str(package))
    (package / "trackio" / "__init__.py").write_text(text)
    monkeypatch.syspath_prepend(str(package))
    session = prepared(request, name)
    report = sft.work(session)
    seen = package / "seen.jsonl"
    sys.modules.pop("trackio", None)
    return report, session.run_dir, seen.read_text() if seen.exists() else ""


def messages(run_dir):
    return [event.message for event in directory.read_events(run_dir)]


def test_a_tracker_gets_every_line_and_one_that_fails_changes_no_bit_and_is_named(
    workspace, tiny_model_in, monkeypatch
):
    works, run_dir, seen = trained(workspace, monkeypatch, "works", "good")
    logged = directory.read_metrics(run_dir)
    assert seen.count('"loss"') == len([row for row in logged if "loss" in row]) == 6
    assert seen.endswith("finished\n")
    assert not any("trackio" in message for message in messages(run_dir))
    report, run_dir, _ = trained(workspace, monkeypatch, "raises", "fails")
    assert same_bits(weights_of(report.artifact), weights_of(works.artifact))
    (said,) = [message for message in messages(run_dir) if message.startswith("trackio")]
    assert "ConnectionError" in said
    assert "s3cret" not in said
