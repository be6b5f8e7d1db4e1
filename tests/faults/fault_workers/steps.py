"""A real worker that is cheap: it runs the plan's moves, over the real session.

`python -m fault_workers.steps RUN_DIR`. It is started by the real supervisor, so what the tests see
is what a training run does. Moves are the plan's `moves`, one after another.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel

from ft_tools.publish import new_folder
from ft_tools.runs.processes.worker_session import Again, Session, Stopped, main
from ft_tools.runs.state import directory
from ft_tools.training.pace import Patience

STEP_SECONDS = 0.02
SHOWN = {name: value for name, value in os.environ.items() if "VISIBLE" in name or "ALLOC" in name}


class Moves(BaseModel):
    moves: list[str]


class Done(BaseModel):
    attempt: int


def work(session: Session) -> BaseModel:
    plan = session.plan(Moves)
    _sign_in(session.run_dir)
    for move in plan.moves:
        name, _, value = move.partition(":")
        MOVES[name](session, value)
    return Done(attempt=session.attempt)


def _sign_in(run_dir: Path) -> None:
    """Leave a line a start; two without an end between them would be two writers."""
    file = os.open(run_dir / "starts.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{os.getpid()}\n".encode())
    os.close(file)


def steps(session: Session, value: str) -> None:
    """Make polite steps: stop when asked."""
    session.phase("steps")
    for step in range(1, int(value) + 1):
        time.sleep(STEP_SECONDS)
        session.progress(step, int(value))
        session.metrics({"step": step, "loss": 1.0 / step})
        if session.should_stop:
            with new_folder(
                session.run_dir / "checkpoints" / f"step-{step}-of-{session.attempt}"
            ) as staging:
                (staging / "weights").write_bytes(b"w" * 1000)
            raise Stopped


def until_told(session: Session, value: str) -> None:
    """Make polite steps without an end."""
    steps(session, "1000000")


def short_of_memory(session: Session, value: str) -> None:
    """Run out of memory in one rank, while the others wait for it as in a step."""
    session.phase("short_of_memory")
    if os.environ.get("RANK") == value:
        # The one that writes has to be there: its end is what is looked at.
        while directory.read_status(session.run_dir).phase != "short_of_memory":
            time.sleep(STEP_SECONDS)
        raise MemoryError
    while not session.terminated:
        time.sleep(STEP_SECONDS)
    raise ConnectionError("the other rank is gone")


def again(session: Session, value: str) -> None:
    """Ask for a fresh process, once."""
    if len((session.run_dir / "starts.log").read_text().split()) > 1:
        return
    session.phase("again")
    session.ask_again("memory ran out: continuing with less")
    raise Again


def again_when_cancelled(session: Session, value: str) -> None:
    """Ask for a fresh process once a cancel has come."""
    session.phase("again_when_cancelled")
    while not session.is_asked:
        time.sleep(STEP_SECONDS)
    session.ask_again("memory ran out: continuing with less")
    raise Again


def sees(session: Session, value: str) -> None:
    """Write down which GPUs this process was shown when it began."""
    (session.run_dir / "sees.json").write_text(json.dumps(SHOWN), "utf-8")


def deaf(session: Session, value: str) -> None:
    """Never look whether to stop; a TERM ends it, as it ends a library without a handler."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    session.phase("deaf")
    time.sleep(600)


def stubborn(session: Session, value: str) -> None:
    """Ignore asking and TERM alike."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    session.phase("stubborn")
    while True:
        time.sleep(1)


def family(session: Session, value: str) -> None:
    """Start a child, one in a session of its own, a forked grandchild, a fork of this process, and
    an orphan that has neither the session nor the environment; leave all their pids."""
    python = [sys.executable, "-I", "-S", "-c"]
    nap = "import time; time.sleep(600)"
    nested = "import os, time; print(os.fork() or os.getpid(), flush=True); time.sleep(600)"
    orphan = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-I', '-S', '-c', "
        f"{nap!r}], env={{}}, start_new_session=True, stdout=subprocess.DEVNULL).pid)"
    )
    parent = subprocess.Popen([*python, nested], stdout=subprocess.PIPE)
    pids = [
        subprocess.Popen([*python, nap]).pid,
        subprocess.Popen([*python, nap], start_new_session=True).pid,
        parent.pid,
        *(int(parent.stdout.readline()) for _ in range(2)),
        int(subprocess.run([*python, orphan], check=True, stdout=subprocess.PIPE).stdout),
    ]
    forked = os.fork()
    if forked == 0:
        time.sleep(600)
        os._exit(0)
    pids.append(forked)
    (session.run_dir / "pids").write_text(" ".join(map(str, sorted(set(pids)))), "utf-8")


def publish(session: Session, value: str) -> None:
    """Publish an artifact of some files."""
    session.phase("publish")
    with new_folder(session.run_dir / "artifacts" / "adapter") as staging:
        for number in range(3):
            (staging / f"part-{number}").write_bytes(os.urandom(1000))
    session.artifact("adapter", session.run_dir / "artifacts" / "adapter")


def held_then_die(session: Session, value: str) -> None:
    """Wait for the sign of this attempt, then end by KILL."""
    while not (session.run_dir / f"end-{session.attempt}").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)


def fill_memory(session: Session, value: str) -> None:
    """Take memory until the kernel objects; an attempt after that has learnt."""
    if session.status.ended_before == "out_of_memory":
        return
    session.update(if_out_of_memory="resume_run goes on with less")
    held = []
    while True:
        held.append(bytearray(os.urandom(2**20)) * 8)


def dead_loop(session: Session, value: str) -> None:
    """Make some steps, then spin without another word."""
    quick_steps(session)
    while True:
        pass


def deadlock(session: Session, value: str) -> None:
    """Make some steps, then wait for a child that waits for this process."""
    quick_steps(session)
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def quick_steps(session: Session) -> None:
    """Make steps as a training does, and say what silence is too long."""
    patience = Patience()
    session.phase("steps")
    for step in range(1, 40):
        time.sleep(STEP_SECONDS)
        patience.step_took(STEP_SECONDS)
        session.heartbeat(patience.for_a_step())
        session.progress(step, 1000)
    session.update()


def many_files(session: Session, value: str) -> None:
    """Open more files than a process may."""
    held = []
    while True:
        held.append(session.run_dir.joinpath("run.json").open("rb"))


def fill_disk(session: Session, value: str) -> None:
    """Write until the disk is full, once."""
    if session.attempt > 1:
        return
    with (
        new_folder(session.run_dir / "artifacts" / "big") as staging,
        (staging / "f").open("wb") as out,
    ):
        while True:
            out.write(b"x" * 65536)
            out.flush()


MOVES = {
    move.__name__: move
    for move in (
        *(steps, until_told, short_of_memory, again, again_when_cancelled, sees, deaf, stubborn),
        *(family, publish, held_then_die, fill_memory, fill_disk, dead_loop, deadlock, many_files),
    )
}

if __name__ == "__main__":
    main(work)
