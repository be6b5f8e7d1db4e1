"""The server as its clients see it."""

import json
from dataclasses import replace
from typing import get_type_hints

import pytest
from mcp import Client, MCPError
from mcp.client.stdio import stdio_client
from pydantic import Field, ValidationError, create_model

from ft_tools.contract import EMPTY, Report, Request, compact, complaints
from ft_tools.tools import TOOLS
from mcp_server.schemas import input_schema
from tests.protocol.calls import GOOD, RUN_ID
from tests.protocol.golden import GOLDEN, listing

pytestmark = pytest.mark.anyio
# They start processes; their good calls are tested with the faults and in tests/tiny/test_trace.py.
BLIND = {"resume_run"}
MAX_CHARS = 8000
"""About 2,000 tokens."""
MAX_LISTING_BYTES = 25_000


async def test_every_tool_is_listed_under_its_functions_name(client):
    listed = [tool.name for tool in (await client.list_tools()).tools]
    assert listed == list(TOOLS) == [spec.function.__name__ for spec in TOOLS.values()]


def test_each_function_takes_the_request_of_its_row():
    for name, spec in TOOLS.items():
        assert get_type_hints(spec.function)["request"] is spec.request, name


async def test_every_tool_has_a_title_a_description_and_honest_annotations(client):
    for tool in (await client.list_tools()).tools:
        assert tool.title
        assert tool.description
        assert tool.annotations.read_only_hint is (TOOLS[tool.name].effect == "reads")
        assert tool.annotations.destructive_hint is (TOOLS[tool.name].effect == "stops")


async def test_every_listed_argument_is_described_and_the_others_are_options(client):
    for tool in (await client.list_tools()).tools:
        spec = TOOLS[tool.name]
        listed = set(tool.input_schema["properties"]) - {"options"}
        assert listed == set(spec.main or spec.request.model_fields), tool.name
        assert ("options" in tool.input_schema["properties"]) is bool(spec.options), tool.name
        for name in listed:
            assert tool.input_schema["properties"][name].get("description"), f"{tool.name}.{name}"


async def test_the_listing_is_the_reviewed_one():
    assert listing() == json.loads(GOLDEN.read_text(encoding="utf-8")), (
        "a schema changed: review it, then run `python -m tests.protocol.golden`"
    )


async def test_a_new_argument_or_another_word_would_be_noticed(monkeypatch):
    spec = TOOLS["cancel_run"]
    longer = create_model("CancelRequest", __base__=spec.request, more=(int, 0))
    monkeypatch.setitem(TOOLS, "cancel_run", replace(spec, request=longer))
    assert listing() != json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_tool_has_a_good_call():
    assert set(GOOD) == set(TOOLS)


@pytest.mark.parametrize("name", sorted(set(TOOLS) - BLIND))
async def test_a_good_call_returns_a_report_that_parses_back(client, name):
    result = await client.call_tool(name, GOOD[name])
    assert not result.is_error, result.content[0].text
    TOOLS[name].parse_report(result.structured_content)


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
    report = TOOLS[name].parse_report(content)
    assert isinstance(report, Report)
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


async def test_an_argument_left_empty_on_purpose_is_still_taken(client):
    result = await client.call_tool("get_run", {"run_id": RUN_ID, "events_after": None})
    assert not result.is_error, result.content[0].text


async def test_an_unknown_tool_is_a_protocol_error_that_names_the_known_ones(client):
    with pytest.raises(MCPError, match="get_run"):
        await client.call_tool("nope", {})


async def test_an_unknown_run_is_refused_with_the_next_call(client):
    result = await client.call_tool("get_run", {"run_id": "sft-0123456789abcdef"})
    assert result.is_error
    assert "get_run" in result.content[0].text


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


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_http_process_answers_as_the_in_memory_server_does(http_url, mode):
    async with Client(http_url, mode=mode) as over_http:
        listed = (await over_http.list_tools()).tools
        result = await over_http.call_tool("get_run", {})
    assert [tool.name for tool in listed] == list(TOOLS)
    assert result.structured_content["total"] == 1
