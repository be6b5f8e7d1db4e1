"""The rehearsal's table, cell by cell, by hand."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def table():
    module = runpy.run_path(str(ROOT / "benchmarks" / "rehearsal.py"))
    return {(row["model"], row["machine"]): row for row in module["table"]()}


SMALL, LARGE, TWO, NONE = (
    "24 GB card, 64 GB",
    "80 GB card, 64 GB",
    "2x80 GB, 64 of 512 GB",
    "no card, 64 GB",
)


def test_the_stored_table_is_what_the_code_says_now(table):
    stored = json.loads((ROOT / "benchmarks" / "rehearsal.json").read_bytes())
    assert len(stored) == len(table) == 12
    for row in stored:
        assert row == table[row["model"], row["machine"]]
