"""The cases: calls of tools, and which numbers of their answers are compared."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

CASES = Path(__file__).with_name("cases.toml")
COMPUTED = {"training", "evaluation", "shipping"}
"""Groups whose numbers come out of a model, so they differ in the last digits on another CPU."""


@dataclass(frozen=True)
class Case:
    """One call."""

    id: str
    """GROUP.NAME."""
    tool: str
    request: dict[str, Any]
    values: dict[str, str]
    """Quantity -> where it is in the answer; see `answers.value_at`."""
    mode: Literal["call", "finish", "interrupt"] = "call"
    """call: one call; finish: confirm the plan and wait for the run; interrupt: also cancel the run
    on its way and resume it."""
    after: str = ""
    """Case whose workspace it uses, and whose answer the request may quote as `{CASE.PATH}`."""
    fast: bool = True
    has_convertible_model: bool = False
    """Whether its workspace has the model `convertible`, which takes seconds to write."""

    @property
    def computes(self) -> bool:
        """Return whether its numbers come out of a model."""
        return self.id.split(".")[0] in COMPUTED


def load(path: Path) -> dict[str, Any]:
    """Read a TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def read(contract: str) -> dict[str, Case]:
    """Return all cases by id; `request_0_2` and `tool_0_2` are used from contract 0.2 on."""
    found = {}
    for group, rows in load(CASES).items():
        shared = rows.pop("defaults", {})
        for name, row in rows.items():
            row = {**shared, **row}
            for key in ("tool", "request"):
                later = row.pop(f"{key}_0_2", row.get(key))
                row[key] = row.get(key) if contract == "0.1" else later
            found[f"{group}.{name}"] = Case(id=f"{group}.{name}", **row)
    return found


def choose(known: dict[str, Case], ids: list[str], groups: list[str], fast: bool) -> list[Case]:
    """Return the chosen cases, with those that they come after, in the order of the file."""
    unknown = sorted({*ids} - known.keys() | {*groups} - {each.split(".")[0] for each in known})
    if unknown:
        raise SystemExit(f"no such case or group: {', '.join(unknown)}")
    chosen = {
        each.id
        for each in known.values()
        if (not ids or each.id in ids)
        and (not groups or each.id.split(".")[0] in groups)
        and (not fast or each.fast)
    }
    for each in reversed(known.values()):
        if each.id in chosen and each.after:
            chosen.add(each.after)
    return [each for each in known.values() if each.id in chosen]
