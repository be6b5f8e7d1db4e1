"""The tools as commands: one a row of the table, its options the fields of the request.

stdout is the result, stderr the progress. Exit codes: 0 ok, 1 failed, 2 usage, 3 a gate said no,
4 something is missing, 5 the run failed, 6 not found, 75 out of disk, 130 interrupted.
"""

import inspect
import io
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter
from pydantic import ValidationError

from ft_tools import system_errors
from ft_tools.cli.commands import app, output_options
from ft_tools.cli.options import as_flags, launch_options, option_of, takes_one_or_many
from ft_tools.contract import ResponseFormat, complaints, no_such
from ft_tools.errors import BadInput, FineTuningError, brief
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.runs.launch import Launch
from ft_tools.runs.request import LaunchRequest, RunRequest
from ft_tools.runs.tool import read_run
from ft_tools.tools import TOOLS, Tool
from ft_tools.views.terminal import (
    Format,
    follow,
    show,
    show_error,
)

HELP = {"--help", "-h"}
HELP_ALL = "--help-all"
LAUNCH = ["model", "dataset"]
BY_POSITION = {
    "show_examples": ["path", "lines"],
    "suggest_lora_config": ["model"],
    "estimate_vram": ["model"],
    "launch_sft": LAUNCH,
    "launch_dpo": LAUNCH,
    "launch_grpo": LAUNCH,
    "evaluate": ["model"],
    "get_run": ["run_id"],
}
"""Arguments that need no name; of other tools: those that are required."""
GATES: dict[str, Callable[[Any], bool]] = {
    "audit_dataset": lambda report: report.verdict == "not_ready",
    "estimate_vram": lambda report: report.fits == "no",
}
"""Reports that say no: the command prints them and ends with 3."""

FORMATS = (
    "How the result is printed. auto: human at a terminal, else agent, one line of JSON for each "
    "report in its concise form; json: all of it, indented; quiet: the run's id or the plan's "
    "hash, and the folder that was written."
)
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
        with system_errors.explained(), _all_options_shown(argv) as words:
            result = app.meta(words, **_OURS)
    except cyclopts.CycloptsError as error:
        return show_error(BadInput(_misread(error)), output_options["format"])
    except FineTuningError as error:
        if output_options["debug"]:
            traceback.print_exc()
        return show_error(error, output_options["format"])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except Exception as error:
        if output_options["debug"]:
            traceback.print_exc()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
        said = f"internal error ({where}); --debug shows the traceback"
        return show_error(FineTuningError(said), output_options["format"])
    return result if isinstance(result, int) else 0


def _misread(error: cyclopts.CycloptsError) -> str:
    """Return what of a command line is unknown, surplus or missing."""
    if isinstance(error, cyclopts.UnknownOptionError):
        known = sorted(one.name for one in error.argument_collection if one.parse)
        return no_such("option", error.token.keyword or error.token.value, known)
    if isinstance(error, cyclopts.UnknownCommandError):
        commands = [name for name in app if not name.startswith("-")]
        return no_such("command", (error.unused_tokens or [""])[0], commands)
    if isinstance(error, cyclopts.UnusedCliTokensError):
        values = ", ".join(brief(repr(value)) for value in error.unused_tokens or [])
        return f"too many values: {values}; most have a name, as in --max-length 512; see --help"
    argument = error.argument
    if isinstance(error, cyclopts.ConsumeMultipleError) and argument:
        return f"{argument.name}: takes one value or several, got none; leave it out for none"
    if isinstance(error, cyclopts.MixedArgumentError) and argument:
        return f"{argument.name} was given as JSON and as {argument.name}.NAME; use one of them"
    if isinstance(error, cyclopts.MissingArgumentError) and argument and not error.keyword:
        about = f" ({argument.parameter.help})" if argument.parameter.help else ""
        return f"{argument.field_info.name}: required and missing{about}"
    return str(error)


@app.meta.default
def _with_options(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    format: Annotated[Format, Parameter(help=FORMATS)] = "auto",
    json: Annotated[bool, Parameter(help="The same as --format json.", negative=())] = False,
    debug: Annotated[bool, Parameter(help="Show tracebacks.", negative=())] = False,
) -> Any:
    output_options.update(format="json" if json else format, debug=debug)
    spec = TOOLS.get(tokens[0].replace("-", "_")) if tokens else None
    words = as_flags(tokens, spec.request.model_fields) if spec else tokens
    return app(words, **_OURS)


