"""The merged model of a run: merged, proved against what was trained, and published once."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ft_tools import facts
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import free_machine, free_memory, load
from ft_tools.publish import new_folder, verify
from ft_tools.runs.state import directory
from ft_tools.shipping import handoff
from ft_tools.shipping.asking import context_of
from ft_tools.shipping.estimates import CHECK_BYTES, CHECK_TOKENS, place_of_merge
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.quality import gates_of
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker import merge_check, merging, prompts, proving, task_metric
from ft_tools.shipping.worker.merge_check import Outputs
from ft_tools.shipping.worker.proving import Proof, Reference
from ft_tools.shipping.worker.shipment import (
    DTYPES,
    Shipment,
    context_length,
    disk_full_of_libraries,
    outtype,
    vocabulary_of,
)


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
        own, machine = DTYPES[outtype(shipment.base)], free_machine(plan.device)
        found = place_of_merge(shipment.size, machine, plan.adapter, own)
        shipment.session.event(f"merged {found.describe()}: {plan.adapter.why_whole}")
        merging.merge_whole(shipment.base, adapter, staging, found)


def prove(shipment: Shipment, folder: Path) -> Proof:
    """Run the merged model over held-out text, and compare it with what was trained.

    How the model is asked is known then, too.

    Args:
        shipment: Takes the stops and the context of its prompts.
        folder: Of the merged model.

    Raises:
        Refused: It is not what was trained.
    """
    session, plan = shipment.session, shipment.plan
    tokenizer, vocabulary = merging.tokenizer_of(folder), vocabulary_of(folder)
    is_given = bool(json.loads(session.request_json()).get("held_out"))
    origin = "given" if is_given else "validation"
    text = proving.held_out_text(tokenizer, shipment.held_out, origin, vocabulary)

    def tokens(whole: Any) -> list[int]:
        return proving.tokens(tokenizer, proving.render(tokenizer, whole, generation=True))

    task = task_metric.task_of(tokens, shipment.held_out, plan.max_examples, shipment.asking.spec)
    reference = Reference(shipment.scratch / "reference.f32", text, vocabulary)
    proof = Proof(tokenizer, reference, prompts.prompt_parts(tokenizer), task)
    longest = max(map(len, proof.prompts)) + proof.max_new_tokens
    shipment.asking = replace(
        shipment.asking,
        stops=prompts.stop_texts(tokenizer, folder),
        num_ctx=context_of(plan.source, longest, context_length(folder)),
        default_system=proof.parts.default_system if proof.parts else "",
    )
    if not shipment.can_run:
        if shipment.adapter:
            session.phase("checking the merge weight by weight: memory is short")
            proof.weight_check = check_weights(shipment, shipment.adapter, folder)
        return proof
    session.phase("reading held-out text with the merged model")
    place = shipment.require_place("running the merged model")
    model, asked = load(folder, place), check_prompts(text.ids, vocabulary)
    rows, texts = reference.fill(model), merge_check.continued(model, asked)
    proof.answers, proof.tokens_per_second = proving.greedy(
        model, proof.prompts, proof.max_new_tokens
    )
    del model
    free_memory()
    if shipment.adapter:
        session.phase("checking the merge")
        first = slice(sum(map(len, asked)))
        found = Outputs(_in_memory(rows[first]), texts)

        def run_base(base: Any) -> torch.Tensor:
            return _in_memory(reference.fill_base(base)[first])

        proof.check = check_merge(shipment, asked, found, place, run_base)
    return proof


def _in_memory(rows: proving.Logits) -> torch.Tensor:
    return torch.from_numpy(np.array(rows))


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
    found = merge_check.compare_weights(shipment.base, adapter, folder)
    if not found.passed:
        raise refusal(
            "weights_differ",
            worst=found.max_relative_difference,
            most=facts.number("ship.weight_difference"),
            applied=found.applied_fraction or 0.0,
        )
    return found


def check_merge(
    shipment: Shipment,
    asked: list[list[int]],
    found: Outputs,
    place: Placement,
    run_base: Callable[[Any], torch.Tensor],
) -> MergeCheck:
    """Compare base plus adapter with the merged model.

    Args:
        shipment: Of an adapter.
        asked: Prompts.
        found: What the merged model answers to them.
        place: Where it was run.
        run_base: Returns the logits of the base alone.

    Raises:
        Refused: They differ.
    """
    base, adapter, quantized = shipment.base, shipment.adapter, shipment.plan.quantization
    assert adapter is not None
    expected = merge_check.adapted_outputs(base, adapter, asked, place, run_base=run_base)
    check = merge_check.compare(expected, found, place, "the base with its adapter")
    if quantized:
        trained = merge_check.adapted_outputs(base, adapter, asked, place, quantized)
        kl = merge_check.mean_kl(trained.logits, found.logits)
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


def check_prompts(ids: list[list[int]], vocabulary: int) -> list[list[int]]:
    """Return the first prompts that fit the budget for logits in memory."""
    left = max(64, min(CHECK_TOKENS, CHECK_BYTES // (4 * vocabulary)))
    kept = []
    for row in ids:
        if left > 1:
            kept.append(row[:left])
            left -= len(kept[-1])
    return kept


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
