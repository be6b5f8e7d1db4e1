"""Logs of each known format, hand-made with traps, become the conversations that were meant.

The exports are in `logs/`; a secret stands in them as {KEY}.
"""

import json
from pathlib import Path

import pytest

from ft_tools.errors import BadInput, Refused, UnknownName
from tests.creating import planned_here, read, run_here, write

KEY = "hf_" + "a1B2" * 9
TOOL = {
    "name": "weather",
    "description": "Look.",
    "parameters": {"type": "object", "properties": {}},
}
TOOLS = [{"type": "function", "function": TOOL}]
HELPFUL, NOT_FAILED = {"helpful": ">=0.8"}, "not_failed"
LOGGED = {"source": "logs", "kind": "traces", "output_dir": "made"}


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def calls(*names, as_text=False):
    """Return parallel calls, one a city."""
    made = []
    for name in names:
        arguments = {"city": name}
        function = {"name": "weather", "arguments": json.dumps(arguments) if as_text else arguments}
        made.append({"id": f"call_{name}", "type": "function", "function": function})
    return made


def result(city):
    return said("tool", f"sun in {city}", tool_call_id=f"call_{city}")


ASKED = said("user", "Oslo and Rome? My key is [secret]")
CALLED = said("assistant", "", tool_calls=calls("Oslo", "Rome"))
# The logs have the results in the other order than the calls.
MEANT = [
    said("system", "You help Ada ([email])."),
    *(ASKED, CALLED, result("Oslo"), result("Rome")),
    said("assistant", "Sun in both. Keep [secret] and [email] safe."),
]
ANSWERED = [said("user", "Do it"), said("assistant", "I will")]


def logged(name):
    """Return the rows of an export."""
    text = (Path(__file__).parent / "logs" / f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.replace("{KEY}", KEY).splitlines()]


def written(folder, rows, name="a"):
    (folder / "logs").mkdir(exist_ok=True)
    write(folder / "logs" / f"{name}.jsonl", rows)


def plan_of(folder, keep=HELPFUL, **more):
    """Return the plan of a folder's logs."""
    asked = LOGGED | more | ({"keep": keep} if keep else {})
    return planned_here(folder, **asked)[0].plan


def made_of(folder, keep=HELPFUL, **more):
    """Return the training rows of a folder's logs, and the report."""
    _, report = run_here(folder, **LOGGED | {"validation_fraction": 0} | more, keep=keep)
    return read(folder / "made" / "train.jsonl"), report


def chat(*turns, answer=None):
    """Return a row of a chat log."""
    choices = {"choices": [{"message": answer}]} if answer else {}
    return {"messages": list(turns), **choices}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai_chat", "gpt-4o-x"),
        ("otel_genai", "claude-sonnet-4"),
        ("otel_events", "gpt-4o"),
        ("openinference", "gpt-4o"),
        ("langfuse", "gpt-4o"),
        ("langsmith", "gpt-4o"),
    ],
)
def test_the_conversation_that_passes_is_kept_whole_and_no_other(workspace, name, model):
    for part in ("langfuse_observations", "langfuse_scores") if name == "langfuse" else (name,):
        written(workspace, logged(part), part)
    rows, report = made_of(workspace)
    assert rows == [{"messages": MEANT, "tools": TOOLS}]
    assert report.num_kept == 1
    assert report.num_kept + sum(report.dropped.values()) == report.num_asked
    assert report.dropped["unknown"] >= 1
    assert any(reason.startswith("failed") for reason in report.dropped)
    assert report.log.masked == {"secret": 1, "email": 1}
    (origin,) = read(workspace / "made" / "origin.jsonl")
    log_format = name.replace("otel_events", "otel_genai")
    assert (origin["kind"], origin["teacher"]) == ("traces", model)
    assert origin["log_format"] == log_format
    helpful = "helpful [EVAL]" if name == "langfuse" else "helpful"
    assert origin["signs"][helpful] in (0.85, 0.9, 0.95, [0.9, "a label beside the score"])
    assert origin["terms_read"]


