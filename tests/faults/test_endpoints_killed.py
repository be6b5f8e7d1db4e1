"""Real OpenAI-compatible servers that are killed and refuse while an evaluation asks them."""

import importlib.util

import pytest

from benchmarks import endpoints
from ft_tools.models import demo
from tests.tiny.measuring_gguf import require_smollm2

pytestmark = pytest.mark.faults
COUNT = 40


@pytest.mark.parametrize("server", endpoints.MODULES)
def test_a_killed_server_gives_the_same_answers_and_is_asked_nothing_twice(
    server, workspace, monkeypatch
):
    missing = [m for m in endpoints.MODULES[server] if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"{server} is not installed: {', '.join(missing)}")
    require_smollm2(workspace)
    assert demo.is_ready()
    monkeypatch.setenv(endpoints.KEY, endpoints.CANARY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    endpoints.write_questions(workspace, COUNT)
    found = endpoints.measure(server, workspace, COUNT)
    assert found["state"] == "succeeded"
    assert found["same_answers"] == COUNT
    assert found["server_kills"] == 1
    assert found["asked_again_after_delivery"] == 0
    assert found["requests"] <= found["calls_in_ledger"] <= 2 * COUNT
    tight = found.get("tight_budget", {"requests": 0, "calls_in_ledger": 0})
    assert tight["requests"] <= tight["calls_in_ledger"] <= COUNT
    assert endpoints.files_with_the_key(workspace) == []
