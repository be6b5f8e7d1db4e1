"""The server as its clients see it."""

import json
from typing import get_type_hints

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import stdio_client
from pydantic import Field, ValidationError

from ft_tools.concise import MAX_CHARS
from ft_tools.contract import EMPTY, Report, Request, compact, complaints
from ft_tools.explain.request import ExplainRequest
from ft_tools.explain.tool import explain
from ft_tools.tools import TOOLS
from mcp_server.schemas import input_schema
from tests.protocol.calls import GOOD, RUN_ID
from tests.protocol.golden import GOLDEN, listing

pytestmark = pytest.mark.anyio
# They start processes; their good calls are tested with the faults and in tests/tiny/test_trace.py.
BLIND = {"resume_run"}
QUOTED = ("profile", "examples", "log_tail", "passages")
"""Parts of reports that the caller asked for."""


async def test_every_tool_is_listed_with_its_function_honest_annotations_and_arguments(client):
    listed = (await client.list_tools()).tools
    assert [tool.name for tool in listed] == list(TOOLS)
    for tool in listed:
        spec = TOOLS[tool.name]
        assert spec.function.__name__ == tool.name
        assert get_type_hints(spec.function)["request"] is spec.request, tool.name
        assert tool.title
        assert tool.description
        assert tool.annotations.read_only_hint is (spec.effect == "reads")
        assert tool.annotations.destructive_hint is (spec.effect == "stops")
        properties = tool.input_schema["properties"]
        assert set(properties) - {"options"} == set(spec.main or spec.request.model_fields)
        assert ("options" in properties) is bool(spec.options), tool.name
        for name in properties.keys() - {"options"}:
            assert properties[name].get("description"), f"{tool.name}.{name}"
        # What goes without saying costs every session.
        text = json.dumps(tool.input_schema)
        assert '"type": "null"' not in text, tool.name
        assert '"default": null' not in text, tool.name
    assert set(GOOD) == set(TOOLS)


async def test_the_listing_is_the_reviewed_one():
    assert listing() == json.loads(GOLDEN.read_text(encoding="utf-8")), (
        "a schema changed: review it, then run `python -m tests.protocol.golden`"
    )


@pytest.mark.parametrize("name", sorted(set(TOOLS) - BLIND))
async def test_a_good_call_returns_a_concise_report_and_a_detailed_one_that_parses_back(
    client, name
):
    result = await client.call_tool(name, GOOD[name])
    assert not result.is_error, result.content[0].text
    content = result.structured_content
    assert [key for key, value in content.items() if value in EMPTY] == []
    assert content.get("summary") or name == "explain"
    for topic in content.get("reasons", []):
        assert explain(ExplainRequest(topic=topic)).passages[0].id == topic
    spec = TOOLS[name]
    quoted = sum(len(json.dumps(content.get(key))) for key in QUOTED)
    assert len(result.content[0].text) - quoted < MAX_CHARS + 200
    if "response_format" in spec.request.model_fields:
        detailed = {"response_format": "detailed"}
        result = await client.call_tool(name, GOOD[name] | detailed)
        report = spec.parse_report(result.structured_content)
        assert isinstance(report, Report)
        assert result.structured_content == compact(report)


@pytest.mark.parametrize("name", TOOLS)
async def test_a_misspelt_argument_is_refused_by_name(client, name):
    result = await client.call_tool(name, GOOD[name] | {"lerning_rate": 8})
    assert result.is_error
    assert result.content[0].text.startswith("bad_input: ")
    assert "lerning_rate" in result.content[0].text


class Inner(Request):
    """An object that is an argument."""

    path: str = Field(description="A path.")


class Outer(Request):
    """A request with an object in it."""

    inner: Inner | None = Field(None, description="What was asked.")
    counts: list[int] = Field(default_factory=list, min_length=1, description="Counts.")
    own: int = Field(3, description="A number.")
    seed: int = Field(0, description="Seed.")


def test_a_schema_lists_the_main_arguments_and_names_where_the_others_are_described():
    properties = input_schema(Outer, ("inner", "counts", "own"))["properties"]
    assert properties["inner"] == {"type": "object", "description": "What was asked."}
    assert properties["counts"] == {
        "type": "array",
        "items": {"type": "integer"},
        "description": "Counts.",
    }
    assert properties["own"]["default"] == 3
    assert "seed" not in properties
    assert properties["options"] == {"type": "object"}


def test_an_option_is_taken_in_options_and_beside_them_but_not_in_both():
    assert Outer.model_validate({"options": {"seed": 4}, "own": 1}) == Outer(seed=4, own=1)
    for wrong in ({"options": {"seed": 4}, "seed": 4}, {"options": [4]}, {"options": {"sed": 4}}):
        with pytest.raises(ValidationError) as caught:
            Outer.model_validate(wrong)
        assert complaints(Outer, caught.value), wrong


async def test_a_misspelt_option_is_refused_with_the_nearest(client):
    result = await client.call_tool("get_run", {"run_id": RUN_ID, "options": {"log_line": 3}})
    assert result.is_error
    assert "'log_lines'" in result.content[0].text


async def test_a_next_step_is_the_call_that_the_listing_describes(client):
    asked = GOOD["suggest_lora_config"]
    result = await client.call_tool("suggest_lora_config", asked)
    steps = result.structured_content["next_steps"]
    assert steps
    for step in steps:
        allowed = set(TOOLS[step["tool"]].main or TOOLS[step["tool"]].request.model_fields)
        assert set(step["arguments"]) <= allowed | {"options"}, step
        again = TOOLS[step["tool"]].request.model_validate(step["arguments"])
        assert again


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_known_ones(client):
    with pytest.raises(MCPError, match="get_run"):
        await client.call_tool("nope", {})


async def test_a_bug_reaches_the_client_without_its_text(client, monkeypatch):
    def broken(_):
        raise RuntimeError("a secret of the dataset")

    monkeypatch.setattr("ft_tools.runs.tool.get_run", broken)
    with pytest.raises(MCPError) as caught:
        await client.call_tool("get_run", {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_stdio_process_answers_as_the_in_memory_server_does(stdio, mode):
    async with Client(stdio_client(stdio), mode=mode) as over_stdio:
        listed = (await over_stdio.list_tools()).tools
        result = await over_stdio.call_tool("get_run", {})
    assert [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed] == (
        listing()
    )
    assert result.structured_content["total"] == 1
