"""The merged model of a run: merged, checked against what was trained, and published once."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel
from transformers import AutoConfig

from ft_tools import anti_patterns, facts
from ft_tools.errors import DiskFull, Refused
from ft_tools.models import placement, safetensors_headers
from ft_tools.models.placement import Dtype, Placement, running_places, shortage
from ft_tools.models.quantized import NF4
from ft_tools.models.size import ModelSize, size_of_files
from ft_tools.models.worker.loading import free_machine, free_memory, load
from ft_tools.publish import new_folder, verify, write_file
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory
from ft_tools.shipping import model_card, quality
from ft_tools.shipping.adapter import AdapterFacts
from ft_tools.shipping.asking import Asking
from ft_tools.shipping.estimates import (
    CHECK_BYTES,
    CHECK_TOKENS,
    CURE_OF_FORMAT,
    CURE_OF_MERGE,
    working_bytes,
)
from ft_tools.shipping.formats import Format
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker import merge_check, merging, proving
from ft_tools.shipping.worker.expert_layout import publish_layout
from ft_tools.shipping.worker.shipped_end_tokens import stop_texts, write_greedy

MERGED = "merged"
DTYPES: dict[str, Dtype] = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
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
    asking: Asking = field(default_factory=Asking)

    @cached_property
    def size(self) -> ModelSize:
        """Return how large the base is, and so the merged model."""
        return size_of_files(self.base)

    @cached_property
    def can_run(self) -> bool:
        """Return whether the whole model fits, at least in bfloat16, on a card or in memory."""
        return bool(self.places())

    def places(self, *, four_bit: bool = False) -> list[Placement]:
        """Return where the whole model fits now, best first."""
        machine = free_machine(self.plan.device)
        working = working_bytes(self.size, self.plan.adapter)
        return running_places(
            self.size, machine, four_bit=four_bit, working_bytes=working, exact=True
        )

    @property
    def place(self) -> Placement:
        """Return the best place for the whole model now."""
        return self.require_places("running the merged model")[0]

    @property
    def merged(self) -> Path:
        """Return the folder of the merged model."""
        return self.out / MERGED

    @property
    def adapter(self) -> Path | None:
        """Return the adapter's folder."""
        return Path(self.plan.adapter.path) if self.plan.adapter else None

    @property
    def is_tuned(self) -> bool:
        """Return whether it answers greedily: what is shipped was trained or measured that way."""
        plan = self.plan
        known = plan.adapter is not None or plan.measured_as is not None
        return known or bool(directory.RUN_ID.fullmatch(plan.source))

    @property
    def held_out(self) -> Path | None:
        """Return the file that is measured on; None for the built-in text."""
        return Path(self.plan.held_out) if self.plan.held_out else None

    def require_places(self, what: str, *, four_bit: bool = False) -> list[Placement]:
        """Return where the whole model fits now, best first.

        Args:
            what: Needs it, in words.
            four_bit: Whether it is loaded in 4 bits.

        Raises:
            Refused: It fits nowhere.
        """
        found = self.places(four_bit=four_bit)
        if not found:
            needs = shortage(self.size, free_machine(self.plan.device), four_bit=four_bit)
            raise Refused(f"{what} loads the whole model: {needs} free; {CURE_OF_FORMAT}")
        return found

    def require_planned_size(self, row: Format, made_at: Path) -> int:
        """Return the bytes of a format's file or folder, which have to be about what was planned.

        Raises:
            Refused: It is far larger: something was left as it was.
        """
        files = [made_at] if made_at.is_file() else made_at.glob("*.safetensors")
        made = sum(file.stat().st_size for file in files)
        planned = next(p.estimated_bytes for p in self.plan.formats if p.format == row.name)
        quality.require_planned_size(row.name, made, planned)
        return made

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
        publish_layout(staging, shipment.stop_if_asked)
        if shipment.is_tuned:
            most = shipment.asking.max_new_tokens
            write_greedy(merging.tokenizer_of(staging), staging, most)
        check, weights = None, None
        if shipment.adapter and shipment.can_run:
            shipment.session.phase("checking the merge")
            check = check_merge(shipment, staging)
        elif shipment.adapter:
            shipment.session.phase("checking the merge weight by weight: memory is short")
            weights = check_weights(shipment, shipment.adapter, staging)
        stops = stop_texts(merging.tokenizer_of(staging), staging)
        card = model_card.model_card(
            shipment.plan,
            check,
            licence(shipment.base),
            lineage(shipment),
            shipment.asking,
            stops,
        )
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
        place = place_of_merge(shipment, plan.adapter)
        shipment.session.event(f"merged {place.describe()}: {plan.adapter.why_whole}")
        merging.merge_whole(shipment.base, shipment.adapter, staging, place)
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
        raise anti_patterns.refusal("unproven_merge", observed, cure)
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
    place = shipment.place
    found = run_folder(staging, prompts, place)
    trained = None
    if plan.quantization:
        trained = merge_check.adapted_outputs(
            shipment.base, adapter, prompts, place, plan.quantization
        )
    if trained and plan.merge_base == "dequantized":
        check = merge_check.compare(trained, found, place, "the 4-bit base with its adapter")
    else:
        expected = merge_check.adapted_outputs(shipment.base, adapter, prompts, place)
        check = merge_check.compare(expected, found, place, "the base with its adapter")
    if trained:
        width = min(trained.logits.shape[1], found.logits.shape[1])
        kl = merge_check.mean_kl(trained.logits[:, :width], found.logits[:, :width])
        check = check.model_copy(update={"mean_kl_as_trained": kl})
    if not check.passed:
        applied = 1.0 if check.applied_fraction is None else check.applied_fraction
        observed = (
            f"the merged model differs from {check.reference}: mean KL {check.mean_kl:.2e} nats "
            f"per token (at most {quality.most_merge_kl(check.adapter_kl):.2e}; the adapter "
            f"changes {check.adapter_kl:.2e}), same first choice for {check.top1_agreement:.1%} "
            f"(at least {facts.number('ship.merge_top1'):.0%}), {applied:.0%} of the adapter's "
            f"effect (100% up to {facts.number('ship.merge_lost'):.0%} more or less); "
            "nothing was shipped"
        )
        cure = (
            "Check that base_model is exactly the one it was trained on. An adapter that changes "
            "less than the base's precision holds needs more training, or a float32 base."
        )
        raise anti_patterns.refusal("unproven_merge", observed, cure)
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


