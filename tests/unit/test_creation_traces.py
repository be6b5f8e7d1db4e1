"""Logs of each known format, hand-made with traps, become the conversations that were meant."""

import json

import pytest

from ft_tools.errors import BadInput, Refused, UnknownName
from tests.creating import planned_here, read, run_here

SYSTEM = "You help Ada (ada.king@mail.internal)."
MASKED = "You help Ada ([email])."
KEY = "hf_" + "a1B2" * 9
TOOL = {
    "name": "weather",
    "description": "Look.",
    "parameters": {"type": "object", "properties": {}},
}
TOOLS = [{"type": "function", "function": TOOL}]
HELPFUL = {"helpful": ">=0.8"}
NOT_FAILED = "not_failed"


def calls(*names, as_text=False):
    """Return parallel calls, one a city."""
    made = []
    for name in names:
        arguments = {"city": name}
        function = {"name": "weather", "arguments": json.dumps(arguments) if as_text else arguments}
        made.append({"id": f"call_{name}", "type": "function", "function": function})
    return made


def result(city):
    return {"role": "tool", "tool_call_id": f"call_{city}", "content": f"sun in {city}"}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


ASKED = [said("system", SYSTEM), said("user", f"Oslo and Rome? My key is {KEY}")]
CALLED = said("assistant", "", tool_calls=calls("Oslo", "Rome"))
# The results come in the other order than the calls.
RESULTS = [result("Rome"), result("Oslo")]
ANSWER = said("assistant", f"Sun in both. Keep {KEY} and ada.king@mail.internal safe.")
MEANT = [
    said("system", MASKED),
    said("user", "Oslo and Rome? My key is [secret]"),
    CALLED,
    result("Oslo"),
    result("Rome"),
    said("assistant", "Sun in both. Keep [secret] and [email] safe."),
]


def written(folder, rows, name="logs/a.jsonl"):
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def plan_of(folder, keep=HELPFUL, **more):
    """Return the plan of a folder's logs."""
    asked = {"source": "logs", "kind": "traces", "output_dir": "made", "validation_fraction": 0}
    launch, _ = planned_here(folder, **asked, **more, **({"keep": keep} if keep else {}))
    return launch.plan


def made_of(folder, keep=HELPFUL, **more):
    """Return the training rows of a folder's logs, and the report."""
    asked = {"source": "logs", "kind": "traces", "output_dir": "made", "validation_fraction": 0}
    _, report = run_here(folder, **asked, **more, keep=keep)
    return read(folder / "made" / "train.jsonl"), report


def openai_rows():
    text_call = said("assistant", None, tool_calls=calls("Oslo", "Rome", as_text=True))

    def row(messages, message, finish="stop", **more):
        answered = {"choices": [{"message": message, "finish_reason": finish}], "model": "gpt-4o-x"}
        asked = {"model": "gpt-4o", "messages": messages, "tools": TOOLS}
        return {"request": asked, "response": answered, "session_id": "s", **more}

    return [
        row(ASKED, text_call, "tool_calls"),
        row([*ASKED, text_call, *RESULTS], ANSWER, scores={"helpful": 0.9}),
        row([said("user", "bad")], said("assistant", "no"), scores={"helpful": 0.2}),
        row([said("user", "unknown")], said("assistant", "perhaps")),
        row([said("user", "cut")], said("assistant", "as I was"), "length", scores={"helpful": 1}),
        row([said("user", "refuse")], said("assistant", None, refusal="I cannot")),
        row(
            [said("user", "lost")], said("assistant", None, tool_calls=calls("Bern")), "tool_calls"
        ),
        {"response": {"choices": [{"message": ANSWER}]}},
    ]


def parts(message):
    """Return a message in OpenTelemetry's parts."""
    if message["role"] == "tool":
        held = [
            {
                "type": "tool_call_response",
                "id": message["tool_call_id"],
                "result": message["content"],
            }
        ]
    else:
        held = [{"type": "text", "content": message["content"]}] if message["content"] else []
        held += [
            {"type": "tool_call", "id": call["id"], **call["function"]}
            for call in message.get("tool_calls", [])
        ]
    return {"role": message["role"], "parts": held}


def attributes(held):
    """Return attributes as OTLP writes them."""
    return [
        {"key": name, "value": {"stringValue": value} if isinstance(value, str) else value}
        for name, value in held.items()
    ]


def otel_span(number, asked, answered, events=(), status=None, **more):
    held = {
        "gen_ai.operation.name": "chat",
        "gen_ai.conversation.id": more.pop("conversation", f"c{number}"),
        "gen_ai.response.model": "claude-sonnet-4",
        "gen_ai.tool.definitions": json.dumps([{"type": "function", **TOOL}]),
        "gen_ai.input.messages": json.dumps([parts(m) for m in asked]),
        **(
            {"gen_ai.output.messages": json.dumps([parts(m) for m in answered])} if answered else {}
        ),
        **more,
    }
    return {
        "traceId": f"t{number}",
        "spanId": f"s{number}",
        "name": "chat",
        "startTimeUnixNano": f"{number}",
        "attributes": attributes(held),
        "events": [{"name": name, "attributes": attributes(a)} for name, a in events],
        "status": status or {},
    }


