"""Models of the Hub through a server process and the command line, against a Hub on loopback."""

import json
import os
import subprocess
import sys

import pytest
from mcp import Client, StdioServerParameters

from tests.hub import serving


@pytest.fixture
def environment(workspace):
    """Give a Hub on loopback, and the environment of a process that asks it."""
    with serving() as hub:
        ours = {k: v for k, v in os.environ.items() if k not in {"HF_HUB_OFFLINE", "HF_TOKEN"}}
        ours |= {"HF_ENDPOINT": hub.url, "NO_PROXY": "127.0.0.1"}
        ours |= {"FINE_TUNING_LLM_CACHE": str(workspace / "cache"), "HF_HOME": str(workspace)}
        yield hub, ours


def estimate(model, environment):
    command = [sys.executable, "-m", "ft_tools", "estimate-vram", "--model", model]
    return subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True, env=environment, timeout=120
    )


def test_a_model_of_the_hub_is_estimated_at_the_command_line(environment):
    hub, ours = environment
    done = estimate("someone/new-model", ours)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["total_params"] > 0
    assert "/someone/new-model/resolve/main/config.json" in hub.asked


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "cure"),
    [("gated", "accept its licence"), ("limited", "in 30 seconds")],
)
async def test_a_server_says_how_to_cure_a_refusal(environment, name, cure):
    _, ours = environment
    server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_server"], env=ours)
    async with Client(server) as client:
        result = await client.call_tool("estimate_vram", {"model": f"someone/{name}"})
    assert result.is_error
    assert cure in result.content[0].text