@contextmanager
def _all_options_shown(argv: list[str]) -> Iterator[list[str]]:
    """Let a command's help show all its options for `--help-all`; yields the words to parse."""
    name = argv[0].replace("-", "_") if HELP_ALL in argv else ""
    if name not in TOOLS:
        yield ["--help" if word == HELP_ALL else word for word in argv]
        return
    del app[argv[0]]
    _register(name, TOOLS[name], shows_all=True)
    try:
        yield [argv[0], "--help"]
    finally:
        del app[argv[0]]
        _register(name, TOOLS[name])


def _register(name: str, spec: Tool, *, shows_all: bool = False) -> None:
    """Make a command of a tool: a few fields by position, the others by name."""

    def command(*positional: Any, **named: Any) -> int | None:
        given = dict(zip(by_position, positional, strict=False)) | named
        wait_for_it = {key: given.pop(key, None) for key in extra}
        return _call(name, spec, given, wait_for_it)

    fields = spec.request.model_fields
    required = [key for key, field in fields.items() if field.is_required()]
    by_position = BY_POSITION.get(name, required)
    extra = launch_options(name) if issubclass(spec.request, LaunchRequest) else {}
    ordered = [*by_position, *(key for key in fields if key not in by_position)]
    hidden = () if shows_all else spec.options
    parameters = [
        option_of(key, spec.request, by_position, is_shown=key not in hidden) for key in ordered
    ]
    parameters.sort(key=lambda parameter: parameter.kind)
    command.__signature__ = inspect.Signature([*parameters, *extra.values()])  # type: ignore[attr-defined]
    command.__annotations__ = {
        parameter.name: parameter.annotation for parameter in [*parameters, *extra.values()]
    }
    about = spec.description
    if hidden:
        names = ", ".join(f"--{key.replace('_', '-')}" for key in hidden)
        about += f"\n\nMore options, described by --help-all: {names}."
    app.command(command, name=name.replace("_", "-"), help=about)


def _call(name: str, spec: Tool, given: dict[str, Any], launch: dict[str, Any]) -> int | None:
    arguments = {key: value for key, value in given.items() if value is not None}
    for key, value in arguments.items():
        one = isinstance(value, list) and len(value) == 1
        if one and takes_one_or_many(spec.request.model_fields[key].annotation):
            arguments[key] = value[0]
    try:
        request = spec.request.model_validate(arguments)
    except ValidationError as error:
        raise BadInput("\n".join(complaints(spec.request, error))) from error
    report = spec.call(request)
    # Without a hash there is no plan yet, but a run that measures what the plan needs.
    is_plan = isinstance(report, Launch) and not report.started and bool(report.plan_hash)
    if launch.get("yes") and isinstance(report, Launch) and is_plan:
        # Nobody has read it yet; stdout is for the result.
        with redirect_stdout(sys.stderr):
            show(report, output_options["format"], name, request)
        confirmed = request.model_copy(update={"confirm": report.plan_hash})
        report = spec.call(confirmed)
    waits = launch.get("yes") and not launch.get("detach")
    if waits and isinstance(report, Launch) and report.run_id:
        # stdout is for one report, that of the run.
        with redirect_stdout(sys.stderr):
            show(report, output_options["format"], name, request)
        return _follow_to_end(report.run_id, getattr(request, "response_format", "concise"))
    show(report, output_options["format"], name, request)
    gate = GATES.get(name)
    return 3 if gate and gate(report) else None


def _follow_to_end(run_id: str, form: ResponseFormat) -> int:
    """Wait for a run and print it; an evaluation that misses its target ends with 3."""
    code = follow([run_id])
    report = read_run(run_id)
    show(report, output_options["format"], "get_run", RunRequest(response_format=form))
    if code or report.kind != "evaluate":
        return code
    return 3 if EvaluationReport.model_validate(report.result).misses_target else 0


for _name, _spec in TOOLS.items():
    _register(_name, _spec)
