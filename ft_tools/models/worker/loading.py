"""Load a model where it fits; every worker that runs one loads it here.

Each load names its device: without one bitsandbytes takes a card and the inputs stay behind.
"""

import contextlib
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from huggingface_hub import constants
from transformers import AutoConfig, BitsAndBytesConfig
from transformers.integrations import sdpa_attention

from ft_tools.errors import BadInput, NotFound
from ft_tools.models.machine import Card, Machine
from ft_tools.models.placement import Placement
from ft_tools.models.worker.build import NotBuilt, loader_of
from ft_tools.runs.hardware import devices, memory
from ft_tools.runs.processes.endings import is_out_of_memory

# Prefetching reads ahead of the merging of experts and holds up to 1.4 times the model.
# Source: transformers 5.24, core_model_loading.py, convert_and_load_state_dict_in_model
SEQUENTIAL = "HF_DEACTIVATE_ASYNC_LOAD"
NO_HUB_KERNELS: dict[str, Any] = {"use_kernels": False}
"""Arguments of `from_pretrained` for the layers of the model's own class.

transformers 5.25 replaces them by compiled ones from the Hub where nothing is said: a run would ask
the network for code that no plan names, and a process without weights (FSDP) cannot be given them.
Source: transformers 5.25, modeling_utils.py, from_pretrained, use_kernels.
"""
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "README.md"]


def free_machine(device: str = "auto") -> Machine:
    """Describe this machine as it is now: with what is free."""
    cards = []
    if device != "cpu" and torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, _ = torch.cuda.mem_get_info(i)
            # What this process has cached and not in use is free to it.
            cached = torch.cuda.memory_reserved(i) - torch.cuda.memory_allocated(i)
            major, minor = torch.cuda.get_device_capability(i)
            is_new = devices.has_bfloat16(float(f"{major}.{minor}"))
            cards.append(Card(torch.cuda.get_device_name(i), free + cached, is_new))
    return Machine(tuple(cards), memory.free_bytes())


def load(folder: Path, place: Placement, *, quantization: Mapping[str, Any] | None = None) -> Any:
    """Load a model for inference where a placement says."""
    dtype = getattr(torch, place.dtype)
    options: dict[str, Any] = NO_HUB_KERNELS | {"dtype": dtype, "device_map": place.device_map}
    if quantization:
        arguments = {**quantization, "bnb_4bit_compute_dtype": dtype}
        options["quantization_config"] = BitsAndBytesConfig(**arguments)
    repeat_heads_on_old_cards()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    # A tensor is read only when it is needed, so that memory holds one more.
    os.environ[SEQUENTIAL] = "1"
    model = model_class(config).from_pretrained(folder, trust_remote_code=False, **options)
    return model.eval()


def repeat_heads_on_old_cards() -> None:
    """Ask this machine's card: a plan that was made elsewhere does not know its capability."""
    if (
        torch.cuda.is_available()
        and torch.cuda.get_device_capability()[0] < devices.BF16_CAPABILITY
    ):
        repeat_heads()


def repeat_heads() -> None:
    """Give SDPA keys and values for every query head, on cards older than its grouped kernels.

    Below compute capability 8 grouped attention without a mask falls back to the kernel that stores
    all scores. Source: PyTorch 2.13, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp: the
    memory-efficient kernel takes no grouped heads, and FlashAttention needs capability 8.
    """
    sdpa_attention.use_gqa_in_sdpa = lambda *_, **__: False


def use_kept_kernel(attention: str) -> None:
    """Take a kernel of the Hub from its cache, where that has this commit for this machine.

    `kernels` asks the Hub who published one at every load, else, and fails while that is away.
    Source: kernels 0.19.1, _internals/hf_hub.py; LOCAL_KERNELS.
    """
    name, _, commit = attention.partition("@")
    folder = Path(constants.HF_HUB_CACHE) / f"kernels--{name.replace('/', '--')}"
    kept = folder / "snapshots" / commit
    if commit and kept.is_dir():
        with contextlib.suppress(Exception):
            import kernels

            kernels.get_local_kernel(kept)
            given = filter(None, os.environ.get("LOCAL_KERNELS", "").split(":"))
            os.environ["LOCAL_KERNELS"] = ":".join(dict.fromkeys([*given, f"{name}={kept}"]))


def fetched(name: str, revision: str | None = None) -> Path:
    """Return a model's folder; a Hub id is downloaded if it is not here.

    Raises:
        NotFound: It is not there, or the Hub cannot be reached.
    """
    if Path(name).is_dir():
        return Path(name)
    try:
        found = huggingface_hub.snapshot_download(name, revision=revision, allow_patterns=HUB_FILES)
    except Exception as error:
        # The Hub's client lets errors of its HTTP library through, whichever that is.
        raise NotFound(
            f"the model {name!r} is not on this machine and cannot be downloaded "
            f"({type(error).__name__}); check its name and the connection, or name a folder with "
            "its original 16-bit weights, as `base_model` where it is the base of an adapter"
        ) from error
    return Path(found)


def free_memory() -> None:
    """Give back what a model that is gone has left, on cards too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def load_first(places: Sequence[Placement], load_at: Callable[[Placement], Any]) -> Any:
    """Load at the first placement that has the memory when it comes to it.

    What was free when the placements were chosen may have gone to another program since.

    Raises:
        Exception: That memory ran out: no card had it, and memory was no choice.
    """
    for i, place in enumerate(places):
        try:
            return load_at(place)
        except Exception as error:
            if i + 1 == len(places) or not is_out_of_memory(error):
                raise
        free_memory()
    raise AssertionError("no placement")


def model_class(config: Any) -> Any:
    """Return the class that loads a configuration: a text model, or one that also sees.

    Raises:
        BadInput: transformers has none that generates text.
    """
    try:
        return getattr(transformers, loader_of(config))
    except NotBuilt as error:
        raise BadInput(
            f"{config.model_type} is no model that generates text in transformers "
            f"{transformers.__version__}; name one that does"
        ) from error
