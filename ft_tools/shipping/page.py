"""report.html of a shipped model."""

from collections.abc import Mapping, Sequence

from ft_tools.shipping.report import FormatResult, MergeCheck, ShipReport
from ft_tools.views.charts import bar_chart
from ft_tools.views.page import Cell, Part, key_values, page, side_by_side, table

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


def report_page(report: ShipReport, prompts: Sequence[str], samples: Samples) -> str:
    """Return the page: sizes and losses, the merge's proof, samples side by side."""
    rows = [[prompt, *(samples[name][i] for name in samples)] for i, prompt in enumerate(prompts)]
    headers = ["prompt", *samples]
    recommended = report.recommended_format
    return page(
        f"Shipped: {report.name}",
        {
            "What was measured": [
                f"The tuned model: {report.measured}" if report.measured else "",
                f"System text: {report.system_text}.",
            ],
            "Formats": _formats(report.formats),
            "The task itself": _task(report) if report.task else "",
            "The merge": _merge(report.merge_check) if report.merge_check else "",
            "Greedy samples": side_by_side(headers, rows[1:]),
            "The prompts": key_values(dict(report.prompt_proof)),
        },
        lead=[
            report.answers_as_measured,
            f"Recommended format: {recommended}." if recommended else "",
        ],
        picture=bar_chart(
            [(r.format, r.size_bytes / 1e6) for r in report.formats if r.size_bytes],
            title="Size",
            x_label="MB",
        ),
        example=side_by_side(headers, rows[:1]),
        subtitle=f"{report.num_held_out_tokens} tokens of held-out text ({report.held_out})",
    )


def _formats(results: Sequence[FormatResult]) -> Part:
    rows: list[list[Cell]] = []
    for result in results:
        q = result.quality
        measured: list[Cell] = [getattr(q, name, None) for name in MEASURES.values()]
        end = q.verdict if q else result.error or result.state
        size = result.size_bytes / 1e6 or None
        rows.append([result.format, size, *measured, result.tokens_per_second, end])
    about = (
        "KL: divergence from the merged model, nats per token. Top-1: share of tokens with the "
        "same first choice. Ppl: ratio of perplexities. Ids: whether it reads the same tokens. "
        "Effect: how much of what the adapter changed is left; 1 is all of it."
    )
    return table(["format", "MB", *MEASURES, "tok/s", "verdict"], rows, about=about)


def _task(report: ShipReport) -> Part:
    rows: list[list[Cell]] = [["merged", *report.task.values()]]
    rows += [
        [r.format, *(r.task.get(name) for name in report.task)] for r in report.formats if r.task
    ]
    about = (
        f"Means over the first {report.num_task_examples} held-out examples, which is few: "
        "evaluate compares on more, with intervals."
    )
    return table(["model", *report.task], rows, about=about)


def _merge(check: MergeCheck) -> Part:
    words = "equals" if check.passed else "does NOT equal"
    seen = check.model_dump(exclude={"passed", "reference"}, exclude_none=True)
    pairs = {name.replace("_", " "): value for name, value in seen.items()}
    return [f"The merged model {words} {check.reference}.", key_values(pairs)]
