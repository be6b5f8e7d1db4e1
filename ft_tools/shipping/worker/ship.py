"""Merge, convert, quantize and prove: the worker of merge_and_quantize."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers.utils import logging as transformers_logging

from ft_tools.errors import BadData, FineTuningError
from ft_tools.models.worker.loading import fetched, free_memory, load
from ft_tools.publish import private_folder, sha256, write_file
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import formats, handoff
from ft_tools.shipping.asking import asking_of, context_of, write_files
from ft_tools.shipping.page import report_page
from ft_tools.shipping.plan import ShipPlan, inspected
from ft_tools.shipping.quality import gates_of, next_steps, recommend
from ft_tools.shipping.report import FormatResult, ShipReport
from ft_tools.shipping.worker import merging, prompts, proving, shipped_formats, task_metric
from ft_tools.shipping.worker.merged_model import merge_once
from ft_tools.shipping.worker.proving import Proof, Reference
from ft_tools.shipping.worker.shipment import MERGED, Shipment, context_length, vocabulary_of


def work(session: Session) -> BaseModel:
    """Ship what the plan says."""
    transformers_logging.disable_progress_bar()
    plan = session.plan(ShipPlan)
    if not Path(plan.load_from).is_dir():
        session.phase("downloading the base model")
    base = fetched(plan.load_from)
    plan = with_files(plan, base)
    scratch = session.run_dir / "work"
    out = Path(plan.output_dir) if plan.output_dir else session.run_dir / "artifacts"
    for folder in (scratch, out):
        private_folder(folder)
    asking = asking_of(plan.source, plan.measured_as, plan.system)
    shipment = Shipment(session, plan, base, out, scratch, asking)
    steps = len(plan.formats) + 3
    merge = merge_once(shipment)
    session.progress(1, steps)
    session.phase("reading held-out text with the merged model")
    proof = proof_of(shipment)
    samples: dict[str, list[str]] = {}
    speed: float | None = None
    if shipment.can_run:
        answers, speed = fill(shipment, proof)
        samples[MERGED] = proof.shown(answers)
        proof.tuned = proof.scores(answers)
    session.progress(2, steps)
    task, results = task_metric.means(proof.tuned), []
    for i, planned in enumerate(plan.formats):
        shipment.stop_if_asked()
        result, said = shipped_formats.ship_format(shipment, formats.find(planned.format), proof)
        if result.format == "safetensors" and speed is not None:
            own = {"task": task, "tokens_per_second": round(speed, 1)}
            result = result.model_copy(update=own)
        results.append(result)
        if said:
            samples[result.format] = said
        session.progress(3 + i, steps)
    require_something(results)
    report = concluded(
        shipment,
        results,
        proof,
        merge_route=merge.route,
        merge_check=merge.check,
        weight_check=merge.weight_check,
        tokens_per_second=speed and round(speed, 1),
        reasons=[gate.reason() for gate in gates_of(merge.check)] if merge.check else [],
    )
    page = report_page(report, proof.shown(proof.prompts), samples)
    write_file(session.run_dir / "report.html", page)
    shutil.rmtree(scratch)
    session.progress(steps, steps)
    return report


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
    rows = [formats.find(planned.format) for planned in plan.formats]
    path = plan.adapter.path if plan.adapter else None
    found, size, planned = inspected(base, path, rows, plan.device)
    if found and plan.adapter and found.sha256 != plan.adapter.sha256:
        raise BadData(found.path, "the adapter changed since the plan", "plan again")
    num_params = size.num_params if size else plan.num_params
    update = {"adapter": found, "base_config_sha256": config_hash, "formats": planned}
    return plan.model_copy(update=update | {"num_params": num_params})


def proof_of(shipment: Shipment) -> Proof:
    """Return what formats are measured with; how the model is asked is now known, too."""
    plan, held_out = shipment.plan, shipment.held_out
    tokenizer, vocabulary = (of(shipment.merged) for of in (merging.tokenizer_of, vocabulary_of))
    is_given = bool(json.loads(shipment.session.request_json()).get("held_out"))
    origin = "given" if is_given else "validation"
    text = proving.held_out_text(tokenizer, held_out, origin, vocabulary)

    def tokens(whole: Any) -> list[int]:
        return proving.tokens(tokenizer, proving.render(tokenizer, whole, generation=True))

    task = task_metric.task_of(tokens, held_out, plan.max_examples, shipment.asking.spec)
    parts = prompts.prompt_parts(tokenizer)
    reference = Reference(shipment.scratch / "reference.f32", text, vocabulary)
    proof = Proof(tokenizer, reference, parts, task)
    longest = max(map(len, proof.prompts)) + proof.max_new_tokens
    shipment.asking = replace(
        shipment.asking,
        stops=prompts.stop_texts(tokenizer, shipment.merged),
        num_ctx=context_of(plan.source, longest, context_length(shipment.merged)),
        default_system=parts.default_system if parts else "",
    )
    return proof


def fill(shipment: Shipment, proof: Proof) -> tuple[list[list[int]], float]:
    """Run the merged model over the held-out text; returns its greedy answers, and tokens/s."""
    place = shipment.require_place("running the merged model")
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


def concluded(
    shipment: Shipment, results: list[FormatResult], proof: Proof, **known: Any
) -> ShipReport:
    """Write HANDOFF.md, and return the report."""
    plan, how, text = shipment.plan, shipment.asking, proof.reference.text
    measured = plan.measured_as
    task = task_metric.means(proof.tuned)
    found = recommend(results, task)
    proofs = prompt_proof(shipment, results, proof)
    guide = shipment.out / "HANDOFF.md"
    said = (found.said, found.format)
    write_file(guide, handoff.handoff(plan, results, how, said, proofs, MERGED))
    write_files(how, shipment.out)
    known["reasons"] = [*known["reasons"], *found.reasons]
    return ShipReport(
        answers_as_measured=found.said,
        recommended_format=found.format,
        system_text=how.sentence(),
        measured=measured.sentence() if measured else "",
        name=plan.name,
        base_model=plan.base_model,
        output_dir=str(shipment.out),
        merged_path=str(shipment.merged),
        held_out=text.origin,
        num_held_out_tokens=text.num_tokens,
        formats=results,
        task=task,
        num_task_examples=len(proof.task.prompts) if proof.task else 0,
        prompt_proof=proofs,
        handoff=str(guide),
        next_steps=next_steps(results, found.format, measured.dataset() if measured else None),
        **known,
    )


def prompt_proof(shipment: Shipment, results: list[FormatResult], proof: Proof) -> dict[str, str]:
    """Compare the prompts of each program with those of training."""
    adapter = shipment.adapter
    own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    trained = merging.tokenizer_of(adapter if own and adapter else shipment.base)
    made = [r.path for r in results if r.state == "made" and r.format.startswith("gguf:")]
    return prompts.proofs(trained, proof.tokenizer, proof.parts, Path(made[0]) if made else None)


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


if __name__ == "__main__":
    main(work)
