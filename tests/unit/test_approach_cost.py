"""What an approach costs: GPU hours from the plan that fits, at throughputs that were published."""

import pytest

from ft_tools.approach.cost import WORK, PublishedRun, flops, gpu_time, reached, utilisation
from ft_tools.approach.request import TRAINING, ApproachRequest
from ft_tools.approach.tool import recommend_approach
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.tool import suggest_lora_config
from ft_tools.training import estimates

# Runs that are not among the rows: more of LitGPT's table (minutes on one A10G for 2,000 Alpaca
# examples of about 110 tokens), and more of fms-acceleration's (tokens a second and GPU).
LITGPT = "https://github.com/Lightning-AI/litgpt/blob/main/config_hub/finetune/README.md"
MINUTES = [
    ("meta-llama/Meta-Llama-3-8B", "lora", 2, 14.8),
    ("mistralai/Mistral-7B-v0.1", "lora", 4, 31.0),
    ("mistralai/Mistral-7B-v0.1", "qlora", 4, 44.8),
    ("microsoft/phi-2", "lora", 1, 3.8),
    ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "lora", 3, 8.1),
]
RATES = [
    ("mistralai/Mistral-7B-v0.1", "lora", 1, 3768),
    ("mistralai/Mistral-7B-v0.1", "qlora", 1, 4046),
    ("mistralai/Mistral-7B-v0.1", "lora", 2, 3542),
    ("mistralai/Mistral-7B-v0.1", "qlora", 2, 1605),
    ("mistralai/Mixtral-8x7B-v0.1", "qlora", 2, 1497),
    ("mistralai/Mistral-7B-v0.1", "full", 1, 3014),
]


def run(model, gpu, method, num_gpus, tokens_per_second):
    return PublishedRun(
        model=model,
        gpu=gpu,
        method=method,
        num_gpus=num_gpus,
        tokens_per_second=tokens_per_second,
        data="short",
        source=LITGPT,
    )


def lies_in_range(one):
    rate = utilisation(one.method, one.num_gpus > 1)
    return rate.low <= reached(one) <= rate.high


@pytest.mark.parametrize(("model", "method", "epochs", "minutes"), MINUTES)
def test_published_durations_that_no_row_holds_lie_in_the_range(model, method, epochs, minutes):
    assert lies_in_range(run(model, "A10G", method, 1, 2000 * 110 * epochs / (minutes * 60)))


@pytest.mark.parametrize(("model", "method", "num_gpus", "rate"), RATES)
def test_published_rates_that_no_row_holds_lie_in_the_range(model, method, num_gpus, rate):
    assert lies_in_range(run(model, "A100-80GB", method, num_gpus, rate))


def test_ten_times_the_fastest_published_rate_lies_outside():
    assert not lies_in_range(run("mistralai/Mistral-7B-v0.1", "A100-80GB", "lora", 1, 33_190))


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("is_sharded", [False, True])
def test_every_range_rests_on_several_published_runs(method, is_sharded):
    rate = utilisation(method, is_sharded)

    assert rate.num_runs >= 2
    assert 0 < rate.low < rate.high < 0.7


def test_the_plan_of_a_launch_reckons_with_like_rates():
    slow, fast = (
        share / estimates.FLOPS_PER_PARAM_TOKEN["lora"] for share in estimates.GPU_UTILISATION
    )
    rate = utilisation("lora", is_sharded=False)

    assert rate.low / flops("sft", "lora") <= slow
    assert fast <= 1.2 * rate.high / flops("sft", "lora")


def test_hours_follow_from_parameters_tokens_and_the_peak_rate():
    time = gpu_time(
        "sft",
        ApproachRequest(
            num_demonstrations=2000, gpu="A100-80GB", model="meta-llama/Meta-Llama-3-8B"
        ),
    )
    hours_at_peak = 2 * 6 * 8_030_261_248 * 2000 * 500 / 312e12 / 3600

    assert time.num_gpus == 1
    assert "2 epochs" in time.assumptions[0]
    rate = utilisation("lora", is_sharded=False)
    assert time.hours_low == pytest.approx(hours_at_peak / rate.high, rel=0.05)
    assert time.hours_high == pytest.approx(hours_at_peak / rate.low, rel=0.05)


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
    assert "the hours are unknown" in time.assumptions[-1]


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
            response_format="detailed",
            symptoms=["style"],
            prompting_tried="optimized",
            num_demonstrations=900,
            gpu="L40S",
        )
    )

    assert report.approach == "sft"
    assert report.cost_bracket.gpu_time.gpu == "L40S"
    assert report.cost_bracket.gpu_time.hours_high > report.cost_bracket.gpu_time.hours_low > 0


def test_the_next_steps_name_the_model_that_the_hours_are_of():
    report = recommend_approach(
        ApproachRequest(
            response_format="detailed",
            symptoms=["classification", "cost"],
            prompting_tried="few_shot",
            num_demonstrations=2000,
        )
    )
    models = {step.arguments.get("model") for step in report.next_steps} - {None}

    assert {f"{model} (assumed)" for model in models} == {report.cost_bracket.gpu_time.model}