def score(value):
    number = {"doubleValue": value}
    return (
        "gen_ai.evaluation.result",
        {
            "gen_ai.evaluation.name": "helpful",
            "gen_ai.evaluation.score.value": number,
            "gen_ai.evaluation.score.label": "a label beside the score",
        },
    )


def otel_rows():
    spans = [
        otel_span(1, ASKED, [CALLED], conversation="c"),
        otel_span(2, [*ASKED, CALLED, *RESULTS], [ANSWER], [score(0.9)], conversation="c"),
        otel_span(3, [said("user", "bad")], [said("assistant", "no")], [score(0.1)]),
        otel_span(4, [said("user", "unknown")], [said("assistant", "perhaps")]),
        otel_span(5, [said("user", "error")], [], status={"code": 2}, **{"error.type": "timeout"}),
        otel_span(
            6,
            [said("user", "cut")],
            [said("assistant", "as I")],
            [score(1.0)],
            **{
                "gen_ai.response.finish_reasons": {
                    "arrayValue": {"values": [{"stringValue": "length"}]}
                }
            },
        ),
    ]
    compacted = {"role": "user", "parts": [{"type": "compaction", "content": "..."}]}
    spans.append(otel_span(7, [], [said("assistant", "go on")], [score(1.0)]))
    spans[-1]["attributes"] += attributes({"gen_ai.input.messages": json.dumps([compacted])})
    spans.append(
        {
            "traceId": "t2",
            "spanId": "s9",
            "name": "execute_tool weather",
            "attributes": attributes({"gen_ai.operation.name": "execute_tool"}),
        }
    )
    return [{"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}]


def otel_event_rows():
    """Return log records of the older form, with a score that names the response."""

    def record(number, name, body):
        return {
            "traceId": "t",
            "spanId": f"s{number}",
            "eventName": name,
            "body": body,
            "timeUnixNano": "1",
            "attributes": {"gen_ai.system": "openai"},
        }

    def call(number, asked, answer, model="gpt-4o", finish="stop"):
        for message in asked:
            name = message.get("tool_call_id")
            body = {"id": name, **message} if name else message
            yield record(number, f"gen_ai.{message['role']}.message", body)
        choice = {"index": 0, "finish_reason": finish, "message": answer}
        yield record(number, "gen_ai.choice", choice)
        yield {
            "trace_id": "t",
            "span_id": f"s{number}",
            "name": "chat",
            "attributes": {
                "gen_ai.response.id": f"r{number}",
                "gen_ai.response.model": model,
                "gen_ai.tool.definitions": json.dumps(TOOLS),
            },
        }

    told = {"gen_ai.response.id": "r1", "gen_ai.evaluation.name": "helpful"}
    return [
        *call(1, [*ASKED, CALLED, *RESULTS], ANSWER),
        *call(2, [said("user", "cut")], said("assistant", "as I"), finish="content_filter"),
        *call(3, [said("user", "unknown")], said("assistant", "perhaps")),
        {
            "traceId": "else",
            "spanId": "",
            "eventName": "gen_ai.evaluation.result",
            "attributes": {**told, "gen_ai.evaluation.score.value": 0.95},
        },
    ]


def flat(prefix, value):
    """Flatten a value as OpenInference names attributes."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for name, one in items for k, v in flat(f"{prefix}.{name}", one).items()}
    return {prefix: value}


def openinference_rows():
    def message(one):
        made = {"role": one["role"]}
        if one["role"] == "tool":
            made["tool_call_id"] = one["tool_call_id"]
        if one["content"] and one["role"] == "user":
            text = {"message_content": {"type": "text", "text": one["content"]}}
            made["contents"] = [text]
        elif one["content"]:
            made["content"] = one["content"]
        if "tool_calls" in one:
            made["tool_calls"] = [
                {
                    "tool_call": {
                        "id": call["id"],
                        "function": {
                            "name": call["function"]["name"],
                            "arguments": json.dumps(call["function"]["arguments"]),
                        },
                    }
                }
                for call in one["tool_calls"]
            ]
        return {"message": made}

    def span(number, asked, answered, status="OK", kind="LLM", **more):
        held = {"openinference.span.kind": kind, "llm.model_name": "gpt-4o", **more}
        held |= flat("llm.input_messages", [message(m) for m in asked])
        held |= flat("llm.output_messages", [message(m) for m in answered])
        held |= flat("llm.tools", [{"tool": {"json_schema": json.dumps(TOOLS[0])}}])
        return {
            "name": "llm",
            "context": {"trace_id": f"t{number}", "span_id": f"s{number}"},
            "start_time": f"2026-01-0{number}",
            "status": {"status_code": status},
            "attributes": held,
        }

    helpful = {"annotations.0.annotation.name": "helpful", "annotations.0.annotation.score": 0.9}
    late = span(8, [], [], kind="EVALUATOR")
    late["attributes"] = {
        "openinference.span.kind": "EVALUATOR",
        "annotations.0.annotation.name": "helpful",
        "annotations.0.annotation.score": 0.3,
    }
    late["links"] = [{"context": {"trace_id": "t3", "span_id": "s3"}}]
    return [
        span(1, ASKED, [CALLED], **{"session.id": "s"}),
        span(2, [*ASKED, CALLED, *RESULTS], [ANSWER], **{"session.id": "s"}, **helpful),
        span(3, [said("user", "bad")], [said("assistant", "no")]),
        span(4, [said("user", "unknown")], [said("assistant", "perhaps")]),
        span(5, [said("user", "error")], [], "ERROR"),
        span(6, [], [], kind="CHAIN"),
        late,
    ]


def langfuse_rows():
    def observation(number, asked, answered, **more):
        as_text = said("assistant", "", tool_calls=calls("Oslo", "Rome", as_text=True))
        turns = [as_text if m is CALLED else m for m in asked]
        output = as_text if answered is CALLED else answered
        return {
            "id": f"o{number}",
            "type": "GENERATION",
            "trace_id": f"t{number}",
            "session_id": more.pop("session", ""),
            "parent_observation_id": "",
            "level": "DEFAULT",
            "input": json.dumps({"messages": turns, "tools": TOOLS}),
            "start_time": "2026-01-01",
            "output": json.dumps(output) if output else "",
            "provided_model_name": "gpt-4o",
            **more,
        }

    def mark(about, value, name="helpful", data_type="NUMERIC", text="", **more):
        return {
            "trace_id": f"t{about}",
            "observation_id": None,
            "session_id": None,
            "name": name,
            "value": value,
            "string_value": text,
            "data_type": data_type,
            "source": "EVAL",
            **more,
        }

    observations = [
        observation(1, ASKED, CALLED, session="s"),
        observation(2, [*ASKED, CALLED, *RESULTS], ANSWER, session="s"),
        observation(3, [said("user", "bad")], said("assistant", "no")),
        observation(4, [said("user", "unknown")], said("assistant", "perhaps")),
        observation(5, [said("user", "error")], None, level="ERROR"),
        {**observation(6, [], None), "type": "SPAN", "input": "x"},
    ]
    scores = [
        mark(2, 0.9, observation_id="o2"),
        mark(3, 0.1),
        mark(2, 0, "verdict", "CATEGORICAL", "good"),
        mark(4, 0, "verdict", "TEXT", "so so"),
    ]
    return observations, scores


def langsmith_rows():
    def human(text):
        path = ["langchain", "schema", "messages", "HumanMessage"]
        return {"lc": 1, "type": "constructor", "id": path, "kwargs": {"content": text}}

    def run(number, messages, outputs, **more):
        return {
            "id": f"r{number}",
            "run_type": "llm",
            "trace_id": f"t{number}",
            "parent_run_id": "p",
            "inputs": {"messages": messages},
            "outputs": outputs,
            "error": None,
            "status": "success",
            "start_time": "2026-01-01",
            "session_id": "the project",
            "extra": {
                "metadata": {"ls_model_name": "gpt-4o", "thread_id": f"th{number}"},
                "invocation_params": {"tools": TOOLS},
            },
            **more,
        }

    langchain_calls = [
        {"id": c["id"], "name": "weather", "args": c["function"]["arguments"], "type": "tool_call"}
        for c in calls("Oslo", "Rome")
    ]
    turns = [
        {"type": "system", "data": {"content": SYSTEM}},
        human(ASKED[1]["content"]),
        {"type": "ai", "content": "", "tool_calls": langchain_calls},
        *(
            {"type": "tool", "content": m["content"], "tool_call_id": m["tool_call_id"]}
            for m in RESULTS
        ),
    ]
    path = ["langchain", "schema", "messages", "AIMessage"]
    generated = {
        "lc": 1,
        "type": "constructor",
        "id": path,
        "kwargs": {"content": ANSWER["content"]},
    }
    stats = {"helpful": {"n": 2, "avg": 0.85, "values": {}}}
    anthropic = {
        "role": "assistant",
        "content": [{"type": "text", "text": "no"}],
        "stop_reason": "end_turn",
    }
    return [
        run(
            1,
            [turns],
            {
                "generations": [
                    [{"message": generated, "generation_info": {"finish_reason": "stop"}}]
                ]
            },
        ),
        {
            "id": "t1",
            "run_type": "chain",
            "trace_id": "t1",
            "parent_run_id": None,
            "feedback_stats": stats,
            "inputs": {},
            "outputs": {},
        },
        run(2, [said("user", "bad")], anthropic, feedback_stats={"helpful": {"n": 1, "avg": 0.1}}),
        run(
            3,
            [said("user", "unknown")],
            {"choices": [{"message": said("assistant", "perhaps")}]},
            feedback_stats={"tone": {"n": 1, "avg": None, "values": {"kind": 1}}},
        ),
        run(4, [said("user", "error")], None, error="RateLimit", status="error"),
        run(
            5,
            [said("user", "cut")],
            {**anthropic, "stop_reason": "max_tokens"},
            feedback_stats={"helpful": {"avg": 1.0}},
        ),
    ]


FORMATS = {
    "openai_chat": (openai_rows, "gpt-4o-x"),
    "otel_genai": (otel_rows, "claude-sonnet-4"),
    "otel_events": (otel_event_rows, "gpt-4o"),
    "openinference": (openinference_rows, "gpt-4o"),
    "langfuse": (langfuse_rows, "gpt-4o"),
    "langsmith": (langsmith_rows, "gpt-4o"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_the_conversation_that_passes_is_kept_whole_and_no_other(workspace, name):
    rows, model = FORMATS[name]
    made = rows()
    if name == "langfuse":
        written(workspace, made[0], "logs/observations_v2/a.jsonl")
        written(workspace, made[1], "logs/scores/a.jsonl")
    else:
        written(workspace, made)
    rows, report = made_of(workspace)
    assert rows == [{"messages": MEANT, "tools": TOOLS}]
    assert report.num_kept == 1
    assert report.num_kept + sum(report.dropped.values()) == report.num_asked
    assert report.dropped["unknown"] >= 1
    assert any(reason.startswith("failed") for reason in report.dropped)
    assert report.log.masked == {"secret": 1, "email": 1}
    origin = read(workspace / "made" / "origin.jsonl")[0]
    assert (origin["kind"], origin["teacher"], origin["log_format"]) == (
        "traces",
        model,
        name.replace("otel_events", "otel_genai"),
    )
    helpful = "helpful [EVAL]" if name == "langfuse" else "helpful"
    assert origin["signs"][helpful] in (0.85, 0.9, 0.95, [0.9, "a label beside the score"])
    assert origin["terms_read"]


def assistant(number, parent, part, reply=None, **more):
    message = {
        "id": reply or f"msg{number}",
        "role": "assistant",
        "model": "claude-opus-4",
        "content": [part],
        "usage": {"output_tokens": 5},
    }
    return claude("assistant", number, parent, message, **more)


def claude(kind, number, parent, message, **more):
    return {
        "type": kind,
        "uuid": f"u{number}",
        "parentUuid": f"u{parent}" if parent else None,
        "sessionId": "cc",
        "timestamp": f"2026-01-01T00:00:{number:02}Z",
        "isSidechain": False,
        "message": message,
        **more,
    }


def user(number, parent, content, **more):
    return claude("user", number, parent, {"role": "user", "content": content}, **more)


def use(city):
    return {"type": "tool_use", "id": f"call_{city}", "name": "weather", "input": {"city": city}}


def used(city):
    return [
        {
            "type": "tool_result",
            "tool_use_id": f"call_{city}",
            "content": [{"type": "text", "text": f"sun in {city}"}],
        }
    ]


def text(words):
    return {"type": "text", "text": words}


def claude_rows():
    return [
        {"type": "summary", "summary": "Weather", "leafUuid": "u8"},
        {"type": "file-history-snapshot", "messageId": "x", "snapshot": {}},
        user(1, 0, "Caveat: ...", isMeta=True),
        user(2, 1, "<command-name>/model</command-name>"),
        user(3, 2, "<local-command-stdout>Set model</local-command-stdout>"),
        user(4, 3, f"Oslo and Rome? My key is {KEY}"),
        assistant(5, 4, {"type": "thinking", "thinking": "Both.", "signature": "x"}, "m1"),
        assistant(6, 5, use("Oslo"), "m1"),
        assistant(7, 6, use("Rome"), "m1"),
        user(8, 7, used("Rome")),
        # The result of the first call hangs on its own line: no leaf's path has both.
        user(9, 6, used("Oslo")),
        assistant(10, 8, text("A wrong turn"), "m2"),
        user(11, 10, "No, rewind"),
        assistant(12, 11, text("A rewound answer"), "m3"),
        {"type": "assistant", **assistant(13, 8, text("side"), isSidechain=True)},
        assistant(14, 8, text("API Error: 529"), "m4", isApiErrorMessage=True),
        assistant(15, 14, text("Sun in both."), "m5"),
        {
            "type": "system",
            "subtype": "compact_boundary",
            "uuid": "u16",
            "parentUuid": None,
            "logicalParentUuid": "u15",
            "sessionId": "cc",
            "timestamp": "2026-01-01T00:00:16Z",
        },
        user(17, 16, "This session is being continued ...", isCompactSummary=True),
        user(18, 17, [{"type": "text", "text": "And Bern?"}]),
        assistant(19, 18, text("I do not know."), "m6"),
        {"type": "weather-report", "sessionId": "cc"},
    ]


def test_a_session_of_claude_code_is_the_path_to_its_newest_leaf(workspace):
    written(workspace, claude_rows())
    rows, report = made_of(workspace, NOT_FAILED)
    called = said("assistant", "", tool_calls=calls("Oslo", "Rome"), reasoning_content="Both.")
    assert [row["messages"] for row in rows] == [
        [
            said("user", "Oslo and Rome? My key is [secret]"),
            called,
            result("Oslo"),
            result("Rome"),
            said("assistant", "Sun in both."),
            said("user", "And Bern?"),
            said("assistant", "I do not know."),
        ]
    ]
    assert report.log.skipped["claude_code.weather-report"] == 1
    assert report.log.skipped["claude_code.isSidechain"] == 1
    assert list(report.log.terms) == ["anthropic"]


ASKED_ONCE = [user(1, 0, "Do it"), assistant(2, 1, text("I will"))]
ENDINGS = {
    "interrupted": [*ASKED_ONCE, user(3, 2, [text("[Request interrupted by user]")])],
    "api_error": [
        *ASKED_ONCE,
        user(3, 2, "go on"),
        assistant(4, 3, text("API Error"), isApiErrorMessage=True),
    ],
    "beginning_is_missing": [user(3, 2, "go on"), assistant(4, 3, text("I did"))],
    "killed": [
        user(1, 0, "Do it"),
        assistant(2, 1, use("Oslo")),
        user(3, 2, used("Oslo"), toolUseResult={"interrupted": True}),
        assistant(4, 3, text("so")),
    ],
}


@pytest.mark.parametrize("end", ENDINGS)
def test_a_session_that_was_broken_off_has_failed(workspace, end):
    written(workspace, ENDINGS[end])
    reason = "interrupted" if end == "killed" else end
    assert plan_of(workspace, NOT_FAILED)["dropped"] == {f"failed: {reason}": 1}


def codex(kind, **payload):
    return {"timestamp": "2026-02-01T00:00:00Z", "type": kind, "payload": payload}


def item(**payload):
    return codex("response_item", **payload)


def event(name, **payload):
    return codex("event_msg", type=name, **payload)


def words(role, content):
    kind = "output_text" if role == "assistant" else "input_text"
    return item(type="message", role=role, content=[{"type": kind, "text": content}])


def codex_rows():
    return [
        codex("session_meta", id="cx", base_instructions={"text": SYSTEM}),
        words("developer", "<permissions instructions>read-only</permissions instructions>"),
        words("user", "<environment_context>\n<cwd>/home</cwd>\n</environment_context>"),
        event("task_started", turn_id="1"),
        codex("turn_context", model="gpt-5-codex"),
        words("user", ASKED[1]["content"]),
        event("user_message", message="..."),
        item(type="reasoning", summary=[], encrypted_content="x"),
        item(
            type="function_call", name="weather", arguments='{"city": "Oslo"}', call_id="call_Oslo"
        ),
        item(
            type="function_call", name="weather", arguments='{"city": "Rome"}', call_id="call_Rome"
        ),
        item(type="function_call_output", call_id="call_Rome", output="sun in Rome"),
        item(type="function_call_output", call_id="call_Oslo", output="sun in Oslo"),
        words("assistant", ANSWER["content"]),
        event("task_complete"),
        codex("compacted", message="a summary"),
        words("user", "A question that is taken back"),
        words("assistant", "An answer that is taken back"),
        event("turn_aborted", reason="interrupted"),
        event("thread_rolled_back", num_turns=1),
        words("user", "And Bern?"),
        item(type="custom_tool_call", name="apply_patch", input="*** Begin", call_id="p"),
        item(type="custom_tool_call_output", call_id="p", output="Done"),
        words("assistant", "Rain."),
        event("task_complete"),
        codex("new_kind"),
    ]


def test_a_rollout_of_codex_lacks_what_was_rolled_back(workspace):
    written(workspace, codex_rows())
    rows, report = made_of(workspace, NOT_FAILED)
    patch = {"name": "apply_patch", "arguments": {"input": "*** Begin"}}
    assert [row["messages"] for row in rows] == [
        [
            *MEANT,
            said("user", "And Bern?"),
            said("assistant", "", tool_calls=[{"id": "p", "type": "function", "function": patch}]),
            said("tool", "Done", tool_call_id="p"),
            said("assistant", "Rain."),
        ]
    ]
    assert report.log.skipped["codex.new_kind"] == report.log.skipped["codex.compacted"] == 1
    assert read(workspace / "made" / "origin.jsonl")[0]["session"] == "cx"
    assert list(report.log.terms) == ["openai"]


@pytest.mark.parametrize("end", ["turn_aborted", "no_task_complete"])
def test_a_rollout_that_was_aborted_or_never_completed_has_failed(workspace, end):
    ends = [event("turn_aborted")] if end == "turn_aborted" else []
    said_so = [codex("session_meta", id="cx"), words("user", "Do"), words("assistant", "I")]
    written(workspace, [*said_so, *ends])
    assert plan_of(workspace, NOT_FAILED)["dropped"] == {f"failed: {end}": 1}


def test_a_use_that_the_terms_forbid_is_shown_and_refused_when_confirmed(workspace):
    written(workspace, claude_rows())
    asked = {"source": "logs", "kind": "traces", "output_dir": "made", "keep": NOT_FAILED}
    launch, _ = planned_here(workspace, **asked)
    assert launch.plan["log"]["models"] == {"claude-opus-4": 1}
    assert any(one.startswith("terms_not_allowed") for one in launch.warnings)
    assert launch.next_steps == []
    with pytest.raises(Refused, match="anthropic") as refused:
        planned_here(workspace, **asked, confirm=launch.plan_hash)
    assert ".." not in str(refused.value)
    accepted = {"accept_findings": ["teacher_terms"], "accept_reason": "we asked them"}
    assert [step.tool for step in planned_here(workspace, **asked, **accepted)[0].next_steps] == [
        "create_dataset"
    ]


def test_of_an_unknown_provider_no_terms_are_quoted(workspace):
    row = {"messages": [said("user", "Oslo?"), said("assistant", "Sun.")], "model": "our-own"}
    written(workspace, [row])
    asked = {"source": "logs", "kind": "traces", "output_dir": "made", "keep": NOT_FAILED}
    launch, _ = planned_here(workspace, **asked)
    assert launch.plan["log"]["terms"] == {"other": "unknown"}
    (told,) = (one for one in launch.warnings if one.startswith("terms_"))
    assert told.startswith("terms_unknown")
    assert "https://" not in told


NAMED = "Noor van Veen"


def test_names_are_replaced_everywhere_and_what_is_left_readable_is_said(workspace):
    as_text = said("assistant", None, tool_calls=calls(NAMED, as_text=True))
    turns = [
        said("system", f"You help {NAMED} (noor@mail.example, info@mail.example)."),
        said("user", f"I am {NAMED}; call +1 212 555 0142"),
        as_text,
        said("tool", f"sun for {NAMED}", tool_call_id=f"call_{NAMED}"),
    ]
    written(workspace, [{"messages": turns, "choices": [{"message": said("assistant", NAMED)}]}])
    replace = {NAMED: "[name]", "Ada King": "[name]"}
    rows, report = made_of(workspace, NOT_FAILED, replace=replace)
    text = json.dumps(rows)
    assert (NAMED in text.replace(f"call_{NAMED}", ""), "noor@" in text) == (False, False)
    assert report.log.replaced == {NAMED: 5, "Ada King": 0}
    assert report.log.masked == {"email": 1}
    (left,) = (one for one in report.warnings if one.startswith("left_readable"))
    assert "1 office_addresses" in left
    assert "1 fictional_numbers" in left


@pytest.mark.parametrize(
    "token", ["rwk_live_" + "WyvRh7uhTjusC4bGcYawk", "acme_" + "YJ2ntce9S8nNhkrfvxGRWTPXX"]
)
def test_a_token_of_an_unknown_vendor_is_masked_and_names_of_calls_are_not(workspace, token):
    name = "call_" + "DdmO9pD3xa9XTPNJ32zg2hcA"
    call = {"id": name, "type": "function", "function": {"name": "get", "arguments": {}}}
    turns = [
        said("user", f"use {token}"),
        said("assistant", "", tool_calls=[call]),
        said("tool", "test_ShouldReturnTheRightValueV2", tool_call_id=name),
        said("assistant", "Done."),
    ]
    written(workspace, [{"messages": turns}])
    rows, report = made_of(workspace, NOT_FAILED)
    assert rows[0]["messages"] == [said("user", "use [secret]"), *turns[1:]]
    assert report.log.masked == {"secret": 1}


def test_a_condition_may_name_who_scored(workspace):
    observations, scores = langfuse_rows()
    written(workspace, observations, "logs/observations.jsonl")
    human = {**scores[1], "source": "ANNOTATION", "value": 0.95}
    written(workspace, [*scores, human], "logs/scores.jsonl")
    by_people = {"helpful [ANNOTATION]": ">=0.8"}
    with pytest.raises(UnknownName, match="ANNOTATION"):
        plan_of(workspace, {"helpful [nobody]": ">=0.8"})
    rows, _ = made_of(workspace, by_people)
    assert [row["messages"][0]["content"] for row in rows] == ["bad"]


def test_a_source_that_is_the_workspace_stays_as_it_was_confirmed(workspace):
    written(workspace, openai_rows(), "a.jsonl")
    asked = {"source": ".", "kind": "traces", "keep": HELPFUL, "validation_fraction": 0}
    launch, report = run_here(workspace, **asked, output_dir="made")
    again, _ = planned_here(workspace, **asked, output_dir="again")
    assert again.plan["source_sha256"] == launch.plan["source_sha256"]
    assert again.plan["num_source"] == report.num_asked


def test_a_run_of_langsmith_that_is_pending_has_not_failed_and_models_are_named_anywhere(workspace):
    rows = langsmith_rows()
    for row in rows:
        row.get("extra", {}).get("metadata", {}).pop("ls_model_name", None)
    rows[0]["outputs"]["llm_output"] = {"model_name": "one"}
    rows[2]["outputs"] = {**rows[2]["outputs"], "model": "two"}
    rows[3]["inputs"]["model"] = "three"
    rows[0]["status"] = "pending"
    written(workspace, rows)
    plan = plan_of(workspace)
    assert plan["dropped"]["not_finished"] == 1
    assert plan["log"]["models"] == {"unknown": 2, "one": 1, "two": 1, "three": 1}


def test_what_is_no_chat_is_counted_by_its_type_and_broken_arguments_are_a_failure(workspace):
    broken = calls("Oslo", as_text=True)
    broken[0]["function"]["arguments"] = '{"city": "Os'
    asked = {"messages": [said("user", "Oslo?")]}
    choice = {"message": said("assistant", None, tool_calls=broken), "finish_reason": "tool_calls"}
    rows = [
        {"type": "embedding", "request": {"input": "x"}, "response": {"data": []}},
        {"type": "moderation.v9", "request": {}, "response": {"flagged": False}},
        {"request": asked, "response": {"choices": [choice]}},
    ]
    written(workspace, rows)
    plan = plan_of(workspace, NOT_FAILED)
    assert plan["log"]["skipped"] == {"openai_chat.embedding": 1, "openai_chat.moderation.v9": 1}
    assert plan["dropped"] == {"failed: broken_arguments": 1}


def test_without_a_condition_nothing_is_kept_and_the_signs_are_listed(workspace):
    observations, scores = langfuse_rows()
    written(workspace, observations, "logs/observations.jsonl")
    written(workspace, scores, "logs/scores.jsonl")
    plan = plan_of(workspace, None)
    # The value of a category is an index, that of a text is 0: neither is listed.
    assert plan["log"]["signs"] == {
        "helpful [EVAL]": "0.9 1, 0.1 1",
        "verdict [EVAL]": "good 1, so so 1",
    }
    assert plan["dropped"] == {"undecided": 3, "failed: error": 1}
    assert plan["num_made"] == {}
    asked = {"source": "logs", "kind": "traces", "output_dir": "made"}
    assert planned_here(workspace, **asked)[0].next_steps == []
    with pytest.raises(BadInput, match=r"options\.keep"):
        plan_of(workspace, None, confirm="0" * 16)


def test_a_condition_on_a_sign_that_nothing_has_is_refused(workspace):
    written(workspace, openai_rows())
    with pytest.raises(UnknownName, match="helpful"):
        plan_of(workspace, {"helpfull": ">=1"})


def test_marks_from_elsewhere_are_signs_of_a_session(workspace):
    written(workspace, claude_rows())
    (workspace / "marks.csv").write_text("session,outcome,tests\ncc,passed,12\nother,failed,0\n")
    _, report = made_of(workspace, {"outcome": "passed"}, marks="marks.csv")
    assert report.num_kept == 1
    origin = read(workspace / "made" / "origin.jsonl")[0]
    assert origin["signs"] == {"outcome": "passed", "tests": 12.0}


def test_a_score_of_an_earlier_call_counts_for_the_conversation_that_repeats_it(workspace):
    first, last, *_ = openai_rows()
    written(workspace, [first | {"scores": {"helpful": 0.1}}, last])
    plan = plan_of(workspace)
    assert plan["dropped"] == {"condition_not_met": 1}
    assert plan["log"]["notes"] == {"contained_in_a_longer_one": 1}


def test_what_is_said_of_a_run_holds_for_the_calls_in_it(workspace):
    rows = langsmith_rows()
    middle = {"id": "p", "run_type": "chain", "trace_id": "t9", "parent_run_id": "root"}
    root = {"id": "root", "run_type": "chain", "trace_id": "t9", "parent_run_id": None}
    error = {"error": "the tool crashed", "status": "error"}
    written(workspace, [*rows, middle, root | error])
    assert plan_of(workspace, NOT_FAILED)["dropped"] == {"failed: error": 4, "failed: length": 1}


USED = [
    {"type": "text", "text": "I look."},
    {"type": "tool_use", "id": "c", "name": "weather", "input": {"city": "Oslo"}},
]
LOOKED = said(
    "assistant",
    "I look.",
    tool_calls=[
        {
            "id": "c",
            "type": "function",
            "function": {"name": "weather", "arguments": {"city": "Oslo"}},
        }
    ],
)
WITHOUT_ID = {"type": "function", "function": {"name": "weather", "arguments": {}}}


@pytest.mark.parametrize(
    ("logged", "meant"),
    [
        (
            # LangChain has calls of Anthropic's models in the content and beside it.
            [
                said(
                    "ai",
                    USED,
                    tool_calls=[{"id": "c", "name": "weather", "args": {"city": "Oslo"}}],
                ),
                said("tool", {"sun": 1}, tool_call_id="c"),
            ],
            [LOOKED, said("tool", '{"sun": 1}', tool_call_id="c")],
        ),
        (
            # Anthropic's user returns results, and says more behind them.
            [
                said("assistant", USED),
                said("user", [text("And?"), {**used("Oslo")[0], "tool_use_id": "c"}]),
            ],
            [LOOKED, said("tool", "sun in Oslo", tool_call_id="c"), said("user", "And?")],
        ),
        (
            # Without ids, results stand in the order of the calls.
            [
                said("assistant", None, tool_calls=[WITHOUT_ID, WITHOUT_ID]),
                said("tool", "one"),
                said("tool", "two"),
            ],
            [
                said("assistant", "", tool_calls=[WITHOUT_ID, WITHOUT_ID]),
                said("tool", "one"),
                said("tool", "two"),
            ],
        ),
    ],
)
def test_calls_and_results_are_read_in_every_spelling(workspace, logged, meant):
    asked = said("user", "Oslo?")
    answer = said("assistant", "Sun.")
    written(workspace, [{"messages": [asked, *logged], "choices": [{"message": answer}]}])
    assert made_of(workspace, NOT_FAILED)[0] == [{"messages": [asked, *meant, answer]}]


@pytest.mark.parametrize("answer", ['{"label": "spam"}', '["a", "b"]', "12"])
def test_an_answer_in_json_stays_as_it_is(workspace, answer):
    row = {"id": "o", "type": "GENERATION", "trace_id": "t", "parent_observation_id": ""}
    written(workspace, [{**row, "input": '[{"role": "user", "content": "?"}]', "output": answer}])
    meant = [said("user", "?"), said("assistant", answer)]
    assert made_of(workspace, NOT_FAILED)[0] == [{"messages": meant}]


def test_a_table_of_phoenix_has_half_flattened_messages(workspace):
    row = {
        "context.trace_id": "t",
        "context.span_id": "s",
        "attributes.openinference.span.kind": "LLM",
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "Oslo?"}],
        "attributes.llm.output_messages": [
            {
                "message.role": "assistant",
                "message.content": "Sun.",
            }
        ],
    }
    written(workspace, [row])
    meant = [said("user", "Oslo?"), said("assistant", "Sun.")]
    assert made_of(workspace, NOT_FAILED)[0] == [{"messages": meant}]


def test_an_evaluation_in_a_span_of_its_own_is_about_the_call_that_it_stands_in(workspace):
    call = otel_span(1, [said("user", "Oslo?")], [said("assistant", "Sun.")])
    judge = {**otel_span(2, [], []), "attributes": [], "traceId": "t1", "parentSpanId": "s1"}
    name, held = score(0.9)
    judge["events"] = [{"name": name, "attributes": attributes(held)}]
    written(workspace, [{"resourceSpans": [{"scopeSpans": [{"spans": [call, judge]}]}]}])
    assert made_of(workspace)[1].num_kept == 1


def test_a_conversation_ends_before_a_call_that_no_answer_follows(workspace):
    more = [user(3, 2, "Weather?"), assistant(4, 3, use("Oslo")), user(5, 4, used("Oslo"))]
    written(workspace, [*ASKED_ONCE, *more])
    meant = [said("user", "Do it"), said("assistant", "I will")]
    assert made_of(workspace, NOT_FAILED)[0] == [{"messages": meant}]


def test_conversations_of_one_session_are_in_one_part(workspace):
    rows = [
        {
            "messages": [said("user", f"{'Where' if half else 'When'} is the {number} train?")],
            "choices": [{"message": said("assistant", f"On {number}.")}],
            "metadata": {"session_id": f"s{number}"},
        }
        for number in range(20)
        for half in range(2)
    ]
    written(workspace, rows)
    asked = {"source": "logs", "kind": "traces", "output_dir": "made", "keep": NOT_FAILED}
    run_here(workspace, **asked, validation_fraction=0.3)
    parts = [
        {row["messages"][1]["content"] for row in read(workspace / "made" / f"{name}.jsonl")}
        for name in ("train", "validation")
    ]
    assert parts[1]
    assert parts[0].isdisjoint(parts[1])


def test_an_image_ends_the_conversation_before_it(workspace):
    image = [text("this?"), {"type": "image_url", "image_url": {"url": "x"}}]
    turns = [said("user", "hi"), said("assistant", "hello"), said("user", image)]
    written(workspace, [{"messages": turns, "choices": [{"message": said("assistant", "a cat")}]}])
    rows, report = made_of(workspace, NOT_FAILED)
    assert rows == [{"messages": turns[:2]}]
    assert report.log.notes == {"ends_before_what_is_no_text": 1}


def test_a_file_of_no_known_format_is_counted_beside_logs_and_refused_alone(workspace):
    written(workspace, [{"type": "summary", "leafUuid": "x"}], "logs/b.jsonl")
    with pytest.raises(BadInput, match="claude_code"):
        plan_of(workspace, NOT_FAILED)
    written(workspace, claude_rows())
    skipped = plan_of(workspace, NOT_FAILED)["log"]["skipped"]
    assert skipped["rows_of_no_known_format"] == 1


def test_tickets_are_for_prepare_dataset(workspace):
    written(workspace, [{"id": 1, "satisfaction_rating": {"score": "good"}, "comments": []}])
    with pytest.raises(BadInput, match="prepare_dataset"):
        plan_of(workspace, NOT_FAILED)
