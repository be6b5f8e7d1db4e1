"""Ask a teacher through its batch interface, which answers within 24 hours and often costs half.

What a batch holds is written before it is submitted, and its id before anything waits. A batch
without an id is looked for by its name first. API: https://platform.openai.com/docs/api-reference/batch
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import httpx2
from pydantic import BaseModel, Field

from ft_tools.creation.pilots import REPLIES
from ft_tools.endpoints import client
from ft_tools.endpoints.budget import Budget
from ft_tools.endpoints.spec import Endpoint, Price
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session, Stopped

FILE, COMPLETIONS = "batch.json", "/v1/chat/completions"
MOST_REQUESTS, POLL_SECONDS, MOST_FAILED_POLLS = 50_000, 30.0, 20
"""Of one batch, as OpenAI allows; between two polls; in a row, after which the run fails."""
UNREADABLE = replace(client.NO_REPLY, text="no chat completion")
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


class Pending(BaseModel):
    """The batch that is asked now; before it is submitted it has no id."""

    id: str = ""
    calls: dict[str, int] = Field(default_factory=dict)
    """What its replies are kept under -> number of the call in the budget."""


def ask_batches(
    session: Session,
    endpoint: Endpoint,
    price: Price,
    budget: Budget,
    missing: Sequence[client.Question],
) -> Iterator[list[tuple[int, client.Reply]]]:
    """Ask each question once, in as many batches as the budget needs; yield what each answered.

    Stopped or failed, a submitted batch goes on: resume_run reads it.
    """
    path, places = session.run_dir / FILE, {one.key: at for at, one in enumerate(missing)}
    held = Pending.model_validate_json(path.read_bytes()) if path.exists() else Pending()
    left = list(missing)
    while left or held.calls:
        for one in [] if held.calls else left[:MOST_REQUESTS]:
            most = one.most_usd(price)
            if held.calls and not budget.has_room(most):
                break
            held.calls[one.key] = budget.reserve(most)
        left = [one for one in left if one.key not in held.calls]
        write_file(path, held.model_dump_json())
        if not held.id:
            asked = [missing[places[key]] for key in held.calls if key in places]
            name = f"{session.run_dir.name}-{min(held.calls)[:16]}"
            held.id = _submitted(endpoint, asked, name)
            write_file(path, held.model_dump_json())
        session.phase(f"waiting for batch {held.id}")
        found = dict(_replies(endpoint, _ended(session, endpoint, held.id)))
        for key in held.calls.keys() & found.keys():
            client.keep_reply(session.run_dir / REPLIES, key, found[key])
        replies = {key: found.get(key, client.NO_REPLY) for key in held.calls}
        yield [(places[key], reply) for key, reply in replies.items() if key in places]
        for key, call in held.calls.items():
            # What a batch did not answer is not billed; without a count, the highest price counts.
            reply = replies[key]
            usd = price.usd_of(reply.prompt_tokens, reply.completion_tokens)
            budget.settle(call, usd if reply.prompt_tokens or not reply.text else None)
        path.unlink()
        held = Pending()


def _submitted(endpoint: Endpoint, asked: Sequence[client.Question], name: str) -> str:
    """Return the id of the batch of a name, which is submitted if there is none."""
    for one in json.loads(_answer(endpoint, "GET", "batches?limit=100"))["data"]:
        if (one.get("metadata") or {}).get("name") == name:
            return str(one["id"])
    lines = []
    for one in asked:
        line = {"custom_id": one.key, "method": "POST", "url": COMPLETIONS}
        lines.append(json.dumps(line | {"body": json.loads(one.body)}))
    content = {"file": (f"{name}.jsonl", "\n".join(lines).encode())}
    file = _answer(endpoint, "POST", "files", data={"purpose": "batch"}, files=content)
    batch = {"input_file_id": json.loads(file)["id"], "metadata": {"name": name}}
    batch |= {"endpoint": COMPLETIONS, "completion_window": "24h"}
    return str(json.loads(_answer(endpoint, "POST", "batches", json=batch))["id"])


def _ended(session: Session, endpoint: Endpoint, batch_id: str) -> Mapping[str, Any]:
    """Return a batch once it has ended; a few polls in a row may fail."""
    num_failed = 0
    while True:
        try:
            batch = json.loads(_answer(endpoint, "GET", f"batches/{batch_id}"))
            if batch.get("status") in ENDED:
                return dict(batch)
            num_failed = 0
        except client.EndpointUnavailable:
            num_failed += 1
            if num_failed > MOST_FAILED_POLLS:
                raise
        for _ in range(1 + int(POLL_SECONDS / client.POLL_SECONDS)):
            if session.should_stop:
                raise Stopped
            time.sleep(client.POLL_SECONDS)


def _replies(endpoint: Endpoint, batch: Mapping[str, Any]) -> Iterator[tuple[str, client.Reply]]:
    """Yield what the files of a batch answer; what failed in it is asked again by a later call."""
    for name in filter(None, map(batch.get, ("output_file_id", "error_file_id"))):
        for text in _answer(endpoint, "GET", f"files/{name}/content").splitlines():
            line = json.loads(text)
            response, reply = line.get("response") or {}, None
            if (status := response.get("status_code")) == 200:
                content = json.dumps(response.get("body")).encode()
                reply = client.read_completion(content) or UNREADABLE
            elif status in client.REFUSED:
                reply = replace(client.NO_REPLY, finish_reason=f"http_{status}")
            if reply is not None:
                yield str(line.get("custom_id")), reply


def _answer(endpoint: Endpoint, method: str, path: str, **content: Any) -> bytes:
    key = client.require_key(endpoint.key_variable)
    more: dict[str, Any] = {"timeout": endpoint.timeout_seconds, **content}
    more |= {"headers": {"Authorization": f"Bearer {key}"}} if key else {}
    try:
        answer = httpx2.request(method, f"{endpoint.url}/{path}", **more).raise_for_status()
    except httpx2.HTTPError as error:
        raise client.EndpointUnavailable(
            f"{endpoint.host} failed at {path} ({type(error).__name__}); check that it has "
            "/batches, then resume_run, which reads a submitted batch and sends none again"
        ) from error
    return bytes(answer.content)
