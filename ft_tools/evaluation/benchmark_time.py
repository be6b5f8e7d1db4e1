"""How long tasks of lm-evaluation-harness take; what the common ones read is data."""

from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType

from pydantic import Field

from ft_tools import facts
from ft_tools.evaluation.estimates import seconds_per_read_token, seconds_per_token
from ft_tools.evaluation.systems.compared_models import LoadPlan
from ft_tools.facts import Fact


class Task(Fact):
    """A task, and what a model reads and writes for one of its documents."""

    name: str
    documents: int = Field(gt=0, description="Of the split that is measured; of a group, of all.")
    subtasks: int = Field(1, gt=0, description="Of a group, each limited by itself.")
    requests: int = Field(gt=0, description="Texts read per document.")
    request_tokens: int = Field(gt=0, description="Tokens of each.")
    new_tokens: int = Field(0, ge=0, description="Tokens written per document.")


USUAL = Task(
    name="usual", documents=1, requests=4, request_tokens=100, source="ours: four choices each"
)
"""Stands for a task of the user's own."""


@cache
def known_tasks() -> Mapping[str, Task]:
    """Return the tasks whose size is known, by name."""
    rows = [Task.model_validate(row) for row in facts.rows_of("lm_eval.toml", "tasks")]
    return MappingProxyType({row.name: row for row in rows})


def documents_of(name: str, limit: int | None) -> int | None:
    """Return how many documents a task measures; None: its size is not known, nor limited.

    >>> documents_of("gsm8k", None), documents_of("mmlu", 10), documents_of("own_task", None)
    (1319, 570, None)
    """
    task = known_tasks().get(name)
    if task is None or limit is None:
        return task.documents if task else limit
    return min(task.documents, limit * task.subtasks)


def uncounted(tasks: Sequence[str], limit: int | None) -> list[str]:
    """Return the tasks that `seconds` leaves out."""
    return [name for name in tasks if documents_of(name, limit) is None]


def seconds(
    tasks: Sequence[str],
    limit: int | None,
    num_bytes: int,
    batch_size: int,
    loading: LoadPlan | None,
) -> float | None:
    """Return about how long one model takes for tasks; None: its device is not known.

    Args:
        tasks: Names; those of unknown size are left out.
        limit: Documents per task; None: all.
        num_bytes: Of the model's 16-bit weights.
        batch_size: Texts that are answered together.
        loading: Where the model is loaded.
    """
    read = seconds_per_read_token(num_bytes, loading)
    write = seconds_per_token(num_bytes, batch_size, loading)
    if read is None or write is None:
        return None
    total = 0.0
    for name in tasks:
        task = known_tasks().get(name, USUAL)
        each = task.requests * task.request_tokens * read + task.new_tokens * write
        total += (documents_of(name, limit) or 0) * each
    return total
