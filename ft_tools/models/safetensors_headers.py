"""What is in a model's safetensors files, read from their headers, and whether they are whole."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, NotFound, Refused

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
# The limit of the safetensors library itself: https://github.com/huggingface/safetensors
MAX_HEADER_BYTES = 100_000_000
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DTYPE_BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1}
AGAIN = "get the model's files again"


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    num_bytes: int
    start: int = 0
    """Where its bytes begin in the file."""


def weight_files(folder: Path) -> list[Path]:
    """Return a model folder's safetensors files, each there.

    Raises:
        NotFound: A shard is missing, or there are no weights.
        Refused: The weights are pickle files.
        BadInput: The index is damaged.
    """
    index = folder / INDEX
    if index.is_file():
        try:
            named = sorted(set(json.loads(index.read_bytes())["weight_map"].values()), key=str)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{index} is damaged; {AGAIN}") from error
        for name in named:
            if not isinstance(name, str) or name in {"", "..", "."} or Path(name).name != name:
                raise BadInput(f"{index} names {name!r}, which is outside the folder; {AGAIN}")
        missing = [name for name in named if not (folder / name).is_file()]
        if missing:
            raise NotFound(f"{folder} lacks {', '.join(missing[:5])} that its index names; {AGAIN}")
        return [folder / name for name in named]
    return [only_file(folder, SINGLE)]


def only_file(folder: Path, name: str) -> Path:
    """Return a safetensors file of a folder.

    Raises:
        NotFound: It is not there.
        Refused: There are pickle files in its place.
    """
    path = folder / name
    if path.is_file():
        return path
    pickles = sorted(file.name for pattern in PICKLES for file in folder.glob(pattern))
    if pickles:
        raise Refused(
            f"{folder} has its weights in {pickles[0]}, a pickle file, which can run code when it "
            "is loaded; take a safetensors version, or convert it where you trust its origin"
        )
    raise NotFound(f"{folder} has no {name}; name a folder with safetensors weights")


def survey(folder: Path) -> dict[str, Tensor]:
    """Return every tensor of a model folder.

    Raises:
        NotFound: A shard is missing.
        Refused: The weights are pickle files.
        BadInput: A file is damaged or cut short.
    """
    found: dict[str, Tensor] = {}
    for file in weight_files(folder):
        found |= survey_file(file)
    return found


def survey_file(file: Path) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file, and check that its data is all there.

    Raises:
        BadInput: It is damaged or cut short.
    """
    length, header = _header(file)
    data_bytes = file.stat().st_size - 8 - length
    tensors = {}
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            if not 0 <= start <= end <= data_bytes:
                raise BadInput(f"{file} is cut short: {name} is not all there; {AGAIN}")
            shape = tuple(int(size) for size in entry["shape"])
            if any(size < 0 for size in shape):
                raise ValueError(f"{name} has a size below 0")
            tensors[name] = Tensor(
                file, str(entry["dtype"]), shape, end - start, 8 + length + start
            )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{file} is damaged (its header makes no sense); {AGAIN}") from error
    return tensors


def _header(file: Path) -> tuple[int, dict[str, Any]]:
    with file.open("rb") as stream:
        start = stream.read(8)
        (length,) = struct.unpack("<Q", start) if len(start) == 8 else (0,)
        if not 2 <= length <= min(MAX_HEADER_BYTES, file.stat().st_size - 8):
            raise BadInput(f"{file} is damaged or cut short; {AGAIN}")
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{file} is damaged (its header is not JSON); {AGAIN}") from error
    if not isinstance(header, dict):
        raise BadInput(f"{file} is damaged (its header is no object); {AGAIN}")
    return int(length), header
