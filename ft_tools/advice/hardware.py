"""Facts of a model and a GPU: what can be trained on it, and the model's licence."""

from contextlib import suppress

from ft_tools import facts
from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Fact
from ft_tools.errors import FineTuningError, UnknownName
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram

METHODS = ("lora", "qlora")
SEQ_LEN = 1024
"""TRL's default of max_length."""


def hardware_facts(model: str | None, gpu: str | None) -> Facts:
    """Return which adapters of a model train on a GPU, and the licence that the catalog names."""
    if model is None:
        return Facts()
    rows, numbers, words = [], dict[str, float](), dict[str, str]()
    with suppress(UnknownName):
        row = facts.model(model)
        rows.append(Fact(about="model", says=f"licence: {row.licence}", source=row.source))
    if gpu is not None:
        try:
            reports = {
                method: estimate_vram(
                    VramRequest(model=model, gpu=gpu, method=method, seq_len=SEQ_LEN)
                )
                for method in METHODS
            }
        except FineTuningError as error:
            says = f"memory is unknown: {error}"
            return Facts(rows=(*rows, Fact(about="model", says=says, source="estimate_vram")))
        numbers = {f"{name}_gib": each.peak_allocated_gib for name, each in reports.items()}
        usable = next(iter(reports.values())).usable_gib
        words = {"fits": "yes" if any(r.fits == "yes" for r in reports.values()) else "no"}
        shown = [
            f"{name} {each.peak_allocated_gib:.1f} ({each.fits})" for name, each in reports.items()
        ]
        says = f"on {gpu} at {SEQ_LEN} tokens: {', '.join(shown)} of {usable or 0:.1f} GiB"
        rows.append(Fact(about="model", says=says, source="estimate_vram"))
    return Facts(numbers, words, rows=tuple(rows))
