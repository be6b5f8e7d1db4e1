"""Make a dataset as planned: ask what is missing, check, compare with test rows, audit, write."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.asking import is_priced
from ft_tools.creation.documents import UNANSWERABLE
from ft_tools.creation.findings import refusal, sentence, warning
from ft_tools.creation.leaks import TestQuestions, drop
from ft_tools.creation.page import creation_page
from ft_tools.creation.pilots import CALLS, JUDGES, read_marked
from ft_tools.creation.plan import MADE_AT_ONCE, CreatePlan, hashes_of
from ft_tools.creation.prompts import ASKINGS
from ft_tools.creation.report import CreatedFiles, CreateReport
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import DROPPED, GROUP, Made, Row, quoted_rows, write_lines
from ft_tools.creation.worker.checking import compare_judges, rows_of
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
    files, path = hashes_of(request), workspace.existing(request.source)
    if changed := [name for name in files if files[name] != plan.files_sha256.get(name)]:
        raise PlanChanged(
            f"{', '.join(changed)} changed since the plan was confirmed; call create_dataset again"
        )
    test = workspace.existing(request.test) if request.test else None
    if request.teacher is None or plan.asking is None:
        session.phase("making rows")
        made = MADE_AT_ONCE[request.kind](request, path, files[request.source])
    else:
        asking = ASKINGS[request.kind](request, request.teacher, plan.asking.model)
        prompts = asking.drawn(path, test)[0][: plan.asking.num_prompts]
        if plan.pilot and request.marked:
            marked = read_marked(workspace.existing(request.marked))
            compared = compare_judges(session, asking, marked)
            write_file(session.run_dir / JUDGES, json.dumps(compared))
        replies = ask(session, plan.asking, asking, prompts)
        made = rows_of(session, plan, asking, prompts, replies)
        spent = spent_in(session.run_dir / CALLS)
        made.num_calls = len(spent)
        made.usd = sum(spent.values()) if is_priced(request, plan.asking.price) else None
    if test is not None:
        _drop_leaks(session, test, request.test_similarity, made)
    return _report(session, request, plan, made)


def _drop_leaks(session: Session, test: Path, cosine: float, made: Made) -> None:
    """Drop the rows that test rows ask, by their words and by their meaning."""
    session.phase("comparing with test rows")
    held = TestQuestions(test)
    held.drop_from(made.kept)
    minilm = find_minilm()
    if minilm is not None and (rows := made.kept) and cosine < 1:
        near = _paraphrases(session, minilm, rows, held.questions, cosine)
        drop(rows, near, "test_paraphrase")


def _paraphrases(
    session: Session, minilm: Path, rows: Sequence[Row], known: Sequence[str], cosine: float
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
    kept, asked = made.kept, sum(row.num for row in made.rows)
    if plan.pilot:
        hidden = {"confirm", "request_id"}
        whole = request.model_dump(mode="json", exclude_defaults=True, exclude=hidden)
        results: dict[str, Any] = {"summary": [sentence("pilot", kept=len(kept), asked=asked)]}
        results["next_steps"] = [next_step("create_whole", whole)]
    elif kept:
        results = _published(session, request, kept, asked)
    else:
        listed = ", ".join(f"{count} {why}" for why, count in made.dropped.items())
        kept_in = str(session.run_dir / DROPPED)
        raise refusal("nothing_made", total=asked, counts=listed, kept_in=kept_in)
    report = CreateReport(
        kind=request.kind,
        pilot=plan.pilot,
        num_asked=asked,
        num_kept=len(kept),
        dropped=made.dropped,
        log=made.log,
        makers=dict(Counter(row.origin.maker for row in kept).most_common()),
        usd=made.usd,
        num_calls=made.num_calls,
        quoted=quoted_rows(kept),
        warnings=[*plan.warnings, *made.warnings, *results.pop("warnings", [])],
        **results,
    )
    write_file(session.run_dir / "report.html", creation_page(report, made.rows))
    return report


def _published(
    session: Session, request: CreateRequest, rows: Sequence[Row], asked: int
) -> dict[str, Any]:
    """Publish the files, and return what the report says of them."""
    session.phase("auditing")
    audit = _audited(session, request, rows)
    assert audit.outputs is not None
    folder = Path(audit.outputs.folder)
    session.artifact("dataset", folder)
    outputs = CreatedFiles(**audit.outputs.model_dump(), origin=str(folder / ORIGINS))
    numbers = {"train": outputs.num_train, "validation": outputs.num_validation}
    validation = outputs.validation if outputs.num_validation else None
    steps = [
        next_step("read_made", {"path": outputs.train, "lines": ["1-10"]}),
        launch_on(outputs.train, validation, "sft", None),
    ]
    if request.test:
        steps.append(next_step("measure_made", {"dataset": request.test}))
    warnings = []
    if request.validation_fraction and validation is None:
        about = {"fraction": request.validation_fraction}
        about["groups"] = len({row.group for row in rows})
        warnings.append(warning("validation_empty", **about))
    return {
        "summary": [sentence("made", kept=len(rows), asked=asked, **numbers)],
        "findings": audit.findings,
        "outputs": outputs,
        "warnings": warnings,
        "next_steps": steps,
    }


def _audited(session: Session, request: CreateRequest, rows: Sequence[Row]) -> AuditReport:
    """Return the audit of the rows, whose files are published; of an earlier attempt, as it was."""
    folder = workspace.resolve(request.output_dir or "")
    mark = {"run_id": session.run_dir.name}
    if (folder / MARK).is_file() and json.loads((folder / MARK).read_bytes()) == mark:
        return AuditReport.model_validate_json((folder / "report.json").read_bytes())
    path = session.run_dir / MADE
    write_lines(path, [{**row.row, GROUP: row.group} for row in rows])

    def write_origins(staging: Path) -> None:
        origins = {row.key: row.origin for row in rows}
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
    find_near = partial(find_lexical, differ=partial(_differ, rows))
    return perform(audited, Methods(find_near=find_near, write_beside=write_origins))


def _differ(rows: Sequence[Row], line: int, other: int) -> bool:
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
