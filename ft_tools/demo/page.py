"""The HTML report of the demo: its result, and the pages of the runs that made it."""

import json
from pathlib import Path
from typing import Any

from ft_tools.evaluation.page import systems_chart, systems_table
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.views.charts import bar_chart, interval_chart
from ft_tools.views.page import Part, links, note, page, side_by_side, table

NUM_SAMPLES = 5
PAGES = {"sft": "The training", "evaluation": "The evaluation", "ship": "What was shipped"}


def build(folder: Path, found: dict[str, Any], seconds: dict[str, float]) -> str:
    """Return the page.

    Args:
        folder: The demo's workspace, with the runs in it.
        found: Reports by step: approach, prepare, audit, lora, sft, evaluation, ship.
        seconds: How long each step took, by its title.
    """
    report = EvaluationReport.model_validate(found["evaluation"]["result"])
    rows = _samples(folder, found["evaluation"]["run_id"])
    headers = ["message", "base", "tuned"]
    pages = {title: f"runs/{found[step]['run_id']}/report.html" for step, title in PAGES.items()}
    return page(
        "Messages to tickets",
        {
            "Which system to use": [
                *report.summary,
                systems_chart(report),
                systems_table(report),
            ],
            "Samples side by side": side_by_side(headers, rows[1:NUM_SAMPLES]),
            "What was shipped": found["ship"]["result"]["answers_as_measured"],
            "Decisions": _decisions(found),
            "Every run has a page": links(pages),
            "Time": [
                bar_chart(list(seconds.items()), title="Time by step", x_label="seconds"),
                note(f"{sum(seconds.values()):.0f} seconds in total on this machine."),
            ],
        },
        lead=_result(report),
        picture=interval_chart(
            [
                (row.system, row.ci_low, row.difference, row.ci_high)
                for row in report.comparisons
                if row.metric == report.main_metric
            ],
            title=f"Difference from the base model on held-out messages, {report.main_metric}",
            x_label="difference, with its 95% interval",
        ),
        example=side_by_side(headers, rows[:1]),
        subtitle="SmolLM2-135M-Instruct, fine-tuned by the demo of fine-tuning-llm",
    )


def _result(report: EvaluationReport) -> str:
    """Return the result in a sentence: what share of the messages each model got right."""
    scores = {each.name: each.scores[report.main_metric] for each in report.systems}
    tuned, base = scores["tuned"], scores["base"]
    interval = ""
    if tuned.ci_low is not None and tuned.ci_high is not None:
        interval = f" [{tuned.ci_low:.0%}, {tuned.ci_high:.0%}]"
    return (
        f"The tuned model has {tuned.value:.0%} of {report.num_examples} held-out messages exactly "
        f"right{interval}, the base model {base.value:.0%}."
    )


def _samples(folder: Path, run_id: str) -> list[list[object]]:
    lines = (folder / "runs" / run_id / "samples.jsonl").read_text("utf-8").splitlines()
    return [
        [
            f"{sample['prompt']}\n\nexpected:\n{sample['reference']}",
            sample["answers"]["base"],
            sample["answers"]["tuned"],
        ]
        for sample in sorted(map(json.loads, lines), key=lambda sample: int(sample["line"]))
    ]


def _decisions(found: dict[str, Any]) -> Part:
    lora, audit = found["lora"], found["audit"]
    return [
        f"Approach: {found['approach']['approach']}. Verdict on {audit['num_examples']} training "
        f"examples: {audit['verdict']}. Method: {lora['method']}, rank {lora['peft']['r']}, "
        f"{lora['trainable_fraction']:.2%} of the parameters.",
        table(
            ["rule", "observed", "source"],
            [[one["rule"], str(one["observed"]), one["source"]] for one in lora["reasons"]],
        ),
    ]
