"""Messages for a command line that cannot be parsed, in the words of a request's errors."""

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
