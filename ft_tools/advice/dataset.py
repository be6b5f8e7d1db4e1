"""Facts of a dataset: how many rows train what, their labels, and how much in them is new."""

from collections import Counter

from ft_tools import workspace
from ft_tools.advice.facts import Facts, one_fact
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.split.parts import test_share
from ft_tools.data.tool import audit_if_small
from ft_tools.errors import FineTuningError, NotFound, OutsideWorkspace
from ft_tools.formats.answer_kinds import AnswerKinds
from ft_tools.formats.formats import normalise
from ft_tools.formats.readers.source import find_sources, read
from ft_tools.metrics.verdicts import detectable_effect
from ft_tools.next_steps import next_step
from ft_tools.runs.state.training_run import unseen_file

COUNTS = {"sft": "examples", "dpo": "pairs", "kto": "marks"}
"""Task of a dataset -> what its rows are a number of."""

ADDS_FACTS = "answers_add_facts"
MOST_ERRORS = 3
DISCORDANCE = 0.2
"""Fraction of rows on which two systems differ; source: metrics/verdicts.py."""


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
        return one_fact("dataset", f"not read: {error}", path)
    if report is None:
        steps = (next_step("count_dataset", {"path": path}),)
        return one_fact("dataset", "too large to count in this call", path, next_steps=steps)
    tokens = report.tokens.total if report.tokens else 0
    if report.detected_format == "text" and report.num_usable:
        says = f"{report.num_usable:,} rows of text to continue, {tokens:,} tokens, no examples"
        return one_fact(
            "dataset", says, path, numbers={"corpus_tokens": float(tokens), "examples": 0.0}
        )
    if report.task not in COUNTS or not report.num_usable:
        says = f"{report.num_examples:,} rows, none an example as it is"
        return one_fact("dataset", says, path, next_steps=tuple(report.next_steps[:1]))
    return _examples(path, report, tokens)


def _examples(path: str, report: AuditReport, tokens: int) -> Facts:
    """Return the counts of rows that are examples."""
    kind = COUNTS[report.task]
    errors = [each for each in report.findings if each.severity == "error"]
    is_clean = all(each.removed for each in errors)
    numbers = {kind: float(report.num_usable)}
    words = {"audit": "no_errors" if is_clean else "errors"}
    says = [f"{report.num_usable:,} usable {kind} of {report.num_examples:,} rows"]
    if tokens:
        numbers["tokens"] = float(tokens)
        says.append(f"{tokens:,} tokens (estimated)")
    if report.task == "sft":
        sizes = _label_sizes(path)
        words["answers"] = "labels" if sizes else "texts"
        if sizes:
            numbers |= {"classes": float(len(sizes)), "rarest_class": float(min(sizes))}
        shown = f"{len(sizes)} classes, rarest {min(sizes)} rows" if sizes else "answers are texts"
        says.append(shown)
    if new := sum(each.count for each in report.findings if each.id == ADDS_FACTS):
        numbers["adds_facts"] = round(new / report.num_examples, 3)
        share = numbers["adds_facts"]
        says.append(f"{share:.0%} of answers hold names or numbers their prompts lack")
    test = unseen_file([workspace.existing(path)])
    if test is not None:
        rows, name = sum(1 for source in find_sources(test) for _ in read(source)), "test_rows"
        root = workspace.roots()[0]
        words["test_set"] = str(test.relative_to(root) if test.is_relative_to(root) else test)
        said = f"its test part {test.name} has"
    else:
        share = test_share(PrepareRequest(path=path), report.num_usable)
        rows, name = max(1, round(share * report.num_usable)), "test_part_rows"
        said = "prepare_dataset would hold out"
    effect = detectable_difference(rows)
    numbers |= {name: float(rows), "detectable_difference": effect}
    says.append(f"{said} {rows} rows, which detect a difference of {effect:.2f}")
    if errors:
        named = ", ".join(f"{each.id} {each.count}" for each in errors[:MOST_ERRORS])
        says.append(f"errors: {named}" + (" (audit_dataset removes them)" if is_clean else ""))
    return one_fact("dataset", "; ".join(says), path, numbers=numbers, words=words)


def detectable_difference(num_rows: int) -> float:
    """Return the smallest difference of two systems that so many held-out rows show."""
    return round(detectable_effect(num_rows, DISCORDANCE), 3)


def _label_sizes(path: str) -> list[int]:
    """Return the rows of each label of the field with most; none where answers are texts."""
    kinds = AnswerKinds()
    for source in find_sources(workspace.existing(path)):
        for row in read(source):
            example = normalise(row.number, row.value)
            if example.messages and not example.problems:
                kinds.add(str(example.messages[-1].get("content") or ""))
    most = max(kinds.labels.values(), key=len, default=Counter[str]())
    return list(most.values())
