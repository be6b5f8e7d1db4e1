"""Ask the Hub for one file of a model, and check what comes: size, hash, and where it came from.

Each way not to get a file has its own error, with the command that cures it. Honours HF_ENDPOINT,
HF_TOKEN, HF_HUB_OFFLINE and the proxy variables.

Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
"""

import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from ft_tools import facts
from ft_tools.errors import BadInput, GatedModel, HubUnavailable, UnknownName
from ft_tools.models.obtain import how_to_get

HUB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
CONFIG = "config.json"
MIB = 2**20
# Published configs are below 100 KiB; tokenizers of large vocabularies reach 35 MiB.
MAX_BYTES = {CONFIG: MIB, "tokenizer.json": 96 * MIB}
DEFAULT_MAX_BYTES = 4 * MIB
READ_SECONDS = 5.0
MAX_REDIRECTS = 4
REDIRECTS = {301, 302, 303, 307, 308}
CHUNK = 1 << 16
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# What huggingface_hub takes for yes.
# Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
TRUE = {"1", "ON", "YES", "TRUE"}
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
DEFAULT_ENDPOINT = "https://huggingface.co"
# Where the Hub keeps large files, which it redirects to.
# Source: https://huggingface.co/docs/hub/storage-regions, the hosts of its download links
STORAGE_HOSTS = (".hf.co", ".huggingface.co")


@dataclass(frozen=True)
class Answer:
    """What the Hub said about one file."""

    status: int
    headers: dict[str, str]
    content: bytes
    url: str


def forbidden_by() -> str | None:
    """Return the environment variable that forbids asking the Hub; None: it may be asked."""
    return next((v for v in OFFLINE_VARIABLES if os.environ.get(v, "").upper() in TRUE), None)


def endpoint() -> str:
    """Return the address of the Hub, without a slash at its end."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


class NoSuchFile(BadInput):
    """The model has no such file."""


def get(model: str, name: str, revision: str) -> Answer:
    """Fetch one file and check it: size, hash, and where it came from.

    Raises:
        FineTuningError: As `describe`; NoSuchFile where the model does not have the file.
    """
    if variable := forbidden_by():
        cure = f"unset it, or {how_to_get(model)}"
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
    return Answer(answer.status, first, answer.content, url)


def _ask(model: str, url: str, limit: int) -> Answer:
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
            return Answer(response.status_code, received, content, url)
    except BadInput:
        raise
    except Exception as error:
        kind = type(error).__name__
        problem = f"{endpoint()} cannot be reached ({kind})"
        if "Timeout" in kind:
            problem = f"{endpoint()} did not answer within {READ_SECONDS:g} seconds"
        cure = f"check the network, the proxy variables and HF_ENDPOINT, or {how_to_get(model)}"
        raise HubUnavailable(model, problem, cure, facts.models()) from error


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
        if name == CONFIG or not storage:
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


def _require_success(model: str, name: str, answer: Answer) -> None:
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
        raise NoSuchFile(
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
