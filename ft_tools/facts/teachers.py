"""What providers' terms say about training on the outputs of their models."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from types import MappingProxyType

from pydantic import Field

from ft_tools.facts import Fact, table_of


class Terms(Fact):
    """What a provider's terms say of training on its models' outputs, by use."""

    sold: str
    internal: str
    internal_classifier: str
    note: str
    models: tuple[str, ...] = Field((), description="Patterns of the names of its models.")
    edition: str = Field("", description="Date of the terms, where they have one.")
    source: str = Field("", description="Their address; empty where they are unknown.")
    read: str = Field("", description="When they were read.")

    def of_use(self, use: str | None, *, is_classifier: bool = False) -> str:
        """Return allowed, forbidden or unclear for a use, internal or sold; None: for every one."""
        internal = self.internal_classifier if is_classifier else self.internal
        uses = {"sold": {self.sold}, "internal": {internal}}
        said = uses.get(use or "", {self.sold, self.internal, self.internal_classifier})
        return said.pop().replace("unknown", "unclear") if len(said) == 1 else "unclear"


@cache
def teachers() -> Mapping[str, Terms]:
    """Return what each provider's terms say, by provider."""
    rows = table_of("teachers.toml").items()
    return MappingProxyType({name: Terms.model_validate(row) for name, row in rows})


def terms_of(model: str) -> tuple[str, Terms]:
    """Return the provider of a model by its name, and its terms; `other` if no pattern fits.

    >>> [terms_of(name)[0] for name in ("openai/gpt-4o", "gpt-oss-20b", "unheard-of")]
    ['openai', 'open_licence', 'other']
    """
    plain = model.rpartition("/")[2].lower()
    fitting = [
        (len(pattern), name)
        for name, row in teachers().items()
        for pattern in row.models
        if fnmatchcase(plain, pattern)
    ]
    name = max(fitting)[1] if fitting else "other"
    return name, teachers()[name]
