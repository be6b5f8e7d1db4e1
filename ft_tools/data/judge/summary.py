"""Turn what was scanned into the parts of a report: findings, lengths, verdict."""

from array import array
from collections import Counter
from collections.abc import Iterable

from ft_tools.contract import Reason
from ft_tools.data.judge.findings import RULES, SEVERITIES, Severity
from ft_tools.data.judge.sizes import fewest_examples
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.scan import Scan
from ft_tools.data.report import Finding, Kind, SizeVerdict, Tokens, Verdict
from ft_tools.data.request import AuditRequest, Task
from ft_tools.data.split import choose_validation
from ft_tools.data.understand.languages import UNKNOWN
from ft_tools.data.understand.lengths import quantile
from ft_tools.examples.detect import PREFERENCES
from ft_tools.examples.verdict_columns import Column

MAX_CONCISE_FINDINGS = 12
SPLIT_FRACTION = 0.1
FIRST_LINES = 5
# Below these shares a finding is milder: template code has braces, and a few repeats are usual.
MILDER_BELOW: dict[str, tuple[float, Severity]] = {
    "unfilled_placeholder": (0.05, "warning"),
    "repeated_prompt": (0.1, "info"),
    "truncated_answer": (0.02, "info"),
    "refusal": (0.01, "info"),
    "ai_boilerplate": (0.01, "info"),
    "unread_column": (0.1, "info"),
}
# Long answers that each come so often teach texts by heart. Ours.
MANY_ROWS, ROWS_AN_ANSWER, LONG_ANSWER_TOKENS = 500, 50, 16
NO_EXAMPLE = {"unreadable", "unknown"}
# Above this share of contradictions the answers teach chance. Ours.
MAX_CONFLICTING_FRACTION = 0.02
TOO_MANY_REMOVED = "too_many_removed"
"""The id of the reason why nothing is written."""
MIN_SCRIPT_FRACTION = 0.4


def task_of(scan: Scan, asked: Task) -> Kind:
    """Name the task: what was asked, or that of the format most rows have."""
    main = main_format(scan)
    if main == "kto" and asked in {"auto", "dpo"}:
        return "kto"
    if asked == "sft" or asked == "dpo":
        return asked
    return "dpo" if main in PREFERENCES else "sft"


def main_format(scan: Scan) -> str:
    """Name the format that most of the readable rows have, among those of the usual kind."""
    kinds = _kinds(scan)
    usual = max(kinds, key=lambda kind: kinds[kind], default="")
    known = {
        name: count
        for name, count in scan.formats.items()
        if name not in NO_EXAMPLE and _kind_of(name) == usual
    }
    return max(known, key=lambda name: known[name]) if known else "unknown"


def _kinds(scan: Scan) -> "Counter[str]":
    """Count the examples of each kind."""
    kinds: Counter[str] = Counter()
    for name, count in scan.formats.items():
        if name not in NO_EXAMPLE:
            kinds[_kind_of(name)] += count
    return kinds


def _kind_of(name: str) -> str:
    """Name what a trainer must not find mixed in a file: conversations, texts, pairs or marks."""
    if name in {"text", "kto"}:
        return name
    return "dpo" if name in PREFERENCES else "chat"


def mark_formats(scan: Scan, task: str) -> None:
    """Remove rows of another task, and note those of another format or a minority script."""
    main = main_format(scan)
    kinds = _kinds(scan)
    plain_or_chat = "text" if kinds["text"] > kinds["chat"] else "chat"
    wanted = plain_or_chat if task == "sft" else task
    top = max(scan.scripts.values(), default=0)
    minority = {name for name, count in scan.scripts.items() if count < MIN_SCRIPT_FRACTION * top}
    spoken = scan.variety.languages
    others = {
        name
        for name, count in spoken.items()
        if name != UNKNOWN and count < MIN_SCRIPT_FRACTION * max(spoken.values())
    }
    for index in range(len(scan.ledger)):
        name = scan.format_names[scan.format_of[index]]
        if name in NO_EXAMPLE:
            continue
        if _kind_of(name) != wanted:
            scan.note("other_task", index)
            scan.ledger.remove(index, "other_task")
        elif name != main:
            scan.note("mixed_formats", index)
        if minority and scan.script_names[scan.script_of[index]] in minority:
            scan.note("script_mix", index)
        elif others and scan.language_names[scan.language_of[index]] in others:
            scan.note("language_mix", index)


def mark_lengths(scan: Scan, max_length: int) -> None:
    """Note the kept examples that are longer than max_length."""
    for index, tokens in enumerate(scan.ledger.tokens):
        if tokens > max_length and not scan.ledger.removal[index]:
            scan.note("over_max_length", index)
            if tokens - scan.ledger.answer_tokens[index] >= max_length:
                scan.note("answer_cut_off", index)


