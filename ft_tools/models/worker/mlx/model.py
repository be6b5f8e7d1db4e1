"""The base model in MLX: loading it, putting adapters on it, log-probabilities and their gradients.

Source: mlx 0.32.4 and mlx-lm 0.32.2, run and read; the reasons beside each workaround.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.tuner.trainer import grad_checkpoint
from mlx_lm.utils import load_model, quantize_model

from ft_tools.errors import Missing
from ft_tools.models.mlx import GROUP_SIZE

BLOCK = 512
"""Logits that are summed in one go, see `logsumexp`."""
NOTHING = -1e30
CHUNK = 2**22
"""Logits that are turned into float32 at a time."""
TORCH_INSTEAD = 'use torch instead: engine="torch" in training, device="cpu" in evaluate'

Arrays = list[mx.array]


@dataclass(frozen=True)
class Factors:
    """An adapter of one linear layer, in PEFT's layout: A is (rank, d_in), B is (d_out, rank)."""

    a: mx.array
    b: mx.array
    scale: float
    dropout: float = 0.0

    @property
    def arrays(self) -> Arrays:
        """Return what is trained, in a fixed order."""
        return [self.a, self.b]


@dataclass(frozen=True)
class Scores:
    """About each next token, shaped (batch, length - 1); zero where the label is ignored."""

    log_probs: mx.array
    entropy: mx.array
    log_sum_sq_probs: mx.array
    mean_logits: mx.array
    is_top1: mx.array

    @property
    def arrays(self) -> Arrays:
        """Return all of them, in the order of the fields."""
        return [getattr(self, field.name) for field in fields(self)]


class AdaptedLinear(nn.Module):  # type: ignore[misc]
    """A linear layer of the base, quantized or not, with an adapter that can be set and removed."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.a: mx.array | None = None
        self.b: mx.array | None = None
        self._scale = 0.0
        self._dropout = 0.0
        self._key: mx.array | None = None

    def __call__(self, x: mx.array) -> mx.array:
        """Return the layer's output with the adapter's part, if one is set."""
        y: mx.array = self.base(x)
        if self.a is None or self.b is None:
            return y
        hidden = x.astype(self.a.dtype)
        if self._dropout and self.training:
            # With a key of its own: a block that is recomputed must drop the same.
            kept = mx.random.bernoulli(1 - self._dropout, hidden.shape, key=self._key)
            hidden = mx.where(kept, hidden / (1 - self._dropout), 0.0)
        return y + (self._scale * ((hidden @ self.a.T) @ self.b.T)).astype(y.dtype)

    def put(self, factors: Factors, arrays: Sequence[mx.array], seed: int) -> None:
        """Set the adapter; the arrays stand for those of the factors."""
        self.a, self.b = arrays
        self._scale, self._dropout = factors.scale, factors.dropout
        self._key = mx.random.key(seed)

    def remove(self) -> None:
        """Remove the adapter: the layer is the base's again."""
        self.a = self.b = None


