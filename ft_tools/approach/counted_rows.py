"""How many examples a dataset has: as it is, or under the mapping that is proposed for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ft_tools.approach.request import ApproachRequest
from ft_tools.contract import NextStep
from ft_tools.data.prepare.preview import answers_only_classes
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_if_small
from ft_tools.errors import FineTuningError, NotFound, OutsideWorkspace

COUNTS = {"sft": "num_demonstrations", "dpo": "num_preference_pairs", "kto": "num_marks"}
"""What a dataset of a kind is a count of."""

ADDS_FACTS = "answers_add_facts"


@dataclass(frozen=True)
class CountedRows:
    """What a dataset shows."""

    counted: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that it fills in."""
    note: str = ""
    lacks: str = ""
    next_steps: Sequence[NextStep] = ()


def counted_rows(request: ApproachRequest) -> CountedRows:
    """Return the counts of a dataset, or why there are none, and the call that helps then.

    Raises:
        NotFound: It is not there.
        OutsideWorkspace: It leaves the workspace.
    """
    assert request.dataset is not None
    audit = AuditRequest(path=request.dataset, near_duplicates="off")
    try:
        report = audit_if_small(audit)
    except (NotFound, OutsideWorkspace):
        raise
    except FineTuningError as error:
        return CountedRows(note=f"dataset was not read: {error}")
    if report is None:
        note = "dataset is too large to audit here; run audit_dataset and pass its counts"
        why = "counts the dataset in the background"
        step = NextStep(tool="audit_dataset", arguments={"path": audit.path}, why=why)
        return CountedRows(note=note, next_steps=[step])
    name = COUNTS.get(report.task)
    if report.num_usable and _is_plain_text(report):
        return _text(request, report)
    if name is None or report.num_usable:
        return CountedRows({name: report.num_usable} if name else {}, _warning(report))
    steps = report.next_steps[:1]
    if steps and steps[0].tool == "prepare_dataset":
        return replace(_mapped(request, report.num_examples), next_steps=steps)
    # A claim is not refuted by rows that nobody mapped.
    counted = {name: 0} if getattr(request, name) is None else {}
    return CountedRows(counted, UNMAPPED.format(report.num_examples), next_steps=steps)


PLAIN_TEXT = (
    "the {:,} rows of the dataset are text to continue ({:,} tokens), not inputs with answers, "
    "so they count as corpus_tokens"
)


def _is_plain_text(report: AuditReport) -> bool:
    """Tell whether most rows are raw text: not conversations that a template was applied to."""
    marked = sum(each.count for each in report.findings if each.id == MARKED)
    return report.detected_format == "text" and marked * 2 < report.num_examples


def _text(request: ApproachRequest, report: AuditReport) -> CountedRows:
    """Return the tokens of raw text, and that it is no example unless other rows lie beside it.

    They refute no claim: a text may hold a question and its answer.
    """
    num_tokens = report.tokens.total if report.tokens else 0
    found = {"corpus_tokens": num_tokens}
    found |= {"num_demonstrations": 0} if OTHER not in report.removed_by else {}
    counted = {name: value for name, value in found.items() if getattr(request, name) is None}
    said = [PLAIN_TEXT.format(report.num_usable, num_tokens), _warning(report)]
    return CountedRows(counted, "; ".join(filter(None, said)))


MARKED = "template_markers"

OTHER = "other_task"
"""Ids of findings of the audit."""

UNMAPPED = "none of the {} rows of the dataset is an example as it is"

NO_REPLIES = (
    "No column of the dataset is recognised as replies: {} are classes, which do not show how to "
    "answer people; ask for an export with the replies."
)


def _mapped(request: ApproachRequest, num_rows: int) -> CountedRows:
    """Return what the mapping that prepare_dataset proposes counts, and what its answers lack.

    Nobody has agreed to that mapping yet: it fills in a number that nobody gave, and refutes none.
    Where a way of answering is asked for and the answers are classes, no row shows it.
    """
    assert request.dataset is not None
    note = UNMAPPED.format(num_rows)
    try:
        made = prepare_dataset(PrepareRequest(path=request.dataset))
    except FineTuningError:
        made = None
    if made is None or not made.counts or not made.mapping.answer_columns:
        return CountedRows(note=f"{note}; prepare_dataset makes examples of them")
    name = COUNTS[made.task]
    num = sum(made.counts.get(part, 0) for part in PARTS)
    note += f"; prepare_dataset makes {num} examples of them under the mapping that it proposes"
    classes = answers_only_classes(made.mapping, made.labels)
    is_manner = not _OF_MANNER.isdisjoint(request.symptoms)
    lacks = NO_REPLIES.format(", ".join(classes)) if classes and is_manner else ""
    are_asked = "classification" in request.symptoms or request.num_classes is not None
    num = 0 if lacks and not are_asked else num
    return CountedRows({name: num} if getattr(request, name) is None else {}, note, lacks)


_OF_MANNER = frozenset({"style", "tone", "structure", "preference"})
"""Symptoms of how people are answered: what shows it is answers that were written."""

PARTS = ("train", "validation", "test")
"""Outcomes of prepare_dataset that are examples."""

MOST_FINDINGS = 3


def _warning(report: AuditReport) -> str:
    """Return what the audit holds against training on all of it, the gravest first."""
    found = [each for each in report.findings if each.severity != "info" and not each.removed]
    if any(each.id == ADDS_FACTS for each in found):
        return f"{ADDS_FACTS}: most of the answers is new information; use retrieval"
    said = ", ".join(f"{each.id} ({each.count:,})" for each in found[:MOST_FINDINGS])
    if not said:
        return ""
    then = (
        "settle it first"
        if any(each.severity == "error" for each in found)
        else "audit_dataset says what helps"
    )
    return f"the audit finds {said} in {report.num_examples:,} rows: {then}"