def place_of_merge(shipment: Shipment, adapter: AdapterFacts) -> Placement:
    """Return where the model is merged in its own numbers, which are those that are shipped.

    Raises:
        Refused: It fits nowhere.
    """
    own = DTYPES[outtype(shipment.base)]
    machine = free_machine(shipment.plan.device)
    working = 2 * adapter.bytes
    found = placement.place(shipment.size, machine, [own], working_bytes=working)
    if found is None:
        needs = shortage(shipment.size, machine)
        raise Refused(
            f"this merge loads the whole model ({adapter.why_whole}): {needs} free; {CURE_OF_MERGE}"
        )
    return found


def run_folder(folder: Path, prompts: list[list[int]], place: Placement) -> merge_check.Outputs:
    """Run a model folder over prompts."""
    model = load(folder, place)
    found = merge_check.outputs(model, prompts)
    del model
    free_memory()
    return found


def outtype(merged: Path) -> str:
    """Return the GGUF type that holds the merged weights exactly: f32, f16 or bf16."""
    kinds = {
        tensor.dtype: tensor.num_bytes for tensor in safetensors_headers.survey(merged).values()
    }
    return {"BF16": "bf16", "F16": "f16"}.get(max(kinds, key=lambda k: kinds[k]), "f32")


def slug(row: Format) -> str:
    """Return the name of a format's folder."""
    return row.name.replace(":", "-")


def vocabulary_of(folder: Path) -> int:
    """Return the number of rows of a model's output."""
    return int(AutoConfig.from_pretrained(folder).get_text_config().vocab_size)


def context_length(folder: Path) -> int | None:
    """Return the longest context that a model was made for; None where its config has none."""
    config = AutoConfig.from_pretrained(folder).get_text_config()
    length = getattr(config, "max_position_embeddings", None)
    return int(length) if length else None


def licence(base: Path) -> str:
    """Return the licence that the base's card names."""
    card = base / "README.md"
    return model_card.licence_of(card.read_text(encoding="utf-8")) if card.is_file() else ""


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
