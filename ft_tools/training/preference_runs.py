"""What only preference runs need: where they start, their reference, their rate, their weights."""

from collections.abc import Mapping
from typing import Any, Literal

from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.models.resolve import ModelSource
from ft_tools.runs.state import directory
from ft_tools.training.checks import data_quality
from ft_tools.training.findings import refusal, warning
from ft_tools.training.request import DpoRequest

# Above this a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
RATE_REFUSED = 1e-4
Reference = Literal["adapter_off", "frozen_copy", "second_model"]


def start_of(model: str | None, sft_run: str | None) -> str:
    """Return the model argument that training starts from.

    Raises:
        BadInput: `sft_run` names a run of another kind.
    """
    if sft_run is None:
        return model or ""
    info = directory.read_info(directory.find(sft_run))
    if info.kind != "sft":
        raise refusal("not_an_sft_run", field="sft_run", run=sft_run, kind=info.kind)
    return sft_run


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
        raise refusal("high_dpo_rate", rate=rate, limit=RATE_REFUSED)


def balance_marks(
    given: Mapping[str, Any], training: dict[str, Any], dataset: DatasetFacts
) -> list[str]:
    """Weigh good and bad answers so that neither outweighs the other; say so.

    Args:
        given: The caller's arguments.
        training: Changed in place.
        dataset: The file of marked answers.

    Raises:
        FineTuningError: As `data_quality.require_marks`.
    """
    data_quality.require_marks(training, dataset)
    good = dataset.num_good or 0
    balanced, why = mark_weights(given, good, dataset.num_examples - good)
    training |= balanced
    return [why] if why else []


def mark_weights(
    given: Mapping[str, Any], num_good: int, num_bad: int
) -> tuple[dict[str, Any], str]:
    """Return the weights that balance good and bad marks, and why; none where they are balanced.

    Good answers times their weight should be 1 to 4/3 of bad ones times theirs; the middle is
    taken.

    Source: KTO, arXiv 2402.01306, equation 8; TRL 1.16, kto_trainer.py.

    >>> mark_weights({}, 4, 12)[0], mark_weights({}, 90, 30)[0], mark_weights({}, 11, 10)[0]
    ({'desirable_weight': 3.5}, {'undesirable_weight': 2.57}, {})
    """
    if {"desirable_weight", "undesirable_weight"} & set(given):
        return {}, ""
    if num_bad <= num_good <= num_bad * 4 / 3:
        return {}, ""
    middle = 7 / 6
    if num_good < num_bad:
        found = {"desirable_weight": round(middle * num_bad / num_good, 2)}
    else:
        found = {"undesirable_weight": round(num_good / (middle * num_bad), 2)}
    ((name, value),) = found.items()
    return found, warning("marks_weighted", good=num_good, bad=num_bad, name=name, value=value)
