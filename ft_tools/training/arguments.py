"""The arguments of TRL's trainers and of PEFT's LoraConfig: names, types, limits, trackers.

Names and types are those of the installed versions: their dataclass fields, read by a process of
its own and kept until a package changes. Making the configuration itself would not do as a check:
it takes `learning_rate="abc"`, and refuses bf16 where there is no GPU.
"""

import contextlib
import difflib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from ft_tools import workspace
from ft_tools.contract import Request, complaints
from ft_tools.errors import BadInput, FineTuningError, Missing, MissingExtra, Refused
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.processes.start import command, environment

Config = Literal["sft", "dpo", "kto", "lora"]
LIBRARY: dict[Config, str] = {
    "sft": "trl.SFTConfig",
    "dpo": "trl.DPOConfig",
    "kto": "trl.KTOConfig",
    "lora": "peft.LoraConfig",
}
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
DECIDED = {"bf16", "fp16"}
"""A suggestion for a certain GPU states these; the plan decides them anew for its device."""
WHOLE = {"logging_steps", "eval_steps", "save_steps"}
"""Numbers that transformers takes as floats, and refuses above 1 unless they are whole."""
UNSET = {"max_steps": -1}
"""Values with which the trainer takes an argument as not given."""
SCALARS: dict[str, Any] = {"integer": int, "number": float, "string": str, "boolean": bool}
TRACKERS_VARIABLE = "FINE_TUNING_LLM_TRACKERS"
LOCAL_TRACKERS = {"tensorboard", "trackio"}
NETWORK_TRACKERS = {"wandb", "mlflow", "comet_ml"}
"""These send data elsewhere; the operator has to allow each."""
TIMEOUT_SECONDS = 50.0
"""Clients give up on a call after 60 s. Source: facts of the MCP SDKs, default request timeout."""


class ModelArguments(Request):
    """What `model_init_kwargs` may hold: nothing that runs a stranger's code or moves weights."""

    attn_implementation: str | None = None
    use_kernels: bool | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


def require_packages() -> None:
    """Refuse when the packages that train are not installed.

    Raises:
        MissingExtra: One of them is missing; the message says what to install.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("train", package)


def require_known(config: Config, given: Mapping[str, Any]) -> None:
    """Refuse arguments that the library does not have, that a run sets itself, and wrong values.

    Raises:
        BadInput: With the nearest names, the reason, the type or the limits.
        Refused: A tracker sends data elsewhere and the operator has not allowed it.
    """
    table, model = _table(), _model(config)
    reserved = {name: row["why"] for row in table["reserved"] for name in row["names"]}
    field = "peft" if config == "lora" else "training"
    for name, value in given.items():
        where = f"{field}.{name}"
        if name in table["renamed"]:
            reason = table["renamed"][name]
            raise BadInput(f"{where}: {LIBRARY[config]} has no {name!r}; {reason}")
        if name in reserved:
            # Without its value, which may be a token.
            raise BadInput(f"{where} is not accepted: {reserved[name]}")
        if name in table["fixed"] and value != table["fixed"][name]:
            raise BadInput(f"{where}={value!r} is not accepted: it is {table['fixed'][name]!r}")
        if name not in model.model_fields:
            allowed = sorted(set(model.model_fields) - set(reserved))
            near = difflib.get_close_matches(name, allowed, n=4, cutoff=0.5)
            cure = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(allowed)}"
            raise BadInput(f"{where}: {LIBRARY[config]} as installed has no {name!r}; {cure}")
    _require_valid(model, given, field)
    _require_within_limits(given, field)
    if loaded := given.get("model_init_kwargs"):
        _require_valid(ModelArguments, loaded, f"{field}.model_init_kwargs")
    _require_trackers(given.get("report_to") or [])


def choices(config: Config, name: str) -> list[str]:
    """Return the values that a text argument may have, where the table lists them."""
    return list(_table()["choices"].get(config, {}).get(name, []))


def without_decided(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments without those that the plan decides itself."""
    return {name: v for name, v in given.items() if name not in {*_table()["fixed"], *DECIDED}}


def _require_valid(model: type[BaseModel], given: Mapping[str, Any], field: str) -> None:
    try:
        model.model_validate(given)
    except ValidationError as error:
        raise BadInput("; ".join(f"{field}.{c}" for c in complaints(model, error))) from None


