"""The part of the page on systems: target, scores, cost."""

from ft_tools.evaluation.report import EvaluationReport, SystemResult
from ft_tools.views.markup import Cell
from ft_tools.views.page import Html, badge, note, table

TONES = {"met": "good", "not_met": "bad", "not_shown": "warn"}


def systems_section(report: EvaluationReport) -> Html:
    """Return the table of the systems, in the order of the request."""
    metric = report.main_metric
    headers = [
        "system",
        *(["target"] if report.target else []),
        *(metric, "95% interval", "input tokens", "output tokens"),
        *("seconds, median", "95th percentile", "cut off", "USD per 1,000 calls"),
    ]
    rows = [_row(one, metric, has_target=bool(report.target)) for one in report.systems]
    said = "Seconds per answer: of a batch, its time divided by its size."
    return Html(table(headers, rows) + note(said))


def _row(one: SystemResult, metric: str, *, has_target: bool) -> list[Cell]:
    score = one.scores[metric]
    interval = "-" if score.ci_low is None else f"{score.ci_low:.3g} to {score.ci_high:.3g}"
    verdict = one.target or "not_shown"
    return [
        one.name,
        *([badge(verdict.replace("_", " "), TONES[verdict])] if has_target else []),
        *(score.value, interval, one.input_tokens_mean, one.output_tokens_mean),
        *(one.seconds_median, one.seconds_p95, one.cut_off_fraction),
        "no price" if one.usd_per_1000_calls is None else one.usd_per_1000_calls,
    ]
