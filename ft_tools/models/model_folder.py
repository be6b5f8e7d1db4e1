"""Read what a model folder says about itself from headers and small files, without loading it."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, NotFound
from ft_tools.models.safetensors_headers import survey_file

TEMPLATE = "chat_template.jinja"
HASHED = {".json", ".safetensors", ".gguf", ".jinja", ".model", ".txt"}
SMALL_FILE_BYTES = 2**20
NUM_PAGES = 128
PAGE_BYTES = 4096
READ_BY_ALL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; empty where there is no file, or something else in it.

    Raises:
        BadInput: It is not JSON.
    """
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON; download the model again") from error
    return value if isinstance(value, dict) else {}


def require_readable(folder: Path) -> None:
    """Refuse a model folder in which a file that every library reads is damaged.

    Raises:
        BadInput: It is not JSON.
    """
    for name in READ_BY_ALL:
        read_object(folder / name)


def layers(folder: Path) -> list[str]:
    """Return the names of what has weights, from a folder's safetensors headers."""
    names = {name.rpartition(".")[0] for name in _tensor_names(folder)}
    return sorted(names - {""})


def config(folder: Path) -> dict[str, Any]:
    """Return config.json; empty where there is none.

    Raises:
        BadInput: It is not JSON.
    """
    return read_object(folder / "config.json")


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json; empty where there is none.

    Raises:
        BadInput: It is not JSON.
    """
    return read_object(folder / "adapter_config.json")


def content_hash(places: Sequence[str | Path | None]) -> str:
    """Return a hash by which other weights or settings are told, in a fraction of a second.

    Of names and sizes, of small files, and of pages spread over each large one: training changes
    every tensor. An edit that spares all pages of a file is not seen.

    Raises:
        NotFound: One is not there.
    """
    digest = hashlib.sha256()
    for place in (Path(one) for one in places if one):
        if not place.exists():
            raise NotFound(f"{place} no longer exists; check the model argument")
        for file in [place] if place.is_file() else sorted(place.iterdir()):
            if file.suffix in HASHED and file.is_file():
                size = file.stat().st_size
                digest.update(f"{file.name}:{size}:".encode())
                with file.open("rb", buffering=0) as stream:
                    if size <= SMALL_FILE_BYTES:
                        digest.update(stream.read())
                        continue
                    for page in range(NUM_PAGES):
                        stream.seek((size - PAGE_BYTES) * page // (NUM_PAGES - 1))
                        digest.update(stream.read(PAGE_BYTES))
    return digest.hexdigest()[:16] if any(places) else ""


def weight_bytes(path: Path) -> int:
    """Return the size of a file, or of a folder's safetensors."""
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(file.stat().st_size for file in files)


def chat_template(folder: Path, given: str | None = None) -> str | None:
    """Return a model folder's chat template, or that of a given file; None when it has none.

    Raises:
        BadInput: It is not UTF-8.
    """
    file = Path(given) if given else folder / TEMPLATE
    if given or file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(f"{file} is not UTF-8 text; write or download it again") from error
    template = read_object(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def tokenizer_folder(adapter: str | None, base: str) -> str:
    """Return where a model's tokenizer is: an adapter that brings one was trained with it."""
    own = adapter is not None and (Path(adapter) / "tokenizer_config.json").is_file()
    return adapter if adapter is not None and own else base


def template_hash(folder: Path, given: str | None = None) -> str:
    """Return the sha256 of the chat template, the folder's or a given file; empty without one."""
    template = chat_template(folder, given)
    return hashlib.sha256(template.encode("utf-8")).hexdigest() if template else ""


def trains_embeddings(folder: Path) -> bool:
    """Return whether an adapter folder has a LoRA, or single tokens, of an embedding."""
    marks = ("lora_embedding_", "trainable_tokens")
    return any(mark in name for name in _tensor_names(folder) for mark in marks)


def max_positions(folder: Path) -> int | None:
    """Return the longest sequence the model was made for, in tokens; None if it doesn't say."""
    # GPT-2 and its kin say n_positions.
    return _text_size(folder, "max_position_embeddings", "n_positions")


def hidden_size(folder: Path) -> int | None:
    """Return the width of the text model; None if config.json doesn't say."""
    return _text_size(folder, "hidden_size", "n_embd", "d_model")


def _text_size(folder: Path, *names: str) -> int | None:
    whole = config(folder)
    text = whole.get("text_config")
    said = text if isinstance(text, dict) else whole
    value = next((said[name] for name in names if name in said), None)
    return value if isinstance(value, int) and value > 0 else None


def _tensor_names(folder: Path) -> set[str]:
    return {name for file in sorted(folder.glob("*.safetensors")) for name in survey_file(file)}
