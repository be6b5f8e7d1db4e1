"""Read a row as the request of an audit says."""

from collections.abc import Sequence
from typing import Any

from ft_tools.data.request import AuditRequest
from ft_tools.formats.example import Example
from ft_tools.formats.formats import normalise


def example_of(request: AuditRequest, number: int, value: Any) -> Example:
    """Turn a row into an example, its columns and the good values of its label as requested."""
    return normalise(number, value, request.named_columns, good_labels(request))


def good_labels(request: AuditRequest) -> Sequence[str | bool | float]:
    """Return the values of the label that mean good; none: they say so by themselves."""
    use = request.verdicts.get(request.label_column or "", ())
    return () if isinstance(use, str) else use
