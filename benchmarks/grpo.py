"""Train a small model on a checked reward, and see whether held-out prompts earn more of it.

`python -m benchmarks.grpo [--seeds N]` takes the Llama of a million parameters of
benchmarks/small_models.py and mails to label as complaint or request. SFT on labels drawn at random
teaches it to answer with one of the two words, half of them wrong. Each seed is then a run of
launch_grpo from it with the right labels, rewarded by `equals`; the control has the labels of other
mails, so that nothing can be learned. Measured: the mean reward of four sampled answers to each
held-out mail, whose sentences and names are in part in no mail that is trained on: at the start and
at the last step, mail by mail, with intervals of 95%. The result is `benchmarks/grpo.json`.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.small_models import random_llama
from benchmarks.small_tasks import TASKS, pairs, row
from ft_tools import workspace
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_grpo, launch_sft

OUT = Path(__file__).with_name("grpo.json")
PACKAGES = ("torch", "transformers", "trl", "peft")
MAILS, HELD_OUT = 400, 60
STEPS = 100
FORM = {"max_steps": 60, "learning_rate": 1e-3, "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1, "max_length": 256}  # fmt: skip
REWARDED = {"max_steps": STEPS, "eval_steps": STEPS, "max_completion_length": 6,
            "learning_rate": 5e-4, "per_device_train_batch_size": 64,
            "gradient_accumulation_steps": 1}  # fmt: skip
ACCEPTED = {
    "accept_findings": ["contradictions", "validation_unwatched", "no_quality_filter"],
    "accept_reason": "labels at random teach the form alone",
}


def rows(count: int, *, held_out: bool, shuffled: bool) -> list[dict[str, Any]]:
    """Return mails with their labels, or with those of other mails."""
    task = TASKS["mails"]
    made = pairs(task, count, 1, held_out=held_out)
    labels = [label for _, label in made]
    if shuffled:
        random.Random(0).shuffle(labels)
    return [
        row(task, (prompt, label)) for (prompt, _), label in zip(made, labels, strict=True)
    ]  # fmt: skip


def write(folder: Path, name: str, made: list[dict[str, Any]]) -> str:
    """Write a file; its name."""
    (folder / name).write_text("".join(json.dumps(one) + "\n" for one in made))
    return name


def ended(run_id: str | None) -> Any:
    """Wait for a run that succeeds; its report."""
    while True:
        run: Any = get_run(RunRequest(run_id=str(run_id), log_lines=40))
        if run.state in ENDED:
            assert run.state == "succeeded", run
            return run
        time.sleep(1)


def started(launch: Any, request: Any) -> Any:
    """Plan, or measure and plan, confirm and wait; the plan and the run's report."""
    planned = launch(request)
    if not planned.plan_hash:
        ended(planned.run_id)
        planned = launch(request)
    return planned.plan, ended(
        launch(request.model_copy(update={"confirm": planned.plan_hash})).run_id
    )


def rewarded(sft_run: str, files: dict[str, str], seed: int, *, probe: bool) -> dict[str, Any]:
    """Train with the reward; what it earned."""
    request = GrpoRequest(
        sft_run=sft_run,
        rewards=[{"kind": "equals"}],  # type: ignore[list-item]
        method="full",
        training={**REWARDED, "seed": seed},
        probe=probe,
        stop_rules=False,
        **files,
    )
    began = time.monotonic()
    plan, run = started(launch_grpo, request)
    result = run.result
    found = {"seed": seed, "held_out": result["held_out_gain"]}
    found["diagnosis"] = [one["id"] for one in result.get("diagnosis", [])]
    found["health"] = [one["signal"] for one in result.get("health", [])]
    return (
        found
        | ({"probe": plan["probe"]} if probe else {})
        | {"seconds": round(time.monotonic() - began, 1)}
    )


def main() -> None:
    """Teach the form, run the seeds and the control, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ[workspace.VARIABLE] = temporary
        random_llama(folder / "llama")
        files = {
            kind: {
                name: write(
                    folder, f"{kind}-{name}.jsonl", rows(count, held_out=it, shuffled=other)
                )
                for name, count, it in (("dataset", MAILS, False), ("validation", HELD_OUT, True))
            }
            for kind, other in (("right", False), ("shuffled", True))
        }
        request = SftRequest(
            model="llama", method="full", training=FORM, dataset=files["shuffled"]["dataset"],
            **ACCEPTED,
        )  # fmt: skip
        _, form = started(launch_sft, request)
        runs = [rewarded(form.run_id, files["right"], at, probe=at == 0) for at in range(seeds)]
        control = rewarded(form.run_id, files["shuffled"], 0, probe=False)
    result = {
        "model": "random_llama",
        "form": FORM,
        "rewarded": REWARDED,
        "packages": {name: version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "runs": runs,
        "shuffled": control,
    }
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    for one in [*runs, control]:
        print(one["seed"], one["held_out"], one["diagnosis"], one["seconds"])


if __name__ == "__main__":
    main()
