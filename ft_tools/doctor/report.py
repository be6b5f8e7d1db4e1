"""What a person asks the doctor, and what it answers: rows of checks.toml."""

from typing import Any, Literal

from pydantic import Field

from ft_tools import facts
from ft_tools.contract import Report, Request

Purpose = Literal["advice", "data", "train", "eval", "gguf", "gpu"]
State = Literal["ok", "note", "missing", "broken"]


class DoctorRequest(Request):
    """What should work."""

    purposes: list[Purpose] = Field(
        default_factory=list, description="What has to work; the exit code is 4 if it does not."
    )
    clients: bool = Field(True, description="Also start each server that a client has registered.")
    hub: bool = Field(True, description="Also ask whether the Hugging Face Hub answers.")


class Check(Report):
    """One thing that was looked at."""

    name: str = Field(description="What was looked at.")
    state: State = Field("ok", description="`missing`, `broken`: it prevents something.")
    found: str = Field(description="What was found.")
    fix: str = Field("", description="The command, or the step, that changes it.")
    needed_for: list[Purpose] = Field(
        default_factory=list, description="What does not work while it is missing or broken."
    )


def check(row_id: str, **fields: Any) -> Check:
    """Return a row of checks.toml, filled in."""
    row: dict[str, Any] = facts.table_of("checks.toml", "doctor")[row_id]
    texts = {key: row[key].format(**fields) for key in ("name", "found", "fix") if key in row}
    return Check.model_validate(row | texts)


class DoctorReport(Report):
    """What works, what does not, and each check behind it."""

    works: list[Purpose] = Field(description="What works now.")
    does_not_work: list[Purpose] = Field(description="What does not, on this machine as it is.")
    checks: list[Check] = Field(description="Each thing that was looked at.")
    asked_and_missing: list[Purpose] = Field(
        default_factory=list, description="What was asked for and does not work."
    )
