"""What only preference runs need: where they start, their reference, their rate, their weights."""

from collections.abc import Mapping
from typing import Any, Literal

from ft_tools import rules
from ft_tools.errors import BadInput
from ft_tools.examples.training_rows import DatasetFacts
from ft_tools.models.resolve import ModelSource
from ft_tools.runs import directory
from ft_tools.training import defaults
from ft_tools.training.checks import preconditions
from ft_tools.training.request import DpoRequest

# Above these a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
RATE_WARNED = 2e-5
RATE_REFUSED = 1e-4
Reference = Literal["adapter_off", "frozen_copy", "second_model"]


def start_of(request: DpoRequest) -> str:
    """Return the model argument that training starts from.

    Raises:
        BadInput: `sft_run` names a run of another kind.
    """
    if request.sft_run is None:
        return request.model or ""
    info = directory.read_info(directory.find(request.sft_run))
    if info.kind != "sft":
        raise BadInput(f"sft_run={request.sft_run!r} is a {info.kind} run; pass it as `model`")
    return request.sft_run


def reference_of(request: DpoRequest, source: ModelSource) -> Reference:
    """Name what the trained model is compared with."""
    if request.method == "full":
        return "second_model"
    return "frozen_copy" if source.adapter else "adapter_off"


def require_rate(request: DpoRequest) -> None:
    """Refuse a learning rate at which preference runs collapse.

    Raises:
        Refused: By the rule `dpo_learning_rate`.
    """
    rate = request.training.get("learning_rate", 0.0)
    if rate > RATE_REFUSED and "dpo_learning_rate" not in request.accept_findings:
        observed = f"training.learning_rate={rate:g} is above {RATE_REFUSED:g}"
        raise rules.refusal("dpo_learning_rate", observed, "Use 5e-6 with an adapter.")


def warnings(request: DpoRequest) -> list[str]:
    """Say what a preference run's arguments may spoil."""
    rate = request.training.get("learning_rate", 0.0)
    found = []
    if rate > RATE_WARNED:
        found.append(
            f"learning_rate {rate:g} is high for DPO: above {RATE_WARNED:g} the rewards of "
            "chosen answers often fall; 5e-6 is usual"
        )
    if request.training.get("sync_ref_model"):
        found.append(
            "the reference that sync_ref_model moves is in no checkpoint: a resumed run "
            "starts from the first one again"
        )
    return found


def balance_marks(
    given: Mapping[str, Any], training: dict[str, Any], dataset: DatasetFacts
) -> list[str]:
    """Weigh good and bad answers so that neither outweighs the other; say so.

    Args:
        given: The caller's arguments.
        training: Changed in place.
        dataset: The file of marked answers.

    Raises:
        FineTuningError: As `preconditions.require_marks`.
    """
    preconditions.require_marks(training, dataset)
    good = dataset.num_good or 0
    balanced, why = defaults.mark_weights(given, good, dataset.num_examples - good)
    training |= balanced
    return [why] if why else []
