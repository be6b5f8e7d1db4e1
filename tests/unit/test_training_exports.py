"""A plan for other trainers: the same numbers under their names, and files that parse."""

import ast
import json
import re

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.models.adapter_targets import peft_arguments
from ft_tools.models.quantized import nf4
from ft_tools.models.shape_of_model import shape_of
from ft_tools.runs.launchers.placement import place_of
from ft_tools.runs.launchers.table import parse
from ft_tools.training.exports import axolotl, script
from ft_tools.training.exports.portable import portable
from ft_tools.training.token_counts import Counts, DataReport, Lengths
from ft_tools.training.tool import launch_dpo, launch_sft, plan_dpo, plan_sft
from tests.unit.test_training_launch import accepting, dpo, files, sft

__all__ = ["files"]


def parsed(text):
    """Read our YAML, whose values are JSON."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


@pytest.fixture
def plan(files):
    training = {"learning_rate": 1e-4, "num_train_epochs": 2, "per_device_train_batch_size": 2}
    return plan_sft(sft(validation="held_out.jsonl", peft={"r": 64}, training=training))


def test_the_effective_batch_and_the_rate_are_the_same_everywhere(plan):
    trl = script.trl_arguments(plan)
    there = axolotl.arguments(plan, script.ENGINE)
    batches = {
        trl["per_device_train_batch_size"] * trl["gradient_accumulation_steps"],
        there["micro_batch_size"] * there["gradient_accumulation_steps"],
    }
    assert batches == {plan.effective_batch} == {4}
    assert trl["learning_rate"] == there["learning_rate"] == 1e-4
    assert trl["lora_r"] == there["lora_r"] == 64
    assert trl["use_rslora"] is there["peft_use_rslora"] is True
    assert trl["max_length"] == there["sequence_len"] == 256


def test_only_answers_are_trained_elsewhere_too(plan):
    assert script.trl_arguments(plan)["assistant_only_loss"] is True
    (data,) = axolotl.arguments(plan, script.ENGINE)["datasets"]
    assert (data["roles_to_train"], data["train_on_eos"]) == (["assistant"], "turn")


def test_preferences_are_named_as_each_trainer_names_them(files):
    plan = plan_dpo(dpo(training={"beta": 0.2}))
    there = axolotl.arguments(plan, script.ENGINE)
    assert (there["rl"], there["rl_beta"]) == ("dpo", 0.2)
    assert script.trl_arguments(plan)["beta"] == 0.2
    assert "assistant_only_loss" not in script.trl_arguments(plan)


def test_the_losses_of_a_preference_run_are_the_same_elsewhere(files):
    losses = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}
    plan = plan_dpo(dpo(training=losses))
    there = axolotl.arguments(plan, script.ENGINE)
    assert (there["dpo_loss_type"], there["dpo_loss_weights"]) == (["sigmoid", "sft"], [1.0, 0.2])
    assert script.trl_arguments(plan)["loss_type"] == ["sigmoid", "sft"]


def test_a_loss_on_every_token_is_one_elsewhere_too(files, tmp_path):
    plan = plan_sft(sft(training={"completion_only_loss": False}))
    assert plan.loss_on == "everything"
    assert script.trl_arguments(plan)["assistant_only_loss"] is False
    assert axolotl.arguments(plan, script.ENGINE)["train_on_inputs"] is True
    assert "'completion_only_loss': False" in script.script(plan)


def test_layers_that_stay_whole_in_4_bits_are_named_where_a_file_cannot_say_so(files, tmp_path):
    plan = plan_sft(sft(method="qlora")).model_copy(update={"quantization": nf4("gemma3n")})
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, plan)}
    assert "'llm_int8_skip_modules': ['lm_head', 'prediction_coefs'" in written["train.py"]
    for name in ("axolotl.yaml", "trl.yaml"):
        assert "# In the plan and not in this file: llm_int8_skip_modules" in written[name]


@pytest.mark.parametrize(("tokens", "learnt"), [(4.0, True), (300.0, False)])
def test_what_ends_a_run_early_is_exported_or_named_as_left_out(files, tmp_path, tokens, learnt):
    plan = plan_sft(sft(validation="held_out.jsonl"))
    data = DataReport(
        num_examples=30, num_sequences=30, num_truncated=0, num_dropped=0, num_tokens=900,
        num_trained_tokens=300,
    )  # fmt: skip
    lengths = Lengths(mean_tokens=30, mean_answer_tokens=tokens, longest_tokens=40, padding=0)
    counts = Counts(data=data, num_rows=30, num_counted=30, lengths=lengths)
    plan = plan.model_copy(update={"counts": counts})
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, plan)}
    assert "[EarlyStopping(PATIENCE)]" in written["train.py"]
    assert f"LEARNT_LOSS = {0.001 if learnt else None}\n" in written["train.py"]
    for name in ("trl.yaml", "axolotl.yaml"):
        first = written[name].partition("\n# In the plan and not in this file: ")[2].split("\n")[0]
        assert ("the stop at a validation loss of 0.001" in first) == learnt
        assert ("the stop after 3 evaluations" in first) == (name != "axolotl.yaml")
    assert parsed(written["axolotl.yaml"])["early_stopping_patience"] == 3


def test_an_own_template_and_how_a_model_is_loaded_are_exported_where_they_can_be(files, tmp_path):
    (files / "own.jinja").write_text((files / "instruct" / "chat_template.jinja").read_text())
    loaded = {"attn_implementation": "eager"}
    training = {"chat_template_path": "own.jinja", "model_init_kwargs": loaded}
    training |= {"num_train_epochs": 1}
    plan = plan_sft(sft(training=training, peft={"init_lora_weights": "olora"}))
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, plan)}
    there = parsed(written["axolotl.yaml"])
    assert there["chat_template"] == "jinja"
    assert there["chat_template_jinja"] == str(files / "own.jinja")
    left_out = "# In the plan and not in this file: attn_implementation, init_lora_weights"
    assert left_out in written["axolotl.yaml"].splitlines()
    assert left_out in written["trl.yaml"].splitlines()
    assert f"TEMPLATE = {str(files / 'own.jinja')!r}" in written["train.py"]
    assert f"INIT = {loaded!r}" in written["train.py"]


@pytest.mark.parametrize("sharding", ["fsdp", "zero2", "zero3"])
def test_the_engine_of_several_gpus_is_exported_too(plan, tmp_path, sharding):
    options = parse("slurm", {"processes": 4, "sharding": sharding, "gpu": "A100-80GB"})
    many = plan.model_copy(update={"place": place_of("slurm", options)})
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, many)}
    assert (script.ENGINE in written) is (sharding != "fsdp")
    there = parsed(written["axolotl.yaml"])
    assert there.get("fsdp_version") == (2 if sharding == "fsdp" else None)
    assert there.get("deepspeed") == (None if sharding == "fsdp" else script.ENGINE)
    assert "--num_processes 4" in written["trl.yaml"].splitlines()[0]
    assert many.effective_batch == 4 * plan.effective_batch
    ast.parse(written["train.py"])


def test_every_written_file_parses_and_the_script_is_python(plan, tmp_path):
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, plan)}
    assert set(written) == {"train.py", "trl.yaml", "axolotl.yaml"}
    ast.parse(written["train.py"])
    assert "SFTTrainer(" in written["train.py"]
    assert parsed(written["trl.yaml"])["learning_rate"] == 1e-4
    assert parsed(written["axolotl.yaml"])["adapter"] == "lora"


def test_a_supervised_loss_is_no_loss_of_preferences_elsewhere(files, tmp_path):
    plan = plan_sft(sft(training={"loss_type": "dft"}))
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, plan)}
    assert "not in this file: loss_type" in written["axolotl.yaml"].splitlines()[1]
    assert "dft" not in written["axolotl.yaml"]
    assert parsed(written["trl.yaml"])["loss_type"] == "dft"
    assert "'loss_type': 'dft'" in written["train.py"]
    assert "'per_device_eval_batch_size': 4" in written["train.py"]


def test_a_run_that_evaluates_by_epochs_saves_by_epochs_elsewhere_too(files, tmp_path):
    plan = plan_sft(sft(validation="held_out.jsonl", training={"eval_strategy": "epoch"}))
    written = {path.name: path.read_text() for path in script.write_exports(tmp_path, plan)}
    assert "'save_strategy': 'epoch'" in written["train.py"]
    there = parsed(written["axolotl.yaml"])
    assert (there["eval_strategy"], there["save_strategy"]) == ("epoch", "epoch")
    assert "save_steps" not in there


def test_a_plan_is_exported_when_it_is_shown_and_its_hash_stays(files):
    shown = launch_sft(sft(export_dir="elsewhere"))
    assert {path.rpartition("/")[2] for path in shown.plan["export"]} >= {"train.py", "trl.yaml"}
    assert (files / "elsewhere" / "manifest.json").is_file()
    assert shown.plan_hash == launch_sft(sft()).plan_hash
    assert "export_dir" not in shown.next_steps[0].arguments


def test_an_exported_folder_names_no_path_of_this_machine_and_brings_the_data(files):
    (files / "own.jinja").write_text((files / "instruct" / "chat_template.jinja").read_text())
    training = {"chat_template_path": "own.jinja", "num_train_epochs": 1}
    shown = launch_sft(sft(validation="held_out.jsonl", training=training, export_dir="there"))
    folder = files / "there"
    for name in ("train.py", "trl.yaml", "axolotl.yaml"):
        assert str(files) not in (folder / name).read_text()
    assert (folder / "train_data.jsonl").read_bytes() == (files / "train.jsonl").read_bytes()
    assert (folder / "validation_data.jsonl").is_file()
    assert "TEMPLATE = 'chat_template.jinja'" in (folder / "train.py").read_text()
    assert any(f"copy {files / 'instruct'} to ./model" in one for one in shown.warnings)
    assert "hf auth login" not in (folder / "train.py").read_text()
    launch_dpo(dpo(export_dir="pairs"))
    assert not any(str(files) in one.read_text() for one in (files / "pairs").iterdir())


def test_what_is_cut_is_said_by_the_plans_own_length(files):
    """An audit counts by a length that nobody gave."""
    rows = [
        {"prompt": f"Where is {at}?", "completion": f"In Oslo on day {at}. " * 400}
        for at in range(30)
    ]
    (files / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    audited = audit_dataset(AuditRequest(path="long.jsonl"))
    assert "over_max_length" in {finding.id for finding in audited.findings}
    said = launch_sft(sft(dataset="long.jsonl", **accepting("no_quality_filter"))).warnings
    assert not any("over_max_length" in one for one in said)
    assert any("what is beyond max_length" in one for one in said)


def test_the_exported_script_makes_an_example_of_each_answer_and_the_plan_says_so(files):
    one = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In Oslo."}]
    rows = [{"messages": one * (1 + at % 2)} for at in range(30)]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    once = {"training": {"num_train_epochs": 1}, **accepting("no_quality_filter")}
    said = launch_sft(sft(export_dir="several", **once)).warnings
    assert any("each of the 45 answers of 30 conversations" in one for one in said)
    text = (files / "several" / "train.py").read_text()
    script_of = {"json": json, "MARKS": False, "TRAINING": {}}
    exec(text[text.index("def prepared") : text.index("class EarlyStopping")], script_of)
    made = script_of["prepared"]({"messages": one * 2, "tools": None})
    assert [example["prompt"] for example in made] == [one[:1], [*one, one[0]]]
    assert all(example["completion"] == one[1:] for example in made)
    # An answer to nothing is no example; where all is trained, the last one brings the others.
    assert script_of["prepared"]({"messages": [one[1], *one]})[0]["prompt"] == [one[1], one[0]]
    script_of["TRAINING"] = {"completion_only_loss": False}
    assert [e["prompt"] for e in script_of["prepared"]({"messages": one * 2})] == [[*one, one[0]]]
    rows = [{"messages": one} for _ in range(30)]
    (files / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = launch_sft(sft(export_dir="single", **once)).warnings
    assert not any("makes an example of each" in one for one in said)


def test_a_model_of_the_cache_is_exported_by_its_id_and_commit(plan, tmp_path):
    cached = f"/home/me/hub/models--Qwen--Qwen3-8B/snapshots/{'b' * 40}"
    model = plan.model.model_copy(update={"load_from": cached})
    there, moved = portable(plan.model_copy(update={"model": model}))
    assert (there.model.load_from, there.model.revision) == ("Qwen/Qwen3-8B", "b" * 40)
    assert "hf auth login" in ast.get_docstring(ast.parse(script.script(there)))
    assert moved.to_bring() == []


def test_the_loss_is_fused_elsewhere_too_or_the_memory_without_it_is_said(files):
    card = {"backend_options": {"gpu": "RTX 4090"}}
    shown = launch_sft(sft(export_dir="there", **card))
    there = parsed((files / "there" / "axolotl.yaml").read_text())
    assert there["plugins"] == ["axolotl.integrations.liger.LigerPlugin"]
    assert there["liger_fused_linear_cross_entropy"] is True
    shown = launch_dpo(dpo(export_dir="pairs", **card))
    assert "plugins" not in parsed((files / "pairs" / "axolotl.yaml").read_text())
    assert any("computes the loss over whole logits" in warning for warning in shown.warnings)


def test_axolotl_gets_no_file_where_its_loss_over_whole_logits_does_not_fit(files):
    config = json.loads((files / "instruct" / "config.json").read_text())
    big = config | {"vocab_size": 256_000, "max_position_embeddings": 8192, "model_type": "smollm3"}
    (files / "instruct" / "config.json").write_text(json.dumps(big))
    batch = {"per_device_train_batch_size": 8, "max_length": 8192}
    card = {"backend_options": {"gpu": "RTX 3060"}}
    launch_sft(sft(export_dir="there", training=batch, **card))
    assert sorted(path.name for path in (files / "there").glob("*.*")) == [
        "manifest.json", "train.py", "train_data.jsonl", "trl.yaml", "validation_data.jsonl",
    ]  # fmt: skip


def test_the_script_names_the_versions_that_the_plan_was_made_for(plan):
    text = script.script(plan)
    assert re.search(r"pip install torch accelerate .*'trl<1\.17,>=1\.16'", text)
    assert "bitsandbytes" not in text.partition("import json")[0]


def test_the_planned_commit_and_what_is_left_out_of_all_linear_are_exported_everywhere(plan):
    model = plan.model.model_copy(update={"load_from": "Qwen/Qwen3-8B", "revision": "a" * 40})
    adapter = plan.peft | {"target_modules": "all-linear", "exclude_modules": ".*visual.*"}
    there = plan.model_copy(update={"model": model, "peft": adapter})
    names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    trl = script.trl_arguments(there)
    axolotls = axolotl.arguments(there, script.ENGINE)
    assert set(trl["lora_target_modules"]) == names
    assert (axolotls["lora_target_linear"], set(axolotls["lora_target_modules"])) == (False, names)
    assert trl["model_revision"] == "a" * 40
    assert axolotls["revision_of_model"] == "a" * 40
    text = script.script(there)
    assert "'exclude_modules': '.*visual.*'" in text
    assert "'revision': 'aaaa" in text


def test_a_pattern_is_no_name_in_a_list_of_them(plan):
    model = plan.model.model_copy(update={"load_from": "google/gemma-3-4b-it"})
    adapter = plan.peft | peft_arguments(shape_of("google/gemma-3-4b-it"))
    there = plan.model_copy(update={"model": model, "peft": adapter})
    layer = "model.language_model.layers.0.self_attn.q_proj"
    # TRL takes the one element of a list for the pattern, and Axolotl a text that is no list.
    (trl,) = script.trl_arguments(there)["lora_target_modules"]
    for pattern in (trl, axolotl.arguments(there, script.ENGINE)["lora_target_modules"]):
        assert re.fullmatch(pattern, layer)


def test_adapted_experts_are_exported_everywhere(plan):
    names = ["experts.down_proj"]
    there = plan.model_copy(update={"peft": plan.peft | {"target_parameters": names}})
    assert script.trl_arguments(there)["lora_target_parameters"] == names
    assert axolotl.arguments(there, script.ENGINE)["lora_target_parameters"] == names


def test_a_json_array_is_held_out_of_and_exported_like_lines(files):
    rows = [json.loads(line) for line in (files / "pairs.jsonl").read_text().splitlines()]
    (files / "pairs.json").write_text(json.dumps(rows, indent=1))
    (files / "more.json").write_text(
        json.dumps([{"prompt": f"Parcel {at}?", "completion": f"Hall {at}."} for at in range(200)])
    )
    plan = plan_sft(sft(dataset="more.json"))
    assert plan.dataset.num_examples + plan.validation.num_examples == 200
    for kind in ("jsonl", "json"):
        launch_dpo(dpo(dataset=f"pairs.{kind}", export_dir=f"of-{kind}"))
    lines, array = (
        (files / f"of-{kind}" / "train_data.jsonl").read_text() for kind in ("jsonl", "json")
    )
    assert list(map(json.loads, array.splitlines())) == list(map(json.loads, lines.splitlines()))
