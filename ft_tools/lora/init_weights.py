"""How an adapter starts (`init_lora_weights`): which starts there are, and what rules each out."""

from typing import Any

from ft_tools import anti_patterns
from ft_tools.errors import BadInput

# Source: PEFT 0.21, tuners/lora/config.py and tuners/lora/layer.py.
KNOWN = frozenset({"true", "false", "gaussian", "pissa", "olora", "orthogonal"})
NEEDS_A_DATA_PASS = frozenset({"eva", "corda", "loftq", "lora_ga"})
NEEDS_NUMBERS = frozenset({"pissa", "orthogonal"})
"""These read the base's weights as numbers, which 4-bit weights are not."""
CHANGES_BASE = ("pissa", "olora")
"""These subtract the adapter's start from the base."""
NOT_REPEATABLE = "pissa_niter"
"""Its decomposition is random and not stored: loaded again, the adapter gives another model.
Source: https://huggingface.co/docs/peft/developer_guides/lora (PiSSA)."""


def require_start(start: Any, method: str) -> None:
    """Refuse a start that PEFT does not have, or that cannot be used here.

    Raises:
        BadInput: With the starts that can be used.
        Refused: By the rule `unrepeatable_start`.
    """
    name = "true" if start is None else str(start).lower()
    require_repeatable(name, f"peft.init_lora_weights={start!r}", 'Use "pissa" or "olora".')
    if name in NEEDS_A_DATA_PASS:
        raise BadInput(
            f"peft.init_lora_weights={start!r} needs a pass over the data before training, which "
            f"is not supported; use {', '.join(sorted(KNOWN))}"
        )
    if name not in KNOWN:
        raise BadInput(f"peft.init_lora_weights={start!r}; known: {', '.join(sorted(KNOWN))}")
    if method == "qlora" and name in NEEDS_NUMBERS:
        raise BadInput(
            f"peft.init_lora_weights={start!r} does not work with a 4-bit base; remove it, use "
            "\"olora\", or method='lora'"
        )


def require_repeatable(start: Any, observed: str, cure: str) -> None:
    """Refuse an adapter that fits no base any more once it is loaded again.

    Raises:
        Refused: By the rule `unrepeatable_start`.
    """
    if str(start).lower().startswith(NOT_REPEATABLE):
        observed += " is a random decomposition that is not stored, so it cannot be repeated"
        raise anti_patterns.refusal("unrepeatable_start", observed, cure)


def require_base_unchanged(start: Any, cure: str) -> None:
    """Refuse a start that is taken out of the base, for training that needs the base as it was.

    Raises:
        BadInput: With the cure.
    """
    if str(start).lower().startswith(CHANGES_BASE):
        raise BadInput(
            f"init_lora_weights={start!r} changes the base weights, and DPO needs the base model "
            f"unchanged as its reference; {cure}"
        )
