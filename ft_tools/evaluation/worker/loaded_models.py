"""The models of an evaluation, by the files that they are loaded from."""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from ft_tools.evaluation.systems.models import LoadPlan, ModelFiles
from ft_tools.evaluation.worker.tokenizer_writer import TokenizerWriter
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.evaluation.worker.weights import Memory, Weights
from ft_tools.evaluation.worker.writer import Writer
from ft_tools.formats.worker import today
from ft_tools.models.model_folder import tokenizer_folder
from ft_tools.models.worker.loading import fetched


def prepare(seed: int, today_is: float) -> None:
    """Set what every model of a run shares: its seed, and the date that templates write."""
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    today.hold(today_is)


class LoadedModels:
    """Writers by the files they are loaded from; a base below an adapter shares its weights."""

    def __init__(self, plan: LoadPlan | None, files: Sequence[ModelFiles]) -> None:
        self._memory = Memory(plan)
        self._files = files
        self._writers: dict[tuple[str, str | None], Writer] = {}

    def writer(self, files: ModelFiles) -> Writer:
        """Return what writes with a model, which is loaded when it is first asked."""
        key = (files.load_from, files.adapter)
        if key not in self._writers:
            self._writers[key] = self._open(files)
        return self._writers[key]

    def close(self) -> None:
        """Free all models."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()
        self._memory.clear()

    def _open(self, files: ModelFiles) -> Writer:
        if files.kind == "gguf":
            # An extra that is compiled.
            from ft_tools.evaluation.worker.gguf_writer import GgufWriter

            return GgufWriter(files.load_from)
        above = next((one for one in self._files if _is_adapter_over(one, files)), None)
        if above is not None:
            writer = self.writer(above)
            assert isinstance(writer, TokenizerWriter)
            return writer.below(load_tokenizer(files))
        if self._memory.is_on_mlx:
            # Installed on Macs only, as an extra.
            from ft_tools.evaluation.worker.mlx_writer import MlxWeights, MlxWriter

            return MlxWriter(MlxWeights(files, self._memory), load_tokenizer(files))
        return TransformersWriter(Weights(files, self._memory), load_tokenizer(files))


def load_tokenizer(files: ModelFiles) -> Any:
    """Load a model's tokenizer; an adapter that brings one was trained with it."""
    base = str(fetched(files.load_from, files.revision))
    folder = tokenizer_folder(files.adapter, base)
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _is_adapter_over(one: ModelFiles, base: ModelFiles) -> bool:
    is_over = one.adapter is not None and one.load_from == base.load_from
    return is_over and base.adapter is None and one.kind != "gguf"
