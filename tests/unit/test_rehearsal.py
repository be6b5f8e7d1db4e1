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


@pytest.mark.parametrize(
    ("model", "machine", "column", "cell"),
    [
        # 8,030,261,248 parameters: x 2 x 1.1 = 16.5 GiB, x 4 x 1.1 = 32.9; and 1 GiB of logits.
        ("8B", SMALL, "prove_merge", "cuda:0 bfloat16 17.4"),
        ("8B", LARGE, "prove_merge", "cuda:0 float32 33.9"),
        ("8B", NONE, "prove_merge", "cpu float32 33.9"),
        # 6,979,321,856 in linear layers x 4.127 bits, 1,050,939,392 x 2 bytes.
        ("8B", SMALL, "bnb:nf4", "5.3"),
        # 70,553,706,496 x 2 x 1.1 = 144.6 GiB: two cards of 80 have 158, less than one has 80.
        ("70B", LARGE, "prove_merge", "weight by weight"),
        ("70B", TWO, "prove_merge", "auto bfloat16 145.5"),
        ("70B", TWO, "evaluate", "GPU bfloat16 144.6"),
        ("70B", NONE, "evaluate", "refused"),
        # 68,451,041,280 at 0.51587 bytes and the other 2,102,665,216 at 2: x 1.1 = 40.5 GiB.
        ("70B", LARGE, "evaluate_qlora", "GPU 4-bit 40.5"),
        # In memory the others take 4 bytes: x 1.1 = 44.8 GiB; packing, 1.4 - 1.1 of 36.8, 11.0.
        ("70B", NONE, "evaluate_qlora", "cpu 4-bit 55.8"),
        # x 4.8944 bits / 8 = 40.2 GiB; llm-compressor loads 144.6 GiB into memory.
        ("70B", SMALL, "gguf:Q4_K_M", "40.2"),
        ("70B", TWO, "gptq:4", "refused"),
        # Downloaded, merged and converted, 141.1 GB each, 1.1 x 43.2 of Q4_K_M, 1.6 of logits.
        ("70B", NONE, "disk_gb", 472),
        # 3 x 16.06 GB, 1.1 x 4.91 of Q4_K_M, logits: 3 x 1024 x 128,256 x 4 bytes are 1.6.
        ("8B", NONE, "disk_gb", 55),
        # 30,532,122,624 x 4.8944 bits / 8: GGUF quantizes experts.
        ("30B-A3B", NONE, "gguf:Q4_K_M", "17.4"),
        # 29 of 30.5 B are fused experts: 55.6 GiB instead of 15.7.
        ("30B-A3B", LARGE, "bnb:nf4", "refused"),
        # 30,532,122,624 x 2 x 1.1 = 62.6 GiB: one card of 80 has 76.4, 64 GiB of memory have 63.
        ("30B-A3B", LARGE, "evaluate", "GPU bfloat16 62.6"),
        ("30B-A3B", SMALL, "evaluate", "cpu bfloat16 62.6"),
    ],
)
def test_a_cell_is_what_it_is_by_hand(table, model, machine, column, cell):
    assert table[model, machine][column] == cell


def test_the_stored_table_is_what_the_code_says_now(table):
    stored = json.loads((ROOT / "benchmarks" / "rehearsal.json").read_bytes())
    assert len(stored) == len(table) == 12
    for row in stored:
        assert row == table[row["model"], row["machine"]]
