"""Memory on a Mac: which Macs are known, what MLX needs, and how far off that is."""

import pytest

from benchmarks import apple as benchmark
from ft_tools import facts
from ft_tools.errors import BadInput, UnknownName
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram

GIB = 2**30


def estimate(gpu="M4 Max 64GB", **changed):
    asked = {"model": "Qwen/Qwen3-8B", "method": "qlora", "seq_len": 2048, "gpu": gpu}
    return estimate_vram(VramRequest.model_validate(asked | changed))


@pytest.mark.parametrize(
    ("said", "memory", "usable"),
    [("M4 Max 64GB", 64, 48.0), ("Apple M1 16 GB", 16, 10.67), ("m3-ultra 512gb", 512, 384.0)],
)
def test_a_mac_is_known_by_its_chip_and_memory(said, memory, usable):
    mac = facts.gpu(said)
    assert (mac.memory_gib, mac.usable_gib, mac.is_apple) == (memory, usable, True)


@pytest.mark.parametrize("said", ["MacBook Pro 16", "mac"])
def test_a_mac_without_its_chip_is_asked_for_chip_and_memory(said):
    with pytest.raises(UnknownName, match=r"named by its chip and memory .*'M4 Max 64GB'$"):
        facts.gpu(said)


def test_an_estimate_for_a_mac_is_in_its_shared_memory_and_says_that_it_was_never_run_there():
    report = estimate()
    assert (report.usable_gib, report.fits) == (48.0, "yes")
    # 4 bits and two 16-bit numbers for 64 weights, of all 8.19 billion.
    assert report.components["base_weights"] == pytest.approx(8.1907e9 * 0.5625 / GIB, rel=1e-3)
    assert any("never run on a Mac" in line for line in report.assumptions)
    assert report.interval_basis == "measured_family"
    assert report.max_micro_batch > 1
    # The control: the same run on a GPU keeps embedding and head in 16 bits.
    card = estimate("A100-80GB")
    assert card.components["base_weights"] != report.components["base_weights"]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"method": "full"}, "MLX trains adapters only"),
        ({"num_gpus": 2, "sharding": "ddp"}, "a run uses one Mac"),
        ({"model": "MiniMaxAI/MiniMax-M2"}, "quantized already"),
    ],
)
def test_what_is_not_trained_on_a_mac_is_refused(changed, told):
    with pytest.raises(BadInput, match=told):
        estimate(**changed)


def test_published_peaks_and_our_own_steps_are_within_15_percent_on_average():
    held_out = [row for row in benchmark.published() if not row["fitted"]]
    found = benchmark.summary(held_out)
    assert (found["rows"], found["mean_error"] < 0.15) == (5, True)
    assert abs(found["worst"]) < facts.number("vram.interval_apple")
    own = benchmark.summary(benchmark.own(benchmark.stored()["own_rows"]))
    assert own["rows"] >= 20
    assert max(own["mean_error"], abs(own["bias"])) < 0.15
