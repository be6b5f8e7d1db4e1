"""Make a dataset as planned: ask what is missing, check, compare with test rows, audit, write."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ft_tools import workspace
from ft_tools.creation.asking import prompts_of
from ft_tools.creation.forecast import agreement
from ft_tools.creation.leaks import TestQuestions, with_copies
from ft_tools.creation.pilots import JUDGES, read_marked
from ft_tools.creation.plan import CreatePlan, content_sha256, made_at_once
from ft_tools.creation.report import CreateReport
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.requests import Requests, hashes_of
from ft_tools.creation.rows import Made, MadeRow
from ft_tools.creation.worker.checking import rows_of
from ft_tools.creation.worker.finish import finish
from ft_tools.creation.worker.teacher import ask
from ft_tools.errors import PlanChanged
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session, Stopped, main
from ft_tools.similarity.minilm import find_minilm


def work(session: Session) -> CreateReport:
    """Make the rows that request.json asks for."""
    request, plan = session.request(CreateRequest), session.plan(CreatePlan)
    path = workspace.existing(request.source)
    _require_same(path, plan.source_sha256)
    if request.marks:
        _require_same(workspace.existing(request.marks), plan.marks_sha256)
    if plan.asking and plan.asking.files_sha256 != hashes_of(request):
        raise PlanChanged(
            "a file that the teacher or a check reads changed; call create_dataset again"
        )
    made = _made(session, request, plan, path)
    return finish(session, request, plan, without_leaks(session, request, plan, made))


def _made(session: Session, request: CreateRequest, plan: CreatePlan, path: Path) -> Made:
    """Return the rows: made here, or asked for."""
    if request.teacher is None or plan.asking is None:
        session.phase("making rows")
        return made_at_once(request, path, plan.source_sha256)
    test = workspace.existing(request.test) if request.test else None
    prompts, _ = prompts_of(request, path, test)
    used = prompts[: plan.asking.num_prompts]
    requests = Requests(request, request.teacher, plan.asking.model)
    if plan.pilot and request.marked:
        _compare_judges(session, request, request.marked)
    replies = ask(session, plan, requests, used)
    return rows_of(session, request, plan, used, replies)


def _compare_judges(session: Session, request: CreateRequest, marked: str) -> None:
    """Write how far each judge agrees with the rows that the user marked."""
    questions, answers, marks = zip(*read_marked(workspace.existing(marked)), strict=True)
    rows, found = [{"prompt": question, "answer": ""} for question in questions], {}
    for name, judge in request.judges.items():
        session.phase(f"comparing {name} with the marked rows")
        named = judge.model_copy(update={"name": name})
        with Scorer([named], workspace.roots()[0], session.run_dir) as scorer:
            totals = [one.total for one in scorer.score(rows, answers)]
        verdicts = [None if total is None else total == 1 for total in totals]
        found[name] = agreement(marks, verdicts).model_dump()
    write_file(session.run_dir / JUDGES, json.dumps(found))


def without_leaks(session: Session, request: CreateRequest, plan: CreatePlan, made: Made) -> Made:
    """Leave out the rows that test rows ask, by their words and by their meaning."""
    if request.test is None:
        return made
    path = workspace.existing(request.test)
    _require_same(path, plan.test_sha256)
    session.phase("comparing with test rows")
    held, dropped = TestQuestions(path), made.dropped.copy()
    rows = _without(made.rows, held.holding(made.rows), dropped, "test_question")
    minilm = find_minilm()
    if minilm is not None and rows and request.test_similarity < 1:
        is_near = _paraphrases(session, minilm, rows, held.questions, request.test_similarity)
        rows = _without(rows, with_copies(rows, is_near), dropped, "test_paraphrase")
    return replace(made, rows=rows, dropped=dropped)


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


def _without(
    rows: Sequence[MadeRow], held: Sequence[bool], dropped: Counter[str], why: str
) -> list[MadeRow]:
    """Return the rows that are not held out, and count the others."""
    if any(held):
        dropped[why] += sum(held)
    return [row for row, is_held in zip(rows, held, strict=True) if not is_held]


def _require_same(path: Path, digest: str | None) -> None:
    """Refuse a file that changed since it was planned.

    Raises:
        PlanChanged: It did.
    """
    if content_sha256(path) != digest:
        raise PlanChanged(f"{path} changed since the plan was confirmed; call create_dataset again")


if __name__ == "__main__":
    main(work)
