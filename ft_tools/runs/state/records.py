"""What a run directory holds, as models; what a reader gets is in `report`."""

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import facts
from ft_tools.errors import PlanChanged, Refused

Kind = Literal[
    "sft", "dpo", "kto", "grpo", "grpo_probe", "ship", "evaluate", "audit", "prepare", "create",
    "demo_model", "search",
]  # fmt: skip
"""What a run does; no new run is a `search`, but those of version 0.1 are still read."""
TRAINED: frozenset[Kind] = frozenset({"sft", "dpo", "kto", "grpo"})
State = Literal[
    "validating", "queued", "running", "stalled", "cancelling",
    "interrupted", "succeeded", "failed", "cancelled",
]  # fmt: skip
ENDED: frozenset[State] = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
FINAL = frozenset({"diverged", Refused.code, PlanChanged.code})
"""Codes of failures that another attempt at the same plan meets again."""
Why = Literal[
    "out_of_memory", "disk_full", "timeout", "preempted", "budget", "diverged", "user", "crash"
]  # fmt: skip


class Record(BaseModel):
    """A JSON file or line of a run directory."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class RunInfo(Record):
    """run.json: what never changes."""

    run_id: str
    kind: Kind
    name: str = ""
    created_at: float = Field(description="Seconds since 1970.")
    request_id: str = ""
    device: str | None = Field(None, description="cpu or cuda; null: not chosen by the run.")
    slots: list[str] | None = Field(
        None, description="Slots it may take: UUIDs of GPUs, or cpu; null: the one of its device."
    )
    num_slots: int = Field(1, description="How many of them it waits for.")
    backend: str = Field("local", description="What executes it.")
    backend_options: dict[str, Any] = Field(
        default_factory=dict, description="Options of the backend."
    )
    worker: str = Field("", description="Module that does the work; empty: the kind's own.")
    lineage: dict[str, str] = Field(
        default_factory=dict,
        description="Where it comes from: base_model, parent_run, dataset.",
    )


class Progress(Record):
    """How far a run is."""

    step: int
    total_steps: int
    fraction: float = Field(description="0 to 1.")
    elapsed_seconds: float
    eta_seconds: float | None = Field(
        None, description="Seconds left, the likely value; null until it is known."
    )
    eta_low_seconds: float | None = Field(None, description="Shortest likely, in seconds.")
    eta_high_seconds: float | None = Field(None, description="Longest likely, in seconds.")

    def ended(self) -> "Progress":
        """Return it without time left, which an ended run has none of."""
        left = ("eta_seconds", "eta_low_seconds", "eta_high_seconds")
        return self.model_copy(update=dict.fromkeys(left))


class Best(Record):
    """The best value of the metric that decides which checkpoint is kept."""

    metric: str
    value: float
    step: int


class Health(Record):
    """A signal about the run, and what to do about it."""

    CONCISE: ClassVar[tuple[str, ...]] = ("signal", "severity", "observed")

    signal: str
    severity: Literal["info", "warning", "error"]
    observed: str
    advice: str


class RunError(Record):
    """Why a run failed."""

    code: str
    message: str
    hint: str = ""
    retryable: bool = False


def run_error(row_id: str, *, hint: str = "", **fields: object) -> RunError:
    """Return a row of runs/errors.toml, filled in; `hint` stands in place of the row's."""
    row: dict[str, Any] = facts.table_of("errors.toml", "runs")[row_id]
    message, known = (row.get(key, "").format(**fields) for key in ("message", "hint"))
    retryable = row.get("retryable", False)
    return RunError(
        code=row.get("code", row_id), message=message, hint=hint or known, retryable=retryable
    )


class Artifact(Record):
    """A file or folder that the run made."""

    kind: str = Field(description="adapter, checkpoint, model, gguf, report ...")
    path: str
    sha256: str = Field("", description="Of the file; of the manifest for a folder.")
    bytes: int = 0


class Status(Record):
    """status.json: replaced as a whole, by the one process that holds the run's lock."""

    state: State
    reason: Why | None = None
    ended_before: Why | None = Field(None, description="Why the attempt before this one ended.")
    if_out_of_memory: str = Field(
        "", description="What the next attempt would do if memory ran out in this one."
    )
    phase: str = ""
    attempt: int = 1
    updated_at: float = 0.0
    heartbeat: float = Field(
        0.0, description="When it was written, on the machine's monotonic clock, in seconds."
    )
    stalled_after_seconds: float | None = Field(
        None, description="Silence in seconds that is too long; null: none is."
    )
    started_at: float | None = None
    ended_at: float | None = None
    earlier_seconds: float = Field(0.0, description="What earlier attempts took.")
    budgeted_from_seconds: float = Field(
        0.0, description="Of these, what was spent before the launch or the last resume_run."
    )
    progress: Progress | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    best: Best | None = None
    health: list[Health] = Field(default_factory=list)
    error: RunError | None = None
    artifacts: list[Artifact] = Field(default_factory=list)

    @property
    def is_final(self) -> bool:
        """Return whether another attempt would end in the same way: the plan has to change."""
        return self.state == "failed" and self.error is not None and self.error.code in FINAL

    @property
    def seconds(self) -> float:
        """Return what all attempts have taken so far."""
        if self.started_at is None:
            return self.earlier_seconds
        return self.earlier_seconds + max(0.0, (self.ended_at or self.updated_at) - self.started_at)

    def again(self, **fields: object) -> "Status":
        """Return the status with which the next attempt begins."""
        update: dict[str, object] = dict.fromkeys(("reason", "error", "ended_at", "started_at"))
        update |= {"attempt": self.attempt + 1, "ended_before": self.reason, "phase": ""}
        update |= {"health": [], "earlier_seconds": self.seconds}
        return self.model_copy(update=update | fields)


class RunEvent(Record):
    """A line of events.jsonl."""

    seq: int
    at: float
    level: Literal["info", "warning", "error"] = "info"
    message: str