class MlxModel:
    """A frozen base and the adapters on it.

    Args:
        folder: A model folder as transformers writes it.
        dtype: Of the weights, by torch's name: float32, bfloat16, float16.
        bits: Quantize the linear layers and the embedding to so many bits; None: as they are.
        config: Overrides of config.json.
        strict: Each weight of the files must have a place, and the reverse.

    Raises:
        Missing: mlx-lm cannot build this architecture.
    """

    def __init__(
        self,
        folder: Path,
        dtype: str,
        bits: int | None = None,
        config: dict[str, Any] | None = None,
        *,
        strict: bool = True,
    ) -> None:
        try:
            self.model, found = load_model(folder, lazy=True, model_config=config, strict=strict)
        except ValueError as error:
            raise Missing(
                f"mlx-lm cannot build the model in {folder} ({type(error).__name__}); "
                f"{TORCH_INSTEAD}, or choose a model that mlx-lm supports"
            ) from error
        self.model.set_dtype(getattr(mx, dtype))
        if bits is not None:
            self.model, _ = quantize_model(self.model, found, GROUP_SIZE, bits)
        mx.eval(self.model.parameters())
        self.model.freeze()
        self._adapted: dict[str, AdaptedLinear] = {}
        self._places: dict[str, int] = {}
        self._seed = 0

    def linears(self) -> dict[str, tuple[int, int]]:
        """Return the linear layers and their (d_out, d_in), whatever adapter is on them."""
        found = {}
        for path, module in self.model.named_modules():
            name = path.removesuffix(".base")
            if isinstance(module, nn.QuantizedLinear):
                found[name] = (module.weight.shape[0], module.scales.shape[1] * module.group_size)
            elif isinstance(module, nn.Linear):
                found[name] = (module.weight.shape[0], module.weight.shape[1])
        return found

    def wrap(self, paths: Sequence[str], *, checkpointed: bool) -> None:
        """Make these linear layers ones that take an adapter."""
        modules = dict(self.model.named_modules())
        for path in paths:
            wrapped = AdaptedLinear(modules[path])
            parent, _, name = path.rpartition(".")
            owner = modules[parent]
            if name.isdigit():
                owner[int(name)] = wrapped
            else:
                setattr(owner, name, wrapped)
            wrapped.base.freeze()
            self._adapted[path] = wrapped
            self._places[path] = len(self._places)
        if checkpointed:
            grad_checkpoint(self.model.layers[0])

    @contextmanager
    def adapted(
        self, factors: Mapping[str, Factors], *, training: bool, seed: int = 0
    ) -> Iterator[None]:
        """Have these adapters on, and no others; the seed decides what dropout drops."""
        self._seed = seed
        for path, one in factors.items():
            self._put(path, one, one.arrays)
        self.model.train(training)
        try:
            yield
        finally:
            for layer in self._adapted.values():
                layer.remove()

    def _put(self, path: str, factors: Factors, arrays: Sequence[mx.array]) -> None:
        place = self._places[path]
        self._adapted[path].put(factors, arrays, self._seed * len(self._places) + place)

    def scores(self, ids: mx.array, labels: mx.array) -> Scores:
        """Score every next token. Padding on the right needs no mask: attention looks back only.

        Logits are turned into float32 some rows at a time, and again in the backward pass: all of
        them at once take 20 bytes per logit, which is most of a small model's memory.
        """
        logits = self.model(ids[:, :-1])
        wanted = labels[:, 1:]
        is_counted = wanted != -100
        shape = wanted.shape
        targets = mx.where(is_counted, wanted, 0).reshape(-1)
        rows = max(1, CHUNK // logits.shape[-1])
        cuts = list(range(rows, targets.size, rows)) or 1
        flat = logits.reshape(-1, logits.shape[-1])
        parts: list[Arrays] = []
        for part, target in zip(mx.split(flat, cuts), mx.split(targets, cuts), strict=True):
            # One after the other, or MLX has the float32 copies of all of them at the same time.
            rows_now = mx.depends([part], parts[-1])[0] if parts else part
            parts.append([_log_probs(rows_now, target), *_score_arrays(rows_now, target)])
        found = [mx.concatenate(list(column)).reshape(shape) for column in zip(*parts, strict=True)]
        return Scores(*(mx.where(is_counted, one, mx.zeros_like(one)) for one in found))

    def gradients(
        self,
        factors: Mapping[str, Factors],
        ids: mx.array,
        labels: mx.array,
        weights: mx.array,
    ) -> tuple[Scores, Arrays]:
        """Return the scores and the gradients of sum(weights * log_probs).

        Returns:
            Gradients in the order of the factors and of their arrays.
        """
        paths = list(factors)
        sizes = [len(factors[path].arrays) for path in paths]
        flat = [array for path in paths for array in factors[path].arrays]

        def weighted(*arrays: mx.array) -> tuple[mx.array, ...]:
            left = list(arrays)
            for path, size in zip(paths, sizes, strict=True):
                self._put(path, factors[path], left[:size])
                left = left[size:]
            found = self.scores(ids, labels)
            return (found.log_probs * weights).sum(), *found.arrays

        places = list(range(len(flat)))
        (_, *found), gradients = mx.value_and_grad(weighted, argnums=places)(*flat)
        scores = Scores(*found)
        mx.eval(scores.arrays)
        # The last block's first, as the backward pass goes: else what every block's gradients need
        # is kept until the first block is done.
        mx.eval(*reversed(gradients))
        return scores, list(gradients)

    def logits(self, ids: mx.array) -> mx.array:
        """Return the logits of a batch, (batch, length, vocabulary), in float32."""
        logits: mx.array = self.model(ids).astype(mx.float32)
        return logits


def _log_probs(logits: mx.array, targets: mx.array) -> mx.array:
    """Return the log-probability of each row's target, with nothing kept for the backward pass."""

    def score(part: mx.array) -> mx.array:
        part = part.astype(mx.float32)
        chosen = mx.take_along_axis(part, targets[:, None], axis=-1)[:, 0]
        return chosen - logsumexp(part)

    scored: mx.array = mx.checkpoint(score)(logits)
    return scored


def _score_arrays(logits: mx.array, targets: mx.array) -> Arrays:
    """Return entropy, log of the summed squares, mean logit and whether the target is the top."""
    fixed = mx.stop_gradient(logits).astype(mx.float32)
    logs = fixed - logsumexp(fixed)[:, None]
    return [
        -(mx.exp(logs) * logs).sum(axis=-1),
        logsumexp(2 * logs),
        fixed.mean(axis=-1),
        mx.argmax(fixed, axis=-1) == targets,
    ]


def logsumexp(x: mx.array) -> mx.array:
    """Sum exponentials over the last axis in blocks.

    MLX sums an axis in order on a CPU: over 49,152 float32 values the error of a log-probability is
    up to 2.7e-4; in blocks of 512 it is 5e-6.
    """
    missing = -x.shape[-1] % BLOCK
    if missing:
        x = mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)], constant_values=NOTHING)
    blocks = mx.unflatten(x, -1, (-1, BLOCK))
    return mx.logsumexp(mx.logsumexp(blocks, axis=-1), axis=-1)
