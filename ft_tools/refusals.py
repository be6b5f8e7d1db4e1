"""Say in a line each why arguments were refused; the server and the command line share it."""

import difflib
from typing import Any

from pydantic import BaseModel, ValidationError


def complaints(request: type[BaseModel], error: ValidationError) -> list[str]:
    """Return a line for each thing that is wrong: where, what, and what is allowed.

    The values themselves are repeated only where they are short, and never with a library's advice
    to visit its web site.
    """
    return [_line(request, dict(detail)) for detail in error.errors()]


def _line(request: type[BaseModel], detail: dict[str, Any]) -> str:
    where = ".".join(map(str, detail["loc"])) or "request"
    if detail["type"] == "extra_forbidden":
        known = list(request.model_fields)
        near = difflib.get_close_matches(str(detail["loc"][-1]), known, n=1, cutoff=0.6)
        meant = f"did you mean {near[0]!r}? " if near else ""
        return f"{where}: no such argument; {meant}known: {', '.join(known)}"
    if detail["type"] == "missing":
        field = request.model_fields.get(str(detail["loc"][0]))
        about = f" ({field.description})" if field and field.description else ""
        return f"{where}: required and missing{about}"
    if detail["type"] == "value_error":
        return f"{where}: {detail['msg'].removeprefix('Value error, ')}"
    given = repr(detail.get("input"))
    return f"{where}: {detail['msg']}, got {given if len(given) <= 80 else given[:77] + '...'}"