def test_a_session_of_claude_code_is_the_path_to_its_newest_leaf(workspace):
    written(workspace, logged("claude_code"))
    rows, report = made_of(workspace, NOT_FAILED)
    (row,) = rows
    assert row["messages"] == [
        *(ASKED, CALLED | {"reasoning_content": "Both."}, result("Oslo"), result("Rome")),
        said("assistant", "Sun in both."),
        said("user", "And Bern?"),
        said("assistant", "I do not know."),
    ]
    assert report.log.skipped["claude_code.weather-report"] == 1
    assert report.log.skipped["claude_code.isSidechain"] == 1
    assert list(report.log.terms) == ["anthropic"]


def test_a_rollout_of_codex_lacks_what_was_rolled_back(workspace):
    written(workspace, logged("codex"))
    rows, report = made_of(workspace, NOT_FAILED)
    patch = {"name": "apply_patch", "arguments": {"input": "*** Begin"}}
    (row,) = rows
    assert row["messages"] == [
        *MEANT,
        said("user", "And Bern?"),
        said("assistant", "", tool_calls=[{"id": "p", "type": "function", "function": patch}]),
        said("tool", "Done", tool_call_id="p"),
        said("assistant", "Rain."),
    ]
    assert report.log.skipped["codex.new_kind"] == report.log.skipped["codex.compacted"] == 1
    assert read(workspace / "made" / "origin.jsonl")[0]["session"] == "cx"
    assert list(report.log.terms) == ["openai"]


def claude(role, number, content, **more):
    """Return a row of a session in which nothing branches."""
    parent = f"u{number - 1}" if number > 1 else None
    row = {"type": role, "uuid": f"u{number}", "parentUuid": parent, "sessionId": "cc"}
    return row | {"timestamp": str(number), "message": said(role, content, id=f"m{number}")} | more


def use(city):
    return [{"type": "tool_use", "id": f"call_{city}", "name": "weather", "input": {"city": city}}]


def used(city):
    return [{"type": "tool_result", "tool_use_id": f"call_{city}", "content": f"sun in {city}"}]


ASKED_ONCE = [claude("user", 1, "Do it"), claude("assistant", 2, "I will")]
USED = [claude("assistant", 2, use("Oslo")), claude("user", 3, used("Oslo"))]


def codex(kind, **payload):
    return {"timestamp": "2026-02-01T00:00:00Z", "type": kind, "payload": payload}


def codex_says(role, content):
    return codex("response_item", type="message", role=role, content=content)


ROLLOUT = [codex("session_meta", id="cx"), codex_says("user", "Do"), codex_says("assistant", "I")]
KILLED = USED[1] | {"toolUseResult": {"interrupted": True}}


@pytest.mark.parametrize(
    ("reason", "rows"),
    [
        ("interrupted", [*ASKED_ONCE, claude("user", 3, "[Request interrupted by user]")]),
        ("interrupted", [ASKED_ONCE[0], USED[0], KILLED, claude("assistant", 4, "so")]),
        ("api_error", [*ASKED_ONCE, claude("assistant", 3, "Error", isApiErrorMessage=True)]),
        ("beginning_is_missing", [claude("user", 3, "go on"), claude("assistant", 4, "I did")]),
        ("turn_aborted", [*ROLLOUT, codex("event_msg", type="turn_aborted")]),
        ("no_task_complete", ROLLOUT),
    ],
)
def test_a_session_that_was_broken_off_has_failed(workspace, reason, rows):
    written(workspace, rows)
    assert plan_of(workspace, NOT_FAILED)["dropped"] == {f"failed: {reason}": 1}


