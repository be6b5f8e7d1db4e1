"""report.html of a shipped model: sizes and losses, the merge's proof, samples side by side."""

from collections.abc import Mapping, Sequence

from ft_tools.shipping.report import MergeCheck, ShipReport
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
ABOUT_FORMATS = (
    "KL: divergence from the merged model, nats per token. Top-1: share of tokens with the same "
    "first choice. Ppl: ratio of perplexities. Ids: whether it reads the same tokens. Effect: how "
    "much of what the adapter changed is left; 1 is all of it."
)


def report_page(report: ShipReport, prompts: Sequence[str], samples: Samples) -> str:
    """Return the page."""
    rows = [[prompt, *(samples[name][i] for name in samples)] for i, prompt in enumerate(prompts)]
    headers, recommended = ["prompt", *samples], report.recommended_format
    formats: list[list[Cell]] = []
    for one in report.formats:
        q = one.quality
        measured: list[Cell] = [getattr(q, name, None) for name in MEASURES.values()]
        end = q.verdict if q else one.error or one.state
        size = one.size_bytes / 1e6 or None
        formats.append([one.format, size, *measured, one.tokens_per_second, end])
    tasks: list[list[Cell]] = [["merged", *report.task.values()]]
    tasks += [
        [one.format, *(one.task.get(name) for name in report.task)]
        for one in report.formats
        if one.task
    ]
    about_task = (
        f"Means over the first {report.num_task_examples} held-out examples, which is few: "
        "evaluate compares on more, with intervals."
    )
    columns = ["format", "MB", *MEASURES, "tok/s", "verdict"]
    return page(
        f"Shipped: {report.name}",
        {
            "What was measured": [
                f"The tuned model: {report.measured}" if report.measured else "",
                f"System text: {report.system_text}.",
            ],
            "Formats": table(columns, formats, about=ABOUT_FORMATS),
            "The task itself": (
                table(["model", *report.task], tasks, about=about_task) if report.task else ""
            ),
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


def _merge(check: MergeCheck) -> Part:
    words = "equals" if check.passed else "does NOT equal"
    seen = check.model_dump(exclude={"passed", "reference"}, exclude_none=True)
    pairs = {name.replace("_", " "): value for name, value in seen.items()}
    return [f"The merged model {words} {check.reference}.", key_values(pairs)]
