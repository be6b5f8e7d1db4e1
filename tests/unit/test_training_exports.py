"""A plan for other trainers: the same numbers under their names, and files that parse."""

import ast
import json

import pytest

from ft_tools.runs.launchers.table import parse, place_of
from ft_tools.training.exports import axolotl, export, script
from ft_tools.training.plan import plan_dpo
from ft_tools.training.tool import launch_sft, plan_sft
from tests.unit.launches import dpo, sft


def parsed(text):
    """Read our YAML, whose values are JSON."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def constants(text):
    """Read the constants of the script."""
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}


def exported(plan, folder):
    return {path.name: path.read_text() for path in export.write_exports(folder, plan)[0]}


@pytest.fixture
def plan(files):
    training = {"learning_rate": 1e-4, "num_train_epochs": 2, "per_device_train_batch_size": 2}
    return plan_sft(sft(validation="held_out.jsonl", peft={"r": 64}, training=training))


def test_the_same_numbers_and_the_same_trained_tokens_are_in_both_files(plan, tmp_path):
    written = exported(plan, tmp_path)
    assert set(written) == {"train.py", "axolotl.yaml"}
    own, there = constants(written["train.py"]), parsed(written["axolotl.yaml"])
    training = own["TRAINING"]
    batches = {
        training["per_device_train_batch_size"] * training["gradient_accumulation_steps"],
        there["micro_batch_size"] * there["gradient_accumulation_steps"],
    }
    assert batches == {plan.effective_batch} == {4}
    assert training["per_device_eval_batch_size"] == 2
    assert training["learning_rate"] == there["learning_rate"] == 1e-4
    assert own["PEFT"]["r"] == there["lora_r"] == 64
    assert own["PEFT"]["use_rslora"] is there["peft_use_rslora"] is True
    assert training["max_length"] == there["sequence_len"] == 256
    (data,) = there["datasets"]
    assert (data["roles_to_train"], data["train_on_eos"]) == (["assistant"], "turn")
    everything = plan.model_copy(update={"loss_on": "everything"})
    assert axolotl.arguments(everything)["train_on_inputs"] is True
    assert constants(script.script(everything))["TRAINING"]["completion_only_loss"] is False


def test_the_sharding_of_several_gpus_is_exported_too(plan, tmp_path):
    options = parse("slurm", {"processes": 4, "sharding": "fsdp", "gpu": "A100-80GB"})
    many = plan.model_copy(update={"place": place_of("slurm", options)})
    written = exported(many, tmp_path)
    there, training = parsed(written["axolotl.yaml"]), constants(written["train.py"])["TRAINING"]
    assert there["fsdp_version"] == training["fsdp_config"]["version"] == 2
    assert "torchrun --nproc-per-node 4 train.py" in written["train.py"]
    assert many.effective_batch == 4 * plan.effective_batch
    # Gradients are sharded after each micro-batch.
    kept = training["accelerator_config"]["gradient_accumulation_kwargs"]
    assert kept == {"sync_each_batch": True}


def test_axolotl_is_told_what_ends_an_answer_where_the_tokenizer_does_not_say(files, plan):
    folder = files / "instruct"
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}<end_of_turn>")
    token = {"id": 7, "content": "<end_of_turn>"}
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [token]}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 7]}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    assert axolotl.arguments(plan)["eot_tokens"] == ["<end_of_turn>"]
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end_of_turn>"}))
    assert axolotl.arguments(plan)["eot_tokens"] is None


def test_attention_and_packed_formats_are_those_of_the_plan(files, plan):
    kernel = "kernels-community/flash-attn2@abc"
    training = plan.training | {"model_init_kwargs": {"attn_implementation": kernel}}
    packed = plan.model_copy(update={"training": training | {"packing": True}})
    assert axolotl.arguments(packed)["attn_implementation"] == kernel
    assert " 'kernels" in script.script(packed)
    assert axolotl.arguments(plan)["attn_implementation"] == "sdpa"
    assert constants(script.script(plan))["DEQUANTIZED"] is None
    config = json.loads((files / "instruct" / "config.json").read_text())
    mxfp4 = config | {"quantization_config": {"quant_method": "mxfp4"}}
    (files / "instruct" / "config.json").write_text(json.dumps(mxfp4))
    assert constants(script.script(plan))["DEQUANTIZED"] == "Mxfp4Config"


def test_the_reference_of_a_whole_model_is_loaded_as_the_model_is(files):
    plan = plan_dpo(dpo(method="full"))
    own = constants(script.script(plan))
    assert own["TRAINING"]["model_init_kwargs"] == own["INIT"] == {"use_kernels": False}


def test_an_exported_folder_names_no_path_of_this_machine_and_brings_the_data(files):
    (files / "own.jinja").write_text((files / "instruct" / "chat_template.jinja").read_text())
    asked = {"training": {"chat_template_path": "own.jinja"}, "validation": "held_out.jsonl"}
    shown = launch_sft(sft(**asked, export_dir="there"))
    folder = files / "there"
    assert (folder / "manifest.json").is_file()
    for name in ("train.py", "axolotl.yaml"):
        assert str(folder / name) in shown.plan["export"]
        assert str(files) not in (folder / name).read_text()
    assert (folder / "train_data.jsonl").read_bytes() == (files / "train.jsonl").read_bytes()
    assert (folder / "validation_data.jsonl").is_file()
    assert constants((folder / "train.py").read_text())["TEMPLATE"] == "chat_template.jinja"
    assert any(f"{files / 'instruct'} to ./model" in one for one in shown.warnings)
    # Exporting changes nothing of the plan, nor of the call that confirms it.
    assert shown.plan_hash == launch_sft(sft(**asked)).plan_hash
    assert "export_dir" not in shown.next_steps[0].arguments


def test_the_exported_script_makes_an_example_of_each_answer(files):
    one = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "In Oslo."}]
    launch_sft(sft(export_dir="several"))
    text = (files / "several" / "train.py").read_text()
    script_of = {"json": json, "MARKS": False, "TRAINING": {}}
    exec(text[text.index("def prepared") : text.index("def main")], script_of)
    made = script_of["prepared"]({"messages": one * 2, "tools": None})
    assert [example["prompt"] for example in made] == [one[:1], [*one, one[0]]]
    assert all(example["completion"] == one[1:] for example in made)
    # An answer to nothing is no example; where all is trained, the last one brings the others.
    assert script_of["prepared"]({"messages": [one[1], *one]})[0]["prompt"] == [one[1], one[0]]
    script_of["TRAINING"] = {"completion_only_loss": False}
    assert [e["prompt"] for e in script_of["prepared"]({"messages": one * 2})] == [[*one, one[0]]]
