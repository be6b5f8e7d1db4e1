"""The concise form of every report: what was decided, its numbers, and the next call."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ft_tools.contract import EMPTY, NextStep, Reason, Report, compact

MAX_CHARS = 1_900
"""Of a concise report, without quoted rows: at most 600 tokens of o200k_base."""
FIRST = 5
"""Numbers of a list, such as lines of a file, that a concise report has."""
MOST_STEPS = 2
SAME = "same_arguments_and"
"""Key of a next step that is the same call again, with what changes."""
LEFT_OUT = "detailed_adds"
"""Key with the names of what only the detailed form has, or has whole."""


def presented(report: BaseModel, tool: str, request: BaseModel) -> dict[str, Any]:
    """Return a report as JSON values in the form that its request asks for."""
    if getattr(request, "response_format", "concise") == "detailed" or not isinstance(
        report, Report
    ):
        return compact(report)
    return concise(report, tool, request)


def concise(report: Report, tool: str, request: BaseModel) -> dict[str, Any]:
    """Return what was decided, the numbers it rests on and the next call, in `MAX_CHARS`.

    Left out are what is empty, has its default value or repeats the request; of a reason its id
    is left, of a float three significant digits, of a list as much as fits.
    """
    asked = request.model_dump(mode="json", exclude_unset=True)
    quoted = {
        name
        for name, argument in report.QUOTED.items()
        if not argument or getattr(request, argument, None)
    }
    steps = [_short_step(step, tool, asked) for step in getattr(report, "next_steps", [])]
    shown, cut = dict[str, Any](), list[str]()
    left = MAX_CHARS - len(json.dumps(steps[:MOST_STEPS]))
    for name, part in _parts(report, asked):
        if name in report.QUOTED and name not in quoted:
            continue
        fitting = part if name in quoted else _fitting(part, left)
        if fitting != part:
            cut.append(name)
        if fitting not in EMPTY:
            shown[name] = fitting
            left -= 0 if name in quoted else len(json.dumps({name: fitting}))
    hidden = [
        name
        for name, part in report
        if name not in shown and name not in asked and part not in EMPTY and name != "next_steps"
    ]
    more = {LEFT_OUT: [*dict.fromkeys([*cut, *hidden])], "next_steps": steps[:MOST_STEPS]}
    return shown | {key: part for key, part in more.items() if part}


def _parts(value: BaseModel, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a model's concise form, short, the most important first."""
    fields = type(value).model_fields
    for name in getattr(value, "CONCISE", ()) or fields:
        part = getattr(value, name)
        field = fields.get(name)
        if name == "next_steps" or (field and not field.is_required() and part == field.default):
            continue
        short = _short(part, asked)
        if short not in EMPTY and (name not in asked or short != asked[name]):
            yield name, short


def _short(value: Any, asked: Mapping[str, Any]) -> Any:
    """Return the JSON values of a part of a concise report."""
    if isinstance(value, Reason):
        return value.id or value.rule
    if isinstance(value, BaseModel):
        return dict(_parts(value, asked))
    if isinstance(value, Mapping):
        parts = ((str(key), _short(part, {})) for key, part in value.items())
        return {key: part for key, part in parts if part not in EMPTY}
    if isinstance(value, list | tuple):
        numbers = all(isinstance(part, int | float) for part in value)
        return [_short(part, {}) for part in (value[:FIRST] if numbers else value)]
    if isinstance(value, float):
        return round(value) if abs(value) >= 1000 else float(f"{value:.3g}")
    return to_jsonable_python(value)


def _short_step(step: NextStep, tool: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a next step; of the same call again only what changes."""
    if step.tool == tool and asked.items() <= step.arguments.items():
        changed = {key: part for key, part in step.arguments.items() if key not in asked}
        return {"tool": tool, SAME: changed, "why": step.why}
    return step.model_dump(mode="json")


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
