"""Facts: each row has a source, each name finds its row, an unknown one is told what to do."""

from importlib.resources import files

import pytest

from ft_tools import facts
from ft_tools.errors import UnknownName
from ft_tools.tools import TOOLS

PACKAGE = files("ft_tools")


@pytest.mark.parametrize("table", [facts.gpus, facts.models])
def test_every_row_names_its_source_by_address(table):
    for name, row in table().items():
        assert row.source.startswith("https://"), name


def test_every_threshold_names_an_address_a_page_of_ours_or_our_measurement():
    for name, row in facts.thresholds().items():
        known = ("https://", "arXiv:", "references/", "benchmarks/", "ours:")
        assert row.source.startswith(known), name


@pytest.mark.parametrize("table", [facts.gpus, facts.models])
def test_no_name_stands_for_two_rows(table):
    names = [n for key, row in table().items() for n in (key, *row.aliases)]
    plain = ["".join(c for c in n.lower() if c.isalnum()) for n in names]
    assert len(set(plain)) == len(plain)


def test_usable_memory_is_below_the_printed_memory_and_has_a_source():
    published = {n: g for n, g in facts.gpus().items() if g.usable_gib is not None}
    assert published
    for name, card in published.items():
        assert 0.9 * card.memory_gib < card.usable_gib < card.memory_gib, name
        assert card.usable_source, name


def test_an_unknown_gpu_is_told_the_nearest_ones_and_the_field_to_pass():
    with pytest.raises(UnknownName) as error:
        facts.gpu("RTX 4095")
    text = str(error.value)
    nearest = text.split("nearest: ")[1]
    assert nearest.startswith("RTX 4090")
    assert nearest.count(",") == 2
    assert text.index("gpu_memory_gib") < text.index("nearest")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("4090", "RTX 4090"),
        ("RTX 4090 24GB", "RTX 4090"),
        ("3060", "RTX 3060"),
        ("rtx 3060 12gb", "RTX 3060"),
        ("4070 ti super", "RTX 4070 Ti SUPER"),
        ("a100-80", "A100-80GB"),
        ("A100 80GB", "A100-80GB"),
        ("H100 SXM", "H100-80GB"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti"),
    ],
)
def test_a_card_is_known_under_the_names_that_people_say(said, name):
    assert facts.gpu(said) is facts.gpus()[name]


@pytest.mark.parametrize("said", ["RTX 3080 12GB", "4090 Laptop", "M2 Max", "A100-60GB", "10"])
def test_a_card_that_is_another_one_is_not_taken_for_it(said):
    with pytest.raises(UnknownName, match=r"gpu_memory_gib|name the chip and its memory"):
        facts.gpu(said)


def test_no_two_cards_answer_to_one_name():
    seen = {}
    for name, card in facts.gpus().items():
        for spelling in card.spellings(name):
            assert seen.setdefault(spelling, name) == name


@pytest.mark.parametrize("name", ["cpu", "CPU", "none"])
def test_a_processor_is_no_gpu_and_has_no_nearest(name):
    with pytest.raises(UnknownName) as error:
        facts.gpu(name)
    assert str(error.value) == f"unknown GPU {name!r}; leave it out where there is no GPU"


def test_every_call_that_a_report_proposes_names_a_tool_and_is_proposed_somewhere():
    rows = dict(facts.table_of("next_steps.toml"))
    also = rows.pop("also")
    code = "".join(file.read_text(encoding="utf-8") for file in PACKAGE.rglob("*.py"))
    made = {"contradictions_majority", "contradictions_drop"}
    assert [name for name in {*rows, *also} - made if f'"{name}"' not in code] == []
    assert {row["tool"] for row in rows.values() if "tool" in row} <= set(TOOLS)
