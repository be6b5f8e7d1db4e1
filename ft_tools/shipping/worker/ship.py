"""Merge, prove, make the formats and measure each: the worker of merge_and_quantize."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

from ft_tools import facts
from ft_tools.errors import BadData, FineTuningError
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import fetched, free_machine, free_memory, load
from ft_tools.publish import new_folder, private_folder, sha256, verify, write_file
from ft_tools.runs.processes.worker_session import Session, main
from ft_tools.runs.state import directory
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import formats, handoff
from ft_tools.shipping.asking import asking_of, context_of, write_files
from ft_tools.shipping.estimates import place_of_merge
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.page import report_page
from ft_tools.shipping.plan import ShipPlan, inspected
from ft_tools.shipping.quality import gates_of, judged, next_steps, recommend
from ft_tools.shipping.report import FormatResult, MergeCheck, ShipReport, WeightCheck
from ft_tools.shipping.worker import merging, prompts, shipped_formats
from ft_tools.shipping.worker.proof import Proof, compare_weights, greedy, held_out, means
from ft_tools.shipping.worker.shipment import (
    MERGED,
    Shipment,
    disk_full_of_libraries,
    own_types,
)


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
    samples = {MERGED: proof.shown(proof.answers)} if proof.answers else {}
    results = []
    for i, planned in enumerate(plan.formats):
        shipment.stop_if_asked()
        result, said = shipped_formats.ship_format(shipment, formats.find(planned.format), proof)
        results.append(result)
        if said:
            samples[result.format] = said
        session.progress(2 + i, steps)
    if all(result.state == "failed" for result in results):
        first = f"{results[0].format}: {results[0].error}"
        raise FineTuningError(f"no format could be made; the merged model is there. {first}")
    report = concluded(shipment, results, proof)
    page = report_page(report, proof.shown(proof.held_out.prompts), samples)
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


# --- the merged model -----------------------------------------------------------------------------


def merge_once(shipment: Shipment) -> Proof:
    """Merge, prove and publish; what an earlier attempt published is proved again.

    Raises:
        Refused: The merged model is not what was trained; nothing is published.
    """
    if shipment.merged.is_dir() and not verify(shipment.merged):
        shipment.session.event("merged by an earlier attempt")
        return prove(shipment, shipment.merged)
    with new_folder(shipment.merged) as staging, disk_full_of_libraries(staging):
        shipment.session.phase("merging")
        merge_into(shipment, staging)
        merging.copy_small_files(shipment.base, shipment.adapter, staging)
        if shipment.is_tuned:
            tokenizer, longest = merging.tokenizer_of(staging), shipment.asking.max_new_tokens
            prompts.write_greedy(tokenizer, staging, longest)
        proof = prove(shipment, staging)
        licence = handoff.licence_of(shipment.base / "README.md")
        known = lineage(shipment)
        card = handoff.model_card(shipment.plan, proof.check, licence, known, shipment.asking)
        (staging / "README.md").write_text(card, encoding="utf-8")
    shipment.session.artifact("model", shipment.merged)
    return proof


def merge_into(shipment: Shipment, staging: Path) -> None:
    """Write the merged weights.

    Raises:
        Refused: The model has to be in memory for this merge, and that cannot be.
    """
    plan, adapter = shipment.plan, shipment.adapter
    if plan.adapter is None or adapter is None:
        merging.copy_whole(shipment.base, staging)
    elif plan.adapter.route == "shards":
        merging.merge_by_shards(shipment.base, adapter, staging, shipment.stop_if_asked)
    else:
        _, own = own_types(shipment.base)
        found = place_of_merge(shipment.size, free_machine(plan.device), plan.adapter, own)
        shipment.session.event(f"merged {found.describe()}: {plan.adapter.why_whole}")
        merging.merge_whole(shipment.base, adapter, staging, found)


def prove(shipment: Shipment, folder: Path) -> Proof:
    """Run the merged model over held-out text, and compare it with what was trained.

    The stops and the context of its prompts are known then, too: the shipment takes them.

    Raises:
        Refused: It is not what was trained.
    """
    session, plan, asking = shipment.session, shipment.plan, shipment.asking
    tokenizer = merging.tokenizer_of(folder)
    config = AutoConfig.from_pretrained(folder).get_text_config()
    vocabulary = int(config.vocab_size)
    is_given = bool(json.loads(session.request_json()).get("held_out"))
    origin = "given" if is_given else "validation"
    text = held_out(
        tokenizer, shipment.held_out, origin, vocabulary, plan.max_examples, asking.spec
    )
    rows, parts = shipment.scratch / "reference.f32", prompts.prompt_parts(tokenizer)
    proof = Proof(tokenizer, text, rows, vocabulary, parts)
    longest = max(map(len, text.prompts)) + text.max_new_tokens
    model_context = getattr(config, "max_position_embeddings", None)
    shipment.asking = replace(
        asking,
        stops=prompts.stop_texts(tokenizer, folder),
        num_ctx=context_of(plan.source, longest, model_context),
        default_system=parts.default_system if parts else "",
    )
    if not shipment.can_run:
        if shipment.adapter:
            session.phase("checking the merge weight by weight: memory is short")
            proof.weight_check = check_weights(shipment, shipment.adapter, folder)
        return proof
    session.phase("reading held-out text with the merged model")
    place = shipment.require_place("running the merged model")
    model = load(folder, place)
    proof.fill(model)
    proof.answers, speed = greedy(model, text.prompts, text.max_new_tokens)
    proof.tokens_per_second = round(speed, 1)
    del model
    free_memory()
    if shipment.adapter:
        session.phase("checking the merge")
        proof.check = check_merge(shipment, shipment.adapter, proof, place, folder)
    return proof


def check_weights(shipment: Shipment, adapter: Path, folder: Path) -> WeightCheck | None:
    """Compare the merged weights with base and adapter, one by one.

    Returns:
        None where the files name weights otherwise than the adapter does: PEFT merged them.

    Raises:
        Refused: They differ.
    """
    about = shipment.plan.adapter
    if about is not None and about.route != "shards":
        shipment.session.event(
            f"the merge is not checked: memory is too short to run the model, and {about.why_whole}"
            "; evaluate the merged folder on a larger machine",
            "warning",
        )
        return None
    found = compare_weights(shipment.base, adapter, folder)
    if not found.passed:
        raise refusal(
            "weights_differ",
            worst=found.max_relative_difference,
            most=facts.number("ship.weight_difference"),
            applied=found.applied_fraction or 0.0,
        )
    return found


def check_merge(
    shipment: Shipment, adapter: Path, proof: Proof, place: Placement, folder: Path
) -> MergeCheck:
    """Compare base plus adapter with the merged model, where that was run.

    Raises:
        Refused: They differ.
    """
    expected = merging.adapted(shipment.base, adapter, place)
    check = proof.check_merge(expected, place.dtype, "the base with its adapter")
    del expected
    free_memory()
    if place.dtype != "float32":
        check = judged(check.model_copy(update=applied_in_16_bits(shipment, adapter, folder)))
    if quantized := shipment.plan.quantization:
        kl = proof.mean_kl_from(merging.adapted(shipment.base, adapter, place, quantized))
        free_memory()
        check = check.model_copy(update={"mean_kl_as_trained": kl})
    if not check.passed:
        most, least_top1, lost = (gate.limit for gate in gates_of(check))
        raise refusal(
            "merge_differs",
            reference=check.reference,
            kl=check.mean_kl,
            most=most,
            adapter_kl=check.adapter_kl,
            top1=check.top1_agreement,
            least_top1=least_top1,
            applied=1.0 if check.applied_fraction is None else check.applied_fraction,
            lost=lost,
        )
    return check


def applied_in_16_bits(shipment: Shipment, adapter: Path, folder: Path) -> dict[str, float | None]:
    """Return the applied fraction of a model that was run in 16 bits, as a field of its check.

    The base's rounding is in both differences of logits: of a small change they show about half,
    whether it was merged or forgotten. The weights are compared in float32 instead, where the files
    have the names of the adapter.
    """
    about = shipment.plan.adapter
    if about is None or about.route != "shards":
        return {"applied_fraction": None}
    found = compare_weights(shipment.base, adapter, folder)
    return {"applied_fraction": found.applied_fraction}


def lineage(shipment: Shipment) -> dict[str, str]:
    """Return where the source run came from: its id and its data's hash; no paths."""
    parent = shipment.session.info.lineage.get("parent_run")
    if parent is None:
        return {}
    data = directory.plan_of(parent).get("dataset")
    found = {"training run": parent}
    if isinstance(data, dict) and "sha256" in data:
        found |= {"sha256 of the training data": str(data["sha256"])}
        found |= {"training examples": str(data.get("num_examples", ""))}
    if made := directory.read_info(directory.find(parent)).lineage.get("made_rows"):
        found |= {"of these, made": made}
    return found


