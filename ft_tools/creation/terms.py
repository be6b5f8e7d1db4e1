"""What the teacher's terms say of training on its answers: said, and a forbidden use refused."""

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.advice.gather import teachers, terms_of
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.request import CreateRequest, Provider

RULE = "teacher_terms"


class TeacherTerms(BaseModel):
    """What is known of the terms; not legal advice."""

    model_config = ConfigDict(frozen=True)

    provider: Provider
    use: str = Field(description="allowed, forbidden or unclear, for this use.")
    says: str
    source: str
    dated: str


def terms_for(request: CreateRequest) -> TeacherTerms | None:
    """Return the terms of the request's teacher; None where its provider is not known.

    Raises:
        Refused: They forbid this use, and nobody accepted that.
    """
    rows = teachers()
    provider = request.provider or _by_host(request)
    said, fact = terms_of(provider, request.product_use, None)
    if provider is None or fact is None:
        return None
    if said == "forbidden" and RULE not in request.accept_findings:
        raise refusal("teacher_terms", says=fact.says, source=fact.source)
    dated = rows[provider].dated
    return TeacherTerms(
        provider=provider, use=said, says=fact.says, source=fact.source, dated=dated
    )


def terms_warnings(request: CreateRequest, terms: TeacherTerms | None) -> list[str]:
    """Return what has to be settled about the terms."""
    if terms is None and request.provider is None:
        return [warning("terms_unknown")]
    if terms is not None and terms.use != "allowed":
        return [warning("terms_not_allowed", **terms.model_dump())]
    return []


def _by_host(request: CreateRequest) -> Provider | None:
    """Return the provider whose address the endpoint has."""
    endpoint = request.teacher.endpoint if request.teacher else None
    host = endpoint.host.partition(":")[0].lower() if endpoint else ""
    found = [name for name, row in teachers().items() if host in row.hosts]
    return found[0] if found else None  # type: ignore[return-value]
