"""Print reports, errors and progress: the result goes to stdout, everything else to stderr."""

import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ft_tools.concise import presented
from ft_tools.contract import compact, without_empty
from ft_tools.errors import FineTuningError
from ft_tools.redaction import redact
from ft_tools.runs.report import RunReport
from ft_tools.runs.state.records import ENDED, State
from ft_tools.runs.tool import read_run

Format = Literal["auto", "human", "agent", "json", "quiet"]
END_CODES: dict[State, int] = {"succeeded": 0, "failed": 5, "interrupted": 5, "cancelled": 130}
POLL_SECONDS = 0.5
IDS = ("run_id", "plan_hash", "mapping_hash")
TIMES = {"at", "created_at"}
"""Fields that are seconds since 1970; people are shown the time of their clock."""
GAP = 2
"""Blanks between the columns of a table."""
SENTENCE = 32
"""Characters from which the parts of a list get a line each."""


def chosen(wanted: Format) -> Format:
    """Resolve `auto`: for a person at a terminal, else compact JSON."""
    if wanted != "auto":
        return wanted
    return "human" if sys.stdout.isatty() else "agent"


def show(
    report: BaseModel, wanted: Format, tool: str = "", request: BaseModel | None = None
) -> None:
    """Print a report on stdout; that of a tool in the form that was asked for."""
    dumped = report.model_dump(mode="json")
    content = presented(report, tool, request) if request else compact(report)
    match chosen(wanted):
        case "json":
            sys.stdout.write(json.dumps(dumped, indent=2) + "\n")
        case "agent":
            sys.stdout.write(json.dumps(content) + "\n")
        case "quiet":
            named = next((dumped[key] for key in IDS if dumped.get(key)), None)
            written = (dumped.get("outputs") or {}).get("folder")
            sys.stdout.writelines(f"{one}\n" for one in (named, written) if one)
        case _:
            as_text = getattr(report, "as_text", None)
            if text := as_text() if as_text else "":
                Console(highlight=False).print(escape(text), soft_wrap=True)
                content = {}
            steps = without_empty(dumped.get("next_steps", []))
            _show_to_person({**content, "next_steps": steps})


