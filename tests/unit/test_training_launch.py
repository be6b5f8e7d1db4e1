"""Plans: what they resolve, what stops them, and that nothing starts unconfirmed."""

import contextlib
import json
import math
from pathlib import Path

import pytest

from ft_tools.concise import presented
from ft_tools.errors import (
    BadData,
    BadInput,
    FineTuningError,
    NotFound,
    PlanChanged,
    Refused,
)
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.lora.request import LoraRequest
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.adapter_targets import peft_arguments
from ft_tools.models.shape_of_model import shape_of
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.launchers.table import Place
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training import plan_warnings
from ft_tools.training.checks.memory import fastest_that_fits, host_memory, require_fit
from ft_tools.training.plan import plan_dpo, plan_sft
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.suggestion import suggest_lora_config
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.unit.launches import CONFIG, accepting, dpo, ids, planned, sft, started, write


def test_a_plan_is_shown_and_nothing_starts(files):
    launched = launch_sft(sft(validation="held_out.jsonl", training={"num_train_epochs": 2}))
    assert not launched.started
    assert launched.run_id is None
    assert not started()
    plan = launched.plan
    assert plan["model"]["num_params"] == 5000
    assert plan["dataset"]["num_examples"] == 30
    assert plan["validation"]["num_examples"] == 10
    assert plan["estimate"]["steps"] == 2 * math.ceil(30 / 4)
    assert plan["chosen_for"].startswith("instruction; 30 rows trained on")
    assert plan["peft"]["r"] == 16
    assert plan["training"]["max_length"] == 256
    assert plan["patience"] == 3
    assert launched.next_steps[0].arguments["confirm"] == launched.plan_hash
    # What a user agrees to is time and memory, whatever the warnings take of a concise plan.
    shown = presented(launched, "launch_sft", sft())
    assert {"duration", "memory"} <= shown["plan"]["estimate"].keys()


def test_a_plan_names_the_steps_that_fit_into_a_budget_and_what_a_step_is(files):
    seconds = launch_sft(sft()).plan["estimate"]["duration"]["high_seconds"]
    for share, warned in ((0.5, True), (2, False)):
        launched = launch_sft(sft(budget_hours=share * seconds / 3600))
        assert ("budget_ends_early" in ids(launched.warnings)) is warned
    (said,) = [one for one in launch_sft(sft(budget_hours=seconds / 7200)).warnings
               if one.startswith("budget_ends_early")]  # fmt: skip
    assert f"{launched.plan['estimate']['steps'] // 2:,} to" in said
    assert "sequences (micro-batch x accumulation" in launched.summary


def test_rows_are_held_out_where_no_validation_is_named_and_the_schedule_is_open(files):
    write(files / "many.jsonl", 0, 120)
    plan = plan_sft(sft(dataset="many.jsonl"))
    assert plan.validation is not None
    assert (plan.dataset.num_examples, plan.validation.num_examples) == (100, 20)
    parts = [Path(facts.path).read_text().splitlines() for facts in (plan.dataset, plan.validation)]
    assert sorted(parts[0] + parts[1]) == sorted((files / "many.jsonl").read_text().splitlines())
    assert plan.training["num_train_epochs"] > 1
    assert "held_out" in ids(plan.warnings)
    # Few rows are repeated, and watched too; fewer are seen once.
    few = plan_sft(sft())
    assert (few.dataset.num_examples, few.validation.num_examples, few.patience) == (24, 6, 3)
    assert (few.training["num_train_epochs"], few.estimate.steps) == (10, 60)
    write(files / "fewer.jsonl", 0, 19)
    alone = plan_sft(sft(dataset="fewer.jsonl"))
    assert (alone.validation, alone.training["num_train_epochs"]) == (None, 1)
    assert plan_dpo(dpo()).validation is None
    assert plan_sft(sft(dataset="many.jsonl")).validation == plan.validation
    for chosen in ({"num_train_epochs": 1}, {"eval_strategy": "no"}):
        assert plan_sft(sft(dataset="many.jsonl", training=chosen)).validation is None
    Path(plan.validation.path).write_text("{}")
    with pytest.raises(BadData, match="was changed"):
        plan_sft(sft(dataset="many.jsonl"))


