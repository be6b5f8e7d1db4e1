"""What an approach costs, in orders of magnitude."""

from ft_tools import facts
from ft_tools.approach.request import Approach, ApproachRequest, CostBracket, GpuTime
from ft_tools.approach.table import table

SEQUENCES: dict[Approach, int] = {
    "sft": 1,
    "small_model_fine_tuning": 1,
    "distillation": 1,
    "sft_and_rag": 1,
    "dpo": 2,
}
"""Sequences that one example trains on, for the approaches whose GPU time can be told."""

SECONDS_PER_HOUR = 3600
FLOPS_PER_TFLOPS = 1e12


def bracket(approach: Approach, request: ApproachRequest) -> CostBracket:
    """Return the bracket of an approach; the bounds are not a quote.

    Raises:
        UnknownName: The request names a GPU that no table lists.
    """
    row = table().approaches[approach]
    return CostBracket(
        usd_low=row.usd_low,
        usd_high=row.usd_high,
        time=row.time,
        data=row.data,
        running=row.running,
        gpu_time=_gpu_time(approach, request),
        source=row.source,
    )


def _gpu_time(approach: Approach, request: ApproachRequest) -> GpuTime | None:
    """Estimate the hours of a LoRA run: parameters * tokens * 6 / (peak rate * utilisation).

    Raises:
        UnknownName: The request names a GPU that no table lists.
    """
    if request.gpu is None:
        return None
    rate = facts.gpu(request.gpu).bf16_dense_tflops
    pairs = SEQUENCES.get(approach) == 2
    examples = request.num_preference_pairs if pairs else request.num_demonstrations
    if rate is None or examples is None or approach not in SEQUENCES:
        return None
    given = {name: row.value for name, row in table().gpu_time.items()}
    parameters = given["parameters"]
    known = request.model is not None and facts.has_model(request.model)
    if request.model is not None and known:
        parameters = float(facts.model(request.model).total_params)
    epochs = 1 if pairs else given["epochs"]
    tokens = examples * SEQUENCES[approach] * given["tokens_per_example"] * epochs
    flops = tokens * parameters * given["flops_per_parameter_and_token"]
    hours = flops / (rate * FLOPS_PER_TFLOPS * SECONDS_PER_HOUR)
    return GpuTime(
        gpu=request.gpu,
        hours_low=round(hours / given["utilisation_high"], 3),
        hours_high=round(hours / given["utilisation_low"], 3),
        assumptions=[
            f"{parameters / 1e9:.3g}B parameters" + ("" if known else " (no catalog model named)"),
            f"{given['tokens_per_example']:g} tokens an example, {epochs:g} epochs",
            f"{given['utilisation_low']:g} to {given['utilisation_high']:g} of the peak rate",
        ],
    )
