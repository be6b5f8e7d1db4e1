"""HANDOFF.md, for whoever runs a shipped model, and README.md of the merged folder, its card.

The texts are templates.toml; Python fills them in. No path of this machine is in them: everything
is relative to the files.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load
from yaml import YAMLError

from ft_tools import facts
from ft_tools.shipping.asking import FORMAT_INPUT, MAPPING, SCHEMA, PromptSpec
from ft_tools.shipping.modelfile import can_be_shipped
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import FormatResult, MergeCheck

# What transformers needs to load a format, beside itself and what device_map="auto" needs.
NEEDS = dict.fromkeys(("gptq", "awq", "fp8"), "compressed-tensors") | {"bnb": "bitsandbytes"}
MAX_NEW_TOKENS = 100
QUESTION = "Hello"
COLUMNS = ("format", "MB", "mean KL", "top-1", "perplexity", "tokens/s", "verdict")


def handoff(
    plan: ShipPlan,
    results: Sequence[FormatResult],
    how: PromptSpec,
    said: tuple[str, str],
    proofs: Mapping[str, str],
    merged: str,
) -> str:
    """Return HANDOFF.md: the commands that run each file, and what was proved about it.

    Args:
        plan: Of the run.
        results: Formats, made or not.
        how: How the model has to be asked.
        said: Whether the shipped defaults answer as measured, and the recommended format.
        proofs: For each program, whether the prompts it builds are those of training.
        merged: Folder of the merged model, beside HANDOFF.md.
    """
    answers, recommended = said
    made = [r for r in results if r.state == "made"]
    failed = [f"- {r.format}: {r.error}" for r in results if r.state == "failed"]
    measured = how.measured.sentence() if how.measured else ""
    return filled(
        "handoff",
        name=plan.name,
        best=filled("best", recommended=recommended) if recommended else "",
        table=_table(results),
        copy=_copy(made, how, recommended),
        answers=answers,
        measured=filled("measured", measured=measured) if measured else "",
        system=how.sentence(),
        system_text=_system_text(how),
        settings=settings_of(how),
        num_ctx=how.num_ctx,
        brings=filled("brings") if how.system else "",
        request=_shell(_openai_request(how)),
        proofs="\n".join(f"- {who}: {proof}" for who, proof in proofs.items()),
        formats="\n".join([*(_format(plan, r, how) for r in made), _whole(merged, how)]),
        failed=filled("failed", failed="\n".join(failed)) if failed else "",
    )


def model_card(
    plan: ShipPlan,
    check: MergeCheck | None,
    licence: str,
    lineage: Mapping[str, str],
    how: PromptSpec,
) -> str:
    """Return the card: where the model comes from, how to ask it, and what was proved.

    Args:
        plan: Of the run.
        check: Of the merge; None when there was nothing to merge.
        licence: Of the base, as its own card names it; "" when it names none.
        lineage: Ids and hashes that say where it comes from.
        how: How it has to be asked.
    """
    base, measured = public_name(plan.base_model), how.measured.sentence() if how.measured else ""
    fields: dict[str, Any] = {"base": base, "base_sha256": plan.base_config_sha256}
    if plan.adapter:
        fields["adapter"] = f"{plan.adapter.variant}, rank {plan.adapter.rank}"
        fields["adapter_sha256"] = plan.adapter.sha256
    origin = [_known("origin", fields), *(f"- {k}: {v}" for k, v in sorted(lineage.items()))]
    schema = json.dumps(how.schema, ensure_ascii=False)
    return filled(
        "card",
        licence=json.dumps(licence or "other"),
        base_model=json.dumps(base),
        name=plan.name,
        base=base,
        no_licence="" if licence else filled("no_licence"),
        system=how.sentence(),
        system_text=_indented(how.system) if how.system else "",
        settings=settings_of(how),
        measured=filled("card_measured", measured=measured) if measured else "",
        schema=filled("card_schema", schema=schema) if how.schema is not None else "",
        origin="\n".join(origin),
        check=filled("card_check", **check.model_dump()) if check else "",
    )


def settings_of(how: PromptSpec) -> str:
    """Return the settings that answers depend on, one per line; no system text is in them."""
    measured = how.measured
    fields: dict[str, Any] = {
        "greedy": True,
        "longest": how.max_new_tokens,
        "stops": ", ".join(f"`{stop}`" for stop in how.stops),
        "schema": SCHEMA if how.schema is not None else "",
        "template": json.dumps(how.template, ensure_ascii=False) if how.template else "",
        "columns": ", ".join(how.columns),
        "format_input": FORMAT_INPUT,
    }
    if measured is not None:
        fields |= {"measured_by": measured.evaluation, "measured_system": measured.system}
        fields["num_shots"] = measured.num_shots
    return _known("settings", fields)


def public_name(base_model: str) -> str:
    """Return a model's name without a folder of this machine.

    >>> public_name("HuggingFaceTB/SmolLM2-135M-Instruct"), public_name("/home/me/models/mine")
    ('HuggingFaceTB/SmolLM2-135M-Instruct', 'mine')
    """
    parts = Path(base_model).parts
    return base_model if len(parts) <= 2 and not Path(base_model).is_absolute() else parts[-1]


def licence_of(card: Path) -> str:
    """Return the licence that a model card's front matter names; "" if none."""
    with contextlib.suppress(OSError, ValueError, YAMLError):
        return str((metadata_load(card) or {}).get("license") or "")[:60]
    return ""


