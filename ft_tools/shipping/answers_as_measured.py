"""Whether what is shipped answers as it was measured, and which format to use."""

from collections.abc import Mapping, Sequence

from ft_tools import facts
from ft_tools.contract import NextStep
from ft_tools.shipping.evaluated_prompt import MeasuredAs, dataset_of
from ft_tools.shipping.report import FormatResult, ShippedAnswers


def shipped_answers(results: Sequence[FormatResult], tuned: Mapping[str, float]) -> tuple[str, str]:
    """Return a sentence on each file asked through its own defaults, and the format to use.

    It is the smallest that answers as well as the best of them, or whose loss is shown to be below
    ship.quantized_loss.

    Args:
        results: All formats.
        tuned: The tuned model's metrics on the same examples.
    """
    checked = [(one, one.shipped) for one in results if one.shipped is not None]
    if not checked:
        return "The shipped defaults were not checked: there are no held-out conversations.", ""
    metric, n = checked[0][1].metric, checked[0][1].num_examples
    parts = [f"{one.format} {_said(shipped)}" for one, shipped in checked]
    said = f"Asked through their own Modelfile, {metric} on {n} held-out examples: "
    said += f"{'; '.join(parts)}; tuned model {tuned[metric]:.3g}."
    good = [(one, shipped) for one, shipped in checked if _as_measured(shipped)]
    if not good:
        return f"{said} The shipped defaults do not answer as measured: do not ship.", ""
    most = max(shipped.difference for _, shipped in good)
    smallest = sorted(good, key=lambda pair: pair[0].size_bytes)
    best = next(
        one for one, shipped in smallest if shipped.difference >= most or _loses_little(shipped)
    )
    if best is not (smaller := smallest[0][0]):
        said += (
            f" {smaller.format} is smaller than {best.format}, but {n} examples do not show that "
            f"it loses less than {facts.number('ship.quantized_loss'):.2g}."
        )
    return said, best.format


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
    path = made.get(recommended, [*made.values()][-1])
    dataset = dataset_of(measured) if measured else None
    why = "measures the task itself on the shipped file"
    if dataset is None:
        why += "; name a held-out dataset"
        return [NextStep(tool="evaluate", arguments={"model": path}, why=why)]
    why += ", on the rows that the tuned model was measured on"
    return [NextStep(tool="evaluate", arguments={"model": path, "dataset": dataset}, why=why)]


def _as_measured(shipped: ShippedAnswers) -> bool:
    """Return whether no loss that counts is shown, and some prompt is the measured one."""
    return shipped.prompts_equal > 0 and (shipped.ci_high >= 0 or _loses_little(shipped))


def _loses_little(shipped: ShippedAnswers) -> bool:
    return shipped.ci_low >= -facts.number("ship.quantized_loss")


def _said(shipped: ShippedAnswers) -> str:
    change = f"{shipped.difference:+.3g}, 95% interval [{shipped.ci_low:+.3g}, "
    prompts = "" if shipped.prompts_equal else ", no prompt is the measured one"
    return f"{shipped.task[shipped.metric]:.3g} ({change}{shipped.ci_high:+.3g}]{prompts})"
