"""trace_vram: a second estimate of a training step, by running the real classes on fake tensors.

The worker (`ft_tools/memory/worker/trace.py`) counts live storage; here is what it is asked, how
two depths become the whole model, and how the result is compared with the formulas.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec

from pydantic import BaseModel, Field

from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, MissingExtra
from ft_tools.memory.fits_gpu import FITS, usable_gib, verdict
from ft_tools.memory.interval import interval
from ft_tools.memory.phases import Phases, phases
from ft_tools.memory.report import TraceReport, TraceStarted
from ft_tools.memory.request import TraceRequest
from ft_tools.memory.request_to_setup import on_apple, setup_of, shape_of_request
from ft_tools.memory.setup import Setup
from ft_tools.runs.processes.start import start

GIB = 2**30
# Every block is alike, so that two depths tell what one more block adds.
DEPTHS = (2, 4)
NEEDED = ("torch", "transformers", "peft", "trl")


class TracePlan(BaseModel):
    """What a trace will do."""

    model: str
    traced_layers: list[int] = Field(description="Depths that are traced.")
    num_layers: int = Field(description="Depth that the model has.")


def trace_vram(request: TraceRequest) -> TraceStarted:
    """Start a trace, with the formulas' estimate beside it.

    Raises:
        UnknownName: The model or its family is in no table.
        BadInput: The model has no such target module, or the GPU is a Mac's.
        MissingExtra: Tracing requires `fine-tuning-llm[train]`.
    """
    for package in NEEDED:
        if find_spec(package) is None:
            raise MissingExtra("train", package)
    if on_apple(request.gpu):
        raise BadInput(
            f"gpu={request.gpu!r}: a Mac trains with MLX, and a trace runs torch; use estimate_vram"
        )
    vram = request.as_vram()
    shape = shape_of_request(vram)
    found = phases(traced_setup(setup_of(vram, shape)))
    plan = TracePlan(model=request.model, traced_layers=list(DEPTHS), num_layers=shape.num_layers)
    run_id = start(
        "trace",
        request,
        plan,
        request_id=request.request_id,
        name=f"trace {request.model}",
        lineage={"base_model": request.model},
    )
    step = NextStep(
        tool="get_run", arguments={"run_id": run_id}, why="read the result after some seconds"
    )
    return TraceStarted(run_id=run_id, formula_gib=_gib(found.peak), next_steps=[step])


def traced_setup(setup: Setup) -> Setup:
    """Return the setup that the formulas are to answer: a trace has no cuBLAS workspaces."""
    return replace(setup, workspace_bytes=0)


def at_depth(
    shallow: Mapping[str, int], deep: Mapping[str, int], num_layers: int
) -> dict[str, float]:
    """Extrapolate the phases of two traced depths to the model's own.

    >>> at_depth({"loss": 30}, {"loss": 50}, num_layers=32)
    {'loss': 330.0}
    """
    span = DEPTHS[1] - DEPTHS[0]
    return {
        name: deep[name] + (deep[name] - shallow[name]) / span * (num_layers - DEPTHS[1])
        for name in deep
    }


def by_formula(found: Phases) -> dict[str, float]:
    """Return the formulas' phases under the trace's names."""
    sizes = {name: sum(parts.values()) for name, parts in found.phases.items()}
    return {
        "loss": sizes["loss"],
        "backward": max(sizes["backward_top"], sizes["backward_bottom"]),
        "optimizer": sizes["optimizer"],
    }


def compared(
    setup: Setup,
    traced: Mapping[str, float],
    versions: Mapping[str, str],
    gpu: str | None = None,
) -> TraceReport:
    """Put a trace and the formulas side by side.

    Args:
        setup: What was traced, as `traced_setup` gives it.
        traced: Phase -> bytes, at the model's own depth.
        versions: Library -> version that was traced.
        gpu: That it is to fit.
    """
    found = phases(setup)
    formula = by_formula(found)
    peak, guess = max(traced.values()), max(formula.values())
    width = interval(setup, found.dominant).fraction
    difference = guess / peak - 1
    agree = abs(difference) <= width
    answer = "inside" if agree else "outside"
    usable = usable_gib(gpu, None)
    fits = verdict(peak, usable)
    where = "" if usable is None else f"; {FITS[fits]} {gpu} ({usable:.2f} GiB usable)"
    return TraceReport(
        summary=f"traced {_gib(peak):.2f} GiB, by formula {_gib(guess):.2f} GiB "
        f"({difference:+.1%}), {answer} its interval of {width:.0%}{where}",
        peak_allocated_gib=_gib(peak),
        usable_gib=usable,
        fits=fits,
        formula_gib=_gib(guess),
        difference_fraction=round(difference, 5),
        verdict="agree" if agree else "differ",
        interval_fraction=width,
        phases={name: _gib(size) for name, size in traced.items()},
        formula_phases={name: _gib(size) for name, size in formula.items()},
        traced_layers=list(DEPTHS),
        assumptions=_assumptions(setup, versions),
    )


def _gib(size: float) -> float:
    return round(size / GIB, 4)


def _assumptions(setup: Setup, versions: Mapping[str, str]) -> list[str]:
    notes = [
        ", ".join(f"{name} {number}" for name, number in versions.items()),
        f"loss head {setup.head}, attention {setup.attention}, no padding",
        "fake CPU tensors: what a kernel fuses on a GPU is not fused, cuBLAS has no workspace",
    ]
    if setup.attention != "eager":
        notes.append("attention keeps what FlashAttention keeps: inputs, output and a log-sum")
    if setup.task == "dpo":
        notes.append("a pair is traced as two sequences through the SFT loss")
    return notes
