"""What kind of examples a file holds, and which rows are of another kind, format or language."""

from collections import Counter

from ft_tools.data.read.scan import Scan
from ft_tools.data.report import Kind as Task
from ft_tools.data.request import Task as AskedTask
from ft_tools.data.understand.languages import UNKNOWN
from ft_tools.formats.formats import PREFERENCES

NO_EXAMPLE = {"unreadable", "unknown", "left_out"}
MIN_FRACTION = 0.4
"""Of the rows that most have: a language of fewer rows is a minority."""


def task_of(scan: Scan, asked: AskedTask) -> Task:
    """Name the task: what was asked, or that of the format most rows have."""
    main = main_format(scan)
    if main == "kto" and asked in {"auto", "dpo"}:
        return "kto"
    if asked == "sft" or asked == "dpo":
        return asked
    return "dpo" if main in PREFERENCES else "sft"


def main_format(scan: Scan) -> str:
    """Name the format that most of the readable rows have, among those of the usual kind."""
    shapes = _shapes(scan)
    usual = max(shapes, key=lambda shape: shapes[shape], default="")
    known = [at for at in scan.formats if at not in NO_EXAMPLE and _shape_of(at) == usual]
    return max(known, key=lambda name: scan.formats[name], default="unknown")


def _shapes(scan: Scan) -> "Counter[str]":
    """Count the examples of each shape."""
    return Counter(_shape_of(kind.format) for kind in scan.kinds if kind.format not in NO_EXAMPLE)


def _shape_of(name: str) -> str:
    """Name what a trainer must not find mixed in a file: conversations, texts, pairs or marks."""
    if name in {"text", "kto"}:
        return name
    return "dpo" if name in PREFERENCES else "chat"


def mark_formats(scan: Scan, task: str) -> None:
    """Remove rows of another task, and note those of another format or a minority language."""
    main, shapes = main_format(scan), _shapes(scan)
    plain_or_chat = "text" if shapes["text"] > shapes["chat"] else "chat"
    wanted = plain_or_chat if task == "sft" else task
    counts = scan.languages.counts
    least = MIN_FRACTION * max(counts.values(), default=0)
    languages = {name for name, count in counts.items() if count < least} - {UNKNOWN}
    for index, kind in enumerate(scan.kinds):
        if kind.format in NO_EXAMPLE:
            continue
        if _shape_of(kind.format) != wanted:
            scan.note("other_task", index)
            scan.ledger.remove(index, "other_task")
        elif kind.format != main:
            scan.note("mixed_formats", index)
        if kind.language in languages:
            scan.note("language_mix", index)
