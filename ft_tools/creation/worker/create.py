"""Make a dataset as planned: ask what is missing, check, compare with test rows, audit, write."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.asking import is_priced, prompts_of
from ft_tools.creation.documents import UNANSWERABLE
from ft_tools.creation.findings import refusal, sentence, warning
from ft_tools.creation.leaks import TestQuestions, with_copies
from ft_tools.creation.page import creation_page
from ft_tools.creation.pilots import CALLS, JUDGES, agreement, read_marked
from ft_tools.creation.plan import MADE_AT_ONCE, CreatePlan, content_sha256, quoted_rows
from ft_tools.creation.report import CreatedFiles, CreateReport
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.requests import Requests, hashes_of
from ft_tools.creation.rows import GROUP, Made, MadeRow
from ft_tools.creation.worker.checking import DROPPED, rows_of, write_lines
from ft_tools.creation.worker.teacher import ask
from ft_tools.data.audit import perform
from ft_tools.data.judge.next_steps import launch_on
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.pipeline import Methods
from ft_tools.data.repeats.near import find_lexical
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.endpoints.budget import spent_in
from ft_tools.errors import PlanChanged
from ft_tools.formats.origin import FILE as ORIGINS
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.next_steps import next_step
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.similarity.minilm import find_minilm
from ft_tools.similarity.words import JACCARD, jaccard, tokens_of

MADE, MARK = "made.jsonl", "creation.json"
"""In the run: the rows as the audit reads them. In the folder: its run."""


def work(session: Session) -> CreateReport:
    """Make the rows that request.json asks for; a pilot only reports."""
    request, plan = session.request(CreateRequest), session.plan(CreatePlan)
    path = workspace.existing(request.source)
    test = workspace.existing(request.test) if request.test else None
    marks = workspace.existing(request.marks) if request.marks else None
    planned = {path: plan.source_sha256, test: plan.test_sha256, marks: plan.marks_sha256}
    for file, digest in planned.items():
        if file is not None and content_sha256(file) != digest:
            raise _changed(str(file))
    if plan.asking and plan.asking.files_sha256 != hashes_of(request):
        raise _changed("a file that the teacher or a check reads")
    if request.teacher is None or plan.asking is None:
        session.phase("making rows")
        made = MADE_AT_ONCE[request.kind](request, path, plan.source_sha256)
    else:
        used = prompts_of(request, path, test)[0][: plan.asking.num_prompts]
        requests = Requests(request, request.teacher, plan.asking.model)
        if plan.pilot and request.marked:
            _compare_judges(session, request, request.marked)
        replies = ask(session, plan, requests, used)
        made = rows_of(session, plan, requests, used, replies)
        spent = spent_in(session.run_dir / CALLS)
        usd = sum(spent.values()) if is_priced(requests.request, plan.asking.price) else None
        made = replace(made, usd=usd, num_calls=len(spent))
    if test is not None:
        made = _without_leaks(session, test, request.test_similarity, made)
    return _report(session, request, plan, made)


def _changed(what: str) -> PlanChanged:
    return PlanChanged(f"{what} changed since the plan was confirmed; call create_dataset again")


def _compare_judges(session: Session, request: CreateRequest, marked: str) -> None:
    """Write how far each judge agrees with the rows that the user marked."""
    questions, answers, marks = zip(*read_marked(workspace.existing(marked)), strict=True)
    rows, found = [{"prompt": question, "answer": ""} for question in questions], {}
    for name, judge in request.judges.items():
        session.phase(f"comparing {name} with the marked rows")
        named = judge.model_copy(update={"name": name})
        with Scorer([named], session.run_dir, request.budget_usd) as scorer:
            totals = [one.total for one in scorer.score(rows, answers)]
        verdicts = [None if total is None else total == 1 for total in totals]
        found[name] = agreement(marks, verdicts).model_dump()
    write_file(session.run_dir / JUDGES, json.dumps(found))


def _without_leaks(session: Session, test: Path, cosine: float, made: Made) -> Made:
    """Leave out the rows that test rows ask, by their words and by their meaning."""
    session.phase("comparing with test rows")
    held, dropped = TestQuestions(test), made.dropped.copy()
    rows = _without(made.rows, held.holding(made.rows), dropped, "test_question")
    minilm = find_minilm()
    if minilm is not None and rows and cosine < 1:
        is_near = _paraphrases(session, minilm, rows, held.questions, cosine)
        rows = _without(rows, with_copies(rows, is_near), dropped, "test_paraphrase")
    return replace(made, rows=rows, dropped=dropped)


def _without(
    rows: Sequence[MadeRow], held: Sequence[bool], dropped: Counter[str], why: str
) -> list[MadeRow]:
    """Return the rows that are not held out, and count the others."""
    if any(held):
        dropped[why] += sum(held)
    return [row for row, is_held in zip(rows, held, strict=True) if not is_held]


def _paraphrases(
    session: Session, minilm: Path, rows: Sequence[MadeRow], known: Sequence[str], cosine: float
) -> list[bool]:
    """Return which rows ask by meaning what a known question asks."""
    # Their import takes seconds.
    from ft_tools.data.worker.near_by_meaning import BENCHMARK_BELOW
    from ft_tools.similarity.token_store import Column
    from ft_tools.similarity.worker.by_meaning import near_known
    from ft_tools.similarity.worker.minilm import MiniLM

    def tick(done: int, total: int) -> None:
        if session.should_stop:
            raise Stopped
        session.progress(done, total)

    model = MiniLM(minilm, tick)
    asked = [(at, text) for at, row in enumerate(rows) for text in row.questions]
    column = Column(*model.store([text for _, text in asked]))
    near = near_known(model, column, known, cosine, BENCHMARK_BELOW)
    found = {at for (at, _), number in zip(asked, column.numbers, strict=True) if near[number]}
    return [at in found for at in range(len(rows))]


def _report(session: Session, request: CreateRequest, plan: CreatePlan, made: Made) -> CreateReport:
    """Publish the files, unless it is a pilot; write the page and return the report.

    Raises:
        Refused: No row is left.
    """
    if plan.pilot:
        whole = request.model_dump(
            mode="json", exclude_defaults=True, exclude={"confirm", "request_id"}
        )
        said = sentence("pilot", kept=len(made.rows), asked=made.num_asked)
        results: dict[str, Any] = {"summary": [said]}
        results["next_steps"] = [next_step("create_whole", whole)]
    else:
        results = _published(session, request, made)
    report = CreateReport(
        kind=request.kind,
        pilot=plan.pilot,
        num_asked=made.num_asked,
        num_kept=len(made.rows),
        dropped=dict(made.dropped.most_common()),
        log=made.log,
        makers=dict(Counter(row.origin.maker for row in made.rows).most_common()),
        usd=made.usd,
        num_calls=made.num_calls,
        quoted=quoted_rows(made.rows),
        warnings=[*plan.warnings, *made.warnings, *results.pop("warnings", [])],
        **results,
    )
    html = creation_page(report, made.rows, session.run_dir / DROPPED)
    write_file(session.run_dir / "report.html", html)
    return report


def _published(session: Session, request: CreateRequest, made: Made) -> dict[str, Any]:
    """Publish the files, and return what the report says of them."""
    if not made.rows:
        listed = ", ".join(f"{count} {why}" for why, count in made.dropped.most_common())
        kept_in = str(session.run_dir / DROPPED)
        raise refusal("nothing_made", total=made.num_asked, counts=listed, kept_in=kept_in)
    session.phase("auditing")
    audit = _audited(session, request, made)
    assert audit.outputs is not None
    folder = Path(audit.outputs.folder)
    session.artifact("dataset", folder)
    outputs = CreatedFiles(**audit.outputs.model_dump(), origin=str(folder / ORIGINS))
    numbers = {"kept": len(made.rows), "asked": made.num_asked}
    numbers |= {"train": outputs.num_train, "validation": outputs.num_validation}
    validation = outputs.validation if outputs.num_validation else None
    steps = [
        next_step("read_made", {"path": outputs.train, "lines": ["1-10"]}),
        launch_on(outputs.train, validation, "sft", None),
    ]
    if request.test:
        steps.append(next_step("measure_made", {"dataset": request.test}))
    found = {"summary": [sentence("made", **numbers)], "findings": audit.findings}
    if request.validation_fraction and validation is None:
        num_groups = len({row.group for row in made.rows})
        about = {"fraction": request.validation_fraction, "groups": num_groups}
        found["warnings"] = [warning("validation_empty", **about)]
    return found | {"outputs": outputs, "next_steps": steps}


def _audited(session: Session, request: CreateRequest, made: Made) -> AuditReport:
    """Return the audit of the rows, whose files are published; of an earlier attempt, as it was."""
    folder = workspace.resolve(request.output_dir or "")
    mark = {"run_id": session.run_dir.name}
    if (folder / MARK).is_file() and json.loads((folder / MARK).read_bytes()) == mark:
        return AuditReport.model_validate_json((folder / "report.json").read_bytes())
    path = session.run_dir / MADE
    write_lines(path, [{**row.row, GROUP: row.group} for row in made.rows])

    def write_origins(staging: Path) -> None:
        origins = {row.key: row.origin for row in made.rows}
        lines = [
            {"row": key} | one.model_dump(mode="json", exclude_defaults=True)
            for key, one in origins.items()
        ]
        write_lines(staging / ORIGINS, lines)
        write_file(staging / MARK, json.dumps(mark))

    # Logs hold an answer each time that something was asked.
    several = request.keep_per_prompt > 1 or request.kind == "traces"
    audited = AuditRequest(
        path=str(path),
        mapping=ColumnMapping(group_by=[GROUP], ignore=["*"]),
        # Copies of one row are alike by design, and stay in one part.
        near_duplicates="off" if request.variations else "lexical",
        contradictions="keep" if several else "drop",
        personal_data="keep",
        validation_fraction=request.validation_fraction,
        max_removed_fraction=1,
        seed=request.seed,
        output_dir=request.output_dir,
    )
    find_near = partial(find_lexical, differ=partial(_differ, made.rows))
    return perform(audited, Methods(find_near=find_near, write_beside=write_origins))


def _differ(rows: Sequence[MadeRow], line: int, other: int) -> bool:
    """Return whether one of two rows is unanswerable, and they ask something else.

    They share answer and passage by design, so these say nothing.
    """
    two = rows[line - 1], rows[other - 1]
    if all(row.origin.change != UNANSWERABLE for row in two):
        return False
    asked = [tokens_of(row.question) for row in two]
    pairs = [set(map(hash, pairwise(words))) for words in asked]
    return asked[0] != asked[1] and jaccard(*pairs) < JACCARD


if __name__ == "__main__":
    main(work)
