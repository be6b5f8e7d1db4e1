"""How a server starts, says what it serves, and ends; how a call is watched and stopped."""

import json
import signal
import socket
import threading
import time

import anyio
import pytest
from mcp import Client

from ft_tools import abandoned_calls
from ft_tools.errors import Abandoned
from ft_tools.tools import TOOLS
from mcp_server import calls
from mcp_server.server import server
from tests.protocol.serving import END_SECONDS, refused, serving

BIG_ROWS = 14_000
HELLO = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "t", "version": "1"},
}


def big_dataset(folder):
    """Write a file just small enough to be audited at once, which takes seconds."""
    with (folder / "big.jsonl").open("w", encoding="utf-8") as file:
        for i in range(BIG_ROWS):
            words = " ".join(str(i * step % 9973) for step in range(3, 50))
            row = {
                "prompt": f"Question {i}: {words}",
                "completion": f"Answer {i * 7 % 991}: {words}",
            }
            file.write(json.dumps(row) + "\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
@pytest.mark.parametrize("works", [False, True], ids=["idle", "in a call"])
def test_a_signal_ends_the_stdio_server_at_once_and_without_a_traceback(
    workspace, number, code, works
):
    big_dataset(workspace)
    call = {"name": "audit_dataset", "arguments": {"path": "big.jsonl"}}
    with serving() as served:
        assert f"{len(TOOLS)} tools over stdio" in served.greeting
        assert str(workspace) in served.greeting
        if works:
            for message in (
                {"id": 0, "method": "initialize", "params": HELLO},
                {"method": "notifications/initialized"},
                {"id": 1, "method": "tools/call", "params": call},
            ):
                served.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
                served.process.stdin.flush()
            served.process.stdout.readline()
            before, deadline = served.cpu_seconds(), time.monotonic() + 30
            while served.cpu_seconds() < before + 0.3 and time.monotonic() < deadline:
                time.sleep(0.02)
        ended, seconds, said = served.stop(number)
    assert (ended, said) == (code, "")
    assert seconds < 2


DEEP = '{"a":' * 3000 + "1" + "}" * 3000
CALL = '{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"x","arguments":%s}}'
BAD_LINES = [
    # what is sent, code, id
    (CALL % (1, '{"path":"\\ud83d.jsonl"}'), -32700, 1),
    (CALL % ('"two"', DEEP), -32700, None),
    ('{"jsonrpc":"2.0","method":"x","params":{"id":9,"a":["id"', -32700, None),
    ("garbage", -32700, None),
    ("[" * 500, -32700, None),
    ("[]", -32600, None),
    ("42", -32600, None),
    ("{}", -32600, None),
    (f"[{CALL % (4, '{}')}]", -32600, None),
    ('{"jsonrpc":"1.0","id":77,"method":"tools/list"}', -32600, 77),
    ('{"jsonrpc":"2.0","id":80,"method":"tools/call","params":[]}', -32600, 80),
]


def test_a_line_that_is_no_message_is_answered_with_its_id(workspace):
    with serving() as served:

        def ask(line):
            served.process.stdin.write(line + "\n")
            served.process.stdin.flush()
            return json.loads(served.process.stdout.readline())

        # A blank line is none; what is asked afterwards is answered as ever.
        served.process.stdin.write("\n")
        answers = [ask(line) for line, _, _ in BAD_LINES]
        greeted = ask(
            json.dumps({"jsonrpc": "2.0", "id": 5, "method": "initialize", "params": HELLO})
        )
        again = ask(BAD_LINES[0][0])
    assert [(each["error"]["code"], each["id"]) for each in answers] == [
        (code, named) for _, code, named in BAD_LINES
    ]
    assert "lone surrogate" in answers[0]["error"]["message"]
    assert greeted["id"] == 5
    assert "result" in greeted
    assert again["error"]["code"] == -32700


@pytest.mark.parametrize("closes", ["stdin", "stdout"])
def test_a_client_that_goes_away_ends_the_server_quietly(workspace, closes):
    with serving() as served:
        getattr(served.process, closes).close()
        if closes == "stdout":
            hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
            served.process.stdin.write(json.dumps(hello) + "\n")
            served.process.stdin.flush()
        assert served.process.wait(END_SECONDS) == 0
        assert served.process.stderr.read() == ""


@pytest.mark.parametrize("options", [(), ("--http", "--port", "0")])
def test_a_workspace_that_is_gone_is_said_instead_of_served(tmp_path, options):
    code, said = refused(*options, FINE_TUNING_LLM_WORKSPACE=str(tmp_path / "gone"))
    assert code == 6
    assert f"{tmp_path / 'gone'} does not exist; create it" in said
    assert "Traceback" not in said


def test_a_busy_port_has_an_exit_code_of_its_own(workspace):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = refused("--http", "--port", str(taken.getsockname()[1]))
    assert code == 69
    assert "--port 0" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("token", ["", "short"])
def test_an_address_for_everybody_needs_a_token(workspace, token):
    options = ("--http", "--host", "0.0.0.0", "--port", "0")
    code, said = refused(*options, FINE_TUNING_LLM_HTTP_TOKEN=token)
    assert code == 2
    assert "FINE_TUNING_LLM_HTTP_TOKEN" in said


def test_a_process_that_nobody_waits_for_is_killed():
    call = abandoned_calls.Call()
    threading.Timer(0.2, call.abandon).start()
    started = time.monotonic()
    with abandoned_calls.waiting(call), pytest.raises(Abandoned):
        abandoned_calls.run_process(["sleep", "300"], timeout=200)
    # Unkilled, it would be waited for.
    assert time.monotonic() - started < 100


@pytest.fixture
def endless(monkeypatch):
    """Make get_run a tool that works until nobody waits; give the event of its end."""
    ended = threading.Event()

    def work(_):
        try:
            while True:
                abandoned_calls.doing("counting sheep")
                time.sleep(0.01)
        finally:
            ended.set()

    monkeypatch.setattr("ft_tools.runs.tool.get_run", work)
    return ended


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_stops_its_work(workspace, endless, mode):
    async with Client(server, mode=mode) as client:
        with anyio.move_on_after(0.3) as limit:
            await client.call_tool("get_run", {})
        assert limit.cancelled_caught
        assert await anyio.to_thread.run_sync(endless.wait, 2.0)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_long_call_reports_progress_and_what_it_does(workspace, endless, monkeypatch, mode):
    monkeypatch.setattr(calls, "PROGRESS_SECONDS", 0.05)
    told = []

    async def tell(progress, total, message):
        told.append((progress, message))

    async with Client(server, mode=mode) as client:
        with anyio.move_on_after(1.0):
            await client.call_tool("get_run", {}, progress_callback=tell)
    assert len(told) >= 3
    assert [progress for progress, _ in told] == sorted({progress for progress, _ in told})
    assert told[-1][1].endswith("counting sheep")
