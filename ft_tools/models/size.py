"""How large a model is, from headers where its files are here, else from its config.json."""

import contextlib
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import FineTuningError
from ft_tools.models import model_folder, safetensors_headers
from ft_tools.models.families import has_trait
from ft_tools.models.resolve import ModelSource
from ft_tools.models.safetensors_headers import DTYPE_BYTES, Tensor
from ft_tools.models.shape_of_model import config_of, shape_of

# The data type that a config.json names, in bytes; models are published in 16 bits.
CONFIG_BYTES = {"float32": 4.0, "float64": 8.0}
PUBLISHED_BYTES = 2.0
# What bitsandbytes and llm-compressor leave as it is: not an nn.Linear, or the output layer.
NOT_LINEAR = re.compile(r"(embed|wte|wpe|lm_head|norm|conv|\bA_log\b|rotary)", re.IGNORECASE)
EXPERTS = re.compile(r"\.experts\.(\d+\.)?")
LAYER = re.compile(r"\.(\d+)\.")


class ModelSize(BaseModel):
    """What loading, storing and quantizing a model depends on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    num_params: int = Field(description="Parameters, tied weights once.")
    linear_params: int = Field(
        description="Parameters in linear layers, which 4-bit loading quantizes; fused experts and "
        "the output layer are not among them."
    )
    expert_params: int = Field(description="Parameters in fused experts; 0: a dense model.")
    layer_params: int = Field(description="Parameters of the largest layer.")
    vocab_size: int
    bytes_per_param: float = Field(description="As stored.")
    overflows: bool = Field(False, description="The family is known to exceed float16's range.")

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of its files."""
        return int(self.num_params * self.bytes_per_param)


def size_of(source: ModelSource) -> ModelSize | None:
    """Return the size of a model's base weights; None where nothing tells."""
    if source.path is not None and Path(source.path).is_dir():
        return size_of_files(Path(source.path))
    try:
        return _from_config(source.load_from)
    except FineTuningError:
        return None


def size_of_files(folder: Path) -> ModelSize:
    """Return the size of a model folder.

    Raises:
        NotFound: A shard is missing, or there are no weights.
        Refused: The weights are pickle files.
        BadInput: A file is damaged.
    """
    size = size_of_tensors(safetensors_headers.survey(folder))
    with contextlib.suppress(FineTuningError):
        config = model_folder.config(folder)
        return size.model_copy(update={"overflows": has_trait(config, "overflows_float16")})
    return size


def size_of_tensors(held: dict[str, Tensor]) -> ModelSize:
    """Return the size of a model from its tensors.

    >>> files = {"lm_head.weight": Tensor(Path("f"), "BF16", (9, 2), 36),
    ...          "model.layers.0.mlp.up_proj.weight": Tensor(Path("f"), "BF16", (4, 2), 16)}
    >>> size_of_tensors(files).linear_params, size_of_tensors(files).vocab_size
    (8, 9)
    """
    counts = {name: t.num_bytes // DTYPE_BYTES.get(t.dtype, 2) for name, t in held.items()}
    experts = {name for name in held if EXPERTS.search(name)}
    layers: dict[str, int] = {}
    for name, count in counts.items():
        number = LAYER.search(name)
        layers[number[1] if number else name] = layers.get(number[1] if number else name, 0) + count
    linear = sum(
        counts[name]
        for name, t in held.items()
        if len(t.shape) == 2 and name not in experts and not NOT_LINEAR.search(name)
    )
    widest = [t.shape[0] for name, t in held.items() if NOT_LINEAR.search(name) and t.shape]
    total, num_bytes = sum(counts.values()), sum(t.num_bytes for t in held.values())
    return ModelSize(
        num_params=total,
        linear_params=linear,
        expert_params=sum(counts[name] for name in experts),
        layer_params=max(layers.values(), default=0),
        vocab_size=max(widest, default=0),
        bytes_per_param=num_bytes / total if total else PUBLISHED_BYTES,
    )


def _from_config(name: str) -> ModelSize:
    shape, config = shape_of(name), config_of(name)
    said = str(config.get("dtype") or config.get("torch_dtype") or "")
    return ModelSize(
        num_params=shape.total_params,
        linear_params=shape.linear_weights,
        expert_params=shape.expert_weights,
        layer_params=max(shape.layer_params, shape.embedding_params),
        vocab_size=shape.vocab_size,
        bytes_per_param=CONFIG_BYTES.get(said, PUBLISHED_BYTES),
        overflows=has_trait(config, "overflows_float16"),
    )
