"""What an approach costs: GPU hours from the plan that fits, at throughputs that were published."""

import pytest

from ft_tools import facts
from ft_tools.approach import ApproachRequest, recommend_approach
from ft_tools.approach.gpu_time import WORK, gpu_time
from ft_tools.approach.request import TRAINING
from ft_tools.approach.table import table
from ft_tools.lora import suggest_lora_config
from ft_tools.lora.request import LoraRequest
from ft_tools.models.catalog import shape_of
from ft_tools.training import estimates

FMS = "https://github.com/foundation-model-stack/fms-acceleration/tree/main/scripts/benchmarks"
# Tokens a second and GPU as published; those of refs_orca without the padding (289 an example).
PUBLISHED = [
    ("mistralai/Mistral-7B-v0.1", "A100-80GB", "lora", 1, 3319.0),
    ("mistralai/Mistral-7B-v0.1", "A100-80GB", "lora", 2, 2874.0),
    ("mistralai/Mistral-7B-v0.1", "A100-80GB", "full", 1, 3014.0),
    ("mistralai/Mistral-7B-v0.1", "A100-80GB", "qlora", 1, 2842.0),
    ("mistralai/Mistral-7B-v0.1", "A100-80GB", "qlora", 1, 1649.0),
    ("mistralai/Mistral-7B-v0.1", "A100-80GB", "qlora", 2, 388.0),
    ("meta-llama/Llama-2-70b-hf", "A100-80GB", "qlora", 1, 466.0),
    ("meta-llama/Llama-2-70b-hf", "A100-80GB", "qlora", 2, 426.0),
]
# LitGPT's config_hub/finetune/README.md: minutes on one A10G for 2,000 Alpaca examples, which have
# about 110 tokens each.
LITGPT = [
    ("meta-llama/Llama-2-7b-hf", "lora", 4, 32.8),
    ("meta-llama/Llama-2-7b-hf", "qlora", 4, 45.7),
    ("meta-llama/Meta-Llama-3-8B", "lora", 2, 14.8),
    ("mistralai/Mistral-7B-v0.1", "qlora", 4, 44.8),
    ("microsoft/phi-2", "lora", 1, 3.8),
    ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "lora", 3, 8.1),
]


def given(name):
    return table().gpu_time[name].value


def utilisation(model, gpu, method, tokens_per_second):
    flops = given("flops_sft_full" if method == "full" else "flops_sft_lora")
    peak = facts.gpu(gpu).bf16_dense_tflops * 1e12
    return flops * shape_of(model).active_params * tokens_per_second / peak


@pytest.mark.parametrize(("model", "gpu", "method", "num_gpus", "tokens_per_second"), PUBLISHED)
def test_published_throughputs_lie_in_the_range(model, gpu, method, num_gpus, tokens_per_second):
    low = given("utilisation_low" if num_gpus == 1 else "utilisation_low_sharded")
    seen = utilisation(model, gpu, method, tokens_per_second)

    assert low <= seen <= given("utilisation_high") * 1.01


@pytest.mark.parametrize(("model", "method", "epochs", "minutes"), LITGPT)
def test_published_durations_on_short_examples_lie_in_the_range(model, method, epochs, minutes):
    seen = utilisation(model, "A10G", method, 2000 * 110 * epochs / (minutes * 60))

    assert given("utilisation_low") <= seen <= given("utilisation_high")


def test_the_plan_of_a_launch_reckons_with_like_rates():
    slow, fast = (
        share / estimates.FLOPS_PER_PARAM_TOKEN["lora"] for share in estimates.GPU_UTILISATION
    )
    lowest, highest = (
        given(name) / given("flops_sft_lora") for name in ("utilisation_low", "utilisation_high")
    )

    assert lowest <= slow <= highest <= 1.2 * fast


def test_hours_follow_from_parameters_tokens_and_the_peak_rate():
    time = gpu_time(
        "sft",
        ApproachRequest(
            num_demonstrations=2000, gpu="A100-80GB", model="meta-llama/Meta-Llama-3-8B"
        ),
    )
    hours_at_peak = 6 * 8_030_261_248 * 2000 * 500 / 312e12 / 3600

    assert time.num_gpus == 1
    assert "1 epoch" in time.assumptions[0]
    assert time.hours_low == pytest.approx(hours_at_peak / 0.62, rel=0.05)
    assert time.hours_high == pytest.approx(hours_at_peak / 0.1, rel=0.05)


