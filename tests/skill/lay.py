"""Lay out the written tasks for agents that have the skill's folder and its command line, only.

`python -m tests.skill.lay FOLDER [ID ...]` makes FOLDER/01 ... FOLDER/30, each with `skill/`,
`bin/fine-tuning-llm`, and the files and runs of its task; FOLDER/tasks.md with the sentence to say;
FOLDER/checks.md with what is expected, not for the agent. The command records each call in
FOLDER/calls/, which `python -m tests.skill.checker FOLDER` scores. The runs are real trainings of
a tiny random model. A run that has to be alive (`stop-it`) ends by itself after some minutes: lay
that task out again right before it is given.
"""

import json
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ft_tools.runs.processes.endings import record
from tests.demo_tickets.make import make_ticket
from tests.demo_tickets.phrases import SITUATIONS
from tests.skill.checker import HERE, evals

ROOT = HERE.parent.parent
COMMAND = Path(sys.executable).with_name("fine-tuning-llm")
MODEL = "tiny-llama"
PATIENCE_SECONDS = 300.0
STEPS = {"succeeded": 12, "overfitted": 60, "rebooted": 400, "out_of_memory": 400, "alive": 9000}
"""Optimizer steps of a run by how it ends."""

RECORDER = '''#!{python}
"""Run the real command, and note what was asked and how much was answered."""
import json, os, subprocess, sys, time
os.environ.update({environment!r})
begun, size = time.time(), 0
with subprocess.Popen([{command!r}, *sys.argv[1:]], stdout=subprocess.PIPE) as child:
    while chunk := child.stdout.read1(65536):
        size += len(chunk)
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()
line = dict(argv=sys.argv[1:], exit_code=child.returncode, bytes=size, seconds=time.time() - begun)
with open({record!r}, "a") as file:
    file.write(json.dumps(line) + "\\n")
sys.exit(child.returncode)
'''


def main(folder: Path, only: list[str]) -> None:
    """Lay out all tasks, or those that are named; write what to say and what to expect."""
    (folder / "calls").mkdir(parents=True, exist_ok=True)
    laid = _read(folder / "laid.json")
    for number, task in enumerate(evals(), 1):
        if not only or task["id"] in only:
            name = f"{number:02}"
            sys.stderr.write(f"{name} {task['id']}\n")
            shutil.rmtree(folder / name, ignore_errors=True)
            (folder / "calls" / f"{name}.jsonl").unlink(missing_ok=True)
            laid[name] = lay(task, folder / name, folder / "calls" / f"{name}.jsonl")
            (folder / "laid.json").write_text(json.dumps(laid, indent=1), encoding="utf-8")
    (folder / "tasks.md").write_text(tasks_page(laid), encoding="utf-8")
    (folder / "checks.md").write_text(checks_page(laid), encoding="utf-8")


def lay(task: dict[str, Any], place: Path, calls: Path) -> dict[str, Any]:
    """Make the folder of one task; the task as it is there."""
    (place / "skill").mkdir(parents=True)
    shutil.copy(ROOT / "SKILL.md", place / "skill")
    shutil.copytree(ROOT / "references", place / "skill" / "references")
    for file in task["files"]:
        shutil.copy(HERE / file, place)
    for name, count in task.get("rows", {}).items():
        write_rows(place / name, count)
    if {"run", "plan", "model"} & task.keys():
        make_model(place / MODEL)
    plan_hash = ""
    if "run" in task:
        train(place, task["id"], task["run"])
    if "plan" in task:
        plan_hash = json.loads(call(place, *task["plan"], "--format", "json"))["plan_hash"]
    command = place / "bin" / "fine-tuning-llm"
    command.parent.mkdir()
    given = {"python": sys.executable, "command": str(COMMAND), "record": str(calls)}
    text = RECORDER.format(**given, environment=environment(place))
    command.write_text(text, encoding="utf-8")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return json.loads(json.dumps(task).replace("{plan_hash}", plan_hash))


