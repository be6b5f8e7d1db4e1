"""Keep a report small enough for an agent."""

from ft_tools.data.judge import count_findings
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.understand.lengths import estimate_tokens

# What a concise report may cost an agent; ours.
MAX_CONCISE_TOKENS = 1900
MIN_CONCISE_FINDINGS = 3


def concise(request: AuditRequest, report: AuditReport) -> AuditReport:
    """Leave out findings of the least weight until the report is small."""
    if request.response_format == "detailed":
        return report
    num_shown = min(count_findings.MAX_CONCISE_FINDINGS, len(report.findings))
    short = _with_findings(report, num_shown)
    while num_shown > MIN_CONCISE_FINDINGS and _tokens_of(short) > MAX_CONCISE_TOKENS:
        num_shown -= 1
        short = _with_findings(report, num_shown)
    return short


def _with_findings(report: AuditReport, num_shown: int) -> AuditReport:
    notes = list(report.assumptions)
    if num_shown < len(report.findings):
        notes.append(
            f"{len(report.findings) - num_shown} minor findings are not shown; use "
            "response_format='detailed'"
        )
    return report.model_copy(update={"findings": report.findings[:num_shown], "assumptions": notes})


def _tokens_of(report: AuditReport) -> int:
    return estimate_tokens(report.model_dump_json(exclude_none=True))
