"""Train, kill, resume, merge, evaluate and convert a small random model of each family of 2026.

    python -m benchmarks.families [--output benchmarks/families.json] [--family NAME ...] [--again]

Each model (`benchmarks/family_rows.py`, hidden size 64) goes through the product's own plans and
workers: three steps of LoRA, a kill in the third, a resumed run that has to end in the same bits as
one that was not killed, a merge whose logits are the adapter's, an evaluation of both, and a GGUF
file in 16 bits, unless the plan says that llama.cpp's converter does not carry the family. Families
with fused experts do it once more with adapters on the experts. Families that the output has are
not run again; 20 to 60 s each.

Workers are forks of this process, so that the libraries load once.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.family_rows import CONVERTED_ALONE, NAMES, TOKENIZER, config, converted
from benchmarks.family_tokenizers import know_splitting, make_tokenizer
from ft_tools import workspace
from ft_tools.errors import FineTuningError
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.evaluation.worker import evaluate as evaluating
from ft_tools.models import model_folder
from ft_tools.models.shape_of_model import shape_of_config
from ft_tools.models.worker.build import load_config, loader_of
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo, Status
from ft_tools.shipping import converter_script
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.shipping.worker import ship
from ft_tools.training.request import SftRequest
from ft_tools.training.worker import sft
from tests.tiny.killing import attempt
from tests.tiny.trainings import QUICK, conversations, prepared, same_bits, weights_of, write_jsonl

STEPS = 3
CONVERTED = "gguf:F16"
ALONE = "-converted"
"""Ends the name of a model that is made for its GGUF file."""
MOST_LOGIT_DIFFERENCE = 1e-5
MOST_KL = 1e-4
SECONDS = 900
LIBRARIES = ("torch", "transformers", "peft", "trl", "gguf", "llama-cpp-python")
WORK = {"sft": sft.work, "ship": ship.work, "evaluate": evaluating.work}


class Failed(Exception):
    """A step of a family's way did not do what it promises."""


def make_model(name: str, folder: Path, of_family: Any = config) -> dict[str, Any]:
    """Save a random model of a family with a tokenizer of its kind; its config.json.

    Args:
        name: Of the family.
        folder: A new one.
        of_family: `config`, or `converted` for the sizes that llama.cpp runs.
    """
    folder.mkdir()
    tokenizer = make_tokenizer(TOKENIZER[name], folder)
    wanted = of_family(name, vocabulary=len(tokenizer))
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ids |= {"pad_token_id": tokenizer.pad_token_id}
    parts = [wanted] + ([wanted["text_config"]] if "text_config" in wanted else [])
    for part in parts:
        part |= ids
        if "vocab_size_per_layer_input" in part:
            part["vocab_size_per_layer_input"] = len(tokenizer)
    real = load_config(wanted)
    torch.manual_seed(0)
    model = getattr(transformers, loader_of(real)).from_config(real, dtype=torch.float32)
    if model.config.model_type != real.model_type:
        # Published with its towers; the text class alone cannot be found by its config.json.
        model = transformers.AutoModelForImageTextToText.from_config(real, dtype=torch.float32)
    # The row of the end token is zero in a new model, which nobody publishes, and llama.cpp's
    # Qwen2.5-VL answers it with NaN.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.02)
    model.save_pretrained(folder)
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def run(run_dir: Path, kill_at: int | None = None) -> None:
    """Fork a worker over a run directory, and wait for it.

    Args:
        run_dir: With request and plan.
        kill_at: The training step in which it kills itself, as an outside signal would.

    Raises:
        Failed: It did not succeed, or was to be killed and was not.
    """
    pid = attempt(run_dir, lambda: _kill_in_step(kill_at), WORK)
    until = time.monotonic() + SECONDS
    ended, status = os.waitpid(pid, os.WNOHANG)
    while not ended:
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise Failed(f"did not end in {SECONDS} seconds")
        time.sleep(0.05)
        ended, status = os.waitpid(pid, os.WNOHANG)
    if kill_at is not None:
        if not os.WIFSIGNALED(status):
            raise Failed(f"was not killed in step {kill_at}: {_end_of(run_dir)}")
    elif status:
        raise Failed(_end_of(run_dir))


