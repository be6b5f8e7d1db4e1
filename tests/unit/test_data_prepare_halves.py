"""prepare_dataset writes many rows in two processes, and the same files as in one."""

import multiprocessing
import os
import struct

import pytest

from ft_tools.data.prepare import write_files
from tests.unit.test_data_prepare import confirmed, tickets, write_csv


def written(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.jsonl")}


def test_two_processes_write_what_one_writes(workspace, monkeypatch):
    rows = tickets(40)
    for at in (5, 35):
        rows[at]["team"] = ""
        rows[at - 1]["body"] += f" Write to ada.king{at}@mail.internal"
    write_csv(workspace / "t.csv", rows)
    one = confirmed(path="t.csv")
    (workspace / "out").rename(workspace / "first")
    # The rows of the first test part would be known as such.
    for file in (workspace / ".fine-tuning-llm" / "test-rows").iterdir():
        file.unlink()
    monkeypatch.setattr(write_files, "HALVED_ROWS", 10)
    monkeypatch.setattr(write_files.os, "cpu_count", lambda: 2)
    heard, answers = write_files._answer, []
    monkeypatch.setattr(
        write_files, "_answer", lambda told: answers.append(heard(told)) or answers[-1]
    )
    two = confirmed(path="t.csv")
    assert answers[0].masked == {"email": 1}
    assert one.masked == two.masked == {"email": 2}
    assert written(workspace / "out") == written(workspace / "first")
    assert not list((workspace / "out").glob(".later*"))


def test_the_first_process_writes_the_rows_of_a_second_one_that_ended(workspace, monkeypatch):
    write_csv(workspace / "t.csv", tickets(40))
    one = confirmed(path="t.csv")
    (workspace / "out").rename(workspace / "first")
    for file in (workspace / ".fine-tuning-llm" / "test-rows").iterdir():
        file.unlink()
    monkeypatch.setattr(write_files, "HALVED_ROWS", 10)
    monkeypatch.setattr(write_files.os, "cpu_count", lambda: 2)
    # The new process cannot be made: it ends before it says anything.
    monkeypatch.setattr(write_files, "_write_later", pytest.fail)
    two = confirmed(path="t.csv")
    assert two.counts == one.counts
    assert written(workspace / "out") == written(workspace / "first")


@pytest.mark.parametrize("said", [b"", struct.pack("!i", 1000) + b"half of it"])
def test_a_process_that_ended_before_or_within_its_answer_gave_none(said):
    answer, told = multiprocessing.get_context("spawn").Pipe(duplex=False)
    os.write(told.fileno(), said)
    told.close()
    assert write_files._answer(answer) is None
