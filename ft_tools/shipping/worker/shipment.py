"""What every step of a shipping run needs: its plan, folders and where the model fits now."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ft_tools.models import safetensors_headers
from ft_tools.models.placement import Dtype, Placement, running_places, shortage
from ft_tools.models.size import ModelSize, size_of_files
from ft_tools.models.worker.loading import free_machine
from ft_tools.runs.processes.endings import disk_full
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory
from ft_tools.shipping.asking import PromptSpec
from ft_tools.shipping.estimates import working_bytes
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.plan import ShipPlan

MERGED = "merged"
GGUF_TYPES: dict[str, tuple[str, Dtype]] = {"BF16": ("bf16", "bfloat16"), "F16": ("f16", "float16")}
"""Data type of safetensors -> llama.cpp's and torch's; all others are held in 32 bits."""


@dataclass
class Shipment:
    """A plan, with the folders it is carried out in."""

    session: Session
    plan: ShipPlan
    base: Path
    out: Path
    scratch: Path
    asking: PromptSpec = field(default_factory=PromptSpec)

    @cached_property
    def size(self) -> ModelSize:
        """Return how large the base is, and so the merged model."""
        return size_of_files(self.base)

    @cached_property
    def can_run(self) -> bool:
        """Return whether the whole model fits, at least in bfloat16, on a card or in memory."""
        return bool(self._places())

    @property
    def merged(self) -> Path:
        """Return the folder of the merged model."""
        return self.out / MERGED

    @property
    def adapter(self) -> Path | None:
        """Return the adapter's folder."""
        return Path(self.plan.adapter.path) if self.plan.adapter else None

    @property
    def held_out(self) -> Path | None:
        """Return the file that is measured on; None for the built-in text."""
        return Path(self.plan.held_out) if self.plan.held_out else None

    @property
    def is_tuned(self) -> bool:
        """Return whether it answers greedily: what is shipped was trained or measured that way."""
        plan = self.plan
        known = plan.adapter is not None or plan.measured_as is not None
        return known or bool(directory.RUN_ID.fullmatch(plan.source))

    def _places(self) -> list[Placement]:
        working = working_bytes(self.size, self.plan.adapter)
        machine = free_machine(self.plan.device)
        return running_places(self.size, machine, working_bytes=working, exact=True)

    def require_place(self, what: str) -> Placement:
        """Return where the whole model fits best now.

        Raises:
            Refused: It fits nowhere.
        """
        if found := self._places():
            return found[0]
        needs = shortage(self.size, free_machine(self.plan.device))
        raise refusal("format_does_not_fit", format=what, shortage=f"{needs} free")

    def stop_if_asked(self) -> None:
        """End early; what is published stays and is not made again.

        Raises:
            Stopped: A cancel was asked.
        """
        if self.session.should_stop:
            raise Stopped


@contextmanager
def disk_full_of_libraries(folder: Path) -> Iterator[None]:
    """Turn what safetensors and llama.cpp say of a full disk into an error that says what to do.

    Raises:
        DiskFull: A library wrote and there was no space.
    """
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        if (full := disk_full(folder, error)) and full is not error:
            raise full from error
        raise


def own_types(folder: Path) -> tuple[str, Dtype]:
    """Return the GGUF type that holds a model's weights exactly, and torch's name of it."""
    held: dict[str, int] = {}
    for tensor in safetensors_headers.survey(folder).values():
        held[tensor.dtype] = held.get(tensor.dtype, 0) + tensor.num_bytes
    return GGUF_TYPES.get(max(held, key=lambda kind: held[kind]), ("f32", "float32"))
