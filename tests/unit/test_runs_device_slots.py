"""The line in front of the devices: first come, first served, and the dead hold no place."""

import os

from ft_tools.runs.hardware.device_slots import Line


def released(taken):
    for lock in taken.values():
        os.close(lock)


def test_a_run_of_two_processes_takes_two_cards_or_none(tmp_path):
    cards = ["GPU-1", "GPU-2"]
    single = Line(tmp_path, cards, 1, "1-a")
    one = single.take_slots()
    single.leave()
    both = Line(tmp_path, cards, 2, "2-b")
    assert both.take_slots() is None
    # A later one does not overtake: a run of several cards would wait for ever.
    later = Line(tmp_path, cards, 1, "3-c")
    assert later.take_slots() is None
    released(one)
    two = both.take_slots()
    assert sorted(two) == cards
    both.leave()
    later.leave()
    released(two)


def test_who_waits_for_one_card_does_not_keep_others_from_another(tmp_path):
    first = Line(tmp_path, ["GPU-1"], 1, "1-a")
    held = first.take_slots()
    first.leave()
    pinned = Line(tmp_path, ["GPU-1"], 1, "2-b")
    assert pinned.take_slots() is None
    any_card = Line(tmp_path, ["GPU-1", "GPU-2"], 1, "3-c")
    taken = any_card.take_slots()
    assert list(taken) == ["GPU-2"]
    for line in (pinned, any_card):
        line.leave()
    released(held)
    released(taken)
