"""Facts of a model: what it is, its licence, and what of it trains on a GPU."""

from contextlib import suppress
from pathlib import Path

from ft_tools import facts
from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Fact
from ft_tools.errors import FineTuningError, UnknownName
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models import model_folder, other_names
from ft_tools.models.resolve import resolve_model

METHODS = ("lora", "qlora")
SEQ_LEN = 1024
"""TRL's default of max_length."""


def model_facts(model: str, gpu: str | None) -> Facts:
    """Return what a model is, its licence, and which adapters of it train on a GPU."""
    kind = _checkpoint(model)
    known = Facts(words={"checkpoint": kind} if kind else {}, rows=_licence(model))
    return known if gpu is None else _fit(model, gpu).replaced_by(known)


def _licence(model: str) -> tuple[Fact, ...]:
    with suppress(UnknownName):
        row = facts.model(model)
        return (Fact(about="model", says=f"licence: {row.licence}", source=row.source),)
    return ()


def _checkpoint(model: str) -> str:
    """Return sft_run, instruct or base; empty where neither files nor catalog show it."""
    if other_names.instruct_name(model):
        return "base"
    if (other_names.catalog_id(model) or "").endswith(other_names.INSTRUCT):
        return "instruct"
    with suppress(FineTuningError):
        source = resolve_model(model)
        if source.run_id or source.adapter:
            return "sft_run"
        if source.kind == "folder" and source.path:
            is_tuned = model_folder.chat_template(Path(source.path)) is not None
            return "instruct" if is_tuned else "base"
    return ""


def _fit(model: str, gpu: str) -> Facts:
    """Return the memory that training takes with each kind of adapter."""
    try:
        found = {
            method: estimate_vram(VramRequest(model=model, gpu=gpu, method=method, seq_len=SEQ_LEN))
            for method in METHODS
        }
    except FineTuningError as error:
        says = f"memory is unknown: {error}"
        return Facts(rows=(Fact(about="model", says=says, source="estimate_vram"),))
    shown = [f"{name} {one.peak_allocated_gib:.1f} ({one.fits})" for name, one in found.items()]
    usable = found["lora"].usable_gib or 0
    says = f"on {gpu} at {SEQ_LEN} tokens: {', '.join(shown)} of {usable:.1f} GiB"
    return Facts(
        {f"{name}_gib": one.peak_allocated_gib for name, one in found.items()},
        rows=(Fact(about="model", says=says, source="estimate_vram"),),
    )
