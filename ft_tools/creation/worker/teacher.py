"""Ask the teacher what is missing: each reply is kept before it counts."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ft_tools.creation.findings import refusal
from ft_tools.creation.pilots import REPLIES
from ft_tools.creation.plan import CreatePlan
from ft_tools.creation.prompts import Prompt
from ft_tools.creation.requests import Requests
from ft_tools.endpoints.budget import Budget, BudgetUsedUp
from ft_tools.endpoints.client import Client, Reply, keep_reply, read_replies
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory

CALLS, TEACHER = "calls.jsonl", "the teacher"
"""Where attempts are counted, and under which name: no check can have it."""
HTTP = re.compile(r"http_[0-9]{3}")
"""Reason of a question that the server refused."""


class Question(NamedTuple):
    """A sample of a prompt that has no reply yet."""

    key: str
    prompt: Prompt
    sample: int


@dataclass
class Replies:
    """What the teacher said, by key."""

    requests: Requests
    by_key: Mapping[str, Reply]
    usd: float | None
    """Spent by this run, what is unknown at its highest price; None: the price is unknown."""
    num_calls: int = 0
    """Of this run, retries included."""
    reused_from: Sequence[str] = ()
    """Runs whose replies are known."""

    def of(self, prompt: Prompt) -> list[Reply | None]:
        """Return the reply to each sample of a prompt; None where the budget ended before."""
        return [self.by_key.get(key) for key in self.requests.keys(prompt)]


def ask(
    session: Session, plan: CreatePlan, requests: Requests, prompts: Sequence[Prompt]
) -> Replies:
    """Return the replies to all prompts, as far as the budget allows.

    Raises:
        EndpointUnavailable: Several requests in a row failed after retries; resume_run goes on.
        Refused: The endpoint refused every request.
        Stopped: It was requested; what was in flight is kept.
    """
    assert plan.asking is not None
    path = session.run_dir / REPLIES
    # Equal requests are one.
    asked = {
        key: Question(key, prompt, sample)
        for prompt in prompts
        for sample, key in enumerate(requests.keys(prompt))
    }
    known = take_over(path, plan.asking.reused_from)
    known = {key: reply for key, reply in known.items() if key in asked}
    missing = [one for key, one in asked.items() if key not in known]
    session.phase("asking the teacher")
    session.progress(len(asked) - len(missing), len(asked))
    if requests.teacher.endpoint is None:
        # Its imports take seconds, which whoever asks an endpoint does without.
        from ft_tools.creation.worker.local_teacher import answer_locally

        answer_locally(session, requests, missing, path)
        return Replies(requests, read_replies(path), None, 0, plan.asking.reused_from)
    price = plan.asking.price.price if plan.asking.price else None
    calls = session.run_dir / CALLS
    budget = Budget(calls, TEACHER, requests.teacher.endpoint.max_calls, requests.max_usd)
    client = Client(requests.teacher.endpoint, price, budget, path, keeps_refused=True)
    try:
        for batch in client.ask_all(
            [one.prompt.messages for one in missing],
            requests.max_tokens,
            lambda: session.should_stop,
            [one.sample for one in missing],
            **requests.options,
        ):
            known |= {missing[i].key: reply for i, reply in batch}
            session.progress(len(known), len(asked))
    except BudgetUsedUp as error:
        session.event(f"{error}; what was answered is used", "warning")
    finally:
        client.close()
    if session.should_stop:
        raise Stopped
    _require_any(requests, known.values())
    usd = budget.usd if price else None
    return Replies(requests, known, usd, budget.num_calls, plan.asking.reused_from)


def take_over(path: Path, runs: Sequence[str]) -> dict[str, Reply]:
    """Copy the replies of earlier runs into a file of this run; return all that it has then."""
    known = read_replies(path)
    for run_id in runs:
        for key, reply in read_replies(directory.find(run_id) / path.name).items():
            if key not in known:
                keep_reply(path, key, reply)
                known[key] = reply
    return known


def _require_any(requests: Requests, replies: Collection[Reply]) -> None:
    """Refuse to go on where the endpoint refused every request: the fault is in all of them.

    Raises:
        Refused: It did.
    """
    reasons = {reply.finish_reason for reply in replies}
    if replies and all(map(HTTP.fullmatch, reasons)):
        endpoint = requests.teacher.endpoint
        host = endpoint.host if endpoint else ""
        raise refusal("all_refused", host=host, reasons=", ".join(sorted(reasons)))
