"""Try the whole chain on this machine's GPU: `python -m ft_tools.doctor.worker.gpu_self_test`.

A small random model is trained, resumed, merged, quantized and evaluated by the tools and workers
that a user's own run takes. Predicted memory is put beside the measured peak. Without a GPU the
same is done with a smaller model on the CPU, and the report says so.
"""

import argparse
import contextlib
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ft_tools import workspace
from ft_tools.contract import Report
from ft_tools.errors import FineTuningError, Missing
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.runs.request import CancelRequest, ResumeRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import cancel_run, read_run, resume_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft

RUN_SECONDS = 900.0
POLL_SECONDS = 0.5
RESUMED_STEPS = {True: 600, False: 120}
"""On a GPU or not: enough that a run is still on its way when it is cancelled."""
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
ACCEPTED = ["no_quality_filter", "too_few_examples", "no_eval_set", "validation_unwatched"]
FILES = {"train": range(96), "validation": range(1000, 1016), "held_out": range(2000, 2008)}
TOWNS = ("Oslo", "Bergen", "Narvik", "Molde", "Tromso")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class SelfTestStep(Report):
    """One thing that was tried."""

    name: str
    state: Literal["passed", "failed", "skipped"]
    seconds: float = 0.0
    detail: str = Field("", description="What was seen, or why it was skipped or failed.")
    predicted_gib: float | None = Field(None, description="GPU memory as planned.")
    measured_gib: float | None = Field(None, description="Peak GPU memory as measured.")


class SelfTestReport(Report):
    """How this project works on a machine; something that a user can send."""

    device: str = Field(description="Name of the GPU, or the number of CPU cores.")
    on_gpu: bool
    versions: dict[str, str] = Field(description="Python, driver and libraries.")
    checks: list[SelfTestStep]
    passed: bool = Field(description="Every check passed; one that was skipped proves nothing.")


def self_test(folder: Path, *, use_gpu: bool = True) -> SelfTestReport:
    """Run every check.

    Args:
        folder: Empty; everything is made in it.
        use_gpu: False leaves a GPU alone.
    """
    on_gpu = use_gpu and torch.cuda.is_available()
    os.environ[workspace.VARIABLE] = str(folder)
    make_inputs(folder, ON_GPU if on_gpu else ON_CPU)
    runs: dict[str, str] = {}
    checks = {
        "train with LoRA": lambda: trained(runs, "lora", on_gpu),
        "train with LoRA, packed": lambda: trained(runs, "lora", on_gpu, packing=True),
        "train with QLoRA": lambda: trained(runs, "qlora", on_gpu),
        "cancel and resume": lambda: resumed(on_gpu),
        "merge, quantize and load again": lambda: shipped(runs),
        "evaluate": lambda: evaluated(runs),
    }
    found = [check(name, work) for name, work in checks.items()]
    versions = {"python": platform.python_version(), "cuda": str(torch.version.cuda)}
    for library in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[library] = metadata.version(library)
    return SelfTestReport(
        device=torch.cuda.get_device_name(0) if on_gpu else f"{os.cpu_count()} cores",
        on_gpu=on_gpu,
        versions=versions,
        checks=found,
        passed=all(one.state == "passed" for one in found),
    )


def check(name: str, work: Callable[[], SelfTestStep | str]) -> SelfTestStep:
    """Try something; whatever it raises is a finding, and the rest is still tried."""
    sys.stderr.write(f"{name} ...\n")
    began = time.monotonic()
    try:
        found = work()
        if isinstance(found, str):
            found = SelfTestStep(name=name, state="passed", detail=found)
    except Missing as error:
        found = SelfTestStep(name=name, state="skipped", detail=str(error))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"[:300]
        found = SelfTestStep(name=name, state="failed", detail=said)
    seconds = round(time.monotonic() - began, 1)
    return found.model_copy(update={"name": name, "seconds": seconds})


def trained(
    runs: dict[str, str], method: str, on_gpu: bool, *, packing: bool = False
) -> SelfTestStep | str:
    """Train three steps, with an evaluation after them."""
    request = training(method, on_gpu, TRAINING | {"packing": packing})
    run, plan = launched(launch_sft, request)
    runs[method] = run["run_id"]
    result = run["result"]
    losses = [result.get(name) for name in ("first_loss", "train_loss", "validation_loss")]
    if not all(isinstance(loss, float) and math.isfinite(loss) for loss in losses):
        raise FineTuningError(f"loss at first, after three steps, of validation: {losses}")
    return SelfTestStep(
        name="",
        state="passed",
        detail="loss {:.3f} -> {:.3f}, validation {:.3f}".format(*losses),
        predicted_gib=(plan["estimate"].get("vram") or {}).get("peak_allocated_gib"),
        measured_gib=result.get("peak_memory_gib"),
    )


