"""A plan for other trainers: the same numbers under their names, and files that parse."""

import ast
import json
import re

import pytest

from ft_tools.models.adapter_targets import peft_arguments
from ft_tools.models.quantized import nf4
from ft_tools.models.shape_of_model import shape_of
from ft_tools.runs.launchers.placement import place_of
from ft_tools.runs.launchers.table import parse
from ft_tools.training.exports import axolotl, export, script
from ft_tools.training.token_counts import Counts, DataReport, Lengths
from ft_tools.training.tool import launch_dpo, launch_sft, plan_dpo, plan_sft
from tests.unit.test_training_launch import CONFIG, accepting, dpo, files, sft

__all__ = ["files"]


def parsed(text):
    """Read our YAML, whose values are JSON."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {key: json.loads(value) for key, _, value in (line.partition(": ") for line in lines)}


def constants(text):
    """Read the constants of the script."""
    assigned = [node for node in ast.parse(text).body if isinstance(node, ast.Assign)]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in assigned}


def left_out(text):
    """Return what a file says that it has no key for."""
    return text.partition("# In the plan and not in this file: ")[2].partition("\n")[0].split(", ")


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
    assert axolotl.arguments(everything, script.ENGINE)["train_on_inputs"] is True
    assert constants(script.script(everything))["TRAINING"]["completion_only_loss"] is False


def test_preferences_and_a_supervised_loss_are_named_as_each_trainer_names_them(files, tmp_path):
    there = axolotl.arguments(plan_dpo(dpo(training={"beta": 0.2})), script.ENGINE)
    assert (there["rl"], there["rl_beta"]) == ("dpo", 0.2)
    written = exported(plan_sft(sft(training={"loss_type": "dft"})), tmp_path)
    assert "loss_type" in left_out(written["axolotl.yaml"])
    assert constants(written["train.py"])["TRAINING"]["loss_type"] == "dft"


def test_what_axolotl_has_no_key_for_is_named(files, tmp_path):
    (files / "own.jinja").write_text((files / "instruct" / "chat_template.jinja").read_text())
    loaded = {"attn_implementation": "eager"}
    training = {"chat_template_path": "own.jinja", "model_init_kwargs": loaded}
    plan = plan_sft(sft(training=training, peft={"init_lora_weights": "olora"}))
    plan = plan.model_copy(update={"quantization": nf4("gemma3n")})
    written = exported(plan, tmp_path)
    there, own = parsed(written["axolotl.yaml"]), constants(written["train.py"])
    assert left_out(written["axolotl.yaml"]) == [
        "attn_implementation", "init_lora_weights", "llm_int8_skip_modules",
    ]  # fmt: skip
    assert (there["chat_template"], there["chat_template_jinja"]) == ("jinja", own["TEMPLATE"])
    assert own["TEMPLATE"] == str(files / "own.jinja")
    assert (own["INIT"], "lm_head" in own["QUANTIZATION"]["llm_int8_skip_modules"]) == (
        loaded,
        True,
    )


@pytest.mark.parametrize(("tokens", "learnt"), [(4.0, 0.001), (300.0, None)])
def test_what_ends_a_run_early_is_exported(files, tmp_path, tokens, learnt):
    data = DataReport(
        num_examples=30, num_sequences=30, num_truncated=0, num_dropped=0, num_tokens=900,
        num_trained_tokens=300,
    )  # fmt: skip
    lengths = Lengths(mean_tokens=30, mean_answer_tokens=tokens, longest_tokens=40, padding=0)
    counts = Counts(data=data, num_rows=30, num_counted=30, lengths=lengths)
    plan = plan_sft(sft(validation="held_out.jsonl")).model_copy(update={"counts": counts})
    written = exported(plan, tmp_path)
    own = constants(written["train.py"])
    assert (own["PATIENCE"], own["LEARNT_LOSS"]) == (3, learnt)
    assert parsed(written["axolotl.yaml"])["early_stopping_patience"] == 3
    assert any("0.001" in one for one in left_out(written["axolotl.yaml"])) == bool(learnt)


@pytest.mark.parametrize("sharding", ["fsdp", "zero2", "zero3"])
def test_the_engine_of_several_gpus_is_exported_too(plan, tmp_path, sharding):
    options = parse("slurm", {"processes": 4, "sharding": sharding, "gpu": "A100-80GB"})
    many = plan.model_copy(update={"place": place_of("slurm", options)})
    written = exported(many, tmp_path)
    assert (script.ENGINE in written) is (sharding != "fsdp")
    there, training = parsed(written["axolotl.yaml"]), constants(written["train.py"])["TRAINING"]
    assert there.get("fsdp_version") == (2 if sharding == "fsdp" else None)
    assert there.get("deepspeed") == (None if sharding == "fsdp" else script.ENGINE)
    assert training.get("deepspeed") == there.get("deepspeed")
    assert many.effective_batch == 4 * plan.effective_batch


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
    there, _, folders = export.portable(plan.model_copy(update={"model": model}))
    assert (there.model.load_from, there.model.revision) == ("Qwen/Qwen3-8B", "b" * 40)
    assert "hf auth login" in ast.get_docstring(ast.parse(script.script(there)))
    assert folders == {}


def test_axolotl_fuses_the_loss_or_its_memory_is_said_or_it_gets_no_file(files):
    card = {"backend_options": {"gpu": "RTX 4090"}}
    launch_sft(sft(export_dir="there", **card))
    there = parsed((files / "there" / "axolotl.yaml").read_text())
    assert there["plugins"] == ["axolotl.integrations.liger.LigerPlugin"]
    assert there["liger_fused_linear_cross_entropy"] is True
    shown = launch_dpo(dpo(export_dir="pairs", **card))
    assert "plugins" not in parsed((files / "pairs" / "axolotl.yaml").read_text())
    assert any("over whole logits" in warning for warning in shown.warnings)
    big = CONFIG | {
        "vocab_size": 256_000, "max_position_embeddings": 8192, "model_type": "smollm3",
    }  # fmt: skip
    (files / "instruct" / "config.json").write_text(json.dumps(big))
    batch = {"per_device_train_batch_size": 8, "max_length": 8192}
    launch_sft(sft(export_dir="none", training=batch, backend_options={"gpu": "RTX 3060"}))
    assert (files / "none" / "train.py").is_file()
    assert not (files / "none" / "axolotl.yaml").exists()


def test_the_commit_the_adapted_layers_and_experts_are_exported_everywhere(plan):
    model = plan.model.model_copy(update={"load_from": "Qwen/Qwen3-8B", "revision": "a" * 40})
    adapter = plan.peft | {"target_modules": "all-linear", "exclude_modules": ".*visual.*"}
    adapter["target_parameters"] = ["experts.down_proj"]
    plan = plan.model_copy(update={"model": model, "peft": adapter})
    there, own = axolotl.arguments(plan, script.ENGINE), constants(script.script(plan))
    names = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert (there["lora_target_linear"], set(there["lora_target_modules"])) == (False, names)
    assert there["lora_target_parameters"] == ["experts.down_proj"]
    assert there["revision_of_model"] == own["INIT"]["revision"] == "a" * 40
    assert own["PEFT"] == adapter
    model = model.model_copy(update={"load_from": "google/gemma-3-4b-it"})
    pattern = plan.peft | peft_arguments(shape_of("google/gemma-3-4b-it"))
    there = plan.model_copy(update={"model": model, "peft": pattern})
    found = axolotl.arguments(there, script.ENGINE)["lora_target_modules"]
    assert re.fullmatch(found, "model.language_model.layers.0.self_attn.q_proj")


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
