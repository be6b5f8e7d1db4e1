"""The calls that reports propose: rows of facts/next_steps.toml, with their arguments."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from ft_tools import facts
from ft_tools.contract import NextStep


def next_step(step_id: str, arguments: Mapping[str, Any], *also: str, **fields: Any) -> NextStep:
    """Return the call that a row proposes.

    Args:
        step_id: A row of the table.
        arguments: Of the call; what is None or empty text is left out.
        also: Rows of `also`, added to why; an empty id adds nothing.
        fields: What the texts name in braces; a `tool` goes before the row's.
    """
    table = _table()
    row = table[step_id]
    texts = [row["why"], *(table["also"][name] for name in also if name)]
    given = {name: value for name, value in arguments.items() if value not in (None, "")}
    tool = fields.pop("tool", row.get("tool"))
    return NextStep(tool=tool, arguments=given, why="; ".join(texts).format(**fields))


def tool_of(step_id: str) -> str:
    """Return the tool that a row names."""
    return str(_table()[step_id]["tool"])


def launch_tool(task: str) -> str:
    """Return the tool that launches a training of a task."""
    return {"sft": "launch_sft", "grpo": "launch_grpo"}.get(task, "launch_dpo")


@cache
def _table() -> dict[str, Any]:
    return facts.table_of("next_steps.toml")
