"""TRL's and PEFT's own arguments: known by the installed source, refused with the way out."""

import contextlib
import itertools

import pytest

from ft_tools.errors import BadInput, Refused
from ft_tools.lora.data_shape import DataShape
from ft_tools.runs.hardware import Device
from ft_tools.training import defaults
from ft_tools.training.checks import argument_values
from ft_tools.training.checks.argument_tables import LIMITS, OURS, RENAMED
from ft_tools.training.checks.known_arguments import known_arguments, require_known
from ft_tools.training.defaults import Basis

SFT = Basis("sft", "lora")
CPU = Device(name="cpu", model="2 cores", memory_gib=8, precision="float32")


@pytest.mark.parametrize(
    ("config", "given", "told"),
    [
        ("lora", {"r": -1}, "outside 1 to 1024"),
        ("lora", {"lora_rank": 8}, "the rank is `r`"),
        ("lora", {"r": 8.5}, "peft.r: must be an integer, got 8.5"),
        ("lora", {"lora_dropout": 1.5}, "outside 0 to 0.9"),
        ("sft", {"eval_steps": 0.1}, "whole steps between two evaluations, no share of all"),
        ("lora", {"use_dora": "yes"}, "peft.use_dora: must be true or false, got 'yes'"),
        (
            "lora",
            {"target_modules": 5},
            "must be a list of strings or a string or null, got 5",
        ),
        (
            "lora",
            {"modules_to_save": "lm_head"},
            "a list of strings or null, got 'lm_head'",
        ),
        ("lora", {"lora_dropout": None}, "lora_dropout: must be a number, got null"),
        ("lora", {"loftq_config": {}}, "use qlora"),
        ("lora", {"target_modules": [5]}, "a list of strings or a string or null, got [5]"),
        ("lora", {"bias": {"none": True}}, "peft.bias: must be 'none' or 'all'"),
        ("lora", {"arrow_config": {}}, "an object of the library, which a request cannot hold"),
        ("sft", {"optim": ["adamw_torch"]}, 'must be a string, got ["adamw_torch"]'),
        ("sft", {"lr_scheduler_type": {}}, "must be a string, got {}"),
        ("sft", {"report_to": [["trackio"]]}, "must be null or a string or a list of strings"),
        ("sft", {"model_init_kwargs": '{"dtype": "bfloat16"}'}, "must be an object or null, got"),
        ("sft", {"max_seq_length": 512}, "it is `max_length` now"),
        ("sft", {"warmup_ratio": 0.1}, "`warmup_steps` below 1 is a fraction"),
        ("sft", {"learning_rat": 1e-4}, "nearest: learning_rate"),
        ("sft", {"learning_rate": "fast"}, "training.learning_rate: must be a number, got 'fast'"),
        ("sft", {"learning_rate": True}, "must be a number, got true"),
        ("sft", {"output_dir": "here"}, "its own directory"),
        ("sft", {"trust_remote_code": True}, "never executed"),
        ("sft", {"push_to_hub": True}, "nothing is uploaded"),
        ("sft", {"auto_find_batch_size": True}, "halves per_device_train_batch_size"),
        ("sft", {"resume_from_checkpoint": "x"}, "resume_run"),
        ("sft", {"beta": 0.1}, "has no 'beta'"),
        ("sft", {"activation_checkpointing": True}, "pass gradient_checkpointing"),
        ("dpo", {"metric_for_best_model": "eval_rewards/margins"}, "it is always eval_loss"),
        ("dpo", {"max_prompt_length": 512}, "prompt and answer together"),
        ("dpo", {"packing": True}, "has no 'packing'"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_with_the_way_out(config, given, told):
    with pytest.raises(BadInput) as error:
        require_known(config, given)
    assert told in str(error.value)
    assert next(iter(given)) in str(error.value)


def test_arguments_of_the_installed_version_are_taken():
    require_known("lora", {"r": 8, "use_rslora": True, "target_modules": ["q_proj"]})
    require_known("sft", {"packing": True, "neftune_noise_alpha": 5, "max_length": None})
    require_known("dpo", {"loss_type": ["ipo"], "precompute_ref_log_probs": True})


def test_a_wrong_value_of_any_argument_is_refused_and_no_internal_error():
    values = (None, True, 5, "x", [], [[1]], [{}], ["x"], {}, {"a": [1]})
    adapter = {"r": 8, "target_modules": "all-linear"}
    of = {name: kind for kind in ("kto", "sft", "dpo", "lora") for name in known_arguments(kind)}
    for (name, config), value in itertools.product(of.items(), values):
        given = {name: value}
        task, peft, training = ("sft", given, {}) if config == "lora" else (config, {}, given)
        with contextlib.suppress(BadInput, Refused):
            require_known(config, given)
            argument_values.require_arguments(task, "lora", adapter | peft, training)


def test_the_tables_speak_of_arguments_that_exist_or_are_gone():
    known = {name for config in ("sft", "dpo", "kto", "lora") for name in known_arguments(config)}
    assert set(OURS) <= known
    assert set(LIMITS) <= known
    assert not set(RENAMED) & known


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"loss_type": ["kto_pair"]}, "kto_pair"),
        ({"loss_type": ["exo_pair"]}, "label_smoothing above 0"),
        ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "1 numbers for 2 losses"),
        ({"loss_type": ["aot"], "use_weighting": True}, "aot"),
        ({"loss_type": ["nca_pair"], "f_divergence_type": "forward_kl"}, "works with"),
        ({"sync_ref_model": True}, "adapter"),
        ({"loss_type": []}, "loss_type is empty"),
        ({"model_init_kwargs": {"attn_implementation": []}}, "must be a string, got"),
        ({"model_init_kwargs": {"use_kernels": "yes"}}, "must be true or false, got"),
    ],
)
def test_a_preference_loss_that_would_fail_later_is_refused_now(training, told):
    with pytest.raises(BadInput, match=told):
        argument_values.require_arguments("dpo", "lora", {}, training)


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"optim": "adamw"}, "known: .*adamw_torch"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, '"min_lr_rate": 0.1'),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "num_decay_steps"),
        ({"padding_free": True, "max_length": 64}, "packing=true"),
        ({"sync_ref_model": True, "precompute_ref_log_probs": True}, "remove one of them"),
    ],
)
def test_an_argument_without_its_company_is_refused_before_a_model_is_loaded(training, told):
    with pytest.raises(BadInput, match=told):
        argument_values.require_arguments("sft", "lora", {}, training)