def test_a_use_that_the_terms_forbid_is_shown_and_refused_when_confirmed(workspace):
    written(workspace, logged("claude_code"))
    asked = LOGGED | {"keep": NOT_FAILED}
    launch, _ = planned_here(workspace, **asked)
    assert launch.plan["log"]["models"] == {"claude-opus-4": 1}
    assert any(one.startswith("terms_not_allowed") for one in launch.warnings)
    assert launch.next_steps == []
    with pytest.raises(Refused, match="anthropic"):
        planned_here(workspace, **asked, confirm=launch.plan_hash)
    accepted = {"accept_findings": ["teacher_terms"], "accept_reason": "we asked them"}
    assert [step.tool for step in planned_here(workspace, **asked, **accepted)[0].next_steps] == [
        "create_dataset"
    ]


def test_of_an_unknown_provider_no_terms_are_quoted(workspace):
    written(workspace, [chat(*ANSWERED) | {"model": "our-own"}])
    launch, _ = planned_here(workspace, **LOGGED, keep=NOT_FAILED)
    assert launch.plan["log"]["terms"] == {"other": "unknown"}
    (told,) = (one for one in launch.warnings if one.startswith("terms_"))
    assert told.startswith("terms_unknown")
    assert "https://" not in told


NAMED = "Noor van Veen"


def test_names_are_replaced_everywhere(workspace):
    turns = [
        said("system", f"You help {NAMED} (noor@mail.example, info@mail.example)."),
        said("user", f"I am {NAMED}; call +1 212 555 0142"),
        said("assistant", None, tool_calls=calls(NAMED, as_text=True)),
        said("tool", f"sun for {NAMED}", tool_call_id=f"call_{NAMED}"),
    ]
    written(workspace, [chat(*turns, answer=said("assistant", NAMED))])
    replace = {NAMED: "[name]", "Ada King": "[name]"}
    rows, report = made_of(workspace, NOT_FAILED, replace=replace)
    text = json.dumps(rows)
    assert (NAMED in text.replace(f"call_{NAMED}", ""), "noor@" in text) == (False, False)
    assert report.log.replaced == {NAMED: 5, "Ada King": 0}
    assert report.log.masked == {"email": 1}


def test_a_source_that_is_the_workspace_stays_as_it_was_confirmed(workspace):
    write(workspace / "a.jsonl", logged("openai_chat"))
    asked = LOGGED | {"source": ".", "keep": HELPFUL}
    launch, report = run_here(workspace, **asked)
    again, _ = planned_here(workspace, **asked | {"output_dir": "again"})
    assert again.plan["num_source"] == launch.plan["num_source"] == report.num_asked


# ---------------------------------------------------------------------------------------- signs


def test_a_condition_may_name_who_scored(workspace):
    observations, scores = logged("langfuse_observations"), logged("langfuse_scores")
    human = {**scores[1], "source": "ANNOTATION", "value": 0.95}
    written(workspace, [*observations, *scores, human])
    with pytest.raises(UnknownName, match="ANNOTATION"):
        plan_of(workspace, {"helpful [nobody]": ">=0.8"})
    rows, _ = made_of(workspace, {"helpful [ANNOTATION]": ">=0.8"})
    assert [row["messages"][0]["content"] for row in rows] == ["bad"]


def test_a_run_of_langsmith_that_is_pending_has_not_failed_and_models_are_named_anywhere(workspace):
    rows = logged("langsmith")
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
    rows = [
        {"type": "embedding", "request": {"input": "x"}, "response": {"data": []}},
        {"type": "moderation.v9", "request": {}, "response": {"flagged": False}},
        chat(said("user", "Oslo?"), answer=said("assistant", None, tool_calls=broken)),
    ]
    written(workspace, rows)
    plan = plan_of(workspace, NOT_FAILED)
    assert plan["log"]["skipped"] == {"openai_chat.embedding": 1, "openai_chat.moderation.v9": 1}
    assert plan["dropped"] == {"failed: broken_arguments": 1}