def show_checks(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Print checks for a person: state, name, what was found, and what changes it."""
    console = Console(highlight=False, no_color="NO_COLOR" in os.environ)
    colours = {"ok": "green", "note": "yellow"}
    for state, name, found, fix in rows:
        console.print(
            f"[{colours.get(state, 'bold red')}]{state:<8}[/][bold]{escape(name)}[/]: "
            f"{escape(found)}",
            soft_wrap=True,
        )
        if fix:
            console.print(f"        -> {escape(fix)}", soft_wrap=True)


def show_error(error: FineTuningError, wanted: Format) -> int:
    """Print an error on stderr and return its exit code."""
    message = redact(str(error))
    if chosen(wanted) == "human":
        # A name from a file may hold what a terminal obeys.
        shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
        said = f"[bold red]error[/] {escape(shown)}"
        Console(stderr=True, highlight=False).print(said, soft_wrap=True)
    else:
        sys.stderr.write(json.dumps({"error": {"code": error.code, "message": message}}) + "\n")
    return error.exit_code


def follow(run_ids: Sequence[str]) -> int:
    """Wait for runs to end, with a progress bar each where stderr is a terminal.

    Ctrl-C ends only the waiting, and says how the runs are ended.

    Returns:
        The worst exit code: 0 succeeded, 5 failed or interrupted, 130 cancelled.
    """
    try:
        return _follow(run_ids)
    except KeyboardInterrupt:
        for run_id in run_ids:
            if not is_over(read_run(run_id)):
                sys.stderr.write(
                    f"{run_id} is still running; stop it with `fine-tuning-llm cancel {run_id}`\n"
                )
        raise


def _follow(run_ids: Sequence[str]) -> int:
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    last: dict[str, str] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = {run_id: bars.add_task(run_id, total=1.0, note="") for run_id in run_ids}
        while True:
            reports = [read_run(run_id) for run_id in run_ids]
            for report in reports:
                fraction = report.progress.fraction if report.progress else 0.0
                note = _note(report)
                bars.update(tasks[report.run_id], completed=fraction, note=note)
                doing = _doing(report)
                if not console.is_terminal and last.get(report.run_id) != doing:
                    last[report.run_id] = doing
                    sys.stderr.write(f"{report.run_id} {report.state} {doing}\n")
            if all(is_over(report) for report in reports):
                break
            time.sleep(POLL_SECONDS)
    for report in reports:
        if report.error:
            said = "; ".join(filter(None, [report.error.message, report.error.hint]))
            sys.stderr.write(f"{report.run_id} {report.state}: {said}\n")
    return max(END_CODES[report.state] for report in reports)


def show_next(run_ids: Sequence[str]) -> None:
    """Print on stderr the commands that come after runs that have ended."""
    for report in (read_run(run_id) for run_id in run_ids):
        steps = [(step.tool, step.arguments, step.why) for step in report.next_steps]
        if report.state == "succeeded":
            steps.insert(0, ("get_run", {"run_id": report.run_id}, "shows its result"))
        for tool, arguments, why in steps:
            sys.stderr.write(f"next: {command_line(tool, arguments)}  # {why}\n")


def is_over(report: RunReport) -> bool:
    """Return whether nothing more will come; a scheduler may start an interrupted run again."""
    return report.state in ENDED and (report.state != "interrupted" or report.resumable)


def command_line(tool: str, arguments: dict[str, Any]) -> str:
    """Return the command that calls a tool with these arguments."""
    words = ["fine-tuning-llm", tool.replace("_", "-")]
    for key, value in arguments.items():
        words += _option(f"--{key.replace('_', '-')}", value)
    return shlex.join(words)


def _option(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [name if value else name.replace("--", "--no-", 1)]
    if isinstance(value, list):
        if any(isinstance(part, dict | list) for part in value):
            return [name, json.dumps(value, ensure_ascii=False)]
        return [word for part in value for word in _option(name, part)]
    if isinstance(value, dict):
        return [word for key, part in value.items() for word in (f"{name}.{key}", _text(part))]
    return [name, _text(value)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _doing(report: RunReport) -> str:
    """Return what a run is doing, or what it waits for."""
    is_waiting = report.state == "queued" and report.events
    return report.events[-1].message if is_waiting else report.phase


def _note(report: RunReport) -> str:
    parts = [report.state, _doing(report)]
    shown = [name for name in ("loss", "eval_loss") if name in report.metrics]
    parts += [f"{name} {report.metrics[name]:.3f}" for name in shown]
    at = report.progress
    if at and at.eta_low_seconds is not None and at.eta_high_seconds is not None:
        parts.append(f"{at.eta_low_seconds:.0f} to {at.eta_high_seconds:.0f} s left")
    return " · ".join(part for part in parts if part)


def _show_to_person(dumped: dict[str, Any]) -> None:
    console = Console(highlight=False, no_color="NO_COLOR" in os.environ)
    if said := dumped.pop("summary", ""):
        text = said if isinstance(said, str) else " ".join(said)
        console.print(escape(text), soft_wrap=True)
    steps = dumped.pop("next_steps", [])
    detailed = dumped.get("reasons") and isinstance(dumped["reasons"][0], dict)
    reasons = dumped.pop("reasons") if detailed else []
    if not dumped.get("has_more"):
        dumped.pop("has_more", None)
    _block(console, dumped, indent=0)
    if reasons:
        console.print("\n[bold]why[/]")
        for reason in reasons:
            threshold = f" (line: {reason['threshold']})" if "threshold" in reason else ""
            observed = f": {reason['observed']}" if "observed" in reason else ""
            line = f"{reason['rule']}{observed}{threshold}"
            console.print(f"  {escape(line)}", soft_wrap=True)
            console.print(f"    [dim]{escape(reason['source'])}[/]")
    if steps:
        console.print("\n[bold]next[/]")
        for step in steps:
            line = command_line(step["tool"], step.get("arguments", {}))
            console.print(f"  {escape(line)}", soft_wrap=True)
            console.print(f"    [dim]{escape(step.get('why', ''))}[/]")


def _block(console: Console, values: dict[str, Any], indent: int) -> None:
    pad = "  " * indent
    for key, value in values.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            console.print(f"{pad}[bold]{escape(name)}[/]")
            _block(console, value, indent + 1)
        elif isinstance(value, list) and isinstance(value[0], dict):
            console.print(f"{pad}[bold]{escape(name)}[/]")
            _table(console, value)
        elif isinstance(value, list) and any(len(str(part)) > SENTENCE for part in value):
            console.print(f"{pad}[bold]{escape(name)}[/]")
            for part in value:
                console.print(f"{pad}  - {escape(str(part))}", soft_wrap=True)
        elif isinstance(value, list):
            console.print(f"{pad}[bold]{escape(name)}[/] {escape(', '.join(map(str, value)))}")
        else:
            shown = escape(_cell(value, key))
            console.print(f"{pad}[bold]{escape(name)}[/] {shown}", soft_wrap=True)


def _table(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print rows as a table; where that would wrap a sentence or cut an id off, as entries."""
    headers = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(header, ""), header) for header in headers] for row in rows]
    columns = zip(headers, *cells, strict=True)
    widths = [max(map(len, column)) for column in columns]
    is_long = any(len(cell) > SENTENCE for line in cells for cell in line)
    if is_long or sum(widths) + GAP * len(widths) > console.width:
        _entries(console, rows)
        return
    table = Table(*(header.replace("_", " ") for header in headers), box=None, pad_edge=True)
    for line in cells:
        table.add_row(*map(escape, line))
    console.print(table)


def _entries(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print rows that hold sentences: what is short on one line, each sentence below it."""
    for row in rows:
        cells = {key.replace("_", " "): _cell(value, key) for key, value in row.items()}
        short = [f"{key} {cell}" for key, cell in cells.items() if len(cell) <= SENTENCE]
        console.print(f"  - {escape(', '.join(short))}", soft_wrap=True)
        for key, cell in cells.items():
            if len(cell) > SENTENCE:
                console.print(f"    [dim]{escape(key)}[/] {escape(cell)}", soft_wrap=True)


def _cell(value: Any, key: str) -> str:
    if key in TIMES and isinstance(value, float):
        with contextlib.suppress(OverflowError, OSError, ValueError):
            return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else str(value)
