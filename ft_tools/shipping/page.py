"""report.html of a shipped model."""

from collections.abc import Mapping, Sequence

from ft_tools.shipping.report import FormatResult, MergeCheck, ShipReport
from ft_tools.views.markup import Cell
from ft_tools.views.page import (
    Html,
    bar_chart,
    key_values,
    line_chart,
    note,
    page,
    side_by_side,
    table,
    text,
)

Samples = Mapping[str, Sequence[str]]
"""Greedy continuations by format, in the order of the prompts."""
MEASURES = {
    "mean KL": "mean_kl",
    "99 % KL": "p99_kl",
    "top-1": "top1_agreement",
    "ppl x": "perplexity_ratio",
    "ids": "tokenizer_parity",
    "effect": "effect_kept_fraction",
}
"""Columns of the table of formats -> fields of a quality."""
MERGE = {
    "mean KL, nats per token": "mean_kl",
    "mean KL of the base without the adapter": "adapter_kl",
    "share of the adapter's effect": "applied_fraction",
    "largest logit difference": "max_abs_logit_difference",
    "same first choice": "top1_agreement",
    "same greedy texts": "same_greedy_texts",
    "prompts": "num_prompts",
    "tokens": "num_tokens",
    "computed in": "compute_dtype",
    "mean KL from the 4-bit base with adapter": "mean_kl_as_trained",
}


def report_page(report: ShipReport, prompts: Sequence[str], samples: Samples) -> str:
    """Return the page: sizes and losses, the merge's proof, samples side by side."""
    rows = [[prompt, *(samples[name][i] for name in samples)] for i, prompt in enumerate(prompts)]
    lead = text(report.answers_as_measured)
    if report.recommended_format:
        lead = Html(lead + text(f"Recommended format: {report.recommended_format}."))
    measured = text(f"The tuned model: {report.measured}") if report.measured else ""
    return page(
        f"Shipped: {report.name}",
        {
            "What was measured": measured + text(f"System text: {report.system_text}."),
            "Formats": _formats(report.formats),
            "The task itself": _task(report) if report.task else "",
            "The merge": _merge(report.merge_check) if report.merge_check else "",
            "Greedy samples": side_by_side(["prompt", *samples], rows),
            "The prompts": key_values(dict(report.prompt_proof)),
        },
        lead=lead,
        picture=_curve(report.formats),
        subtitle=f"{report.num_held_out_tokens} tokens of held-out text ({report.held_out})",
    )


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points, by size, that lose less than every smaller one.

    >>> frontier([(1.0, 0.2), (1.1, 0.5), (2.0, 0.01)])
    [(1.0, 0.2), (2.0, 0.01)]
    """
    kept: list[tuple[float, float]] = []
    for point in sorted(points):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept


def _formats(results: Sequence[FormatResult]) -> str:
    rows: list[list[Cell]] = []
    for result in results:
        q = result.quality
        measured: list[Cell] = [getattr(q, name, None) for name in MEASURES.values()]
        end = q.verdict if q else result.error or result.state
        size = result.size_bytes / 1e6 or None
        rows.append([result.format, size, *measured, result.tokens_per_second, end])
    return table(["format", "MB", *MEASURES, "tok/s", "verdict"], rows) + note(
        "KL: divergence from the merged model, nats per token. Top-1: share of tokens with the "
        "same first choice. Ppl: ratio of perplexities. Ids: whether it reads the same tokens. "
        "Effect: how much of what the adapter changed is left; 1 is all of it."
    )


def _task(report: ShipReport) -> str:
    rows: list[list[Cell]] = [["merged", *report.task.values()]]
    rows += [
        [r.format, *(r.task.get(name) for name in report.task)] for r in report.formats if r.task
    ]
    return table(["model", *report.task], rows) + note(
        f"Means over the first {report.num_task_examples} held-out examples, which is few: "
        "evaluate compares on more, with intervals."
    )


def _curve(results: Sequence[FormatResult]) -> str:
    sizes = bar_chart(
        [(r.format, r.size_bytes / 1e6) for r in results if r.size_bytes],
        title="Size",
        x_label="MB",
    )
    points = [(r.size_bytes / 1e6, r.quality.mean_kl) for r in results if r.quality is not None]
    if len(points) < 2:
        return sizes
    curve = line_chart(
        {"least mean KL up to this size": frontier(points)},
        title="What each megabyte buys",
        x_label="MB",
        y_label="nats per token",
    )
    return sizes + curve


def _merge(check: MergeCheck) -> str:
    words = "equals" if check.passed else "does NOT equal"
    pairs: dict[str, Cell] = {shown: getattr(check, name) for shown, name in MERGE.items()}
    return text(f"The merged model {words} {check.reference}.") + key_values(
        {shown: value for shown, value in pairs.items() if value is not None}
    )
