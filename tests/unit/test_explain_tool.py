"""The explain tool: every name that a caller meets leads to a passage."""

import ast
import tomllib
from pathlib import Path

import pytest

import ft_tools
from ft_tools import facts
from ft_tools.errors import NotFound
from ft_tools.explain.report import ExplainReport
from ft_tools.explain.sections import sections
from ft_tools.explain.tables import DATA, rows
from ft_tools.metrics.table import METRICS
from ft_tools.tools import TOOLS

MOST_CHARS = 2_400
"""About 550 tokens: 500 and the names of further sections."""


def explain(topic: str) -> ExplainReport:
    spec = TOOLS["explain"]
    report = spec.call(spec.request.model_validate({"topic": topic}))
    assert isinstance(report, ExplainReport)
    return report


@pytest.mark.parametrize("tool", TOOLS)
def test_every_option_of_a_tool_is_reached_from_its_options(tool):
    first = explain(f"{tool} options")
    named = [each.id for each in first.passages] + first.more
    wanted = TOOLS[tool].options or list(TOOLS[tool].request.model_fields)
    assert named == [f"{tool}.{key}" for key in wanted]
    assert first.passages
    for topic in first.more:
        assert [each.id for each in explain(topic).passages] == [topic]


def test_an_argument_that_is_an_object_is_explained_with_its_keys():
    text = explain("evaluate.systems").passages[0].text
    assert "- name (string" in text
    assert "- endpoint" in text


@pytest.mark.parametrize(
    "topic",
    [
        "prepare_dataset.mapping",
        "prepare-dataset mapping",
        "prepare_dataset turns",
        "prepare_dataset.mapping.turns",
    ],
)
def test_a_key_of_an_argument_leads_to_the_argument(topic):
    assert [each.id for each in explain(topic).passages] == ["prepare_dataset.mapping"]


def test_every_threshold_is_explained_with_its_value_and_source():
    for key, row in facts.thresholds().items():
        text = explain(key).passages[0].text
        assert str(row.value) in text, key
        assert row.source in text, key


PACKAGE = Path(ft_tools.__file__).parent
REPORTING = {"finding", "reason", "refusal", "warning"}
"""Functions whose first argument is an id of a table."""


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
        assert explain(name).passages[0].id == name


def test_an_id_that_two_tools_report_is_explained_for_both():
    text = explain("undecided_columns").passages[0].text
    assert text.count("message: ") == 2


def test_every_section_of_the_references_is_found_by_its_id():
    for section in sections():
        assert explain(section.id).passages[0].id == section.id


@pytest.mark.parametrize(
    ("question", "file"),
    [
        ("why LoRA on all layers", "lora"),
        ("answers_add_facts", "answers_add_facts"),
        ("does KTO need pairs", "preference"),
    ],
)
def test_a_question_finds_the_file_that_answers_it(question, file):
    report = explain(question)
    found = [*(each.id for each in report.passages), *report.more]
    assert file in {each.partition("#")[0] for each in found}


@pytest.mark.parametrize("topic", ["launch_sft options", "evaluate", "data leaks", "validation"])
def test_an_answer_fits_its_budget(topic):
    report = explain(topic)
    assert sum(len(each.text) for each in report.passages) <= MOST_CHARS


def test_a_topic_that_shares_no_word_with_anything_is_refused_with_known_ones():
    with pytest.raises(NotFound) as caught:
        explain("qqzzxx")
    assert "launch_sft" in str(caught.value)
