"""Train a real model on marks (KTO), and measure what it learned on held-out marks.

`python -m benchmarks.kto [--resume]` takes the demo's tickets and SmolLM2-135M-Instruct. Every
ticket has one answer with a thumb: the right JSON (up), or one of two bad ones (down): the JSON
inside polite prose, or the JSON of another category. The table goes through prepare_dataset with
`marks` of the column thumbs and is trained with launch_dpo, whose defaults decide everything but
the number of steps and of evaluations. With `--resume` the same plan is then run again, cancelled
and resumed; tests/tiny/test_kto.py does so with a tiny model each time.

Measured on the demo's held-out tickets, each with its good and one bad answer: by how much the
log-probability of the good answer is above that of the bad one, before and after; and the reward
that KTO defines, beta times the log-probability under the trained model minus that under the base,
with its margin of good over bad, which is 0 before training. The intervals are 95% of 10,000
bootstrap samples of the tickets. The result is `benchmarks/kto.json`.

Source: https://arxiv.org/abs/2402.01306 (KTO)
"""

import csv
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ft_tools import workspace
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.demo import data
from ft_tools.models import demo
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import cancel_run, get_run, resume_run
from ft_tools.training.request import DpoRequest
from ft_tools.training.tool import launch_dpo

OUT = Path(__file__).with_name("kto.json")
PACKAGES = ("torch", "transformers", "trl", "peft")
CATEGORIES = ("account", "billing", "delivery", "returns", "technical")
FIELDS = ("category", "priority", "product", "order")
SYSTEM = (
    "Read the customer's message and answer with one JSON object with the fields "
    '"category", "priority", "product" and "order".'
)
HELD_OUT_EACH = 6
TRAINED = 240
BETA = 0.1
"""TRL's default, which the plan keeps."""
SAMPLES = 10_000
STEPS = 66
Turns = list[dict[str, str]]


def tickets() -> list[tuple[Turns, str]]:
    """Return question and right answer of the demo's tickets, each question once."""
    path = Path(data.__file__).with_name("tickets.csv")
    found: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            # Some rows of the demo are faulty on purpose.
            if row["category"] in CATEGORIES and row["message"].strip():
                answer = {name: row[name] or None for name in FIELDS}
                found.setdefault(row["message"].strip(), json.dumps(answer))
    asked = [{"role": "system", "content": SYSTEM}]
    return [([*asked, {"role": "user", "content": said}], found[said]) for said in found]


def trained_tickets() -> list[tuple[Turns, str]]:
    """Return the tickets that are trained on."""
    return [one for at, one in enumerate(tickets()) if at % HELD_OUT_EACH][:TRAINED]


def held_out_tickets() -> list[tuple[Turns, str]]:
    """Return the tickets that are measured on."""
    return tickets()[::HELD_OUT_EACH]


def in_prose(answer: str) -> str:
    """Wrap an answer as a chatty model does."""
    return f"Sure! Here is the ticket that you asked for:\n\n{answer}\n\nLet me know if it helps."


def of_another_category(answer: str, at: int) -> str:
    """Return the answer with a wrong category."""
    ticket = json.loads(answer)
    others = [name for name in CATEGORIES if name != ticket["category"]]
    return json.dumps(ticket | {"category": others[at % len(others)]})


def bad_answer(answer: str, at: int) -> tuple[str, str]:
    """Return a bad answer and its kind."""
    if at % 2:
        return in_prose(answer), "in_prose"
    return of_another_category(answer, at), "another_category"


def write_table(path: Path) -> None:
    """Write the marked answers as a table, every second one good."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "thumbs"])
        for at, (asked, answer) in enumerate(trained_tickets()):
            is_good = at % 2 == 0
            said = answer if is_good else bad_answer(answer, at // 2)[0]
            writer.writerow([asked[-1]["content"], said, "up" if is_good else "down"])


def prepared(folder: Path) -> dict[str, Any]:
    """Prepare the table as a user would; return the arguments of the launch that is offered."""
    write_table(folder / "marks.csv")
    mapping = {
        "prompt": "{question}",
        "answer": ["answer"],
        "marks": {"column": "thumbs", "good": ["up"], "bad": ["down"]},
        "system": SYSTEM,
    }
    shown = prepare_dataset(PrepareRequest(path="marks.csv", mapping=mapping, test_fraction=0))
    made = prepare_dataset(PrepareRequest(**shown.next_steps[0].arguments))
    launch = next(step for step in made.next_steps if step.tool == "launch_dpo")
    return launch.arguments


def started(request: DpoRequest) -> str:
    """Plan, confirm and start a run; return its id."""
    plan = launch_dpo(request)
    run_id = launch_dpo(request.model_copy(update={"confirm": plan.plan_hash})).run_id
    assert run_id is not None
    return run_id


def ended(run_id: str, *, at_step: int | None = None) -> Any:
    """Wait for a run's end, or for a step; return its report."""
    while True:
        report = get_run(RunRequest(run_id=run_id))
        step = report.progress.step if report.progress else 0
        if report.state in ENDED or (at_step is not None and (step or 0) >= at_step):
            return report
        time.sleep(0.2)


