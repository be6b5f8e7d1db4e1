"""The anti-patterns: named once, sourced, and the same in code and prose."""

from pathlib import Path

import pytest

from ft_tools.anti_patterns import refusal, rule, rules
from ft_tools.errors import Refused, UnknownName
from ft_tools.tools import TOOLS

ROOT = Path(__file__).parent.parent.parent
CLASSIC = {
    "knowledge_injection",
    "same_family_data",
    "dpo_before_sft",
    "no_quality_filter",
    "validation_unwatched",
    "quantize_unmerged",
}


def test_the_six_classic_mistakes_are_named():
    assert rules().keys() >= CLASSIC


@pytest.mark.parametrize("pattern", rules().values(), ids=lambda pattern: pattern.id)
def test_each_rule_says_where_it_fires_how_to_override_it_and_who_says_so(pattern):
    assert pattern.tools
    assert pattern.override.endswith(".")
    assert pattern.source.startswith("https://")
    assert pattern.rule.startswith("Do not")


def test_a_refusal_names_the_rule_what_was_seen_the_cure_and_the_way_around():
    error = refusal("dpo_before_sft", "gpt2 is a raw base model", "Give sft_run.")

    assert isinstance(error, Refused)
    for part in ("dpo_before_sft", "gpt2 is a raw base model", "Give sft_run.", "accept_findings"):
        assert part in str(error)


def test_an_unknown_rule_is_refused_with_those_there_are():
    with pytest.raises(UnknownName, match="dpo_before_sft"):
        rule("dpo_after_sft")


@pytest.mark.parametrize(
    "pattern",
    [
        each
        for each in rules().values()
        if each.strength == "blocks" and "accept_findings" in each.override
    ],
    ids=lambda pattern: pattern.id,
)
def test_a_rule_that_can_be_accepted_is_checked_by_its_id_somewhere(pattern):
    code = [
        path.read_text(encoding="utf-8")
        for path in (ROOT / "ft_tools").rglob("*.py")
        if path.name != "rules.py"
    ]

    assert any(f'"{pattern.id}"' in text for text in code)


def test_rules_fire_in_tools_that_exist():
    named = {tool for pattern in rules().values() for tool in pattern.tools}

    assert named <= TOOLS.keys()