def test_what_is_suggested_for_marks_is_a_launch_of_kto(files):
    """Its loss is one of marks, and a micro-batch has an answer to compare with."""
    rows = [
        {"prompt": f"Where is {at}?", "completion": f"In {at}.", "label": at % 2 == 0}
        for at in range(60)
    ]
    (files / "marks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suggested = suggest_lora_config(LoraRequest(model="instruct", dataset="marks.jsonl", gpu="L4"))
    assert (suggested.task, suggested.training["loss_type"]) == ("kto", "kto")
    assert suggested.training["per_device_train_batch_size"] >= 2
    (step,) = suggested.next_steps
    assert step.tool == "launch_dpo"
    plan = launch_dpo(DpoRequest(**step.arguments, **accepting("dpo_learning_rate"))).plan
    assert plan["task"] == "kto"
    assert plan["training"]["loss_type"] == "kto"
    pairs = {**step.arguments, "training": {"loss_type": ["sigmoid"]}}
    with pytest.raises(BadInput, match=r"has single answers with a label; use .*kto"):
        launch_dpo(DpoRequest(**pairs))


@pytest.mark.parametrize("beside", [False, True])
def test_a_suggestion_and_its_launch_train_on_the_same_rows_in_the_same_steps(files, beside):
    write(files / "train.jsonl", 0, 300)
    if beside:
        write(files / "validation.jsonl", 300, 320)
    request = LoraRequest(model="instruct", dataset="train.jsonl", gpu="RTX 4090")
    suggested = suggest_lora_config(request)
    plan = plan_sft(SftRequest(**suggested.next_steps[0].arguments))
    epochs = suggested.training["num_train_epochs"]
    assert plan.training["num_train_epochs"] == epochs > 1
    # Of 270 rows where the launch holds 30 out.
    batches = math.ceil((300 if beside else 270) / suggested.effective_batch)
    assert plan.estimate.steps == suggested.estimated_steps == epochs * batches
    assert plan.validation.num_examples == (20 if beside else 30)
    assert plan.training["max_length"] == suggested.training["max_length"]


def test_the_same_request_has_the_same_hash_and_changed_data_another(files):
    first = launch_sft(sft()).plan_hash
    assert launch_sft(sft(name="another", price_per_hour=2)).plan_hash == first
    write(files / "train.jsonl", 0, 31)
    assert launch_sft(sft()).plan_hash != first


def test_a_refused_confirmation_names_what_differs_from_the_plan_that_was_shown(files):
    shown = launch_sft(sft(training={"learning_rate": 1e-4})).plan_hash
    with pytest.raises(PlanChanged, match=r"plan\.training\.learning_rate \(0.0001 when it was"):
        launch_sft(sft(training={"learning_rate": 2e-4}, confirm=shown))
    write(files / "train.jsonl", 0, 31)
    with pytest.raises(PlanChanged, match=r"plan\.dataset\.sha256"):
        launch_sft(sft(training={"learning_rate": 1e-4}, confirm=shown))
    with pytest.raises(PlanChanged, match="no plan with that hash"):
        launch_sft(sft(confirm="0" * 16))
    shown = launch_sft(sft()).plan_hash
    weights = files / "instruct" / "model.safetensors"
    weights.touch()
    assert launch_sft(sft()).plan_hash == shown
    weights.write_bytes(weights.read_bytes()[:-1] + b"1")
    with pytest.raises(PlanChanged, match=r"plan\.model\.files_sha256"):
        launch_sft(sft(confirm=shown))
    assert not started()


@pytest.mark.parametrize(
    ("changed", "error", "told"),
    [
        ({"model": "absent"}, NotFound, "absent"),
        ({"dataset": "absent.jsonl"}, NotFound, "absent.jsonl"),
        ({"backend_options": {"nodes": 2}}, BadInput, "backend_options of local: nodes"),
        ({"backend_options": {"colour": 2}}, BadInput, "colour"),
        ({"method": "full", "peft": {"r": 8}}, BadInput, "leave it empty"),
        ({"training": {"max_steps": 100}}, Refused, "validation_unwatched"),
        ({"training": {"eval_strategy": "steps"}}, BadInput, "needs `validation`"),
        ({"model": "base"}, BadInput, "no chat template"),
        ({"training": {"chat_template_path": "train.jsonl"}}, BadInput, ".jinja"),
        ({"dataset": "pairs.jsonl"}, BadInput, "not `messages`"),
    ],
)
def test_what_could_not_work_is_refused_with_its_cure(files, changed, error, told):
    with pytest.raises(error) as raised:
        launch_sft(sft(**changed))
    assert told in str(raised.value)
    assert not started()


MARKED = [
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": "No idea.", "weight": 0},
    {"role": "user", "content": "Look again."},
    {"role": "assistant", "content": "In Oslo.", "weight": 1},
]


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ({"system": "Be brief."}, ["unread_field"]),
        ({"chat_template_kwargs": {"enable_thinking": False}}, ["unread_template_arguments"]),
        ({"system": "", "context": None, "id": 7}, []),
        ({"messages": MARKED}, ["unread_mark"]),
    ],
)
def test_what_rows_say_of_their_prompts_and_no_token_is_made_of_is_a_warning(files, beside, told):
    rows = [json.loads(line) | beside for line in (files / "train.jsonl").read_text().splitlines()]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = sft(
        training={"eval_strategy": "no"}, **accepting("no_quality_filter", "undecided_columns")
    )
    said = [name for name in ids(plan_sft(asked).warnings) if name.startswith("unread")]
    assert said == told


