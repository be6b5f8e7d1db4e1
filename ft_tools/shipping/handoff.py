"""HANDOFF.md, for whoever runs a shipped model, and README.md of the merged folder, its card.

The texts are templates/; here is what they are filled with. No path of this machine is in them:
everything is relative to the files.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load
from jinja2 import Environment, PackageLoader, StrictUndefined
from yaml import YAMLError

from ft_tools.shipping.asking import FORMAT_INPUT, MAPPING, SCHEMA, PromptSpec
from ft_tools.shipping.modelfile import can_be_shipped
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import MergeCheck, ShipReport

QUESTION = "Hello"


def handoff(report: ShipReport, how: PromptSpec) -> str:
    """Return HANDOFF.md: the commands that run each file, and what was proved about it."""
    # What another machine needs; not where all files are in the one merged folder anyway.
    small = [
        r for r in report.formats if r.state == "made" and r.format.startswith(("gguf", "mlx"))
    ]
    recommended = (r for r in small if r.format == report.recommended_format)
    copied = next(recommended, next(iter(small), None))
    files = ["HANDOFF.md", *([SCHEMA] if how.schema is not None else [])]
    files += [FORMAT_INPUT, MAPPING] if how.columns else []
    if copied:
        path = Path(copied.path)
        files.append(path.parent.name if copied.format.startswith("gguf") else path.name)
    return _filled("HANDOFF.md", how=how, report=report, copied=copied, files=files)


def model_card(
    plan: ShipPlan,
    check: MergeCheck | None,
    licence: str,
    lineage: Mapping[str, str],
    how: PromptSpec,
) -> str:
    """Return the card: where the model comes from, how to ask it, and what was proved."""
    base = public_name(plan.base_model)
    fields: dict[str, Any] = {"plan": plan, "check": check, "licence": licence, "base": base}
    return _filled("README.md", how=how, lineage=lineage, **fields)


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


def _filled(name: str, *, how: PromptSpec, **fields: Any) -> str:
    """Return a template filled in; a field that is missing is an error."""
    templates = Environment(
        loader=PackageLoader("ft_tools.shipping", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "code": _code,
        "indented": lambda text: "\n".join(f"    {line}" for line in text.splitlines()),
        "json": lambda value: json.dumps(value, ensure_ascii=False),
        "path": Path,
        "shell": shlex.quote,
    }
    measured = how.measured.score if how.measured else ""
    ours = {"question": QUESTION, "schema_file": SCHEMA, "can_be_shipped": can_be_shipped}
    ours |= {"openai_request": _openai_request, "ollama_request": _ollama_request}
    template = templates.get_template(f"{name}.jinja")
    return template.render(how=how, measured=measured, **ours, **fields)


def _code(commands: str, number: int) -> str:
    """Return so many commands as a code block: fenced where one goes over several lines.

    Indented, the further lines of a quoted text would end the block, or begin with blanks that
    nobody trained.
    """
    lines = commands.strip("\n").splitlines()
    if len(lines) == number:
        return "\n".join(f"    {line}" for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", commands)), default=0))
    return "\n".join([f"{fence}sh", *lines, fence])


def _openai_request(how: PromptSpec) -> dict[str, Any]:
    request: dict[str, Any] = {"messages": how.messages(QUESTION), "temperature": 0}
    if how.max_new_tokens:
        request["max_tokens"] = how.max_new_tokens
    if how.schema is not None:
        named = {"name": "answer", "strict": True, "schema": how.schema}
        request["response_format"] = {"type": "json_schema", "json_schema": named}
    return request


def _ollama_request(how: PromptSpec, model: str) -> dict[str, Any]:
    # Without system text: the Modelfile adds it.
    messages = [{"role": "user", "content": how.turn(QUESTION)}]
    request: dict[str, Any] = {"model": model, "messages": messages, "stream": False}
    return request | ({"format": how.schema} if how.schema is not None else {})
