"""What an approach costs, in orders of magnitude: money, and GPU hours at published throughputs."""

from dataclasses import dataclass
from functools import cache, lru_cache

from pydantic import TypeAdapter

from ft_tools import facts
from ft_tools.approach.report import CostBracket, GpuTime
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.situation import number_of
from ft_tools.approach.table import table
from ft_tools.contract import Reason
from ft_tools.errors import FineTuningError
from ft_tools.facts import Fact
from ft_tools.lora.choices import choose_batch, choose_epochs
from ft_tools.lora.data_shape import DataShape
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.settings_that_fit import wanted_seq_len
from ft_tools.lora.tool import suggest_lora_config
from ft_tools.memory.request import VramRequest
from ft_tools.memory.setup import Method, Task
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.shape_of_model import shape_of

FILE = "throughput.toml"
FLOPS_PER_TFLOPS = 1e12


class PublishedRun(Fact):
    """A run with its speed, as published."""

    model: str
    gpu: str
    method: Method
    num_gpus: int
    tokens_per_second: float
    data: str


@dataclass(frozen=True)
class Utilisation:
    """Fractions of the peak rate: the slowest and the fastest of the runs like this one."""

    low: float
    high: float
    num_runs: int


@cache
def published() -> tuple[PublishedRun, ...]:
    """Return the published runs."""
    rows = facts.rows_of(FILE, "runs")
    return tuple(TypeAdapter(list[PublishedRun]).validate_python(rows))


@cache
def utilisation(method: Method, is_sharded: bool) -> Utilisation:
    """Return the range of the published runs that train as much, on one card or on several."""
    seen = [
        reached(run)
        for run in published()
        if (run.method == "full") == (method == "full") and (run.num_gpus > 1) == is_sharded
    ]
    return Utilisation(min(seen), max(seen), len(seen))


def reached(run: PublishedRun) -> float:
    """Return the share of the peak rate that a run reached.

    share = tokens a second * active parameters * FLOPs a parameter and token / peak rate

    Raises:
        ValueError: No rate is published for its card.
    """
    peak = facts.gpu(run.gpu).bf16_dense_tflops
    if peak is None:
        raise ValueError(f"{run.gpu} has no published bf16 rate")
    work = run.tokens_per_second * shape_of(run.model).active_params
    return work * flops("sft", run.method) / (peak * FLOPS_PER_TFLOPS)


def flops(task: Task, method: Method) -> float:
    """Return the floating-point operations a parameter and token."""
    trained = "full" if method == "full" else "lora"
    return table().gpu_time[f"flops_{task}_{trained}"].value


CARDS = ("RTX 4090", "A100-80GB")
"""Tried in this order where the request names no card: one to own, one to rent."""

CARD_COUNTS = (2, 4, 8, 16, 32, 64)
STAND_IN = "Qwen/Qwen2.5-7B-Instruct"
SMALL_STAND_IN = "Qwen/Qwen2.5-1.5B-Instruct"
BASE_STAND_IN = "Qwen/Qwen2.5-7B"
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Work:
    """What an approach trains: its stages as (task, sequences an example, field of the request)."""

    stages: tuple[tuple[Task, int, str], ...]
    stand_in: str = STAND_IN
    method: Method | None = None


_DEMONSTRATIONS: tuple[Task, int, str] = ("sft", 1, "num_demonstrations")
_PAIRS: tuple[Task, int, str] = ("dpo", 2, "num_preference_pairs")

WORK: dict[Approach, Work] = {
    "sft": Work((_DEMONSTRATIONS,)),
    "sft_and_rag": Work((_DEMONSTRATIONS,)),
    "distillation": Work((_DEMONSTRATIONS,), SMALL_STAND_IN),
    "small_model_fine_tuning": Work((_DEMONSTRATIONS,), SMALL_STAND_IN),
    "dpo": Work((_PAIRS,)),
    "kto": Work((("dpo", 1, "num_marks"),)),
    "sft_then_dpo": Work((_DEMONSTRATIONS, _PAIRS)),
    "continued_pretraining": Work((("sft", 1, "corpus_tokens"),), BASE_STAND_IN, "full"),
}
"""The approaches whose training time can be estimated. RL spends most of it on generation, whose
length is unknown beforehand."""


