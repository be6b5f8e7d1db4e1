"""Each rule fires in each tool that its row names, and its override is recorded with a reason."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ft_tools import workspace as workspace_module
from ft_tools.anti_patterns import rules
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.tool import create_dataset
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import Refused
from ft_tools.evaluation.conclude import Call, concluded
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import Settings, compare_scores
from ft_tools.evaluation.tool import evaluate
from ft_tools.runs.state.records import Status
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.grpo.probe import summed_up
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_grpo, launch_sft
from tests.made_runs import made_run

TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
SECRET = "AKIA" + "Q7RZ2MPX" * 2
TEST_OF_A_WORKER = Path(__file__).parents[1] / "tiny" / "test_rules_fire.py"
LEAK = "train_validation_leak"
REASON = "the user wants to see it"
WEIGHT = np.zeros((4, 4), np.float32)


# ----------------------------------------------------------- refusals: calls that a tool refuses


def chat(number):
    return {
        "messages": [
            {"role": "user", "content": f"Where is parcel number {number}?"},
            {"role": "assistant", "content": f"Parcel {number} is in Oslo since day {number * 7}."},
        ]
    }


def pair(number):
    user, good = chat(number)["messages"]
    bad = {"role": "assistant", "content": f"Parcel {number}? No idea."}
    return {"prompt": [user], "chosen": [good], "rejected": [bad]}


def text_pair(number):
    each = pair(number)
    return {name: turns[0]["content"] for name, turns in each.items()}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def model(folder, *, template, **config):
    folder.mkdir(parents=True)
    about = {"model_type": "llama", "max_position_embeddings": 256} | config
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "tokenizer_config.json").write_text(json.dumps({}))
    if template:
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    save_file({"model.layers.0.mlp.up_proj.weight": WEIGHT}, folder / "model.safetensors")


def adapter(folder, **config):
    folder.mkdir()
    about = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "base_model_name_or_path": "instruct"}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    stem = "base_model.model.model.layers.0.mlp.up_proj"
    named = {f"{stem}.lora_{matrix}.weight": WEIGHT for matrix in "AB"}
    save_file(named, folder / "adapter_model.safetensors")


@pytest.fixture
def files(workspace, monkeypatch):
    """Write models, adapters, a finished run and data, some of each as they should not be."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    model(workspace / "instruct", template=True)
    model(workspace / "base", template=False)
    model(workspace / "gptq", template=True, quantization_config={"quant_method": "gptq"})
    adapter(workspace / "adapter")
    adapter(workspace / "pissa", init_lora_weights="pissa_niter_4")
    adapter(workspace / "over_gptq", base_model_name_or_path="gptq")
    write(workspace / "train.jsonl", map(chat, range(30)))
    write(workspace / "pairs.jsonl", map(pair, range(20)))
    write(workspace / "text_pairs.jsonl", map(text_pair, range(20)))
    bad = chat(99)
    bad["messages"][1]["content"] = f"Use {SECRET} for now."
    write(workspace / "dirty.jsonl", [*map(chat, range(30)), bad])
    dirty = pair(99)
    dirty["chosen"][0]["content"] = f"Use {SECRET} for now."
    write(workspace / "dirty_pairs.jsonl", [*map(pair, range(20)), dirty])
    write(workspace / "test.jsonl", map(chat, range(200, 202)))
    write(workspace / "test_pairs.jsonl", map(pair, range(200, 202)))
    audit_dataset(AuditRequest(path="test.jsonl", purpose="test"))
    audit_dataset(AuditRequest(path="test_pairs.jsonl", purpose="test"))
    write(workspace / "tested.jsonl", map(chat, range(180, 202)))
    write(workspace / "tested_pairs.jsonl", map(pair, range(182, 202)))
    rate = [{"rating": "up"}, {"rating": "down"}]
    write(workspace / "rated.jsonl", [chat(at) | rate[at % 2] for at in range(30)])
    write(workspace / "rated_pairs.jsonl", [pair(at) | rate[at % 2] for at in range(20)])
    run = workspace / "runs" / "sft-0123456789abcdef"
    (run / "artifacts").mkdir(parents=True)
    model(run / "artifacts" / "model", template=True)
    plan = {"dataset": {"path": str(workspace / "train.jsonl"), "format": "messages"}}
    made_run(run.name, files={"plan": plan}, lineage={"base_model": "instruct"})
    return workspace


def sft(**changed):
    return launch_sft(SftRequest(**{"model": "instruct", "dataset": "train.jsonl"} | changed))


def dpo(**changed):
    return launch_dpo(DpoRequest(**{"model": "instruct", "dataset": "pairs.jsonl"} | changed))


def create(**changed):
    endpoint = {"url": "http://127.0.0.1:1/v1", "model": "claude-x"}
    given = {"source": "train.jsonl", "kind": "answers", "output_dir": "made"}
    return create_dataset(CreateRequest(**given, teacher={"endpoint": endpoint}, **changed))


