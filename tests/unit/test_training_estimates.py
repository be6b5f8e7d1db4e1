"""How long runs take and how much disk: by card, number of processes, and way of sharing."""

import pytest

from ft_tools.runs.hardware import Device
from ft_tools.training.estimates import Work, disk_bytes, duration


def work(model="NVIDIA A100-SXM4-80GB", processes=1):
    card = Device(name="cuda", model=model, memory_gib=80.0, precision="bfloat16")
    return Work("sft", "lora", 8_000_000_000, "", card, processes)


def test_eight_processes_take_an_eighth_of_the_time_or_a_little_more(workspace):
    one, eight = duration(work(), 10**8, 2.0), duration(work(processes=8), 10**8, 2.0)
    assert eight.low_seconds == pytest.approx(one.low_seconds / 8, rel=0.05)
    assert one.high_seconds / 8 < eight.high_seconds < one.high_seconds / 5


@pytest.mark.parametrize(
    ("card", "slower"), [("Tesla T4", 312 / 65), ("V100-SXM2-32GB", 312 / 125)]
)
def test_cards_without_bfloat16_have_a_duration_from_their_rate_of_float16(workspace, card, slower):
    known, fast = duration(work(card), 10**8, None), duration(work(), 10**8, None)
    assert known.low_seconds == pytest.approx(slower * fast.low_seconds, rel=0.05)
    # The control: a card that no table lists has none.
    assert duration(work("NVIDIA Unheard-of 9000"), 10**8, None) is None


def test_a_sharded_run_writes_more_to_the_disk():
    alone = disk_bytes(10**9)
    assert disk_bytes(10**9, "fsdp") - alone == 4 * 4 * 10**9
    assert disk_bytes(10**9, "zero3") - alone == 4 * 6 * 10**9
    assert disk_bytes(None, "zero3") == disk_bytes(None)
