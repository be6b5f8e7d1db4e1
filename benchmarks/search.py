"""Compare launch_sft(search=...) with random search at the same cost.

`python -m benchmarks.search [MINUTES]` makes a bank of runs of the small Llama for each task of
benchmarks/small_tasks.py, two at a time, continues where it stopped, and then compares: two
repetitions per task, each with its own random settings. A search goes through the product's own
trials, lengths, ranking and finalists; random search makes whole runs, with rates log-uniform
between a tenth and ten times the rule's and one or two times its epochs and rank, until the cost of
the search is reached. Both choose on validation; the winner's score on 100 test rows is compared. A
cost of 1 is a whole run of the default. A run takes about 15 s of one core, all 95 some 25 minutes.
"""

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import finished
from benchmarks.small_models import random_llama, small_workspace

OUT = Path(__file__).with_name("search.json")
TASKS = ("mails", "dates", "mails_json", "orders", "intents")
ROWS, HELD_OUT, NUM_TESTED = 150, 30, 100
RANDOM = 6
"""Random settings of a repetition; more than a search's cost pays for."""
FRACTION = 0.3
"""Of the short trials: of about 100 steps, as the plan's rule gives."""


def run(root: Path, task_name: str, name: str, trial: dict[str, Any]) -> dict[str, Any]:
    """Train one setting; its values on validation and on the test rows."""
    from benchmarks.defaults import score
    from benchmarks.recorded_runs import Case, train
    from benchmarks.small_models import use_one_thread
    from benchmarks.small_tasks import TASKS as ALL
    from benchmarks.small_tasks import pairs, row

    use_one_thread()
    task = ALL[task_name]
    case = Case(f"{task_name} {name}".replace("/", "-"), 0, task_name, 0)
    rows = [row(task, one) for one in pairs(task, ROWS, 1)]
    for file, part in (("train", rows[HELD_OUT:]), ("held", rows[:HELD_OUT])):
        text = "".join(json.dumps(one) + "\n" for one in part)
        (root / f"{case.name}-{file}.jsonl").write_text(text, encoding="utf-8")
    line, adapter = train(root, case, "llama", trial["training"], trial["peft"])
    test = [row(task, one) for one in pairs(task, NUM_TESTED, 1, held_out=True)]
    return {
        "exact_match": score(root / "llama", adapter, rows[:HELD_OUT]),
        "validation_loss": min(m["eval_loss"] for m in line["metrics"] if "eval_loss" in m),
        "test": score(root / "llama", adapter, test),
    }


def settings(root: Path, task_name: str) -> dict[str, dict[str, Any]]:
    """Return every run of a task's bank: name -> arguments, cost and whether it is random."""
    from benchmarks.small_tasks import TASKS as ALL
    from benchmarks.small_tasks import pairs, row
    from ft_tools.training.plan import plan_sft
    from ft_tools.training.request import SftRequest
    from ft_tools.training.search import trials_of

    rows = [row(ALL[task_name], one) for one in pairs(ALL[task_name], ROWS, 1)]
    for file, part in (("train", rows[HELD_OUT:]), ("held", rows[:HELD_OUT])):
        text = "".join(json.dumps(one) + "\n" for one in part)
        (root / f"{task_name}-{file}.jsonl").write_text(text, encoding="utf-8")
    plan = plan_sft(
        SftRequest(
            model="llama",
            dataset=f"{task_name}-train.jsonl",
            validation=f"{task_name}-held.jsonl",
            samples=0,
            accept_findings=["no_quality_filter"],
            accept_reason="a benchmark",
        )
    )
    found: dict[str, dict[str, Any]] = {}
    for trial in trials_of(plan):
        short = dict(trial.training)
        short["num_train_epochs"] *= FRACTION
        for fraction, training in ((FRACTION, short), (1.0, trial.training)):
            about = {"trial": trial.name, "fraction": fraction, "cost": trial.cost * fraction}
            found[f"{trial.name}, {fraction:g}"] = about | {
                "training": training,
                "peft": trial.peft,
            }
    rate, epochs = plan.training["learning_rate"], plan.training["num_train_epochs"]
    rank, alpha = (plan.peft or {})["r"], (plan.peft or {})["lora_alpha"]
    for repetition in (0, 1):
        numbers = random.Random(f"{task_name} {repetition}")
        for number in range(RANDOM):
            times = numbers.choice((1, 2))
            drawn = {
                "learning_rate": float(f"{rate * 10 ** numbers.uniform(-1, 1):.3g}"),
                "num_train_epochs": epochs * times,
            }
            peft = {"r": rank * numbers.choice((1, 2)), "lora_alpha": alpha}
            found[f"random {repetition} {number}"] = {
                "repetition": repetition,
                "cost": float(times),
                "training": drawn,
                "peft": peft,
            }
    return found