def test_the_reference_of_preferences_is_in_the_plan(files):
    assert plan_dpo(dpo()).reference == "adapter_off"
    assert plan_dpo(dpo(method="full")).reference == "second_model"
    for start in ("pissa", "olora"):
        with pytest.raises(BadInput, match="changes the base weights"):
            plan_dpo(dpo(peft={"init_lora_weights": start}))
    assert plan_dpo(dpo(training={"loss_type": "ipo"}).model_copy()).training["beta"] == 0.1


T4 = Device(name="cuda", model="NVIDIA T4", memory_gib=15.0, precision="float16", cards=["GPU-1a"])
RECOMPUTED = {"gradient_checkpointing": True, "max_length": 2048}


def test_a_run_on_a_mac_is_checked_against_the_memory_that_it_may_wire(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    cpu = Device(name="cpu", model="10 cores", memory_gib=16.0, precision="float32")

    def fit(chip, gib):
        text = f"Apple {chip}\n{gib * 2**30}"
        (tmp_path / "sysctl").write_text(f"#!/bin/sh\necho '{text}'\n")
        (tmp_path / "sysctl").chmod(0o700)
        mac = planned("lora", cpu, 2048, RECOMPUTED, weights_dtype="bfloat16", engine="mlx")
        return require_fit(mac, [])

    with pytest.raises(Refused, match=r"does_not_fit: .* 10.7 GiB are usable on M4 16GB"):
        fit("M4", 16)
    assert fit("M4 Max", 64)["fits"] == "yes"
    with pytest.raises(Refused, match="memory_unchecked: whether this run fits M9 Max 64GB"):
        fit("M9 Max", 64)


def test_the_fastest_settings_whose_upper_bound_fits_are_chosen_and_a_step_stays_the_same():
    seen = []
    for gib in (5.0, 6.0, 8.0, 12.0, 24.0, 80.0):
        card = T4.model_copy(update={"memory_gib": gib, "precision": "bfloat16"})
        plan = planned("qlora", card, 2048, RECOMPUTED)
        plan.training.update(fastest_that_fits(plan, {}))
        assert plan.effective_batch == 16
        micro = plan.training["per_device_train_batch_size"]
        seen.append((not plan.training["gradient_checkpointing"], micro))
    # More memory: larger micro-batches, and at last nothing is recomputed.
    assert seen == sorted(seen)
    assert seen[0][0] is False
    assert seen[-1][0] is True
    # What was asked for stays.
    small = T4.model_copy(update={"memory_gib": 5.0})
    asked = {"per_device_train_batch_size", "gradient_checkpointing", "optim"}
    assert fastest_that_fits(planned("qlora", small, 2048, RECOMPUTED), asked) == {}


def test_answers_are_written_by_fewer_where_those_of_a_whole_step_do_not_fit():
    card = T4.model_copy(update={"memory_gib": 23.4, "precision": "bfloat16"})
    long = {"max_length": 2560, "max_completion_length": 2048, "num_generations": 8}
    batch = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 8}
    whole = planned("qlora", card, None, RECOMPUTED | long | batch, task="grpo")
    with pytest.raises(Refused, match="does_not_fit"):
        require_fit(whole, [])
    changed = fastest_that_fits(whole, set(batch))
    written = changed["steps_per_generation"] * batch["per_device_train_batch_size"]
    assert 8 <= written < 64
    assert written % long["num_generations"] == 0
    fewer = whole.model_copy(update={"training": whole.training | changed})
    assert require_fit(fewer, [])["fits"] == "yes"
    # Where prompts were not counted, their answers are still as long as they may be.
    answers = ({"max_length": None, "max_completion_length": length} for length in (256, 2048))
    short, long = (whole.model_copy(update={"training": whole.training | one}) for one in answers)
    peaks = [require_fit(one, ["does_not_fit"])["peak_allocated_gib"] for one in (short, long)]
    assert peaks[1] > peaks[0]
    for together in (
        {"use_vllm": True},
        {"scale_rewards": "batch"},
        {"multi_objective_aggregation": "normalize_then_sum"},
    ):
        other = whole.model_copy(update={"training": whole.training | together})
        assert "steps_per_generation" not in fastest_that_fits(other, set(batch))