def test_without_a_condition_nothing_is_kept_and_the_signs_are_listed(workspace):
    written(workspace, [*logged("langfuse_observations"), *logged("langfuse_scores")])
    launch, _ = planned_here(workspace, **LOGGED)
    # The value of a category is an index, that of a text is 0: neither is listed.
    assert launch.plan["log"]["signs"] == {
        "helpful [EVAL]": "0.9 1, 0.1 1",
        "verdict [EVAL]": "good 1, so so 1",
    }
    assert launch.plan["dropped"] == {"undecided": 3, "failed: error": 1}
    assert launch.plan["num_made"] == {}
    assert launch.next_steps == []
    with pytest.raises(BadInput, match=r"options\.keep"):
        planned_here(workspace, **LOGGED, confirm="0" * 16)


def test_marks_from_elsewhere_are_signs_of_a_session(workspace):
    written(workspace, logged("claude_code"))
    (workspace / "marks.csv").write_text("session,outcome,tests\ncc,passed,12\nother,failed,0\n")
    _, report = made_of(workspace, {"outcome": "passed"}, marks="marks.csv")
    assert report.num_kept == 1
    origin = read(workspace / "made" / "origin.jsonl")[0]
    assert origin["signs"] == {"outcome": "passed", "tests": 12.0}


def test_a_score_of_an_earlier_call_counts_for_the_conversation_that_repeats_it(workspace):
    first, last, *_ = logged("openai_chat")
    written(workspace, [first | {"scores": {"helpful": 0.1}}, last])
    plan = plan_of(workspace)
    assert plan["dropped"] == {"condition_not_met": 1}
    assert plan["log"]["notes"] == {"contained_in_a_longer_one": 1}


def test_what_is_said_of_a_run_holds_for_the_calls_in_it(workspace):
    middle = {"id": "p", "run_type": "chain", "trace_id": "t9", "parent_run_id": "root"}
    root = {"id": "root", "run_type": "chain", "trace_id": "t9", "parent_run_id": None}
    error = {"error": "the tool crashed", "status": "error"}
    written(workspace, [*logged("langsmith"), middle, root | error])
    assert plan_of(workspace, NOT_FAILED)["dropped"] == {"failed: error": 4, "failed: length": 1}


def test_an_evaluation_in_a_span_of_its_own_is_about_the_call_that_it_stands_in(workspace):
    spans = logged("otel_genai")[0]["resourceSpans"][0]["scopeSpans"][0]["spans"]
    (unknown,) = (one for one in spans if one["spanId"] == "s4")
    judge = {"traceId": "t4", "spanId": "j", "parentSpanId": "s4", "name": "judge"}
    judge |= {"attributes": [], "events": spans[1]["events"]}
    written(workspace, [unknown, judge])
    assert made_of(workspace)[1].num_kept == 1


# ---------------------------------------------------------------------------------------- turns

LOOKED = said("assistant", "I look.", tool_calls=calls("Oslo"))
PARTS = [{"type": "text", "text": "I look."}, *use("Oslo")]
WITHOUT_ID = {"type": "function", "function": {"name": "weather", "arguments": {}}}
OF_LANGCHAIN = {"id": "call_Oslo", "name": "weather", "args": {"city": "Oslo"}}


@pytest.mark.parametrize(
    ("turns", "meant"),
    [
        (
            # LangChain has calls of Anthropic's models in the content and beside it.
            [
                said("ai", PARTS, tool_calls=[OF_LANGCHAIN]),
                said("tool", {"sun": 1}, tool_call_id="call_Oslo"),
            ],
            [LOOKED, said("tool", '{"sun": 1}', tool_call_id="call_Oslo")],
        ),
        (
            # Anthropic's user returns results, and says more behind them.
            [
                said("assistant", PARTS),
                said("user", [{"type": "text", "text": "And?"}, *used("Oslo")]),
            ],
            [LOOKED, result("Oslo"), said("user", "And?")],
        ),
        (
            # Without ids, results stand in the order of the calls.
            [
                said("assistant", None, tool_calls=[WITHOUT_ID, WITHOUT_ID]),
                *(said("tool", "one"), said("tool", "two")),
            ],
            [
                said("assistant", "", tool_calls=[WITHOUT_ID, WITHOUT_ID]),
                *(said("tool", "one"), said("tool", "two")),
            ],
        ),
    ],
)
def test_calls_and_results_are_read_in_every_spelling(workspace, turns, meant):
    asked, answer = said("user", "Oslo?"), said("assistant", "Sun.")
    written(workspace, [chat(asked, *turns, answer=answer)])
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
        "attributes.llm.input_messages": [{"message.role": "user", "message.content": "Do it"}],
        "attributes.llm.output_messages": [
            {"message.role": "assistant", "message.content": "I will"}
        ],
        # Deeper than Python calls itself.
        f"attributes.{'a.' * 1500}b": 1,
    }
    written(workspace, [row])
    assert made_of(workspace, NOT_FAILED)[0] == [{"messages": ANSWERED}]


