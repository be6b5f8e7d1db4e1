"""suggest_lora_config: settings for what a named dataset holds, by the same counts as a launch."""

from collections.abc import Mapping
from pathlib import Path

from ft_tools import facts as thresholds
from ft_tools import workspace
from ft_tools.contract import Reason
from ft_tools.data.judge.findings import UNDECIDED
from ft_tools.errors import BadInput, FineTuningError
from ft_tools.formats.answer_kinds import AnswerKind
from ft_tools.formats.masking import LossOn
from ft_tools.formats.training_rows import (
    CHARACTERS_PER_TOKEN,
    TEMPLATE_TOKENS,
    DatasetFacts,
    survey,
    task_of,
)
from ft_tools.formats.trl_formats import Task
from ft_tools.lora.data_shape import DataShape, Goal, rounded_length
from ft_tools.lora.report import LoraReport
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.suggest import AUDIT_ERRORS, suggest
from ft_tools.models.shape_of_model import shape_of
from ft_tools.reasons import reason
from ft_tools.training.checks.data_quality import audit_of_launch
from ft_tools.training.model_plan import source_of
from ft_tools.training.token_counts import Counts, count_tokens
from ft_tools.training.validation_split import num_held_out, validation_beside

GOALS: Mapping[AnswerKind, Goal] = {
    "labels": "classification",
    "json": "extraction",
    "free": "instruction",
}
"""Kind of the answers -> what is most likely wanted of them."""


def suggest_lora_config(request: LoraRequest) -> LoraReport:
    """Suggest the keyword arguments of PEFT, transformers and TRL.

    Raises:
        UnknownName: The model or the GPU is in no table.
        NotFound: No such folder or run.

    >>> report = suggest_lora_config(LoraRequest(model="meta-llama/Meta-Llama-3-8B"))
    >>> report.peft["r"], report.trainable_params, f"{report.trainable_fraction:.2%}"
    (16, 41943040, '0.52%')
    """
    shape = shape_of(request.model)
    return suggest(shape, *read_data(request))


def shape_of_data(
    facts: DatasetFacts, counted: Counts | None, *, num_held_out: int, is_watched: bool
) -> DataShape:
    """Describe a file by its counts; where nothing was counted, its length by its bytes."""
    known: dict[str, float | int | None] = {"longest_tokens": facts.most_tokens}
    if counted is not None:
        lengths = counted.lengths
        known = {
            "answer_tokens": lengths.mean_answer_tokens,
            "tokens": lengths.mean_tokens,
            "longest_tokens": lengths.longest_tokens,
            "padding": lengths.padding,
        }
    return DataShape.model_validate(
        {
            "goal": GOALS[facts.answers],
            "num_examples": facts.num_examples - num_held_out,
            "is_watched": is_watched,
        }
        | known
    )


def read_data(request: LoraRequest) -> tuple[LoraRequest, Task, DataShape, list[Reason]]:
    """Read a named dataset; without one, take what the request says.

    Returns:
        The request with rows and lengths filled in, how the rows are trained on, what settings
        depend on, and the reasons.

    Raises:
        FineTuningError: The file cannot be read.
    """
    if request.validation is not None:
        workspace.existing(request.validation)
    if request.dataset is None:
        data = DataShape(
            goal=request.goal or "instruction",
            num_examples=request.num_examples,
            answer_tokens=request.mean_completion_tokens,
            longest_tokens=request.seq_len,
        )
        return request, "dpo" if data.goal == "preference" else "sft", data, []
    path = workspace.existing(request.dataset)
    task = task_of(path)
    facts = survey(path, task)
    counted, why_not = _counted(request, task, facts)
    request = request.model_copy(update={"validation": _validation(request, path)})
    held_out = 0 if request.validation else num_held_out(facts, task)
    is_watched = bool(held_out or request.validation)
    data = shape_of_data(facts, counted, num_held_out=held_out, is_watched=is_watched)
    if request.goal is not None and (request.goal == "preference") == (task == "sft"):
        holds = "examples with one answer" if task == "sft" else "preferences"
        raise BadInput(f"goal={request.goal!r}, but {path.name} holds {holds}; leave goal out")
    goal: Goal = request.goal or (data.goal if task == "sft" else "preference")
    data = data.model_copy(update={"goal": goal})
    most = request.seq_len or int(thresholds.number("train.max_length"))
    longest = rounded_length(data.longest_tokens or most, most)
    lengths = (
        f"longest {data.longest_tokens} tokens, {data.answer_tokens} trained tokens per row "
        "(counted with its tokenizer and chat template)"
    )
    if counted is None:
        about = facts.longest_characters // CHARACTERS_PER_TOKEN
        lengths = (
            f"longest at most {facts.most_tokens} tokens, by its bytes and {TEMPLATE_TOKENS} for a "
            f"chat template, and about {about}, a quarter of its characters: {why_not}"
        )
    parts = f"{held_out} of them held out"
    if request.validation:
        parts = f"validated on {request.validation}"
    observed = f"{facts.num_examples} rows, {parts}; {lengths}; answers: " + (
        f"{facts.num_labels} labels" if facts.num_labels else facts.answers
    )
    reasons = [reason("dataset_read", observed), *_errors(request, task, facts)]
    return request.model_copy(update={"seq_len": longest}), task, data, reasons


def _errors(request: LoraRequest, task: Task, facts: DatasetFacts) -> list[Reason]:
    """Return for what a launch refuses the dataset: errors, test rows, undecided columns."""
    report = audit_of_launch(str(request.dataset), None, task, (facts.sha256, ""))
    errors = [one for one in report.findings if one.severity == "error"] if report else []
    counts = {one.id: one.count for one in errors}
    counts |= {"test_row": facts.num_test_rows, UNDECIDED: len(facts.undecided_columns)}
    found = [f"{name}: {count}" for name, count in counts.items() if count]
    if not found:
        return []
    return [reason(AUDIT_ERRORS, "; ".join(found), 0)]


def _validation(request: LoraRequest, dataset: Path) -> str | None:
    """Return the validation file that was named, or that lies beside the dataset."""
    if request.validation is not None:
        return request.validation
    beside = validation_beside(dataset)
    return str(Path(request.dataset or "").with_name(beside.name)) if beside else None


def _counted(request: LoraRequest, task: Task, facts: DatasetFacts) -> tuple[Counts | None, str]:
    """Count tokens by the model's tokenizer, which is fetched as a launch does."""
    try:
        loss_on: LossOn = "everything" if facts.format == "text" else "answers"
        return count_tokens(task, source_of(request.model), {}, (facts, None), loss_on)
    except FineTuningError as error:
        return None, f"it could not be counted ({error.code})"
