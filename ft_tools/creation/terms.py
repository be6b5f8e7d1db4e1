"""What the teacher's terms say of training on its answers: said, and a forbidden use refused."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.request import CreateRequest
from ft_tools.facts.teachers import Terms, teachers, terms_of

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


def terms_for(request: CreateRequest) -> TeacherTerms | None:
    """Return the terms of the request's teacher; None where nobody has to ask.

    Raises:
        Refused: They forbid this use, and nobody accepted that.
    """
    teacher = request.teacher
    if teacher is None or request.provider in NEED_NONE:
        return None
    name = teacher.endpoint.model if teacher.endpoint else teacher.model or ""
    provider, row = terms_of(name)
    if request.provider is not None:
        provider, row = request.provider, teachers()[request.provider]
    terms = _terms(request, provider, row)
    require_allowed(request, [terms])
    return terms


def terms_of_providers(request: CreateRequest, providers: Iterable[str]) -> list[TeacherTerms]:
    """Return the terms of those whose models answered in logs, or of whom the request names."""
    if request.provider is not None:
        providers = {request.provider} - NEED_NONE
    return [_terms(request, name, teachers()[name]) for name in providers]


def _terms(request: CreateRequest, provider: str, row: Terms) -> TeacherTerms:
    about = row.model_dump(include={"note", "source", "edition", "read"})
    return TeacherTerms(provider=provider, use=row.of_use(request.product_use), **about)


def require_allowed(request: CreateRequest, terms: Iterable[TeacherTerms]) -> None:
    """Refuse a use that terms forbid, unless that was accepted.

    Raises:
        Refused: With the terms.
    """
    if forbidden := forbidden_among(request, terms):
        raise refusal("teacher_terms", **forbidden.model_dump())


def forbidden_among(request: CreateRequest, terms: Iterable[TeacherTerms]) -> TeacherTerms | None:
    """Return the first terms that forbid this use, unless that was accepted."""
    accepted = RULE in request.accept_findings
    return next((one for one in terms if one.use == "forbidden" and not accepted), None)


def terms_warnings(terms: Iterable[TeacherTerms]) -> list[str]:
    """Return what has to be settled about the terms."""
    unsettled = (one for one in terms if one.use != "allowed")
    return [
        warning("terms_not_allowed" if one.source else "terms_unknown", **one.model_dump())
        for one in unsettled
    ]
