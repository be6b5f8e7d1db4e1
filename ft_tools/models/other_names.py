"""Other names of a catalogued model: without its owner, or in the account of a known mirror."""

import re
from functools import cache

from ft_tools import facts
from ft_tools.facts import ModelFacts

# Accounts that publish copies under the model's own name. Where the name after the slash is that of
# a catalogued model, the shapes are the same.
MIRRORS = {"unsloth", "nousresearch"}
# What these accounts append to the name of a 4-bit copy, made with bitsandbytes.
FOUR_BIT = re.compile(r"(-unsloth)?-bnb-4bit$", re.IGNORECASE)
# What a maker appends to a base model's name for the one that was tuned to follow instructions.
INSTRUCT = ("-Instruct", "-it", "-Chat", "-chat")


def catalog_id(name: str) -> str | None:
    """Return the catalog's id of a model, also for a bare name or a known mirror; None if unknown.

    >>> catalog_id("Llama-3.1-8B"), catalog_id("unsloth/Llama-3.1-8B-Instruct-bnb-4bit")
    ('meta-llama/Llama-3.1-8B', 'meta-llama/Llama-3.1-8B-Instruct')
    """
    if name in facts.models():
        return name
    owner, slash, bare = name.casefold().rpartition("/")
    if slash and owner not in MIRRORS:
        return _by_id().get(name.casefold())
    return _by_id().get(name.casefold()) or _by_bare_name().get(FOUR_BIT.sub("", bare))


def row(name: str) -> ModelFacts | None:
    """Return the catalog's row of a model, under any of its names; None if it has none."""
    found = catalog_id(name)
    return None if found is None else facts.model(found)


def instruct_name(name: str) -> str | None:
    """Return the instruct model that a catalogued base model's maker also publishes; else None.

    >>> instruct_name("Llama-3.1-8B"), instruct_name("meta-llama/Llama-3.1-8B-Instruct")
    ('meta-llama/Llama-3.1-8B-Instruct', None)
    """
    found = catalog_id(name)
    tuned = set() if found is None else {f"{found}{end}".casefold() for end in INSTRUCT}
    return next((one for key, one in _by_id().items() if key in tuned), None)


def is_four_bit(name: str) -> bool:
    """Return whether a name is that of a 4-bit copy in the account of a known mirror."""
    return name.casefold().partition("/")[0] in MIRRORS and bool(FOUR_BIT.search(name))


@cache
def _by_id() -> dict[str, str]:
    """Return every id of the catalog, keyed without case."""
    ids = [one for key, row in facts.models().items() for one in (key, *row.aliases)]
    return {one.casefold(): one for one in ids if "/" in one}


@cache
def _by_bare_name() -> dict[str, str]:
    """Return the ids whose name after the slash is that of one row only, keyed by that name."""
    rows: dict[str, dict[str, str]] = {}
    for key, model in facts.models().items():
        for one in (key, *model.aliases):
            rows.setdefault(one.rpartition("/")[2].casefold(), {}).setdefault(key, one)
    return {bare: next(iter(ids.values())) for bare, ids in rows.items() if len(ids) == 1}
