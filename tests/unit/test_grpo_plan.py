"""launch_grpo before anything runs: what the rewards are tried on, and what a plan refuses."""

import json
import re

import pytest

from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.errors import BadData, BadInput, Missing, Refused
from ft_tools.formats.training_rows import survey
from ft_tools.training.grpo.probe import judged, summed_up, train_first
from ft_tools.training.grpo.prompts import read_prompts
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_grpo, launch_sft
from tests.unit.launches import accepting, ids, started

NUMBER = {"kind": "number"}
LABELS = ["billing", "shipping", "returns", "other"]


def write_rows(files, rows, name="prompts.jsonl"):
    (files / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def sums(count=40, **more):
    return [
        {"prompt": f"What is {i} times 3?", "answer": str(3 * i), **more}
        for i in range(9, count + 9)
    ]


def powers(count=40):
    return [{"prompt": f"What is 3 to the {i}?", "answer": str(3**i)} for i in range(4, count + 4)]


def tickets(count=40):
    return [{"prompt": f"Ticket {i}: sort it.", "answer": LABELS[i % 4]} for i in range(count)]


def objects(count=40):
    return [
        {"prompt": f"Order number {i}", "answer": json.dumps({"order": i, "team": LABELS[i % 4]}),
         "order": i, "team": LABELS[i % 4]}
        for i in range(count)
    ]  # fmt: skip


def reasons(count=40):
    return [
        {"prompt": f"Ticket {i}: sort it.", "team": LABELS[i % 2],
         "answer": f"It is about case {i}.\nteam: {LABELS[i % 2]}"}
        for i in range(count)
    ]  # fmt: skip


def thoughts(count=40):
    return [
        row | {"answer": f"<think>It is case {i}.</think>\n\n{row['answer']}"}
        for i, row in enumerate(tickets(count))
    ]


def mostly_other(count=40):
    labels = ["other" if i % 8 else "billing" for i in range(count)]
    return [{"prompt": f"Sort {i}.", "answer": label} for i, label in enumerate(labels)]


def shares(count=40):
    return [{"prompt": f"Guests {i}?", "answer": f"{i + 3} out of 100"} for i in range(count)]


def grpo(files, rows=None, rewards=(NUMBER,), **changed):
    given = {"model": "instruct", "dataset": write_rows(files, rows or sums())}
    return launch_grpo(GrpoRequest(**given | {"rewards": list(rewards), "probe": False} | changed))


SCHEMA = {"type": "object", "required": ["order", "team"]}
VALUES = {"kind": "json_schema", "schema": SCHEMA, "values": {"order": "order", "team": "team"}}
SOUND = {
    "number": (sums, [NUMBER]),
    "label": (tickets, [{"kind": "equals"}]),
    "values of JSON": (objects, [VALUES]),
    "label in a form": (
        tickets,
        [{"kind": "equals", "extract": {"pattern": "team: (.*)"}, "weight": 2},
         {"kind": "pattern", "pattern": "team: [a-z]+"}],
    ),
    "label after a thought": (thoughts, [{"kind": "equals"}]),
    "label and its thought": (
        thoughts,
        [{"kind": "equals", "weight": 2}, {"kind": "pattern", "pattern": "(?s)<think>.*</.*"}],
    ),
    "label after a reason": (
        reasons,
        [{"kind": "equals", "reference": "team", "extract": {"pattern": "team: (.*)"}}],
    ),
}  # fmt: skip
FLAWED = {
    "any JSON": (objects, [{"kind": "json_schema", "schema": SCHEMA}], "other_answer"),
    "any label": (tickets, [{"kind": "pattern", "pattern": "|".join(LABELS)}], "other_answer"),
    "every label": (tickets, [{"kind": "contains", "texts": "answer"}], "every_label"),
    "one label in most rows": (mostly_other, [{"kind": "equals"}], "most_common"),
    "a number that all rows have": (shares, [NUMBER], "other_answer"),
    "form outweighs": (
        sums,
        [NUMBER, {"kind": "pattern", "pattern": "[0-9]+", "weight": 3}],
        "other_answer",
    ),
    "a near number": (powers, [{**NUMBER, "relative_tolerance": 0.4}], "number_off"),
    "a number of any sign": (
        sums,
        [{"kind": "number", "reference": "answer", "extract": {"pattern": "([0-9]+)"}}],
        "sign_changed",
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_reward_that_tells_right_from_wrong_passes(files, name):
    rows, rewards = SOUND[name]
    format_ = {"reference_format": "team: {answer}"} if name == "label in a form" else {}
    plan = grpo(files, rows(), rewards, **format_).plan
    assert plan["reward_test"]["references_right"] == 1.0
    gaps = plan["reward_test"]["gaps"]
    assert gaps.pop("most_common") >= 0.2
    assert min(gaps.values()) >= 0.5
    assert plan["reward_test"]["rows"] == 16


@pytest.mark.parametrize("name", FLAWED)
def test_a_reward_that_pays_for_junk_is_refused_with_the_case(files, name):
    rows, rewards, case = FLAWED[name]
    with pytest.raises(Refused, match=rf"\({case}\).* line \d+ "):
        grpo(files, rows(), rewards)
    assert started() == []


def test_a_reward_that_rejects_references_is_refused(files):
    with pytest.raises(Refused, match=r"16 of 16 references.* line 1 .*number 0"):
        grpo(files, rewards=[{**NUMBER, "extract": {"pattern": "= (.*)"}}])


def test_a_wrong_answer_that_is_right_by_chance_is_no_junk(files):
    rows = sums() + [{"prompt": f"What is {i} plus 0?", "answer": "12"} for i in range(20)]
    assert grpo(files, rows).plan["reward_test"]["gaps"]["other_answer"] == 1.0


def test_rows_without_references_are_tried_on_what_remains(files):
    rows = [{"prompt": f"Say something {chr(97 + i % 26) * (i + 1)}"} for i in range(40)]
    found = grpo(files, rows, [{"kind": "contains", "texts": ["7"]}])
    assert found.plan["reward_test"].get("references_right") is None
    tried = {"empty", "prompt_copied", "anything", "repeated"}
    assert set(found.plan["reward_test"]["gaps"]) == tried
    assert "no_references" in ids(found.warnings)


def test_a_plan_holds_prompts_out_and_trains_whole_groups(files):
    plan = grpo(files).plan
    training = plan["training"]
    assert plan["validation"]["num_examples"] == 8
    assert plan["dataset"]["num_examples"] == 32
    assert plan["prompts_per_step"] == 8
    micro, steps = (
        training[name] for name in ("per_device_train_batch_size", "gradient_accumulation_steps")
    )
    assert micro * steps == 64
    assert plan["estimate"]["steps"] == 80  # 20 epochs of 4 steps
    assert training["beta"] == 0.0
    assert training["learning_rate"] == 1e-5
    assert plan["peft"]["r"] == 16
    assert plan["peft"]["lora_dropout"] == 0.0
    assert training["eval_on_start"]


def test_rows_of_an_sft_file_have_their_references_in_the_answers(files):
    turns = [
        {"prompt": [{"role": "user", "content": row["prompt"]}],
         "completion": [{"role": "assistant", "content": row["answer"]}]}
        for row in sums()
    ]  # fmt: skip
    talks = [{"messages": row["prompt"] + row["completion"]} for row in turns]
    for rows in (turns, talks):
        assert grpo(files, rows).plan["reward_test"]["references_right"] == 1.0


@pytest.mark.parametrize(
    ("changed", "error", "problem"),
    [
        ({"per_device_train_batch_size": 64, "gradient_accumulation_steps": 8}, BadInput,
         "32 prompts.*a step sees 64"),
        ({"per_device_train_batch_size": 12}, BadInput, "whole groups"),
        ({"per_device_eval_batch_size": 6}, BadInput, "whole groups"),
        ({"num_iterations": 2}, BadInput, "not accepted"),
        ({"beta": 2.0}, BadInput, "outside"),
        ({"use_vllm": True}, BadInput, "the base drifts"),
        ({"method": "full", "beta": 0.04}, BadInput, "second copy"),
        ({"method": "full", "use_vllm": True}, Missing, "vllm"),
    ],
)  # fmt: skip
def test_arguments_that_trl_would_fail_on_are_refused(files, changed, error, problem):
    training = {name: value for name, value in changed.items() if name != "method"}
    with pytest.raises(error, match=problem):
        grpo(files, method=changed.get("method", "lora"), training=training)


def test_a_column_that_a_reward_reads_has_to_be_there(files):
    with pytest.raises(BadData, match="result"):
        grpo(files, rewards=[{**NUMBER, "reference": "result"}])


def test_prompts_that_are_trained_on_are_not_held_out(files):
    beside = write_rows(files, sums(12)[4:] + sums(60)[50:], "beside.jsonl")
    with pytest.raises(Refused, match=r"train_validation_leak: 8 prompts.*line 1 there, 5 here"):
        grpo(files, validation=beside)


def test_code_of_the_users_own_runs_once_its_hash_is_given(files):
    (files / "score.py").write_text(
        "open('ran', 'w')\n"
        "def score(answer, row):\n"
        "    return float(answer.strip() == row['answer'])\n"
    )
    check = {"kind": "python", "path": "score.py"}
    with pytest.raises(Refused, match=r"SHA-256 is [0-9a-f]{64}") as refused:
        grpo(files, rewards=[check])
    assert not (files / "ran").exists()
    (sha256,) = re.findall("[0-9a-f]{64}", str(refused.value))
    plan = grpo(files, rewards=[check | {"sha256": sha256}]).plan
    assert plan["reward_files"] == {"score.py": sha256}
    assert plan["reward_test"]["references_right"] == 1.0
    with pytest.raises(Refused, match="SHA-256"):
        grpo(files, rewards=[check | {"sha256": "0" * 64}])


def test_scripts_for_elsewhere_are_refused_by_name(files):
    with pytest.raises(BadInput, match="no scripts"):
        grpo(files, export_dir="out")


def probed(rewards, truncated=0):
    count = sum(map(len, rewards))
    return summed_up(rewards, {}, [9] * count, num_truncated=truncated, seconds=1.0)


def decided(found, accepted=()):
    return judged(found, accepted, longest=64, first=None)


GRADED = [[0.2, 0.4], [0.0, 0.1]]
SOLVED = [[1, 0], [0, 1], [1, 0], [0, 0]]
NEVER = [[0, 0]] * 16
ALIKE = [[1, 1]] * 31 + [[1, 0]]


@pytest.mark.parametrize(
    ("rewards", "truncated", "problem"),
    [
        (NEVER, 0, r"none of 32 answers to 16 prompts.*0% to 19%.*launch_sft"),
        (ALIKE, 0, "84% to 99%; at most 80% may"),
        (SOLVED * 8, 63, "cut at training.max_completion_length=64.*=128 or more"),
        # Cut answers may be what is wrong with them: that comes first.
        (NEVER, 20, "62% of 32 answers.*cut at"),
    ],
)
def test_a_model_that_earns_nothing_is_refused_and_can_be_accepted(rewards, truncated, problem):
    found = probed(rewards, truncated)
    with pytest.raises(Refused, match=rf"rl_zero_reward.*{problem}"):
        decided(found)
    assert decided(found, accepting("rl_zero_reward")["accept_findings"])


@pytest.mark.parametrize(
    ("rewards", "truncated", "warned"),
    [
        (SOLVED, 0, []),
        (GRADED, 0, ["probe_none_right"]),
        ([[1, 1], [1, 1], [1, 0], [1, 1]], 0, ["probe_too_easy", "probe_little_spread"]),
        (SOLVED, 3, ["probe_cut"]),
        # Eight prompts without a right answer leave up to a third that has one.
        (NEVER[:8], 0, ["probe_undecided"]),
    ],
)
def test_what_a_probe_warns_of(rewards, truncated, warned):
    assert ids(decided(probed(rewards, truncated))) == ["probe_measured", *warned]


def test_a_refused_launch_names_the_call_that_trains_on_its_references(files):
    def first(rows, **changed):
        asked = GrpoRequest(
            **{"model": "instruct", "dataset": write_rows(files, rows), "rewards": [NUMBER]}
            | changed
        )
        facts = survey(files / asked.dataset, "grpo", {"answer", "completion"})
        return train_first(asked, facts, read_prompts(facts))

    step = first(sums(), reference_format="= {answer}")
    assert step.tool == "prepare_dataset"
    prepared = prepare_dataset(PrepareRequest(**step.arguments))
    assert (prepared.num_rows, prepared.not_used) == (40, [])
    assert "= 48" in prepared.examples[0].answer
    talks = [{"messages": [{"role": "user", "content": row["prompt"]},
                           {"role": "assistant", "content": row["answer"]}]}
             for row in sums()]  # fmt: skip
    step = first(talks)
    assert step.tool == "launch_sft"
    assert launch_sft(SftRequest(**step.arguments)).plan_hash
    assert first([{"prompt": f"Write about {i}."} for i in range(9)]) is None
