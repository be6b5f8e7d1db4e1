"""The commands that follow a run, or become a server: nothing is lost, and nothing else runs."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from subprocess import PIPE

import pytest

from ft_tools.cli import main as cli
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.records import RunError, Status
from tests.made_runs import made_run

RUN_ID = "sft-0123456789abcdef"
COMMAND = [sys.executable, "-P", "-m", "ft_tools"]


@pytest.fixture
def living(workspace):
    """Give the directory of a run that runs, and the lock that says so."""
    run_dir = made_run(RUN_ID, Status(state="running", phase="training"))
    return run_dir, locks.take(run_dir / locks.OWNER)


@contextlib.contextmanager
def started(*argv, **how):
    """Start a command, and end it after a while if what is waited for does not come."""
    # Pipes are buffered, whatever the shell of these tests says.
    around = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with subprocess.Popen([*COMMAND, *argv], text=True, env=around, **how) as process:
        bound = threading.Timer(120, process.kill)
        bound.start()
        yield process
    bound.cancel()


def end(run_dir, lock):
    directory.write_status(run_dir, Status(state="succeeded"))
    os.close(lock)


def test_a_follower_of_a_log_reads_each_line_once_and_the_last_words(living):
    run_dir, lock = living
    lines = [f"line {number}" for number in range(1000)]
    # Far more than a look shows, a look's worth of lines with blank ones, and a torn one.
    text = "\n".join(lines) + "".join(f"\n\n{line}" for line in lines[:100]) + "\nlast words"
    (run_dir / "log.txt").write_text("before\nalso before\n")
    with started("logs", RUN_ID, "--lines", "1", "--follow", stdout=PIPE) as reader:
        assert reader.stdout.readline() == "also before\n"
        with (run_dir / "log.txt").open("a") as log:
            log.write(text)
        assert reader.stdout.readline() == "line 0\n"
        with (run_dir / "log.txt").open("a") as log:
            log.write(" without an end")
        end(run_dir, lock)
        shown = reader.stdout.read().splitlines()
    assert shown == [*lines[1:], *lines[:100], "last words without an end"]


def test_whoever_stops_waiting_is_told_that_the_run_goes_on_and_how_it_is_ended(living):
    run_dir, lock = living
    with started("wait", RUN_ID, stderr=PIPE) as waiting:
        assert "training" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=120) == 130
        said = waiting.stderr.read()
    assert said == f"{RUN_ID} is still running; stop it with `fine-tuning-llm cancel {RUN_ID}`\n"
    end(run_dir, lock)


def test_whoever_waits_for_a_queued_run_reads_what_it_waits_for(living):
    run_dir, lock = living
    directory.write_status(run_dir, Status(state="queued"))
    directory.add_event(run_dir, "waiting: other runs use cpu", "info")
    with started("wait", RUN_ID, stderr=PIPE) as waiting:
        assert waiting.stderr.readline() == f"{RUN_ID} queued waiting: other runs use cpu\n"
        end(run_dir, lock)


def test_whoever_waits_is_told_why_a_run_failed_and_what_comes_next(living, capsys):
    run_dir, lock = living
    error = RunError(code="disk_full", message="no space left", hint="free some")
    failed = Status(state="failed", phase="training", error=error)
    directory.write_status(run_dir, failed)
    os.close(lock)
    assert cli.run(["wait", RUN_ID]) == 5
    said = capsys.readouterr()
    assert f"{RUN_ID} failed: no space left; free some\n" in said.err
    assert f"next: fine-tuning-llm resume-run --run-id {RUN_ID}  # " in said.err
    assert said.out == ""
    directory.write_status(run_dir, Status(state="succeeded"))
    assert cli.run(["wait", RUN_ID]) == 0
    first, second = capsys.readouterr().err.splitlines()[-2:]
    assert first == f"next: fine-tuning-llm get-run --run-id {RUN_ID}  # shows its result"
    assert second.startswith(f"next: fine-tuning-llm evaluate --model {RUN_ID}  # ")


def test_a_server_takes_no_module_out_of_the_folder_it_is_started_in(workspace):
    # A name that the server imports; a user's own file of that name is not its code.
    (workspace / "anyio.py").write_text("raise SystemExit('not ours')")
    asked = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    with started("serve", cwd=workspace, stdin=PIPE, stdout=PIPE) as server:
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        server.stdin.close()
    assert json.loads(answer)["result"]["serverInfo"]["name"] == "fine-tuning-llm"
