"""What is recommended, in cases of the public record and at the edges of the table."""

import json
import tomllib
from pathlib import Path

import pytest

from ft_tools.anti_patterns import ANTI_PATTERNS
from ft_tools.approach.cost import gpu_time, shortening
from ft_tools.approach.decision import decide
from ft_tools.approach.request import TRAINING, ApproachRequest
from ft_tools.approach.table import Table, table
from ft_tools.approach.tool import recommend_approach

SCENARIOS = tomllib.loads(Path(__file__).with_name("scenarios.toml").read_text())["scenario"]


def ask(**arguments):
    return recommend_approach(ApproachRequest(**{"response_format": "detailed"} | arguments))


def rules_against(report):
    """Return the rules that advise against something: blocked for good, or before other steps."""
    waiting = {rule for step in report.path for rule in step.rules}
    return waiting | {block.rule for block in report.blocked}


@pytest.mark.parametrize("case", SCENARIOS, ids=[case["story"][:60] for case in SCENARIOS])
def test_the_answer_is_that_of_the_public_record(case):
    report = ask(**case["request"])

    assert report.approach in case["expect"]
    assert set(case.get("blocked", [])) <= rules_against(report)


def test_there_are_at_least_forty_scenarios_each_with_a_source():
    assert len(SCENARIOS) >= 40
    assert all(case["source"].startswith("https://") for case in SCENARIOS)


def test_every_approach_of_the_vocabulary_is_reached_by_a_scenario():
    reached = {approach for case in SCENARIOS for approach in case["expect"]}

    assert reached == set(table().approaches)


@pytest.mark.parametrize(
    ("threshold", "field", "request_", "below", "at"),
    [
        (
            "long_context_tokens",
            "corpus_tokens",
            {"symptoms": ["knowledge_gap"], "has_documents": True},
            "long_context",
            "rag",
        ),
        (
            "sft_minimum",
            "num_demonstrations",
            {"symptoms": ["style"], "prompting_tried": "optimized"},
            "collect_data_first",
            "sft",
        ),
        (
            "preference_pairs",
            "num_preference_pairs",
            {"symptoms": ["preference"], "prompting_tried": "optimized"},
            "collect_data_first",
            "dpo",
        ),
        (
            "marks",
            "num_marks",
            {"symptoms": ["preference"], "prompting_tried": "optimized"},
            "collect_data_first",
            "kto",
        ),
        (
            "labels",
            "num_demonstrations",
            {"symptoms": ["classification", "cost"], "prompting_tried": "zero_shot"},
            "few_shot",
            "small_model_fine_tuning",
        ),
        (
            "classifier_calls",
            "calls_per_day",
            {
                "symptoms": ["classification"],
                "prompting_tried": "zero_shot",
                "num_demonstrations": 300,
            },
            "few_shot",
            "small_model_fine_tuning",
        ),
        (
            "cacheable_prefix",
            "prompt_tokens",
            {"symptoms": ["cost"], "prompting_tried": "zero_shot"},
            "prompting",
            "long_context",
        ),
        (
            "own_model_calls",
            "calls_per_day",
            {"symptoms": ["cost"], "prompting_tried": "optimized", "num_demonstrations": 900},
            "prompting",
            "distillation",
        ),
        (
            "rag_tuning",
            "num_demonstrations",
            {"symptoms": ["knowledge_gap", "style"], "prompting_tried": "optimized"},
            "rag",
            "sft_and_rag",
        ),
        (
            "pretraining_tokens",
            "corpus_tokens",
            {"symptoms": ["domain_jargon"], "budget": "high", "checkpoint": "base"},
            "rag",
            "continued_pretraining",
        ),
    ],
)
def test_each_threshold_turns_the_answer_at_its_edge(threshold, field, request_, below, at):
    line = int(table().thresholds[threshold].value)

    assert ask(**request_, **{field: line - 1}).approach == below
    assert ask(**request_, **{field: line}).approach == at


def test_an_unknown_that_would_change_the_answer_is_asked():
    report = ask(symptoms=["preference"], prompting_tried="few_shot", num_preference_pairs=5000)
    asked = {question.field: question.would_lead_to for question in report.questions}

    assert report.approach == "dpo"
    assert "sft_then_dpo" in asked["checkpoint"]
    assert "build_eval_first" in asked["has_eval_set"]


def test_an_unknown_that_would_not_change_the_answer_is_not_asked():
    report = ask(symptoms=["style"], prompting_tried="none", has_eval_set=True, target_met=False)

    assert {question.field for question in report.questions}.isdisjoint(
        {"num_preference_pairs", "corpus_tokens", "checkpoint", "budget"}
    )


def test_a_question_never_names_what_was_answered():
    report = ask(symptoms=["cost"], calls_per_day=10, prompt_tokens=100, budget="low")

    assert {question.field for question in report.questions}.isdisjoint(
        {"calls_per_day", "prompt_tokens", "budget", "symptoms"}
    )


def test_behind_the_eval_gate_the_next_answer_is_offered():
    report = ask(symptoms=["knowledge_gap"], has_documents=True, has_eval_set=False)

    assert report.approach == "build_eval_first"
    assert report.alternatives[0].approach == "rag"


def test_a_rule_of_thumb_comes_with_its_limit_and_a_source():
    report = ask(symptoms=["knowledge_gap"], has_documents=True)
    rule = report.classic_rules[0]

    assert "not what to know" in rule.rule
    assert "6 points" in rule.limit
    assert rule.source.startswith("https://")


def test_the_same_family_is_fine_when_a_check_filters_its_answers():
    arguments = {
        "symptoms": ["extraction"],
        "prompting_tried": "optimized",
        "num_demonstrations": 900,
        "data_source": "same_model_family",
    }

    assert ask(**arguments).approach == "collect_data_first"
    assert ask(**arguments, has_verifiable_reward=True).approach == "sft"


