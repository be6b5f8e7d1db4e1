"""Train a real model on a checked reward, and see whether held-out prompts earn more of it.

`python -m benchmarks.grpo [--seeds N]` takes SmolLM2-135M-Instruct and prompts that ask for the
number after a number, with two examples. The reward is that the whole answer equals the reference.
Each seed is a run of launch_grpo with the same prompts; in the control the references are those of
other rows, so that nothing can be learned. The defaults decide everything but steps, batch, length
and rate, which are those that a CPU affords. Measured: the mean reward of four sampled answers to
each held-out prompt, at the start and at the last step, row by row; intervals of 95%. The result is
`benchmarks/grpo.json`.
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

from ft_tools import workspace
from ft_tools.models import demo
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.tool import launch_grpo

OUT = Path(__file__).with_name("grpo.json")
PACKAGES = ("torch", "transformers", "trl", "peft")
HELD_OUT = 24
TRAINING = {
    "max_steps": 8,
    "eval_steps": 8,
    "max_completion_length": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "learning_rate": 5e-4,
    "warmup_steps": 0,
}


def rows(*, shuffled: bool) -> list[dict[str, Any]]:
    """Return prompts with references, in an order of their own; shuffled ones are of other rows."""
    shown = [
        {"role": role, "content": text}
        for number in (12, 77)
        for role, text in (("user", f"After {number} comes"), ("assistant", str(number + 1)))
    ]
    numbers = [number for number in range(11, 99) if number not in (12, 77)]
    random.Random(0).shuffle(numbers)
    answers = [str(number + 1) for number in numbers]
    if shuffled:
        answers = answers[7:] + answers[:7]
    return [
        {"prompt": [*shown, {"role": "user", "content": f"After {number} comes"}], "answer": answer}
        for number, answer in zip(numbers, answers, strict=True)
    ]


def write(folder: Path, *, shuffled: bool) -> dict[str, str]:
    """Write the two files; their names as arguments of a launch."""
    kind = "shuffled" if shuffled else "right"
    every = rows(shuffled=shuffled)
    named = {"validation": every[:HELD_OUT], "dataset": every[HELD_OUT:]}
    for name, part in named.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{kind}-{name}.jsonl").write_text(text)
    return {name: f"{kind}-{name}.jsonl" for name in named}


def ended(run_id: str | None) -> Any:
    """Wait for a run's end; its report."""
    while True:
        run = get_run(RunRequest(run_id=str(run_id), log_lines=40))
        if run.state in ENDED:  # type: ignore[union-attr]
            return run
        time.sleep(1)


def trained(files: dict[str, str], seed: int, *, probe: bool) -> dict[str, Any]:
    """Launch a run, probed before if wanted; what it earned."""
    request = GrpoRequest(
        model=str(demo.folder()),
        rewards=[{"kind": "equals"}],  # type: ignore[list-item]
        training={**TRAINING, "seed": seed},
        probe=probe,
        stop_rules=False,
        **files,
    )
    began = time.monotonic()
    planned = launch_grpo(request)
    if not planned.plan_hash:
        assert ended(planned.run_id).state == "succeeded"
        planned = launch_grpo(request)
    started = launch_grpo(request.model_copy(update={"confirm": planned.plan_hash}))
    run = ended(started.run_id)
    assert run.state == "succeeded", run
    result = run.result
    found = {"seed": seed, "held_out": result["held_out_gain"], "health": result.get("health", [])}
    found["diagnosis"] = [one["id"] for one in result.get("diagnosis", [])]
    found["rewards"] = [round(row["eval_reward"], 4) for row in run.evaluations]
    if probe:
        found["probe"] = planned.plan["probe"]
    return found | {"seconds": round(time.monotonic() - began, 1)}


def main() -> None:
    """Run the seeds and the control, and write the result."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    with tempfile.TemporaryDirectory() as temporary:
        os.environ[workspace.VARIABLE] = os.pathsep.join([temporary, str(demo.folder().parent)])
        folder = Path(temporary)
        right, shuffled = (write(folder, shuffled=it) for it in (False, True))
        runs = [trained(right, seed, probe=seed == 0) for seed in range(seeds)]
        control = trained(shuffled, 0, probe=False)
    result = {
        "model": demo.folder().name,
        "training": TRAINING,
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
