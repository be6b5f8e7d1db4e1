"""Try the whole chain on this machine's GPU: `python -m ft_tools.doctor.worker.gpu_self_test`.

A random model is made, loaded in 16 and 4 bits, trained, resumed, evaluated, merged and quantized,
by the tools and workers that a user's own run takes. Predicted memory is put beside the measured
peak. Without a GPU the same is done with a smaller model on the CPU, and the report says so.
"""

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from ft_tools import workspace
from ft_tools.doctor.self_test_report import SelfTestReport, Tried, as_text, summarise
from ft_tools.doctor.worker.materials import make_data, make_model
from ft_tools.doctor.worker.scarcity import GIB, little_memory
from ft_tools.errors import FineTuningError, Missing
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.machine import Card, Machine
from ft_tools.models.placement import Placement, candidates
from ft_tools.models.quantized import NF4
from ft_tools.models.size import size_of_files
from ft_tools.models.worker.loading import load
from ft_tools.runs.hardware import devices
from ft_tools.runs.request import CancelRequest, ResumeRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import cancel_run, read_run, resume_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft

RUN_SECONDS = 900.0
RESUMED_STEPS = {"cuda": 600, "cpu": 120}
"""Enough that a run is still on its way when it is cancelled."""
POLL_SECONDS = 0.5
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes")
# About 160 M parameters, with the vocabulary of a Llama 3, whose logits are what memory ends by.
ON_GPU = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
          "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 128_256}  # fmt: skip
ON_CPU = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2,
          "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 32_768}  # fmt: skip
TRAINING: dict[str, Any] = {
    "max_steps": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_length": 128,
    "logging_steps": 1,
    "eval_steps": 3,
}
# A micro-batch that has to be halved. On a GPU so much memory is left as the estimate of a few rows
# takes; on the CPU logits of 64 x 128 tokens take 1.1 GB over a vocabulary of 32,768.
LARGE: dict[str, Any] = {
    "per_device_train_batch_size": 64,
    "max_steps": 1,
    "gradient_checkpointing": False,
}
SMALL_BATCH = 8
LARGE_LENGTH = {"cuda": 256, "cpu": 128}
ACCEPTED = ["no_quality_filter", "too_few_examples", "no_eval_set"]


@dataclass
class SelfTest:
    """The machine, a folder to work in, and what was found."""

    folder: Path
    on_gpu: bool
    checks: list[Tried] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> Placement:
        """Return where the model is loaded."""
        return Placement("cuda:0" if self.on_gpu else "cpu", "bfloat16", 0)

    def check(self, name: str, work: Callable[[], Tried | str]) -> None:
        """Try something; whatever it raises is a finding, and the rest is still tried."""
        sys.stderr.write(f"{name} ...\n")
        began = time.monotonic()
        try:
            found = work()
            check = (
                found
                if isinstance(found, Tried)
                else Tried(name=name, state="passed", detail=found)
            )
        except Missing as error:
            check = Tried(name=name, state="skipped", detail=str(error))
        except Exception as error:
            check = Tried(
                name=name, state="failed", detail=f"{type(error).__name__}: {error}"[:300]
            )
        seconds = round(time.monotonic() - began, 1)
        self.checks.append(check.model_copy(update={"name": name, "seconds": seconds}))


def self_test(folder: Path, *, use_gpu: bool = True) -> SelfTestReport:
    """Run every check.

    Args:
        folder: Empty; everything is made in it.
        use_gpu: False leaves a GPU alone.
    """
    on_gpu = use_gpu and torch.cuda.is_available()
    test = SelfTest(folder, on_gpu)
    os.environ[workspace.VARIABLE] = str(folder)
    make_model(folder / "model", ON_GPU if on_gpu else ON_CPU)
    make_data(folder)
    test.check("load in 16 bits", lambda: loaded(test, None))
    test.check("load in 4 bits", lambda: loaded(test, NF4))
    test.check("generate", lambda: generated(test))
    test.check("train with LoRA", lambda: trained(test, "lora"))
    test.check("train with LoRA, packed", lambda: trained(test, "lora", packing=True))
    test.check("train with QLoRA", lambda: trained(test, "qlora"))
    test.check("train with QLoRA, packed", lambda: trained(test, "qlora", packing=True))
    test.check("halve after running out of memory", lambda: halved(test))
    test.check("cancel and resume", lambda: resumed(test))
    test.check("merge, quantize and load again", lambda: shipped(test))
    test.check("evaluate", lambda: evaluated(test))
    device = torch.cuda.get_device_name(0) if on_gpu else f"{os.cpu_count()} cores"
    return report_of(test, device)


def report_of(test: SelfTest, device: str) -> SelfTestReport:
    """Return what was found."""
    return SelfTestReport(
        device=device,
        on_gpu=test.on_gpu,
        versions=versions(),
        checks=test.checks,
        passed=all(check.state == "passed" for check in test.checks),
        summary=summarise(device, on_gpu=test.on_gpu, checks=test.checks),
    )


