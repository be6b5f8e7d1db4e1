"""Facts of a dataset: how many rows train what, their labels, and how much in them is new."""

from ft_tools import workspace
from ft_tools.advice.facts import Facts
from ft_tools.advice.report import Fact
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.split.parts import test_share
from ft_tools.data.tool import audit_if_small
from ft_tools.errors import FineTuningError, NotFound, OutsideWorkspace
from ft_tools.formats.answer_kinds import AnswerKinds
from ft_tools.formats.formats import normalise
from ft_tools.formats.readers.source import find_sources, read
from ft_tools.formats.test_sets import test_part_of
from ft_tools.metrics.sample_size import detectable_effect
from ft_tools.next_steps import next_step

COUNTS = {"sft": "examples", "dpo": "pairs", "kto": "marks"}
"""Task of a dataset -> what its rows are a number of."""

ADDS_FACTS = "answers_add_facts"
MOST_ERRORS = 3
DISCORDANCE = 0.2
"""Fraction of rows on which two systems differ; source: metrics/sample_size.py."""


def dataset_facts(path: str) -> Facts:
    """Return what a dataset shows, or why it was not read, and the call that helps then.

    Raises:
        NotFound: It is not there.
        OutsideWorkspace: It leaves the workspace.
    """
    request = AuditRequest(path=path, near_duplicates="off")
    try:
        report = audit_if_small(request)
    except (NotFound, OutsideWorkspace):
        raise
    except FineTuningError as error:
        return Facts(rows=(_row(path, f"not read: {error}"),))
    if report is None:
        step = next_step("count_dataset", {"path": path})
        return Facts(rows=(_row(path, "too large to count in this call"),), next_steps=(step,))
    if report.detected_format == "text" and report.num_usable:
        tokens = report.tokens.total if report.tokens else 0
        says = f"{report.num_usable:,} rows of text to continue, {tokens:,} tokens, no examples"
        corpus = {"corpus_tokens": float(tokens), "examples": 0.0}
        return Facts(corpus, rows=(_row(path, says),))
    if report.task not in COUNTS or not report.num_usable:
        says = f"{report.num_examples:,} rows, none an example as it is"
        return Facts(rows=(_row(path, says),), next_steps=tuple(report.next_steps[:1]))
    return _examples(path, report)


def _examples(path: str, report: AuditReport) -> Facts:
    """Return the counts of rows that are examples."""
    kind = COUNTS[report.task]
    numbers = {kind: float(report.num_usable)}
    errors = [each for each in report.findings if each.severity == "error"]
    left = [each for each in errors if not each.removed]
    words = {"audit": "errors" if left else "no_errors"}
    says = [f"{report.num_usable:,} usable {kind} of {report.num_examples:,} rows"]
    if report.tokens:
        numbers["tokens"] = float(report.tokens.total)
        says.append(f"{report.tokens.total:,} tokens (estimated)")
    if report.task == "sft":
        classes, rarest = _labels(path)
        words["answers"] = "labels" if classes else "texts"
        numbers |= {"classes": float(classes), "rarest_class": float(rarest)} if classes else {}
        says.append(f"{classes} classes, rarest {rarest} rows" if classes else "answers are texts")
    new = sum(each.count for each in report.findings if each.id == ADDS_FACTS)
    if new:
        share = round(new / report.num_examples, 3)
        numbers["adds_facts"] = share
        says.append(f"{share:.0%} of answers hold names or numbers their prompts lack")
    numbers_of_test, words_of_test, says_of_test = _test_part(path, report.num_usable)
    numbers |= numbers_of_test
    words |= words_of_test
    says.append(says_of_test)
    if errors:
        named = ", ".join(f"{each.id} {each.count}" for each in errors[:MOST_ERRORS])
        says.append(f"errors: {named}" + ("" if left else " (audit_dataset removes them)"))
    return Facts(numbers, words, rows=(_row(path, "; ".join(says)),))


def _test_part(path: str, num_usable: int) -> tuple[dict[str, float], dict[str, str], str]:
    """Return the rows of the test part that a preparation set aside, or would set aside."""
    test = test_part_of(workspace.existing(path))
    if test is not None:
        rows = sum(1 for source in find_sources(test) for _ in read(source))
        effect = detectable_difference(rows)
        numbers = {"test_rows": float(rows), "detectable_difference": effect}
        says = f"its test part {test.name} has {rows} rows, which detect a difference of"
        root = workspace.roots()[0]
        place = test.relative_to(root) if test.is_relative_to(root) else test
        return numbers, {"test_set": str(place)}, f"{says} {effect:.2f}"
    rows = max(1, round(test_share(PrepareRequest(path=path), num_usable) * num_usable))
    effect = detectable_difference(rows)
    numbers = {"test_part_rows": float(rows), "detectable_difference": effect}
    says = f"prepare_dataset would hold out {rows} rows, which detect a difference of {effect:.2f}"
    return numbers, {}, says


def detectable_difference(num_rows: int) -> float:
    """Return the smallest difference of two systems that so many held-out rows show."""
    return round(detectable_effect(num_rows, DISCORDANCE), 3)


def _labels(path: str) -> tuple[int, int]:
    """Return the number of labels of the field with most, and the rows of the rarest; 0 if none."""
    kinds = AnswerKinds()
    for source in find_sources(workspace.existing(path)):
        for row in read(source):
            example = normalise(row.number, row.value)
            if example.messages and not example.problems:
                kinds.add(str(example.messages[-1].get("content") or ""))
    found = kinds.labels.values()
    rarest = min((min(counts.values()) for counts in found), default=0)
    return max(map(len, found), default=0), rarest


def _row(path: str, says: str) -> Fact:
    return Fact(about="dataset", says=says, source=path)
