"""Whether what is shipped answers as it was measured, and which file to use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.next_steps import next_step
from ft_tools.reasons import reason
from ft_tools.shipping.asking import MeasuredAs
from ft_tools.shipping.findings import sentence
from ft_tools.shipping.report import FormatResult, ShippedAnswers

CheckedFile = tuple[FormatResult, ShippedAnswers]


@dataclass(frozen=True)
class Recommendation:
    """The file to use, and why."""

    said: str
    format: str = ""
    """Empty: none is recommended."""
    reasons: list[Reason] = field(default_factory=list)


def recommend(results: Sequence[FormatResult], tuned: Mapping[str, float]) -> Recommendation:
    """Return how each file answers through its own defaults, and the file to use.

    It is the smallest that answers as well as the best of them, or whose loss is shown to be below
    ship.quantized_loss. A file whose verdict is fail is never recommended. Where the tuned model
    scores 0, no loss can be seen: then it is the smallest whose verdict is good or ok.

    Args:
        results: All formats.
        tuned: The tuned model's metrics on the same examples.
    """
    checked = [(one, one.shipped) for one in results if one.shipped is not None]
    if not checked:
        return Recommendation(sentence("unchecked"))
    metric, num = checked[0][1].metric, checked[0][1].num_examples
    listed = "; ".join(_described(*one) for one in checked)
    said = sentence("checked", metric=metric, num=num, files=listed, tuned=tuned[metric])
    answering = [one for one in checked if _as_measured(one[1])]
    if not answering:
        return Recommendation(said + sentence("do_not_ship"))
    good = sorted((one for one in answering if _verdict(one[0]) != "fail"), key=_size)
    if not good:
        return Recommendation(
            said + sentence("verdict_fail"), reasons=[reason("verdict_fail", "fail")]
        )
    if tuned[metric] == 0:
        said += sentence("task_cannot_tell")
        near = [one for one, _ in good if _verdict(one) in ("good", "ok")]
        reasons = [reason("task_cannot_tell", tuned[metric])]
        if not near:
            return Recommendation(said + sentence("no_ok_file"), reasons=reasons)
        return Recommendation(said, near[0].format, reasons)
    most = max(shipped.difference for _, shipped in good)
    best = next(
        one for one, shipped in good if shipped.difference >= most or _loses_little(shipped)
    )
    if best is not (smaller := good[0][0]):
        names = {"smaller": smaller.format, "best": best.format}
        said += sentence("loss_unknown", **names, num=num, loss=facts.number("ship.quantized_loss"))
    return Recommendation(said, best.format)


def next_steps(
    results: Sequence[FormatResult], recommended: str, measured: MeasuredAs | None = None
) -> list[NextStep]:
    """Suggest to measure the task itself on the recommended file, or else on the last one made.

    Args:
        results: Formats, made or not.
        recommended: One of them; may be empty.
        measured: The evaluation of the tuned model: the file is measured on the same rows.
    """
    loaded = ("gguf:", "bnb:")
    made = {r.format: r.path for r in results if r.state == "made" and r.format.startswith(loaded)}
    if not made:
        return []
    dataset = measured.dataset() if measured else None
    arguments = {"model": made.get(recommended, [*made.values()][-1]), "dataset": dataset}
    also = "same_rows" if dataset else "name_dataset"
    return [next_step("measure_shipped", arguments, also)]


def _size(one: CheckedFile) -> int:
    return one[0].size_bytes


def _verdict(result: FormatResult) -> str:
    return result.quality.verdict if result.quality else ""


def _as_measured(shipped: ShippedAnswers) -> bool:
    """Return whether no loss that counts is shown, and some prompt is the measured one."""
    return shipped.prompts_equal > 0 and (shipped.ci_high >= 0 or _loses_little(shipped))


def _loses_little(shipped: ShippedAnswers) -> bool:
    return shipped.ci_low >= -facts.number("ship.quantized_loss")


def _described(result: FormatResult, shipped: ShippedAnswers) -> str:
    return sentence(
        "checked_file",
        format=result.format,
        value=shipped.task[shipped.metric],
        difference=shipped.difference,
        low=shipped.ci_low,
        high=shipped.ci_high,
        prompts="" if shipped.prompts_equal else sentence("no_prompt"),
    )
