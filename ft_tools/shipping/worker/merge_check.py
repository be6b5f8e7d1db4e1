"""Whether a merged model is what was trained: by its logits, or weight by weight.

Logits are compared on held-out prompts with those of the base with its adapter, and of the base
alone: a merge has to be close, and has to have the adapter's effect.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from ft_tools.models import safetensors_headers
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import free_memory
from ft_tools.shipping.adapter import LORA_A, LORA_B, MAGNITUDE, read_config
from ft_tools.shipping.quality import merge_gates, weight_gates
from ft_tools.shipping.report import MergeCheck, WeightCheck
from ft_tools.shipping.worker import merging, proving

GREEDY_TOKENS = 16
NUM_GREEDY = 3
NUM_INPUTS = 8


@dataclass(frozen=True)
class Outputs:
    """What a model answers to the prompts of a check."""

    logits: torch.Tensor
    """Of all positions, (tokens, vocabulary) in float32."""
    texts: list[list[int]]
    """How the first prompts go on from their middle, greedily."""
    without_adapter: torch.Tensor | None = None
    """Logits of the base alone, in the same order; None: there was no adapter."""


def outputs(model: Any, prompts: list[list[int]]) -> Outputs:
    """Run a model over prompts, and let it continue the first ones from their middle."""
    return Outputs(logits_of(model, prompts), continued(model, prompts))


def continued(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Return how the first prompts go on from their middle, greedily."""
    halves = [ids[: max(1, len(ids) // 2)] for ids in prompts[:NUM_GREEDY]]
    return proving.greedy(model, halves, GREEDY_TOKENS)[0]


def logits_of(model: Any, prompts: list[list[int]]) -> torch.Tensor:
    """Return the logits of all positions, (tokens, vocabulary) in float32."""
    return torch.cat([torch.from_numpy(rows) for rows in proving.logits_of(model, prompts)])


def adapted_outputs(
    base: Path,
    adapter: Path,
    prompts: list[list[int]],
    place: Placement,
    quantization: Mapping[str, Any] | None = None,
    run_base: Callable[[Any], torch.Tensor] | None = None,
) -> Outputs:
    """Run the base with its adapter on top, as it was trained, and without it.

    Args:
        base: Its folder.
        adapter: Its folder.
        prompts: Ids of texts.
        place: Where the base is loaded.
        quantization: Of a base that was trained in 4 bits.
        run_base: Returns the logits of the base alone; None: they are computed for the prompts.
    """
    model = merging.load_base(base, adapter, place, quantization)
    adapted = merging.with_adapter(model, adapter)
    found = outputs(adapted, prompts)
    with adapted.disable_adapter():
        alone = run_base(adapted) if run_base else logits_of(adapted, prompts)
        found = replace(found, without_adapter=alone)
    del model, adapted
    free_memory()
    return found


def compare(expected: Outputs, found: Outputs, place: Placement, reference: str) -> MergeCheck:
    """Compare the merged model with what it has to equal: the base with its adapter."""
    before = expected.without_adapter
    assert before is not None
    rows = proving.compared(expected.logits, found.logits, before)
    kl, changed = float(rows.kls.mean()), mean_kl(expected.logits, before)
    same, applied = float(rows.same_top1.double().mean()), rows.effect_fraction
    width = rows.found.shape[1]
    differences = expected.logits[:, :width] - found.logits[:, :width]
    return MergeCheck(
        mean_kl=kl,
        adapter_kl=changed,
        applied_fraction=applied,
        max_abs_logit_difference=differences.abs().max().item(),
        top1_agreement=same,
        same_greedy_texts=sum(a == b for a, b in zip(expected.texts, found.texts, strict=True)),
        num_prompts=len(found.texts),
        num_tokens=len(rows.kls),
        compute_dtype=place.dtype,
        reference=reference,
        passed=all(gate.is_passed for gate in merge_gates(kl, changed, same, applied)),
    )


def mean_kl(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Return the mean divergence of rows of logits, in nats."""
    return float(proving.compared(expected, found).kls.mean())


def compare_weights(base: Path, adapter: Path, merged: Path) -> WeightCheck:
    """Compare merged weights with base and adapter, one after the other, on random inputs.

    W' x against W x + s B A x (DoRA: scaled as it learned), where the adapter is applied as in
    training, never summed up to a weight. Needs memory for one weight. Shape: x (d_in, NUM_INPUTS).
    """
    config = read_config(adapter)
    files = {name: t.file.name for name, t in safetensors_headers.survey(merged).items()}
    groups = merging.group_by_target(load_file(adapter / safetensors_headers.ADAPTER))
    dice = torch.Generator().manual_seed(0)
    wanted_size = projected = worst = 0.0
    for name, change in groups.items():
        before = merging.weight_of(base / files[name], name).float()
        after = merging.weight_of(merged / files[name], name).float()
        if "whole" in change:
            expected, found, start = change["whole"].float(), after, before
        else:
            if config.get("fan_in_fan_out"):
                before, after = before.T, after.T
            x = torch.randn(before.shape[1], NUM_INPUTS, generator=dice)
            start, found = before @ x, after @ x
            expected = adapted(start, x, before, change, merging.scaling_of(name, change, config))
        effect = (expected - start).double()
        wanted_size += float(effect.square().sum())
        projected += float((effect * (found - start)).sum())
        worst = max(worst, float((found - expected).norm() / expected.norm().clamp_min(1e-30)))
    applied = projected / wanted_size if wanted_size else None
    return WeightCheck(
        num_weights=len(groups),
        applied_fraction=applied,
        max_relative_difference=worst,
        passed=all(gate.is_passed for gate in weight_gates(worst, applied)),
    )


def adapted(
    start: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    change: dict[str, torch.Tensor],
    scale: float,
) -> torch.Tensor:
    """Return what a layer with its adapter answers to x, (d_out, inputs); `start` is W x."""
    a, b = change[LORA_A].float(), change[LORA_B].float()
    answer: torch.Tensor = start + scale * (b @ (a @ x))
    if MAGNITUDE in change:
        length = torch.linalg.norm(weight + scale * (b @ a), dim=1)
        answer = answer * (change[MAGNITUDE].float() / length).unsqueeze(1)
    return answer