def _require_within_limits(given: Mapping[str, Any], field: str) -> None:
    for name, (low, high, advice) in _table()["limits"].items():
        value = given.get(name)
        if not isinstance(value, int | float) or value == UNSET.get(name):
            continue
        if not low <= value <= high:
            raise BadInput(
                f"{field}.{name}={value!r} is outside {low:.15g} to {high:.15g}; {advice}"
            )
        if name in WHOLE and value % 1:
            raise BadInput(f"{field}.{name}={value!r} is not a whole number; {advice}")


def _require_trackers(names: str | Sequence[str]) -> None:
    allowed = set(os.environ.get(TRACKERS_VARIABLE, "").split(","))
    for name in [names] if isinstance(names, str) else names:
        if name not in {*LOCAL_TRACKERS, *NETWORK_TRACKERS, "none"}:
            known = ", ".join(sorted({*LOCAL_TRACKERS, *NETWORK_TRACKERS}))
            raise BadInput(f"training.report_to={name!r}; known: {known}")
        if name in NETWORK_TRACKERS - allowed:
            raise Refused(
                f"training.report_to={name!r} sends the run's data to a server; the operator of "
                f"this server allows it with {TRACKERS_VARIABLE}={name}. Without it: metrics.jsonl "
                "and report.html of the run, tensorboard or trackio"
            )


@cache
def _table() -> dict[str, Any]:
    text = files("ft_tools.training").joinpath("arguments.toml").read_text("utf-8")
    return tomllib.loads(text)


@cache
def _model(config: Config) -> type[BaseModel]:
    """Return a model of a configuration's arguments, each optional, of the types it has."""
    fields: dict[str, Any] = {}
    for name, schema in _installed()[config].items():
        kind = _type(schema, schema.get("$defs", {}))
        if name == "init_lora_weights":
            # Judged by ft_tools.lora.init_weights, which knows the starts that cannot be reloaded.
            kind = bool | str
        if allowed := choices(config, name):
            kind = Literal[tuple(allowed)]
            if (config, name) == ("dpo", "loss_type"):
                kind = Annotated[list[kind], Field(min_length=1)]  # type: ignore[valid-type]
        fields[name] = (kind, None)
    strict = ConfigDict(extra="forbid", strict=True, protected_namespaces=(), allow_inf_nan=False)
    made: type[BaseModel] = create_model(LIBRARY[config], __config__=strict, **fields)
    return made


def _type(schema: Mapping[str, Any], named: Mapping[str, Any]) -> Any:
    """Return the type that a JSON schema describes, of the values that JSON has.

    Of alternatives, words that are listed leave no other text; a text of JSON in place of an object
    is for command lines; and objects of the library cannot be in a request.
    """
    if "$ref" in schema:
        schema = named[schema["$ref"].rpartition("/")[2]]
    parts = schema.get("anyOf", [schema])
    parts = [named[p["$ref"].rpartition("/")[2]] if "$ref" in p else p for p in parts]
    parts = [part for part in parts if "properties" not in part]
    if any("enum" in part or part.get("type") == "object" for part in parts):
        parts = [part for part in parts if part.get("type") != "string" or "enum" in part]
    if len(parts) != 1 or parts[0] is not schema:
        return Union[tuple(_type(part, named) for part in parts)] if parts else None  # noqa: UP007
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if schema.get("type") == "array":
        return list[_type(schema.get("items", {}), named)]  # type: ignore[misc]
    if schema.get("type") == "object":
        return dict[str, Any]
    return None if schema.get("type") == "null" else SCALARS.get(schema.get("type", ""), Any)


@cache
def _installed() -> dict[str, dict[str, Any]]:
    """Return the schemas of the installed configurations' fields, asked once per version.

    Raises:
        Missing: They cannot be imported.
    """
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    digest = hashlib.sha256(" ".join(versions).encode()).hexdigest()[:16]
    kept = workspace.cache_dir() / "arguments" / f"{digest}.json"
    with contextlib.suppress(OSError, ValueError):
        known: dict[str, dict[str, Any]] = json.loads(kept.read_bytes())
        return known
    try:
        answer = subprocess.run(
            command("ft_tools.training.worker.argument_fields"),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
            env=environment() | {"CUDA_VISIBLE_DEVICES": ""},
        )
        found: dict[str, dict[str, Any]] = json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise Missing(
            f"the arguments of {', '.join(versions)} could not be read ({type(error).__name__}); "
            "the first import after an installation is slow, so call again; if it fails again, "
            "`fine-tuning-llm doctor --for train` checks the installation"
        ) from error
    # A full disk refuses a run where its own files have no room, and no plan.
    with contextlib.suppress(OSError, FineTuningError):
        private_folder(kept.parent)
        write_file(kept, json.dumps(found))
    return found