@dataclass(frozen=True)
class Fit:
    """The cheapest set of cards that holds the run."""

    gpu: str
    num_gpus: int | None
    method: Method
    fits: str
    peak_allocated_gib: float


def gpu_time(approach: Approach, request: ApproachRequest) -> GpuTime | None:
    """Estimate the GPU hours of an approach; None for those that train nothing, and for RL.

    hours = tokens * parameters * FLOPs / (peak rate * utilisation), over all stages. Parameters
    are those a token uses; the utilisation is the range of the published runs like this one.

    A GPU that no table lists does not stop the advice: the usual cards are reckoned with, and a
    note says so.

    Source: facts/throughput.toml for the rates, facts/approaches.toml, gpu_time, for the rest; the
    fit is that of suggest_lora_config, and over several cards that of estimate_vram.
    """
    work = WORK.get(approach)
    if work is None:
        return None
    model, is_known = _model(request, work)
    card = _card(request)
    fit = _fit(model, work.stages[-1][0], work.method, card)
    work_flops, tokens, notes = 0.0, 0.0, []
    if request.model and not is_known:
        notes.append(f"model {request.model!r} is not known here: check it with estimate_vram")
    if card != request.gpu:
        notes.append(f"GPU {request.gpu!r} is not listed: pass gpu_memory_gib to estimate_vram")
    for task, sequences, field in work.stages:
        stage_tokens, note = _tokens(request, model, task, sequences, field)
        tokens += stage_tokens
        work_flops += stage_tokens * flops(task, fit.method) * shape_of(model).active_params
        notes.append(note)
    rate = utilisation(fit.method, is_sharded=fit.num_gpus != 1)
    peak = facts.gpu(fit.gpu).bf16_dense_tflops
    is_known_rate = peak is not None and fit.num_gpus is not None
    at_peak = work_flops / ((peak or 1.0) * FLOPS_PER_TFLOPS)
    if is_known_rate:
        per_second = f"{tokens / at_peak * rate.low:,.0f} to {tokens / at_peak * rate.high:,.0f}"
        notes.append(
            f"{per_second} tokens per second and GPU: {rate.low:.0%} to {rate.high:.0%} of the "
            f"peak rate, as in {rate.num_runs} published runs"
        )
    elif peak is None:
        notes.append(f"no bf16 rate is published for {fit.gpu}, so the hours are unknown")
    else:
        notes.append(f"it does not fit on up to {CARD_COUNTS[-1]} GPUs")
    return GpuTime(
        model=model if is_known else f"{model} (assumed)",
        gpu=fit.gpu,
        num_gpus=fit.num_gpus,
        method=fit.method,
        fits=fit.fits,
        peak_allocated_gib=fit.peak_allocated_gib,
        hours_low=_hours(at_peak / rate.high) if is_known_rate else None,
        hours_high=_hours(at_peak / rate.low) if is_known_rate else None,
        assumptions=notes,
        source="ft_tools/facts/throughput.toml",
    )


def stand_in(approach: Approach, request: ApproachRequest) -> str:
    """Return the model that is assumed while none is chosen."""
    if request.checkpoint == "base":
        return BASE_STAND_IN
    return WORK[approach].stand_in if approach in WORK else STAND_IN


def _hours(seconds: float) -> float:
    return float(f"{seconds / SECONDS_PER_HOUR:.2g}")


def _model(request: ApproachRequest, work: Work) -> tuple[str, bool]:
    """Return the model that is reckoned with, and whether it is the one that was named."""
    if request.model is None:
        return BASE_STAND_IN if request.checkpoint == "base" else work.stand_in, False
    try:
        shape_of(request.model)
    except FineTuningError:  # advice does not need the model: launch_sft will say what is wrong
        return work.stand_in, False
    return request.model, True


def _card(request: ApproachRequest) -> str | None:
    """Return the card that is reckoned with: the named one if it is listed."""
    try:
        facts.gpu(request.gpu or CARDS[0])
    except FineTuningError:
        return None
    return request.gpu