def write_rows(path: Path, count: int) -> None:
    """Write invented mails of customers with answers: chats, pairs or verdicts, by the name."""
    numbers = random.Random(path.stem)
    categories = sorted(SITUATIONS)
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            ticket = make_ticket(numbers, categories[i % len(categories)])
            mail, product = ticket["message"], ticket["product"]
            good = f"Dear customer, about your {product}: we are on it. Yours, the shop."
            bad = f"Noted: {product}."
            row = {
                "pairs": {"prompt": mail, "chosen": good, "rejected": bad},
                "marks": {"prompt": mail, "completion": good if i % 2 else bad, "label": i % 2 > 0},
            }.get(path.stem, {"messages": [_turn("user", mail), _turn("assistant", good)]})
            file.write(json.dumps(row) + "\n")


def make_model(folder: Path) -> None:
    """Save a random model of a million parameters."""
    from benchmarks.small_models import untrained_llama  # Imports torch.
    from tests.tiny.conftest import make_tokenizer

    make_tokenizer().save_pretrained(folder)
    untrained_llama().save_pretrained(folder)


def train(place: Path, task_id: str, end: str) -> None:
    """Train the tiny model in a task's folder, to the end that the task is about."""
    write_rows(place / "train.jsonl", 8 if end == "overfitted" else 48)
    write_rows(place / "validation.jsonl", 16)
    training = {"max_steps": STEPS[end], "learning_rate": 3e-3, "max_length": 128}
    launch = ["launch-sft", MODEL, "train.jsonl", "--validation", "validation.jsonl"]
    launch += ["--training", json.dumps(training), "--request-id", task_id, "--yes"]
    launch += ["--method", "full"] if end == "overfitted" else []
    is_over = end in ("succeeded", "overfitted")
    call(place, *launch, *([] if is_over else ["--detach"]))
    if is_over:
        return
    run = next((place / "runs").glob("sft-*"))
    _wait(lambda: (_read(run / "status.json").get("progress") or {}).get("step", 0) > 5)
    if end != "alive":
        for pid in _processes_of(run):
            os.kill(pid, signal.SIGKILL)
    if end == "out_of_memory":
        # What the supervisor writes where the kernel has killed since the worker was started.
        record(run, -signal.SIGKILL, kills_before=-1)


def environment(place: Path) -> dict[str, str]:
    """Return what a task's commands run with: runs of one task do not wait for another's."""
    return {
        "FINE_TUNING_LLM_WORKSPACE": str(place),
        "XDG_CACHE_HOME": str(place / ".cache"),
        "OMP_NUM_THREADS": "1",
    }


def call(place: Path, *argv: str) -> str:
    """Call the command line in a task's folder; what it prints."""
    done = subprocess.run(
        [COMMAND, *argv],
        cwd=place,
        env=os.environ | environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def tasks_page(laid: dict[str, Any]) -> str:
    """Return what to say to each agent."""
    lines = ["# Tasks", "", "The agent works in the folder; it is told: the skill is in skill/,"]
    lines += ["its command is bin/fine-tuning-llm. Then the sentence, verbatim.", ""]
    for name, task in sorted(laid.items()):
        lines += [f"## {name} {task['id']}", "", f"> {task['prompt']}", ""]
    return "\n".join(lines)


def checks_page(laid: dict[str, Any]) -> str:
    """Return what is expected of each task: for whoever judges, not for the agent."""
    lines = ["# Checks", "", "The calls are scored by `python -m tests.skill.checker FOLDER`."]
    lines += ["Whether the answer says the following is judged by reading it.", ""]
    for name, task in sorted(laid.items()):
        lines += [f"## {name} {task['id']}", "", f"Expected: {task['expected_output']}", ""]
        lines += [f"- {each}" for each in task["assertions"]]
        for part in ("required", "forbidden"):
            lines += [f"- {part}: `{json.dumps(each)}`" for each in task["tool_calls"][part]]
        lines += [""]
    return "\n".join(lines)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _wait(condition: Any) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("a run did not come to the state that its task is about")
        time.sleep(0.1)


def _processes_of(run: Path) -> list[int]:
    """Return the processes that were started for a run: its directory is among their arguments."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(run).encode() in each.read_bytes():
                found.append(int(each.parent.name))
        except OSError:  # It has ended.
            continue
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2:])