def _kill_in_step(number: int | None) -> None:
    """Have the trainer end this process in a step, if any, without any clean-up."""
    step, seen = transformers.Trainer.training_step, [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        seen[0] += 1
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(*args, **kwargs)

    transformers.Trainer.training_step = counted


def _end_of(run_dir: Path) -> str:
    error = directory.read_status(run_dir).error
    lines = (run_dir / "log.txt").read_text(errors="replace").strip().splitlines()[-3:]
    return f"{error.code}: {error.message}" if error else " / ".join(lines)


def train(model: str, peft: dict[str, Any]) -> str:
    """Train three steps twice, once with a kill, and compare the weights; the whole run's id.

    Raises:
        Failed: The bits differ.
    """
    request = SftRequest(
        model=model,
        dataset="train.jsonl",
        peft={"r": 4, **peft},
        training={**QUICK, "max_steps": STEPS, "logging_steps": 1, "save_steps": 1},
        accept_findings=["validation_unwatched", "no_eval_set", "too_few_examples"],
        accept_reason="a benchmark",
    )
    mark = "e" if peft else "c" if model.endswith(ALONE) else "l"
    whole, killed = (prepared(request, mark + end).run_dir for end in "wk")
    run(whole)
    run(killed, kill_at=STEPS)
    run(killed)
    first, second = (weights_of(d / "artifacts" / "adapter") for d in (whole, killed))
    if not same_bits(first, second):
        raise Failed("the resumed run ended in other bits than the whole one")
    return whole.name


def ship_run(run_id: str, formats: list[str]) -> dict[str, Any]:
    """Merge a run's adapter and convert it; what was measured."""
    request = ShipRequest(
        source=run_id, formats=formats, output_dir=f"out-{run_id}", device="cpu",
        held_out="held.jsonl", max_examples=1,
    )  # fmt: skip
    plan = merge_and_quantize(request).plan
    run_dir = planned("ship", request, plan)
    run(run_dir)
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    # As the plan warns of it, from what pip installs: this benchmark's converter is a copy.
    copy = os.environ.pop(converter_script.VARIABLE)
    report["not_carried"] = converter_script.why_not(model_folder.config(Path(plan["load_from"])))
    os.environ[converter_script.VARIABLE] = copy
    words = (run_dir / "log.txt").read_text(errors="replace").splitlines()
    report["said"] = [w.strip() for w in words if "Error" in w or "raise " in w or "assert " in w]
    return report


def evaluate_run(run_id: str) -> dict[str, Any]:
    """Compare a run with its base on a few examples."""
    request = EvaluateRequest(
        model=run_id, dataset="held.jsonl", metrics=["rouge"], max_new_tokens=8,
        general_ability=False, device="cpu",
    )  # fmt: skip
    run_dir = planned("evaluate", request, evaluate(request).plan)
    run(run_dir)
    report: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    return report


def planned(kind: str, request: Any, plan: Any) -> Path:
    """Write a run directory as a launch would, without starting anything."""
    run_dir = workspace.runs_dir() / f"{kind}-{time.time_ns():016x}"[:40]
    run_dir.mkdir(parents=True, mode=0o700)
    info = RunInfo(run_id=run_dir.name, kind=kind, created_at=time.time())
    (run_dir / "run.json").write_text(info.model_dump_json())
    (run_dir / "request.json").write_text(request.model_dump_json())
    (run_dir / "plan.json").write_text(json.dumps(plan))
    directory.write_status(run_dir, Status(state="running"))
    return run_dir


def check(name: str, model: str, peft: dict[str, Any], *, gguf: bool) -> dict[str, Any]:
    """Take one family through all steps; each has `passed` and a reason or what was measured.

    Args:
        name: Of the family.
        model: Its folder's name.
        peft: Arguments of the adapter.
        gguf: Whether it is converted, too.
    """
    found: dict[str, Any] = {"family": name, "adapters": "experts" if peft else "all-linear"}
    began = time.monotonic()

    def step(what: str, work: Any) -> Any:
        try:
            answer = work()
        except (Failed, FineTuningError) as error:
            found[what] = {"passed": False, "reason": str(error)[:600]}
            return None
        found[what] = {"passed": True}
        return answer

    run_id = step("resume", lambda: train(model, peft))
    if run_id:
        if not peft:
            step("evaluate", lambda: evaluate_run(run_id))
        formats = ["safetensors", *([CONVERTED] if gguf else [])]
        report = step("merge", lambda: ship_run(run_id, formats))
        if report:
            found |= _measured(report)
    found["seconds"] = round(time.monotonic() - began, 1)
    return found


def _measured(report: dict[str, Any]) -> dict[str, Any]:
    """Return how exact merge and conversion are."""
    merge = report["merge_check"] or {}
    difference = merge.get("max_abs_logit_difference")
    exact = difference is not None and difference <= MOST_LOGIT_DIFFERENCE
    found: dict[str, Any] = {
        "merge": {
            "passed": exact and bool(merge["passed"]),
            "max_abs_logit_difference": difference,
            "mean_kl": merge.get("mean_kl"),
            "adapter_kl": merge.get("adapter_kl"),
        }
    }
    for made in report["formats"]:
        if made["format"] != CONVERTED:
            continue
        if made["state"] != "made" or not made.get("quality"):
            why = [made.get("error") or "not measured", *report["said"][-2:]]
            foreseen = report["not_carried"]
            passed = None if foreseen else False
            found["gguf"] = {"passed": passed, "reason": (foreseen or " | ".join(why))[:600]}
            continue
        kl = made["quality"]["mean_kl"]
        # A divergence that is no number is null in a report.
        found["gguf"] = {"passed": kl is not None and kl < MOST_KL, "mean_kl": kl}
    return found


def ways(name: str, of_class: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the adapters to try: all linear layers, and fused experts beside them."""
    shape = shape_of_config(of_class, name)
    experts = sorted({m.name for block in shape.blocks for m in block.experts})
    return [{}, *([{"target_parameters": experts}] if experts else [])]


def family(name: str) -> list[dict[str, Any]]:
    """Take a family through all ways, in a workspace of its own."""
    with tempfile.TemporaryDirectory(prefix="families-") as place:
        os.environ["FINE_TUNING_LLM_WORKSPACE"] = place
        write_jsonl(Path(place, "train.jsonl"), conversations(12))
        write_jsonl(Path(place, "held.jsonl"), conversations(6, first=100))
        try:
            of_class = make_model(name, Path(place, name))
            alone = name in CONVERTED_ALONE
            # The same architecture is converted once.
            found = [
                check(name, name, peft, gguf=not (peft or alone)) for peft in ways(name, of_class)
            ]
            if alone:
                model = name + ALONE
                make_model(name, Path(place, model), converted)
                found[0]["gguf"] = check(name, model, {}, gguf=True)["gguf"]
            return found
        except (FineTuningError, ImportError, ValueError) as error:
            return [{"family": name, "model": {"passed": False, "reason": str(error)[:600]}}]
        finally:
            shutil.rmtree(place, ignore_errors=True)


def main() -> int:
    """Take every family through, and write what came of it family by family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", action="append", choices=NAMES, help="default: all of them")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/families.json"))
    parser.add_argument("--again", action="store_true", help="run what the output has, too")
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory(prefix="converter-") as folder:
        know_splitting(Path(folder, "llama.cpp"))
        return take_through(arguments)


