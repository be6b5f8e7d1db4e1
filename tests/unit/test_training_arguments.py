"""TRL's and PEFT's own arguments: those of the installed versions, refused with the way out."""

import contextlib
import itertools

import pytest

from ft_tools.errors import BadInput, Refused
from ft_tools.runs.hardware.devices import Device
from ft_tools.training import arguments, defaults
from ft_tools.training.defaults import Basis
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.unit.launches import dpo, sft

SFT = Basis("sft", "lora")
CPU = Device(name="cpu", model="2 cores", memory_gib=8, precision="float32")


REFUSED = [
    # A value outside the limits, of another type, or none of the known words.
    ("peft", {"r": -1}, "1 to 1024"),
    ("peft", {"use_dora": "yes"}, "true or false"),
    ("peft", {"target_modules": [5]}, "target_modules.0"),
    ("peft", {"modules_to_save": "lm_head"}, '["lm_head"]'),
    ("peft", {"arrow_config": {}}, "must be None"),
    ("training", {"learning_rate": True}, "a number"),
    ("training", {"eval_steps": 0.1}, "whole steps"),
    ("training", {"adam_beta2": 1.0}, "0.999 is usual"),
    ("training", {"optim": "adamw_troch"}, "did you mean 'adamw_torch'"),
    ("training", {"loss_type": "ipo"}, "'dft'"),
    ("training", {"report_to": ["smoke-signals"]}, "tensorboard"),
    ("training", {"model_init_kwargs": '{"dtype": "bfloat16"}'}, "an object"),
    ("training", {"model_init_kwargs": {"device_map": "auto"}}, "attn_implementation"),
    ("training", {"model_init_kwargs": {"dtype": "int8"}}, "'bfloat16'"),
    # An optimizer or a scheduler that lacks an argument.
    ("training", {"optim": "galore_adamw"}, "optim_target_modules"),
    ("training", {"lr_scheduler_type": "cosine_with_min_lr"}, "min_lr or min_lr_rate"),
    (
        "training",
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "no"},
        "validation",
    ),
    # A name that is misspelt, old, of another trainer, or set by the run.
    ("training", {"learning_rat": 1e-4}, "nearest: learning_rate"),
    ("training", {"beta": 0.1}, "has no 'beta'"),
    ("training", {"max_seq_length": 512}, "`max_length`"),
    ("training", {"output_dir": "here"}, "its own directory"),
    ("training", {"trust_remote_code": True}, "never executed"),
    ("training", {"metric_for_best_model": "eval_accuracy"}, "'eval_loss'"),
    ("peft", {"init_lora_weights": "eva"}, "pass over the data"),
]


@pytest.mark.parametrize(("field", "given", "told"), REFUSED)
def test_an_argument_that_cannot_be_used_is_refused_with_the_way_out(files, field, given, told):
    with pytest.raises(BadInput) as error:
        launch_sft(sft(**{field: given}))
    assert told in str(error.value)
    assert f"{field}.{next(iter(given))}" in str(error.value)


def test_arguments_of_each_trainer_are_those_of_the_installed_version(files):
    launch_sft(sft(training={"packing": True, "neftune_noise_alpha": 5, "max_length": None}))
    launch_dpo(dpo(training={"loss_type": "ipo", "precompute_ref_log_probs": True}))
    launch_sft(sft(peft={"use_rslora": True, "target_modules": "all-linear", "lora_bias": True}))
    for training in ({"packing": True}, {"loss_type": ["kto_pair"]}, {"loss_type": []}):
        with pytest.raises(BadInput, match=next(iter(training))):
            launch_dpo(dpo(training=training))


def test_a_wrong_value_of_any_argument_is_refused_and_no_internal_error():
    values = (None, True, 5, "x", [], [[1]], [{}], ["x"], {}, {"a": [1]})
    for config in arguments.LIBRARY:
        for name, value in itertools.product(arguments._model(config).model_fields, values):
            with contextlib.suppress(BadInput, Refused):
                arguments.require_known(config, {name: value})


def test_the_table_speaks_of_arguments_that_exist_or_are_gone():
    known = {name for kind in arguments.LIBRARY for name in arguments._model(kind).model_fields}
    table = arguments._table()
    assert {name for row in table["reserved"] for name in row["names"]} <= known
    assert {*table["limits"], *table["fixed"]} <= known
    assert {name for row in table["choices"].values() for name in row} <= known
    # Of GRPOConfig alone.
    assert set(table["renamed"]) & known == {"max_completion_length"}
    assert not set(table["renamed"]) & set(arguments._model("dpo").model_fields)


def test_a_start_that_needs_the_weights_as_numbers_is_refused_over_4_bits(files):
    launch_sft(sft(peft={"init_lora_weights": "pissa"}))
    with pytest.raises(BadInput, match="4-bit base"):
        launch_sft(sft(method="qlora", peft={"init_lora_weights": "pissa"}))


def test_an_optimizer_whose_package_is_not_here_is_missing_and_a_scheduler_with_its_floor_is_not(
    files,
):
    (missing,) = launch_sft(sft(training={"optim": "schedule_free_adamw"})).plan["missing"]
    assert missing.startswith("optimizer_package: ")
    assert "pip install schedulefree" in missing
    floor = {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}
    training = {"lr_scheduler_type": "cosine_with_min_lr", **floor}
    assert launch_sft(sft(training=training)).plan["missing"] == []


def test_a_tracker_that_sends_data_away_needs_the_operators_permission(files, monkeypatch):
    with pytest.raises(Refused, match="FINE_TUNING_LLM_TRACKERS=wandb"):
        launch_sft(sft(training={"report_to": ["wandb"]}))
    monkeypatch.setenv("FINE_TUNING_LLM_TRACKERS", "wandb")
    launch_sft(sft(training={"report_to": ["wandb"]}))


def test_an_optimizer_for_gpus_is_replaced_on_a_cpu():
    given = {"optim": "paged_adamw_8bit"}
    cpu = defaults.training_arguments(SFT, given, CPU)
    card = CPU.model_copy(update={"name": "cuda", "precision": "bfloat16"})
    gpu = defaults.training_arguments(SFT, given, card)
    assert (cpu["optim"], gpu["optim"]) == ("adamw_torch", "paged_adamw_8bit")
