"""Compare the default settings of launch_sft with a grid, and with other tools' published defaults.

`python -m benchmarks.defaults [SECONDS [MODEL]]` trains until the time is over and continues where
it stopped, on any machine. MODEL is a folder with a causal model and a chat template; left out, it
is the Llama of a million parameters that benchmarks/recorded_runs.py makes, on which a run takes
seconds. A pair is a task of benchmarks/small_tasks.py and a model: 300 rows, of which a tenth is
held out, and 100 further rows to score. The score is the share of rows whose every answer token is
the likeliest one after the true ones before it. `benchmarks/defaults.json` says which settings of
the grid were run; a pair counts once all of them were.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

OUT = Path(__file__).with_name("defaults.json")
TASKS = ("mails_json", "intents", "orders", "dates", "mails", "notes")
RATES = (1 / 9, 1 / 3, 1.0, 3.0)
"""Times the rate of the rule."""
EPOCHS = (1, 3, 6)
BATCHES = (4, 16)
# Source: the tools' examples and command lines as of 2026-08: learning rate, epochs, batch, rank,
# alpha. Unsloth's notebooks make 60 steps, which are about 2 epochs here.
PUBLISHED: dict[str, tuple[float, float, int, int, int]] = {
    "trl": (2e-4, 3, 8, 16, 32),
    "unsloth": (2e-4, 2, 8, 16, 16),
    "axolotl": (2e-4, 1, 8, 32, 16),
    "llama_factory": (1e-4, 3, 8, 8, 16),
}


def settings(rate: float) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return each setting's arguments of the trainer and of the adapter, by name.

    Args:
        rate: What the rule gives for the model.
    """
    found: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {"ours": ({}, {})}
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


def run(root: Path, model: str, task_name: str, setting: tuple[Any, Any]) -> dict[str, Any]:
    """Train with one setting and score it."""
    from benchmarks.recorded_runs import Case, train
    from benchmarks.small_tasks import TASKS as ALL
    from benchmarks.small_tasks import pairs, row

    task = ALL[task_name]
    case = Case(f"{task_name}", 0, task_name, 0)
    rows = [row(task, pair) for pair in pairs(task, 300, 0)]
    for name, part in (("train", rows[30:]), ("held", rows[:30])):
        text = "".join(json.dumps(one) + "\n" for one in part)
        (root / f"{case.name}-{name}.jsonl").write_text(text, encoding="utf-8")
    began = time.monotonic()
    _, adapter = train(root, case, model, setting[0], setting[1])
    seconds = round(time.monotonic() - began, 1)
    test = [row(task, pair) for pair in pairs(task, 100, 0, held_out=True)]
    return {"score": score(root / model, adapter, test), "seconds": seconds}


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
    """Compare, on the pairs of which every setting was run."""
    wanted = set(settings(1.0))
    found: dict[str, Any] = {}
    by_pair: dict[str, dict[str, float]] = {}
    for line in lines:
        by_pair.setdefault(line["pair"], {})[line["setting"]] = line["score"]
    whole = {pair: seen for pair, seen in by_pair.items() if set(seen) == wanted}
    for pair, seen in whole.items():
        best = max((v, k) for k, v in seen.items() if k.startswith("grid"))
        found[pair] = {"ours": seen["ours"], "best": best[0], "best_setting": best[1]}
        found[pair] |= {name: seen[name] for name in PUBLISHED}
    if whole:
        behind = [one["best"] - one["ours"] for one in found.values()]
        found["all"] = {
            "num_pairs": len(whole),
            "behind_best_mean": round(fmean(behind), 4),
            "behind_best_worst": round(max(behind), 4),
        } | {
            name: round(fmean(s[name] for s in whole.values()), 4) for name in ("ours", *PUBLISHED)
        }
    return found


def main() -> None:
    """Train what is missing."""
    until = time.monotonic() + (float(sys.argv[1]) if len(sys.argv) > 1 else 3600.0)
    asked = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else None
    lines = json.loads(OUT.read_text())["runs"] if OUT.exists() else []
    known = {(line["pair"], line["setting"]) for line in lines}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        os.environ |= {"FINE_TUNING_LLM_WORKSPACE": name, "HF_HUB_OFFLINE": "1"}
        os.chdir(root)
        from benchmarks.recorded_runs import make_base
        from ft_tools.lora.choices import choose_learning_rate
        from ft_tools.models import weights

        if asked is None:
            make_base(root / "model")
        else:
            (root / "model").symlink_to(asked)
        width = weights.hidden_size(root / "model")
        rate = choose_learning_rate("sft", "lora", width).value
        for task in TASKS:
            pair = f"{task}, {asked.name if asked else 'random Llama of 1M'}"
            for setting, arguments in settings(rate).items():
                if (pair, setting) in known or time.monotonic() > until:
                    continue
                line = {"pair": pair, "setting": setting} | run(root, "model", task, arguments)
                lines.append(line)
                shown = json.dumps({"summary": summary(lines), "runs": lines}, indent=1)
                OUT.write_text(shown + "\n", encoding="utf-8")
                print(line, flush=True)


if __name__ == "__main__":
    main()