def test_terms_of_a_provider_do_not_bind_what_people_wrote():
    report = ask(
        symptoms=["style"],
        prompting_tried="optimized",
        num_demonstrations=900,
        data_source="human",
        teacher_terms="forbidden",
    )

    assert report.approach == "sft"
    assert "teacher_terms" not in rules_against(report)


def test_next_steps_carry_what_was_said(workspace):
    rows = [{"prompt": f"Say {n} in words", "completion": f"It is {n}"} for n in range(900)]
    (workspace / "tickets.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ask(
        symptoms=["style"],
        prompting_tried="optimized",
        num_demonstrations=900,
        gpu="A100-80GB",
        model="Qwen/Qwen2.5-7B-Instruct",
        dataset="tickets.jsonl",
    )
    arguments = {step.tool: step.arguments for step in report.next_steps}

    assert arguments["audit_dataset"]["path"] == "tickets.jsonl"
    assert arguments["suggest_lora_config"] == {
        "model": "Qwen/Qwen2.5-7B-Instruct",
        "goal": "style",
        "num_examples": 900,
        "gpu": "A100-80GB",
    }


def test_asking_again_as_suggested_leads_somewhere_else():
    report = ask(symptoms=["style"], prompting_tried="none", num_demonstrations=900)
    again = next(s.arguments for s in report.next_steps if s.tool == "recommend_approach")

    assert ask(**again).approach != report.approach


def test_every_row_of_the_table_can_be_reached_or_is_a_fallback():
    facts = table()
    ids = [row.id for row in facts.rows]

    assert len(ids) == len(set(ids))
    assert facts.rows[-1].when == {}
    assert all(row.when for row in facts.rows[:-1])


def test_every_threshold_is_used_and_every_need_too():
    facts = table()
    parts = (
        facts.rows,
        facts.blocks,
        facts.assets,
        facts.classics,
        facts.measurements,
        facts.mistakes,
        facts.approaches.values(),
    )
    text = str([row.model_dump() for part in parts for row in part])

    assert [name for name in facts.thresholds if f"'{name}'" not in text] == []
    assert [name for name in facts.needs if f"'{name}'" not in text] == []


def test_every_piece_of_evidence_is_cited():
    facts = table()
    cited = {key for row in facts.rows for key in row.evidence}
    others = (*facts.classics, *facts.mistakes, *facts.measurements, *facts.answers, *facts.notes)
    cited |= {row.evidence for row in others}

    assert facts.evidence.keys() - cited == set()


def test_a_misspelt_condition_is_refused_when_the_table_is_read():
    broken = table().model_dump()
    broken["rows"][0]["when"] = {"has_evalset": ["no"]}

    with pytest.raises(ValueError, match="has_evalset"):
        Table.model_validate(broken)


def test_training_approaches_are_the_ones_that_change_weights():
    assert {"sft", "dpo", "rlhf", "distillation"} <= TRAINING
    assert TRAINING.isdisjoint({"rag", "prompting", "collect_data_first", "do_nothing"})


def test_blocks_name_rules_that_exist():
    known = {pattern.id for pattern in ANTI_PATTERNS}

    assert {block.rule for block in table().blocks} <= known


def test_the_decision_is_the_first_row_that_holds():
    request = ApproachRequest(symptoms=["style"], has_eval_set=False, target_met=True)

    assert decide(request).id == "eval_first"


def test_an_unknown_gpu_does_not_stop_the_advice_and_is_said():
    given = {"symptoms": ["style"], "num_demonstrations": 3000}

    assert ask(**given, gpu="A1000000").approach == ask(**given).approach
    time = gpu_time("sft", ApproachRequest(**given, gpu="A1000000"))
    assert "'A1000000' is not listed" in time.assumptions[0]


def test_a_model_that_is_not_known_is_said():
    given = {"symptoms": ["style"], "num_demonstrations": 3000}
    time = gpu_time("sft", ApproachRequest(**given, model="no/such-model"))
    assert "'no/such-model' is not known here" in time.assumptions[0]


def test_invented_content_is_no_missing_fact_where_the_text_is_in_the_prompt():
    invented = {"symptoms": ["hallucination", "extraction"], "prompting_tried": "none"}

    assert ask(**invented).row == "invented_from_the_prompt"
    assert ask(schema_enforced=True, **invented).row == "prompt_first"


def test_invented_content_is_a_missing_fact_only_where_there_is_something_to_look_up():
    invented = {"symptoms": ["hallucination"], "prompting_tried": "none"}

    assert ask(**invented).approach == "prompting"
    assert ask(has_documents=True, **invented).approach == "rag"
    assert ask(considering=["rag"], **invented).approach == "rag"


@pytest.mark.parametrize(
    ("prompt_tokens", "repaid"),
    [
        (900, "416,667 calls"),
        (2000, "3,333,333 calls"),
        (10_000, "370,370 calls"),
        (1024, "138,888,889 calls"),
    ],
)
def test_the_sum_for_training_a_prompt_away_is_done(prompt_tokens, repaid):
    report = ask(symptoms=["cost"], prompt_tokens=prompt_tokens, calls_per_day=10_000)

    assert repaid in report.reasons[-1].threshold


def test_a_cached_prompt_near_its_shortest_never_repays_a_run():
    assert shortening(
        ApproachRequest(symptoms=["cost"], prompt_tokens=90, calls_per_day=5)
    ).threshold == ("never pays off")
    assert shortening(ApproachRequest(symptoms=["cost"], calls_per_day=5)) is None
