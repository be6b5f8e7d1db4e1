"""The server may die; its runs do not (P7, with a real server, client and training run)."""

import os
import signal
import sys

import anyio
import psutil
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client

from ft_tools.runs.state.records import ENDED
from tests.tiny.trainings import conversations, write_jsonl

pytestmark = [pytest.mark.tiny, pytest.mark.anyio]


def server():
    return stdio_client(
        StdioServerParameters(
            command=sys.executable, args=["-m", "mcp_server"], env=dict(os.environ)
        )
    )


async def until(client, run_id, states, seconds=120):
    with anyio.fail_after(seconds):
        while True:
            arguments = {"run_id": run_id, "response_format": "detailed"}
            report = (await client.call_tool("get_run", arguments)).structured_content
            if report["state"] in states:
                return report
            await anyio.sleep(0.2)


async def test_a_run_goes_on_when_its_server_is_killed_and_a_new_one_reports_it(
    workspace, tiny_model_in
):
    write_jsonl(workspace / "train.jsonl", conversations(24))
    arguments = {
        "model": tiny_model_in,
        "dataset": "train.jsonl",
        "training": {"max_steps": 12, "per_device_train_batch_size": 2, "max_length": 64},
        "accept_findings": ["validation_unwatched"],
        "accept_reason": "a test",
        "request_id": "once",
    }
    killed = []
    try:
        async with Client(server()) as first:
            plan = (await first.call_tool("launch_sft", arguments)).structured_content
            confirmed = arguments | {"confirm": plan["plan_hash"]}
            started = (await first.call_tool("launch_sft", confirmed)).structured_content
            await until(first, started["run_id"], {"running"})
            for child in psutil.Process().children():
                if child.status() == psutil.STATUS_ZOMBIE:
                    continue  # left by an earlier test: it has no command line any more
                if "mcp_server" in child.cmdline():
                    os.killpg(child.pid, signal.SIGKILL)
                    killed.append(child.pid)
                    child.wait(10)  # the exit code may have gone to asyncio's own watcher
    except* (MCPError, OSError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        pass  # what the first client says when its server is gone
    assert len(killed) == 1
    assert not psutil.pid_exists(killed[0])
    async with Client(server()) as second:
        seen = (await second.call_tool("get_run", {"run_id": started["run_id"]})).structured_content
        assert seen["state"] in {"running", "succeeded"}
        again = (await second.call_tool("launch_sft", confirmed)).structured_content
        assert again["run_id"] == started["run_id"]
        done = await until(second, started["run_id"], ENDED)
    assert done["state"] == "succeeded"
    assert done["attempts"] == 1
