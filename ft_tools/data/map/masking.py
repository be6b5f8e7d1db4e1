"""Mask secrets and personal data in examples and rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.formats.column_counts import is_named
from ft_tools.formats.example import Example, content_of


def mask_example(example: Example, *, with_reserved: bool = False) -> list[str]:
    """Replace secrets and personal data in all that an example says, its tools included.

    Args:
        example: Is changed.
        with_reserved: Whether to mask e-mail addresses of domains that are reserved, too.

    Returns:
        The kind of each value that was found, which has one replacement in the whole example.
    """
    turns = [*example.messages, *example.chosen, *example.rejected]
    parts = [*map(content_of, turns), example.text or ""]
    if example.tools or any(len(turn) != 2 for turn in turns):
        parts.append(str([turns, example.tools]))
    if not privacy.may_hold("\n".join(parts)):
        return []
    seen: privacy.Seen = {}
    for message in turns:
        masked = privacy.mask_all(message, seen, with_reserved=with_reserved)
        message.clear()
        message.update(masked)
    example.tools = privacy.mask_all(example.tools, seen, with_reserved=with_reserved)
    example.text = privacy.mask_all(example.text, seen, with_reserved=with_reserved)
    return [kind for kind, _ in seen]


def mask_values(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return a row with some columns masked, dotted inside objects, and the kind of each value.

    >>> row = {"by": {"mail": "ada@mail.internal"}, "note": "ada@mail.internal"}
    >>> mask_values(row, ["by.mail"])[0]
    {'by': {'mail': '[email]'}, 'note': 'ada@mail.internal'}
    """
    seen: privacy.Seen = {}
    return _masked(row, "", columns, seen), [kind for kind, _ in seen]


def _masked(
    row: Mapping[str, Any], before: str, columns: Sequence[str], seen: privacy.Seen
) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in row.items():
        name = f"{before}{key}"
        if is_named(name, columns):
            made[key] = privacy.mask_all(value, seen, with_reserved=True)
        elif isinstance(value, Mapping) and any(one.startswith(f"{name}.") for one in columns):
            made[key] = _masked(value, f"{name}.", columns, seen)
        elif isinstance(value, list) and any(one.startswith(f"{name}[]") for one in columns):
            made[key] = [_masked({f"{name}[]": item}, "", columns, seen) for item in value]
            made[key] = [item[f"{name}[]"] for item in made[key]]
        else:
            made[key] = value
    return made
