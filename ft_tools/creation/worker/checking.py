"""Turn replies into rows: why each is dropped, or what its checks say, and where it is from."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

from ft_tools.creation.documents import unanswerable
from ft_tools.creation.findings import warning
from ft_tools.creation.pilots import CALLS, MEASURED, agreement
from ft_tools.creation.plan import MOST_LISTED, CreatePlan
from ft_tools.creation.prompts import Asking, Malformed, Prompt
from ft_tools.creation.rows import DROPPED, Made, Row, write_lines
from ft_tools.creation.worker.teacher import HTTP, take_over
from ft_tools.endpoints.budget import BudgetUsedUp, spent_in
from ft_tools.endpoints.client import NO_REPLY, Reply, read_replies
from ft_tools.formats.origin import Origin
from ft_tools.metrics.checks.judge import JudgeScorer, ledger_name, replies_file
from ft_tools.metrics.checks.scorer import Scorer, Scores
from ft_tools.runs.processes.worker_session import Session

NOT_ASKED, SURPLUS = "budget_used_up", "surplus"
"""Reasons: of what was not asked for, and of right answers beyond `keep_per_prompt`."""
Asked = Sequence[list[Row]]
"""The rows of each prompt."""


def rows_of(
    session: Session,
    plan: CreatePlan,
    asking: Asking,
    prompts: Sequence[Prompt],
    replies: Mapping[str, Reply],
) -> Made:
    """Return the rows of replies; those that do not pass have a reason."""
    request, run_dir = asking.request, session.run_dir
    session.phase("checking")
    asked: Asked = [
        [
            row
            for one in asking.questions(prompt)
            for row in _read(asking, prompt, one.sample, replies.get(one.key))
        ]
        for prompt in prompts
    ]
    rows = [row for held in asked for row in held]
    for name in request.judges:
        # What a pilot was judged on is not paid for again.
        take_over(run_dir / replies_file(name), plan.asking.reused_from if plan.asking else ())
    usd_before, read = _judge_usd(session, asking), [row for row in rows if not row.reason]
    _check(session, asking, read)
    if request.samples > 1:
        _drop_surplus(session, asking, asked)
    _write_measured(session, asking, asked, len(read), usd_before)
    dropped = [
        {"source": row.group, "sample": row.sample, "reason": row.reason, "reply": row.answer}
        for row in rows
        if row.reason and row.reply
    ]
    write_lines(run_dir / DROPPED, dropped)
    made = Made(rows)
    for row in made.kept:
        row.origin = _origin(session, plan, asking, row)
    if request.kind == "documents":
        texts = {prompt.source: prompt.passage for prompt in prompts}
        made.rows += unanswerable(request, made.kept, texts)
    for row in made.kept:
        row.mask()
    unsolved = [
        held[0].group
        for held in asked
        if any(one.reply for one in held) and all(one.reason for one in held)
    ]
    if unsolved:
        listed, path = ", ".join(unsolved[:MOST_LISTED]), str(run_dir / DROPPED)
        made.warnings.append(warning("unsolved", num=len(unsolved), listed=listed, path=path))
    if ended := made.dropped.get(NOT_ASKED):
        made.warnings.append(warning("budget_ended", num=ended))
    return made


def _read(asking: Asking, prompt: Prompt, sample: int, reply: Reply | None) -> list[Row]:
    """Return the rows of a reply; those that lack, or cannot be checked, with a reason."""
    found, said = list[Row](), reply.refusal or reply.text if reply else ""
    if not (why := _why_unread(reply)) and reply:
        try:
            found = asking.rows(prompt, reply.text)
        except Malformed:
            why = "malformed"
    for row in found:
        row.answer = said if row.reason else row.answer
    if missing := prompt.num_rows - len(found):
        more = {"answer": said, "reason": why or "fewer_rows", "num": missing}
        found = [*found, asking.made(prompt, "", {}, **more)]
    for row in found:
        row.sample, row.reply = sample, reply
    return found


def _why_unread(reply: Reply | None) -> str:
    """Return why a reply holds no row; empty if it may."""
    if reply is None:
        return NOT_ASKED
    reason = reply.finish_reason
    if HTTP.fullmatch(reason) or reason in {"content_filter", NO_REPLY.finish_reason}:
        return reason
    if reply.refusal or not reply.finished:
        return "refusal" if reply.refusal else "length"
    is_call = reason == "tool_calls"
    return "" if reply.text.strip() else "tool_call" if is_call else "empty"


def _check(session: Session, asking: Asking, rows: Sequence[Row]) -> None:
    """Let the checks score each row; the first that it does not pass is the reason."""
    if not (checks := asking.request.checks):
        return
    with Scorer(checks, session.run_dir, asking.request.budget_usd) as scorer:

        def scored(some: Sequence[Row]) -> list[Scores | None]:
            return [*scorer.score([one.columns for one in some], [one.answer for one in some])]

        def scored_if_paid(row: Row) -> Scores | None:
            try:
                return scored([row])[0]
            except BudgetUsedUp:
                return None

        try:
            scores = scored(rows)
        except BudgetUsedUp as error:
            session.event(f"{error}; what was judged is used", "warning")
            # Replies that were paid for are kept; a row without one is not asked for.
            scores = list(map(scored_if_paid, rows))
    for row, score in zip(rows, scores, strict=True):
        row.scores = score.parts if score else {}
        missed = ((name, value) for name, value in row.scores.items() if value is None or value < 1)
        for name, value in missed:
            row.reason = f"check_broke: {name}" if value is None else f"failed: {name}"
            break
        row.reason = row.reason if score else NOT_ASKED


def compare_judges(
    session: Session, asking: Asking, marked: Sequence[tuple[str, str, bool]]
) -> dict[str, dict[str, Any]]:
    """Return how far each judge agrees with the rows that the user marked."""
    questions, answers, marks = zip(*marked, strict=True)
    rows, found = [{"prompt": question, "answer": ""} for question in questions], {}
    for name, judge in asking.request.judges.items():
        session.phase(f"comparing {name} with the marked rows")
        scorer = JudgeScorer(judge, name, session.run_dir, asking.request.budget_usd)
        with closing(scorer):
            verdicts = [None if one is None else one == 1 for one in scorer.score(answers, rows)]
        found[name] = agreement(marks, verdicts).model_dump()
    return found


def _drop_surplus(session: Session, asking: Asking, asked: Asked) -> None:
    """Keep the shortest different answers to each prompt, or first the one that is judged best."""
    most, best = asking.request.keep_per_prompt, dict[int, str]()
    if asking.request.prefer == "judged":
        # In an order that says nothing of their length.
        answers = [sorted({one.answer for one in held if not one.reason}) for held in asked]
        several = [at for at, held in enumerate(answers) if len(held) > most]
        rows = [next(one.columns for one in asked[at] if not one.reason) for at in several]
        ((name, judge),) = asking.request.judges.items()
        scorer = JudgeScorer(judge, name, session.run_dir, asking.request.budget_usd)
        with closing(scorer):
            places = scorer.best([answers[at] for at in several], rows)
        found = zip(several, places, strict=True)
        best = {at: answers[at][place] for at, place in found if place is not None}
    for at, held in enumerate(asked):
        held.sort(key=lambda one: (one.answer != best.get(at), len(one.answer)))
        kept = set[str]()
        for row in held:
            if not row.reason and (row.answer in kept or len(kept) == most):
                row.reason = SURPLUS
            elif not row.reason:
                kept.add(row.answer)


def _origin(session: Session, plan: CreatePlan, asking: Asking, row: Row) -> Origin:
    terms, reply = next(iter(plan.terms), {}), row.reply or NO_REPLY
    sampling = {**asking.teacher.sampling, "max_tokens": asking.max_tokens, "sample": row.sample}
    about = {
        "source_sha256": plan.files_sha256[asking.request.source],
        "teacher": asking.teacher.model_name,
        "answered_by": reply.served_by,
        "host": asking.teacher.endpoint.host if asking.teacher.endpoint else "",
        "date": f"{datetime.fromtimestamp(session.info.created_at, UTC):%Y-%m-%d}",
        "sampling": sampling,
        "checks": dict(row.scores),
        "terms": terms.get("source", ""),
        "terms_read": terms.get("edition") or terms.get("read", ""),
    }
    return row.origin.model_copy(update=about)


def _judge_usd(session: Session, asking: Asking) -> float:
    """Return what judges have cost so far."""
    names = set(map(ledger_name, asking.request.judges))
    return sum(usd for (who, _), usd in spent_in(session.run_dir / CALLS).items() if who in names)


def _write_measured(
    session: Session, asking: Asking, asked: Asked, num_judged: int, usd_before: float
) -> None:
    """Write what each prompt took and yielded, from which the rest is forecast."""
    measured, seconds = list[dict[str, float]](), 0.0
    for name, judge in asking.request.judges.items():
        # By all its replies, known ones included.
        if known := read_replies(session.run_dir / replies_file(name)).values():
            mean = fmean(one.seconds for one in known)
            seconds += num_judged * mean / judge.endpoint.max_concurrency
    for held in asked:
        replies = {one.sample: one.reply for one in held if one.reply}.values()
        if replies:
            took = {
                "kept": sum(not one.reason for one in held),
                "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
                "tokens": sum(reply.completion_tokens for reply in replies),
                "seconds": round(sum(reply.seconds for reply in replies), 4),
            }
            measured.append(took)
    # Judging costs about the same for each.
    judging = {"judge_usd": _judge_usd(session, asking) - usd_before, "judge_seconds": seconds}
    shares = {name: round(value / max(1, len(measured)), 9) for name, value in judging.items()}
    write_lines(session.run_dir / MEASURED, [one | shares for one in measured])
