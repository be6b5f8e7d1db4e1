"""The errors a caller can act on.

Each message says what is wrong, the value, what is allowed and what to do next. `code` is stable
and machine-readable; `exit_code` is what the command line returns.

FineTuningError              1   a request that cannot be met
    BadInput                 2   a value, a file or a combination that cannot be used
        UnknownName          2   a model, GPU, format ... that no table lists
            HubUnavailable   2   a model that only the Hub knows, which cannot be asked now
        BadData              2   a data file that cannot be read, with its line
        OutsideWorkspace     2   a path that leaves the workspace
        OutputExists         2   an output folder that is not empty
    NotFound                 6   a file, folder or run that is not there
        NoWorkspace          6   the workspace, or what it has instead of the folder of the runs
    Refused                  3   a gate said no; the message says if it can be overridden
        PlanChanged          3   the confirmed plan is no longer the plan
        GatedModel           3   a model whose licence has to be accepted first
    Missing                  4   something is not installed, or there is no such hardware
        MissingExtra         4   a part of this package is not installed
    RunBusy                  1   another process holds the run
    DiskFull                75   not enough space, now or foreseen
    AddressInUse            69   another process listens at the address to serve at
    Abandoned              130   nobody waits for the answer any more
"""

import difflib
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from ft_tools import installation

MOST_LISTED = 8
MOST_REPEATED = 80
"""Characters."""
NUM_NEAREST = 3
LONG_NUMBER = re.compile(r"\d{3,}")


def brief(text: object) -> str:
    r"""Return what comes from a file as a message repeats it: printable, and not long.

    >>> brief("llama"), brief("a" + chr(10)), len(brief("x" * 10**6))
    ('llama', "'a\\n'", 80)
    """
    said = str(text)[: MOST_REPEATED + 1]
    said = said if said.isprintable() else ascii(said)
    return said if len(said) <= MOST_REPEATED else f"{said[: MOST_REPEATED - 3]}..."


class FineTuningError(Exception):
    """A request that cannot be met; the message says what to change."""

    code = "failed"
    exit_code = 1


class BadInput(FineTuningError):
    """A value, a file or a combination that cannot be used."""

    code = "bad_input"
    exit_code = 2


class UnknownName(BadInput):
    """A name that no table lists."""

    code = "unknown_name"

    def __init__(self, kind: str, name: str, known: Iterable[str], cure: str = "") -> None:
        listed = nearest(name, known)
        parts = [f"unknown {kind} {brief(repr(name))}", *filter(None, [cure, listed])]
        super().__init__("; ".join(parts))


class HubUnavailable(UnknownName):
    """A model that only the Hub knows, which cannot be asked now."""

    code = "hub_unavailable"

    def __init__(self, model: str, problem: str, cure: str, known: Iterable[str] = ()) -> None:
        listed = nearest(model, known)
        parts = [f"model {model!r} is not on this machine, and {problem}", cure, listed]
        BadInput.__init__(self, "; ".join(filter(None, parts)))


class BadData(BadInput):
    """A data file that cannot be read as data."""

    code = "bad_data"

    def __init__(self, path: Path | str, problem: str, cure: str, line: int | None = None) -> None:
        self.problem, self.cure = problem, cure
        where = f"{path}:{line}" if line else str(path)
        super().__init__(f"{where}: {problem}; {cure}")


class OutsideWorkspace(BadInput):
    """A path that leaves the workspace."""

    code = "outside_workspace"


class OutputExists(BadInput):
    """An output folder that is not empty; nothing is ever overwritten."""

    code = "output_exists"


class NotFound(FineTuningError):
    """A file, folder or run that is not there."""

    code = "not_found"
    exit_code = 6


class NoWorkspace(NotFound):
    """The workspace is not there, or cannot hold runs."""

    def __init__(self, problem: str, cure: str) -> None:
        self.problem, self.cure = problem, cure
        super().__init__(f"{problem}; {cure}")


class Refused(FineTuningError):
    """A gate said no; the message says what to change."""

    code = "refused"
    exit_code = 3


class PlanChanged(Refused):
    """The confirmed plan no longer fits the data, the model or the arguments."""

    code = "plan_changed"


class GatedModel(Refused):
    """A model whose licence has to be accepted before its files can be fetched."""

    code = "gated_model"


class Missing(FineTuningError):
    """Something is not installed, or there is no such hardware."""

    code = "missing"
    exit_code = 4


class MissingExtra(Missing):
    """A part of this package is not installed."""

    code = "missing_extra"

    def __init__(self, extra: str, module: str) -> None:
        super().__init__(f"{module!r} is not installed; run: {installation.add_extras(extra)}")


def require_installed(extra: str, *modules: str) -> None:
    """Refuse when a module that an extra installs is not there.

    Raises:
        MissingExtra: The message says what to install.
    """
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(extra, module)


class RunBusy(FineTuningError):
    """Another process holds the run."""

    code = "run_busy"


class DiskFull(FineTuningError):
    """Not enough disk space, now or foreseen."""

    code = "disk_full"
    exit_code = 75


class AddressInUse(FineTuningError):
    """Another process listens at the address to serve at."""

    code = "address_in_use"
    exit_code = 69


class Abandoned(FineTuningError):
    """The client cancelled the call, or is gone."""

    code = "abandoned"
    exit_code = 130


def nearest(name: str, known: Iterable[str]) -> str:
    """List the known names, or the three nearest ones where they are many; empty without any.

    Names with the same long number come first: a 4090 Ti is meant to be a 4090, not a 4070 Ti.

    >>> nearest("gptq:4bit", ["fp8", "gptq:4"])
    'known: fp8, gptq:4'
    """
    spellings = {one.casefold(): one for one in sorted(known)}
    if len(spellings) <= MOST_LISTED:
        return f"known: {', '.join(spellings.values())}" if spellings else ""
    wanted = name.casefold()
    numbers = set(LONG_NUMBER.findall(wanted))
    same = [one for one in spellings if numbers & set(LONG_NUMBER.findall(one))]
    groups = (same, [one for one in spellings if one not in same])
    found = (difflib.get_close_matches(wanted, group, NUM_NEAREST, cutoff=0.0) for group in groups)
    close = [one for group in found for one in group][:NUM_NEAREST]
    return f"nearest: {', '.join(spellings[one] for one in close)}"
