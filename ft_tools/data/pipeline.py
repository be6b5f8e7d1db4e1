"""Rows read, mapped, checked and compared: what an audit and a preparation have in common."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ft_tools import abandoned_calls, workspace
from ft_tools.data.judge import row_kinds
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.mapping import Picked
from ft_tools.data.map.named_columns import completed
from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.scan import Measure, Tick, scan
from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.repeats.near import FindNear, Near, find_lexical, link_prompts
from ft_tools.data.report import Duplicates, Kind
from ft_tools.data.request import AuditRequest, Contradictions, PrepareRequest
from ft_tools.data.understand.lengths import METHOD
from ft_tools.errors import BadData

Request = TypeVar("Request", AuditRequest, PrepareRequest)
MOST_GROUPS, MOST_IN_GROUP = 5, 5
"""Of contradictions, whose lines a report names."""


@dataclass(frozen=True)
class Methods:
    """What rows are read with: plain Python at once, models in a worker."""

    find_near: FindNear = find_lexical
    with_pairs: bool = True
    measure: Measure = lengths_of
    token_method: str = METHOD
    token_notes: Callable[[], list[str]] = list
    """What counting showed about the tokenizer and its template; asked after the scan."""
    tick: Tick = lambda _: None
    named_model: str | None = None
    """The model that was asked for, if it is not here: the next calls name it."""
    page_to: Path | None = None
    """Where the page is written besides the output folder."""
    write_beside: Callable[[Path], None] = lambda _: None
    """Writes what belongs to the rows into the folder, before it is published."""


@dataclass(frozen=True)
class ComparedRows:
    """What was read, and what is known of its rows together."""

    scan: Scan
    task: Kind
    benchmarks: Benchmarks
    near: Near
    groups: list[list[int]]
    """Rows with one prompt and different answers."""
    duplicates: Duplicates
    num_kept: int
    """Rows before contradictions were resolved."""
    num_open: int
    """Rows of contradictions that nothing decided."""
    partner: dict[int, int]
    """Of a pair made of marked answers: the index of the later row -> that of the earlier one."""


def read_and_compare(
    request: AuditRequest | PrepareRequest, methods: Methods, limit: int | None = None
) -> ComparedRows:
    """Read the rows of a request, and decide which of them stay.

    Args:
        request: Its mapping is completed.
        methods: What they are read and compared with.
        limit: Rows that are read; None is all.

    Raises:
        BadData: No row can be read.
        BadInput: The mapping does not fit.
    """
    is_audit = isinstance(request, AuditRequest)
    validation, benchmark_paths = None, []
    if isinstance(request, AuditRequest):
        validation = request.validation_path and workspace.existing(request.validation_path)
        benchmark_paths = [workspace.existing(name) for name in request.benchmark_paths]
    inputs = (workspace.existing(request.path), validation or None)
    benchmarks = Benchmarks(benchmark_paths)
    with_pairs = methods.with_pairs and request.near_duplicates != "off"
    abandoned_calls.doing("reading the rows")
    scanned = scan(
        request,
        inputs,
        benchmarks,
        methods.tick,
        methods.measure,
        with_pairs=with_pairs,
        limit=limit,
    )
    _require_rows(request, scanned)
    task = row_kinds.task_of(scanned, request.task if isinstance(request, AuditRequest) else "auto")
    row_kinds.mark_formats(scanned, task)
    ledger = scanned.ledger
    num_exact = duplicates.mark_exact(ledger, scanned.note)
    if validation:
        duplicates.mark_prompt_leaks(ledger, scanned.note)
    partner: dict[int, int] = {}
    marks = scanned.mapping.marks
    if not is_audit and marks is not None and marks.pairs:
        # Copies went before pairs are made, or the partner of one would go with it.
        partner, task = _pair(scanned), "dpo"
    abandoned_calls.doing(f"comparing {len(ledger)} examples")
    if isinstance(request, AuditRequest):
        near = methods.find_near(scanned, request)
    else:
        near = link_prompts(scanned) if with_pairs else Near(0, "not looked for")
    groups = contradictions.find(ledger, scanned.note)
    num_kept = len(ledger.kept(validation=False))
    found = Duplicates(
        num_exact=num_exact,
        num_near=near.num_near,
        num_conflicting=sum(map(len, groups)),
        num_conflicting_groups=len(groups),
        num_with_majority=contradictions.num_with_majority(ledger, groups),
        conflicting_groups=[
            [ledger.lines[at] for at in group[:MOST_IN_GROUP]] for group in groups[:MOST_GROUPS]
        ],
        method=near.method,
    )
    # Which of two answers is better was judged twice, and differently: nobody knows.
    default: Contradictions = "drop" if isinstance(scanned.mapping.chosen, Picked) else "keep"
    left = groups
    for rule in request.rules or [default]:
        left = contradictions.resolve(ledger, left, rule, scanned.times_of_rows(), scanned.ranks)
    num_open = sum(map(len, left))
    return ComparedRows(scanned, task, benchmarks, near, groups, found, num_kept, num_open, partner)


def with_completed_mapping(request: Request) -> Request:
    """Return a request whose mapping is known to fit the file, with the schema of its answers.

    Raises:
        BadInput: It names a column that the file does not have.
    """
    if request.mapping is None:
        return request
    reader = Reader(request, workspace.existing(request.path))
    return request.model_copy(update={"mapping": completed(request.mapping, reader)})


def _require_rows(request: AuditRequest | PrepareRequest, scanned: Scan) -> None:
    """Refuse a file, or a query, of which no row can be read.

    Raises:
        BadData: With the reason of the first row.
    """
    (path, validation), ledger = scanned.inputs, scanned.ledger
    first, total = ledger.num_validation, len(ledger) - ledger.num_validation
    if not total:
        if request.query:
            raise BadData(path, "the query returns no row", "check its tables and conditions")
        cure = "name a file with rows, and a `where` that some rows meet"
        raise BadData(path, "holds no row", cure)
    unreadable = [
        at for at in range(first, len(ledger)) if scanned.kind_at(at).format == "unreadable"
    ]
    if unreadable and len(unreadable) == total - len(scanned.unlabelled):
        reason = ledger.reason_of(unreadable[0]) or ""
        rule = RULES.get(reason)
        why = f"{reason}: {rule.message}" if rule else reason
        cure = rule.cure if rule else "give JSONL, JSON, CSV or Parquet"
        raise BadData(path, f"no row can be read ({why})", cure, ledger.lines[unreadable[0]])
    if validation is None:
        return
    if not first:
        raise BadData(validation, "holds no row", "name a file with examples")
    if all(scanned.kind_at(at).format in row_kinds.NO_EXAMPLE for at in range(first)):
        # No leak would be found.
        cure = "give it the columns that the data has"
        if request.mapping:
            cure = "the mapping must fit its columns as well as those of the data"
        problem = f"no row is an example ({ledger.reason_of(0)})"
        raise BadData(validation, problem, cure, ledger.lines[0])


def _pair(scanned: Scan) -> dict[int, int]:
    """Put each bad answer with a good one to the same prompt; the later row holds the pair.

    An answer that is marked good and bad, on different rows, is in no pair.
    """
    ledger = scanned.ledger
    partner: dict[int, int] = {}
    kept = ledger.kept(validation=False)
    marks: dict[tuple[int, int], set[int]] = defaultdict(set)
    for at in kept:
        marks[ledger.prompt[at], ledger.answer[at]].add(ledger.label[at])
    waiting: dict[tuple[int, int], deque[int]] = defaultdict(deque)
    for at in kept:
        mark, prompt = ledger.label[at], ledger.prompt[at]
        if len(marks[prompt, ledger.answer[at]]) > 1:
            ledger.remove(at, "same_answer_good_and_bad")
        elif others := waiting[prompt, 1 - mark]:
            partner[at] = others.popleft()
            ledger.remove(partner[at], "in_a_pair")
            # The pair holds both rows: with what belongs to either it stays in one part.
            ledger.link(at, partner[at])
        else:
            waiting[prompt, mark].append(at)
    for left in waiting.values():
        for at in left:
            ledger.remove(at, "no_partner")
    return partner