def filled(name: str, /, **fields: Any) -> str:
    """Return a template with its fields filled in.

    Raises:
        KeyError: There is no such template, or a field of it is missing.
    """
    return str(facts.table_of("templates.toml", "shipping")[name]).format(**fields)


def _known(table: str, fields: Mapping[str, Any]) -> str:
    """Return the lines of a table whose field is known."""
    rows = facts.table_of("templates.toml", "shipping")[table].items()
    return "\n".join(row.format(**fields) for name, row in rows if fields.get(name))


def _table(results: Sequence[FormatResult]) -> str:
    rows = [COLUMNS, ("---",) * len(COLUMNS)]
    for r in results:
        size = f"{r.size_bytes / 1e6:.1f}" if r.size_bytes else "-"
        speed = f"{r.tokens_per_second:.1f}" if r.tokens_per_second else "-"
        cells: tuple[str, ...] = ("-", "-", "-", "-", r.state)
        if q := r.quality:
            ratio = f"x{q.perplexity_ratio:.4f}"
            cells = (f"{q.mean_kl:.5f}", f"{q.top1_agreement:.1%}", ratio, speed, q.verdict)
        rows.append((r.format, size, *cells))
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _copy(made: Sequence[FormatResult], how: PromptSpec, recommended: str) -> str:
    """Return which files another machine needs; empty where all of them are one folder anyway."""
    parts = [r for r in made if r.format.partition(":")[0] in ("gguf", "mlx")]
    if not parts:
        return ""
    chosen = next((r for r in parts if r.format == recommended), parts[0])
    is_file = chosen.format.startswith("gguf")
    folder = Path(chosen.path).parent.name if is_file else Path(chosen.path).name
    names = ["HANDOFF.md", *([SCHEMA] if how.schema is not None else [])]
    names += [FORMAT_INPUT, MAPPING] if how.columns else []
    programs = filled("copy_gguf" if is_file else "copy_mlx")
    listed = " ".join([*names, folder])
    return filled("copy", programs=programs, files=listed, format=chosen.format)


def _system_text(how: PromptSpec) -> str:
    if how.system:
        warned = "" if can_be_shipped(how.system) else filled("unshippable")
        return _indented(how.system) + warned
    if how.system is None and how.default_system:
        return filled("template_adds") + _indented(how.default_system)
    return ""


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines()) + "\n"


