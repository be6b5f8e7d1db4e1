"""The arguments of TRL's trainers and of PEFT's LoraConfig: names, types, limits, trackers.

Names and types are those of the installed versions: their dataclass fields, read by a process of
its own and kept until a package changes. Making the configuration itself would not do as a check:
it takes `learning_rate="abc"`, and refuses bf16 where there is no GPU.
"""

import difflib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from ft_tools import facts
from ft_tools.contract import Request, complaints
from ft_tools.errors import BadInput, require_installed
from ft_tools.runs.processes import answers
from ft_tools.runs.processes.answers import AnswerFile
from ft_tools.training.findings import refusal, warning

Config = Literal["sft", "dpo", "kto", "grpo", "lora"]
LIBRARY: dict[Config, str] = {
    "sft": "trl.SFTConfig",
    "dpo": "trl.DPOConfig",
    "kto": "trl.KTOConfig",
    "grpo": "trl.GRPOConfig",
    "lora": "peft.LoraConfig",
}
WORKER = "ft_tools.training.worker.argument_fields"
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
SCHEMAS = TypeAdapter(dict[str, dict[str, Any]])
TIMEOUT_SECONDS = 50.0
"""Clients give up on a call after 60 s. Source: facts of the MCP SDKs, default request timeout."""


class ModelArguments(Request):
    """What `model_init_kwargs` may hold: nothing that runs a stranger's code or moves weights."""

    attn_implementation: str | None = None
    use_kernels: bool | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = None


def require_packages() -> None:
    """Refuse when the packages that train are not installed."""
    require_installed("train", *PACKAGES)


def require_known(config: Config, given: Mapping[str, Any]) -> None:
    """Refuse arguments that the library does not have, that a run sets itself, and wrong values."""
    table, model = _table(), _model(config)
    reserved = {name: row["why"] for row in table["reserved"] for name in row["names"]}
    field = "peft" if config == "lora" else "training"
    for name, value in given.items():
        where = f"{field}.{name}"
        if name in table["renamed"] and name not in model.model_fields:
            reason = table["renamed"][name]
            raise refusal(
                "argument_renamed", where=where, config=LIBRARY[config], name=name, reason=reason
            )
        if name in reserved:
            # Without its value, which may be a token.
            raise refusal("argument_reserved", where=where, reason=reserved[name])
        if name in table["fixed"] and value != table["fixed"][name]:
            raise refusal("argument_fixed", where=where, value=value, fixed=table["fixed"][name])
        if name not in model.model_fields:
            allowed = sorted(set(model.model_fields) - set(reserved))
            near = difflib.get_close_matches(name, allowed, n=4, cutoff=0.5)
            cure = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(allowed)}"
            raise refusal(
                "argument_unknown", where=where, config=LIBRARY[config], name=name, near=cure
            )
    _require_valid(model, given, field)
    _require_within_limits(config, given, field)
    if loaded := given.get("model_init_kwargs"):
        _require_valid(ModelArguments, loaded, f"{field}.model_init_kwargs")
    _require_trackers(given.get("report_to") or [])


def require_complete(training: Mapping[str, Any], *, validated: bool) -> None:
    """Refuse an optimizer or a scheduler whose argument is missing; its first step would fail."""
    table, scheduler = _table(), str(training.get("lr_scheduler_type"))
    optimizer = str(training.get("optim"))
    needed = table["schedulers"].get(scheduler, [])
    if needed and not set(needed) & set(training.get("lr_scheduler_kwargs") or {}):
        raise refusal("scheduler_arguments", name=scheduler, needed=" or ".join(needed))
    if scheduler in table["watched"]["schedulers"] and not validated:
        raise refusal("scheduler_unwatched", name=scheduler)
    is_targeted = optimizer.startswith(tuple(table["targeted"]["optimizers"]))
    if is_targeted and not training.get("optim_target_modules"):
        raise refusal("optimizer_targets", name=optimizer)


def missing_package(optimizer: str) -> str:
    """Return a warning where the package of an optimizer is not installed; else empty."""
    for start, (module, package) in _table()["optimizers"].items():
        if optimizer.startswith(start) and importlib.util.find_spec(module) is None:
            return warning("optimizer_package", name=optimizer, package=package)
    return ""


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


def _require_within_limits(config: Config, given: Mapping[str, Any], field: str) -> None:
    table = _table()
    limits = table["limits"] | table["limits_of"].get(config, {})
    for name, (low, high, advice) in limits.items():
        value = given.get(name)
        if not isinstance(value, int | float) or value == UNSET.get(name):
            continue
        given_as = {"where": f"{field}.{name}", "value": value, "advice": advice}
        if not low <= value <= high:
            raise refusal("argument_outside", **given_as, low=low, high=high)
        if name in WHOLE and value % 1:
            raise refusal("argument_not_whole", **given_as)


def _require_trackers(names: str | Sequence[str]) -> None:
    allowed = set(os.environ.get(TRACKERS_VARIABLE, "").split(","))
    for name in [names] if isinstance(names, str) else names:
        if name not in {*LOCAL_TRACKERS, *NETWORK_TRACKERS, "none"}:
            known = ", ".join(sorted({*LOCAL_TRACKERS, *NETWORK_TRACKERS}))
            raise refusal("tracker_unknown", name=name, known=known)
        if name in NETWORK_TRACKERS - allowed:
            raise refusal("tracker_not_allowed", name=name, variable=TRACKERS_VARIABLE)


def _table() -> dict[str, Any]:
    return facts.table_of("arguments.toml", "training")


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
    """Return the schemas of the installed configurations' fields, asked once per version."""
    installed = answers.versions(*PACKAGES)
    kept = AnswerFile(WORKER, SCHEMAS, [*installed, *LIBRARY])
    if (before := kept.read()) is not None:
        return before
    try:
        variables = {"CUDA_VISIBLE_DEVICES": ""}
        found, _ = answers.run(WORKER, SCHEMAS, "", TIMEOUT_SECONDS, variables)
    except answers.Unanswered as error:
        kept.write_log(error.complained)
        fields = {"versions": ", ".join(installed), "error": error.kind}
        raise refusal("arguments_unread", **fields) from error
    kept.write(found)
    return found
