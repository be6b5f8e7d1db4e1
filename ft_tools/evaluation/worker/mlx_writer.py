"""Generate with MLX; imported only where a plan says so."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import torch
from peft import PeftModel
from transformers import AutoConfig, GenerationConfig

from ft_tools.evaluation.systems.grammar import Answers
from ft_tools.evaluation.systems.models import ModelFiles
from ft_tools.evaluation.worker.decoding import decode
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.models.placement import Placement
from ft_tools.models.worker.mlx.batch import Batch, takes_several
from ft_tools.models.worker.mlx.model import Factors, MlxModel
from ft_tools.models.worker.mlx.peft_adapter import Adapter, hollow, to_torch
from ft_tools.models.worker.mlx.reading import open_model


@dataclass(frozen=True)
class OnMlx:
    """A model that MLX computes."""

    base: MlxModel
    factors: dict[str, Factors]
    """Of its adapter; empty without one."""
    described: Any
    """The same model in transformers, without weights."""


def load_at(
    folder: Path, files: ModelFiles, place: Placement, quantization: dict[str, object] | None
) -> OnMlx:
    """Load the base, and the adapter over it.

    Raises:
        Missing: mlx-lm cannot build this architecture.
        Refused: MLX computes another model than torch, or has no place for the adapter.
    """
    # Of a model that was freed.
    mx.clear_cache()
    bits = quantization.get("bits") if quantization else None
    base = open_model(folder, place.dtype, bits if isinstance(bits, int) else None)
    described = hollow(AutoConfig.from_pretrained(folder), torch.float32)
    try:
        described.generation_config = GenerationConfig.from_pretrained(folder)
    except OSError:
        described.generation_config = GenerationConfig.from_model_config(described.config)
    factors: dict[str, Factors] = {}
    if files.adapter is not None:
        peft = PeftModel.from_pretrained(described, files.adapter, torch_device="cpu")
        factors, _ = Adapter(peft, base).factors()
    return OnMlx(base, factors, described)


class MlxWriter(TransformersWriter):
    """A model with a tokenizer of transformers, computed by MLX."""

    @property
    def described(self) -> Any:
        """Return the model of transformers that has its configurations and shapes."""
        return self.model.described

    @contextmanager
    def side(self) -> Iterator[None]:
        """Switch the adapter on for a while, unless this is the side without it."""
        factors = self.model.factors if self.adapter_on else {}
        with self.model.base.adapted(factors, training=False):
            yield

    def decode(
        self, rows: Sequence[list[int]], max_new_tokens: int, constrained: Answers | None
    ) -> list[list[int]]:
        """Continue each row greedily, as `decoding.decode` does."""
        made = decode(
            self.described, rows, max_new_tokens, self.ends, constrained, begin=self._begin
        )
        mx.clear_cache()
        return made

    def _begin(self, rows: Sequence[list[int]], num_shared: int) -> "MlxSteps":
        return MlxSteps(self.model.base.model, rows, num_shared)


class MlxSteps:
    """Logits in MLX, step by step; models that remember one row get each row as a batch."""

    def __init__(self, model: Any, rows: Sequence[list[int]], num_shared: int) -> None:
        together = takes_several(model) and len(rows) > 1
        parts = [rows] if together else [[row] for row in rows]
        self._batches = [Batch(model, part, num_shared if together else 0) for part in parts]
        self._together = together
        self._has_begun = False

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the next token's logits `(rows, vocabulary)`, in float32."""
        last = ids[:, -1].tolist()
        parts = [last] if self._together else [[token] for token in last]
        found = [
            batch.logits(part if self._has_begun else None)
            for batch, part in zip(self._batches, parts, strict=True)
        ]
        self._has_begun = True
        return to_torch(mx.concatenate(found))

    def keep(self, kept: torch.Tensor) -> bool:
        """Continue with these rows only."""
        if self._together:
            self._batches[0].keep(kept.tolist())
        else:
            self._batches = [self._batches[i] for i in kept.tolist()]
        return True
