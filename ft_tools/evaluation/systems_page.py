"""The part of the page on systems: target, scores, cost."""

from ft_tools.evaluation.report import EvaluationReport, SystemResult
from ft_tools.views.markup import Cell
from ft_tools.views.page import Html, badge, interval_chart, note, table

TONES = {"met": "good", "not_met": "bad", "not_shown": "warn"}


def systems_section(report: EvaluationReport) -> Html:
    """Return the table of the systems, in the order of the request."""
    metric, has_target = report.main_metric, bool(report.target)
    # Simple ones cost nothing, which is no price to compare.
    has_prices = any(one.usd_per_1000_calls for one in report.systems)
    headers = [
        "system",
        *(["target"] if has_target else []),
        *(f"{metric} [95% interval]", "tokens in, out", "seconds, 95th percentile", "cut off"),
        *(["USD per 1,000 calls"] if has_prices else []),
    ]
    rows = [
        _row(one, metric, has_target=has_target, has_prices=has_prices) for one in report.systems
    ]
    said = "Tokens are means. Seconds per answer: the median; of a batch, its time divided by its "
    return Html(_picture(report) + table(headers, rows) + note(f"{said}size."))


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
        return f"{one.name}, {_seconds(cost(one))} s per answer"

    rows = [
        (label(one), score.ci_low, score.value, score.ci_high)
        for one in sorted(report.systems, key=cost)
        if (score := one.scores[metric]).ci_low is not None
    ]
    title = f"{metric} by system, the cheapest first"
    return interval_chart(rows, title=title, x_label=metric, differences=False)


def _row(one: SystemResult, metric: str, *, has_target: bool, has_prices: bool) -> list[Cell]:
    score = one.scores[metric]
    verdict = one.target or "not_shown"
    usd = one.usd_per_1000_calls
    interval = "" if score.ci_low is None else f" [{score.ci_low:.3g}, {score.ci_high:.3g}]"
    return [
        one.name,
        *([badge(verdict.replace("_", " "), TONES[verdict])] if has_target else []),
        f"{score.value:.3g}{interval}",
        f"{one.input_tokens_mean:.0f}, {one.output_tokens_mean:.0f}",
        f"{_seconds(one.seconds_median)}, {_seconds(one.seconds_p95)}",
        one.cut_off_fraction,
        *(["no price" if usd is None else usd] if has_prices else []),
    ]


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value >= 0.001 else "<0.001"