def grpo(**changed):
    given = {"model": "instruct", "dataset": "train.jsonl", "rewards": [{"kind": "equals"}]}
    return launch_grpo(GrpoRequest(**given | {"probe": False} | changed))


def loosely_rewarded(**changed):
    """Call it with a reward that reads one of three fields."""
    answers = [json.dumps({"a": i, "b": i + 1, "c": i + 2}) for i in range(40)]
    rows = [
        {"prompt": f"Fill in form {i}.", "answer": one, "a": i} for i, one in enumerate(answers)
    ]
    path = workspace_module.roots()[0] / "forms.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    check = {"kind": "json_schema", "schema": {"type": "object"}, "values": {"a": "a"}}
    return grpo(dataset="forms.jsonl", rewards=[check], **changed)


def probed_grpo(**changed):
    """Call it where a probe has found that no answer earns anything."""
    key = grpo().plan["probe_key"]
    found = summed_up([[0, 0]] * 16, {}, [5] * 32, num_truncated=0, seconds=1.0)
    files = {"plan": {"probe_key": key}, "report": {"result": found.model_dump()}}
    made_run("grpo_probe-0123456789abcdef", Status(state="succeeded"), files=files)
    return grpo(probe=True, **changed)


def ship(source, **changed):
    return merge_and_quantize(ShipRequest(source=source, **changed))


def measure(**changed):
    run = "sft-0123456789abcdef"
    return evaluate(
        EvaluateRequest(
            **{"model": run, "baseline": "instruct", "dataset": "train.jsonl"} | changed
        )
    )


TWO_EPOCHS = {"num_train_epochs": 2}
REFUSALS = {
    ("dpo_before_sft", "launch_dpo"): (dpo, {"model": "base", "dataset": "text_pairs.jsonl"}),
    ("no_quality_filter", "launch_sft"): (sft, {"dataset": "dirty.jsonl"}),
    ("no_quality_filter", "launch_dpo"): (dpo, {"dataset": "dirty_pairs.jsonl"}),
    ("teacher_terms", "create_dataset"): (create, {}),
    ("advised_against", "launch_sft"): (sft, {"advice": {"purpose": "facts"}}),
    ("advised_against", "launch_dpo"): (dpo, {"advice": {"num_pairs": 4}}),
    ("test_row", "launch_sft"): (sft, {"dataset": "tested.jsonl"}),
    ("test_row", "launch_dpo"): (dpo, {"dataset": "tested_pairs.jsonl"}),
    ("undecided_columns", "launch_sft"): (sft, {"dataset": "rated.jsonl"}),
    ("undecided_columns", "launch_dpo"): (dpo, {"dataset": "rated_pairs.jsonl"}),
    ("validation_unwatched", "launch_sft"): (sft, {"training": TWO_EPOCHS}),
    ("validation_unwatched", "launch_dpo"): (dpo, {"training": TWO_EPOCHS}),
    ("validation_unwatched", "launch_grpo"): (
        grpo,
        {"training": {**TWO_EPOCHS, "eval_strategy": "no"}},
    ),
    ("advised_against", "launch_grpo"): (grpo, {"advice": {"success_fraction": 0.0}}),
    ("rl_zero_reward", "launch_grpo"): (probed_grpo, {}),
    ("uncompared_values", "launch_grpo"): (loosely_rewarded, {}),
    ("test_row", "launch_grpo"): (grpo, {"dataset": "tested.jsonl"}),
    ("undecided_columns", "launch_grpo"): (grpo, {"dataset": "rated.jsonl"}),
    (LEAK, "launch_grpo"): (grpo, {"validation": "train.jsonl"}),
    (LEAK, "launch_sft"): (sft, {"validation": "train.jsonl"}),
    (LEAK, "launch_dpo"): (dpo, {"validation": "pairs.jsonl"}),
    (LEAK, "evaluate"): (measure, {}),
    ("dpo_learning_rate", "launch_dpo"): (dpo, {"training": {"learning_rate": 2e-4}}),
}
NO_WAY_AROUND = {
    ("unrepeatable_start", "launch_sft"): (
        sft,
        {"peft": {"init_lora_weights": "pissa_niter_4"}},
    ),
    ("unrepeatable_start", "launch_dpo"): (
        dpo,
        {"peft": {"init_lora_weights": "pissa_niter_4"}},
    ),
    ("unrepeatable_start", "launch_grpo"): (
        grpo,
        {"peft": {"init_lora_weights": "pissa_niter_4"}},
    ),
    ("unrepeatable_start", "merge_and_quantize"): (ship, {"source": "pissa"}),
    ("merge_into_quantized", "merge_and_quantize"): (ship, {"source": "over_gptq"}),
}