def stopped_and_resumed(request: DpoRequest, step: int) -> tuple[str, int]:
    """Run the same again, cancelled after some steps and resumed; its id and where it stopped."""
    run_id = started(request)
    ended(run_id, at_step=step)
    cancel_run(CancelRequest(run_id=run_id))
    at = ended(run_id).progress.step
    resume_run(ResumeRequest(run_id=run_id))
    report = ended(run_id)
    assert report.state == "succeeded", report
    return run_id, at


def adapter_of(run_id: str) -> Path:
    """Return the folder of a run's adapter."""
    (file,) = (workspace.runs_dir() / run_id / "artifacts").rglob("adapter_model.safetensors")
    return file.parent


def log_probabilities(adapter: Path, folder: Path) -> dict[str, np.ndarray]:
    """Return kind of bad answer -> log-probabilities, shape (tickets, after|before, good|bad)."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()

    def said(asked: Turns, answer: str) -> float:
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        first = len(tokenizer(prompt).input_ids)
        ids = tokenizer(f"{prompt}{answer}<|im_end|>", return_tensors="pt").input_ids
        with torch.no_grad():
            logits = model(ids).logits[0, :-1].log_softmax(-1)
        chosen = logits.gather(1, ids[0, 1:, None])[first - 1 :]
        return float(chosen.sum())

    found: dict[str, list[list[list[float]]]] = {}
    for at, (asked, answer) in enumerate(held_out_tickets()):
        bad, kind = bad_answer(answer, at)
        after = [said(asked, text) for text in (answer, bad)]
        with model.disable_adapter():
            before = [said(asked, text) for text in (answer, bad)]
        found.setdefault(kind, []).append([after, before])
    return {kind: np.array(rows) for kind, rows in found.items()}


def margins(rows: np.ndarray) -> dict[str, Any]:
    """Return the margins of good over bad: of rewards, and of log-probabilities before and after.

    Args:
        rows: As `log_probabilities` gives them.
    """
    after, before = (rows[:, at, 0] - rows[:, at, 1] for at in (0, 1))
    return {
        "reward_margin": mean_of(BETA * (after - before)),
        "log_probability_margin_before": mean_of(before),
        "log_probability_margin_after": mean_of(after),
        "num_tickets": len(rows),
    }


def mean_of(each: np.ndarray) -> dict[str, float]:
    """Return a mean with its interval, and how many of the values are above 0."""
    drawn = np.random.default_rng(0).choice(each, (SAMPLES, len(each))).mean(1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        "mean": round(float(each.mean()), 4),
        "low": round(float(low), 4),
        "high": round(float(high), 4),
        "above_zero_fraction": round(float((each > 0).mean()), 4),
    }


def measure(model: str, folder: Path, steps: int, *, resume: bool) -> dict[str, Any]:
    """Train and measure.

    Args:
        model: As launch_dpo takes it.
        folder: Where it is.
        steps: Of the optimizer.
        resume: Whether to train again, cancelled and resumed, and compare the bits.
    """
    arguments = prepared(workspace.roots()[0])
    num_marks = len(Path(arguments["dataset"]).read_text("utf-8").splitlines())
    request = DpoRequest(
        model=model,
        **arguments,
        training={"max_steps": steps, "eval_steps": steps // 2, "save_steps": steps // 2},
        backend_options={"device": "cpu"},
    )
    began = time.perf_counter()
    whole = started(request)
    report = ended(whole)
    assert report.state == "succeeded", report
    seconds = time.perf_counter() - began
    of_kinds = log_probabilities(adapter_of(whole), folder)
    every = np.concatenate(list(of_kinds.values()))
    rewards = BETA * (every[:, 0] - every[:, 1]).mean(0)
    result = {
        "model": model,
        "num_steps": steps,
        "num_marks": {
            "train": num_marks,
            "held_out_pairs": len(every),
        },
        "all": margins(every),
        **{kind: margins(rows) for kind, rows in of_kinds.items()},
        "good_reward": round(float(rewards[0]), 4),
        "bad_reward": round(float(rewards[1]), 4),
        "train_seconds": round(seconds, 1),
    }
    if not resume:
        return result
    resumed, at = stopped_and_resumed(request, steps // 3)
    bits = [
        (adapter_of(run) / "adapter_model.safetensors").read_bytes() for run in (whole, resumed)
    ]
    return result | {"resumed_at_step": at, "resume_is_bit_equal": bits[0] == bits[1]}


def main() -> None:
    """Measure and write the result."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[workspace.VARIABLE] = folder
        run_id = demo.ensure()
        if run_id is not None:
            ended(run_id)
        resume = "--resume" in sys.argv
        result = measure(demo.HUB_ID, demo.folder(), STEPS, resume=resume)
    result["machine"] = {
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    OUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
