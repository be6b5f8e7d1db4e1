"""The shape of a model that has no row among the families, read off its real class."""

import re
from collections.abc import Mapping
from typing import Any

from ft_tools.errors import BadInput, UnknownName, brief
from ft_tools.models import library_process, tower_packages
from ft_tools.models.config import SHAPE_FIELDS
from ft_tools.models.families import FAMILIES
from ft_tools.models.shape import Block, Linear, ModelShape, adapted_of, last_name

WORKER = "ft_tools.models.worker.describe"
SECONDS = 45.0


def described_shape(config: Mapping[str, Any], name: str) -> ModelShape:
    """Build a model's class in a process of its own, without memory or weights, and count it.

    Takes some seconds once; the answer is kept.

    Raises:
        UnknownName: The installed transformers does not know the model_type.
        BadInput: The config is not valid, or the model is no language model.
        MissingExtra: The libraries that build it are not installed.
    """
    model_type = str(config.get("model_type", ""))
    ignored = ("_name_or_path", "auto_map", "quantization_config", "transformers_version")
    question = {key: value for key, value in config.items() if key not in ignored}
    try:
        if library_process.is_installed() and not library_process.may_know(model_type):
            raise library_process.Unanswered("unknown_model_type")
        answer = library_process.ask(WORKER, question, SECONDS)
    except library_process.Unanswered as error:
        raise _refusal(model_type, name, error, "auto_map" in config) from error
    return _shape(answer, name, question)


def _refusal(
    model_type: str, name: str, error: library_process.Unanswered, has_code: bool
) -> BadInput:
    shapes = f"pass the shapes instead: {SHAPE_FIELDS}"
    if error.code == "unknown_model_type":
        code = "it needs code of its own, which is never run; " if has_code else ""
        cure = f"{code}upgrade transformers if a later version has it, or {shapes}"
        return UnknownName("model_type", model_type, FAMILIES, cure)
    if error.code == "timeout":
        return BadInput(
            f"{name} cannot be sized yet: this model is not built; ask again in a minute, or "
            f"{shapes}"
        )
    model_type = brief(model_type)
    problem = {
        "bad_config": f"its config.json is not valid for a {model_type} model ({error.detail})",
        "no_causal_class": f"{model_type} is no model that generates text",
        "missing_package": f"transformers needs a package to build a {model_type} model, and says: "
        f"{error.detail}",
    }.get(error.code, f"transformers could not build this {model_type} model ({error})")
    return BadInput(f"{name} cannot be sized: {problem}; check its config.json, or {shapes}")


def _shape(answer: Mapping[str, Any], name: str, config: dict[str, Any]) -> ModelShape:
    sizes = answer["sizes"]
    width, vocab = answer["embedding_width"], answer["vocab_size"]
    hidden = sizes.get("hidden_size", width)
    heads = sizes.get("num_heads", 1)
    blocks = tuple(_block(block, answer) for block in answer["blocks"])
    head = 0 if answer["tied"] else vocab * width
    inside = sum(block.count * block.params for block in blocks)
    experts = any(block.expert_params for block in blocks)
    notes = [f"shape read off transformers' {answer['class_name']}"]
    outside = _linears(answer["outside"].get("linears", ()))
    if answer["text_path"] not in {"", "model", "transformer", "backbone"}:
        notes.append("multimodal: the other towers are loaded, stay frozen and see no input")
    if not all(answer["hollow"]):
        packages = " and ".join(tower_packages.PACKAGES)
        notes.append(
            f"the parameters of a vision tower are not counted: install {packages} for that"
        )
    return ModelShape(
        name=name,
        model_type=answer["model_type"],
        num_layers=max(1, sum(block.count for block in blocks)),
        hidden_size=hidden,
        intermediate_size=sizes.get("intermediate_size", 4 * hidden),
        num_heads=heads,
        num_kv_heads=sizes.get("num_kv_heads", heads),
        head_dim=sizes.get("head_dim", max(1, hidden // heads)),
        vocab_size=vocab,
        tied=answer["tied"],
        gated=True,
        linears=_distinct(blocks),
        num_norms=2,
        normed_width=0,
        norm_params=2 * hidden,
        num_experts=sizes.get("num_experts", 0) if experts else 0,
        experts_per_token=sizes.get("experts_per_token", 1) if experts else 0,
        outer_params=answer["total"] - inside - head - vocab * hidden,
        max_positions=sizes.get("max_positions"),
        notes=tuple(notes),
        blocks=blocks,
        outer_linears=outside,
        outer_adapted=_linears(answer["outside"].get("adapted", ())),
        peft_agrees=_peft_agrees(blocks, answer),
        loader=answer["loader"],
        class_name=answer["class_name"],
        text_path=answer["text_path"],
        stack=answer["stack"],
        excluded=answer["excluded"],
        has_sdpa=answer["has_sdpa"],
        config=config,
    )


def _block(block: Mapping[str, Any], answer: Mapping[str, Any]) -> Block:
    excluded = re.compile(answer["excluded"]) if answer["excluded"] else None
    stack = answer["stack"]
    converted = [_linears(b.get("converted", ())) for b in answer["blocks"]]
    linears = _linears(block.get("linears", ()))
    return Block(
        kind=block["kind"],
        count=block["count"],
        params=block["params"],
        expert_params=block["expert_params"],
        linears=linears,
        adapted=adapted_of(
            linears,
            is_excluded=lambda name: bool(excluded and excluded.fullmatch(f"{stack}.0.{name}")),
            taken={last_name(m.name) for group in converted for m in group},
        ),
        experts=_linears(block.get("experts", ())),
        unadapted=tuple(block.get("unadapted", ())),
        converted=_linears(block.get("converted", ())),
    )


def _peft_agrees(blocks: tuple[Block, ...], answer: Mapping[str, Any]) -> bool:
    """Return whether PEFT's own "all-linear" adapts just what ours does."""
    alike = all(
        {m.name for m in block.adapted} == {row[0] for row in theirs.get("adapted", ())}
        and not block.converted
        for block, theirs in zip(blocks, answer["blocks"], strict=True)
    )
    return alike and not answer["outside"].get("adapted")


def _linears(rows: Any) -> tuple[Linear, ...]:
    return tuple(Linear(*row) for row in rows)


def _distinct(blocks: tuple[Block, ...]) -> tuple[Linear, ...]:
    """Return one linear layer of each name, the largest."""
    found: dict[str, Linear] = {}
    for block in blocks:
        for linear in block.linears:
            if linear.name not in found or found[linear.name].params < linear.params:
                found[linear.name] = linear
    return tuple(found.values())
