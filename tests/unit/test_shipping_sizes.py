"""Disk and memory of shipping, where the base is here and where it is only a name of the Hub."""

import json
from pathlib import Path

import pytest

from ft_tools.errors import DiskFull, Refused
from ft_tools.models.machine import Machine
from ft_tools.models.resolve import ModelSource
from ft_tools.models.size import size_of
from ft_tools.shipping import estimates, formats, tool
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.plan import formats_asked, plan_of
from ft_tools.shipping.request import ShipRequest
from tests.unit.test_shipping import make_adapter

GIB = 2**30
ROOT = Path(__file__).parents[2]
MODELS = {
    "8B": "meta-llama/Llama-3.1-8B",
    "70B": "meta-llama/Llama-3.1-70B",
    "30B-A3B": "Qwen/Qwen3-30B-A3B",
}


def sized(name):
    return size_of(ModelSource(name=MODELS[name], kind="hub"))


def test_a_hub_base_that_is_not_here_is_counted_like_one_that_is(workspace, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(workspace / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def planned(name, quantized):
        make_adapter(workspace / name, hidden=4096, base=MODELS[name])
        request = ShipRequest(source=name, formats=[quantized])
        return plan_of(request, formats_asked(request))

    plan = planned("70B", "gguf:Q4_K_M")
    assert plan.num_params == 70_553_706_496
    # Downloaded, merged and converted, 141.1 GB each, and 43.2 GB of Q4_K_M.
    assert 465e9 < plan.disk_bytes < 475e9
    assert sum(plan.bytes_by_folder.values()) == plan.disk_bytes
    # Logits of 1,024 tokens are kept three times, in float32: 1.6 GB of a vocabulary of 128,256.
    assert planned("8B", "gguf:Q8_0").disk_bytes < 3 * 16.1e9 + 1.1 * 8.6e9 + 1.6e9 + 1e8
    with pytest.raises(DiskFull, match=r"needs \d+"):
        tool.merge_and_quantize(ShipRequest(source="70B", formats=["safetensors"]))


def test_a_model_too_large_to_run_is_shipped_without_being_run():
    machine = Machine((), 24 * GIB)
    assert estimates.placement_of(sized("70B"), machine, None) is None
    assert estimates.ram_bytes(sized("70B"), None) < 16 * GIB
    small = estimates.placement_of(sized("8B"), machine, None)
    assert (small.device, small.dtype) == ("cpu", "bfloat16")


def test_fp8_of_fused_experts_is_refused_and_of_a_dense_model_is_planned_as_it_will_be():
    machine = Machine((), 256 * GIB)
    with pytest.raises(Refused, match=r"would take 5\d\.\d GiB"):
        estimates.require_possible([formats.find("fp8")], sized("30B-A3B"), machine, None)
    estimates.require_possible([formats.find("gguf:Q4_K_M")], sized("30B-A3B"), machine, None)
    planned = estimates.format_bytes(formats.find("gptq:4"), sized("8B")) / GIB
    # 6.98 B parameters at 4.125 bits, 1.05 B in embeddings and output layer at 16.
    assert planned == pytest.approx(5.31, abs=0.02)


ADAPTER = AdapterFacts(
    path="a", sha256="0", rank=8, num_modules=1, variant="lora", route="whole", bytes=1,
    why_whole="it has more tokens than the base",
)  # fmt: skip
BY_SHARDS = ADAPTER.model_copy(update={"route": "shards"})


@pytest.mark.parametrize(
    ("model", "name", "ram", "adapter", "fits"),
    [
        # A merge in memory needs the whole model, and so does every format of it.
        ("8B", "gguf:Q4_K_M", 6, ADAPTER, False),
        ("8B", "gguf:Q4_K_M", 6, BY_SHARDS, True),
        ("8B", "mlx:4bit", 6, BY_SHARDS, False),
        # 8.03 B parameters in 16 bits, and a margin.
        ("8B", "gptq:4", 12, None, False),
        ("8B", "gptq:4", 24, None, True),
        # 1,050,673,152 parameters of the largest layer x 8 bytes are 7.8 GiB, 1 GiB the process.
        ("70B", "gguf:Q4_K_M", 8, None, False),
        ("70B", "gguf:Q4_K_M", 9, None, True),
    ],
)
def test_what_does_not_fit_this_machine_is_refused_in_the_plan(model, name, ram, adapter, fits):
    machine = Machine((), ram * GIB)
    rows = [formats.find("safetensors"), formats.find(name)]
    if fits:
        estimates.require_possible(rows, sized(model), machine, adapter)
    else:
        with pytest.raises(Refused, match="GiB"):
            estimates.require_possible(rows, sized(model), machine, adapter)


def test_the_memory_that_shipping_3b_took_in_a_group_of_6_gib_is_what_is_planned():
    measured = json.loads((ROOT / "benchmarks" / "small_memory.json").read_bytes())
    assert measured["killed_for_memory"] == 0
    size = size_of(ModelSource(name="meta-llama/Llama-3.2-3B", kind="hub"))
    assert measured["params"] == size.num_params
    planned = estimates.ram_bytes(size, None, [formats.find("gguf:Q4_K_M")]) / GIB
    assert 0.7 * planned < measured["peak_gib"] < planned < measured["limit_gib"]
