"""Compare the default settings of launch_sft with a grid, and with other tools' published defaults.

`python -m benchmarks.defaults [MINUTES [PAIR...]]` trains until the time is over (only pairs whose
names begin so) and continues where it stopped; a pair counts once all of its 29 settings were run.
A pair is a task of benchmarks/small_tasks.py and a model of benchmarks/small_models.py: some of its
rows are held out, and 100 further rows are scored. The score is the share of rows whose every
answer token is the likeliest one after the true ones before it. Pairs of the half `chosen_on` may
change a rule; those of `checked_on` only judge it. A run takes about 30 s of one core on SmolLM2's
three layers and 10 s on the small Llama, so a pair 3 to 15 minutes of one core; each core makes a
run at a time. Every run stops early and keeps its best checkpoint, also with settings of tools that
do neither. Orders were a pair of the small Llama's, too: as none of the 29 settings had one right
answer of 300 rows, labels in JSON took their place.

`python -m benchmarks.defaults mails` trains the whole SmolLM2-135M-Instruct once, on 300 mails with
two labels and with no argument but model and dataset, and scores 120 further mails. It takes about
20 minutes of one core.
"""

import json
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from benchmarks.side_by_side import finished
from benchmarks.small_models import small_workspace

OUT = Path(__file__).with_name("defaults.json")
RUNS = Path(__file__).with_name(".models") / "defaults_runs.json"
"""Kept beside the models, so that a measurement is continued; the result is the summary."""
RATES = (1 / 9, 1 / 3, 1.0, 3.0)
"""Times the rate of the rule."""
EPOCHS = (1, 3, 6)
BATCHES = (4, 16)
NUM_TESTED = 100
MAILS, MAILS_TESTED = 300, 120
SMOLLM2, LLAMA = "SmolLM2-135M, 3 of 30 layers", "Llama of 1M, random"
# Source: the tools' examples and command lines as of 2026-08: learning rate, epochs, batch, rank,
# alpha. Unsloth's notebooks make 60 steps, which are about 2 epochs here.
PUBLISHED: dict[str, tuple[float, float, int, int, int]] = {
    "trl": (2e-4, 3, 8, 16, 32),
    "unsloth": (2e-4, 2, 8, 16, 16),
    "axolotl": (2e-4, 1, 8, 32, 16),
    "llama_factory": (1e-4, 3, 8, 8, 16),
}
Setting = tuple[dict[str, Any], dict[str, Any]]
"""Arguments of the trainer and of the adapter."""


@dataclass(frozen=True)
class Pair:
    """A task and a model."""

    task: str
    model: str
    rows: int
    half: Literal["chosen_on", "checked_on"]

    @property
    def name(self) -> str:
        """Return what the pair is called in the file."""
        return f"{self.task}, {self.rows} rows, {self.model}"


# The first two already tell something of both halves.
PAIRS = (
    Pair("dates", LLAMA, 500, "chosen_on"),
    Pair("intents", LLAMA, 300, "checked_on"),
    Pair("mails_json", LLAMA, 100, "chosen_on"),
    Pair("mails", LLAMA, 150, "checked_on"),
    Pair("intents", LLAMA, 150, "chosen_on"),
    Pair("mails_json", LLAMA, 200, "checked_on"),
    Pair("intents", SMOLLM2, 150, "chosen_on"),
    Pair("mails", SMOLLM2, 100, "checked_on"),
)


def settings(rate: float) -> dict[str, Setting]:
    """Return each setting's arguments, by name.

    Args:
        rate: What the rule gives for the model.
    """
    found: dict[str, Setting] = {"ours": ({}, {})}
    for name, (published, epochs, batch, rank, alpha) in PUBLISHED.items():
        found[name] = (_training(published, epochs, batch), {"r": rank, "lora_alpha": alpha})
    for share in RATES:
        for epochs in EPOCHS:
            for batch in BATCHES:
                name = f"grid {share:.2g} x {epochs} x {batch}"
                found[name] = (_training(rate * share, epochs, batch), {})
    return found


def _training(rate: float, epochs: float, batch: int) -> dict[str, Any]:
    return {
        "learning_rate": float(f"{rate:.2g}"),
        "num_train_epochs": epochs,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": batch // 4,
    }


def folder_of(root: Path, model: str) -> Path:
    """Return the model's folder, made at its first use."""
    from benchmarks.small_models import cut_smollm2, random_llama

    folder = root / ("smollm2" if model == SMOLLM2 else "llama")
    if not folder.exists():
        cut_smollm2(folder, 3) if model == SMOLLM2 else random_llama(folder)
    return folder


def run(root: Path, pair: Pair, number: int, setting: Setting) -> dict[str, Any]:
    """Train with one setting and score it."""
    from benchmarks.recorded_runs import Case, train
    from benchmarks.small_models import use_one_thread
    from benchmarks.small_tasks import TASKS, pairs, row
    from ft_tools.training.validation_split import held_out_rows

    use_one_thread()
    task = TASKS[pair.task]
    case = Case(f"{pair.task}-{pair.rows}", number, pair.task, 0)
    rows = [row(task, one) for one in pairs(task, pair.rows, 0)]
    held = held_out_rows(pair.rows)
    for name, part in (("train", rows[held:]), ("held", rows[:held])):
        text = "".join(json.dumps(one) + "\n" for one in part)
        (root / f"{case.name}-{name}.jsonl").write_text(text, encoding="utf-8")
    began = time.process_time()
    base = folder_of(root, pair.model)
    _, adapter = train(root, case, base.name, setting[0], setting[1])
    test = [row(task, one) for one in pairs(task, NUM_TESTED, 0, held_out=True)]
    return {
        "score": score(base, adapter, test),
        "cpu_seconds": round(time.process_time() - began, 1),
    }


