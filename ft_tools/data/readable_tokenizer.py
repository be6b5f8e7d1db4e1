"""Whether a model's tokenizer can be read here; an audit without it estimates tokens."""

from importlib.util import find_spec
from pathlib import Path

from ft_tools.data.audit_refusals import no_tokenizer
from ft_tools.data.request import AuditRequest
from ft_tools.errors import HubUnavailable
from ft_tools.models.resolve import tokenizer_files

TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
"""How files of tokenizers are named."""


def readable_tokenizer(request: AuditRequest) -> tuple[AuditRequest, list[str]]:
    """Leave a model out that is not here while the Hub cannot be asked, as a launch plans without.

    Returns:
        The request, and what was left out, in words.

    Raises:
        FineTuningError: As `tokenizer_files`.
        BadInput: A folder has no tokenizer.
    """
    if request.model is None or find_spec("transformers") is None:
        return request, []
    try:
        folder = Path(tokenizer_files(request.model))
    except HubUnavailable as error:
        return request.model_copy(update={"model": None}), [
            f"tokens are estimated from characters, and no template was applied: {error}"
        ]
    if folder.is_dir() and not any(any(folder.glob(name)) for name in TOKENIZERS):
        raise no_tokenizer(request.model)
    return request, []
