"""The concise form of reports: short whatever they hold, and nothing that the caller knows."""

import json
from typing import Any

import pytest
from pydantic import BaseModel

from ft_tools.concise import MAX_CHARS, SAME, concise, presented
from ft_tools.contract import NextStep, Reason, Report, ToolRequest, compact
from ft_tools.tools import TOOLS


class Asked(ToolRequest):
    path: str = ""
    seed: int = 0
    confirm: str | None = None


class Told(Report):
    verdict: str = ""
    path: str = ""
    size_gib: float = 0.0
    rows: tuple[int, ...] = ()
    parts: tuple[dict[str, Any], ...] = ()
    reasons: tuple[Reason, ...] = ()
    next_steps: tuple[NextStep, ...] = ()


def test_only_what_the_caller_does_not_know_is_left(workspace):
    why = Reason(id="few", rule="too few rows", observed=3, source="https://example.org")
    again = NextStep(tool="ask", arguments={"path": "a.jsonl", "confirm": "h"}, why="starts it")
    other = NextStep(tool="get_run", arguments={"path": str(workspace / "b")}, why="shows it")
    told = Told(path="a.jsonl", size_gib=12.34567, rows=range(9), reasons=[why] * 2,
                next_steps=[again, other])  # fmt: skip
    asked = Asked(path="a.jsonl")
    assert concise(told, "ask", asked) == {
        "size_gib": 12.3,
        "rows": [0, 1, 2, 3, 4],
        "reasons": ["few"],
        "shortened": ["rows"],
        "next_steps": [
            {"tool": "ask", SAME: {"confirm": "h"}, "why": "starts it"},
            {"tool": "get_run", "arguments": {"path": "b"}, "why": "shows it"},
        ],
    }
    detailed = asked.model_copy(update={"response_format": "detailed"})
    assert presented(told, "ask", detailed) == compact(told)


def test_what_does_not_fit_is_named_and_what_comes_first_stays():
    parts = [{"id": f"finding {number}", "cure": "x" * 90} for number in range(60)]
    shown = concise(Told(verdict="no", parts=parts), "ask", Asked())
    assert len(json.dumps(shown)) < MAX_CHARS + 100
    assert shown["verdict"] == "no"
    assert shown["parts"] == parts[: len(shown["parts"])]
    assert "parts" in shown["shortened"]


def models(base: type[BaseModel]) -> list[type[BaseModel]]:
    return [base, *(one for sub in base.__subclasses__() for one in models(sub))]


def test_every_name_of_a_concise_form_is_a_part_of_its_report():
    for spec in TOOLS.values():
        assert spec.function
    for model in models(Report):
        for name in vars(model).get("CONCISE", ()):
            kinds = models(model)
            assert any(name in one.model_fields or hasattr(one, name) for one in kinds), model


@pytest.mark.parametrize("name", [name for name in TOOLS if name not in {"explain"}])
def test_each_tool_but_those_with_one_form_takes_a_form(name):
    has_one = name in {"cancel_run", "resume_run"}
    assert issubclass(TOOLS[name].request, ToolRequest) is not has_one
