"""Published measurements against estimate_vram, through the request that anyone would send.

`benchmarks/vram.py` does the same with all published rows; these are a few of each kind, and hold
the error that references/memory.md states.
"""

import statistics
import tomllib
from pathlib import Path

import pytest

from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram

ROWS = tomllib.loads(Path(__file__).with_name("allocations.toml").read_text(encoding="utf-8"))
EVERY = ROWS["check"] + ROWS["calibration"]
TRAINED = [row for row in EVERY if "allocated_gib" in row]
OUT_OF_MEMORY = [row for row in EVERY if "out_of_memory" in row]
# What references/memory.md promises of published runs.
MEAN_ERROR = 0.01
WORST_ERROR = 0.055


def report_of(row):
    return estimate_vram(VramRequest(**row["arguments"], trl_version=None))


def error_of(row):
    return report_of(row).peak_allocated_gib / row["allocated_gib"] - 1


@pytest.mark.parametrize("row", TRAINED, ids=lambda row: row["id"])
def test_what_was_published_of_a_run_lies_inside_the_bands_of_its_estimate(row):
    report = report_of(row)
    low, high = report.peak_allocated_low_gib, report.peak_allocated_high_gib
    assert low <= row["allocated_gib"] <= high
    assert report.process_low_gib <= row["process_gib"] <= report.process_high_gib
    # It trained.
    assert report.fits != "no"


@pytest.mark.parametrize("part", ["check", "calibration"])
def test_the_mean_and_the_worst_error_are_those_promised(part):
    errors = [abs(error_of(row)) for row in ROWS[part] if "allocated_gib" in row]
    assert len(errors) >= 8
    assert statistics.mean(errors) <= MEAN_ERROR
    assert max(errors) <= WORST_ERROR


@pytest.mark.parametrize("row", OUT_OF_MEMORY, ids=lambda row: row["id"])
def test_a_run_that_ran_out_of_memory_is_not_called_a_fit(row):
    report = report_of(row)
    assert report.fits == "no"
    assert report.changes_to_fit


def test_the_error_of_a_wrong_setting_would_be_noticed():
    """The bound means something: leave out one known cost, and a row breaks it."""
    row = next(
        row
        for row in ROWS["check"]
        if row["arguments"]["loss_head"] == "full_logits" and row["arguments"]["method"] == "lora"
    )
    wrong = row["arguments"] | {"loss_head": "fused_linear"}
    without_logits = estimate_vram(VramRequest(**wrong, trl_version=None)).peak_allocated_gib
    assert abs(without_logits / row["allocated_gib"] - 1) > WORST_ERROR
