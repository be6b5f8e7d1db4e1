"""Merge, convert, quantize and prove: the worker of merge_and_quantize."""

import gc
import importlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
from pydantic import BaseModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.errors import BadData, FineTuningError
from ft_tools.publish import private_folder, sha256, write_file
from ft_tools.runs.session import Session, main
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import formats, handoff, prompt, tensors
from ft_tools.shipping.report_page import report_page
from ft_tools.shipping.reports import (
    Chat,
    FormatResult,
    MergeCheck,
    ShipPlan,
    ShipReport,
)
from ft_tools.workers import merging, proving
from ft_tools.workers.merged_model import (
    MERGED,
    MergeRecord,
    Shipment,
    compute_dtype,
    merge_once,
    vocabulary_of,
)
from ft_tools.workers.proving import Reference, Text
from ft_tools.workers.shipped_formats import Proof, ship_format

CHAT_TOKENS = 128
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer.model", "README.md"]


def work(session: Session) -> BaseModel:
    """Ship what the plan says."""
    transformers_logging.disable_progress_bar()
    plan = ShipPlan.model_validate_json(session.plan_json())
    base = base_folder(session, plan)
    plan = with_adapter_again(plan, base)
    scratch = session.run_dir / "work"
    private_folder(scratch)
    out = Path(plan.output_dir) if plan.output_dir else session.run_dir / "artifacts"
    private_folder(out)
    shipment = Shipment(session, plan, base, out, scratch)
    steps = len(plan.formats) + 3
    merge = merge_once(shipment)
    session.progress(1, steps)
    session.phase("reading held-out text with the merged model")
    tokenizer = merging.tokenizer_of(shipment.merged)
    vocabulary = vocabulary_of(shipment.merged)
    origin = "given" if held_out_is_given(session) else "validation"
    text = proving.held_out_text(tokenizer, shipment.held_out, origin, vocabulary)
    reference = Reference(scratch / "reference.f32", text, vocabulary)
    samples = {MERGED: fill(shipment, reference, tokenizer)}
    session.progress(2, steps)
    parts = prompt_parts(tokenizer)
    results = []
    for i, planned in enumerate(plan.formats):
        shipment.stop_if_asked()
        row = formats.find(planned.format)
        result, said = ship_format(shipment, row, Proof(tokenizer, reference, parts))
        results.append(result)
        if said:
            samples[row.name] = said
        session.progress(3 + i, steps)
    require_something(results)
    report = finish(shipment, merge, results, Told(text, parts, tokenizer, samples))
    shutil.rmtree(scratch)
    session.progress(steps, steps)
    return report


@dataclass
class Told:
    """What the report tells besides numbers."""

    text: Text
    parts: prompt.PromptParts | None
    tokenizer: Any
    samples: dict[str, list[str]]


def base_folder(session: Session, plan: ShipPlan) -> Path:
    """Return the base's folder, fetched from the Hub if it is not here."""
    if Path(plan.load_from).is_dir():
        return Path(plan.load_from)
    session.phase("fetching the base model")
    fetched = huggingface_hub.snapshot_download(plan.load_from, allow_patterns=HUB_FILES)
    return Path(fetched)


def with_adapter_again(plan: ShipPlan, base: Path) -> ShipPlan:
    """Look at base and adapter again: files may have changed since the plan, or come only now.

    Raises:
        BadData: One of them changed.
    """
    config_hash = sha256(base / "config.json")
    if plan.base_config_sha256 and config_hash != plan.base_config_sha256:
        raise BadData(base, "config.json changed since the plan", "plan again")
    config = json.loads((base / "config.json").read_bytes())
    adapters.refuse_quantized(config)
    held = tensors.survey(base)
    found = None
    if plan.adapter:
        found = adapters.inspect(Path(plan.adapter.path), held, config)
        if found.sha256 != plan.adapter.sha256:
            raise BadData(found.path, "the adapter changed since the plan", "plan again")
    return plan.model_copy(update={"adapter": found, "base_config_sha256": config_hash})


def fill(shipment: Shipment, reference: Reference, tokenizer: Any) -> list[str]:
    """Run the merged model over the held-out text; returns its greedy samples."""
    dtype = compute_dtype(shipment.plan.num_params or 0)
    model = AutoModelForCausalLM.from_pretrained(shipment.merged, dtype=dtype).eval()
    reference.fill(model)
    said = proving.samples(model, tokenizer, reference.text)
    del model
    gc.collect()
    return said