def test_an_adapter_that_is_trained_further_is_estimated_as_it_is(tmp_path):
    card = T4.model_copy(update={"memory_gib": 24.0, "precision": "bfloat16"})
    plan = planned("qlora", card, 2048, RECOMPUTED, task="dpo", peft=None)

    def peak(**trained):
        kept = {"r": 16, "target_modules": ["q_proj", "v_proj"]} | trained
        (tmp_path / "adapter_config.json").write_text(json.dumps(kept))
        model = plan.model.model_copy(update={"adapter": str(tmp_path)})
        found = require_fit(plan.model_copy(update={"model": model}), ["does_not_fit"])
        return found["peak_allocated_gib"], found["usable_gib"]

    two, usable = peak()
    assert two + 0.5 < peak(r=128)[0]
    assert two < peak(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"])[0]
    # The copy that the trained one is compared with takes its part of the card.
    (tmp_path / "adapter_model.safetensors").write_bytes(bytes(2**28))
    assert peak()[1] == pytest.approx(usable - 0.25, abs=0.02)


def test_weights_of_a_sharded_run_that_this_machine_cannot_hold_are_a_warning():
    plan = planned("lora", T4, 2048, RECOMPUTED, place=Place(processes=2, sharding="fsdp"))

    def warned(num_params):
        model = plan.model.model_copy(update={"num_params": num_params})
        rows = plan_warnings._of_machine(plan.model_copy(update={"model": model}))
        return "sharded_above_memory" in [name for holds, name, _ in rows if holds]

    assert (warned(10**6), warned(10**13)) == (False, True)


def test_an_adapter_of_a_model_with_a_tower_is_estimated_as_the_one_that_was_planned(tmp_path):
    card = T4.model_copy(update={"memory_gib": 24.0, "precision": "bfloat16"})
    name = "google/gemma-3-4b-pt"
    plan = planned("qlora", card, 2048, RECOMPUTED, task="dpo", model=name)
    further = plan.model_copy(
        update={"peft": None, "model": plan.model.model_copy(update={"adapter": str(tmp_path)})}
    )
    new = require_fit(plan, [])["peak_allocated_gib"]

    def peak(**trained):
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 16, **trained}))
        return require_fit(further, [])["peak_allocated_gib"]

    # PEFT names all layers of "all-linear", also those of the tower that was excluded.
    everywhere = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    everywhere += ["fc1", "fc2", "out_proj"]
    tower = peft_arguments(shape_of(name))["exclude_modules"]
    saved = {"target_modules": everywhere, "exclude_modules": tower}
    assert peak(**saved) == peak(target_modules=[*everywhere, "lm_head"]) == new
    assert peak(target_modules=["q_proj", "v_proj"]) < new
    # A pattern keeps its rank.
    pattern = r"model\.language_model\.layers\.\d+\.self_attn\.q_proj"
    assert peak(target_modules=pattern, r=128) == peak(**saved, r=128) > new + 0.3


