"""TRL's and PEFT's own arguments: which exist in the installed versions, and which we refuse.

The names are read from the installed packages' source, without importing them: importing a trainer
takes seconds and loads torch, and a list of our own would be wrong after an upgrade.
"""

import ast
import difflib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ft_tools.contract import KINDS, shown
from ft_tools.errors import BadInput, MissingExtra
from ft_tools.training.checks.argument_tables import (
    DECIDED,
    FIXED,
    LIMITS,
    OURS,
    RENAMED,
    UNSET,
    WHOLE,
)

Config = Literal["sft", "dpo", "kto", "lora"]

TRAINER = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
)
"""What every trainer of TRL takes."""
# Package, files from the most general class to the most special one, class in each.
CLASSES: dict[Config, tuple[tuple[str, str, str], ...]] = {
    "sft": (*TRAINER, ("trl", "trainer/sft_config.py", "SFTConfig")),
    "dpo": (*TRAINER, ("trl", "trainer/dpo_config.py", "DPOConfig")),
    "kto": (*TRAINER, ("trl", "trainer/kto_config.py", "KTOConfig")),
    "lora": (
        ("peft", "config.py", "PeftConfigMixin"),
        ("peft", "config.py", "PeftConfig"),
        ("peft", "tuners/lora/config.py", "LoraConfig"),
    ),
}
LIBRARY = {
    "sft": "trl.SFTConfig",
    "dpo": "trl.DPOConfig",
    "kto": "trl.KTOConfig",
    "lora": "peft.LoraConfig",
}
JSON_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "dict": (dict,),
    "list": (list,),
}
IN_JSON = KINDS | {"str": KINDS["string"], "dict": "an object", "list": "a list", "None": "null"}
"""What a part of an annotation is called in JSON."""
# Of these the libraries take the text as well.
ENUMERATIONS = {"SchedulerType", "OptimizerNames", "IntervalStrategy"}