def findings_of(scan: Scan, request: AuditRequest) -> list[Finding]:
    """Return every finding, errors first and the most frequent first among equals."""
    findings = []
    ledger = scan.ledger
    for name, indices in scan.found.items():
        ordered = array("Q", sorted(set(indices)))
        for in_validation in (False, True):
            part = [at for at in ordered if (at < ledger.num_validation) == in_validation]
            if part:
                findings.append(_finding(scan, request, name, part, in_validation))
    findings = [
        finding.model_copy(update={"columns": scan.fields.with_empty()[:10]})
        if finding.id == "empty_json_value" and not finding.in_validation
        else finding
        for finding in findings
    ]
    names, rare = scan.fields.imbalanced()
    if names:
        findings.append(_of_fields(scan, names, rare))
    findings += [_about_column(scan, column) for column in undecided(scan, request)]
    for name, count in [
        *scan.pairs.findings(),
        *scan.variety.findings(),
        *scan.added_facts.findings(),
        *_few_answers(scan),
    ]:
        findings.append(
            Finding(
                id=name,
                severity=RULES[name].severity,
                count=count,
                fraction=round(count / max(1, len(ledger) - ledger.num_validation), 4),
                lines=[],
                removed=False,
                cure=RULES[name].cure,
                source=RULES[name].source,
            )
        )
    if any(source.has_bom for source, _ in scan.files):
        count = sum(source.has_bom for source, _ in scan.files)
        rule = RULES["byte_order_mark"]
        findings.append(
            Finding(
                id="byte_order_mark",
                severity=rule.severity,
                count=count,
                fraction=0.0,
                lines=[],
                removed=False,
                cure=rule.cure,
            )
        )
    return sorted(
        findings,
        key=lambda f: (SEVERITIES.index(f.severity), -f.count, f.id, bool(f.in_validation)),
    )


def _few_answers(scan: Scan) -> list[tuple[str, int]]:
    """Return `few_answers` with the rows it is about, where long answers come again and again.

    Short ones are labels, and JSON objects have fields of classes.
    """
    ledger = scan.ledger
    kept = ledger.kept(validation=False)
    num_json = max((sum(counts.values()) for counts in scan.fields.values.values()), default=0)
    if len(kept) < MANY_ROWS or 2 * num_json > len(kept):
        return []
    answers = Counter(ledger.answer[at] for at in kept)
    lengths = sorted(ledger.answer_tokens[at] for at in kept)
    is_few = ROWS_AN_ANSWER * len(answers) <= len(kept)
    if not is_few or quantile(lengths, 0.5) < LONG_ANSWER_TOKENS:
        return []
    return [("few_answers", len(kept))]


def undecided(scan: Scan, request: AuditRequest) -> list[Column]:
    """Return the columns that somebody has to decide about.

    Where no format is known, any column may be what is asked or answered: only those that look like
    verdicts are.
    """
    columns = scan.unread.asked(request.verdicts)
    is_known = main_format(scan) not in NO_EXAMPLE
    return [column for column in columns if is_known or column.kind == "verdict"]


def _of_fields(scan: Scan, names: list[str], count: int) -> Finding:
    """Report fields of JSON answers whose classes are out of balance."""
    rule = RULES["label_imbalance"]
    total = len(scan.ledger) - scan.ledger.num_validation
    return Finding(
        id="label_imbalance",
        severity=rule.severity,
        count=count,
        fraction=round(min(1.0, count / max(1, total)), 4),
        lines=[],
        removed=False,
        cure=rule.cure,
        columns=names[:10],
    )


def _about_column(scan: Scan, column: Column) -> Finding:
    """Ask what a column means that may say which rows are bad."""
    rule = RULES["verdict_column"]
    total = len(scan.ledger) - scan.ledger.num_validation
    return Finding(
        id="verdict_column",
        severity=rule.severity,
        count=column.num_rows,
        fraction=round(column.num_rows / max(1, total), 4),
        lines=column.bad_rows(),
        removed=False,
        cure=rule.cure,
        columns=[column.shown_name],
    )


def _finding(
    scan: Scan, request: AuditRequest, name: str, indices: list[int], in_validation: bool
) -> Finding:
    rule = RULES[name]
    total = scan.ledger.num_validation
    total = total if in_validation else len(scan.ledger) - total
    if name == "conflicting_targets":
        # As the verdict counts: of what stays. A rule that was chosen leaves only what it removed.
        is_open = request.contradictions == "keep"
        total = len(scan.ledger.kept(validation=False)) if is_open else total
        indices = [at for at in indices if is_open or scan.ledger.removal[at]]
    fraction = len(indices) / total
    limit, mild = MILDER_BELOW.get(name, (0.0, rule.severity))
    detailed = request.response_format == "detailed"
    first = request.offset if detailed else 0
    page = indices[first : first + (request.limit if detailed else FIRST_LINES)]
    return Finding(
        id=name,
        severity=mild if fraction < limit else rule.severity,
        count=len(indices),
        fraction=round(fraction, 4),
        lines=[scan.ledger.lines[index] for index in page],
        removed=all(scan.ledger.removal[index] for index in indices),
        cure=rule.cure,
        source=rule.source,
        in_validation=in_validation or None,
    )