def test_short_rows_are_not_refused_for_a_max_length_that_they_never_reach():
    def ram(memory_gib, most_tokens, max_length=2048):
        cpu = Device(name="cpu", model="2 cores", memory_gib=memory_gib, precision="float32")
        return host_memory(planned("lora", cpu, most_tokens, {"max_length": max_length}), [])

    short, full = ram(400.0, 200), ram(400.0, 3000)
    assert short["needed_high_gib"] < full["needed_low_gib"]
    between = (short["needed_high_gib"] + full["needed_low_gib"]) / 2
    assert ram(between, 200)["needed_low_gib"] == short["needed_low_gib"]
    with pytest.raises(Refused, match="does_not_fit"):
        ram(between, 3000)
    # Without a max_length nothing is cut.
    assert ram(400.0, 3000, None)["needed_low_gib"] > full["needed_low_gib"]
    # Uncounted rows may be as short as can be: that is shown, and not refused.
    assert ram(between, None)["needed_gib"] == full["needed_gib"]


DEEP = b'{"a":' * 20_000
TOOLS = {
    "launch_sft": lambda: launch_sft(sft()),
    "launch_dpo": lambda: launch_dpo(dpo(model="instruct")),
    "estimate_vram": lambda: estimate_vram(VramRequest(model="instruct", gpu="RTX 4090")),
    "suggest_lora_config": lambda: suggest_lora_config(LoraRequest(model="instruct", gpu="L4")),
    "merge_and_quantize": lambda: merge_and_quantize(ShipRequest(source="instruct")),
    "evaluate": lambda: evaluate(EvaluateRequest(model="instruct", dataset="held_out.jsonl")),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", CONFIG | {"model_type": ["llama"]}),
        ("config.json", CONFIG | {"hidden_size": -64}),
        ("config.json", CONFIG | {"max_position_embeddings": "many"}),
        ("config.json", CONFIG | {"max_position_embeddings": -1}),
        ("config.json", None),
        ("config.json", DEEP),
        ("tokenizer_config.json", DEEP),
        ("tokenizer.json", b"{"),
        ("chat_template.jinja", b"\xff\xfe{{ x }}"),
    ],
    ids=["type", "width", "length", "none", "null", "deep", "tokenizer", "vocabulary", "template"],
)
def test_a_model_folder_with_a_wrong_file_is_no_internal_error_of_any_tool(
    files, tool, file, content
):
    (files / "instruct" / "chat_template.jinja").unlink()
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (files / "instruct" / file).write_bytes(data)
    with contextlib.suppress(FineTuningError):
        TOOLS[tool]()


def test_evaluations_take_a_limited_part_of_the_work_of_training(files):
    write(files / "many_held_out.jsonl", 100, 300)

    def planned(validation, **training):
        training = {"num_train_epochs": 2, **training}
        plan = plan_sft(sft(validation=validation, training=training))
        return plan.estimate.steps // plan.training["eval_steps"]

    # 16 steps; one evaluation of 10 rows is a twelfth of training, one of 200 more than all of it.
    assert planned("held_out.jsonl") == 5
    assert planned("many_held_out.jsonl") == 4
    assert planned("held_out.jsonl", eval_steps=1) == 16


def test_an_argument_that_is_null_is_as_good_as_not_given(files):
    usual = launch_sft(sft(validation="held_out.jsonl")).plan["training"]
    for name in ("eval_steps", "report_to"):
        asked = sft(validation="held_out.jsonl", training={name: None})
        assert launch_sft(asked).plan["training"] == usual
