"""What only preference runs need: where they start, their reference, their rate, their weights."""

from collections.abc import Mapping
from typing import Any

from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.runs.state import directory
from ft_tools.training.checks import data_quality
from ft_tools.training.findings import refusal, warning
from ft_tools.training.request import DpoRequest

# Above this a DPO run usually collapses. Source: https://github.com/hiyouga/LLaMA-Factory/issues/6153
RATE_REFUSED = 1e-4


def start_of(model: str | None, sft_run: str | None) -> str:
    """Return the model argument that training starts from."""
    if sft_run is None:
        return model or ""
    info = directory.read_info(directory.find(sft_run))
    if info.kind != "sft":
        raise refusal("not_an_sft_run", field="sft_run", run=sft_run, kind=info.kind)
    return sft_run


def require_rate(request: DpoRequest) -> None:
    """Refuse a learning rate at which preference runs collapse."""
    rate = request.training.get("learning_rate", 0.0)
    if rate > RATE_REFUSED and "dpo_learning_rate" not in request.accept_findings:
        raise refusal("high_dpo_rate", rate=rate, limit=RATE_REFUSED)


def balance_marks(
    given: Mapping[str, Any], training: dict[str, Any], dataset: DatasetFacts
) -> list[str]:
    """Weigh good and bad answers so that neither outweighs the other, unless the caller did.

    Good answers times their weight should be 1 to 4/3 of bad ones times theirs; the middle is
    taken.

    Source: KTO, arXiv 2402.01306, equation 8; TRL 1.16, kto_trainer.py.
    """
    data_quality.require_marks(training, dataset)
    good = dataset.num_good or 0
    bad = dataset.num_examples - good
    names = ("desirable_weight", "undesirable_weight")
    if set(names) & set(given) or bad <= good <= bad * 4 / 3:
        return []
    ratio = 7 / 6 * bad / good
    name, value = (names[0], ratio) if good < bad else (names[1], 1 / ratio)
    training[name] = round(value, 2)
    return [warning("marks_weighted", good=good, bad=bad, name=name, value=training[name])]
