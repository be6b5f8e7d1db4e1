"""README.md of the merged folder, a Hugging Face model card. No path of this machine is in it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ft_tools.shipping.asking import Asking
from ft_tools.shipping.handoff import settings_of
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import MergeCheck


def model_card(
    plan: ShipPlan,
    check: MergeCheck | None,
    licence: str,
    lineage: Mapping[str, str],
    how: Asking,
    stops: Sequence[str],
) -> str:
    """Return the card: where the model comes from, how to ask it, and what was proved.

    Args:
        plan: Of the run.
        check: Of the merge; None when there was nothing to merge.
        licence: Of the base, as its own card names it; "" when it names none.
        lineage: Ids and hashes that say where it comes from.
        how: How it has to be asked.
        stops: Texts that end an answer.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    base = public_name(plan.base_model)
    head = {"license": licence or "other", "base_model": base, "library_name": "transformers"}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items())]
    lines += ["pipeline_tag: text-generation", "---", "", f"# {plan.name}", ""]
    lines.append(f"{base}, fine-tuned and merged with fine-tuning-llm.")
    if not licence:
        lines.append("The base names no licence in its files: look it up before passing this on.")
    lines += ["", "## How to ask", "", f"System text: {how.sentence()}.", ""]
    if how.system:
        lines += [*(f"    {line}" for line in how.system.splitlines()), ""]
    lines += settings_of(how, stops)
    if how.measured is not None and how.measured.sentence():
        lines += ["", how.measured.sentence()]
    if how.schema is not None:
        lines += ["", "```json", json.dumps(how.schema, ensure_ascii=False), "```"]
    lines += ["", "## Where it comes from", "", f"- base: {base}"]
    if plan.base_config_sha256:
        lines.append(f"- sha256 of the base's config.json: {plan.base_config_sha256}")
    if plan.adapter:
        lines.append(f"- adapter: {plan.adapter.variant}, rank {plan.adapter.rank}")
        lines.append(f"- sha256 of the adapter: {plan.adapter.sha256}")
    lines += [f"- {key}: {value}" for key, value in sorted(lineage.items())]
    if check:
        lines += ["", "## Is it what was trained", ""]
        lines.append(
            f"Compared with {check.reference} on {check.num_tokens} tokens, in "
            f"{check.compute_dtype}: mean KL {check.mean_kl:.2e} nats per token, the same first "
            f"choice for {check.top1_agreement:.1%} of them, {check.same_greedy_texts} of "
            f"{check.num_prompts} greedy continuations identical."
        )
    return "\n".join(lines) + "\n"


def public_name(base_model: str) -> str:
    """Return a model's name without a folder of this machine.

    >>> public_name("HuggingFaceTB/SmolLM2-135M-Instruct"), public_name("/home/me/models/mine")
    ('HuggingFaceTB/SmolLM2-135M-Instruct', 'mine')
    """
    parts = Path(base_model).parts
    return base_model if len(parts) <= 2 and not Path(base_model).is_absolute() else parts[-1]


def licence_of(readme: str) -> str:
    r"""Return the licence that a model card's front matter names; "" if none.

    >>> licence_of("---\nlicense: apache-2.0\n---\nhello")
    'apache-2.0'
    """
    head = readme.split("---")[1] if readme.startswith("---") else ""
    for line in head.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "license":
            return value.strip().strip("\"'")[:60]
    return ""
