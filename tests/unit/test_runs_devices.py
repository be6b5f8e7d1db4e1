"""The line in front of a device: first come, first served, and the dead hold no place."""

import os

from ft_tools.runs import locks
from ft_tools.runs.devices import Line


def test_who_came_earlier_gets_the_slot_first(tmp_path):
    first, second = Line(tmp_path, "cuda:0", "1-a"), Line(tmp_path, "cuda:0", "2-b")
    assert second.take_slot() is None
    held = first.take_slot()
    assert held is not None
    first.leave()
    assert second.take_slot() is None
    os.close(held)
    last = second.take_slot()
    assert last is not None
    second.leave()
    os.close(last)
    assert os.listdir(tmp_path) == ["cuda-0.lock"]


def test_the_place_of_a_dead_run_is_cleared(tmp_path):
    os.close(locks.take(tmp_path / "cpu.1-dead.place"))
    line = Line(tmp_path, "cpu", "2-alive")
    held = line.take_slot()
    assert held is not None
    assert not (tmp_path / "cpu.1-dead.place").exists()
    line.leave()
    os.close(held)


def test_devices_have_lines_of_their_own(tmp_path):
    lines = [Line(tmp_path, device, "1-a") for device in ("cpu", "cuda:0", "cuda:1")]
    held = [line.take_slot() for line in lines]
    assert None not in held
    for line, lock in zip(lines, held, strict=True):
        line.leave()
        os.close(lock)
