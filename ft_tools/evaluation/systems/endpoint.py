"""Ask a server with the OpenAI chat completions API; nothing it says is trusted or passed on."""

import json
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from ft_tools.errors import FineTuningError
from ft_tools.evaluation.held_out import HeldOut, Message, messages_of
from ft_tools.evaluation.systems.budget import Budget, BudgetUsedUp
from ft_tools.evaluation.systems.files_present import require_key
from ft_tools.evaluation.systems.spec import Endpoint, Price
from ft_tools.evaluation.systems.system import Answered, Stop

MAX_ANSWER_BYTES = 4 * 2**20
MAX_RETRIES = 6
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
# Source: https://github.com/openai/openai-python, _should_retry
RETRIED = {408, 409, 429}
CONNECT_SECONDS = 5.0
# A byte is at least as long as any token's share of it; roles and turn marks add a few tokens.
TOKENS_PER_MESSAGE = 32


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
    served_by: str
    seconds: float


class Client:
    """Sends one request at a time per thread; retries what may succeed later."""

    def __init__(self, endpoint: Endpoint, price: Price | None, budget: Budget) -> None:
        self._endpoint = endpoint
        self._price = price or Price()
        self._budget = budget
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

    def usd_of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return what so many tokens cost."""
        into, out = prompt_tokens, completion_tokens
        price = self._price
        usd = into * price.usd_per_million_input_tokens + out * price.usd_per_million_output_tokens
        return usd / 1e6

    def ask(self, messages: Sequence[Message], max_tokens: int, **options: Any) -> Reply:
        """Ask once, with retries; each attempt counts against the budget.

        Raises:
            EndpointUnavailable: It refuses, or fails after retries.
            BudgetUsedUp: The next attempt could exceed the budget.
        """
        body = {
            **self._endpoint.sampling,
            "model": self._endpoint.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            **options,
        }
        content = json.dumps(body, ensure_ascii=False).encode()
        bound = len(content) + TOKENS_PER_MESSAGE * len(messages)
        most = self.usd_of(bound, max_tokens)
        problem = ""
        for attempt in range(MAX_RETRIES + 1):
            call = self._budget.reserve(most)
            began = time.monotonic()
            reply, problem, pause, is_free = self._attempt(content)
            if reply is not None:
                usd = self.usd_of(reply.prompt_tokens, reply.completion_tokens)
                self._budget.settle(call, usd if reply.prompt_tokens else None)
                return Reply(**(reply.__dict__ | {"seconds": time.monotonic() - began}))
            self._budget.settle(call, 0.0 if is_free else None)
            if pause is None or attempt == MAX_RETRIES:
                break
            time.sleep(min(LONGEST_WAIT_SECONDS, max(pause, _backoff(attempt))))
        raise EndpointUnavailable(
            f"{self._endpoint.host} failed ({problem}, {attempt + 1} attempt"
            f"{'s' * (attempt > 0)}); check url, model and key_variable, then resume_run: answers "
            "received so far are kept"
        )

    def _attempt(self, content: bytes) -> tuple[Reply | None, str, float | None, bool]:
        """Send one request.

        Returns:
            The reply; or None, the problem, the seconds to wait (None: do not retry), and whether
            it surely cost nothing.
        """
        try:
            with self._http.stream(
                "POST",
                "chat/completions",
                content=content,
                headers={"Content-Type": "application/json"},
            ) as response:
                status = response.status_code
                if status != 200:
                    is_free = status == 429 or 400 <= status < 500
                    retried = status in RETRIED or status >= 500
                    pause = _retry_after(response.headers) if retried else None
                    return None, f"HTTP status {status}", pause, is_free
                data = b""
                for part in response.iter_bytes():
                    data += part
                    if len(data) > MAX_ANSWER_BYTES:
                        return None, "answer too large", None, False
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            return None, type(error).__name__, 0.0, True
        except httpx2.HTTPError as error:
            # Sent, and perhaps answered and billed: its highest price stays counted.
            return None, type(error).__name__, 0.0, False
        reply = _read(data)
        return (reply, "", None, False) if reply else (None, "no chat completion", 0.0, False)


class EndpointSystem:
    """Answers by asking an endpoint, several questions at a time."""

    def __init__(
        self,
        client: Client,
        endpoint: Endpoint,
        max_new_tokens: int,
        temperature: float,
        schema: dict[str, Any] | None,
    ) -> None:
        self._client = client
        self._concurrency = endpoint.max_concurrency
        self._max_new_tokens = max_new_tokens
        self._options: dict[str, Any] = {"temperature": temperature}
        if schema is not None:
            self._options["response_format"] = _response_format(endpoint.response_format, schema)

    def answer(
        self, questions: Sequence[HeldOut], should_stop: Stop
    ) -> Iterator[list[tuple[int, Answered]]]:
        """Give each answer as it arrives; after a stop, those that are under way.

        Raises:
            EndpointUnavailable: A question got no answer; all others under way were given before.
            BudgetUsedUp: The budget ends here.
        """
        waiting = iter(range(len(questions)))
        running: dict[Future[Reply], int] = {}
        failure: Exception | None = None
        with ThreadPoolExecutor(self._concurrency) as pool:
            while True:
                while failure is None and not should_stop() and len(running) < self._concurrency:
                    i = next(waiting, None)
                    if i is None:
                        break
                    running[pool.submit(self._ask, questions[i])] = i
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                found = []
                for future in done:
                    i = running.pop(future)
                    error = future.exception()
                    if isinstance(error, EndpointUnavailable | BudgetUsedUp):
                        failure = error
                    elif error is not None:
                        raise error
                    else:
                        found.append((i, self._answered(future.result())))
                if found:
                    yield found
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, question: HeldOut) -> Reply:
        return self._client.ask(messages_of(question), self._max_new_tokens, **self._options)

    def _answered(self, reply: Reply) -> Answered:
        return Answered(
            text=reply.text.strip(),
            num_tokens=reply.completion_tokens,
            finished=reply.finished,
            seconds=reply.seconds,
            prompt_tokens=reply.prompt_tokens,
            usd=self._client.usd_of(reply.prompt_tokens, reply.completion_tokens),
            served_by=reply.served_by,
        )


def _response_format(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    if kind == "json_object":
        return {"type": "json_object", "schema": schema}
    named = {"name": "answer", "strict": True, "schema": schema}
    return {"type": "json_schema", "json_schema": named}


def _backoff(attempt: int) -> float:
    """Return a random wait that doubles with each attempt, so that clients do not march in step."""
    return FIRST_WAIT_SECONDS * float(2**attempt) * random.uniform(0.5, 1.0)


def _retry_after(headers: Any) -> float:
    """Return the seconds a server asks to wait; 0 where it says nothing that can be read."""
    value = str(headers.get("retry-after", ""))
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        at: float = parsedate_to_datetime(value).timestamp()
        return max(0.0, at - time.time())
    except (ValueError, TypeError):
        return 0.0


def _read(data: bytes) -> Reply | None:
    """Read a chat completion; None where it is none."""
    try:
        answer = json.loads(data)
        choice = answer["choices"][0]
        text = choice["message"].get("content") or ""
        usage = answer.get("usage") or {}
        names = [str(answer.get(name) or "")[:100] for name in ("model", "system_fingerprint")]
        return Reply(
            text=str(text),
            prompt_tokens=max(0, int(usage.get("prompt_tokens") or 0)),
            completion_tokens=max(0, int(usage.get("completion_tokens") or 0)),
            finished=choice.get("finish_reason") != "length",
            served_by=" ".join(filter(None, names)),
            seconds=0.0,
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
