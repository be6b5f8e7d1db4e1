"""The merged model of a run: merged, checked against what was trained, and published once."""

import gc
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil
import torch
from pydantic import BaseModel
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from ft_tools import facts, rules
from ft_tools.errors import DiskFull, Refused
from ft_tools.models import tensors
from ft_tools.publish import new_folder, verify, write_file
from ft_tools.runs import directory
from ft_tools.runs.session import Session, Stopped
from ft_tools.shipping import handoff, quality
from ft_tools.shipping.formats import Format
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.planning import NF4
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker import merge_check, merging, proving

CHECK_TOKENS = 512
CHECK_BYTES = 2**28
MERGED = "merged"
# Less than a block is free after a library failed: the disk was full, whatever it said.
FULL_BYTES = 64 * 1024


class MergeRecord(BaseModel):
    """What is kept of a finished merge for a later attempt."""

    check: MergeCheck | None
    route: str
    weight_check: WeightCheck | None = None


@dataclass
class Shipment:
    """What every step needs."""

    session: Session
    plan: ShipPlan
    base: Path
    out: Path
    scratch: Path

    @cached_property
    def can_run(self) -> bool:
        """Tell whether memory suffices to run the whole model, at least in bfloat16."""
        return can_run(self.plan.num_params or 0)

    @property
    def merged(self) -> Path:
        """Return the folder of the merged model."""
        return self.out / MERGED

    @property
    def adapter(self) -> Path | None:
        """Return the adapter's folder."""
        return Path(self.plan.adapter.path) if self.plan.adapter else None

    @property
    def held_out(self) -> Path | None:
        """Return the file that is measured on; None for the built-in text."""
        return Path(self.plan.held_out) if self.plan.held_out else None

    def require_memory(self, what: str) -> None:
        """Refuse what has to load the whole model where it does not fit.

        Raises:
            Refused: Memory is too short.
        """
        if not self.can_run:
            needed = (self.plan.num_params or 0) * 2 * 1.2 / 2**30
            raise Refused(
                f"{what} loads the whole model, about {needed:.0f} GiB, and memory is too short; "
                "make it on a larger machine, or take safetensors and GGUF types here"
            )

    def stop_if_asked(self) -> None:
        """End early; what is published stays and is not made again.

        Raises:
            Stopped: A cancel was asked.
        """
        if self.session.should_stop:
            raise Stopped


def merge_once(shipment: Shipment) -> MergeRecord:
    """Merge, check and publish, unless an earlier attempt did.

    Raises:
        Refused: The merged model is not what was trained; nothing is published.
    """
    record = shipment.scratch / "merge.json"
    done = shipment.merged.is_dir() and record.is_file()
    if done and not verify(shipment.merged):
        shipment.session.event("merged by an earlier attempt")
        return MergeRecord.model_validate_json(record.read_bytes())
    with new_folder(shipment.merged) as staging, disk_full_of_libraries(staging):
        shipment.session.phase("merging")
        route = merge_into(shipment, staging)
        merging.copy_small_files(shipment.base, shipment.adapter, staging)
        check, weights = None, None
        if shipment.adapter and shipment.can_run:
            shipment.session.phase("checking the merge")
            check = check_merge(shipment, staging)
        elif shipment.adapter:
            shipment.session.phase("checking the merge weight by weight: memory is short")
            weights = check_weights(shipment, shipment.adapter, staging)
        card = handoff.model_card(shipment.plan, check, licence(shipment.base), lineage(shipment))
        (staging / "README.md").write_text(card, encoding="utf-8")
        made = MergeRecord(check=check, route=route, weight_check=weights)
        write_file(record, made.model_dump_json())
    shipment.session.artifact("model", shipment.merged)
    return made


@contextmanager
def disk_full_of_libraries(folder: Path) -> Iterator[None]:
    """Turn what safetensors and llama.cpp say of a full disk into an error that says what to do.

    Raises:
        DiskFull: A library wrote and there was no space.
    """
    try:
        yield
    except (DiskFull, Stopped):
        raise
    except Exception as error:
        full = "No space left" in str(error) or shutil.disk_usage(folder).free < FULL_BYTES
        if full:
            raise DiskFull(
                f"no space left while writing {folder.parent}; free some and run it again"
            ) from error
        raise


def merge_into(shipment: Shipment, staging: Path) -> str:
    """Write the merged weights; returns the way that was taken."""
    plan = shipment.plan
    if plan.adapter is None or shipment.adapter is None:
        merging.copy_whole(shipment.base, staging)
        return "copy"
    change = change_of(shipment)
    if plan.adapter.route == "shards":
        merging.merge_by_shards(
            shipment.base, shipment.adapter, staging, change, shipment.stop_if_asked
        )
    elif plan.merge_base == "dequantized":
        raise Refused(
            f"merge_base='dequantized' works file by file only, and {plan.adapter.why_whole}; "
            "take merge_base='original'"
        )
    else:
        shipment.require_memory(f"this merge ({plan.adapter.why_whole})")
        shipment.session.event(f"merged in memory: {plan.adapter.why_whole}")
        merging.merge_whole(shipment.base, shipment.adapter, staging)
    return plan.adapter.route


def change_of(shipment: Shipment) -> merging.Change | None:
    """Return what is done to each base weight before the delta is added."""
    plan = shipment.plan
    if plan.merge_base == "original":
        return None
    return merging.as_nf4_training_saw_it(shipment.base, plan.quantization or dict(NF4))


