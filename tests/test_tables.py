"""The tables in references/ are what benchmarks/*.json and the facts say."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import tables

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "references").glob("*.md"))
QUOTED = re.findall(tables.TABLE, "".join(path.read_text(encoding="utf-8") for path in PAGES))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_table_of_a_page_is_what_its_source_says(path):
    text = path.read_text(encoding="utf-8")

    assert tables.fill(text) == text, "run `python -m benchmarks.tables` and review"


def test_every_table_stands_in_a_page():
    assert {name for _, name, _ in QUOTED} == set(tables.TABLES)


def test_every_table_names_a_file_that_is_there():
    named = set(re.findall(r"<!-- table \w+, from ([\w./]+) -->", "".join(m for m, _, _ in QUOTED)))

    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_a_table_follows_its_measurement(tmp_path, monkeypatch):
    """A control: another result is another table."""
    before = tables.quantized_formats()
    measured = tables.result("quantize")
    measured["formats"][0]["size_bytes"] = 987_600_000
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "quantize.json").write_text(json.dumps(measured))
    monkeypatch.setattr(tables, "ROOT", tmp_path)

    assert "| 987.6 |" in tables.quantized_formats()
    assert "| 987.6 |" not in before


def test_a_table_that_nothing_makes_is_an_error():
    with pytest.raises(KeyError, match="unheard_of"):
        tables.fill("<!-- table unheard_of, from a.json -->\nx\n<!-- end of unheard_of -->")