def _tokens(
    request: ApproachRequest, model: str, task: Task, sequences: int, field: str
) -> tuple[float, str]:
    """Return the tokens of one stage over all epochs, and how they were counted."""
    given = table().gpu_time
    count = number_of(getattr(request, field))
    if field == "corpus_tokens":
        count = count or int(given["assumed_corpus"].value)
        return float(count), f"{count:,} tokens once"
    unknown = "" if count else " (assumed)"
    count = count or int(given["assumed_examples"].value)
    data = DataShape(goal="preference" if task == "dpo" else "instruction", num_examples=count)
    epochs, _ = choose_epochs(data, task, choose_batch(data, task))
    length = int(given["tokens_per_example"].value)
    tokens = float(count * sequences * length * epochs)
    return tokens, f"{count:,} examples{unknown} of {sequences} x {length} tokens, " + (
        f"{epochs} epoch{'s' if epochs > 1 else ''}"
    )


@lru_cache(maxsize=64)
def _fit(model: str, task: Task, method: Method | None, gpu: str | None) -> Fit:
    """Find what holds the run: one card, or as many of the largest card tried as it takes."""
    cards = CARDS if gpu is None else (gpu,)
    for card in cards:
        alone = _alone(model, task, method, card)
        if alone.fits == "yes":
            return alone
    for count in CARD_COUNTS:
        together = _together(model, task, method or "lora", cards[-1], count)
        if together.fits == "yes":
            return together
    return Fit(cards[-1], None, alone.method, "no", alone.peak_allocated_gib)


def _alone(model: str, task: Task, method: Method | None, card: str) -> Fit:
    goal = "preference" if task == "dpo" else "instruction"
    request = LoraRequest(model=model, goal=goal, gpu=card, method=method or "auto")
    report = suggest_lora_config(request)
    whole = report.vram.fits
    wanted = wanted_seq_len(request, shape_of(model).max_positions)
    shortened = report.training["max_length"] < wanted
    return Fit(
        card,
        1,
        report.method,
        "tight" if whole == "yes" and shortened else whole,
        report.vram.peak_allocated_gib,
    )


def _together(model: str, task: Task, method: Method, card: str, count: int) -> Fit:
    report = estimate_vram(
        VramRequest(
            model=model,
            task=task,
            method=method,
            gpu=card,
            num_gpus=count,
            sharding="fsdp",
            precompute_ref_log_probs=task == "dpo" and method == "full",
        )
    )
    return Fit(card, count, method, report.fits, report.peak_allocated_gib)


def bracket(approach: Approach, request: ApproachRequest) -> CostBracket:
    """Return the cost bracket of an approach; the bounds are not a quote.

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
        gpu_time=gpu_time(approach, request),
        source=row.source,
    )


def shortening(request: ApproachRequest) -> Reason | None:
    """Return when training to shorten the prompt would pay for itself; None if unknown.

    saving a call = (m * L - S) * price, with L the fixed part of the prompt, S what would remain
    of it, and m the price of a cached token over that of a fresh one (1 below the length that is
    cached). Needs the fixed part and the calls per day.

    >>> request = ApproachRequest(symptoms=["cost"], prompt_tokens=2000, calls_per_day=10_000)
    >>> shortening(request).threshold
    'pays off after 3,333,333 calls (333 days)'
    """
    calls_per_day = number_of(request.calls_per_day)
    if "cost" not in request.symptoms or not request.prompt_tokens or not calls_per_day:
        return None
    given = {name: row.value for name, row in table().prices.items()}
    cached = request.prompt_tokens >= table().thresholds["cacheable_prefix"].value
    fixed = request.prompt_tokens * (given["cached_fraction"] if cached else 1)
    saving = (fixed - given["short_prompt_tokens"]) * given["input_usd_per_million"] / 1e6
    repaid = "never pays off"
    if saving > 0:
        calls = given["run_usd"] / saving
        repaid = f"pays off after {calls:,.0f} calls ({calls / calls_per_day:,.0f} days)"
    return Reason(
        rule=f"Training to shorten the {'cached ' if cached else ''}prompt, at "
        f"{given['input_usd_per_million']:g} USD per million tokens and {given['run_usd']:,g} USD "
        "per run; a smaller model saves more.",
        observed=f"{request.prompt_tokens:,} tokens, {calls_per_day:,} calls per day",
        threshold=repaid,
        source="ft_tools/facts/approaches.toml#prices",
    )