def test_arguments_with_their_company_are_taken():
    kwargs = {"min_lr_rate": 0.1}
    training = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": kwargs}
    argument_values.require_arguments(
        "sft", "lora", {"init_lora_weights": True}, training | {"optim": "sgd"}
    )
    argument_values.require_arguments(
        "sft", "qlora", {"init_lora_weights": "olora"}, {"padding_free": True}
    )
    require_known("sft", {"metric_for_best_model": "eval_loss", "greater_is_better": False})


@pytest.mark.parametrize("start", ["pissa", "orthogonal"])
def test_a_start_that_needs_the_weights_as_numbers_does_not_go_with_four_bits(start):
    argument_values.require_arguments("sft", "lora", {"init_lora_weights": start}, {})
    with pytest.raises(BadInput, match="4-bit base"):
        argument_values.require_arguments("sft", "qlora", {"init_lora_weights": start}, {})


@pytest.mark.parametrize(
    ("peft", "error", "told"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, Refused, "unrepeatable_start"),
        ({"init_lora_weights": "eva"}, BadInput, "pass over the data"),
        ({"target_modules": ["lm_head"]}, BadInput, "never trained"),
        ({"bias": "some"}, BadInput, "lora_only"),
        ({"init_lora_weights": "lora_ga"}, BadInput, "pass over the data"),
        ({"init_lora_weights": "mini"}, BadInput, "known: .*gaussian"),
        (
            {"layers_to_transform": [0], "target_modules": "all-linear"},
            BadInput,
            "a list of names",
        ),
        ({"target_parameters": "experts.down_proj"}, BadInput, "give a list"),
        (
            {"target_parameters": ["experts.down_proj"], "lora_dropout": 0.1},
            BadInput,
            "lora_dropout=0.1 does not work with target_parameters",
        ),
    ],
)
def test_an_adapter_that_could_not_be_used_again_is_refused(peft, error, told):
    with pytest.raises(error, match=told):
        argument_values.require_arguments("sft", "lora", peft, {})


