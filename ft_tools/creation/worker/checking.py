"""Turn replies into rows: why each is dropped, or what its checks say, and where it is from."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ft_tools import workspace
from ft_tools.creation import documents
from ft_tools.creation.findings import warning
from ft_tools.creation.pilots import MEASURED
from ft_tools.creation.plan import MOST_LISTED, CreatePlan
from ft_tools.creation.prompts import Candidate, Malformed, Prompt
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.requests import KINDS, prompt_sha256
from ft_tools.creation.rows import Made, made_row
from ft_tools.creation.worker.finish import DROPPED
from ft_tools.creation.worker.teacher import CALLS, HTTP, Replies, take_over
from ft_tools.endpoints.budget import Budget
from ft_tools.endpoints.client import NO_REPLY, Reply
from ft_tools.formats.origin import Origin
from ft_tools.metrics.checks.judge import JudgeScorer, ledger_name, replies_file
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session

NOT_ASKED, SURPLUS = "budget_used_up", "surplus"
"""Reasons: of what was not asked for, and of right answers beyond `keep_per_prompt`."""


class Row(NamedTuple):
    """A row that a prompt should yield; without a reply it was not asked for."""

    prompt: Prompt
    sample: int
    reply: Reply | None
    made: Candidate


def rows_of(
    session: Session,
    request: CreateRequest,
    plan: CreatePlan,
    prompts: Sequence[Prompt],
    replies: Replies,
) -> Made:
    """Return the rows that passed, and count the others by reason; their replies are kept."""
    assert plan.asking is not None
    session.phase("checking")
    asked = [list(_rows(request, one, replies.of(one))) for one in prompts]
    before_usd = _judge_usd(session, request)
    for name in request.judges:
        # What a pilot was judged on is not paid for again.
        take_over(session.run_dir / replies_file(name), plan.asking.reused_from)
    _check(session, request, [row.made for held in asked for row in held if not row.made.reason])
    if request.samples > 1:
        _drop_surplus(session, request, asked)
    rows = [row for held in asked for row in held]
    names = ("source", "sample", "reason", "reply")
    lines = [
        dict(
            zip(
                names,
                (row.prompt.source, row.sample, row.made.reason, row.made.answer),
                strict=True,
            )
        )
        for row in rows
        if row.made.reason and row.reply
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(session.run_dir / DROPPED, text)
    _write_measured(session, asked, _judge_usd(session, request) - before_usd)
    made = []
    for row in rows:
        if not (one := row.made).reason:
            origin = _origin(session, request, plan, row)
            kept = made_row(one.messages, one.question, origin, row.prompt.source)
            made.append((kept, one, row.prompt))
    dropped = Counter[str]()
    for row in rows:
        dropped[row.made.reason] += row.made.num if row.made.reason else 0
    added = documents.unanswerable(request, made, prompts) if request.kind == "documents" else []
    return Made(
        [*(row for row, *_ in made), *added],
        sum(row.made.num for row in rows) + len(added),
        +dropped,
        _warnings(session, asked),
        replies.usd,
        replies.num_calls,
    )


def _rows(request: CreateRequest, prompt: Prompt, replies: Sequence[Reply | None]) -> Iterator[Row]:
    """Yield the rows of the replies to a prompt, those that cannot be checked with a reason."""
    for sample, reply in enumerate(replies):
        found, why = _candidates(request, prompt, reply) if reply else ([], NOT_ASKED)
        said = reply.refusal or reply.text if reply else ""
        for one in found:
            one.answer = said if one.reason else one.answer
        if missing := prompt.num_rows - len(found):
            found = [*found, Candidate(said, reason=why or "fewer_rows", num=missing)]
        yield from (Row(prompt, sample, reply, one) for one in found)


def _candidates(
    request: CreateRequest, prompt: Prompt, reply: Reply
) -> tuple[list[Candidate], str]:
    """Return the rows of a reply, or why it has none."""
    reason = reply.finish_reason
    if HTTP.fullmatch(reason) or reason in {"content_filter", NO_REPLY.finish_reason}:
        return [], reason
    if reply.refusal:
        return [], "refusal"
    if not reply.finished:
        return [], "length"
    if not reply.text.strip():
        return [], "tool_call" if reason == "tool_calls" else "empty"
    try:
        return KINDS[request.kind].read(request, prompt, reply.text), ""
    except Malformed:
        return [], "malformed"


def _check(session: Session, request: CreateRequest, rows: Sequence[Candidate]) -> None:
    """Let the checks score each row; the first that it does not pass is the reason."""
    if not request.checks:
        return
    with Scorer(request.checks, workspace.roots()[0], session.run_dir) as scorer:
        scores = scorer.score([one.row for one in rows], [one.answer for one in rows])
    for one, score in zip(rows, scores, strict=True):
        one.checks = score.parts
        for name, value in score.parts.items():
            if value is None or value < 1:
                one.reason = f"check_broke: {name}" if value is None else f"failed: {name}"
                break


def _drop_surplus(session: Session, request: CreateRequest, asked: list[list[Row]]) -> None:
    """Keep the shortest different answers to each prompt, or first the one that is judged best."""
    for held in asked:
        held.sort(key=lambda row: len(row.made.answer))
    if request.prefer == "judged":
        _sort_best_first(session, request, asked)
    for held in asked:
        kept = set[str]()
        for one in (row.made for row in held if not row.made.reason):
            if one.answer in kept or len(kept) == request.keep_per_prompt:
                one.reason = SURPLUS
            else:
                kept.add(one.answer)


def _sort_best_first(session: Session, request: CreateRequest, asked: list[list[Row]]) -> None:
    """Let the judge compare the answers that passed, where there are more than are kept."""
    ((name, judge),) = request.judges.items()
    passed = [[row.made for row in held if not row.made.reason] for held in asked]
    # In an order that says nothing of their length.
    answers = [sorted({one.answer for one in held}) for held in passed]
    several = [at for at, held in enumerate(answers) if len(held) > request.keep_per_prompt]
    rows = [passed[at][0].row for at in several]
    scorer = JudgeScorer(judge, name, session.run_dir)
    try:
        places = scorer.best([answers[at] for at in several], rows)
    finally:
        scorer.close()
    for at, place in zip(several, places, strict=True):
        if place is not None:
            first = [row for row in asked[at] if row.made.answer == answers[at][place]]
            asked[at] = [*first, *(row for row in asked[at] if row not in first)]


def _origin(session: Session, request: CreateRequest, plan: CreatePlan, row: Row) -> Origin:
    asking = plan.asking
    assert asking is not None and request.teacher is not None and row.reply is not None  # noqa: PT018
    terms, sampling = next(iter(plan.terms), None), request.teacher.sampling
    return Origin(
        kind=request.kind,
        source=row.prompt.source,
        source_sha256=plan.source_sha256,
        teacher=asking.teacher,
        answered_by=row.reply.served_by,
        host=asking.sent_to or "",
        date=f"{datetime.fromtimestamp(session.info.created_at, UTC):%Y-%m-%d}",
        prompt_sha256=prompt_sha256(row.prompt),
        sampling={**sampling, "max_tokens": asking.max_tokens, "sample": row.sample},
        checks=dict(row.made.checks),
        terms=terms.source if terms else "",
        terms_read=(terms.edition or terms.read) if terms else "",
    )


def _judge_usd(session: Session, request: CreateRequest) -> float:
    """Return what the judges have cost so far."""
    calls = session.run_dir / CALLS
    return sum(Budget(calls, ledger_name(name), 0, None).usd for name in request.judges)


def _write_measured(session: Session, asked: Sequence[list[Row]], judge_usd: float) -> None:
    """Write what each prompt took and yielded, from which the rest is forecast."""
    measured = []
    for held in asked:
        replies = {row.sample: row.reply for row in held if row.reply}.values()
        if replies:
            measured.append(
                {
                    "prompt": prompt_sha256(held[0].prompt),
                    "kept": sum(not row.made.reason for row in held),
                    "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
                    "tokens": sum(reply.completion_tokens for reply in replies),
                    "seconds": round(sum(reply.seconds for reply in replies), 4),
                }
            )
    # Judging costs about the same for each.
    each = {"judge_usd": round(judge_usd / max(1, len(measured)), 9)}
    text = "".join(json.dumps(line | each) + "\n" for line in measured)
    write_file(session.run_dir / MEASURED, text)


def _warnings(session: Session, asked: Sequence[list[Row]]) -> list[str]:
    found = []
    unsolved = [
        held[0].prompt.source
        for held in asked
        if any(row.reply for row in held) and all(row.made.reason for row in held)
    ]
    if unsolved:
        listed, path = ", ".join(unsolved[:MOST_LISTED]), str(session.run_dir / DROPPED)
        found.append(warning("unsolved", num=len(unsolved), listed=listed, path=path))
    if ended := sum(r.made.num for held in asked for r in held if r.made.reason == NOT_ASKED):
        found.append(warning("budget_ended", num=ended))
    return found