def tokens_of(ledger: Ledger, max_length: int, method: str) -> Tokens | None:
    """Summarise the lengths of the kept training examples."""
    kept = ledger.kept(validation=False)
    if not kept:
        return None
    whole = sorted(ledger.tokens[index] for index in kept)
    answers = sorted(ledger.answer_tokens[index] for index in kept)
    cut = [index for index in kept if ledger.tokens[index] > max_length]
    return Tokens(
        method=method,
        p05=quantile(whole, 0.05),
        p50=quantile(whole, 0.5),
        p95=quantile(whole, 0.95),
        max=whole[-1],
        total=sum(whole),
        answer_p50=quantile(answers, 0.5),
        max_length=max_length,
        num_truncated=len(cut),
        num_without_answer=sum(
            ledger.tokens[index] - ledger.answer_tokens[index] >= max_length for index in cut
        ),
    )


def judge(
    scan: Scan,
    findings: Iterable[Finding],
    request: AuditRequest,
    size: SizeVerdict,
    task: Kind,
) -> tuple[Verdict, list[Reason]]:
    """Decide whether the data is ready for its purpose, and why not."""
    ledger = scan.ledger
    total = len(ledger) - ledger.num_validation
    usable = len(ledger.kept(validation=False))
    # What a person decided to leave out is no surprise.
    expected = total - removed_by(ledger).get("marked_bad", 0)
    removed = 1 - usable / expected if expected else 1.0
    reasons = _missing(scan, request, size, task) if request.purpose == "train" else []
    if removed > request.max_removed_fraction:
        reasons.append(
            Reason(
                id=TOO_MANY_REMOVED,
                rule="more than max_removed_fraction would be removed",
                observed=round(removed, 4),
                threshold=request.max_removed_fraction,
                source="ft_tools/data/request.py",
            )
        )
    reasons += [
        Reason(
            id=finding.id,
            rule=f"{finding.id} needs a person",
            observed=finding.count,
            threshold=0,
            source=finding.source or "ft_tools/data/judge/findings.py",
        )
        for finding in findings
        if finding.severity == "error" and not RULES[finding.id].removes
    ]
    if reasons:
        return "not_ready", reasons
    return ("ready_after_cleaning" if usable < total else "ready"), []


def _missing(scan: Scan, request: AuditRequest, size: SizeVerdict, task: Kind) -> list[Reason]:
    """Say what a training needs and this data lacks: examples, a validation part, agreement."""
    ledger = scan.ledger
    kept = ledger.kept(validation=False)
    reasons = []
    fewest, source = fewest_examples(task)
    if all(verdict == "too_few" for verdict in size.goals.values()):
        reasons.append(
            Reason(
                id="too_few_for_any_goal",
                rule="usable examples for any goal; collect more, or put these into the prompt",
                observed=len(kept),
                threshold=fewest,
                source=source,
            )
        )
    is_given = request.validation_path is not None
    if kept and not is_given and not _can_split(scan, kept, request):
        reasons.append(
            Reason(
                id="no_validation_part",
                rule="examples that can be held out; all ask the same or nearly so, so give "
                "examples "
                "of your own as validation_path",
                observed=0,
                threshold=1,
                source="https://huggingface.co/docs/transformers/main_classes/callback#transformers.EarlyStoppingCallback",
            )
        )
    left = sum(not ledger.removal[at] for at in scan.found.get("conflicting_targets", ()))
    fraction = left / max(1, len(kept))
    if request.contradictions == "keep" and fraction > MAX_CONFLICTING_FRACTION:
        reasons.append(
            Reason(
                id="contradictions",
                rule="share of examples whose prompt has different answers; choose one with "
                "contradictions='majority', 'latest' or 'drop'",
                observed=round(fraction, 4),
                threshold=MAX_CONFLICTING_FRACTION,
                source="ft_tools/data/judge/summary.py",
            )
        )
    return reasons


def _can_split(scan: Scan, kept: list[int], request: AuditRequest) -> bool:
    """Tell whether a part can be held out of which nothing, or nothing similar, is trained."""
    fraction = request.validation_fraction or SPLIT_FRACTION
    return bool(choose_validation(scan.ledger, kept, fraction, request.seed))


def unread_of(scan: Scan) -> "Counter[str]":
    """Count the rows of the data that are no example, by why."""
    ledger = scan.ledger
    return Counter(
        ledger.reason_of(at) or ""
        for at in range(ledger.num_validation, len(ledger))
        if scan.format_names[scan.format_of[at]] in NO_EXAMPLE
    )


def removed_by(ledger: Ledger) -> dict[str, int]:
    """Count the rows that are left out by their reason, the most frequent first."""
    reasons = Counter(ledger.reason_of(at) for at in range(ledger.num_validation, len(ledger)))
    return {name: count for name, count in reasons.most_common() if name is not None}


def too_much_removed(reasons: Iterable[Reason]) -> bool:
    """Tell whether more examples would be removed than `max_removed_fraction` allows."""
    return any(reason.id == TOO_MANY_REMOVED for reason in reasons)


def is_undecided(reasons: Iterable[Reason]) -> bool:
    """Tell whether a column may mark bad rows and nobody said what to do with it."""
    return any(reason.id == "verdict_column" for reason in reasons)