def test_a_tracker_that_sends_data_away_needs_the_operators_word(monkeypatch):
    with pytest.raises(Refused, match="FINE_TUNING_LLM_TRACKERS=wandb"):
        argument_values.require_arguments("sft", "lora", {}, {"report_to": ["wandb"]})
    with pytest.raises(BadInput, match="known: "):
        argument_values.require_arguments("sft", "lora", {}, {"report_to": ["smoke-signals"]})


def test_a_checkpoint_belongs_to_every_evaluation():
    training = {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 15}
    with pytest.raises(BadInput, match="not a multiple"):
        argument_values.require_steps(training)


@pytest.mark.parametrize(
    ("given", "micro", "accumulation"),
    [
        ({}, 4, 4),
        ({"per_device_train_batch_size": 2}, 2, 8),
        ({"per_device_train_batch_size": 32}, 32, 1),
        ({"gradient_accumulation_steps": 1}, 4, 1),
        ({"gradient_accumulation_steps": 16}, 1, 16),
        ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}, 3, 5),
    ],
)
def test_what_is_left_open_makes_the_effective_batch_that_was_chosen(given, micro, accumulation):
    resolved = defaults.batch_arguments(given, "sft", 16)
    assert resolved == {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulation,
    }


@pytest.mark.parametrize(
    ("num_examples", "epochs", "expected"), [(40, 1, 3), (48, 1, 3), (49, 1, 4), (49, 2.5, 10)]
)
def test_steps_are_counted_as_the_trainer_counts_them(num_examples, epochs, expected):
    arguments = {"num_train_epochs": epochs, **defaults.batch_arguments({}, "sft", 16)}
    assert defaults.total_steps(arguments, num_examples) == expected
    assert defaults.total_steps(arguments | {"max_steps": 7}, num_examples) == 7


def test_no_steps_given_is_as_many_as_the_epochs_have():
    for none in (0, -1):
        resolved = defaults.training_arguments(SFT, {"max_steps": none}, CPU, validated=False)
        assert "max_steps" not in resolved


def test_the_rate_follows_the_method_and_the_task():
    def rate(task, method):
        basis = Basis(task, method, hidden_size=2048)
        return defaults.training_arguments(basis, {}, CPU, validated=False)["learning_rate"]

    assert rate("sft", "lora") == pytest.approx(10 * rate("sft", "full"))
    assert rate("dpo", "qlora") == pytest.approx(10 * rate("dpo", "full"))
    assert rate("dpo", "lora") < rate("sft", "full")


def test_the_length_and_the_schedule_are_those_of_the_data():
    data = DataShape(num_examples=300, answer_tokens=3.0, longest_tokens=95)
    basis = Basis("sft", "lora", data, hidden_size=576)
    found = defaults.training_arguments(basis, {}, CPU, validated=True)
    assert found["max_length"] == 128
    assert found["num_train_epochs"] == 8.0
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] == 4
    assert found["learning_rate"] == 1.1e-3
    asked = {"max_length": 64, "num_train_epochs": 7, "per_device_train_batch_size": 2}
    again = defaults.training_arguments(basis, asked, CPU, validated=True)
    assert asked.items() <= again.items()
    assert again["gradient_accumulation_steps"] == 2


def test_a_step_is_a_multiple_of_the_processes():
    basis = Basis("sft", "lora", DataShape(num_examples=50), num_processes=8)
    found = defaults.training_arguments(basis, {}, CPU, validated=True)
    assert found["per_device_train_batch_size"] * found["gradient_accumulation_steps"] == 8


def test_a_high_rank_is_stabilised_and_alpha_follows_the_rank():
    assert defaults.lora_arguments({"r": 64})["use_rslora"] is True
    assert defaults.lora_arguments({"r": 64})["lora_alpha"] == 64
    assert defaults.lora_arguments({"r": 63})["use_rslora"] is False
    assert defaults.lora_arguments({"r": 8})["lora_alpha"] == 16
    assert defaults.lora_arguments({"r": 8, "lora_alpha": 8})["lora_alpha"] == 8


def test_an_optimizer_for_gpus_is_replaced_on_a_cpu():
    given = {"optim": "paged_adamw_8bit"}
    cpu = defaults.training_arguments(SFT, given, CPU, validated=False)
    card = CPU.model_copy(update={"name": "cuda", "precision": "bfloat16"})
    gpu = defaults.training_arguments(SFT, given, card, validated=False)
    assert (cpu["optim"], gpu["optim"]) == ("adamw_torch", "paged_adamw_8bit")