def require_packages() -> None:
    """Refuse when the packages that train are not installed.

    Raises:
        MissingExtra: One of them is missing; the message says what to install.
    """
    for package in ("torch", "transformers", "trl", "peft", "datasets", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("train", package)


def known_arguments(config: Config) -> Mapping[str, str]:
    """Return the arguments of a configuration class of the installed version.

    Returns:
        Name -> annotation as written in its source, such as `int | None`.

    Raises:
        MissingExtra: The package is not installed.
    """
    fields: dict[str, str] = {}
    for package, file, class_name in CLASSES[config]:
        fields.update(_fields(_package_folder(package) / file, class_name))
    return fields


def require_known(config: Config, given: Mapping[str, Any]) -> None:
    """Refuse arguments that the library does not have, or that this package sets itself.

    Raises:
        BadInput: A name is unknown, renamed or ours, or a value is of the wrong type or outside its
            limits. The message names the nearest known arguments, the reason or the limits.
        MissingExtra: The library is not installed.
    """
    known = known_arguments(config)
    field = "peft" if config == "lora" else "training"
    for name, value in given.items():
        where = f"{field}.{name}"
        if name in RENAMED:
            raise BadInput(f"{where}: {LIBRARY[config]} has no {name!r}; {RENAMED[name]}")
        if name in OURS:
            # Without its value, which may be a token.
            raise BadInput(f"{where} is not accepted: {OURS[name]}")
        if name in FIXED and value != FIXED[name]:
            raise BadInput(f"{where}={value!r} is not accepted: it is always {FIXED[name]}")
        if name not in known:
            raise BadInput(_unknown(config, where, name, known))
        require_type(where, value, known[name])
        _check_limit(where, name, value)


def require_type(where: str, value: Any, annotation: str) -> None:
    """Refuse a value that an annotation does not allow.

    Args:
        where: Names the argument.
        value: As JSON gives it.
        annotation: As written in Python's source, such as `int | None`.

    Raises:
        BadInput: With what is allowed.
    """
    parts = [part for part in _union(ast.parse(annotation, mode="eval").body) if _has_json(part)]
    if any(_name(part) == "dict" for part in parts):
        # A text of JSON is how the libraries' own command lines take an object.
        parts = [part for part in parts if _name(part) != "str"]
    if any(_allows(part, value) for part in parts):
        return
    if all(_name(part) == "None" for part in parts):
        raise BadInput(
            f"{where}={value!r} is not accepted: it takes an object of the library, which a "
            "request cannot hold; remove it"
        )
    words = " or ".join(map(_in_json, parts))
    raise BadInput(f"{where}: must be {words}, got {shown(value)}")


@cache
def optimizers() -> frozenset[str]:
    """Return the values of `optim` that the installed version knows."""
    file = _package_folder("transformers") / "training_args.py"
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == "OptimizerNames":
            values = (line.value for line in node.body if isinstance(line, ast.Assign))
            return frozenset(str(v.value) for v in values if isinstance(v, ast.Constant))
    raise LookupError(f"no class OptimizerNames in {file}")


def without_decided(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what the plan decides itself, so that a suggestion can be passed on as it is."""
    return {name: value for name, value in given.items() if name not in {*FIXED, *DECIDED}}


def _unknown(config: Config, where: str, name: str, known: Iterable[str]) -> str:
    allowed = sorted(set(known) - set(OURS))
    near = difflib.get_close_matches(name, allowed, n=4, cutoff=0.5)
    cure = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(allowed)}"
    return f"{where}: {LIBRARY[config]} of the installed version has no {name!r}; {cure}"


def _check_limit(where: str, name: str, value: Any) -> None:
    limit = LIMITS.get(name)
    if limit is None or value in (None, UNSET.get(name)) or not isinstance(value, int | float):
        return
    low, high, advice = limit
    if not low <= value <= high:
        raise BadInput(f"{where}={value!r} is outside {low:.15g} to {high:.15g}; {advice}")
    if name in WHOLE and value % 1:
        raise BadInput(f"{where}={value!r} is not a whole number; {advice}")


def _allows(part: ast.expr, value: Any) -> bool:
    """Tell whether a part of an annotation allows a JSON value; a class that is unknown does."""
    if isinstance(part, ast.Constant):
        return value is part.value
    name = _name(part)
    if name == "Literal" and isinstance(part, ast.Subscript):
        constants = [one for one in _elements(part.slice) if isinstance(one, ast.Constant)]
        return any(type(one.value) is type(value) for one in constants)
    types = JSON_TYPES.get(name)
    if types is None:
        return True
    # A bool is an int to Python, and `learning_rate=True` a mistake.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        return False
    if not isinstance(value, list) or not isinstance(part, ast.Subscript):
        return True
    inner = _union(part.slice)
    return all(any(_allows(each, one) for each in inner) for one in value)


def _in_json(part: ast.expr) -> str:
    inner = part.slice if isinstance(part, ast.Subscript) else None
    if _name(part) == "Literal" and inner:
        return " or ".join(map(ast.unparse, _elements(inner)))
    of_texts = isinstance(inner, ast.Name) and inner.id == "str"
    return IN_JSON[_name(part)] + (" of strings" if of_texts else "")


def _has_json(part: ast.expr) -> bool:
    return _name(part) not in ENUMERATIONS and not _name(part).endswith("Config")


def _name(part: ast.expr) -> str:
    return ast.unparse(part.value if isinstance(part, ast.Subscript) else part)


def _elements(inner: ast.expr) -> list[ast.expr]:
    return inner.elts if isinstance(inner, ast.Tuple) else [inner]


def _union(node: ast.expr) -> list[ast.expr]:
    """Return the alternatives of `A | B`, `Optional[A]` and `Union[A, B]`."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_union(node.left), *_union(node.right)]
    if isinstance(node, ast.Subscript) and _name(node) in {"Optional", "Union"}:
        parts = [part for one in _elements(node.slice) for part in _union(one)]
        return [*parts, ast.Constant(None)] if _name(node) == "Optional" else parts
    return [node]


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtra("train", package)
    return Path(spec.origin).parent


@cache
def _fields(file: Path, class_name: str) -> Mapping[str, str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            return {
                line.target.id: ast.unparse(line.annotation)
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            }
    raise LookupError(f"no class {class_name} in {file}")
