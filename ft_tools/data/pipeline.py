"""Rows read, mapped, checked, compared and split: what an audit and a preparation both do."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from ft_tools import abandoned_calls, workspace
from ft_tools.data.judge import row_kinds
from ft_tools.data.judge.findings import RULES
from ft_tools.data.map.answer_schema import completed
from ft_tools.data.map.named_columns import require_none
from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.rows import Reader
from ft_tools.data.read.scan import Measure, Scan, Tick
from ft_tools.data.repeats import contradictions, duplicates
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.repeats.near import FindNear, Near, find_lexical, link_prompts
from ft_tools.data.report import Duplicates, Kind
from ft_tools.data.request import AuditRequest, Contradictions, PrepareRequest
from ft_tools.data.split.parts import NO_SPLIT, Shares, Split, split, test_share
from ft_tools.data.understand.lengths import METHOD
from ft_tools.data.write import Part
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
class ProcessedRows:
    """What was read, what is known of its rows together, and what becomes of each."""

    scan: Scan
    task: Kind
    benchmarks: Benchmarks
    near: Near
    groups: list[list[int]]
    """Rows with one prompt and different answers."""
    undecided: list[list[int]]
    """Those of these groups that stay as they are."""
    duplicates: Duplicates
    split: Split
    parts: bytearray
    """Of each row."""
    problems: list[str]
    """What of the mapping has to be decided first."""

    @cached_property
    def counts(self) -> dict[str, int]:
        """Count the rows by outcome: a part, or why they are in none."""
        names = {Part.TRAIN: "train", Part.VALIDATION: "validation", Part.TEST: "test"}
        ledger = self.scan.ledger
        made: Counter[str] = Counter()
        for at, part in enumerate(map(Part, self.parts)):
            made[names.get(part) or ledger.reason_of(at) or "removed"] += 1
        return dict(made.most_common())


def process(
    request: AuditRequest | PrepareRequest,
    methods: Methods,
    limit: int | None = None,
    problems: Sequence[str] = (),
) -> ProcessedRows:
    """Read the rows of a request, and decide what becomes of each.

    Args:
        request: Its mapping is completed.
        methods: What they are read and compared with.
        limit: Rows that are read; None is all.
        problems: What is known to be wrong with the mapping.

    Raises:
        BadData: No row can be read.
        BadInput: An audit's mapping does not fit. What a preparation has to decide it collects.
    """
    validation, benchmark_paths = None, []
    if isinstance(request, AuditRequest):
        validation = request.validation_path and workspace.existing(request.validation_path)
        benchmark_paths = [workspace.existing(name) for name in request.benchmark_paths]
    inputs = (workspace.existing(request.path), validation or None)
    benchmarks = Benchmarks(benchmark_paths)
    with_pairs = methods.with_pairs and request.near_duplicates != "off"
    abandoned_calls.doing("reading the rows")
    scanned = Scan(request, inputs, benchmarks, with_pairs=with_pairs, limit=limit)
    scanned.read(methods.tick, methods.measure)
    problems = [*problems, *scanned.problems()]
    if isinstance(request, AuditRequest):
        require_none(problems)
    _require_rows(request, scanned, problems)
    task = row_kinds.task_of(scanned, request.task if isinstance(request, AuditRequest) else "auto")
    row_kinds.mark_formats(scanned, task)
    ledger = scanned.ledger
    num_exact = duplicates.mark_exact(ledger, scanned.note)
    if validation:
        duplicates.mark_prompt_leaks(ledger, scanned.note)
    abandoned_calls.doing(f"comparing {len(ledger)} examples")
    if isinstance(request, AuditRequest):
        near = methods.find_near(scanned, request)
    else:
        near = link_prompts(scanned) if with_pairs else Near(0, "not looked for")
    groups = contradictions.find(ledger, scanned.note)
    found = Duplicates(
        num_exact=num_exact,
        num_near=near.num_near,
        num_conflicting=sum(map(len, groups)),
        num_conflicting_groups=len(groups),
        num_with_majority=contradictions.num_with_majority(ledger, groups),
        conflicting_groups=lines_of(ledger, groups),
        method=near.method,
    )
    # Which of two answers is better was judged twice, and differently: nobody knows.
    default: Contradictions = "drop" if scanned.mapping.picked else "keep"
    given = request.rules if isinstance(request, PrepareRequest) else [request.contradictions]
    undecided, times = groups, scanned.times_of_rows()
    for rule in given or [default]:
        undecided = contradictions.resolve(ledger, undecided, rule, times, scanned.ranks)
    made = _split(request, scanned, near)
    parts = made.parts(scanned)
    of_all = (benchmarks, near, groups, undecided, found)
    return ProcessedRows(scanned, task, *of_all, made, parts, problems)


def lines_of(ledger: Ledger, groups: list[list[int]]) -> list[list[int]]:
    """Return the lines of the first rows of the first groups."""
    return [[ledger.lines[at] for at in group[:MOST_IN_GROUP]] for group in groups[:MOST_GROUPS]]


def _split(request: AuditRequest | PrepareRequest, scanned: Scan, near: Near) -> Split:
    """Choose the rows that are held out; none if no file is to be split."""
    kept, few = scanned.ledger.kept(validation=False), scanned.num_templated > 0
    if isinstance(request, AuditRequest):
        shares = Shares(request.validation_fraction, seed=request.seed)
        return split(scanned.ledger, kept, shares, few_wordings=few) if request.splits else NO_SPLIT
    share = test_share(request, len(kept))
    return split(
        scanned.ledger,
        kept,
        Shares(request.validation_fraction, share, request.seed),
        few_wordings=few and near.are_prompts_linked and request.near_duplicates == "auto",
        labels=scanned.answer_labels,
        tested=scanned.tested,
        trained=scanned.trained,
        time_of=scanned.times_of_rows() if scanned.mapping.time_column else None,
    )


def with_completed_mapping(request: Request) -> tuple[Request, list[str]]:
    """Return a request with the schema of its answers in the mapping, and what does not fit."""
    if request.mapping is None:
        return request, []
    reader = Reader(request, workspace.existing(request.path))
    mapping, problems = completed(request.mapping, reader)
    return request.model_copy(update={"mapping": mapping}), problems


def _require_rows(
    request: AuditRequest | PrepareRequest, scanned: Scan, problems: Sequence[str]
) -> None:
    """Refuse a file, or a query, of which no row can be read.

    Raises:
        BadData: With the reason of the first row.
        BadInput: The mapping does not fit, which may be why.
    """
    ledger, kinds = scanned.ledger, scanned.kinds
    first = ledger.num_validation
    unreadable = [at for at in range(first, len(ledger)) if kinds[at].format == "unreadable"]
    if first == len(ledger):
        if request.query:
            raise BadData(
                scanned.path, "the query returns no row", "check its tables and conditions"
            )
        cure = "name a file with rows, and a `where` that some rows meet"
        raise BadData(scanned.path, "holds no row", cure)
    if unreadable and len(unreadable) == len(ledger) - first - len(scanned.unlabelled):
        require_none(problems)
        reason = ledger.reason_of(unreadable[0]) or ""
        rule = RULES.get(reason)
        why = f"{reason}: {rule.message}" if rule else reason
        cure = rule.cure if rule else "give JSONL, JSON, CSV or Parquet"
        line = ledger.lines[unreadable[0]]
        raise BadData(scanned.path, f"no row can be read ({why})", cure, line)
    if scanned.validation is None:
        return
    if not first:
        raise BadData(scanned.validation, "holds no row", "name a file with examples")
    # No leak would be found.
    if all(kind.format in row_kinds.NO_EXAMPLE for kind in kinds[:first]):
        fits = "the mapping must fit its columns as well as those of the data"
        cure = fits if request.mapping else "give it the columns that the data has"
        problem = f"no row is an example ({ledger.reason_of(0)})"
        raise BadData(scanned.validation, problem, cure, ledger.lines[0])