def test_the_method_and_the_memory_are_those_of_suggest_lora_config():
    request = ApproachRequest(gpu="RTX 3090", model="Qwen/Qwen2.5-14B-Instruct")
    time = gpu_time("sft", request)
    suggested = suggest_lora_config(LoraRequest(model="Qwen/Qwen2.5-14B-Instruct", gpu="RTX 3090"))

    assert time.method == suggested.method == "qlora"
    assert time.peak_allocated_gib == suggested.vram.peak_allocated_gib


def test_a_model_that_does_not_fit_one_card_is_spread_over_as_many_as_hold_it():
    request = ApproachRequest(gpu="RTX 4090", model="meta-llama/Llama-2-70b-hf")
    time = gpu_time("sft", request)

    assert time.fits == "yes"
    assert time.num_gpus >= 8
    assert time.peak_allocated_gib < 23.64


def test_a_run_that_no_number_of_cards_holds_has_no_hours():
    request = ApproachRequest(gpu="RTX 3060", model="meta-llama/Llama-2-70b-hf")
    time = gpu_time("continued_pretraining", request)

    assert (time.num_gpus, time.fits, time.hours_low) == (None, "no", None)


def test_the_first_card_that_holds_it_is_taken_where_none_is_named():
    small = gpu_time("sft", ApproachRequest(model="Qwen/Qwen2.5-7B-Instruct"))
    large = gpu_time("sft", ApproachRequest(model="meta-llama/Llama-2-70b-hf"))

    assert (small.gpu, large.gpu) == ("RTX 4090", "A100-80GB")


def test_a_card_without_a_published_rate_has_a_fit_and_no_hours():
    time = gpu_time("sft", ApproachRequest(gpu="T4", model="Qwen/Qwen2.5-1.5B-Instruct"))

    assert time.fits == "yes"
    assert time.hours_high is None
    assert "cannot be told" in time.assumptions[-1]


def test_a_model_that_nobody_knows_is_replaced_and_said_to_be():
    time = gpu_time("sft", ApproachRequest(model="acme/unheard-of"))

    assert time.model.endswith("(assumed)")
    assert gpu_time("sft", ApproachRequest(model="Qwen/Qwen2.5-7B-Instruct")).model == (
        "Qwen/Qwen2.5-7B-Instruct"
    )


def test_two_stages_are_added_up():
    request = ApproachRequest(num_demonstrations=900, num_preference_pairs=3000, gpu="A100-80GB")
    both = gpu_time("sft_then_dpo", request)
    sft, dpo = gpu_time("sft", request), gpu_time("dpo", request)

    assert both.hours_low == pytest.approx(sft.hours_low + dpo.hours_low, rel=0.1)


def test_every_approach_that_trains_has_hours_but_those_that_generate():
    assert TRAINING - WORK.keys() == {"rl_verifiable_reward", "rlhf"}
    assert gpu_time("rag", ApproachRequest(gpu="A100-80GB")) is None
    assert gpu_time("rl_verifiable_reward", ApproachRequest()) is None


def test_the_report_says_hours_for_what_it_recommends():
    report = recommend_approach(
        ApproachRequest(
            symptoms=["style"], prompting_tried="optimized", num_demonstrations=900, gpu="L40S"
        )
    )

    assert report.approach == "sft"
    assert report.cost_bracket.gpu_time.gpu == "L40S"
    assert report.cost_bracket.gpu_time.hours_high > report.cost_bracket.gpu_time.hours_low > 0


def test_the_next_steps_name_the_model_that_the_hours_are_of():
    report = recommend_approach(
        ApproachRequest(
            symptoms=["classification", "cost"], prompting_tried="few_shot", num_demonstrations=2000
        )
    )
    models = {step.arguments.get("model") for step in report.next_steps} - {None}

    assert {f"{model} (assumed)" for model in models} == {report.cost_bracket.gpu_time.model}
