"""Turn replies into rows: why each is dropped, or what its checks say, and where it is from."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from ft_tools.creation.documents import unanswerable
from ft_tools.creation.findings import warning
from ft_tools.creation.pilots import CALLS, MEASURED
from ft_tools.creation.plan import MOST_LISTED, CreatePlan
from ft_tools.creation.prompts import Candidate, Malformed, Prompt
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.requests import KINDS, Requests, prompt_sha256
from ft_tools.creation.rows import Made, made_row
from ft_tools.creation.worker.teacher import HTTP, take_over
from ft_tools.endpoints.budget import Budget, BudgetUsedUp
from ft_tools.endpoints.client import NO_REPLY, Reply, read_replies
from ft_tools.formats.origin import Origin
from ft_tools.metrics.checks.judge import JudgeScorer, ledger_name, replies_file
from ft_tools.metrics.checks.scorer import Scorer, Scores
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session

DROPPED = "dropped.jsonl"
NOT_ASKED, SURPLUS = "budget_used_up", "surplus"
"""Reasons: of what was not asked for, and of right answers beyond `keep_per_prompt`."""


def rows_of(
    session: Session,
    plan: CreatePlan,
    requests: Requests,
    prompts: Sequence[Prompt],
    replies: Mapping[str, Reply],
) -> Made:
    """Return the rows that passed, and count the others by reason; their replies are kept."""
    request, asking = requests.request, plan.asking
    assert asking is not None
    session.phase("checking")
    asked = [
        [
            candidate
            for one in requests.questions(prompt)
            for candidate in _candidates(requests, prompt, one.sample, replies.get(one.key))
        ]
        for prompt in prompts
    ]
    calls, judges = session.run_dir / CALLS, list(map(ledger_name, request.judges))
    usd_before = sum(Budget(calls, name, 0, None).usd for name in judges)
    for name in request.judges:
        # What a pilot was judged on is not paid for again.
        take_over(session.run_dir / replies_file(name), asking.reused_from)
    judged = [one for held in asked for one in held if not one.reason]
    _check(session, requests, judged)
    if request.samples > 1:
        _drop_surplus(session, requests, asked)
    judge_usd = sum(Budget(calls, name, 0, None).usd for name in judges) - usd_before
    write_lines(
        session.run_dir / MEASURED,
        _measured(asked, judge_usd, _judge_seconds(session, request, len(judged))),
    )
    rows = [one for held in asked for one in held]
    lines = [
        {
            "source": one.prompt.source,
            "sample": one.sample,
            "reason": one.reason,
            "reply": one.answer,
        }
        for one in rows
        if one.reason and one.reply
    ]
    write_lines(session.run_dir / DROPPED, lines)
    made, dropped = [], Counter[str]()
    for one in rows:
        if one.reason:
            dropped[one.reason] += one.num
        else:
            origin, source = _origin(session, plan, requests, one), one.prompt.source
            made.append((made_row(one.messages, one.question, origin, source), one))
    added = unanswerable(request, made, prompts) if request.kind == "documents" else []
    unsolved = [
        held[0].prompt.source
        for held in asked
        if any(one.reply for one in held) and all(one.reason for one in held)
    ]
    warnings = []
    if unsolved:
        listed, path = ", ".join(unsolved[:MOST_LISTED]), str(session.run_dir / DROPPED)
        warnings.append(warning("unsolved", num=len(unsolved), listed=listed, path=path))
    if ended := dropped[NOT_ASKED]:
        warnings.append(warning("budget_ended", num=ended))
    num_asked = sum(one.num for one in rows) + len(added)
    found = [*(row for row, _ in made), *added]
    return Made(found, num_asked, +dropped, warnings)


def _candidates(
    requests: Requests, prompt: Prompt, sample: int, reply: Reply | None
) -> list[Candidate]:
    """Return the rows of a reply; those that lack, or cannot be checked, with a reason."""
    found, said = list[Candidate](), reply.refusal or reply.text if reply else ""
    why = _why_unread(reply)
    if reply and not why:
        try:
            found = KINDS[requests.request.kind].read(requests.request, prompt, reply.text)
        except Malformed:
            why = "malformed"
    for one in found:
        one.answer = said if one.reason else one.answer
    if missing := prompt.num_rows - len(found):
        found = [*found, Candidate(prompt, said, reason=why or "fewer_rows", num=missing)]
    for one in found:
        one.sample, one.reply = sample, reply
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


def _check(session: Session, requests: Requests, rows: Sequence[Candidate]) -> None:
    """Let the checks score each row; the first that it does not pass is the reason."""
    if not requests.request.checks:
        return
    checks, budget = requests.request.checks, requests.request.budget_usd
    with Scorer(checks, session.run_dir, budget) as scorer:
        try:
            scores = _scores(scorer, rows)
        except BudgetUsedUp as error:
            session.event(f"{error}; what was judged is used", "warning")
            # Replies that were paid for are kept; a row without one is not asked for.
            scores = [score for one in rows for score in _scores_within(scorer, one)]
    for one, score in zip(rows, scores, strict=True):
        if score is None:
            one.reason = NOT_ASKED
            continue
        one.checks = score.parts
        for name, value in score.parts.items():
            if value is None or value < 1:
                one.reason = f"check_broke: {name}" if value is None else f"failed: {name}"
                break


def _scores(scorer: Scorer, rows: Sequence[Candidate]) -> list[Scores | None]:
    return [*scorer.score([one.row for one in rows], [one.answer for one in rows])]


def _scores_within(scorer: Scorer, row: Candidate) -> list[Scores | None]:
    try:
        return _scores(scorer, [row])
    except BudgetUsedUp:
        return [None]


def _drop_surplus(session: Session, requests: Requests, asked: list[list[Candidate]]) -> None:
    """Keep the shortest different answers to each prompt, or first the one that is judged best."""
    most = requests.request.keep_per_prompt
    # In an order that says nothing of their length.
    answers = [sorted({one.answer for one in held if not one.reason}) for held in asked]
    best = dict[int, str]()
    if requests.request.prefer == "judged":
        several = [at for at, held in enumerate(answers) if len(held) > most]
        rows = [next(one.row for one in asked[at] if not one.reason) for at in several]
        ((name, judge),) = requests.request.judges.items()
        scorer = JudgeScorer(judge, name, session.run_dir, requests.request.budget_usd)
        try:
            places = scorer.best([answers[at] for at in several], rows)
        finally:
            scorer.close()
        found = zip(several, places, strict=True)
        best = {at: answers[at][place] for at, place in found if place is not None}
    for at, held in enumerate(asked):
        held.sort(key=lambda one: (one.answer != best.get(at), len(one.answer)))
        kept = set[str]()
        for one in held:
            if not one.reason and (one.answer in kept or len(kept) == most):
                one.reason = SURPLUS
            elif not one.reason:
                kept.add(one.answer)


def _origin(session: Session, plan: CreatePlan, requests: Requests, one: Candidate) -> Origin:
    asking, reply = plan.asking, one.reply
    assert asking is not None and reply is not None  # noqa: PT018
    terms, sampling = next(iter(plan.terms), {}), requests.teacher.sampling
    return Origin(
        kind=requests.request.kind,
        source=one.prompt.source,
        source_sha256=plan.source_sha256,
        teacher=asking.teacher,
        answered_by=reply.served_by,
        host=asking.sent_to or "",
        date=f"{datetime.fromtimestamp(session.info.created_at, UTC):%Y-%m-%d}",
        prompt_sha256=prompt_sha256(one.prompt),
        sampling={**sampling, "max_tokens": asking.max_tokens, "sample": one.sample},
        checks=dict(one.checks),
        terms=terms.get("source", ""),
        terms_read=terms.get("edition") or terms.get("read", ""),
    )


def _judge_seconds(session: Session, request: CreateRequest, num: int) -> float:
    """Return how long the judges take for so many rows, by their replies, known ones included."""
    seconds = 0.0
    for name, judge in request.judges.items():
        replies = read_replies(session.run_dir / replies_file(name)).values()
        if replies:
            mean = fmean(one.seconds for one in replies)
            seconds += num * mean / judge.endpoint.max_concurrency
    return seconds


def _measured(
    asked: Sequence[list[Candidate]], judge_usd: float, judge_seconds: float
) -> list[dict[str, Any]]:
    """Return what each prompt took and yielded, from which the rest is forecast."""
    measured = []
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
    each = {"judge_usd": judge_usd, "judge_seconds": judge_seconds}
    shares = {name: round(value / len(measured), 9) for name, value in each.items() if measured}
    return [one | shares for one in measured]


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write objects as JSONL; half a surrogate pair, as teachers cut them, stays an escape."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
    write_file(path, text.encode("utf-8", "backslashreplace").decode("utf-8"))