# --- the end --------------------------------------------------------------------------------------


def concluded(shipment: Shipment, results: list[FormatResult], proof: Proof) -> ShipReport:
    """Write HANDOFF.md, and return the report."""
    plan, how, text = shipment.plan, shipment.asking, proof.held_out
    measured = plan.measured_as
    gates = gates_of(proof.check) if proof.check else []
    task = means(proof.tuned)
    found = recommend(results, task)
    trained = merging.tokenizer_of(merging.tokenizer_folder(shipment.base, shipment.adapter))
    made = [r.path for r in results if r.state == "made" and r.format.startswith("gguf:")]
    file = Path(made[0]) if made else None
    guide = shipment.out / "HANDOFF.md"
    report = ShipReport(
        answers_as_measured=found.said,
        recommended_format=found.format,
        system_text=how.system_text,
        measured=measured.score if measured else "",
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
        num_task_examples=len(text.references),
        tokens_per_second=proof.tokens_per_second,
        prompt_proof=prompts.proofs(trained, proof.tokenizer, proof.parts, file),
        handoff=str(guide),
        reasons=[*(gate.reason() for gate in gates), *found.reasons],
        next_steps=next_steps(results, found.format, measured.dataset() if measured else None),
    )
    write_file(guide, handoff.handoff(report, how))
    write_files(how, shipment.out)
    return report


if __name__ == "__main__":
    main(work)
