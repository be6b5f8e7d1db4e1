"""Merge, convert, quantize and prove: the worker of merge_and_quantize."""

import shutil
from pathlib import Path

from pydantic import BaseModel
from transformers.utils import logging as transformers_logging

from ft_tools.errors import BadData, FineTuningError
from ft_tools.models.worker.loading import fetched
from ft_tools.publish import private_folder, sha256, write_file
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import formats, handoff
from ft_tools.shipping.asking import asking_of, write_files
from ft_tools.shipping.page import report_page
from ft_tools.shipping.plan import ShipPlan, inspected
from ft_tools.shipping.quality import gates_of, next_steps, recommend
from ft_tools.shipping.report import FormatResult, ShipReport
from ft_tools.shipping.worker import merging, prompts, shipped_formats, task_metric
from ft_tools.shipping.worker.merged_model import merge_once
from ft_tools.shipping.worker.proving import Proof
from ft_tools.shipping.worker.shipment import MERGED, Shipment


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
    steps = len(plan.formats) + 2
    proof = merge_once(shipment)
    session.progress(1, steps)
    speed = proof.tokens_per_second and round(proof.tokens_per_second, 1)
    samples = {MERGED: proof.shown(proof.answers)} if proof.answers else {}
    results = []
    for i, planned in enumerate(plan.formats):
        shipment.stop_if_asked()
        result, said = shipped_formats.ship_format(shipment, formats.find(planned.format), proof)
        if result.format == "safetensors" and speed is not None:
            own = {"task": task_metric.means(proof.tuned), "tokens_per_second": speed}
            result = result.model_copy(update=own)
        results.append(result)
        if said:
            samples[result.format] = said
        session.progress(2 + i, steps)
    require_something(results)
    report = concluded(shipment, results, proof)
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


def concluded(shipment: Shipment, results: list[FormatResult], proof: Proof) -> ShipReport:
    """Write HANDOFF.md, and return the report."""
    plan, how, text = shipment.plan, shipment.asking, proof.reference.text
    gates = gates_of(proof.check) if proof.check else []
    speed = proof.tokens_per_second
    measured = plan.measured_as
    task = task_metric.means(proof.tuned)
    found = recommend(results, task)
    proofs = prompt_proof(shipment, results, proof)
    guide = shipment.out / "HANDOFF.md"
    said = (found.said, found.format)
    write_file(guide, handoff.handoff(plan, results, how, said, proofs, MERGED))
    write_files(how, shipment.out)
    return ShipReport(
        answers_as_measured=found.said,
        recommended_format=found.format,
        system_text=how.sentence(),
        measured=measured.sentence() if measured else "",
        name=plan.name,
        base_model=plan.base_model,
        output_dir=str(shipment.out),
        merged_path=str(shipment.merged),
        merge_check=proof.check,
        weight_check=proof.weight_check,
        merge_route=plan.adapter.route if plan.adapter else "copy",
        held_out=text.origin,
        num_held_out_tokens=text.num_tokens,
        formats=results,
        task=task,
        num_task_examples=len(proof.task.prompts) if proof.task else 0,
        tokens_per_second=speed and round(speed, 1),
        prompt_proof=proofs,
        handoff=str(guide),
        reasons=[*(gate.reason() for gate in gates), *found.reasons],
        next_steps=next_steps(results, found.format, measured.dataset() if measured else None),
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
