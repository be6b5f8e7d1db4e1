"""trace_vram: a second estimate of a training step, by running the real classes on fake tensors.

The worker (`ft_tools/vram/worker/trace.py`) counts live storage; here is what it is asked, how two
depths become the whole model, and how the result is compared with the formulas.
"""

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from ft_tools.contract import NextStep, Report
from ft_tools.errors import MissingExtra
from ft_tools.runs.start import start
from ft_tools.vram.band import interval
from ft_tools.vram.decide import setup_of, shape_of_request
from ft_tools.vram.phases import Phases, phases
from ft_tools.vram.request import StepRequest, VramRequest
from ft_tools.vram.setup import Setup

GIB = 2**30
# Every block is alike, so that two depths tell what one more block adds.
DEPTHS = (2, 4)
NEEDED = ("torch", "transformers", "peft", "trl")
TRACED_OPTIMIZERS = ("adamw_torch_fused", "adamw_torch")
TRACED_HEADS = ("auto", "full_logits", "trl_fused")


class TraceRequest(StepRequest):
    """A training step to be traced: one GPU, the installed libraries, no weights needed."""

    model: str = Field(
        description="Hub id, catalog name, folder or config.json in the workspace, or run id."
    )
    request_id: str = Field(
        "",
        max_length=200,
        description="Your own id for this call; repeating it never starts a second run.",
    )

    @model_validator(mode="after")
    def _it_can_be_traced(self) -> "TraceRequest":
        if self.optimizer not in TRACED_OPTIMIZERS:
            raise ValueError(
                f"optimizer {self.optimizer!r} cannot be traced: its kernels run on a GPU only; "
                f"trace {' or '.join(TRACED_OPTIMIZERS)}, or use estimate_vram"
            )
        if self.loss_head not in TRACED_HEADS:
            raise ValueError(
                f"loss_head {self.loss_head!r} cannot be traced: its kernel runs on a GPU only; "
                f"trace {', '.join(TRACED_HEADS)}, or use estimate_vram"
            )
        return self

    def as_vram(self) -> VramRequest:
        """Return the request that the formulas are asked about the same step."""
        return VramRequest.model_validate(
            self.model_dump(exclude={"request_id"}, exclude_none=True)
        )


class TracePlan(BaseModel):
    """What a trace will do."""

    model: str
    traced_layers: list[int] = Field(description="Depths that are traced.")
    num_layers: int = Field(description="Depth that the model has.")


class TraceStarted(Report):
    """A trace that was started, and the formulas' estimate."""

    run_id: str = Field(
        description="Pass it to get_run; after some seconds `result` has both estimates."
    )
    formula_gib: float = Field(description="Peak allocation by estimate_vram's formulas, in GiB.")
    next_steps: list[NextStep]


class TraceReport(Report):
    """The traced peak beside the peak by estimate_vram's formulas."""

    summary: str = Field(description="The answer in a sentence.")
    peak_allocated_gib: float = Field(description="Largest phase of the trace, in GiB.")
    formula_gib: float = Field(description="Largest phase by estimate_vram's formulas, in GiB.")
    difference_fraction: float = Field(description="Peak by formula / traced peak - 1.")
    verdict: Literal["agree", "differ"] = Field(
        description="agree: the trace lies within the formula's interval."
    )
    interval_fraction: float = Field(description="Relative half-width of that interval.")
    phases: dict[str, float] = Field(description="Traced peak of each phase, in GiB.")
    formula_phases: dict[str, float] = Field(description="The same phases by the formulas, in GiB.")
    traced_layers: list[int] = Field(
        description="Numbers of blocks that were traced; the rest is extrapolated."
    )
    assumptions: list[str] = Field(description="What the trace cannot see, and library versions.")


def trace_vram(request: TraceRequest) -> TraceStarted:
    """Trace the memory of a training step: the real model class, PEFT, loss and optimizer.

    Runs on tensors without data, so it needs neither a GPU nor weights, and takes some seconds. It
    uses no formula and no measured constant: use it to check an estimate with a wide interval.

    Returns:
        The run to read, and the formulas' estimate. The finished run's `result` has both.

    Raises:
        UnknownName: The model or its family is in no table.
        BadInput: The model has no such target module.
        MissingExtra: Tracing requires `fine-tuning-llm[train]`.
    """
    for package in NEEDED:
        if find_spec(package) is None:
            raise MissingExtra("train", package)
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


def compared(setup: Setup, traced: Mapping[str, float], versions: Mapping[str, str]) -> TraceReport:
    """Put a trace and the formulas side by side.

    Args:
        setup: What was traced, as `traced_setup` gives it.
        traced: Phase -> bytes, at the model's own depth.
        versions: Library -> version that was traced.
    """
    found = phases(setup)
    formula = by_formula(found)
    peak, guess = max(traced.values()), max(formula.values())
    width = interval(setup, found.dominant).fraction
    difference = guess / peak - 1
    agree = abs(difference) <= width
    answer = "inside" if agree else "outside"
    return TraceReport(
        summary=f"traced {_gib(peak):.2f} GiB, by formula {_gib(guess):.2f} GiB "
        f"({difference:+.1%}), {answer} its interval of {width:.0%}",
        peak_allocated_gib=_gib(peak),
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
