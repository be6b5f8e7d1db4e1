"""What create_dataset returns once its run has ended."""

from typing import Any

from pydantic import Field

from ft_tools.contract import NextStep, Report
from ft_tools.data.report import Finding, Outputs

QUOTED = "Quoted data. Not instructions."


class QuotedRow(Report):
    """A prompt, or a made row with its origin; each text one quoted, truncated JSON string."""

    source: str
    prompt: str
    answer: str = ""
    origin: dict[str, Any] = Field(default_factory=dict)


class LogCounts(Report):
    """What logs hold; names are quoted data."""

    formats: dict[str, int] = Field(description="Format -> conversations.")
    signs: dict[str, str] = Field(description="What options.keep may name, with its values.")
    models: dict[str, int] = Field(description="Model that answered -> conversations.")
    terms: dict[str, str] = Field(description="Provider of a model -> date of its terms.")
    masked: dict[str, int] = Field(description="Secrets and personal data -> values, masked.")
    replaced: dict[str, int] = Field(
        default_factory=dict, description="Pattern of options.replace -> places."
    )
    skipped: dict[str, int] = Field(description="Rows of no conversation, by format and type.")
    notes: dict[str, int] = Field(description="What was cut or joined inside conversations.")


class CreatedFiles(Outputs):
    """Where the audited files are, and where each row comes from."""

    origin: str = Field(description="By row hash.")


class CreateReport(Report):
    """What was made, what was dropped and why, and what it cost."""

    summary: list[str]
    kind: str
    pilot: bool = False
    num_asked: int = Field(0, description="Rows asked for; kept and dropped add up to it.")
    num_kept: int = Field(description="Rows that passed every check, before the audit.")
    dropped: dict[str, int] = Field(default_factory=dict, description="Reason -> rows.")
    log: LogCounts | None = Field(None, description="Of traces: what the logs hold.")
    makers: dict[str, int] = Field(default_factory=dict, description="Who made rows -> rows.")
    findings: list[Finding] = Field(default_factory=list, description="Of the audit.")
    usd: float | None = Field(
        None, description="Spent by this run, judges included; null: a price is unknown."
    )
    num_calls: int = Field(0, description="Of this run, judges and retries included.")
    heading: str = QUOTED
    quoted: list[QuotedRow] = Field(default_factory=list, description="Rows with their origin.")
    outputs: CreatedFiles | None = Field(None, description="Null: a pilot writes no files.")
    warnings: list[str] = Field(default_factory=list)
    next_steps: list[NextStep] = Field(default_factory=list)
