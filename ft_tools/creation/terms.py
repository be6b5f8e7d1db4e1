"""What providers' terms say of training on their models' answers; a forbidden use is refused."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.creation.findings import warning
from ft_tools.creation.request import CreateRequest
from ft_tools.facts.teachers import teachers

RULE = "teacher_terms"
NEED_NONE = frozenset({"cleared", "same_family"})
"""Providers whose terms somebody read, or who are the user."""


class TeacherTerms(BaseModel):
    """What is known of the terms; not legal advice."""

    model_config = ConfigDict(frozen=True)

    provider: str
    use: str = Field(description="allowed, forbidden or unclear, for this use.")
    note: str
    source: str
    edition: str = Field("", description="Date of the terms, where they have one.")
    read: str = Field(description="When they were read.")


def terms_for(request: CreateRequest, providers: Iterable[str]) -> list[TeacherTerms]:
    """Return the terms of those whose models answer, or of whom the request names."""
    if request.provider is not None:
        providers = {request.provider} - NEED_NONE
    rows = {name: teachers()[name] for name in providers}
    return [
        TeacherTerms(
            provider=name,
            use=row.of_use(request.product_use),
            **row.model_dump(include={"note", "source", "edition", "read"}),
        )
        for name, row in rows.items()
    ]


def forbidden_in(request: CreateRequest, terms: Iterable[TeacherTerms]) -> TeacherTerms | None:
    """Return the first terms that forbid this use, unless that was accepted."""
    accepted = RULE in request.accept_findings
    return next((one for one in terms if one.use == "forbidden" and not accepted), None)


def terms_warnings(terms: Iterable[TeacherTerms]) -> list[str]:
    """Return what has to be settled about the terms."""
    return [
        warning("terms_not_allowed" if one.source else "terms_unknown", **one.model_dump())
        for one in terms
        if one.use != "allowed"
    ]