def loaded(test: SelfTest, quantization: dict[str, Any] | None) -> Tried:
    """Load the model and run it once; on a GPU its peak of memory is put beside the predicted."""
    if not test.on_gpu:
        return _loaded(*run_once(test, quantization))
    size = size_of_files(test.folder / "model")
    alone = Machine((Card("this", 2**40),), 0)
    planned = candidates(size, alone, ["bfloat16"], four_bit=quantization is not None)[0]
    # What libraries keep from their first use on is not the model's.
    run_once(test, quantization)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    device, is_finite = run_once(test, quantization)
    peak = (torch.cuda.max_memory_allocated() - before) / GIB
    memory = {"predicted_gib": round(planned.num_bytes / GIB, 3), "measured_gib": round(peak, 3)}
    return _loaded(device, is_finite).model_copy(update=memory)


def _loaded(device: str, is_finite: bool) -> Tried:
    if not is_finite:
        return Tried(name="", state="failed", detail="logits are not finite")
    return Tried(name="", state="passed", detail=f"on {device}")


def run_once(test: SelfTest, quantization: dict[str, Any] | None) -> tuple[str, bool]:
    """Load the model and read a text; returns where, and whether its logits are finite."""
    model = load(test.folder / "model", test.place, quantization=quantization)
    tokens = torch.arange(32, device=model.device)[None]
    with torch.inference_mode():
        logits = model(tokens).logits
    return str(model.device), bool(torch.isfinite(logits).all())


def generated(test: SelfTest) -> str:
    """Generate greedily."""
    model = load(test.folder / "model", test.place)
    start = torch.tensor([[3, 4, 5]], device=model.device)
    with torch.inference_mode():
        made = model.generate(start, max_new_tokens=16, do_sample=False, pad_token_id=2)
    return f"{made.shape[1] - start.shape[1]} tokens"


def trained(test: SelfTest, method: str, *, packing: bool = False) -> Tried:
    """Train three steps, with an evaluation after them."""
    arguments = TRAINING | {"packing": packing}
    run, plan = launched(test, launch_sft, SftRequest(**_training(test, method, arguments)))
    test.runs[method] = run["run_id"]
    vram = plan.get("vram") or {}
    result = run["result"]
    losses = [result.get(name) for name in ("first_loss", "train_loss", "validation_loss")]
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in losses):
        raise FineTuningError(f"loss at first, after three steps, of validation: {losses}")
    return Tried(
        name="",
        state="passed",
        detail="loss {:.3f} -> {:.3f}, validation {:.3f}".format(*losses),
        predicted_gib=vram.get("peak_allocated_gib"),
        measured_gib=result.get("peak_memory_gib"),
    )


def halved(test: SelfTest) -> Tried | str:
    """Leave so little memory that a large micro-batch has to be halved."""
    accepted = [*ACCEPTED, "does_not_fit"]
    large = LARGE | {"max_length": LARGE_LENGTH["cuda" if test.on_gpu else "cpu"]}
    request = _training(test, "lora", TRAINING | large) | {"accept_findings": accepted}
    request |= {"dataset": "long.jsonl"}
    with little_memory(_left_bytes(test, large["max_length"])):
        run_id, _ = started(launch_sft, SftRequest(**request))
        run = wait(run_id) if test.on_gpu else {}
    run = _require_success(run or wait(run_id))
    micro = run["result"]["micro_batch"]
    if micro >= LARGE["per_device_train_batch_size"]:
        return Tried(name="", state="skipped", detail="memory did not run out")
    return f"micro-batch {LARGE['per_device_train_batch_size']} -> {micro}"


def _left_bytes(test: SelfTest, length: int) -> int | None:
    """Return the GPU memory that a small micro-batch fits in and a large one does not."""
    if not test.on_gpu:
        return None
    small, large = (
        estimate_vram(
            VramRequest(
                model="model", lora_rank=8, seq_len=length, micro_batch=size, padded_batches=True,
                gradient_checkpointing=False, optimizer="adamw_torch",
            )
        )
        for size in (SMALL_BATCH, LARGE["per_device_train_batch_size"])
    )  # fmt: skip
    if small.process_high_gib >= large.peak_allocated_low_gib:
        raise FineTuningError(
            f"the estimates of {SMALL_BATCH} and {LARGE['per_device_train_batch_size']} examples "
            "do not differ enough to leave memory between them"
        )
    return int((small.process_high_gib + large.peak_allocated_low_gib) / 2 * GIB)


