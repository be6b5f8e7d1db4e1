"""explain: every name that a caller meets leads to a passage, and words to sections."""

import ast
import tomllib
from pathlib import Path

import pytest

import ft_tools
from ft_tools import facts
from ft_tools.concise import presented
from ft_tools.errors import NotFound
from ft_tools.explain.search import search
from ft_tools.explain.sections import MAX_CHARS, sections
from ft_tools.explain.tables import DATA, rows
from ft_tools.metrics.table import METRICS
from ft_tools.tools import TOOLS

MOST_CHARS = 2_400
"""About 550 tokens: 500 and the names of further sections."""
PACKAGE = Path(ft_tools.__file__).parent
REPORTING = {"finding", "reason", "refusal", "warning"}
"""Functions whose first argument is an id of a table."""


def explain(topic):
    spec = TOOLS["explain"]
    return spec.call(spec.request.model_validate({"topic": topic}))


def first(topic):
    return explain(topic).passages[0]


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_of_a_tool_is_reached_from_its_options(tool):
    report = explain(f"{tool} options")
    named = [each.id for each in report.passages] + report.more
    wanted = TOOLS[tool].options or list(TOOLS[tool].request.model_fields)
    nested = [name for name in named if name.partition(".")[2] not in wanted]
    assert named == [*nested, *(f"{tool}.{key}" for key in wanted)]
    assert ("prepare_dataset.mapping" in nested) == (tool == "prepare_dataset")
    for topic in report.more:
        assert [each.id for each in explain(topic).passages] == [topic]


@pytest.mark.parametrize(
    "topic",
    [
        "prepare_dataset.mapping",
        "prepare-dataset mapping",
        "prepare_dataset turns",
        "prepare_dataset.mapping.turns",
    ],
)
def test_a_key_of_an_argument_leads_to_the_argument_with_its_keys(topic):
    (passage,) = explain(topic).passages
    assert passage.id == "prepare_dataset.mapping"
    assert "- turns (" in passage.text


def ids_in_tables():
    """Return the ids of every table, but those of GPUs, models, questions and thresholds."""
    for path in PACKAGE.rglob("*.toml"):
        if path.name not in {*DATA, "thresholds.toml"}:
            yield from (name for name, _ in rows(tomllib.loads(path.read_text(encoding="utf-8"))))


def ids_in_code():
    """Return the ids that code reports, as strings."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        named = call.args[:1] if name in REPORTING else []
        named += [each.value for each in call.keywords if (name, each.arg) == ("Reason", "id")]
        yield from (each.value for each in named if isinstance(each, ast.Constant))


def test_every_id_that_a_report_names_has_a_passage_of_its_own():
    in_tables, in_code = set(ids_in_tables()), set(ids_in_code())
    assert {"experts_frozen", "adapter_erased", "too_few_for_any_goal", "no_advice"} <= in_code
    assert len(in_code) > 100
    assert len(in_tables) > 350
    for name in {*METRICS, *in_tables, *in_code}:
        assert first(name).id == name
    for key, row in facts.thresholds().items():
        assert str(row.value) in first(key).text, key
        assert row.source in first(key).text, key
    # Two tools report this one: each has its own cure.
    assert first("undecided_columns").text.count("message: ") == 2


def test_every_section_has_an_address_of_its_own_is_found_by_it_and_fits_a_report():
    found = sections()
    assert len({section.id for section in found}) == len(found) > 100
    assert max(len(section.text) for section in found) <= MAX_CHARS * 1.25
    for section in found:
        assert first(section.id).id == section.id


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("answers_add_facts", "data#what-the-answers-teach"),
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


@pytest.mark.parametrize("topic", ["launch_sft options", "evaluate", "data leaks", "validation"])
def test_an_answer_fits_its_budget_and_is_shown_whole(topic):
    report = explain(topic)
    assert sum(len(each.text) for each in report.passages) <= MOST_CHARS
    shown = presented(report, "explain", TOOLS["explain"].request(topic=topic))
    assert shown["passages"] == [each.model_dump() for each in report.passages]


def test_a_topic_that_shares_no_word_with_anything_is_refused_with_known_ones():
    with pytest.raises(NotFound) as caught:
        explain("qqzzxx")
    assert "launch_sft" in str(caught.value)
