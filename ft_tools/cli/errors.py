"""Messages for a command line that cannot be parsed, in the words of a request's errors."""

import inspect
from collections.abc import Sequence

import cyclopts
from cyclopts import App

from ft_tools.contract import no_such
from ft_tools.errors import brief


def misread(app: App, error: cyclopts.CycloptsError) -> str:
    """Return what of a command line is unknown, surplus or missing."""
    if isinstance(error, cyclopts.UnknownOptionError):
        known = sorted(one.name for one in error.argument_collection if one.parse)
        return no_such("option", error.token.keyword or error.token.value, known)
    if isinstance(error, cyclopts.UnknownCommandError):
        commands = [name for name in app if not name.startswith("-")]
        return no_such("command", (error.unused_tokens or [""])[0], commands)
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return _surplus(app, error.unused_tokens or [], (error.command_chain or ("",))[0])
    argument = error.argument
    if isinstance(error, cyclopts.ConsumeMultipleError) and argument:
        return f"{argument.name}: takes one value or several, got none; leave it out for none"
    if isinstance(error, cyclopts.MixedArgumentError) and argument:
        return f"{argument.name} was given as JSON and as {argument.name}.NAME; use one of them"
    if isinstance(error, cyclopts.MissingArgumentError) and argument and not error.keyword:
        about = f" ({argument.parameter.help})" if argument.parameter.help else ""
        return f"{argument.field_info.name}: required and missing{about}"
    return str(error)


def _surplus(app: App, values: Sequence[str], name: str) -> str:
    """Return which values of a command are too many, and where they may belong."""
    command = app[name].default_command if name in app else None
    takes = inspect.signature(command).parameters.values() if command else ()
    first = " and ".join(one.name for one in takes if one.kind is one.POSITIONAL_OR_KEYWORD)
    others = (
        one.name for one in takes if one.kind is one.KEYWORD_ONLY and one.annotation is not bool
    )
    said = f"too many values: {', '.join(brief(repr(value)) for value in values)}; "
    given = f"{first} {'are' if ' and ' in first else 'is'} given without a name, and once"
    said += given if first else "nothing is given without a name"
    if named := next(others, ""):
        said += f"; others have one, as in --{named.replace('_', '-')} VALUE; a yes/no option "
        said += "takes none, true or false"
    return f"{said}; see --help"