def run_mails(root: Path) -> dict[str, Any]:
    """Train what a user has who names a model and 300 mails, and score it."""
    from benchmarks.recorded_runs import Case, train
    from benchmarks.small_tasks import TASKS, pairs, row
    from ft_tools.models import demo

    if not demo.is_ready():
        raise SystemExit("run `fine-tuning-llm demo-model` first: it unpacks SmolLM2-135M-Instruct")
    shutil.copytree(demo.folder(), root / "whole")
    task, case = TASKS["mails"], Case("mails-whole", 0, "mails", 0)
    rows = [row(task, one) for one in pairs(task, MAILS, 3)]
    text = "".join(json.dumps(one) + "\n" for one in rows)
    (root / f"{case.name}-train.jsonl").write_text(text, encoding="utf-8")
    began = time.process_time()
    line, adapter = train(root, case, "whole", {}, names_validation=False)
    seconds = time.process_time() - began
    test = [row(task, one) for one in pairs(task, MAILS_TESTED, 3, held_out=True)]
    right = score(root / "whole", adapter, test)
    return {
        "model": demo.HUB_ID,
        "rows": MAILS,
        "tested": MAILS_TESTED,
        "exact_match": right,
        "steps": line["steps"],
        "training": line["training"],
        "cpu_seconds": round(seconds, 1),
    }


def score(base: Path, adapter: Path, rows: list[dict[str, Any]]) -> float:
    """Return the share of rows whose answer is the likeliest one, token by token."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
    right = 0
    for one in rows:
        asked = tokenizer.apply_chat_template(
            one["prompt"], add_generation_prompt=True, return_dict=False
        )
        answer = tokenizer.encode(one["completion"][0]["content"], add_special_tokens=False)
        ids = torch.tensor([[*asked, *answer]])
        with torch.no_grad():
            likeliest = model(input_ids=ids).logits[0, len(asked) - 1 : -1].argmax(-1)
        right += likeliest.tolist() == answer
    return right / len(rows)


def summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare, on the pairs of which every setting was run: each, and each half."""
    wanted = set(settings(1.0))
    by_pair: dict[str, dict[str, float]] = {}
    for line in lines:
        by_pair.setdefault(line["pair"], {})[line["setting"]] = line["score"]
    found: dict[str, Any] = {}
    halves: dict[str, list[dict[str, Any]]] = {}
    for pair in PAIRS:
        seen = by_pair.get(pair.name, {})
        if set(seen) != wanted:
            continue
        best = max((v, k) for k, v in seen.items() if k.startswith("grid"))
        one = {"ours": seen["ours"], "best": best[0], "best_setting": best[1]}
        found[pair.name] = one | {name: seen[name] for name in PUBLISHED} | {"half": pair.half}
        for half in (pair.half, "all"):
            halves.setdefault(half, []).append(found[pair.name])
    return found | {half: _compared(pairs) for half, pairs in halves.items()}


def _compared(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    behind = [one["best"] - one["ours"] for one in pairs]
    means = {name: round(fmean(s[name] for s in pairs), 4) for name in ("ours", *PUBLISHED)}
    return {
        "num_pairs": len(pairs),
        "behind_best_mean": round(fmean(behind), 4),
        "behind_best_worst": round(max(behind), 4),
    } | means


def write(lines: list[dict[str, Any]], mails: dict[str, Any] | None) -> None:
    """Write what is known so far."""
    about = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()} | {
        name: version(name) for name in ("torch", "transformers", "trl", "peft")
    }
    found = {"about": about, "mails": mails, "summary": summary(lines)}
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RUNS.write_text(json.dumps(lines), encoding="utf-8")


def main() -> None:
    """Train what is missing."""
    asked = sys.argv[1] if len(sys.argv) > 1 else "60"
    until = time.monotonic() + 60 * float(0 if asked == "mails" else asked)
    before = json.loads(OUT.read_text()) if OUT.exists() else {}
    lines: list[Any] = json.loads(RUNS.read_text()) if RUNS.exists() else []
    mails = before.get("mails")
    known = {(line["pair"], line["setting"]) for line in lines}
    with small_workspace() as root:
        from ft_tools.lora.choices import choose_learning_rate
        from ft_tools.models import model_folder

        if asked == "mails":
            write(lines, run_mails(root))
        for pair in PAIRS:
            if time.monotonic() > until:
                break
            if sys.argv[2:] and not pair.name.startswith(tuple(sys.argv[2:])):
                continue
            base = folder_of(root, pair.model)
            rate = choose_learning_rate("sft", "lora", model_folder.hidden_size(base)).value
            jobs = {
                setting: (root, pair, number, arguments)
                for number, (setting, arguments) in enumerate(settings(rate).items())
                if (pair.name, setting) not in known
            }
            for setting, found in finished(run, jobs, until):
                lines.append({"pair": pair.name, "setting": setting} | found)
                write(lines, mails)
                print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
