"""The example on a run's page: `samples.jsonl`.

One row as it is trained; of a reinforcement run, a few held-out completions. They are text of a
dataset and of a model: no tool returns them.
"""

import json
from pathlib import Path
from typing import Any

from ft_tools.publish import append_line, read_rows, write_file
from ft_tools.redaction import redact

FILE = "samples.jsonl"
MAX_CHARS = 1_200
CUT = " [...]"
"""Marks a text that is shown without its end."""
Sample = dict[str, Any]


def describe(run_dir: Path, prompts: list[tuple[str, str]]) -> None:
    """Write the prompts and the answers that the file gives, once, as the first lines."""
    if not (run_dir / FILE).exists():
        pairs = [(_bounded(prompt), _bounded(expected)) for prompt, expected in prompts]
        _write(
            run_dir,
            [{"number": at, "prompt": p, "expected": e} for at, (p, e) in enumerate(pairs)],
        )


def add(run_dir: Path, step: int, number: int, text: str) -> None:
    """Append the answer to a prompt, from 0, of a model that has made so many steps."""
    line = {"step": step, "number": number, "text": _bounded(text)}
    append_line(run_dir / FILE, json.dumps(line))


def forget_after(run_dir: Path, step: int) -> None:
    """Remove answers of steps that a resumed run makes again."""
    rows = read(run_dir)
    if any(row.get("step", 0) > step for row in rows):
        _write(run_dir, [row for row in rows if row.get("step", 0) <= step])


def read(run_dir: Path) -> list[Sample]:
    """Return the lines, oldest first; torn ones are dropped."""
    rows = read_rows(run_dir / FILE)
    return [row for row in rows if isinstance(row.get("number"), int)]


def _write(run_dir: Path, rows: list[Sample]) -> None:
    write_file(run_dir / FILE, "".join(json.dumps(row) + "\n" for row in rows))


def _bounded(text: str) -> str:
    shown = redact(text)
    return shown if len(shown) <= MAX_CHARS else shown[:MAX_CHARS] + CUT
