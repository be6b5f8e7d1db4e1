"""Weights in memory: loaded when first used, freed when other weights need the room.

All models of an evaluation are loaded in the same numbers. Where they do not fit together, one is
asked after the other.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from ft_tools.errors import Refused
from ft_tools.evaluation.systems.models import LoadPlan, ModelFiles, decide
from ft_tools.models.placement import CPU, Placement, candidates, shortage
from ft_tools.models.size import ModelSize, size_of_files
from ft_tools.models.worker.loading import fetched, free_machine, free_memory, load, load_first


class Memory:
    """What is loaded at present."""

    def __init__(self, plan: LoadPlan | None) -> None:
        self._plan = plan
        self._held: list[Weights] = []

    @property
    def is_on_mlx(self) -> bool:
        """Return whether MLX computes what is loaded."""
        return self._plan is not None and self._plan.on_mlx

    def clear(self) -> None:
        """Free everything."""
        for weights in self._held:
            weights.free()
        self._held.clear()
        free_memory()

    def take(self, weights: "Weights") -> Any:
        """Load a model; others are freed if there is no room beside them.

        Raises:
            Refused: It fits nowhere, even alone.
        """
        if self._plan is None:
            # Its size was not known before it was downloaded.
            self._plan = decide(weights.size, free_machine(), None)
        plan = self._plan
        found = _places(weights.size, plan)
        if not found and self._held:
            self.clear()
            found = _places(weights.size, plan)
        if not found:
            machine = free_machine(plan.torch_device)
            needs = shortage(weights.size, machine, four_bit=plan.four_bit)
            raise Refused(
                f"evaluating {weights.files.name} takes {needs} free; close other programs, or use "
                "a larger machine"
            )
        quantization = plan.quantization if plan.four_bit else None
        model = load_first(found, lambda place: weights.load_at(place, quantization))
        self._held.append(weights)
        return model


class Weights:
    """A model of the comparison."""

    def __init__(self, files: ModelFiles, memory: Memory) -> None:
        self.files = files
        self._memory = memory
        self._model: Any = None
        self._folder: Path | None = None

    @property
    def model(self) -> Any:
        """Return the model, loaded if it is not."""
        if self._model is None:
            # What is made in inference mode could not be trained by whoever gets the model.
            with torch.inference_mode(False):
                self._model = self._memory.take(self)
        return self._model

    @property
    def folder(self) -> Path:
        """Return the folder of the base weights, fetched if it is not here."""
        if self._folder is None:
            self._folder = fetched(self.files.load_from, self.files.revision)
        return self._folder

    @property
    def size(self) -> ModelSize:
        """Return how large the base weights are."""
        return size_of_files(self.folder)

    def free(self) -> None:
        """Free the memory."""
        self._model = None

    def load_at(self, place: Placement, quantization: dict[str, object] | None) -> Any:
        """Load the base, and the adapter over it."""
        model = load(self.folder, place, quantization=quantization)
        if self.files.adapter is None:
            return model
        at = str(model.device)
        return PeftModel.from_pretrained(model, self.files.adapter, torch_device=at).eval()


def _places(size: ModelSize, plan: LoadPlan) -> list[Placement]:
    """Return where a model fits now, in the plan's numbers and on its kind of device."""
    machine = free_machine(plan.torch_device)
    found = candidates(size, machine, [plan.dtype], four_bit=plan.four_bit)
    return [one for one in found if (one.device == CPU) == (plan.on_cpu or plan.on_mlx)]
