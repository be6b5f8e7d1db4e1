"""Build a model's real class on the meta device.

It has shapes and names, but neither memory nor weights, and no code of the model's own is run.
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

LOADERS = ("AutoModelForCausalLM", "AutoModelForImageTextToText", "AutoModelForMultimodalLM")
SAID_CHARACTERS = 500
"""Of what transformers says of packages that it misses: which, and how they are installed."""
# Code, quantization and places of a checkpoint have no part in what the class is.
IGNORED = ("auto_map", "quantization_config", "_name_or_path")


class NotBuilt(Exception):
    """The installed transformers cannot build this model; `code` says why."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


def load_config(raw: Mapping[str, Any]) -> Any:
    """Return transformers' own configuration of a config.json.

    It is read from a file, because `AutoConfig.for_model` does not read how infinities are written.
    """
    if raw.get("model_type") not in CONFIG_MAPPING_NAMES:
        raise NotBuilt("unknown_model_type")
    with tempfile.TemporaryDirectory() as folder:
        plain = {key: value for key, value in raw.items() if key not in IGNORED}
        Path(folder, "config.json").write_text(json.dumps(plain), encoding="utf-8")
        try:
            return transformers.AutoConfig.from_pretrained(folder)
        except Exception as error:
            raise NotBuilt("bad_config", type(error).__name__) from error


def loader_of(config: Any) -> str:
    """Return the auto class that loads a configuration's model with a language model's head.

    One that also sees where the text class alone could be saved and never loaded again.
    """
    text = config.get_text_config()
    for name in LOADERS:
        known = getattr(transformers, name)._model_mapping
        if type(config) in known and (name != LOADERS[0] or type(text) in known):
            return name
    raise NotBuilt("no_causal_class", type(config).__name__)


def build(raw: Mapping[str, Any], attention: str | None = None) -> tuple[str, Any]:
    """Build a model on the meta device.

    Args:
        raw: The parsed config.json.
        attention: Name of the attention implementation; None: the library's own choice.

    Returns:
        The name of the auto class that loads it, and the model.

    Raises:
        NotBuilt: The type is unknown, the config is not valid, or another package is missing.
    """
    config = load_config(raw)
    loader = loader_of(config)
    try:
        return loader, _from_config(loader, config, attention)
    except ImportError as error:
        said = " ".join(str(error).split())
        raise NotBuilt("missing_package", said[:SAID_CHARACTERS]) from error


def _from_config(loader: str, config: Any, attention: str | None) -> Any:
    if attention is not None:
        config._attn_implementation = attention
    try:
        with torch.device("meta"):
            return getattr(transformers, loader).from_config(config, dtype=torch.bfloat16)
    except ImportError:
        raise
    except Exception as error:
        raise NotBuilt("bad_config", type(error).__name__) from error


def text_path(model: nn.Module) -> str:
    """Return the path of the language model: the module that has the token embedding."""
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    path: str = next(n for n, m in model.named_modules() if m is embedding)
    return path.rpartition(".")[0]


def stack_of(model: nn.Module) -> tuple[str, list[nn.Module]]:
    """Return the path of the language model's blocks, and the blocks; none where there is none."""
    text = text_path(model)
    lists = [
        (name, module)
        for name, module in model.get_submodule(text).named_children()
        if isinstance(module, nn.ModuleList)
    ]
    if not lists:
        return "", []
    name, blocks = max(lists, key=lambda pair: len(pair[1]))
    return f"{text}.{name}".lstrip("."), list(blocks)
