"""The merged model of a run: merged, checked against what was trained, and published once."""

from dataclasses import replace
from pathlib import Path

from pydantic import BaseModel

from ft_tools import facts
from ft_tools.models.worker.loading import free_machine, free_memory, load
from ft_tools.publish import new_folder, verify, write_file
from ft_tools.runs.state import directory
from ft_tools.shipping import handoff
from ft_tools.shipping.estimates import CHECK_BYTES, CHECK_TOKENS, place_of_merge
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.quality import gates_of
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker import merge_check, merging, prompts, proving
from ft_tools.shipping.worker.shipment import (
    DTYPES,
    Shipment,
    disk_full_of_libraries,
    outtype,
    vocabulary_of,
)


class MergeRecord(BaseModel):
    """What is kept of a finished merge for a later attempt."""

    check: MergeCheck | None
    route: str
    weight_check: WeightCheck | None = None


def merge_once(shipment: Shipment) -> MergeRecord:
    """Merge, check and publish, unless an earlier attempt did.

    Raises:
        Refused: The merged model is not what was trained; nothing is published.
    """
    record = shipment.scratch / "merge.json"
    if shipment.merged.is_dir() and record.is_file() and not verify(shipment.merged):
        shipment.session.event("merged by an earlier attempt")
        return MergeRecord.model_validate_json(record.read_bytes())
    with new_folder(shipment.merged) as staging, disk_full_of_libraries(staging):
        shipment.session.phase("merging")
        route = merge_into(shipment, staging)
        merging.copy_small_files(shipment.base, shipment.adapter, staging)
        tokenizer, asking = merging.tokenizer_of(staging), shipment.asking
        if shipment.is_tuned:
            prompts.write_greedy(tokenizer, staging, asking.max_new_tokens)
        check, weights = None, None
        if shipment.adapter and shipment.can_run:
            shipment.session.phase("checking the merge")
            check = check_merge(shipment, staging)
        elif shipment.adapter:
            shipment.session.phase("checking the merge weight by weight: memory is short")
            weights = check_weights(shipment, shipment.adapter, staging)
        asking = replace(asking, stops=prompts.stop_texts(tokenizer, staging))
        licence = handoff.licence_of(shipment.base / "README.md")
        card = handoff.model_card(shipment.plan, check, licence, lineage(shipment), asking)
        (staging / "README.md").write_text(card, encoding="utf-8")
        made = MergeRecord(check=check, route=route, weight_check=weights)
        write_file(record, made.model_dump_json())
    shipment.session.artifact("model", shipment.merged)
    return made


def merge_into(shipment: Shipment, staging: Path) -> str:
    """Write the merged weights; returns the way that was taken.

    Raises:
        Refused: The model has to be in memory for this merge, and that cannot be.
    """
    plan, adapter = shipment.plan, shipment.adapter
    if plan.adapter is None or adapter is None:
        merging.copy_whole(shipment.base, staging)
        return "copy"
    if plan.adapter.route == "shards":
        merging.merge_by_shards(shipment.base, adapter, staging, shipment.stop_if_asked)
        return plan.adapter.route
    own, machine = DTYPES[outtype(shipment.base)], free_machine(plan.device)
    found = place_of_merge(shipment.size, machine, plan.adapter, own)
    shipment.session.event(f"merged {found.describe()}: {plan.adapter.why_whole}")
    merging.merge_whole(shipment.base, adapter, staging, found)
    return plan.adapter.route


def check_weights(shipment: Shipment, adapter: Path, staging: Path) -> WeightCheck:
    """Compare the merged weights with base and adapter, one by one.

    Raises:
        Refused: They differ.
    """
    found = merge_check.compare_weights(shipment.base, adapter, staging)
    if not found.passed:
        raise refusal(
            "weights_differ",
            worst=found.max_relative_difference,
            most=facts.number("ship.weight_difference"),
            applied=found.applied_fraction or 0.0,
        )
    return found


def check_merge(shipment: Shipment, staging: Path) -> MergeCheck:
    """Compare base plus adapter with the merged model.

    Raises:
        Refused: They differ.
    """
    adapter = shipment.adapter
    assert adapter is not None
    vocabulary = vocabulary_of(staging)
    tokenizer = merging.tokenizer_of(staging)
    text = proving.held_out_text(tokenizer, shipment.held_out, "", vocabulary)
    asked = check_prompts(text.ids, vocabulary)
    where = shipment.require_place("checking the merge")
    model = load(staging, where)
    found = merge_check.outputs(model, asked)
    del model
    free_memory()
    expected = merge_check.adapted_outputs(shipment.base, adapter, asked, where)
    check = merge_check.compare(expected, found, where, "the base with its adapter")
    if quantized := shipment.plan.quantization:
        trained = merge_check.adapted_outputs(shipment.base, adapter, asked, where, quantized)
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
