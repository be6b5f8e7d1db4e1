"""Fetch the small files of a model from the Hub: its config, its weights' index, its tokenizer.

They are kept by commit below the cache folder, so that a confirmed plan trains the revision that
was planned. Weights are never fetched here, and the Hub is asked only about a model that a request
names (`hub_requests` asks).
"""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools import facts, workspace
from ft_tools.errors import BadInput, HubUnavailable
from ft_tools.models.hub_requests import (
    CONFIG,
    HUB_ID,
    Answer,
    NoSuchFile,
    endpoint,
    forbidden_by,
    get,
)
from ft_tools.publish import private_folder, write_file

TOKENIZER_FILES = (
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "special_tokens_map.json",
    "generation_config.json",
)
# A tool call has to answer within seconds; a config.json takes one or two.
CONFIG_SECONDS = 10.0
FILES_SECONDS = 45.0
# So long the Hub is not asked again which commit `main` is.
FRESH_SECONDS = 3600.0
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """The small files of one commit of a model, on this machine."""

    model: str
    commit: str
    folder: Path


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
    if before is not None and (is_fresh or forbidden_by()):
        return before
    try:
        answer = _within(CONFIG_SECONDS, model, lambda: get(model, CONFIG, commit or "main"))
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


def with_tokenizer(snapshot: Snapshot) -> Snapshot:
    """Fetch the files of a snapshot's tokenizer; one that it lacks is not asked for again."""
    wanted = [
        name
        for name in TOKENIZER_FILES
        if not any((snapshot.folder / file).exists() for file in (name, f".no-{name}"))
    ]
    if not wanted or forbidden_by():
        return snapshot

    def fetch() -> None:
        for name in wanted:
            try:
                answer = get(snapshot.model, name, snapshot.commit)
            except NoSuchFile:
                write_file(snapshot.folder / f".no-{name}", b"")
                continue
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


def _commit_of(model: str, answer: Answer) -> str:
    commit = answer.headers.get("x-repo-commit", "")
    if not COMMIT.fullmatch(commit):
        raise BadInput(f"{endpoint()} states no commit of {model}; check HF_ENDPOINT")
    _require_plain_config(model, answer.content)
    return commit


def _require_plain_config(model: str, content: bytes) -> None:
    """Refuse a config that is no JSON object, or that names files outside its folder."""
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{CONFIG} of {model} is not JSON; check HF_ENDPOINT") from error
    if not isinstance(config, dict):
        raise BadInput(f"{CONFIG} of {model} is not a JSON object; check HF_ENDPOINT")
    # Where its author trained it: read by nobody.
    config.pop("_name_or_path", None)
    path = next(_paths(config), None)
    if path is not None:
        raise BadInput(
            f"{CONFIG} of {model} names a file path in {path}, so it was not kept; use another "
            "copy of the model"
        )


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