def _format(plan: ShipPlan, result: FormatResult, how: PromptSpec) -> str:
    method, path = result.format.partition(":")[0], Path(result.path)
    if method == "gguf":
        return _gguf(plan, result, how)
    if method == "mlx":
        system = _option("--system-prompt", how.system)
        question = shlex.quote(how.turn(QUESTION))
        fields = {"folder": path.name, "system": system, "question": question}
        names = ("mlx_install", "mlx_generate", "mlx_server")
        commands = _commands(*(filled(name, **fields) for name in names))
        model = shlex.quote(f"{plan.name}-{path.name}")
        return filled("mlx", format=result.format, folder=path.name, commands=commands, model=model)
    if method in NEEDS:
        option = " --quantization bitsandbytes" if method == "bnb" else ""
        return _transformers(result.format, path.name, how, option, NEEDS[method])
    return ""


def _whole(merged: str, how: PromptSpec) -> str:
    return _transformers("safetensors", merged, how)


def _gguf(plan: ShipPlan, result: FormatResult, how: PromptSpec) -> str:
    path = Path(result.path)
    file = f"{path.parent.name}/{path.name}"
    model = f"{plan.name}-{result.format.partition(':')[2]}".lower()
    chat = _option("-n", how.max_new_tokens) + _option("-sys", how.system)
    chat += f" --json-schema-file {SCHEMA}" if how.schema is not None else ""
    ollama: dict[str, Any] = {
        "model": model,
        # Without system text: the Modelfile adds it.
        "messages": [{"role": "user", "content": how.turn(QUESTION)}],
        "stream": False,
    }
    ollama |= {"format": how.schema} if how.schema is not None else {}
    programs = ("llama_server", "llama_cli")
    lines = [filled(name, file=file, num_ctx=how.num_ctx, chat=chat) for name in programs]
    return filled(
        "gguf",
        format=result.format,
        model=model,
        folder=path.parent.name,
        file=file,
        ollama=_shell(ollama),
        enforced=filled("enforced") if how.schema is not None else "",
        commands=_commands(*lines),
        sha256=result.sha256,
    )


def _transformers(
    title: str, folder: str, how: PromptSpec, option: str = "", needs: str = ""
) -> str:
    messages = json.dumps(how.messages(QUESTION), ensure_ascii=False)
    code = filled("messages", messages=messages)
    if how.columns:
        row = json.dumps(dict.fromkeys(how.columns, "..."), ensure_ascii=False)
        code = filled("messages_of_row", row=row)
    return filled(
        "transformers",
        format=title,
        folder=folder,
        option=option,
        packages=" ".join(["accelerate", needs]).strip(),
        messages=code,
        tokens=how.max_new_tokens or MAX_NEW_TOKENS,
        # generate() of transformers enforces no schema.
        check=filled("check", schema=SCHEMA) if how.schema is not None else "",
    )


def _commands(*lines: str) -> str:
    """Return commands as a code block: fenced where a quoted text goes over several lines.

    Indented, its further lines would end the block, or begin with blanks that nobody trained.
    """
    text = "\n".join(lines)
    if len(text.splitlines()) == len(lines):
        return "\n".join(f"    {line}" for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def _option(name: str, value: str | int | None) -> str:
    """Return an option of a command with its value; nothing without one."""
    return f" {name} {shlex.quote(str(value))}" if value else ""


def _openai_request(how: PromptSpec) -> dict[str, Any]:
    request: dict[str, Any] = {"messages": how.messages(QUESTION), "temperature": 0}
    if how.max_new_tokens:
        request["max_tokens"] = how.max_new_tokens
    if how.schema is not None:
        named = {"name": "answer", "strict": True, "schema": how.schema}
        request["response_format"] = {"type": "json_schema", "json_schema": named}
    return request


def _shell(request: Mapping[str, Any]) -> str:
    """Quote a request for a shell."""
    return shlex.quote(json.dumps(request, ensure_ascii=False))
