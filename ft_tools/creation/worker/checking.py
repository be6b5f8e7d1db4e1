"""Turn replies into rows: why each is dropped, or what its checks say, and where it is from."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from ft_tools import workspace
from ft_tools.creation import documents
from ft_tools.creation.asking import judges_of
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
from ft_tools.metrics.checks.judge import ledger_name, replies_file
from ft_tools.metrics.checks.scorer import Scorer
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session

NOT_ASKED = "budget_used_up"
LONGER = "surplus"
"""Reason of right answers beyond `keep_per_prompt`."""


@dataclass
class Row:
    """A row of a reply: kept, or dropped for a reason; without a reply it was not asked for."""

    at: int
    """Number of its prompt."""
    prompt: Prompt
    sample: int
    reply: Reply | None
    reason: str = ""
    text: str = ""
    """Shown where it was dropped: the reply, or the answer that failed a check."""
    candidate: Candidate | None = None
    num: int = 1
    """Rows of the reply that were dropped together."""
    checks: Mapping[str, float | None] = field(default_factory=dict)


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
    rows = [
        row for at, one in enumerate(prompts) for row in _rows(request, at, one, replies.of(one))
    ]
    before_usd = _judge_usd(session, request)
    for name in judges_of(request):
        # What a pilot was judged on is not paid for again.
        take_over(session.run_dir / replies_file(name), plan.asking.reused_from)
    _check(session, request, rows)
    _drop_surplus(request, rows)
    dropped = Counter[str]()
    for row in rows:
        dropped[row.reason] += row.num if row.reason else 0
    lines = [
        {"source": row.prompt.source, "sample": row.sample, "reason": row.reason, "reply": row.text}
        for row in rows
        if row.reason and row.reply
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_file(session.run_dir / DROPPED, text)
    _write_measured(session, rows, _judge_usd(session, request) - before_usd)
    made = []
    for row in rows:
        if (one := row.candidate) is not None and not row.reason:
            origin = _origin(session, request, plan, row)
            kept = made_row(one.messages, one.question, origin, row.prompt.source)
            made.append((kept, one, row.prompt))
    added = documents.unanswerable(request, made, prompts) if request.kind == "documents" else []
    return Made(
        [*(row for row, *_ in made), *added],
        sum(one.num_rows for one in prompts) * request.samples + len(added),
        +dropped,
        _warnings(session, rows),
        replies.usd,
        replies.num_calls,
    )


def _rows(
    request: CreateRequest, at: int, prompt: Prompt, replies: Sequence[Reply | None]
) -> Iterator[Row]:
    """Yield the rows of the replies to a prompt, those that cannot be checked with a reason."""
    for sample, reply in enumerate(replies):
        if reply is None:
            yield Row(at, prompt, sample, None, NOT_ASKED, num=prompt.num_rows)
            continue
        found, why = _candidates(request, prompt, reply)
        said = reply.refusal or reply.text
        if missing := prompt.num_rows - len(found):
            yield Row(at, prompt, sample, reply, why or "fewer_rows", said, num=missing)
        for one in found:
            text = said if one.problem else one.answer
            yield Row(at, prompt, sample, reply, one.problem, text, one)


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


def _check(session: Session, request: CreateRequest, rows: Sequence[Row]) -> None:
    """Let the checks score each row; the first that it does not pass is the reason."""
    pairs = [(row, row.candidate) for row in rows if row.candidate and not row.reason]
    if not request.checks:
        return
    with Scorer(request.checks, workspace.roots()[0], session.run_dir) as scorer:
        scores = scorer.score([one.row for _, one in pairs], [one.answer for _, one in pairs])
    for (row, _), score in zip(pairs, scores, strict=True):
        row.checks = dict(score.parts)
        for name, value in row.checks.items():
            if value is None or value < 1:
                row.reason = f"check_broke: {name}" if value is None else f"failed: {name}"
                break


def _drop_surplus(request: CreateRequest, rows: list[Row]) -> None:
    """Keep the shortest different answers to each prompt; they come first."""
    if request.samples == 1:
        return
    rows.sort(key=lambda row: (row.at, len(row.text)))
    for _, held in groupby(rows, key=lambda row: row.at):
        kept = set[str]()
        for row in held:
            if not row.reason and (row.text in kept or len(kept) == request.keep_per_prompt):
                row.reason = LONGER
            elif not row.reason:
                kept.add(row.text)


def _origin(session: Session, request: CreateRequest, plan: CreatePlan, row: Row) -> Origin:
    asking = plan.asking
    assert asking is not None and request.teacher is not None and row.reply is not None  # noqa: PT018
    terms, sampling = asking.terms, request.teacher.sampling
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
        checks=dict(row.checks),
        terms=terms.source if terms else "",
        terms_read=(terms.edition or terms.read) if terms else "",
    )


def _judge_usd(session: Session, request: CreateRequest) -> float:
    """Return what the judges have cost so far."""
    calls = session.run_dir / CALLS
    return sum(Budget(calls, ledger_name(name), 0, None).usd for name in judges_of(request))


def _write_measured(session: Session, rows: Sequence[Row], judge_usd: float) -> None:
    """Write what each prompt took and yielded, from which the rest is forecast."""
    measured = []
    for _, held in groupby(rows, key=lambda row: row.at):
        of_prompt = list(held)
        replies = {row.sample: row.reply for row in of_prompt if row.reply}.values()
        if replies:
            measured.append(
                {
                    "prompt": prompt_sha256(of_prompt[0].prompt),
                    "kept": sum(not row.reason for row in of_prompt),
                    "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
                    "tokens": sum(reply.completion_tokens for reply in replies),
                    "seconds": round(sum(reply.seconds for reply in replies), 4),
                }
            )
    # Judging costs about the same for each.
    each = {"judge_usd": round(judge_usd / max(1, len(measured)), 9)}
    text = "".join(json.dumps(line | each) + "\n" for line in measured)
    write_file(session.run_dir / MEASURED, text)


def _warnings(session: Session, rows: Sequence[Row]) -> list[str]:
    found = []
    passed = {row.at for row in rows if not row.reason}
    asked = {row.at: row.prompt.source for row in rows if row.reply}
    if unsolved := [source for at, source in asked.items() if at not in passed]:
        listed, path = ", ".join(unsolved[:MOST_LISTED]), str(session.run_dir / DROPPED)
        found.append(warning("unsolved", num=len(unsolved), listed=listed, path=path))
    if ended := sum(row.num for row in rows if row.reason == NOT_ASKED):
        found.append(warning("budget_ended", num=ended))
    return found
