"""Merge, convert, quantize and prove: the worker of merge_and_quantize."""

import json
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel
from transformers.utils import logging as transformers_logging

from ft_tools import facts
from ft_tools.contract import Reason
from ft_tools.errors import BadData, FineTuningError
from ft_tools.models import safetensors_headers
from ft_tools.models.machine import this_machine
from ft_tools.models.size import size_of_tensors
from ft_tools.models.worker.loading import fetched, free_memory, load
from ft_tools.publish import private_folder, sha256, write_file
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import comparison_text, estimates, formats, handoff, quality
from ft_tools.shipping.answers_as_measured import next_steps, shipped_answers
from ft_tools.shipping.asking import asking_of, write_files
from ft_tools.shipping.page import report_page
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import Chat, FormatResult, MergeCheck, ShipReport
from ft_tools.shipping.worker import gguf_jobs, merging, prompt_proofs, proving, task_metric
from ft_tools.shipping.worker.merged_model import (
    MERGED,
    MergeRecord,
    Shipment,
    merge_once,
    vocabulary_of,
)
from ft_tools.shipping.worker.proving import Proof, Reference
from ft_tools.shipping.worker.shipped_end_tokens import stop_texts
from ft_tools.shipping.worker.shipped_formats import limits_of, ship_format

CHAT_TOKENS = 128


def work(session: Session) -> BaseModel:
    """Ship what the plan says."""
    transformers_logging.disable_progress_bar()
    plan = session.plan(ShipPlan)
    base = base_folder(session, plan)
    plan = with_files(plan, base)
    scratch = session.run_dir / "work"
    private_folder(scratch)
    out = Path(plan.output_dir) if plan.output_dir else session.run_dir / "artifacts"
    private_folder(out)
    asking = asking_of(plan.source, plan.measured_as, plan.system)
    shipment = Shipment(session, plan, base, out, scratch, asking)
    steps = len(plan.formats) + 3
    merge = merge_once(shipment)
    session.progress(1, steps)
    session.phase("reading held-out text with the merged model")
    tokenizer = merging.tokenizer_of(shipment.merged)
    vocabulary = vocabulary_of(shipment.merged)
    origin = "given" if held_out_is_given(session) else "validation"
    text = proving.held_out_text(tokenizer, shipment.held_out, origin, vocabulary)
    reference = Reference(scratch / "reference.f32", text, vocabulary)
    task = task_metric.task_of(tokenizer, shipment.held_out, plan.max_examples, asking.spec)
    parts = prompt_proofs.prompt_parts(tokenizer)
    proof = Proof(tokenizer, reference, parts, task, system=asking.system)
    answers: list[list[int]] = []
    speed: float | None = None
    samples: dict[str, list[str]] = {}
    if shipment.can_run:
        answers, speed = fill(shipment, proof)
        samples = {MERGED: proof.samples(answers)}
        proof.tuned = task_metric.scores_of_proof(proof, answers) if task is not None else {}
    session.progress(2, steps)
    results = []
    for i, planned in enumerate(plan.formats):
        shipment.stop_if_asked()
        row = formats.find(planned.format)
        result, said = ship_format(shipment, row, proof)
        if row.family == "safetensors" and answers:
            own = {
                "task": task_metric.means(proof.tuned),
                "tokens_per_second": round(speed or 0.0, 1),
            }
            result = result.model_copy(update=own)
        results.append(result)
        if said:
            samples[row.name] = said
        session.progress(3 + i, steps)
    require_something(results)
    report = finish(shipment, merge, results, Findings(proof, samples, speed))
    shutil.rmtree(scratch)
    session.progress(steps, steps)
    return report


@dataclass
class Findings:
    """What the report says besides the formats."""

    proof: Proof
    samples: dict[str, list[str]]
    tokens_per_second: float | None


def base_folder(session: Session, plan: ShipPlan) -> Path:
    """Return the base's folder, fetched from the Hub if it is not here."""
    if not Path(plan.load_from).is_dir():
        session.phase("downloading the base model")
    return fetched(plan.load_from)


def with_files(plan: ShipPlan, base: Path) -> ShipPlan:
    """Read base and adapter again: files may have changed since the plan, or are here only now.

    Raises:
        BadData: One of them changed.
        Refused: The base is larger than this machine can handle, which the plan could not know.
    """
    config_hash = sha256(base / "config.json")
    if plan.base_config_sha256 and config_hash != plan.base_config_sha256:
        raise BadData(base, "config.json changed since the plan", "plan again")
    adapters.require_unchanged(base)
    config = json.loads((base / "config.json").read_bytes())
    adapters.require_unquantized(config)
    held = safetensors_headers.survey(base)
    found = None
    if plan.adapter:
        found = adapters.inspect(Path(plan.adapter.path), held, config)
        if found.sha256 != plan.adapter.sha256:
            raise BadData(found.path, "the adapter changed since the plan", "plan again")
    size = size_of_tensors(held)
    rows = [formats.find(planned.format) for planned in plan.formats]
    estimates.require_possible(rows, size, this_machine(plan.device), found)
    planned = [estimates.planned_format(row, size) for row in rows]
    update = {"adapter": found, "base_config_sha256": config_hash, "formats": planned}
    return plan.model_copy(update=update | {"num_params": size.num_params})


