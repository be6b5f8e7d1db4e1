"""Ask a server with the OpenAI chat completions API; nothing it says is trusted or passed on."""

import contextlib
import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx2

from ft_tools.endpoints.budget import Budget, BudgetUsedUp
from ft_tools.endpoints.spec import Endpoint, Price
from ft_tools.errors import BadInput, FineTuningError
from ft_tools.publish import append_line, read_rows

MAX_ANSWER_BYTES = 4 * 2**20
MAX_RETRIES = 6
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
# Source: https://github.com/openai/openai-python, _should_retry
RETRIED = {408, 409, 429}
REFUSED = {400, 413, 422}
"""What a server says of one question, and not of all."""
CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.2
"""Between two looks at whether to stop, while nothing answers."""

Message = Mapping[str, Any]


class EndpointUnavailable(FineTuningError):
    """An endpoint does not answer, or refuses."""

    code = "endpoint_unavailable"


@dataclass(frozen=True)
class Reply:
    """One answer of an endpoint."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finished: bool
    """Whether the model ended the answer, not the limit."""
    served_by: str
    """Model and fingerprint that the endpoint reports."""
    seconds: float = 0.0
    finish_reason: str = ""
    """As the endpoint spells it; `http_400` of a question that it refused."""
    refusal: str = ""
    """What the model said instead of an answer, where the API tells that apart."""


@dataclass(frozen=True)
class Question:
    """A request for one answer."""

    messages: Sequence[Message]
    body: bytes
    """All that is sent; for a model of this machine, what its answer depends on."""
    max_tokens: int
    sample: int = 0
    """Number among several answers to the same question."""

    @cached_property
    def key(self) -> str:
        """Return what the reply is kept under: its request, and which of several answers it is."""
        content = self.body + (b"\x1f%d" % self.sample if self.sample else b"")
        return hashlib.sha256(content).hexdigest()

    def most_usd(self, price: Price) -> float:
        """Return the highest price of an attempt."""
        # A byte is at least as long as any token's share of it; roles and turn marks add a few.
        return price.usd_of(len(self.body) + 32 * len(self.messages), self.max_tokens)


NO_REPLY = Reply("", 0, 0, finished=False, served_by="", finish_reason="no_answer")
MOST_UNANSWERED = 3
"""Questions in a row that fail after all retries before the server counts as gone."""


@dataclass(frozen=True)
class _Failure:
    """An attempt without an answer."""

    problem: str
    wait_seconds: float | None
    """At least this long before the next attempt; None: do not retry."""
    is_free: bool
    """Whether it surely cost nothing."""
    status: int = 0


class Client:
    """Ask one endpoint from several threads; retries what may succeed later."""

    def __init__(
        self,
        endpoint: Endpoint,
        price: Price | None,
        budget: Budget,
        cache: Path | None = None,
        *,
        keeps_refused: bool = False,
    ) -> None:
        """Open the connections.

        Args:
            endpoint: The server.
            price: What it costs; None: nothing.
            budget: Every attempt is counted in it.
            cache: JSONL file of replies; an equal request in it is not sent again.
            keeps_refused: A question that the server refuses alone, or fails on alone, has an empty
                reply that says so, and ends nothing.

        Raises:
            BadInput: The environment variable of the key is not set.
        """
        self.endpoint = endpoint
        self._price = price or Price()
        self._budget = budget
        self._cache = cache
        self._keeps_refused = keeps_refused
        self._num_unanswered = 0
        self._replies = read_replies(cache)
        self._stopping = threading.Event()
        key = require_key(endpoint.key_variable)
        self._http = httpx2.Client(
            base_url=endpoint.url + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(endpoint.timeout_seconds, connect=CONNECT_SECONDS),
            limits=httpx2.Limits(max_connections=endpoint.max_concurrency),
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def usd_of(self, reply: Reply) -> float:
        """Return what a reply's tokens cost."""
        return self._price.usd_of(reply.prompt_tokens, reply.completion_tokens)

    def ask(self, question: Question) -> Reply:
        """Ask once, with retries; each attempt counts against the budget.

        Raises:
            EndpointUnavailable: It refuses, or fails after retries.
            BudgetUsedUp: The next attempt could exceed the budget.
        """
        key, most, problem = question.key, question.most_usd(self._price), ""
        if key in self._replies:
            return self._replies[key]
        for attempt in range(MAX_RETRIES + 1):
            call = self._budget.reserve(most)
            began = time.monotonic()
            found = self._attempt(question.body)
            if isinstance(found, Reply):
                # Kept first: whoever is killed between has it, and counts its highest price.
                kept = self._keep(key, replace(found, seconds=time.monotonic() - began))
                self._num_unanswered = 0
                self._budget.settle(call, self.usd_of(found) if found.prompt_tokens else None)
                return kept
            self._budget.settle(call, 0.0 if found.is_free else None)
            if self._keeps_refused and found.status in REFUSED:
                named = f"http_{found.status}"
                return self._keep(key, replace(NO_REPLY, finish_reason=named))
            problem = found.problem
            if found.wait_seconds is None or attempt == MAX_RETRIES:
                break
            backoff = FIRST_WAIT_SECONDS * float(2**attempt) * random.uniform(0.5, 1.0)
            if self._stopping.wait(min(LONGEST_WAIT_SECONDS, max(found.wait_seconds, backoff))):
                problem += ", stopped"
                break
        if self._keeps_refused and attempt == MAX_RETRIES:
            self._num_unanswered += 1
            if self._num_unanswered <= MOST_UNANSWERED:
                # Not kept: whoever continues asks again.
                return NO_REPLY
        raise EndpointUnavailable(
            f"{self.endpoint.host} failed ({problem}, {attempt + 1} attempt"
            f"{'s' * (attempt > 0)}); check url, model and key_variable, then resume_run: answers "
            "received so far are kept"
        )

    def ask_all(
        self, questions: Sequence[Question], should_stop: Callable[[], bool]
    ) -> Iterator[list[tuple[int, Reply]]]:
        """Ask several questions at a time, and yield each reply with its place as it arrives.

        After a stop, or a failure, what is in flight is finished and yielded; after a stop nothing
        is retried, and what failed is left out.

        Raises:
            EndpointUnavailable: A question got no answer; all others in flight were yielded before.
            BudgetUsedUp: The budget ends here.
        """
        size = self.endpoint.max_concurrency
        waiting = iter(range(len(questions)))
        running: dict[Future[Reply], int] = {}
        failure: Exception | None = None
        self._stopping.clear()
        with ThreadPoolExecutor(size) as pool:
            while True:
                while failure is None and not should_stop() and len(running) < size:
                    i = next(waiting, None)
                    if i is None:
                        break
                    running[pool.submit(self.ask, questions[i])] = i
                if not running:
                    break
                done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                if should_stop():
                    self._stopping.set()
                found = []
                for future in done:
                    i, error = running.pop(future), future.exception()
                    if isinstance(error, EndpointUnavailable | BudgetUsedUp):
                        failure = error
                    else:
                        found.append((i, future.result()))
                if found:
                    yield found
        if failure is not None and not self._stopping.is_set():
            raise failure

    def _keep(self, key: str, reply: Reply) -> Reply:
        self._replies[key] = reply
        if self._cache is not None:
            keep_reply(self._cache, key, reply)
        return reply

    def _attempt(self, content: bytes) -> Reply | _Failure:
        """Send one request."""
        try:
            with self._http.stream(
                "POST",
                "chat/completions",
                content=content,
                headers={"Content-Type": "application/json"},
            ) as response:
                status = response.status_code
                if status != 200:
                    is_retried = status in RETRIED or status >= 500
                    seconds = _retry_after(response.headers) if is_retried else None
                    is_free = 400 <= status < 500
                    return _Failure(f"HTTP status {status}", seconds, is_free, status)
                data = b""
                for part in response.iter_bytes():
                    data += part
                    if len(data) > MAX_ANSWER_BYTES:
                        return _Failure("answer too large", None, is_free=False)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return _Failure(type(error).__name__, 0.0, is_free=True)
        except httpx2.HTTPError as error:
            # Sent, and perhaps answered and billed: its highest price stays counted.
            return _Failure(type(error).__name__, 0.0, is_free=False)
        return read_completion(data) or _Failure("no chat completion", 0.0, is_free=False)


