"""Turn replies into rows: why each is dropped, or what its checks say, and where it is from."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ft_tools import workspace
from ft_tools.creation import documents
from ft_tools.creation.findings import warning
from ft_tools.creation.kinds import KINDS
from ft_tools.creation.pilots import MEASURED
from ft_tools.creation.plan import MOST_LISTED, CreatePlan
from ft_tools.creation.prompts import Candidate, Malformed, Prompt
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.requests import prompt_sha256
from ft_tools.creation.rows import Made, MadeRow, made_row
from ft_tools.creation.worker.finish import DROPPED
from ft_tools.creation.worker.teacher import CALLS, HTTP, Replies, take_over
from ft_tools.endpoints.budget import Budget
from ft_tools.endpoints.client import NO_REPLY, Reply
from ft_tools.formats.origin import Origin
from ft_tools.metrics.checks.judge import ledger_name, replies_file
from ft_tools.metrics.checks.request import Judge, check_names
from ft_tools.metrics.checks.scorer import Scorer, Scores
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session

NOT_ASKED = "budget_used_up"
LONGER = "surplus"
"""Reason of right answers beyond `keep_per_prompt`."""


@dataclass
class _Answered:
    """A prompt with what came of it."""

    prompt: Prompt
    replies: list[tuple[int, Reply]] = field(default_factory=list)
    passed: list[tuple[MadeRow, Candidate]] = field(default_factory=list)


def rows_of(
    session: Session,
    request: CreateRequest,
    plan: CreatePlan,
    prompts: Sequence[Prompt],
    replies: Replies,
) -> Made:
    """Return the rows that passed, and count the others by reason; their replies are kept."""
    session.phase("checking")
    answered = [_Answered(prompt) for prompt in prompts]
    dropped = _Dropped()
    found = [
        (one, *made) for one in answered for made in _read_replies(request, one, replies, dropped)
    ]
    before_usd = _judge_usd(session, request)
    for name in _judges(request):
        # What a pilot was judged on is not paid for again.
        take_over(session.run_dir / replies_file(name), replies.reused_from)
    scores = _scored(session, request, [candidate for *_, candidate in found])
    for (one, sample, reply, candidate), score in zip(found, scores, strict=True):
        if why := _failed(score):
            dropped.add(one.prompt, sample, why, candidate.answer)
            continue
        origin = _origin(session, request, plan, one.prompt, sample, reply, score)
        row = made_row(candidate.messages, candidate.question, origin, one.prompt.source)
        one.passed.append((row, candidate))
    for one in answered:
        for row, candidate in _surplus(request, one):
            sample = int(row.origin.sampling["sample"])
            dropped.add(one.prompt, sample, LONGER, candidate.answer)
    write_file(session.run_dir / DROPPED, "".join(f"{line}\n" for line in dropped.lines))
    _write_measured(session, answered, _judge_usd(session, request) - before_usd)
    kept = [(row, candidate, one.prompt) for one in answered for row, candidate in one.passed]
    added = []
    if request.kind == "documents":
        added = documents.unanswerable(request, kept, prompts)
    return Made(
        [*(row for row, *_ in kept), *added],
        sum(one.num_rows for one in prompts) * request.samples + len(added),
        dropped.counts,
        _warnings(session, answered, dropped.counts),
        replies.usd,
        replies.num_calls,
    )


@dataclass
class _Dropped:
    """What was dropped, and why; each with what the teacher said."""

    counts: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def add(self, prompt: Prompt, sample: int, why: str, text: str, num: int = 1) -> None:
        """Count so many rows of a reply."""
        self.counts[why] += num
        row = {"source": prompt.source, "sample": sample, "reason": why, "reply": text}
        self.lines.append(json.dumps(row, ensure_ascii=False))


def _read_replies(
    request: CreateRequest, one: _Answered, replies: Replies, dropped: _Dropped
) -> Iterator[tuple[int, Reply, Candidate]]:
    """Yield the rows in the replies to a prompt that can be checked."""
    for sample, reply in enumerate(replies.of(one.prompt)):
        if reply is None:
            dropped.counts[NOT_ASKED] += one.prompt.num_rows
            continue
        one.replies.append((sample, reply))
        candidates, why = _candidates(request, one.prompt, reply)
        said = reply.refusal or reply.text
        if missing := one.prompt.num_rows - len(candidates):
            dropped.add(one.prompt, sample, why or "fewer_rows", said, missing)
        for candidate in candidates:
            if candidate.problem:
                dropped.add(one.prompt, sample, candidate.problem, said)
            else:
                yield sample, reply, candidate


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
        return [], "tool_call" if reply.finish_reason == "tool_calls" else "empty"
    try:
        return KINDS[request.kind].read(request, prompt, reply.text), ""
    except Malformed:
        return [], "malformed"


def _scored(
    session: Session, request: CreateRequest, candidates: Sequence[Candidate]
) -> list[Scores]:
    """Return what the checks say of each row."""
    if not request.checks:
        return [Scores({}, 1.0)] * len(candidates)
    with Scorer(request.checks, workspace.roots()[0], session.run_dir) as scorer:
        rows, answers = [one.row for one in candidates], [one.answer for one in candidates]
        return scorer.score(rows, answers)


def _failed(score: Scores) -> str:
    """Return the first check that an answer did not pass; empty if it passed all."""
    for name, value in score.parts.items():
        if value is None:
            return f"check_broke: {name}"
        if value < 1:
            return f"failed: {name}"
    return ""


def _surplus(request: CreateRequest, one: _Answered) -> list[tuple[MadeRow, Candidate]]:
    """Remove from a prompt of several samples all but the shortest answers, and return them."""
    if request.samples == 1:
        return []
    shortest: dict[str, tuple[MadeRow, Candidate]] = {}
    for pair in sorted(one.passed, key=lambda pair: len(pair[1].answer)):
        if len(shortest) < request.keep_per_prompt:
            shortest.setdefault(pair[1].answer, pair)
    kept = list(shortest.values())
    surplus = [pair for pair in one.passed if all(pair is not other for other in kept)]
    one.passed = kept
    return surplus


def _origin(
    session: Session,
    request: CreateRequest,
    plan: CreatePlan,
    prompt: Prompt,
    sample: int,
    reply: Reply,
    score: Scores,
) -> Origin:
    assert plan.asking is not None
    teacher, asking = request.teacher, plan.asking
    assert teacher is not None
    endpoint = teacher.endpoint
    sampling = {"temperature": teacher.decoding.temperature} | (
        endpoint.sampling if endpoint else {}
    )
    terms = asking.terms
    usd = None
    if asking.price is not None:
        usd = round(asking.price.price.usd_of(reply.prompt_tokens, reply.completion_tokens), 9)
    return Origin(
        kind=request.kind,
        source=prompt.source,
        source_sha256=plan.source_sha256,
        teacher=asking.teacher,
        answered_by=reply.served_by,
        host=asking.sent_to or "",
        date=f"{datetime.fromtimestamp(session.info.created_at, UTC):%Y-%m-%d}",
        prompt_sha256=prompt_sha256(prompt),
        sampling={**sampling, "max_tokens": asking.max_tokens, "sample": sample},
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        usd=usd,
        checks=dict(score.parts),
        terms=terms.source if terms else "",
        terms_read=(terms.edition or terms.read) if terms else "",
    )


def _judge_usd(session: Session, request: CreateRequest) -> float:
    """Return what the judges have cost so far."""
    calls = session.run_dir / CALLS
    return sum(Budget(calls, ledger_name(name), 0, None).usd for name in _judges(request))


def _judges(request: CreateRequest) -> list[str]:
    pairs = zip(check_names(request.checks), request.checks, strict=True)
    return [name for name, check in pairs if isinstance(check, Judge)]


def _write_measured(session: Session, answered: Sequence[_Answered], judge_usd: float) -> None:
    """Write what each prompt took and yielded, from which the rest is forecast."""
    lines = []
    num = sum(bool(one.replies) for one in answered) or 1
    for one in answered:
        replies = [reply for _, reply in one.replies]
        if replies:
            row = {
                "prompt": prompt_sha256(one.prompt),
                "kept": len(one.passed),
                "prompt_tokens": sum(reply.prompt_tokens for reply in replies),
                "tokens": sum(reply.completion_tokens for reply in replies),
                # Judging costs about the same for each.
                "judge_usd": round(judge_usd / num, 9),
                "seconds": round(sum(reply.seconds for reply in replies), 4),
            }
            lines.append(json.dumps(row) + "\n")
    write_file(session.run_dir / MEASURED, "".join(lines))


def _warnings(session: Session, answered: Sequence[_Answered], dropped: Counter[str]) -> list[str]:
    found = []
    unsolved = [one.prompt.source for one in answered if one.replies and not one.passed]
    if unsolved:
        listed = ", ".join(unsolved[:MOST_LISTED])
        path = str(session.run_dir / DROPPED)
        found.append(warning("unsolved", num=len(unsolved), listed=listed, path=path))
    if ended := dropped[NOT_ASKED]:
        found.append(warning("budget_ended", num=ended))
    return found
