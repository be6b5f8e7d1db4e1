"""Compare launch_sft(search=...) with random search at the same cost.

`python -m benchmarks.search [MINUTES]` makes a bank of runs of the small Llama for each pair of a
task of benchmarks/small_tasks.py and a number of rows, and continues where it stopped: first the
runs to which the product's own rules come, one after the other, then random ones. A search has the
cost of BUDGET whole runs of the default; random search makes runs with rates log-uniform between a
tenth and ten times the rule's and one or two times its epochs and rank, until it has cost as much
as the search or more. A run that stops early costs the steps that it made. Starts are not in the
cost; the number of runs is given. Both choose on the same validation rows by the product's ranking,
and the winners are compared on 300 other rows of the same kind: by exact match, or by loss where
answers are free text. There are two repetitions of random search for each pair.

The pairs were chosen for being learned in the budget. The rows of seed 1 chose the first rules,
those of CHOSEN_ON the factor of the rate and that a longer run is preferred; those of CHECKED_ON
were looked at after that only. A run takes half a minute of one core, all of them about two hours.
"""

import json
import os
import platform
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.side_by_side import finished
from benchmarks.small_models import random_llama, small_workspace

OUT = Path(__file__).with_name("search.json")
CHOSEN_ON, CHECKED_ON = (2, 3), (4, 5)
HELD_OUT, NUM_TESTED, BATCH = 30, 300, 25
BUDGET = 6.0
REPETITIONS, DRAWS = 2, 12
"""Random settings of a repetition; more than a search's cost pays for."""
Runs = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Pair:
    """A task, how many rows of it there are, the held-out ones among them, and their seed."""

    task: str
    rows: int
    seed: int

    @property
    def name(self) -> str:
        """Return what the pair is called in the file."""
        return f"{self.task}, {self.rows} rows, seed {self.seed}"


KINDS = (("mails", 150), ("mails_json", 150), ("intents", 150), ("intents", 300), ("notes", 150))
PAIRS = [Pair(task, rows, seed) for seed in (*CHOSEN_ON, *CHECKED_ON) for task, rows in KINDS]


def rows_of(pair: Pair) -> tuple[list[dict[str, Any]], ...]:
    """Return the rows to train on, to choose on and to test on; no prompt is in two of them."""
    from benchmarks.small_tasks import TASKS, pairs, row

    task = TASKS[pair.task]
    rows = [row(task, one) for one in pairs(task, pair.rows + NUM_TESTED, pair.seed)]
    return rows[HELD_OUT : pair.rows], rows[:HELD_OUT], rows[pair.rows :]


def write_rows(root: Path, pair: Pair, name: str) -> None:
    """Write the two files of a run."""
    train, held, _ = rows_of(pair)
    for file, part in (("train", train), ("held", held)):
        text = "".join(json.dumps(one) + "\n" for one in part)
        (root / f"{name}-{file}.jsonl").write_text(text, encoding="utf-8")


