"""The server as its clients see it."""

import json
from dataclasses import replace
from typing import get_type_hints

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import stdio_client
from pydantic import BaseModel, Field, create_model

from ft_tools.contract import EMPTY, Report, Request, compact
from ft_tools.tools import TOOLS
from mcp_server.schemas import input_schema
from tests.protocol.calls import GOOD, RUN_ID
from tests.protocol.golden import GOLDEN, listing

pytestmark = pytest.mark.anyio
# They start processes; their good calls are tested with the faults and in tests/tiny/test_trace.py.
BLIND = {"resume_run", "trace_vram"}
MAX_CHARS = 8000
"""About 2,000 tokens."""
MAX_LISTING_BYTES = 45_000


async def test_every_tool_is_listed_under_its_functions_name(client):
    listed = [tool.name for tool in (await client.list_tools()).tools]
    assert listed == list(TOOLS) == [spec.function.__name__ for spec in TOOLS.values()]


def test_each_function_takes_the_request_of_its_row():
    for name, spec in TOOLS.items():
        assert get_type_hints(spec.function)["request"] is spec.request, name
        assert issubclass(spec.report, Report), name


async def test_every_tool_has_a_title_a_description_and_honest_annotations(client):
    for tool in (await client.list_tools()).tools:
        assert tool.title
        assert tool.description
        assert tool.annotations.read_only_hint is (TOOLS[tool.name].effect == "reads")
        assert tool.annotations.destructive_hint is (TOOLS[tool.name].effect == "stops")


async def test_every_argument_is_described_and_no_other_is_allowed(client):
    for tool in (await client.list_tools()).tools:
        assert tool.input_schema["additionalProperties"] is False
        for name, schema in tool.input_schema["properties"].items():
            assert schema.get("description"), f"{tool.name}.{name}"


async def test_the_listing_is_the_reviewed_one():
    assert listing() == json.loads(GOLDEN.read_text(encoding="utf-8")), (
        "a schema changed: review it, then run `python -m tests.protocol.golden`"
    )


async def test_a_new_argument_or_another_word_would_be_noticed(monkeypatch):
    spec = TOOLS["list_runs"]
    longer = create_model("ListRunsRequest", __base__=spec.request, more=(int, 0))
    monkeypatch.setitem(TOOLS, "list_runs", replace(spec, request=longer))
    assert listing() != json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_tool_has_a_good_call():
    assert set(GOOD) == set(TOOLS)


@pytest.mark.parametrize("name", sorted(set(TOOLS) - BLIND))
async def test_a_good_call_returns_a_report_that_parses_back(client, name):
    result = await client.call_tool(name, GOOD[name])
    assert not result.is_error, result.content[0].text
    TOOLS[name].report.model_validate(result.structured_content)


@pytest.mark.parametrize("name", TOOLS)
async def test_a_misspelt_argument_is_refused_by_name(client, name):
    result = await client.call_tool(name, GOOD[name] | {"lerning_rate": 8})
    assert result.is_error
    assert result.content[0].text.startswith("bad_input: ")
    assert "lerning_rate: no such argument" in result.content[0].text


@pytest.mark.parametrize("name", [n for n in TOOLS if TOOLS[n].effect == "reads"])
async def test_a_report_stays_short_unless_details_are_asked_for(client, name):
    result = await client.call_tool(name, GOOD[name])
    assert len(result.content[0].text) < MAX_CHARS
    assert len(json.dumps(result.structured_content)) < MAX_CHARS


@pytest.mark.parametrize("name", sorted(set(TOOLS) - BLIND))
async def test_structured_content_has_no_empty_value_unless_it_is_required(client, name):
    content = (await client.call_tool(name, GOOD[name])).structured_content
    report = TOOLS[name].report.model_validate(content)
    assert content == compact(report)
    needed = {key for key, field in type(report).model_fields.items() if field.is_required()}
    assert [key for key, value in content.items() if value in EMPTY and key not in needed] == []


async def test_the_listing_costs_a_model_little(client):
    listed = (await client.list_tools()).model_dump_json(by_alias=True, exclude_none=True)
    assert len(listed.encode()) <= MAX_LISTING_BYTES, (
        "shorten descriptions, or take fewer arguments"
    )


async def test_a_schema_says_nothing_that_goes_without_saying():
    for tool in listing():
        text = json.dumps(tool["inputSchema"])
        assert '"type": "null"' not in text, tool["name"]
        assert '"default": null' not in text, tool["name"]


class Inner(Request):
    """A request that another tool takes."""

    path: str = Field(description="A path.")


class Outer(Request):
    """A request with the other one in it."""

    advice: Inner | None = Field(None, description="What was asked.")
    counts: list[int] = Field(default_factory=list, description="Counts.")
    own: int = Field(3, description="A number.")


def test_a_request_that_another_tool_takes_is_named_and_not_repeated():
    schema = input_schema(Outer, {"Inner": "other_tool"})
    assert "$defs" not in schema
    assert schema["properties"]["advice"] == {"type": "object", "description": "What was asked."}
    assert schema["properties"]["counts"] == {
        "type": "array",
        "items": {"type": "integer"},
        "description": "Counts.",
    }
    assert schema["properties"]["own"]["default"] == 3


async def test_an_argument_left_empty_on_purpose_is_still_taken(client):
    result = await client.call_tool("get_run", {"run_id": RUN_ID, "events_after": None})
    assert not result.is_error, result.content[0].text


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_known_ones(client):
    with pytest.raises(MCPError, match="list_runs"):
        await client.call_tool("nope", {})


async def test_an_unknown_run_is_refused_with_the_next_call(client):
    result = await client.call_tool("get_run", {"run_id": "sft-0123456789abcdef"})
    assert result.is_error
    assert "list_runs" in result.content[0].text


async def test_a_bug_reaches_the_client_without_its_text(client, monkeypatch):
    def broken(_):
        raise RuntimeError("a secret of the dataset")

    monkeypatch.setattr("ft_tools.runs.tool.list_runs", broken)
    with pytest.raises(MCPError) as caught:
        await client.call_tool("list_runs", {})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_stdio_process_answers_as_the_in_memory_server_does(stdio, mode):
    async with Client(stdio_client(stdio), mode=mode) as over_stdio:
        listed = (await over_stdio.list_tools()).tools
        result = await over_stdio.call_tool("list_runs", {})
    assert [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed] == (
        listing()
    )
    assert result.structured_content["total"] == 1


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_http_process_answers_as_the_in_memory_server_does(http_url, mode):
    async with Client(http_url, mode=mode) as over_http:
        listed = (await over_http.list_tools()).tools
        result = await over_http.call_tool("list_runs", {})
    assert [tool.name for tool in listed] == list(TOOLS)
    assert result.structured_content["total"] == 1


def test_a_part_that_is_used_once_is_where_it_is_used_also_inside_another_part():
    class Part(BaseModel):
        value: int

    class Between(BaseModel):
        part: Part

    class Whole(BaseModel):
        between: Between

    schema = input_schema(Whole, {})
    assert "$defs" not in schema
    part = schema["properties"]["between"]["properties"]["part"]
    assert part["properties"]["value"] == {"type": "integer"}