def is_short(one: dict[str, Any]) -> bool:
    """Tell whether a run is a search's first."""
    return one.get("fraction") == FRACTION


def needed(bank: dict[str, dict[str, Any]], wanted: dict[str, dict[str, Any]]) -> list[str]:
    """Return the runs that follow from the short ones: whole ones, and random ones of that cost."""
    from ft_tools.training.search import finalists

    short = [_result(one["trial"], one) for one in bank.values() if is_short(one)]
    names = [f"{name}, 1" for name in finalists(short, "exact_match")]
    cost = cost_of([*(n for n in wanted if is_short(wanted[n])), *names], wanted)
    for repetition in (0, 1):
        made: list[str] = []
        for name, one in wanted.items():
            if one.get("repetition") == repetition and cost_of(made, wanted) < cost:
                made.append(name)
        names += made
    return names


def cost_of(names: list[str], runs: dict[str, dict[str, Any]]) -> float:
    """Return what runs cost, in whole runs of the default."""
    return round(sum(runs[name]["cost"] for name in names), 2)


def winner(names: list[str], bank: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what validation chooses of these runs."""
    from ft_tools.training.search import rank

    best = rank([_result(name, bank[name]) for name in names], "exact_match")[0].name
    return {"winner": best, "test": bank[best]["test"]}


def _result(name: str, one: dict[str, Any]) -> Any:
    from ft_tools.training.search import TrialResult

    return TrialResult(
        name=name,
        fraction=1,
        run_id=name,
        state="succeeded",
        learning_rate=one["training"]["learning_rate"],
        exact_match=one["exact_match"],
        validation_loss=one["validation_loss"],
        seconds=0,
    )


def write(banks: dict[str, dict[str, dict[str, Any]]], complete: list[str]) -> None:
    """Write the bank, and the comparison of the tasks that are complete."""
    compared = []
    for task in complete:
        bank = banks[task]
        short = [name for name, one in bank.items() if is_short(one)]
        whole = [name for name, one in bank.items() if one.get("fraction") == 1]
        ours = {"cost": cost_of(short + whole, bank)} | winner(whole, bank)
        for repetition in (0, 1):
            made = [n for n, one in bank.items() if one.get("repetition") == repetition]
            other = {"cost": cost_of(made, bank)} | winner(made, bank)
            compared.append({"task": task, "search": ours, "random": other})
    wins = sum(one["search"]["test"] >= one["random"]["test"] for one in compared)
    default = [banks[task]["default, 1"]["test"] for task in complete]
    found = {
        "summary": {
            "repetitions": len(compared),
            "search_better_or_equal": wins,
            "default_test": dict(zip(complete, default, strict=True)),
        },
        "cores": os.cpu_count(),
        "compared": compared,
        "runs": banks,
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Make what is missing, then compare."""
    until = time.monotonic() + 60 * (float(sys.argv[1]) if len(sys.argv) > 1 else 15.0)
    banks = json.loads(OUT.read_text())["runs"] if OUT.exists() else {}
    complete: list[str] = []
    with small_workspace() as root:
        random_llama(root / "llama")
        for task in TASKS:
            bank = banks.setdefault(task, {})
            wanted = settings(root, task)
            for is_first in (True, False):
                names = [n for n in wanted if is_short(wanted[n])]
                names = names if is_first else needed(bank, wanted)
                jobs = {n: (root, task, n, wanted[n]) for n in names if n not in bank}
                for name, values in finished(run, jobs, until):
                    bank[name] = wanted[name] | values
                    write(banks, complete)
                    print(task, name, values, flush=True)
                if time.monotonic() > until:
                    break
            else:
                complete.append(task)
                write(banks, complete)
    print(json.dumps(json.loads(OUT.read_text())["summary"]))


if __name__ == "__main__":
    main()
