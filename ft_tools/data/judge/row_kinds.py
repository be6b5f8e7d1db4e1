"""What kind of examples a file holds, and which rows are of another kind, format or language."""

from collections import Counter

from ft_tools.data.read.scanned import Scan
from ft_tools.data.report import Kind
from ft_tools.data.request import Task
from ft_tools.data.understand.languages import UNKNOWN
from ft_tools.formats.detect_format import PREFERENCES

NO_EXAMPLE = {"unreadable", "unknown", "left_out"}
MIN_SCRIPT_FRACTION = 0.4


def task_of(scan: Scan, asked: Task) -> Kind:
    """Name the task: what was asked, or that of the format most rows have."""
    main = main_format(scan)
    if main == "kto" and asked in {"auto", "dpo"}:
        return "kto"
    if asked == "sft" or asked == "dpo":
        return asked
    return "dpo" if main in PREFERENCES else "sft"


def main_format(scan: Scan) -> str:
    """Name the format that most of the readable rows have, among those of the usual kind."""
    kinds = _kinds(scan)
    usual = max(kinds, key=lambda kind: kinds[kind], default="")
    known = {
        name: count
        for name, count in scan.formats.items()
        if name not in NO_EXAMPLE and _kind_of(name) == usual
    }
    return max(known, key=lambda name: known[name]) if known else "unknown"


def _kinds(scan: Scan) -> "Counter[str]":
    """Count the examples of each kind."""
    kinds: Counter[str] = Counter()
    for name, count in scan.formats.items():
        if name not in NO_EXAMPLE:
            kinds[_kind_of(name)] += count
    return kinds


def _kind_of(name: str) -> str:
    """Name what a trainer must not find mixed in a file: conversations, texts, pairs or marks."""
    if name in {"text", "kto"}:
        return name
    return "dpo" if name in PREFERENCES else "chat"


def mark_formats(scan: Scan, task: str) -> None:
    """Remove rows of another task, and note those of another format or a minority script."""
    main = main_format(scan)
    kinds = _kinds(scan)
    plain_or_chat = "text" if kinds["text"] > kinds["chat"] else "chat"
    wanted = plain_or_chat if task == "sft" else task
    top = max(scan.scripts.values(), default=0)
    minority = {name for name, count in scan.scripts.items() if count < MIN_SCRIPT_FRACTION * top}
    spoken = scan.variety.languages
    others = {
        name
        for name, count in spoken.items()
        if name != UNKNOWN and count < MIN_SCRIPT_FRACTION * max(spoken.values())
    }
    for index in range(len(scan.ledger)):
        name = scan.format_names[scan.format_of[index]]
        if name in NO_EXAMPLE:
            continue
        if _kind_of(name) != wanted:
            scan.note("other_task", index)
            scan.ledger.remove(index, "other_task")
        elif name != main:
            scan.note("mixed_formats", index)
        if minority and scan.script_names[scan.script_of[index]] in minority:
            scan.note("script_mix", index)
        elif others and scan.language_names[scan.language_of[index]] in others:
            scan.note("language_mix", index)


def unread_of(scan: Scan) -> "Counter[str]":
    """Count the rows of the data that are no example, by why."""
    ledger = scan.ledger
    return Counter(
        ledger.reason_of(at) or ""
        for at in range(ledger.num_validation, len(ledger))
        if scan.format_names[scan.format_of[at]] in NO_EXAMPLE
    )
