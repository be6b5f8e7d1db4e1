"""report.html of a shipped model."""

from collections.abc import Mapping, Sequence

from ft_tools.shipping.report import MergeCheck, ShipReport
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


def report_page(report: ShipReport, prompts: Sequence[str], samples: Samples) -> str:
    """Return the page: sizes and losses, the merge's proof, samples side by side."""
    rows = [[prompt, *(samples[name][i] for name in samples)] for i, prompt in enumerate(prompts)]
    asked = ""
    if report.chat is not None:
        answered = [[report.chat.message, report.chat.answer]]
        asked = side_by_side(["message", report.chat.format], answered)
    has_stand_ins = any(result.fallback_tensors for result in report.formats)
    lead = text(report.answers_as_measured)
    if report.recommended_format:
        lead = Html(lead + text(f"Recommended format: {report.recommended_format}."))
    measured = text(f"The tuned model: {report.measured}") if report.measured else ""
    return page(
        f"Shipped: {report.name}",
        {
            "What was measured": measured + text(f"System text: {report.system_text}."),
            "Formats": _formats(report),
            "The task itself": _task(report) if report.task else "",
            "Tensors in other types": _stand_ins(report) if has_stand_ins else "",
            "The merge": _merge(report.merge_check) if report.merge_check else "",
            "Greedy samples": side_by_side(["prompt", *samples], rows),
            "The prompts": key_values(dict(report.prompt_proof)),
        },
        lead=lead,
        picture=_curve(report),
        example=asked,
        subtitle=f"{report.num_held_out_tokens} tokens of held-out text ({report.held_out})",
    )


def _formats(report: ShipReport) -> str:
    headers = ["format", "MB", "mean KL", "99 % KL", "top-1", "ppl x", "ids", "effect", "tok/s"]
    headers.append("verdict")
    rows = []
    for result in report.formats:
        q = result.quality
        size = result.size_bytes / 1e6 or None
        end = (result.error or result.state) if q is None else q.verdict
        measured = (
            [None] * 6
            if q is None
            else [
                q.mean_kl,
                q.p99_kl,
                q.top1_agreement,
                q.perplexity_ratio,
                q.tokenizer_parity,
                q.effect_kept_fraction,
            ]
        )
        rows.append([result.format, size, *measured, result.tokens_per_second, end])
    return table(headers, rows) + note(
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


def _stand_ins(report: ShipReport) -> str:
    rows: list[list[Cell]] = [
        [r.format, kind, ", ".join(names)]
        for r in report.formats
        for kind, names in r.fallback_tensors.items()
    ]
    return table(["format", "held as", "tensors"], rows) + note(
        "Their rows are no multiple of 256 weights, which K-quants work on."
    )


def _curve(report: ShipReport) -> str:
    made = [r for r in report.formats if r.quality is not None]
    points = sorted((r.size_bytes / 1e6, r.quality.mean_kl) for r in made if r.quality)
    sizes = bar_chart(
        [(r.format, r.size_bytes / 1e6) for r in report.formats if r.size_bytes],
        title="Size",
        x_label="MB",
    )
    if len(points) < 2:
        return sizes
    curve = line_chart(
        {"least mean KL up to this size": frontier(points)},
        title="What each megabyte buys",
        x_label="MB",
        y_label="nats per token",
    )
    return sizes + curve


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


def _merge(check: MergeCheck) -> str:
    words = "equals" if check.passed else "does NOT equal"
    pairs: dict[str, Cell] = {
        "mean KL, nats per token": check.mean_kl,
        "mean KL of the base without the adapter": check.adapter_kl,
        "share of the adapter's effect": check.applied_fraction,
        "largest logit difference": check.max_abs_logit_difference,
        "same first choice": check.top1_agreement,
        "same greedy texts": f"{check.same_greedy_texts} of {check.num_prompts}",
        "tokens": check.num_tokens,
        "computed in": check.compute_dtype,
    }
    if check.mean_kl_as_trained is not None:
        pairs["mean KL from the 4-bit base with adapter"] = check.mean_kl_as_trained
    return text(f"The merged model {words} {check.reference}.") + key_values(pairs)
