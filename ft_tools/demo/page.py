"""The HTML report of the demo, built from the reports that its tools returned."""

import json
from pathlib import Path
from typing import Any

from ft_tools.evaluation.page import systems_section
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.views.page import (
    Html,
    bar_chart,
    interval_chart,
    key_values,
    line_chart,
    note,
    page,
    side_by_side,
    table,
    text,
)

MIB = 2**20
NUM_SAMPLES = 5


def build(folder: Path, found: dict[str, Any], seconds: dict[str, float]) -> str:
    """Return the page.

    Args:
        folder: The demo's workspace, with the runs in it.
        found: Reports by step: approach, prepare, audit, lora, vram, sft, evaluation, ship.
        seconds: How long each step took, by its title.
    """
    report = EvaluationReport.model_validate(found["evaluation"]["result"])
    rows = _samples(folder, found["evaluation"]["run_id"])
    headers = ["message", "base", "tuned"]
    return page(
        "Messages to tickets",
        {
            "Which system to use": _systems(report),
            "Samples side by side": side_by_side(headers, rows[1:NUM_SAMPLES]),
            "Training": _curves(folder, found),
            "What was shipped": _shipped(found["ship"]["result"]),
            "The data": _data(found["prepare"], found["audit"]),
            "Decisions": _decisions(found),
            "Time": _time(seconds),
        },
        lead=text(_result(report)),
        picture=_differences(report),
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


def _differences(report: EvaluationReport) -> Html:
    rows = report.comparisons
    return interval_chart(
        [(row.system, row.ci_low, row.difference, row.ci_high) for row in rows],
        title=f"Difference from the base model on held-out messages, {report.main_metric}",
        x_label="difference, with its 95% interval",
    )


def _systems(report: EvaluationReport) -> Html:
    sentences = "".join(text(sentence) for sentence in report.summary)
    return Html(sentences + systems_section(report))


def _samples(folder: Path, run_id: str) -> list[list[object]]:
    rows: list[list[object]] = []
    lines = (folder / "runs" / run_id / "samples.jsonl").read_text("utf-8").splitlines()
    for sample in sorted(map(json.loads, lines), key=lambda sample: int(sample["line"])):
        asked = f"{sample['prompt']}\n\nexpected:\n{sample['reference']}"
        answers = sample["answers"]
        rows.append([asked, answers["base"], answers["tuned"]])
    return rows


def _curves(folder: Path, found: dict[str, Any]) -> Html:
    sft = _series(folder, found["sft"]["run_id"], {"loss": "training", "eval_loss": "validation"})
    return line_chart(sft, title="Supervised fine-tuning", x_label="step", y_label="loss")


def _series(
    folder: Path, run_id: str, names: dict[str, str]
) -> dict[str, list[tuple[float, float]]]:
    lines = (folder / "runs" / run_id / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {
        shown: [(row["step"], row[name]) for row in rows if name in row]
        for name, shown in names.items()
    }


def _shipped(result: dict[str, Any]) -> Html:
    """Return whether the files answer as measured, which one to use, and a chat."""
    said = Html(text(result["answers_as_measured"]) + text(result["measured"]))
    if result["recommended_format"]:
        said = Html(said + text(f"Recommended format: {result['recommended_format']}."))
    said = Html(said + text(f"System text: {result['system_text']}."))
    return Html(said + _sizes(result) + (_chat(result["chat"]) if result["chat"] else Html("")))


def _sizes(result: dict[str, Any]) -> Html:
    rows = result["formats"]
    bars = bar_chart(
        [(row["format"], row["size_bytes"] / MIB) for row in rows],
        title="Size on disk",
        x_label="MiB",
    )
    quality = table(
        ["format", "MiB", "mean KL", "same top token", "perplexity ratio", "verdict"],
        [
            [
                *(row["format"], row["size_bytes"] / MIB),
                *(
                    (row["quality"] or {}).get(key)
                    for key in ("mean_kl", "top1_agreement", "perplexity_ratio", "verdict")
                ),
            ]
            for row in rows
        ],
    )
    return Html(bars + quality + note("Compared with the merged model on held-out text."))


def _chat(chat: dict[str, Any]) -> Html:
    about = note(f"{chat['format']}, {chat['num_tokens']} tokens in {chat['seconds']:.1f} seconds.")
    return Html(side_by_side(["message", "answer"], [[chat["message"], chat["answer"]]]) + about)


def _data(prepared: dict[str, Any], audit: dict[str, Any]) -> Html:
    parts = table(["rows of the table", "count"], [*map(list, prepared["counts"].items())])
    masked = ", ".join(f"{kind} in {count}" for kind, count in prepared["masked"].items())
    rows = [
        [
            finding["id"],
            finding["severity"],
            finding["count"],
            ", ".join(map(str, finding["lines"])),
        ]
        for finding in audit["findings"]
    ]
    found = table(["finding", "severity", "examples", "first lines"], rows)
    said = text(f"Masked before training: {masked or 'nothing'}.")
    verdict = text(f"Verdict on {audit['num_examples']} training examples: {audit['verdict']}.")
    return Html(parts + said + verdict + found)


def _decisions(found: dict[str, Any]) -> Html:
    lora = found["lora"]
    facts = key_values(
        {
            "approach": found["approach"]["approach"],
            "method": lora["method"],
            "rank": lora["peft"]["r"],
            "trainable parameters": lora["trainable_params"],
            "trainable fraction": f"{lora['trainable_fraction']:.2%}",
            "learning rate": lora["training"]["learning_rate"],
        }
    )
    ladder = [
        [f"{each['rung']}: {each['state']}", each.get("why", ""), each.get("stop", "")]
        for each in found["approach"]["ladder"]
    ]
    rows = [[one["rule"], str(one["observed"]), one["source"]] for one in lora["reasons"]]
    climbed = table(["step", "why", "stop when"], ladder)
    return Html(facts + climbed + table(["rule", "observed", "source"], rows))


def _time(seconds: dict[str, float]) -> Html:
    chart = bar_chart(list(seconds.items()), title="Time by step", x_label="seconds")
    return Html(chart + note(f"{sum(seconds.values()):.0f} seconds in total on this machine."))
