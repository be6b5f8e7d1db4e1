"""What the teacher's terms say of training on its answers: said, and a forbidden use refused."""

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.request import CreateRequest
from ft_tools.facts.teachers import teachers, terms_of

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
    use = row.of_use(request.product_use)
    about = {"provider": provider, "use": use} | row.model_dump(
        include={"note", "source", "edition", "read"}
    )
    if use == "forbidden" and RULE not in request.accept_findings:
        raise refusal("teacher_terms", **about)
    return TeacherTerms.model_validate(about)


def terms_warnings(terms: TeacherTerms | None) -> list[str]:
    """Return what has to be settled about the terms."""
    if terms is None or terms.use == "allowed":
        return []
    return [warning("terms_not_allowed", **terms.model_dump())]
