"""A fact or a question that should not matter leaves the first step of each situation as it is.

`python -m tests.unit.test_approach_steady` prints the shares, and each first step that changes.
"""

import json
import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from ft_tools.approach.decision import decide
from ft_tools.approach.request import MOST_CONSIDERED, ApproachRequest
from ft_tools.approach.situation import situation

NEUTRAL = {
    "gpu": "RTX 4090",
    "runs_on": ["vllm"],
    "product_use": "internal",
    "personal_data": False,
    "must_keep_thinking": False,
    "weights_access": "open_weights",
    "model": "Qwen/Qwen2.5-7B",
}
"""Facts that go with most situations and decide few: given only where they contradict nothing."""
SYNONYMS = {"style": "tone", "tone": "style", "knowledge_gap": "hallucination"}
"""Symptoms that people use for each other: the second says nothing that the first does not."""
BESIDE = (
    *("hardware", "quantization", "data_format", "hyperparameters", "full_training", "negatives"),
    *("data_mix", "continue_run", "chunking", "serving", "other_model", "none_of_these"),
)
"""Questions beside an approach: they get a verdict, and are seldom what comes first."""
MEANT = {("q29", "runs_on")}
"""Adapters are served by vLLM: that they will run there is what the question is about."""
MOST_BESIDE = 0.031
"""Share of the first steps that such a question changes, as measured: 3.0%."""


@cache
def situations():
    """Return the arguments of all situations, each once, with the id of its case."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("scenarios*.toml")):
        for cases in tomllib.loads(path.read_text()).values():
            for case in cases:
                for name in {"request", "blind"} & case.keys():
                    found.setdefault(json.dumps(case[name], sort_keys=True), case.get("id", ""))
    return [(case, json.loads(arguments)) for arguments, case in found.items()]


def with_facts(arguments):
    """Yield the name of what is added, and the arguments with it."""
    asked = ApproachRequest(**arguments)
    is_text = situation(asked).kind == "text" and not asked.num_classes
    for name, value in NEUTRAL.items():
        is_theirs = asked.weights_access == "api_only" and name in ("runs_on", "model")
        is_taught = name == "product_use" and (asked.teacher or asked.data_source != "human")
        is_other = name == "model" and not is_text
        if not (getattr(asked, name) not in (None, []) or is_theirs or is_taught or is_other):
            yield name, arguments | {name: value}
    for said, other in SYNONYMS.items():
        is_written = said != "knowledge_gap" or asked.has_documents
        if said in asked.symptoms and other not in asked.symptoms and is_written:
            yield f"{said}, {other}", arguments | {"symptoms": [*asked.symptoms, other]}
    for name in ("symptoms", "considering"):
        if len(getattr(asked, name)) > 1:
            yield f"{name} reversed", arguments | {name: arguments[name][::-1]}


def with_questions(arguments):
    asked = arguments.get("considering", [])
    for each in BESIDE if 0 < len(asked) < MOST_CONSIDERED else ():
        if each not in asked:
            yield each, arguments | {"considering": [*asked, each]}


@cache
def changes(variants):
    """Return how many requests of each kind there are, and the first steps that change."""
    num, changed = defaultdict(int), []
    for case, arguments in situations():
        row = decide(ApproachRequest(**arguments))
        for name, more in variants(arguments):
            other = decide(ApproachRequest(**more))
            num[name] += 1
            if other.approach != row.approach:
                changed.append((case, name, row.id, other.id))
    return num, changed


def test_a_fact_that_should_not_matter_leaves_the_first_step_as_it_is():
    num, changed = changes(with_facts)

    assert sum(num.values()) > 2500
    assert {(case, name) for case, name, *_ in changed} <= MEANT


def test_a_question_beside_the_approaches_seldom_changes_the_first_step():
    num, changed = changes(with_questions)

    assert len(changed) / sum(num.values()) <= MOST_BESIDE


@pytest.mark.parametrize("beside", ["hardware", "hyperparameters", "data_format"])
def test_what_binds_comes_before_a_question_beside_it(beside):
    """Who asked for the memory of a run was not told first that its rows may not be used."""
    sold = {"data_source": "stronger_model", "product_use": "sold", "teacher": "openai"}
    asked = {"considering": ["distillation", beside]}

    assert decide(ApproachRequest(**asked, **sold)).id == "terms_before_a_sale"
    assert decide(ApproachRequest(**asked, has_eval_set=False)).id == "eval_first"


def test_what_is_asked_beside_a_cheaper_model_does_not_say_that_answers_are_wrong():
    for considering in (["distillation"], ["distillation", "data_mix"]):
        cheap = ApproachRequest(considering=considering, num_demonstrations=2000)
        assert decide(cheap).id == "cost_distil_volume_unknown"


if __name__ == "__main__":
    for variants in (with_facts, with_questions):
        num, changed = changes(variants)
        total = sum(num.values())
        sys.stdout.write(f"{len(changed)} of {total:,} ({len(changed) / total:.2%})\n")
        for name in num:
            flips = [each for each in changed if each[1] == name]
            sys.stdout.write(f"  {name}: {len(flips)} of {num[name]}\n")
            for case, _, before, after in flips:
                sys.stdout.write(f"    {case} {before} -> {after}\n")