@pytest.mark.parametrize(("rule_id", "tool"), REFUSALS)
def test_a_refusal_names_the_rule_and_is_overridden_by_a_reason_that_the_plan_keeps(
    files, rule_id, tool
):
    call, arguments = REFUSALS[rule_id, tool]
    with pytest.raises(Refused, match=f"^{rule_id}: .*accept_findings"):
        call(**arguments)
    with pytest.raises(ValueError, match="accept_reason"):
        call(**arguments, accept_findings=[rule_id])

    plan = call(**arguments, accept_findings=[rule_id], accept_reason=REASON).plan

    assert plan["accepted"] == [rule_id]
    assert plan["accept_reason"] == REASON


@pytest.fixture
def small_card(files, smi):
    """Put a card of 15 GiB into the machine, as its driver would report it."""
    smi("0, GPU-1a, NVIDIA T4, 15360, 0, 7.5, 535.54.03, [N/A]")


TOO_LARGE = {"model": "meta-llama/Llama-3.1-8B-Instruct", "method": "lora"}
ON_A_CARD = {
    (rule_id, tool): (call, arguments, said)
    for rule_id, arguments, said in (
        ("does_not_fit", TOO_LARGE, "In this order: "),
        ("memory_unchecked", {}, "no 'hidden_size'"),
    )
    for tool, call in (("launch_sft", sft), ("launch_dpo", dpo), ("launch_grpo", grpo))
}


@pytest.mark.parametrize(("rule_id", "tool"), ON_A_CARD)
def test_a_run_that_does_not_fit_or_cannot_be_checked_is_refused_until_its_reason_is_kept(
    small_card, files, rule_id, tool
):
    call, arguments, said = ON_A_CARD[rule_id, tool]
    config = files / "instruct" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "hidden_size": None}))
    with pytest.raises(Refused, match=f"^{rule_id}: .*{said}.*accept_findings"):
        call(**arguments)

    plan = call(**arguments, accept_findings=[rule_id], accept_reason=REASON).plan

    assert (plan["accepted"], plan["accept_reason"]) == ([rule_id], REASON)


@pytest.mark.parametrize(("rule_id", "tool"), NO_WAY_AROUND)
def test_what_would_give_a_wrong_model_has_no_way_around(files, rule_id, tool):
    call, arguments = NO_WAY_AROUND[rule_id, tool]

    with pytest.raises(Refused, match=f"^{rule_id}: .*Override: None"):
        call(**arguments)


# ------------------------------------------------------------- what a tool does or says itself


def test_every_format_of_an_adapter_is_made_from_the_merged_model(files):
    plan = ship("adapter", formats=["gguf:Q8_0", "mlx:8bit"]).plan

    assert plan["adapter"]["route"] == "shards"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ([0.0, 1.0] * 5, [1.0, 1.0] + [0.0, 1.0] * 4, "underpowered"),
        ([0.0] * 60, [1.0] * 60, "general_ability_unwatched"),
    ],
)
def test_a_difference_that_may_be_chance_or_came_at_a_cost_is_not_called_ready(before, after, said):
    scores = {"baseline": {"exact_match": before}, "tuned": {"exact_match": after}}
    rows = compare_scores(scores, Settings(seed=0, smallest_effect=0.1))
    found = EvaluationReport(tuned="sft-1", baseline="base", summary=[], comparisons=rows)

    assert said in " ".join(concluded(found, 0.1, Call("evaluate-1", {})).summary)


FIRED_HERE = {
    *REFUSALS,
    *ON_A_CARD,
    *NO_WAY_AROUND,
    ("quantize_unmerged", "merge_and_quantize"),
    ("unpaired_comparison", "evaluate"),
    ("general_ability_unwatched", "evaluate"),
}
FIRED_BY_A_WORKER = {("unproven_merge", "merge_and_quantize")}
ADVICE = {  # tests/unit/test_advice_launches.py, test_advice.py
    *("knowledge_injection", "same_family_data", "dpo_before_sft", "no_eval_set", "teacher_terms"),
    *("prompt_not_tried", "too_few_examples", "dpo_new_skill", "rl_zero_reward", "moving_target"),
    *("pretraining_on_instruct", "prompt_shortening", "no_quality_filter"),
}


def test_every_rule_has_a_test_in_every_tool_of_its_row():
    promised = {(each.id, tool) for each in rules().values() for tool in each.tools}

    advised = {(rule_id, "recommend_approach") for rule_id in ADVICE}
    assert promised == FIRED_HERE | FIRED_BY_A_WORKER | advised
    for rule_id, _ in FIRED_BY_A_WORKER:
        assert rule_id in TEST_OF_A_WORKER.read_text(encoding="utf-8")
    for each in rules().values():
        assert each.tools
        assert each.source.startswith("https://")
