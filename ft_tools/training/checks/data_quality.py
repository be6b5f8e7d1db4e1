"""Data that nothing is trained on: leaks, unread verdicts, errors. Each refusal names its cure."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ft_tools import anti_patterns
from ft_tools.data.judge.findings import RULES, UNDECIDED
from ft_tools.data.judge.next_steps import rule_for
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_if_small
from ft_tools.errors import UnknownName
from ft_tools.formats import test_sets
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.trl_formats import Task
from ft_tools.training.findings import refusal, warning
from ft_tools.training.request import TrainingRequest
from ft_tools.training.validation_split import least_rows

LAUNCHES = {"launch_sft", "launch_dpo", "launch_grpo"}
CONTRADICTIONS = "contradictions"
SAID_BY_THE_PLAN = {"over_max_length"}
"""The plan counts what its own max_length cuts; the audit counts by a length that nobody gave."""
MOST_COLUMNS = 12
EVALUATED_LATE = ("eval_steps", "eval_delay")


def require_known(ids: Sequence[str]) -> None:
    """Refuse an id that is no rule that a launch asks about, and no finding of an audit.

    A misspelt one would accept nothing, and nobody would notice.
    """
    overridable = [
        rule for rule in anti_patterns.rules().values() if "accept_findings" in rule.override
    ]
    known = {*(rule.id for rule in overridable), *RULES, CONTRADICTIONS}
    asked = sorted(rule.id for rule in overridable if LAUNCHES & set(rule.tools))
    for one in ids:
        if one not in known:
            kinds = f"rules of launches: {', '.join(asked)}; or ids of the audit's findings"
            raise UnknownName("id in accept_findings", one, known, kinds)


def require_audited(
    request: TrainingRequest, task: Task, dataset: DatasetFacts, validation: DatasetFacts | None
) -> list[str]:
    """Refuse data with errors that nobody accepted.

    Returns:
        Warnings: what the audit would not stop a run for.
    """
    accepted = set(request.accept_findings)
    # In a file of any size.
    if dataset.num_test_rows and "test_row" not in accepted:
        sizes = {"count": dataset.num_test_rows, "num_examples": dataset.num_examples}
        raise refusal("test_rows", **sizes, forget=test_sets.TO_FORGET)
    if dataset.undecided_columns and UNDECIDED not in accepted:
        names = "; ".join(dataset.undecided_columns[:MOST_COLUMNS])
        raise refusal("undecided_columns", names=names)
    if task == "grpo":
        # Most rules of an audit are about the answers that are trained on.
        return []
    hashes = (dataset.sha256, validation.sha256 if validation else "")
    report = audit_of_launch(request.dataset, request.validation, task, hashes)
    if report is None:
        return [warning("not_audited")]
    if "train_validation_leak" in accepted:
        accepted.add("validation_leak")
    found = next((reason for reason in report.reasons if reason.id == CONTRADICTIONS), None)
    if found and not accepted & {CONTRADICTIONS, "conflicting_targets", "no_quality_filter"}:
        choice = rule_for(report.duplicates.num_with_majority if report.duplicates else 0)
        raise refusal("contradictions", fraction=float(found.observed or 0), choice=choice)
    errors = [one for one in report.findings if one.severity == "error" and one.id not in accepted]
    if errors and "no_quality_filter" not in accepted:
        rows = {one.id: f"rows {', '.join(map(str, one.rows))}" for one in errors}
        shown = "; ".join(f"{one.id}: {one.count} ({rows[one.id]})" for one in errors)
        raise refusal("audit_errors", errors=shown, ids=list(rows))
    return [
        warning("audit", count=finding.count, finding=finding.id, finding_cure=finding.cure)
        for finding in report.findings
        if finding.severity == "warning" and finding.id not in SAID_BY_THE_PLAN
    ]


@lru_cache(maxsize=8)
def audit_of_launch(
    dataset: str, validation: str | None, task: Task, hashes: tuple[str, str]
) -> AuditReport | None:
    """Audit files as a launch does; None where they are too large for that.

    Their hashes keep an answer from outliving its files.
    """
    return audit_if_small(
        AuditRequest(
            path=dataset,
            validation_path=validation,
            task="sft" if task == "sft" else "dpo",
            near_duplicates="off",
            # What is left undecided was refused before, or accepted.
            mapping=ColumnMapping(ignore=["*"]),
        )
    )


def require_held_out(
    request: TrainingRequest, dataset: DatasetFacts, validation: DatasetFacts | None
) -> None:
    """Refuse to validate on trained examples."""
    same = validation is not None and validation.sha256 == dataset.sha256
    if same and "train_validation_leak" not in request.accept_findings:
        raise refusal("same_file")


def require_watched(
    request: TrainingRequest,
    task: Task,
    epochs: float,
    training: Mapping[str, Any],
    evaluations: int,
) -> None:
    """Refuse to repeat examples without an evaluation on held-out ones."""
    if evaluations or epochs <= 1 or "validation_unwatched" in request.accept_findings:
        return
    if training["eval_strategy"] != "no":
        late = ", ".join(f"{n}={training[n]}" for n in EVALUATED_LATE if training.get(n))
        raise refusal("evaluated_too_late", epochs=epochs, settings=late)
    if request.validation is not None:
        raise refusal("never_evaluated", epochs=epochs)
    raise refusal("no_validation_file", epochs=epochs, least=least_rows(task))


def balance_marks(
    given: Mapping[str, Any], training: dict[str, Any], dataset: DatasetFacts
) -> list[str]:
    """Refuse marks that KTO cannot learn from; weigh good and bad ones unless the caller did.

    Good answers times their weight should be 1 to 4/3 of bad ones times theirs; the middle is
    taken.

    Source: KTO, arXiv 2402.01306, equation 8; TRL 1.16, kto_trainer.py.
    """
    good = dataset.num_good or 0
    bad = dataset.num_examples - good
    if not good or not bad:
        raise refusal("marks_alike", dataset=dataset.path, mark="good" if good else "bad")
    # The loss compares each answer with the one before it in its micro-batch.
    if training["loss_type"] == "kto" and training["per_device_train_batch_size"] < 2:
        raise refusal("single_mark_batch")
    order = training.get("train_sampling_strategy", "sequential")
    if training["loss_type"] == "kto" and order != "sequential":
        raise refusal("marks_shuffled")
    names = ("desirable_weight", "undesirable_weight")
    if set(names) & set(given) or bad <= good <= bad * 4 / 3:
        return []
    ratio = 7 / 6 * bad / good
    name, value = (names[0], ratio) if good < bad else (names[1], 1 / ratio)
    training[name] = round(value, 2)
    return [warning("marks_weighted", good=good, bad=bad, name=name, value=training[name])]