def resumed(test: SelfTest) -> Tried | str:
    """Cancel a run on its way and resume it."""
    # Without evaluations, which might end it early.
    num_steps = RESUMED_STEPS["cuda" if test.on_gpu else "cpu"]
    arguments = TRAINING | {"max_steps": num_steps, "save_steps": 10, "eval_strategy": "no"}
    alone = {"validation": None, "accept_findings": [*ACCEPTED, "validation_unwatched"]}
    request = SftRequest(**_training(test, "lora", arguments) | alone)
    run_id = started(launch_sft, request)[0]
    seen = wait(run_id, lambda run: (run["progress"] or {}).get("step", 0) >= 11)
    if seen["state"] not in ENDED:
        cancel_run(CancelRequest(run_id=run_id))
        seen = wait(run_id)
    if seen["state"] == "succeeded":
        return Tried(name="", state="skipped", detail="it was over before it could be cancelled")
    if seen["state"] != "cancelled":
        _require_success(seen)
    at = (seen["progress"] or {}).get("step", 0)
    resume_run(ResumeRequest(run_id=run_id))
    done = _require_success(wait(run_id, attempts=2))
    steps = done["result"]["steps"]
    if steps != num_steps:
        raise FineTuningError(f"cancelled at step {at}, ended at {steps} of {num_steps}")
    return f"cancelled at step {at}, resumed to {steps}"


def shipped(test: SelfTest) -> str:
    """Merge, write 4-bit weights, and load both again; the run itself compares them."""
    source = test.runs.get("qlora") or test.runs.get("lora")
    if source is None:
        raise FineTuningError("no training run succeeded")
    request = ShipRequest(source=source, formats=["safetensors", "bnb:nf4"])
    run, _ = launched(test, merge_and_quantize, request)
    result = run["result"]
    states = [f"{made['format']} {made['state']}" for made in result["formats"]]
    if any(made["state"] != "made" for made in result["formats"]):
        raise FineTuningError("; ".join(made.get("error", "") for made in result["formats"]))
    kl = (result.get("merge_check") or {}).get("mean_kl")
    return f"{', '.join(states)}; merge KL {kl}"


def evaluated(test: SelfTest) -> str:
    """Compare an adapter with its base."""
    source = test.runs.get("lora")
    if source is None:
        raise FineTuningError("no training run succeeded")
    request = EvaluateRequest(
        model=source, dataset="held_out.jsonl", general_ability=False, max_new_tokens=8,
        metrics=["perplexity", "exact_match"],
    )  # fmt: skip
    run, _ = launched(test, evaluate, request)
    return f"{len(run['result']['comparisons'])} comparisons"


def _training(test: SelfTest, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": "model", "dataset": "train.jsonl", "validation": "validation.jsonl",
        "method": method, "peft": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
        "training": arguments, "samples": 0, "accept_findings": ACCEPTED,
        "accept_reason": "a self-test", "backend_options": {} if test.on_gpu else {"device": "cpu"},
    }  # fmt: skip


def launched(test: SelfTest, tool: Any, request: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan, confirm and follow a run; returns it and its plan.

    Raises:
        FineTuningError: It did not succeed.
    """
    run_id, plan = started(tool, request)
    return _require_success(wait(run_id)), plan


def started(tool: Any, request: Any) -> tuple[str, dict[str, Any]]:
    """Plan and confirm a run; returns its id and its plan."""
    plan = tool(request)
    again = tool(request.model_copy(update={"confirm": plan.plan_hash}))
    return str(again.run_id), dict(plan.plan)


def wait(
    run_id: str, until: Callable[[dict[str, Any]], bool] = lambda run: False, attempts: int = 1
) -> dict[str, Any]:
    """Follow a run until an attempt has ended or a condition holds.

    While other runs of this user hold the device, it waits for them.

    Raises:
        FineTuningError: It took too long.
    """
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        run = read_run(run_id, log_lines=20).model_dump(mode="json")
        if until(run) or (run["state"] in ENDED and run["attempts"] >= attempts):
            return run
        if run["state"] == "queued":
            deadline = time.monotonic() + RUN_SECONDS
        if time.monotonic() > deadline:
            raise FineTuningError(f"run {run_id} is still {run['state']} after {RUN_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def _require_success(run: dict[str, Any]) -> dict[str, Any]:
    if run["state"] != "succeeded":
        error = run["error"] or {}
        raise FineTuningError(f"{run['state']}: {error.get('message', '')}")
    return run


def versions() -> dict[str, str]:
    """Return what the result depends on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed"
    found["cuda"] = str(torch.version.cuda)
    cards = devices.find_cards()
    found["cards"] = ", ".join(f"{card.model} {card.memory_gib} GiB" for card in cards) or "none"
    return found


def main() -> None:
    """Run the self-test and print its report; exit 1 if a check failed."""
    parser = argparse.ArgumentParser(description="Test fine-tuning-llm on this machine's GPU.")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--cpu", action="store_true", help="leave a GPU alone")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fine-tuning-llm-self-test-") as folder:
        report = self_test(Path(folder), use_gpu=not chosen.cpu)
    sys.stdout.write(report.model_dump_json(indent=1) if chosen.json else as_text(report))
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
