"""The references in sections, and their search."""

import pytest

from ft_tools.explain.search import _index, search
from ft_tools.explain.sections import MAX_CHARS, parse, sections


def test_every_section_of_the_references_has_an_address_of_its_own_and_fits_a_report():
    found = sections()

    assert len({section.id for section in found}) == len(found) > 100
    assert max(len(section.text) for section in found) <= MAX_CHARS * 1.25


def test_a_long_table_is_cut_between_rows_and_keeps_its_header_in_every_part():
    rows = [f"| `finding_{number}` | {'because ' * 20}|" for number in range(40)]
    table = "\n".join(["| id | why |", "|---|---|", *rows])

    parts = parse("data", f"# Data\n\n## Findings\n\n{table}\n")

    assert [part.id for part in parts[:2]] == ["data#findings", "data#findings/2"]
    assert all(part.text.startswith("| id | why |\n|---|---|\n| `finding_") for part in parts)
    assert sum(part.text.count("`finding_") for part in parts) == 40


def test_a_hash_in_a_code_block_is_no_heading():
    found = parse("a", "# A\n\n```sh\n# comment\nrun it\n```\n\nafter\n")

    assert [section.headings for section in found] == [("A",)]


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("answers_add_facts", "data#findings"),
        ("KTO on unpaired marks", "preference#marks-kto"),
        ("should a LoRA rank be higher", "lora#rank"),
        ("AWQ for vLLM", "quantizing#gptq-awq-and-fp8"),
    ],
)
def test_a_name_or_a_question_finds_its_section(query, place):
    assert place in [section.id.split("/")[0] for section in search(query, 4)]


@pytest.mark.parametrize("query", ["", "the of and", "zzzzqq", "\x00\ud800", "[](){}*?"])
def test_words_that_no_section_has_find_nothing(query):
    assert search(query, 5) == []


def test_a_search_writes_nothing_to_the_log(caplog):
    _index.cache_clear()
    search("why lora", 3)
    assert not caplog.records
