"""The concise form of every report: what was decided, its numbers, and the next call."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ft_tools import workspace
from ft_tools.contract import EMPTY, NextStep, Reason, Report, compact
from ft_tools.errors import FineTuningError

MAX_CHARS = 1_400
"""Of a concise report, without quoted rows: at most 600 tokens of o200k_base."""
FIRST = 5
"""Numbers of a list, such as lines of a file, that a concise report has."""
MOST_STEPS = 2
FORM = "response_format"
SAME = "same_arguments_and"
"""Key of a next step that is the same call again, with what changes."""
SHORTENED = "shortened"
"""Key with the names of what did not fit, or not whole; the detailed form has all of it."""


def presented(report: BaseModel, tool: str, request: BaseModel) -> dict[str, Any]:
    """Return a report as JSON values, in the form that its request asks for."""
    is_detailed = getattr(request, FORM, "concise") == "detailed"
    if is_detailed or not isinstance(report, Report):
        return compact(report)
    return concise(report, tool, request)


def concise(report: Report, tool: str, request: BaseModel) -> dict[str, Any]:
    """Return what was decided, the numbers it rests on and the next call, in `MAX_CHARS`.

    Left out are what is empty, has its default value or repeats the request; of a reason its id
    is left, of a float three significant digits, of a list as much as fits. Paths are relative to
    the workspace.
    """
    asked, root = request.model_dump(mode="json", exclude_unset=True), _workspace()
    quoted = {
        name
        for name, argument in report.QUOTED.items()
        if not argument or getattr(request, argument, None)
    }
    steps = [_short_step(step, tool, asked) for step in getattr(report, "next_steps", [])]
    steps = _inside(steps[:MOST_STEPS], root)
    shown, cut = dict[str, Any](), list[str]()
    left = MAX_CHARS - len(json.dumps(steps))
    for name, part in _parts(report, asked):
        if name in report.QUOTED and name not in quoted:
            continue
        whole = _inside(part, root)
        few = _few_numbers(whole)
        fitting = few if name in quoted else _fitting(few, left)
        if fitting != whole:
            cut.append(name)
        if fitting not in EMPTY:
            shown[name] = fitting
            left -= 0 if name in quoted else len(json.dumps({name: fitting}))
    more = {SHORTENED: cut, "next_steps": steps}
    return shown | {key: part for key, part in more.items() if part}


def _parts(value: BaseModel, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a model's concise form, short, the most important first."""
    names = getattr(value, "CONCISE", ()) or type(value).model_fields
    parts: Iterable[tuple[str, Any]] = ((name, getattr(value, name)) for name in names)
    if isinstance(value, Report):
        parts = value.concise_parts(asked)
    for name, part in _without_known(value, asked, parts):
        short = _short(part, asked)
        if short not in EMPTY:
            yield name, short


def _without_known(
    value: BaseModel, asked: Mapping[str, Any], parts: Iterable[tuple[str, Any]]
) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a model that say anything: no defaults, and nothing that was asked."""
    fields = type(value).model_fields
    for name, part in parts:
        field = fields.get(name)
        is_default = field is not None and not field.is_required() and part == field.default
        is_default &= name not in getattr(value, "QUOTED", ())
        is_asked = name in asked and to_jsonable_python(part) == asked[name]
        if part not in EMPTY and not is_default and not is_asked and name != "next_steps":
            yield name, part


def _short(value: Any, asked: Mapping[str, Any]) -> Any:
    """Return the JSON values of a part of a concise report."""
    if isinstance(value, BaseModel):
        return dict(_parts(value, asked))
    if isinstance(value, Mapping):
        parts = ((str(key), _short(part, {})) for key, part in value.items())
        return {key: part for key, part in parts if part not in EMPTY}
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], Reason):
            return list(dict.fromkeys(reason.id for reason in value if reason.id))
        return [_short(part, {}) for part in value]
    if isinstance(value, float):
        return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")
    return to_jsonable_python(value)


def _inside(value: Any, root: str) -> Any:
    """Return JSON values with paths relative to the workspace, as requests take them."""
    if isinstance(value, str):
        return value.removeprefix(root)
    if isinstance(value, list):
        return [_inside(part, root) for part in value]
    if isinstance(value, dict):
        return {key: _inside(part, root) for key, part in value.items()}
    return value


def _few_numbers(value: Any) -> Any:
    """Return JSON values with the first numbers alone of lists of numbers."""
    if isinstance(value, dict):
        return {key: _few_numbers(part) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    numbers = all(isinstance(part, int | float) for part in value)
    return value[:FIRST] if numbers else [_few_numbers(part) for part in value]


def _workspace() -> str:
    """Return the beginning of a path in the workspace; without one nothing begins so."""
    with contextlib.suppress(FineTuningError):
        return f"{workspace.roots()[0]}{os.sep}"
    return "\0"


def _short_step(step: NextStep, tool: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a next step; of the same call again only what changes."""
    arguments = {key: part for key, part in step.arguments.items() if key != FORM}
    same = {key: part for key, part in asked.items() if key != FORM}
    if step.tool == tool and same and all(arguments.get(key) == same[key] for key in same):
        changed = {key: part for key, part in arguments.items() if key not in same}
        return {"tool": tool, SAME: changed, "why": step.why}
    return {"tool": step.tool, "arguments": arguments, "why": step.why}


def _fitting(part: Any, left: int) -> Any:
    """Return as much of a part as its JSON may have characters; None if nothing fits."""
    if len(json.dumps(part)) <= left:
        return part
    if isinstance(part, list):
        items: dict[int, Any] = dict(enumerate(part))
        return list(_fitting_items(items, left).values())
    return _fitting_items(part, left) if isinstance(part, dict) else None


def _fitting_items(items: Mapping[Any, Any], left: int) -> dict[Any, Any]:
    """Return the first items that fit; the one that does not is cut itself where it can be."""
    kept = dict[Any, Any]()
    for key, item in items.items():
        fitting = _fitting(item, left) if isinstance(key, str) else item
        if fitting in EMPTY or (left := left - len(json.dumps({key: fitting}))) < 0:
            break
        kept[key] = fitting
    return kept
