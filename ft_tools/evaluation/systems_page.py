"""The part of the page on systems: target, scores, cost."""

from ft_tools.evaluation.report import EvaluationReport, SystemResult
from ft_tools.views.markup import Cell
from ft_tools.views.page import Html, badge, interval_chart, note, table

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
    return Html(_picture(report) + table(headers, rows) + note(said))


def _picture(report: EvaluationReport) -> Html:
    """Draw quality with its interval, the cheapest system first."""
    metric = report.main_metric
    priced = all(one.usd_per_1000_calls is not None for one in report.systems)

    def cost(one: SystemResult) -> float:
        usd = one.usd_per_1000_calls
        return usd if priced and usd is not None else one.seconds_mean

    def label(one: SystemResult) -> str:
        if priced:
            return f"{one.name}, {cost(one):.3g} USD per 1,000 calls"
        return f"{one.name}, {cost(one):.3g} s per answer"

    rows = [
        (label(one), score.ci_low, score.value, score.ci_high)
        for one in sorted(report.systems, key=cost)
        if (score := one.scores[metric]).ci_low is not None
    ]
    title = f"{metric} by system, the cheapest first"
    return interval_chart(rows, title=title, x_label=metric, differences=False)


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
