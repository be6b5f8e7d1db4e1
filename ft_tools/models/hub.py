"""Fetch the small files of a model from the Hub: its config, its weights' index, its tokenizer.

They are kept by commit below the cache folder, so that a confirmed plan trains the revision that
was planned. Weights are never fetched here, and the Hub is asked only about a model that a request
names. Honours HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the proxy variables.

Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
"""

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from ft_tools import facts, workspace
from ft_tools.errors import BadInput, GatedModel, HubUnavailable, UnknownName
from ft_tools.publish import private_folder, write_file

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "generation_config.json",
)
MIB = 2**20
# Published configs are below 100 KiB; tokenizers of large vocabularies reach 35 MiB.
MAX_BYTES = {CONFIG: MIB, INDEX: 32 * MIB, "tokenizer.json": 96 * MIB}
DEFAULT_MAX_BYTES = 4 * MIB
# A tool call has to answer within seconds; a config.json takes one or two.
CONFIG_SECONDS = 10.0
FILES_SECONDS = 45.0
READ_SECONDS = 5.0
# So long the Hub is not asked again which commit `main` is.
FRESH_SECONDS = 3600.0
MAX_REDIRECTS = 4
REDIRECTS = {301, 302, 303, 307, 308}
CHUNK = 1 << 16
COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
TRUE = {"1", "ON", "YES", "TRUE"}
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
DEFAULT_ENDPOINT = "https://huggingface.co"
# Where the Hub keeps large files, which it redirects to.
# Source: https://huggingface.co/docs/hub/storage-regions, the hosts of its download links
STORAGE_HOSTS = (".hf.co", ".huggingface.co")


@dataclass(frozen=True)
class Snapshot:
    """The small files of one commit of a model, on this machine."""

    model: str
    commit: str
    folder: Path


@dataclass(frozen=True)
class _Answer:
    """What the Hub said about one file."""

    status: int
    headers: dict[str, str]
    content: bytes
    url: str


def is_offline() -> bool:
    """Say whether the environment forbids asking the Hub."""
    return any(os.environ.get(name, "").upper() in TRUE for name in OFFLINE_VARIABLES)


def endpoint() -> str:
    """Return the address of the Hub, without a slash at its end."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def kept(model: str, commit: str | None = None) -> Snapshot | None:
    """Return what was fetched of a model before; None if nothing was."""
    folder = _folder(model)
    commit = commit or _recorded(folder).get("commit", "")
    if commit and COMMIT.fullmatch(commit) and (folder / commit / CONFIG).is_file():
        return Snapshot(model, commit, folder / commit)
    return None


def describe(model: str, commit: str | None = None) -> Snapshot:
    """Return the commit of a model on the Hub, with its config.json on this machine.

    Asks the Hub at most once an hour. What was fetched before is used where the Hub can't be asked.

    Args:
        model: A Hub id.
        commit: The commit to describe; None: what `main` is now.

    Raises:
        UnknownName: The Hub has no such model, or it is private.
        GatedModel: Its licence has to be accepted first.
        HubUnavailable: The Hub was not asked, did not answer in time, or limits its answers.
        BadInput: The model was renamed, has no config.json, or what came is not what it should be.
    """
    before = kept(model, commit)
    asked_at = _recorded(_folder(model)).get("asked_at", 0.0)
    is_fresh = commit is not None or 0 <= time.time() - asked_at < FRESH_SECONDS
    if before is not None and (is_fresh or is_offline()):
        return before
    try:
        answer = _within(CONFIG_SECONDS, model, lambda: _get(model, CONFIG, commit or "main"))
    except HubUnavailable:
        if before is not None:
            return before
        raise
    found = _commit_of(model, answer)
    folder = _folder(model) / found
    private_folder(folder)
    write_file(folder / CONFIG, answer.content)
    if commit is None:
        record = json.dumps({"commit": found, "asked_at": time.time()})
        write_file(_folder(model) / "main.json", record)
    return Snapshot(model, found, folder)


def with_index(snapshot: Snapshot) -> Snapshot:
    """Fetch the index of a snapshot's weights too, where it has one."""
    return _with(snapshot, (INDEX,))


def with_tokenizer(snapshot: Snapshot) -> Snapshot:
    """Fetch the files of a snapshot's tokenizer too, as far as it has them."""
    return _with(snapshot, TOKENIZER_FILES)


def _with(snapshot: Snapshot, names: tuple[str, ...]) -> Snapshot:
    """Fetch further files of a commit; one that it does not have is noted, and not asked again."""
    wanted = [n for n in names if not any((snapshot.folder / f).exists() for f in (n, f".no-{n}"))]
    if not wanted or is_offline():
        return snapshot

    def fetch() -> None:
        for name in wanted:
            try:
                answer = _get(snapshot.model, name, snapshot.commit)
            except _NoSuchFile:
                write_file(snapshot.folder / f".no-{name}", b"")
                continue
            if name == INDEX:
                _require_plain_names(snapshot.model, answer.content)
            write_file(snapshot.folder / name, answer.content)

    _within(FILES_SECONDS, snapshot.model, fetch)
    return snapshot