def check_weights(shipment: Shipment, adapter: Path, staging: Path) -> WeightCheck:
    """Compare the merged weights with base and adapter, one by one.

    Raises:
        Refused: They differ.
    """
    found = merge_check.compare_weights(shipment.base, adapter, staging, change_of(shipment))
    if not found.passed:
        observed = (
            "the merged weights differ from base and adapter: by "
            f"{found.max_relative_difference:.2g} of their outputs (at most "
            f"{facts.number('ship.weight_difference')}), with {found.applied_fraction or 0:.0%} of "
            "the adapter's effect; nothing was shipped"
        )
        cure = "Check that base_model is exactly the one it was trained on."
        raise rules.refusal("unproven_merge", observed, cure)
    return found


def check_merge(shipment: Shipment, staging: Path) -> MergeCheck:
    """Compare base plus adapter with the merged model.

    Raises:
        Refused: They differ.
    """
    plan, adapter = shipment.plan, shipment.adapter
    assert adapter is not None
    tokenizer = merging.tokenizer_of(staging)
    vocabulary = vocabulary_of(staging)
    text = proving.held_out_text(tokenizer, shipment.held_out, "", vocabulary)
    prompts = check_prompts(text.ids, vocabulary)
    dtype = compute_dtype(plan.num_params or 0)
    quantized = plan.quantization and BitsAndBytesConfig(
        **plan.quantization | {"bnb_4bit_compute_dtype": "float32"}
    )
    found = run_folder(staging, prompts, dtype)
    trained = None
    if quantized:
        trained = merge_check.adapted_outputs(
            shipment.base, adapter, prompts, dtype, quantization_config=quantized
        )
    if trained and plan.merge_base == "dequantized":
        check = merge_check.compare(trained, found, dtype, "the 4-bit base with its adapter")
    else:
        expected = merge_check.adapted_outputs(shipment.base, adapter, prompts, dtype)
        check = merge_check.compare(expected, found, dtype, "the base with its adapter")
    if trained:
        width = min(trained.logits.shape[1], found.logits.shape[1])
        kl = merge_check.mean_kl(trained.logits[:, :width], found.logits[:, :width])
        check = check.model_copy(update={"mean_kl_as_trained": kl})
    if not check.passed:
        applied = 1.0 if check.applied_fraction is None else check.applied_fraction
        observed = (
            f"the merged model differs from {check.reference}: mean KL {check.mean_kl:.2e} nats a "
            f"token (at most {quality.most_merge_kl(check.adapter_kl):.2e}; the adapter changes "
            f"{check.adapter_kl:.2e}), same first choice for {check.top1_agreement:.1%} (at least "
            f"{facts.number('ship.merge_top1'):.0%}), {applied:.0%} of the adapter's effect (100% "
            f"up to {facts.number('ship.merge_lost'):.0%} more or less); nothing was shipped"
        )
        cure = (
            "Check that base_model is exactly the one it was trained on. An adapter that changes "
            "less than the base's precision holds needs more training, or a float32 base."
        )
        raise rules.refusal("unproven_merge", observed, cure)
    return check


def check_prompts(ids: list[list[int]], vocabulary: int) -> list[list[int]]:
    """Return the first prompts that fit the budget for logits in memory."""
    left = max(64, min(CHECK_TOKENS, CHECK_BYTES // (4 * vocabulary)))
    prompts = []
    for row in ids:
        if left > 1:
            prompts.append(row[:left])
            left -= len(prompts[-1])
    return prompts


def can_run(num_params: int) -> bool:
    """Tell whether a model of so many parameters fits into free memory in bfloat16."""
    return num_params * 2 * 1.2 < psutil.virtual_memory().available


def compute_dtype(num_params: int) -> torch.dtype:
    """Return float32, whose own rounding does not show, or bfloat16 where memory is short."""
    fits = num_params * 4 * 1.2 < psutil.virtual_memory().available
    return torch.float32 if fits else torch.bfloat16


def run_folder(folder: Path, prompts: list[list[int]], dtype: torch.dtype) -> merge_check.Outputs:
    """Run a model folder over prompts."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    found = merge_check.outputs(model, prompts)
    del model
    gc.collect()
    return found


def outtype(merged: Path) -> str:
    """Return the GGUF type that holds the merged weights exactly: f32, f16 or bf16."""
    kinds = {tensor.dtype: tensor.num_bytes for tensor in tensors.survey(merged).values()}
    return {"BF16": "bf16", "F16": "f16"}.get(max(kinds, key=lambda k: kinds[k]), "f32")


def slug(row: Format) -> str:
    """Return the name of a format's folder."""
    return row.name.replace(":", "-")


def vocabulary_of(folder: Path) -> int:
    """Return the number of rows of a model's output."""
    return int(AutoConfig.from_pretrained(folder).get_text_config().vocab_size)


def licence(base: Path) -> str:
    """Return the licence that the base's card names."""
    card = base / "README.md"
    return handoff.licence_of(card.read_text(encoding="utf-8")) if card.is_file() else ""


def lineage(shipment: Shipment) -> dict[str, str]:
    """Return where the source run came from: its id and its data's hash; no paths."""
    parent = shipment.session.info.lineage.get("parent_run")
    if parent is None:
        return {}
    plan = directory.read_json(directory.find(parent) / "plan.json") or {}
    data = plan.get("dataset")
    found = {"training run": parent}
    if isinstance(data, dict) and "sha256" in data:
        found |= {"sha256 of the training data": str(data["sha256"])}
        found |= {"training examples": str(data.get("num_examples", ""))}
    return found