def resumed(on_gpu: bool) -> str:
    """Cancel a run on its way and resume it."""
    # Without evaluations, which might end it early.
    num_steps = RESUMED_STEPS[on_gpu]
    arguments = TRAINING | {"max_steps": num_steps, "save_steps": 10, "eval_strategy": "no"}
    request = training("lora", on_gpu, arguments).model_copy(update={"validation": None})
    run_id, _ = started(launch_sft, request)
    seen = wait(run_id, until_step=11)
    if seen["state"] not in ENDED:
        cancel_run(CancelRequest(run_id=run_id))
        seen = wait(run_id)
    if seen["state"] == "succeeded":
        raise Missing("it was over before it could be cancelled")
    at = (seen["progress"] or {}).get("step", 0)
    resume_run(ResumeRequest(run_id=run_id))
    again = wait(run_id, attempts=2)
    steps = (again["result"] or {}).get("steps")
    if seen["state"] != "cancelled" or steps != num_steps:
        raise FineTuningError(
            f"{seen['state']} at step {at}, {again['state']} at {steps} of {num_steps}"
        )
    return f"cancelled at step {at}, resumed to {steps}"


def shipped(runs: dict[str, str]) -> str:
    """Merge, and load the result again; the run itself compares it with base and adapter."""
    source = runs.get("qlora") or runs["lora"]
    request = ShipRequest(source=source, formats=["safetensors"])
    result = launched(merge_and_quantize, request)[0]["result"]
    if any(made["state"] != "made" for made in result["formats"]):
        raise FineTuningError("; ".join(made.get("error", "") for made in result["formats"]))
    kl = (result.get("merge_check") or {}).get("mean_kl")
    return f"{', '.join(made['format'] for made in result['formats'])}; merge KL {kl}"


def evaluated(runs: dict[str, str]) -> str:
    """Compare an adapter with its base."""
    request = EvaluateRequest(
        model=runs["lora"], dataset="held_out.jsonl", general_ability=False, max_new_tokens=8,
        metrics=["token_f1", "exact_match"],
    )  # fmt: skip
    run, _ = launched(evaluate, request)
    return f"{len(run['result']['comparisons'])} comparisons"


def training(method: str, on_gpu: bool, arguments: dict[str, Any]) -> SftRequest:
    """Return the request of a small training."""
    return SftRequest.model_validate(
        {
            "model": "model", "dataset": "train.jsonl", "validation": "validation.jsonl",
            "method": method, "peft": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
            "training": arguments, "accept_findings": ACCEPTED,
            "accept_reason": "a self-test", "backend_options": {} if on_gpu else {"device": "cpu"},
        }
    )  # fmt: skip


def launched(tool: Any, request: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plan, confirm and follow a run; returns it and its plan.

    Raises:
        FineTuningError: It did not succeed.
    """
    run_id, plan = started(tool, request)
    run = wait(run_id)
    if run["state"] != "succeeded":
        raise FineTuningError(f"{run['state']}: {(run['error'] or {}).get('message', '')}")
    return run, plan


def started(tool: Any, request: Any) -> tuple[str, dict[str, Any]]:
    """Plan and confirm a run; returns its id and its plan."""
    plan = tool(request)
    again = tool(request.model_copy(update={"confirm": plan.plan_hash}))
    return str(again.run_id), dict(plan.plan)


def wait(run_id: str, until_step: float = math.inf, attempts: int = 1) -> dict[str, Any]:
    """Follow a run until an attempt has ended, or it has made some steps.

    While other runs of this user hold the device, it waits for them.

    Raises:
        FineTuningError: It took too long.
    """
    deadline = time.monotonic() + RUN_SECONDS
    while True:
        run = read_run(run_id, log_lines=20).model_dump(mode="json")
        has_ended = run["state"] in ENDED and run["attempts"] >= attempts
        if has_ended or (run["progress"] or {}).get("step", 0) >= until_step:
            return run
        if run["state"] == "queued":
            deadline = time.monotonic() + RUN_SECONDS
        if time.monotonic() > deadline:
            raise FineTuningError(f"run {run_id} is still {run['state']} after {RUN_SECONDS:.0f} s")
        time.sleep(POLL_SECONDS)


def make_inputs(folder: Path, shape: dict[str, int]) -> None:
    """Save a random Llama, a small tokenizer, and files of questions and answers."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = []
    for name, numbers in FILES.items():
        lines = []
        for i in numbers:
            asked, answer = f"Where is parcel {i}?", f"Parcel {i} is in {TOWNS[i % 5]}."
            turns = [("user", asked), ("assistant", answer)]
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            lines.append(json.dumps(row))
            texts += [asked, answer]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    _, bos, eos = SPECIAL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=eos
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = LlamaConfig(
        **shape, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, pad_token_id=2
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(folder / "model")


def as_text(report: SelfTestReport) -> str:
    """Return the report as a table for a terminal or an issue."""
    passed = sum(one.state == "passed" for one in report.checks)
    said = f"{passed} of {len(report.checks)} checks passed on {report.device}"
    if not report.on_gpu:
        said = f"no GPU was found: {said}, which says nothing about a GPU"
    lines = [said, "", *(f"{name}: {version}" for name, version in report.versions.items())]
    lines += ["", f"{'check':32} {'state':8} {'s':>6} {'predicted':>10} {'measured':>10}  detail"]
    for one in report.checks:
        gib = (one.predicted_gib, one.measured_gib)
        sizes = " ".join("-".rjust(10) if g is None else f"{g:6.2f} GiB" for g in gib)
        lines.append(f"{one.name:32} {one.state:8} {one.seconds:6.1f} {sizes}  {one.detail}")
    return "\n".join(lines) + "\n"


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
