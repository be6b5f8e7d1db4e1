"""The models of an evaluation: loaded when first used, freed when others need the memory.

All of them are loaded in the same numbers. Where they do not fit together, one is asked after the
other. A base below an adapter shares its weights.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.systems.models import LoadPlan, ModelFiles, decide
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter, load_at
from ft_tools.evaluation.worker.writer import Writer
from ft_tools.formats.worker import today
from ft_tools.models.model_folder import tokenizer_folder
from ft_tools.models.placement import CPU, Placement, candidates, shortage
from ft_tools.models.size import size_of_files
from ft_tools.models.worker.loading import fetched, free_machine, free_memory, load_first


def prepare(seed: int, today_is: float) -> None:
    """Set what every model of a run shares: its seed, and the date that templates write."""
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    today.hold(today_is)


class LoadedModels:
    """Writers by the files they are loaded from, and what is in memory at present."""

    def __init__(self, plan: LoadPlan | None, files: Sequence[ModelFiles]) -> None:
        self._plan = plan
        self._files = files
        self._writers: dict[tuple[str, str | None], Writer] = {}
        self.loaded: dict[tuple[str, str | None], Any] = {}
        """Weights and adapter -> the model in memory."""

    def writer(self, files: ModelFiles) -> Writer:
        """Return what writes with a model, which is loaded when it is first asked."""
        key = (files.load_from, files.adapter)
        if key not in self._writers:
            self._writers[key] = self._open(files)
        return self._writers[key]

    def model(self, files: ModelFiles) -> Any:
        """Return a model, loaded if it is not; others are freed if there is no room beside them.

        Raises:
            Refused: It fits nowhere, even alone.
        """
        key = (files.load_from, files.adapter)
        if key not in self.loaded:
            # What is made in inference mode could not be trained by whoever gets the model.
            with torch.inference_mode(False):
                self.loaded[key] = self._load(files)
        return self.loaded[key]

    def free(self) -> None:
        """Free the memory; what is asked again is loaded again."""
        self.loaded.clear()
        free_memory()

    def close(self) -> None:
        """Free all models."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self.free()

    def _load(self, files: ModelFiles) -> Any:
        folder = fetched(files.load_from, files.revision)
        size = size_of_files(folder)
        # Its size may not have been known before it was downloaded.
        plan = self._plan = self._plan or decide(size, free_machine(), None)

        def places() -> list[Placement]:
            """Return where it fits now, in the plan's numbers and on its kind of device."""
            machine = free_machine(plan.torch_device)
            found = candidates(size, machine, [plan.dtype], four_bit=plan.four_bit)
            return [one for one in found if (one.device == CPU) == (plan.on_cpu or plan.on_mlx)]

        found = places()
        if not found and self.loaded:
            self.free()
            found = places()
        if not found:
            needs = shortage(size, free_machine(plan.torch_device), four_bit=plan.four_bit)
            raise refusal("no_room_left", model=files.name, needs=needs)
        quantization = plan.quantization if plan.four_bit else None
        load = load_at
        if plan.on_mlx:
            # Installed on Macs only, as an extra.
            from ft_tools.evaluation.worker.mlx_writer import load_at as load
        return load_first(found, lambda place: load(folder, files, place, quantization))

    def _open(self, files: ModelFiles) -> Writer:
        if files.kind == "gguf":
            # An extra that is compiled.
            from ft_tools.evaluation.worker.gguf_writer import GgufWriter
            from ft_tools.models.worker.gguf import gpu_layers

            if gpu_layers():
                # It asks for the card's memory whatever is there already.
                self.free()
            return GgufWriter(files.load_from)
        kind = TransformersWriter
        if self._plan is not None and self._plan.on_mlx:
            from ft_tools.evaluation.worker.mlx_writer import MlxWriter

            kind = MlxWriter
        over = (one for one in self._files if one.adapter and one.load_from == files.load_from)
        above = None if files.adapter else next(over, None)
        # An adapter that brings a tokenizer was trained with it.
        base = str(fetched(files.load_from, files.revision))
        folder = tokenizer_folder(files.adapter, base)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return kind(partial(self.model, above or files), tokenizer, adapter_on=above is None)