def _folder(model: str) -> Path:
    if not HUB_ID.fullmatch(model) or ".." in model:
        raise BadInput(f"{model!r} is not a model id of the Hub; use the form owner/name")
    return workspace.cache_dir() / "hub" / model.replace("/", "--")


def _recorded(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / "main.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


class _NoSuchFile(BadInput):
    """The model has no such file."""


def _within(seconds: float, model: str, ask: Callable[[], Any]) -> Any:
    """Run a question to the Hub, and stop waiting for it after some seconds.

    Raises:
        HubUnavailable: It took longer. The thread ends at its own read timeout.
    """
    result: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            result.append(ask())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name=f"hub {model}", daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not result:
        raise HubUnavailable(
            model,
            f"{endpoint()} did not answer within {seconds:g} seconds",
            "try again in a minute",
            facts.models(),
        )
    return result[0]


def _get(model: str, name: str, revision: str) -> _Answer:
    """Fetch one file and check it: size, hash, and where it came from.

    Raises:
        FineTuningError: As `describe`; _NoSuchFile where the model does not have the file.
    """
    if is_offline():
        variable = next(v for v in OFFLINE_VARIABLES if os.environ.get(v, "").upper() in TRUE)
        cure = f"unset it, or run `hf download {model} {CONFIG}` where the Hub can be reached"
        raise HubUnavailable(model, f"{variable} forbids asking the Hub", cure, facts.models())
    url = f"{endpoint()}/{model}/resolve/{quote(revision, safe='')}/{name}"
    limit = MAX_BYTES.get(name, DEFAULT_MAX_BYTES)
    first: dict[str, str] = {}
    for _ in range(MAX_REDIRECTS + 1):
        answer = _ask(model, url, limit)
        # The Hub says commit and hash with its first answer, not where the file is stored.
        first = {**answer.headers, **first} if first else answer.headers
        if answer.status not in REDIRECTS:
            break
        url = _next_url(model, name, url, answer.headers.get("location", ""))
    else:
        raise BadInput(f"{endpoint()} redirects {name} of {model} in a circle; check HF_ENDPOINT")
    _require_success(model, name, answer)
    _require_hash(model, name, answer.content, first)
    return _Answer(answer.status, first, answer.content, url)


def _ask(model: str, url: str, limit: int) -> _Answer:
    """Send one GET request; the token goes to the Hub's own host only."""
    from huggingface_hub import get_session, get_token

    # Not huggingface_hub's own headers: making them asks the Hub a question of its own.
    headers = {"User-Agent": "fine-tuning-llm", "Accept-Encoding": "identity"}
    token = get_token() if _host(url) == _host(endpoint()) else None
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        with get_session().stream(
            "GET", url, headers=headers, follow_redirects=False, timeout=READ_SECONDS
        ) as response:
            received = {key.lower(): value for key, value in response.headers.items()}
            content = b""
            if response.status_code == 200:
                content = _read(model, url, response, received, limit)
            return _Answer(response.status_code, received, content, url)
    except BadInput:
        raise
    except Exception as error:
        kind = type(error).__name__
        problem = f"{endpoint()} cannot be reached ({kind})"
        if "Timeout" in kind:
            problem = f"{endpoint()} did not answer within {READ_SECONDS:g} seconds"
        cure = "check the network, the proxy variables and HF_ENDPOINT, then try again"
        raise HubUnavailable(model, problem, cure) from error


def _read(model: str, url: str, response: Any, headers: dict[str, str], limit: int) -> bytes:
    name = url.rpartition("/")[2][:80]
    said = headers.get("content-length", "")
    too_large = BadInput(
        f"the Hub's {name} of {model} is larger than {limit // MIB} MiB, so it was not read; check "
        "the model id and HF_ENDPOINT"
    )
    if said.isdigit() and int(said) > limit:
        raise too_large
    content = bytearray()
    for chunk in response.iter_bytes(CHUNK):
        content += chunk
        if len(content) > limit:
            raise too_large
    return bytes(content)


def _host(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port


def _next_url(model: str, name: str, url: str, location: str) -> str:
    """Return where a redirect leads, if it may lead there.

    Raises:
        BadInput: It leads to another host, or to the same model under a new name.
    """
    target = urljoin(url, location)
    scheme, host, _ = _host(target)
    if _host(target) != _host(endpoint()):
        storage = scheme == "https" and host.endswith(STORAGE_HOSTS)
        if name in {CONFIG, INDEX} or not storage:
            raise BadInput(
                f"{endpoint()} redirects {name} of {model} to another host ({host[:80]!r}), which "
                "is not followed; check HF_ENDPOINT"
            )
        return target
    path = urlsplit(target).path.removeprefix(urlsplit(endpoint()).path)
    new = re.match(r"/([^/]+/[^/]+)/resolve/", path)
    if new and new[1] != model and HUB_ID.fullmatch(new[1]):
        raise BadInput(f"{model} was renamed on the Hub; pass model={new[1]!r}")
    return target


def _require_success(model: str, name: str, answer: _Answer) -> None:
    """Refuse an answer that is no file, each kind with its own cure."""
    status, code = answer.status, answer.headers.get("x-error-code", "")
    if status == 200:
        return
    if code == "GatedRepo":
        raise GatedModel(
            f"{model} is gated: accept its licence on {endpoint()}/{model}, then run `hf auth "
            "login` or set HF_TOKEN"
        )
    if status == 401 and "Invalid credentials" in answer.headers.get("x-error-message", ""):
        raise GatedModel(
            "the Hub refuses the token in use: run `hf auth login` again, or correct HF_TOKEN"
        )
    if code == "EntryNotFound":
        raise _NoSuchFile(
            f"{model} has no {name} on the Hub; pass the model that it was made from, if it holds "
            "an adapter or GGUF files only"
        )
    if code == "RevisionNotFound":
        raise BadInput(f"the planned revision of {model} is gone from the Hub; plan again")
    if status == 429:
        wait = answer.headers.get("retry-after", "")
        when = f"in {int(wait)} seconds" if wait.isdigit() else "in a few minutes"
        cure = f"try again {when}; with HF_TOKEN set the limit is higher"
        raise HubUnavailable(model, f"{endpoint()} limits requests (HTTP 429)", cure)
    if status >= 500:
        problem = f"{endpoint()} has a problem (HTTP {status})"
        raise HubUnavailable(model, problem, "try again in a minute")
    if status in {401, 403, 404}:
        cure = (
            f"check the spelling; if it is private, run `hf auth login` or set HF_TOKEN "
            f"({endpoint()} answered HTTP {status})"
        )
        raise UnknownName("model", model, facts.models(), cure)
    raise BadInput(f"{endpoint()} answered HTTP {status} for {name} of {model}; check HF_ENDPOINT")


def _require_hash(model: str, name: str, content: bytes, headers: dict[str, str]) -> None:
    """Compare a file with the hash that the Hub gives: git's for small files, sha256 for others."""
    said = headers.get("x-linked-etag") or headers.get("etag", "")
    said = said.removeprefix("W/").strip('"')
    if not HASH.fullmatch(said):
        return
    if len(said) == 64:
        computed = hashlib.sha256(content).hexdigest()
    else:
        blob = b"blob %d\0" % len(content) + content
        computed = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    if computed != said:
        raise BadInput(
            f"{name} of {model} does not have the hash that {endpoint()} states, so it was not "
            "kept; try again, and check the proxy and HF_ENDPOINT"
        )


def _commit_of(model: str, answer: _Answer) -> str:
    commit = answer.headers.get("x-repo-commit", "")
    if not COMMIT.fullmatch(commit):
        raise BadInput(f"{endpoint()} states no commit of {model}; check HF_ENDPOINT")
    _require_plain_config(model, answer.content)
    return commit


def _require_plain_config(model: str, content: bytes) -> None:
    """Refuse a config that is no JSON object, or that names files outside its folder."""
    config = _object(model, CONFIG, content)
    # Where its author trained it: read by nobody.
    config.pop("_name_or_path", None)
    path = next(_paths(config), None)
    if path is not None:
        raise BadInput(
            f"{CONFIG} of {model} names a file path in {path}, so it was not kept; use another "
            "copy of the model"
        )


def _require_plain_names(model: str, content: bytes) -> None:
    """Refuse an index whose files lie outside the model's folder."""
    names = _object(model, INDEX, content).get("weight_map", {})
    plain = isinstance(names, dict) and all(
        isinstance(file, str) and re.fullmatch(r"[\w.-]+\.safetensors", file)
        for file in names.values()
    )
    if not plain:
        raise BadInput(f"{INDEX} of {model} names files that are no *.safetensors beside it")


def _object(model: str, name: str, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{name} of {model} is not JSON; check HF_ENDPOINT") from error
    if not isinstance(value, dict):
        raise BadInput(f"{name} of {model} is not a JSON object; check HF_ENDPOINT")
    return value


def _paths(value: Any, key: str = "") -> Any:
    """Yield the keys below which a text is an absolute path, or leads upwards."""
    if isinstance(value, dict):
        for name, part in value.items():
            if name != "_name_or_path":
                yield from _paths(part, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            yield from _paths(part, key)
    elif isinstance(value, str) and (
        value.startswith(("/", "~", "\\", "file:")) or ".." in re.split(r"[/\\]", value)
    ):
        yield repr(key[:80])
