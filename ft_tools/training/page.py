"""The page of a training run, which people look at meanwhile."""

from typing import Any

from ft_tools.runs.state.records import Health
from ft_tools.training.health import Metrics, Rows
from ft_tools.training.samples import Sample
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.views.charts import line_chart
from ft_tools.views.page import Part, key_values, note, page, side_by_side, table

REFRESH_SECONDS = 15
NOTHING_YET = note("No step has been logged yet.")
TRAINED = note("One example as it is trained: a held-out one where there are any.")
SAMPLED = note("Held-out prompts, one sampled answer each with its reward by part.")
Chart = tuple[str, dict[str, str], str, int]
"""Heading, metric by the name of its line, unit, and the points from which on a line is drawn."""
PREFERENCES: list[Chart] = [
    ("Loss", {"train": "loss", "validation": "eval_loss"}, "loss", 1),
    ("Rewards", {n: f"rewards/{n}" for n in ("chosen", "rejected", "margins")}, "reward", 1),
    ("Pairs ranked right", {"accuracy": "rewards/accuracies"}, "fraction", 2),
]
REINFORCED: list[Chart] = [
    ("Reward", {"train": "reward", "held out": "eval_reward"}, "reward", 1),
    ("Groups without spread", {"training": "zero_spread_fraction"}, "fraction", 2),
    ("Entropy", {"training": "entropy"}, "nats a token", 2),
    ("Length", {"mean": "completions/mean_length"}, "tokens", 2),
    ("Cut answers", {"training": "completions/clipped_ratio"}, "fraction", 2),
    ("Distance to the start", {"kl": "kl"}, "KL", 2),
]
"""The first chart of each is the page's picture."""


def run_page(
    title: str,
    plan: TrainingPlan,
    rows: Rows,
    health: list[Health],
    state: str,
    answers: list[Sample],
) -> str:
    """Return the run's page: losses, rewards, health, what is trained on what.

    A page whose `state` is other than running no longer refreshes itself.
    """
    logged = Metrics(rows)
    picture, *others = [_drawn(chart, logged) for chart in _charts(plan)]
    signals = [[one.severity, one.signal, one.observed, one.advice] for one in health]
    facts = {
        "model": plan.model.name,
        "method": plan.method,
        "dataset": f"{plan.dataset.path} ({plan.dataset.num_examples} examples)",
        "validation": plan.validation.path if plan.validation else "none",
        "device": f"{plan.device.name} ({plan.device.model})",
        "effective batch": plan.effective_batch,
        "learning rate": plan.training["learning_rate"],
        "max_length": plan.training.get("max_length"),
        "state": state,
    }
    return page(
        title,
        {
            "Rewards": (others if any(others) else NOTHING_YET) if plan.task != "sft" else "",
            "Health": table(["severity", "signal", "observed", "advice"], signals)
            or note("Nothing out of the ordinary."),
            "Run": key_values({name: str(value) for name, value in facts.items()}),
        },
        lead=_sentence(logged, state),
        picture=picture or NOTHING_YET,
        example=_examples(answers),
        subtitle=plan.model.name,
        refresh_seconds=REFRESH_SECONDS if state == "running" else None,
    )


def _charts(plan: Any) -> list[Chart]:
    """Return the charts of a kind of run; SFT has a loss alone."""
    if plan.task != "grpo":
        return PREFERENCES[: 1 if plan.task == "sft" else None]
    names = [one.name for one in plan.rewards]
    parts: list[Chart] = [
        ("Parts of the reward", {n: f"rewards/{n}/mean" for n in names}, "reward", 2),
        ("Held-out parts", {n: f"eval_rewards/{n}/mean" for n in names}, "reward", 1),
    ]
    return [REINFORCED[0], *parts, *REINFORCED[1:]]


def _drawn(chart: Chart, logged: Metrics) -> Part:
    """Return a chart; empty before there are points."""
    heading, names, unit, least = chart
    found = {line: logged.series(name) for line, name in names.items()}
    lines = {line: points for line, points in found.items() if len(points) >= least}
    return line_chart(lines, title=heading, x_label="step", y_label=unit) if lines else ""


def _sentence(logged: Metrics, state: str) -> str:
    """Return the run's result in a sentence."""
    names = {"training loss": "loss", "validation loss": "eval_loss"}
    if logged.last("reward") is not None:
        names = {"training reward": "reward", "held-out reward": "eval_reward"}
    shown = {name: logged.last(metric) for name, metric in names.items()}
    losses = ", ".join(f"{name} {value:.3f}" for name, value in shown.items() if value is not None)
    step = logged.last("step") or 0
    return f"{state.capitalize()} at step {step:.0f}" + (f": {losses}." if losses else ".")


def _examples(rows: list[Sample]) -> Part:
    """Show each prompt with its completions, first and latest, and the answer in the file.

    A run that samples none shows one prompt and answer as they are trained.
    """
    answers = {(row["step"], row["number"]): row["text"] for row in rows if "text" in row}
    if not answers:
        lines = [[row["prompt"], row["expected"]] for row in rows]
        return [TRAINED, side_by_side(["prompt", "answer"], lines)] if rows else ""
    last = max(step for step, _ in answers)
    lines = [
        [row["prompt"], *(answers.get((step, row["number"]), "") for step in (0, last)),
         row["expected"]]
        for row in rows
        if "prompt" in row
    ]  # fmt: skip
    headers = ["prompt", "before training", f"step {last}", "in the file"]
    return [SAMPLED, side_by_side(headers, lines)]