def question_for(
    endpoint: Endpoint,
    messages: Sequence[Message],
    max_tokens: int,
    sample: int = 0,
    **options: Any,
) -> Question:
    """Return a question to an endpoint; options are more fields of the request."""
    body = {
        **endpoint.sampling,
        "model": endpoint.model,
        "messages": list(messages),
        "max_tokens": max_tokens,
        **options,
    }
    content = json.dumps(body, ensure_ascii=False).encode()
    return Question(messages, content, max_tokens, sample)


def schema_option(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return the request field that constrains answers to a schema."""
    if kind == "json_object":
        return {"response_format": {"type": "json_object", "schema": schema}}
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def require_key(variable: str | None) -> str | None:
    """Return the API key.

    Raises:
        BadInput: The environment variable is not set.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise BadInput(
            f"environment variable {variable} is not set; set it to the API key, or leave "
            "key_variable out for a server without one"
        )
    return key


def _retry_after(headers: Any) -> float:
    """Return the seconds a server asks to wait; 0 where it names none."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(headers.get("retry-after", 0)))
    return 0.0


def read_completion(data: bytes) -> Reply | None:
    """Read a chat completion; None where it is none."""
    try:
        answer = json.loads(data)
        choice = answer["choices"][0]
        usage = answer.get("usage") or {}
        names = [str(answer.get(name) or "")[:100] for name in ("model", "system_fingerprint")]
        reason = str(choice.get("finish_reason") or "")[:40]
        return Reply(
            text=str(choice["message"].get("content") or ""),
            prompt_tokens=max(0, int(usage.get("prompt_tokens") or 0)),
            completion_tokens=max(0, int(usage.get("completion_tokens") or 0)),
            finished=reason != "length",
            served_by=" ".join(filter(None, names)),
            finish_reason=reason,
            refusal=str(choice["message"].get("refusal") or ""),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def keep_reply(path: Path, key: str, reply: Reply) -> None:
    """Append a reply to a file of replies."""
    append_line(path, json.dumps({"key": key} | asdict(reply)))


def read_replies(path: Path | None) -> dict[str, Reply]:
    """Return the replies that a file keeps, by key; a torn line is dropped."""
    replies: dict[str, Reply] = {}
    for row in read_rows(path) if path else ():
        with contextlib.suppress(LookupError, TypeError):
            key = row.pop("key")
            replies[key] = Reply(**row)
    return replies