def fill(shipment: Shipment, proof: Proof) -> tuple[list[list[int]], float]:
    """Run the merged model over the held-out text; returns its greedy answers, and tokens/s."""
    place = shipment.place
    model = load(shipment.merged, place)
    proof.reference.fill(model)
    found = proving.greedy(model, proof.prompts, proof.max_new_tokens)
    del model
    free_memory()
    if shipment.adapter:
        base = load(shipment.base, place)
        proof.reference.fill_base(base)
        del base
        free_memory()
    return found


def finish(
    shipment: Shipment, merge: MergeRecord, results: list[FormatResult], findings: Findings
) -> ShipReport:
    """Write HANDOFF.md and report.html, and return the report."""
    proofs = prompt_proof(shipment, results, findings.proof)
    task = task_metric.means(findings.proof.tuned)
    said, recommended = shipped_answers(results, task)
    stops = stop_texts(findings.proof.tokenizer, shipment.merged)
    num_ctx = limits_of(shipment, findings.proof)["num_ctx"]
    parts = findings.proof.parts
    default = parts.default_system if parts is not None else ""
    about = handoff.Asked(shipment.asking, stops, said, recommended, proofs, num_ctx, default)
    if shipment.held_out and (question := comparison_text.example_question(shipment.held_out)):
        about = replace(about, example=question)
    text = handoff.handoff(shipment.plan, results, about, MERGED)
    guide = shipment.out / "HANDOFF.md"
    write_file(guide, text)
    write_files(shipment.asking, shipment.out)
    report = ShipReport(
        answers_as_measured=said,
        recommended_format=recommended,
        system_text=shipment.asking.sentence(has_default=bool(default)),
        measured=measured.sentence() if (measured := shipment.plan.measured_as) else "",
        name=shipment.plan.name,
        base_model=shipment.plan.base_model,
        output_dir=str(shipment.out),
        merged_path=str(shipment.merged),
        merge_check=merge.check,
        weight_check=merge.weight_check,
        merge_route=merge.route,
        held_out=findings.proof.reference.text.origin,
        num_held_out_tokens=findings.proof.reference.text.num_tokens,
        formats=results,
        chat=chat(shipment, results),
        task=task,
        num_task_examples=len(findings.proof.task.prompts) if findings.proof.task else 0,
        tokens_per_second=findings.tokens_per_second and round(findings.tokens_per_second, 1),
        prompt_proof=proofs,
        handoff=str(guide),
        reasons=merge_reasons(merge.check),
        next_steps=next_steps(results, recommended, shipment.plan.measured_as),
    )
    page = report_page(report, findings.proof.reference.text.prompt_texts, findings.samples)
    write_file(shipment.session.run_dir / "report.html", page)
    return report


def chat(shipment: Shipment, results: list[FormatResult]) -> Chat | None:
    """Ask the last GGUF file the request's message, with the system text that is shipped."""
    made = [r for r in results if r.state == "made" and r.format.startswith("gguf:")]
    if not shipment.plan.chat or not made:
        return None
    shipment.session.phase("chatting with the quantized model")
    began = time.monotonic()
    plan = shipment.plan
    how = replace(shipment.asking, system=plan.chat_system or shipment.asking.system)
    messages = how.messages(plan.chat)
    try:
        answer, count = gguf_jobs.chat(shipment, Path(made[-1].path), messages, CHAT_TOKENS)
    except gguf_jobs.LlamaCppFailed as error:
        shipment.session.event(f"no chat: {error}", "error")
        return None
    return Chat(
        format=made[-1].format,
        message=shipment.plan.chat,
        answer=answer,
        num_tokens=count,
        seconds=round(time.monotonic() - began, 2),
    )


def prompt_proof(shipment: Shipment, results: list[FormatResult], proof: Proof) -> dict[str, str]:
    """Compare the prompts of each program with those of training."""
    adapter = shipment.adapter
    own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    trained = merging.tokenizer_of(adapter if own and adapter else shipment.base)
    made = [r.path for r in results if r.state == "made" and r.format.startswith("gguf:")]
    return prompt_proofs.proofs(
        trained, proof.tokenizer, proof.parts, Path(made[0]) if made else None
    )


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
    """Return why the merge was shipped."""
    if check is None:
        return []
    lost = 0.0 if check.applied_fraction is None else abs(1 - check.applied_fraction)
    gates = (
        ("ship.merge_kl", check.mean_kl, quality.most_merge_kl(check.adapter_kl)),
        ("ship.merge_top1", check.top1_agreement, facts.number("ship.merge_top1")),
        ("ship.merge_lost", lost, facts.number("ship.merge_lost")),
    )
    return [
        Reason(
            rule=facts.threshold(gate).why,
            observed=round(seen, 8),
            threshold=limit,
            source=facts.threshold(gate).source,
        )
        for gate, seen, limit in gates
    ]


def held_out_is_given(session: Session) -> bool:
    """Return whether the request named the held-out file."""
    return bool(json.loads(session.request_json()).get("held_out"))


if __name__ == "__main__":
    main(work)