def finish(
    shipment: Shipment, merge: MergeRecord, results: list[FormatResult], told: Told
) -> ShipReport:
    """Write HANDOFF.md and report.html, and return the report."""
    proof = prompt_proof(told)
    text = handoff.handoff(shipment.plan, results, proof, MERGED)
    guide = shipment.out / "HANDOFF.md"
    write_file(guide, text)
    report = ShipReport(
        name=shipment.plan.name,
        base_model=shipment.plan.base_model,
        output_dir=str(shipment.out),
        merged_path=str(shipment.merged),
        merge_check=merge.check,
        merge_route=merge.route,
        held_out=told.text.origin,
        num_held_out_tokens=told.text.num_tokens,
        formats=results,
        chat=chat(shipment, results),
        prompt_proof=proof,
        handoff=str(guide),
        reasons=merge_reasons(merge.check),
        next_steps=next_steps(results),
    )
    page = report_page(report, told.text.prompt_texts, told.samples)
    write_file(shipment.session.run_dir / "report.html", page)
    return report


def chat(shipment: Shipment, results: list[FormatResult]) -> Chat | None:
    """Ask the last GGUF file the request's message."""
    made = [r for r in results if r.state == "made" and r.format.startswith("gguf:")]
    if not shipment.plan.chat or not made:
        return None
    shipment.session.phase("chatting with the quantized model")
    gguf_files = importlib.import_module("ft_tools.workers.gguf_files")
    began = time.monotonic()
    plan = shipment.plan
    spoken = {"system": plan.chat_system, "user": plan.chat}
    messages = [{"role": role, "content": text} for role, text in spoken.items() if text]
    answer, count = gguf_files.chat_with_gguf(Path(made[-1].path), messages, CHAT_TOKENS)
    return Chat(
        format=made[-1].format,
        message=shipment.plan.chat,
        answer=answer,
        num_tokens=count,
        seconds=round(time.monotonic() - began, 2),
    )


def prompt_parts(tokenizer: Any) -> prompt.PromptParts | None:
    """Cut the chat template into the parts that Ollama's template is made of."""
    if not tokenizer.chat_template:
        return None
    first = tokenizer("x", add_special_tokens=True).input_ids[0]
    bos = tokenizer.bos_token if first == tokenizer.bos_token_id else ""
    return prompt.parts_of(_renderer(tokenizer), bos or "")


def prompt_proof(told: Told) -> str:
    """Say whether the template in the Modelfile builds the prompts of training."""
    if told.parts is None:
        return "no TEMPLATE: the chat template is not made of fixed parts; check the prompts"
    cases = prompt.probes(with_system=told.parts.system is not None)
    wrong = prompt.differences(told.parts, _renderer(told.tokenizer))
    return f"prompts equal to training's in {len(cases) - len(wrong)} of {len(cases)} conversations"


def require_something(results: list[FormatResult]) -> None:
    """Fail the run when not a single format could be made.

    Raises:
        FineTuningError: All failed; the message is the first one's.
    """
    if all(result.state == "failed" for result in results):
        raise FineTuningError(
            f"no format could be made; the merged model is there. {results[0].format}: "
            f"{results[0].error}"
        )


def merge_reasons(check: MergeCheck | None) -> list[Reason]:
    """Say why the merge was shipped."""
    if check is None:
        return []
    lost = 0.0 if check.applied_fraction is None else abs(1 - check.applied_fraction)
    gates = (
        ("ship.merge_kl", check.mean_kl),
        ("ship.merge_top1", check.top1_agreement),
        ("ship.merge_lost", lost),
    )
    return [
        Reason(
            rule=facts.threshold(gate).why,
            observed=round(seen, 8),
            threshold=facts.number(gate),
            source=facts.threshold(gate).source,
        )
        for gate, seen in gates
    ]


def next_steps(results: list[FormatResult]) -> list[NextStep]:
    """Suggest to measure the task itself on a shipped file."""
    made = [r for r in results if r.state == "made" and r.quality]
    if not made:
        return []
    why = "measures the task itself on the shipped file; name a held-out dataset"
    return [NextStep(tool="evaluate", arguments={"model": made[-1].path}, why=why)]


def held_out_is_given(session: Session) -> bool:
    """Tell whether the request named the held-out file."""
    return bool(json.loads(session.request_json()).get("held_out"))


def _renderer(tokenizer: Any) -> prompt.Render:
    def render(messages: Any, generation: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation
            )
        )

    return render


if __name__ == "__main__":
    main(work)