def test_a_call_that_is_exported_twice_is_one_and_its_id_in_another_trace_another(workspace):
    def span(trace, asked):
        turns = [{"role": "user", "parts": [{"type": "text", "content": asked}]}]
        made = [{"role": "assistant", "parts": [{"type": "text", "content": f"I {asked}."}]}]
        messages = {"gen_ai.input.messages": turns, "gen_ai.output.messages": made}
        return {"trace_id": trace, "span_id": "1", "name": "chat", "attributes": messages}

    # The older form has each message in an event.
    events = [{"name": "gen_ai.user.message", "attributes": {"content": "stop"}}]
    events += [{"name": "gen_ai.choice", "attributes": {"message": said("assistant", "I stop.")}}]
    old = {"trace_id": "t3", "span_id": "1", "name": "chat", "attributes": {}, "events": events}
    written(workspace, [span("t1", "go"), span("t2", "wait"), old, span("t1", "go"), old])
    rows = [row["messages"] for row in made_of(workspace, NOT_FAILED)[0]]
    meant = [("go", "I go."), ("stop", "I stop."), ("wait", "I wait.")]
    assert sorted((asked["content"], told["content"]) for asked, told in rows) == meant


IMAGE = [{"type": "text", "text": "this?"}, {"type": "image_url", "image_url": {"url": "x"}}]
OPEN_CALL = [claude("user", 3, "?"), claude("assistant", 4, use("Oslo"))]


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([*ASKED_ONCE, *OPEN_CALL], "call_without_result"),
        (
            [chat(*ANSWERED, said("user", IMAGE), answer=said("assistant", "a cat"))],
            "what_is_no_text",
        ),
    ],
)
def test_a_conversation_ends_before_what_cannot_be_trained_on(workspace, rows, note):
    written(workspace, rows)
    rows, report = made_of(workspace, NOT_FAILED)
    assert rows == [{"messages": ANSWERED}]
    assert report.log.notes == {f"ends_before_{note}": 1}


def test_conversations_of_one_session_are_in_one_part(workspace):
    rows = [
        chat(
            said("user", f"{'Where' if half else 'When'} is the {number} train?"),
            answer=said("assistant", f"On {number}."),
        )
        | {"metadata": {"session_id": f"s{number}"}}
        for number in range(20)
        for half in range(2)
    ]
    written(workspace, rows)
    made_of(workspace, NOT_FAILED, validation_fraction=0.3)
    parts = [
        {row["messages"][1]["content"] for row in read(workspace / "made" / f"{name}.jsonl")}
        for name in ("train", "validation")
    ]
    assert parts[1]
    assert parts[0].isdisjoint(parts[1])


def test_a_file_of_no_known_format_is_counted_beside_logs_and_refused_alone(workspace):
    written(workspace, [{"id": 1, "satisfaction_rating": {"score": "good"}, "comments": []}], "b")
    with pytest.raises(BadInput, match="prepare_dataset"):
        plan_of(workspace, NOT_FAILED)
    written(workspace, logged("claude_code"))
    skipped = plan_of(workspace, NOT_FAILED)["log"]["skipped"]
    assert skipped["rows_of_no_known_format"] == 1