def run(root: Path, pair: Pair, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Train one setting; what it cost, and its values on validation and on the test rows."""
    from benchmarks.recorded_runs import Case, train
    from benchmarks.small_models import use_one_thread
    from ft_tools.training.search import has_overfitted

    use_one_thread()
    case = Case(f"{pair.name} {name}".replace("/", "-"), 0, pair.task, 0)
    write_rows(root, pair, case.name)
    line, adapter = train(root, case, "llama", asked["training"], asked["peft"])
    _, held, test = rows_of(pair)
    exact, loss = scores(root / "llama", adapter, held)
    tested = scores(root / "llama", adapter, test)
    return {
        "cost": round(asked["planned_cost"] * line["metrics"][-1]["step"] / line["steps"], 3),
        "exact_match": exact,
        "validation_loss": loss,
        "overfitted": has_overfitted(line["metrics"], "sft"),
        "test_exact_match": tested[0],
        "test_loss": tested[1],
    }


def scores(base: Path, adapter: Path, rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return the share of rows whose every answer token is the likeliest, and the mean loss."""
    import torch
    from peft import PeftModel
    from torch.nn.functional import cross_entropy
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    read = []
    for one in rows:
        asked = tokenizer.apply_chat_template(
            one["prompt"], add_generation_prompt=True, return_dict=False
        )
        whole = tokenizer.apply_chat_template(one["prompt"] + one["completion"], return_dict=False)
        answer = tokenizer.encode(one["completion"][0]["content"], add_special_tokens=False)
        read.append((whole, len(asked), len(answer)))
    read.sort(key=lambda part: len(part[0]))
    right, losses = 0, []
    for start in range(0, len(read), BATCH):
        part = read[start : start + BATCH]
        longest = max(len(whole) for whole, _, _ in part)
        padded = [whole + [tokenizer.pad_token_id] * (longest - len(whole)) for whole, _, _ in part]
        seen = [[1] * len(whole) + [0] * (longest - len(whole)) for whole, _, _ in part]
        with torch.no_grad():
            found = model(
                input_ids=torch.tensor(padded), attention_mask=torch.tensor(seen)
            ).logits.float()
        for (whole, before, length), logits in zip(part, found, strict=True):
            answer, said = torch.tensor(whole[before:]), logits[before - 1 : len(whole) - 1]
            losses.append(cross_entropy(said, answer).item())
            right += bool((said.argmax(-1)[:length] == answer[:length]).all())
    return round(right / len(rows), 4), round(sum(losses) / len(losses), 5)


@dataclass
class Compared:
    """A pair's search and its random ones, as far as the bank has their runs."""

    pair: Pair
    bank: Runs
    trials: Runs
    """What the search may come to: name -> arguments."""
    drawn: Runs
    metric: Any
    """What chooses: the product's Metric."""

    def searched(self) -> tuple[list[str], str | None]:
        """Return the trials that the search has made, in order, and the one that it makes next."""
        from ft_tools.training.search import DEFAULT, Trial, next_trials

        trials = {name: Trial.model_validate(one) for name, one in self.trials.items()}
        made: list[str] = []
        while True:
            results = [_result(name, self.bank[name]) for name in made]
            left = BUDGET - self.cost(made)
            near = [
                one.name
                for one in next_trials(trials, results, self.metric, HELD_OUT)
                if one.name == DEFAULT or one.cost <= left
            ]
            if not near:
                return made, None
            if near[0] not in self.bank:
                return made, near[0]
            made.append(near[0])

    def random(self, repetition: int, cost: float) -> list[str]:
        """Return a repetition's draws until that cost; what is not made costs what is planned."""
        names: list[str] = []
        for name, one in self.drawn.items():
            if one["repetition"] == repetition and self.cost(names) < cost:
                names.append(name)
        return names

    def cost(self, names: list[str]) -> float:
        """Return what runs cost, in whole runs of the default."""
        asked = self.trials_and_draws()
        made = (self.bank.get(name, asked[name]) for name in names)
        return round(sum(one.get("cost", one.get("planned_cost")) for one in made), 3)

    def trials_and_draws(self) -> Runs:
        """Return every run that may be made."""
        search = {
            name: {"planned_cost": one["cost"], "training": one["training"], "peft": one["peft"]}
            for name, one in self.trials.items()
        }
        return search | self.drawn

    def missing(self) -> list[str]:
        """Return the runs to make next."""
        made, following = self.searched()
        if following is not None:
            return [following]
        cost = self.cost(made)
        drawn = [name for i in range(REPETITIONS) for name in self.random(i, cost)]
        return [name for name in drawn if name not in self.bank]

    def outcome(self) -> Iterator[dict[str, Any]]:
        """Give the comparison of each repetition."""
        made, _ = self.searched()
        ours = self.best(made)
        for repetition in range(REPETITIONS):
            other = self.best(self.random(repetition, self.cost(made)))
            yield {"pair": self.pair.name, "metric": self.metric, "search": ours, "random": other}

    def best(self, names: list[str]) -> dict[str, Any]:
        """Return what validation chooses of these runs, and what it does on the test rows."""
        from ft_tools.training.search import rank

        results = [_result(name, self.bank[name]) for name in names]
        chosen = rank(results, self.metric, HELD_OUT)[0].name
        test = "test_exact_match" if self.metric == "exact_match" else "test_loss"
        return {
            "num_runs": len(names),
            "cost": self.cost(names),
            "winner": chosen,
            "test": self.bank[chosen][test],
        }


def _result(name: str, one: dict[str, Any]) -> Any:
    from ft_tools.training.search import TrialResult

    return TrialResult(
        name=name,
        run_id=name,
        state="succeeded",
        learning_rate=one["training"]["learning_rate"],
        num_train_epochs=one["training"]["num_train_epochs"],
        exact_match=one["exact_match"],
        validation_loss=one["validation_loss"],
        overfitted=one["overfitted"],
        seconds=0,
    )


def compared(root: Path, pair: Pair, bank: Runs) -> Compared:
    """Plan a pair's search as launch_sft does, and draw the random settings."""
    from ft_tools.training.plan import plan_sft
    from ft_tools.training.request import SearchBudget, SftRequest
    from ft_tools.training.search import plan_search, trials_of

    write_rows(root, pair, pair.name)
    request = SftRequest(
        model="llama",
        dataset=f"{pair.name}-train.jsonl",
        validation=f"{pair.name}-held.jsonl",
        samples=0,
        search=SearchBudget(minutes=1e6),
        accept_findings=["no_quality_filter"],
        accept_reason="a benchmark",
    )
    plan = plan_sft(request)
    trials = trials_of(plan.training, plan.peft)
    rate, epochs = plan.training["learning_rate"], plan.training["num_train_epochs"]
    rank, alpha = (plan.peft or {})["r"], (plan.peft or {})["lora_alpha"]
    drawn: Runs = {}
    for repetition in range(REPETITIONS):
        numbers = random.Random(f"{pair.task}, {pair.rows} rows {pair.seed} {repetition}")
        for number in range(DRAWS):
            times = numbers.choice((1, 2))
            drawn[f"random {repetition} {number}"] = {
                "repetition": repetition,
                "planned_cost": float(times),
                "training": {
                    "learning_rate": float(f"{rate * 10 ** numbers.uniform(-1, 1):.3g}"),
                    "num_train_epochs": epochs * times,
                },
                "peft": {"r": rank * numbers.choice((1, 2)), "lora_alpha": alpha},
            }
    listed = {name: one.model_dump() for name, one in trials.items()}
    asked = listed | drawn
    # What was run around other defaults is run again.
    bank = {
        name: one
        for name, one in bank.items()
        if name in asked and one["training"] == asked[name]["training"]
    }
    return Compared(pair, bank, listed, drawn, plan_search(request, plan).metric)


def is_too_close(one: dict[str, Any]) -> bool:
    """Tell whether fewer than six more test rows are right: no exact paired test shows that."""
    return one["metric"] == "exact_match" and (
        round(NUM_TESTED * abs(one["search"]["test"] - one["random"]["test"])) < 6
    )


def is_as_good(one: dict[str, Any]) -> bool:
    """Tell whether the search's winner is at least as good on the test rows."""
    ours, other = one["search"]["test"], one["random"]["test"]
    return bool(ours >= other if one["metric"] == "exact_match" else ours <= other)


def summary(complete: list[Compared]) -> dict[str, Any]:
    """Count the repetitions of these pairs, and average the exact matches on the test rows."""
    outcomes = [outcome for one in complete for outcome in one.outcome()]
    exact = [one for one in outcomes if one["metric"] == "exact_match"]
    means = {
        f"mean_exact_match_{which}": round(fmean(one[which]["test"] for one in exact), 4)
        for which in ("search", "random")
        if exact
    }
    return {
        "repetitions": len(outcomes),
        "search_better_or_equal": sum(map(is_as_good, outcomes)),
        "search_better": sum(
            is_as_good(one) and one["search"]["test"] != one["random"]["test"] for one in outcomes
        ),
        "behind_but_too_close_to_tell": sum(
            is_too_close(one) and not is_as_good(one) for one in outcomes
        ),
        **means,
    }


def write(all_pairs: list[Compared]) -> None:
    """Write the bank, and the comparison of the pairs that are complete."""
    complete = [one for one in all_pairs if not one.missing()]
    found = {
        "summary": {
            "chosen_on": summary([one for one in complete if one.pair.seed in CHOSEN_ON]),
            "checked_on": summary([one for one in complete if one.pair.seed in CHECKED_ON]),
            "default_test": {one.pair.name: one.best(["default"])["test"] for one in complete},
        },
        "about": {
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            **{name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        },
        "compared": [outcome for one in complete for outcome in one.outcome()],
        "runs": {one.pair.name: one.bank for one in all_pairs},
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Make what is missing, then compare."""
    until = time.monotonic() + 60 * (float(sys.argv[1]) if len(sys.argv) > 1 else 15.0)
    banks = json.loads(OUT.read_text())["runs"] if OUT.exists() else {}
    with small_workspace() as root:
        random_llama(root / "llama")
        all_pairs = [compared(root, pair, banks.get(pair.name, {})) for pair in PAIRS]
        while time.monotonic() < until:
            jobs = {
                (one.pair, name): (root, one.pair, name, one.trials_and_draws()[name])
                for one in all_pairs
                for name in one.missing()
            }
            if not jobs:
                break
            for (pair, name), values in finished(run, jobs, until):
                one = next(one for one in all_pairs if one.pair == pair)
                one.bank[name] = one.trials_and_draws()[name] | values
                write(all_pairs)
                print(pair.name, name, values, flush=True)
        write(all_pairs)
    print(json.dumps(json.loads(OUT.read_text())["summary"]))


if __name__ == "__main__":
    main()
