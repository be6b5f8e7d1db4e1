"""What the self-test reports: something that a user can send."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from ft_tools.contract import Report

State = Literal["passed", "failed", "skipped"]


class Tried(Report):
    """One thing that was tried."""

    name: str
    state: State
    seconds: float = 0.0
    detail: str = Field("", description="What was seen, or why it was skipped or failed.")
    predicted_gib: float | None = Field(None, description="GPU memory as planned.")
    measured_gib: float | None = Field(None, description="Peak GPU memory as measured.")


class SelfTestReport(Report):
    """How this project works on a machine."""

    device: str = Field(description="Name of the GPU, or the number of CPU cores.")
    on_gpu: bool
    versions: dict[str, str] = Field(description="Python, driver and libraries.")
    checks: list[Tried]
    passed: bool = Field(description="Every check passed; one that was skipped proves nothing.")
    summary: str


def summarise(device: str, *, on_gpu: bool, checks: Sequence[Tried]) -> str:
    """Return in a sentence how it went.

    >>> summarise("2 cores", on_gpu=False, checks=[Tried(name="load", state="passed")])
    'no GPU was found: 1 of 1 checks passed on 2 cores, which says nothing about a GPU'
    """
    failed = [check.name for check in checks if check.state == "failed"]
    skipped = sum(check.state == "skipped" for check in checks)
    passed = sum(check.state == "passed" for check in checks)
    said = f"{passed} of {len(checks)} checks passed on {device}"
    if failed:
        said += f"; failed: {', '.join(failed)}"
    if skipped:
        said += f"; {skipped} skipped"
    return said if on_gpu else f"no GPU was found: {said}, which says nothing about a GPU"


def as_text(report: SelfTestReport) -> str:
    """Return the report as a table for a terminal or an issue."""
    lines = [report.summary, ""]
    lines += [f"{name}: {version}" for name, version in report.versions.items()]
    lines += ["", f"{'check':34} {'state':8} {'s':>6} {'predicted':>10} {'measured':>10}  detail"]
    for check in report.checks:
        sizes = [
            f"{size:.2f} GiB" if size is not None else "-"
            for size in (check.predicted_gib, check.measured_gib)
        ]
        lines.append(
            f"{check.name:34} {check.state:8} {check.seconds:6.1f} {sizes[0]:>10} {sizes[1]:>10}"
            f"  {check.detail}"
        )
    return "\n".join(lines) + "\n"
