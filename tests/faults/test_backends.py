"""The same weights through transformers, a GGUF file and a real server."""

import importlib.util

import pytest

from benchmarks import backends
from benchmarks.endpoints import MODULES
from tests.tiny.measuring_gguf import require_converter, require_smollm2

pytestmark = pytest.mark.faults
COUNT = 20


@pytest.fixture
def ready(workspace):
    missing = [m for m in MODULES["llama_cpp.server"] if importlib.util.find_spec(m) is None]
    if missing:
        pytest.skip(f"llama_cpp.server is not installed: {', '.join(missing)}")
    require_converter()
    require_smollm2(workspace)
    return workspace


def test_the_same_weights_write_the_same_texts_in_three_ways(ready):
    found = backends.measure_texts(ready, COUNT)
    assert found["different_texts"] == COUNT
    for pair in ("gguf_and_transformers", "server_and_transformers", "server_and_gguf"):
        assert found[pair]["same_fraction"] >= 0.95
        assert found[pair]["every_difference_is_a_near_tie"]


def test_prompts_that_try_to_leave_a_schema_get_valid_json_in_three_ways(ready):
    found = backends.measure_schema(ready, COUNT)
    assert found["valid"] == dict.fromkeys(backends.SIDES, COUNT)
