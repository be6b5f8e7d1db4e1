"""estimate_vram: the peak GPU memory of a training run, from config.json alone."""

from ft_tools import facts
from ft_tools.contract import NextStep
from ft_tools.memory import changes_to_fit, traced
from ft_tools.memory.bounds import FITS, GIB, Estimate, Fits, estimate, usable_gib
from ft_tools.memory.report import Change, SecondOpinion, VramReport
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.setup import Setup
from ft_tools.models.shape_of_model import config_of, shape_of
from ft_tools.next_steps import next_step
from ft_tools.reasons import reason


def estimate_vram(request: VramRequest) -> VramReport:
    """Estimate the peak GPU memory of a training run.

    Raises:
        UnknownName: The model, its family or the GPU is in no table.
        BadInput: The model has no such target module.
        NotFound: No such folder or run.

    Source: references/memory.md has every formula, its derivation and its measured error.

    >>> report = estimate_vram(VramRequest(
    ...     model="mistralai/Mistral-7B-v0.1", method="lora", seq_len=4096, micro_batch=4,
    ...     target_modules=("q_proj", "k_proj", "v_proj", "o_proj"), lora_dropout=0.1,
    ...     attention="flash", mixed_precision=False, gpu="A100-80GB", trl_version=None,
    ...     transformers_version="4.48"))
    >>> round(report.peak_allocated_gib, 1)  # measured: 24.87, fms-acceleration a100_80gb.csv:32
    24.9
    """
    shape = shape_of(request.model)
    setup = setup_of(request, shape)
    found = estimate(setup, request.gpu)
    usable = usable_gib(request.gpu, request.gpu_memory_gib)
    changes: list[Change] = []
    micro_batch = seq_len = None
    if usable is not None:
        changes = changes_to_fit.changes_to_fit(request, setup, usable)
        micro_batch = changes_to_fit.max_micro_batch(setup, request.gpu, usable)
        seq_len = changes_to_fit.max_seq_len(setup, request.gpu, usable)
    opinion: SecondOpinion | str = ""
    if request.second_opinion:
        opinion = traced.second_opinion(setup, config_of(request.model))
    fits = found.fits(usable)
    phases = found.phases.phases
    return VramReport(
        summary=_summary(request, found, usable, opinion),
        fits=fits,
        peak_allocated_gib=_gib(found.peak),
        peak_allocated_low_gib=_gib(found.low),
        peak_allocated_high_gib=_gib(found.high),
        interval_basis=found.interval.basis,
        interval_note=found.interval.note,
        process_low_gib=_gib(found.process_low),
        process_high_gib=_gib(found.process_high),
        usable_gib=usable,
        phases={name: _gib(sum(parts.values())) for name, parts in phases.items()},
        dominant_phase=found.phases.dominant,
        components={name: _gib(size) for name, size in phases[found.phases.dominant].items()},
        max_micro_batch=micro_batch,
        max_seq_len=seq_len,
        changes_to_fit=changes,
        second_opinion=None if isinstance(opinion, str) else opinion,
        total_params=shape.total_params,
        trainable_params=setup.trainable_params,
        assumptions=_assumptions(request, setup),
        reasons=[
            reason("memory_unchecked", None)
            if usable is None
            else reason("fits_usable_memory", _gib(found.process_high), usable)
        ],
        next_steps=_next_steps(request, fits, changes),
    )


def _gib(size: float) -> float:
    return round(size / GIB, 4)


def _summary(
    request: VramRequest, found: Estimate, usable: float | None, opinion: SecondOpinion | str
) -> str:
    where = " per GPU" if request.num_gpus > 1 else ""
    why = f": {found.setup.untraced}" if found.setup.untraced else ""
    text = (
        f"{found.peak / GIB:.2f} GiB allocated{where} ({found.low / GIB:.2f} to "
        f"{found.high / GIB:.2f}{why}), set by {found.phases.dominant}; the process takes up to "
        f"{found.process_high / GIB:.2f} GiB"
    )
    if isinstance(opinion, SecondOpinion):
        agrees = "agrees" if opinion.agrees else "does not agree"
        text += f"; traced {opinion.peak_allocated_gib:.2f} GiB, which {agrees}"
    elif opinion:
        text += f"; no second opinion: {opinion}"
    if usable is None:
        return f"{text}. Pass gpu or gpu_memory_gib to see whether it fits."
    card = request.gpu or f"a GPU with {request.gpu_memory_gib:g} GiB"
    return f"{text}; it {FITS[found.fits(usable)]} {card} ({usable:.2f} GiB usable)."


def _assumptions(request: VramRequest, setup: Setup) -> list[str]:
    """Return the rows of assumptions.toml that hold, and what the shape's own notes say."""
    shape, profile, is_quantized = setup.shape, setup.profile, setup.quantization is not None
    has_bf16 = request.gpu is None or facts.gpu(request.gpu).has_bf16
    on_mlx = setup.engine == "mlx"
    holds = {
        "mlx": on_mlx,
        "mlx_stand_in": on_mlx and shape.is_described,
        "quantized_already": bool(shape.quantized),
        "own_linears": is_quantized and not setup.linears_quantized,
        "experts_kept": is_quantized and shape.num_experts > 0 and not setup.experts_quantized,
        "softcap": shape.softcap and setup.attention != "flash",
        "no_bfloat16": request.dtype == "bfloat16" and not has_bf16,
        "untraced": not on_mlx and shape.is_described and profile is None,
        "traced": profile is not None,
    }
    texts = {
        "gpu": request.gpu,
        "quantized": shape.quantized,
        "loaded": "trained as it is" if is_quantized else "loaded in 16 bits",
        "kinds": ", ".join(f"{block.count} x {block.kind}" for block in shape.blocks),
        "why": f"; {setup.untraced}" if setup.untraced else "",
        "eager": ", with eager attention" if profile is not None and profile.eager else "",
    }
    rows = facts.table_of("assumptions.toml", "memory")
    return [*(rows[name].format(**texts) for name in holds if holds[name]), *shape.notes]


def _next_steps(request: VramRequest, fits: Fits, changes: list[Change]) -> list[NextStep]:
    if changes:
        last = changes[-1]
        arguments = request.model_dump(mode="json", exclude_defaults=True) | last.arguments
        if arguments.get("method") != "full" and request.method == "full":
            arguments.pop("precompute_ref_log_probs", None)
        step = "estimate_changed" if last.fits == "yes" else "estimate_smallest"
        return [next_step(step, arguments)]
    if fits in {"yes", "unknown"}:
        arguments = request.model_dump(
            include={"model", "method", "seq_len", "gpu", "gpu_memory_gib"}
        )
        arguments |= {"goal": "preference"} if request.task == "dpo" else {}
        return [next_step("settings_that_fit", arguments)]
    return []
