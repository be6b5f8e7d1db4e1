"""Other names of a catalogued model: an id in another case, that of a model of the same shapes."""

from functools import cache

from ft_tools import facts
from ft_tools.facts import ModelFacts

# What a maker appends to a base model's name for the one that was tuned to follow instructions.
INSTRUCT = ("-Instruct", "-it", "-Chat", "-chat")


def row(name: str) -> ModelFacts | None:
    """Return the catalog's row of a model id; None if it has none."""
    found = _by_id().get(name.casefold())
    return None if found is None else facts.model(found)


def instruct_name(name: str) -> str | None:
    """Return the instruct model that a catalogued base model's maker also publishes; else None.

    >>> instruct_name("meta-llama/Llama-3.1-8B")
    'meta-llama/Llama-3.1-8B-Instruct'
    >>> instruct_name("meta-llama/Llama-3.1-8B-Instruct")
    """
    tuned = (_by_id().get(f"{name}{end}".casefold()) for end in INSTRUCT)
    return next(filter(None, tuned), None) if row(name) else None


@cache
def _by_id() -> dict[str, str]:
    """Return every id of the catalog, keyed without case."""
    ids = (one for key, row in facts.models().items() for one in (key, *row.aliases))
    return {one.casefold(): one for one in ids}