def take_through(arguments: argparse.Namespace) -> int:
    """Take the families through that were asked for; 1 where one failed."""
    rows = json.loads(arguments.output.read_text())["rows"] if arguments.output.exists() else []
    for name in arguments.family or NAMES:
        if not arguments.again and any(row["family"] == name for row in rows):
            continue
        rows = [row for row in rows if row["family"] != name] + family(name)
        rows.sort(key=lambda row: NAMES.index(row["family"]))
        for row in (row for row in rows if row["family"] == name):
            print(json.dumps(row), flush=True)
        written = {
            "summary": summary(rows),
            "rows": rows,
            "versions": {library: version(library) for library in LIBRARIES},
            "machine": platform.machine(),
        }
        arguments.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary(rows), indent=1))
    return 1 if any(part["failed"] for part in summary(rows).values()) else 0


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Count what passed, failed and was not carried, for each step."""
    found = {}
    for what in ("resume", "evaluate", "merge", "gguf"):
        seen = [(row["family"], row[what]["passed"]) for row in rows if what in row]
        found[what] = {
            "passed": sum(passed is True for _, passed in seen),
            "failed": sorted({name for name, passed in seen if passed is False}),
            "not_carried": sorted({name for name, passed in seen if passed is None}),
        }
    return found


if __name__ == "__main__":
    sys.exit(main())
