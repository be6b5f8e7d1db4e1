"""An OpenAI-compatible endpoint on loopback that answers what a test says."""

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """Answers with `reply(question, body)`.

    That is a text, a whole answer, a status that refuses, or seconds to stall before hanging up.
    """

    def __init__(self, reply: Callable[[str, dict[str, Any]], Any]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.lock = reply, threading.Lock()
        self.questions: list[str] = []
        self.keys: set[str | None] = set()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def answer(self, path: str, content: bytes) -> Any:
        """Answer a request, of which there is one at a time: JSON, bytes, a status or seconds."""
        body = json.loads(content)
        question = body["messages"][-1]["content"]
        self.questions.append(question)
        said = self.reply(question, body)
        if isinstance(said, str):
            said = {"model": "m", "choices": [{"message": {"content": said}}]}
        return said

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that hung up, or was killed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def serving(reply: Callable[[str, dict[str, Any]], Any] | Endpoint) -> Iterator[Any]:
    with reply if isinstance(reply, Endpoint) else Endpoint(reply) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class Teacher:
    """Answers by a script, with faults of known rates, drawn by seed for each time it is asked."""

    def __init__(
        self,
        answer: Callable[[str, bool], str],
        rates: Mapping[str, float] | None = None,
        seed: int = 0,
        stall_seconds: float = 1.5,
    ) -> None:
        """Prepare the script.

        Args:
            answer: Question, and whether to be right -> text.
            rates: wrong, malformed, refusal, content_filter, length, no_usage, stall, or a status,
                each with its rate.
            seed: Of the draws.
            stall_seconds: Of a `stall`, which never answers.
        """
        self.answer, self.rates, self.seed = answer, dict(rates or {}), seed
        self.stall_seconds = stall_seconds
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.usd = 0.0
        """What the answers cost at `PRICE`."""

    def __call__(self, question: str, body: dict[str, Any]) -> Any:
        """Return the reply to a question; the same one when it is asked as often again."""
        chance = random.Random(f"{self.seed} {question} {self.asked[question]}")
        self.asked[question] += 1
        at, fault = chance.random(), ""
        for name, rate in self.rates.items():
            if at < rate:
                fault = name
                break
            at -= rate
        self.faults[fault] += 1
        if fault.isdigit():
            return int(fault)
        if fault == "stall":
            return self.stall_seconds
        self.answered[question] += 1
        text = self.answer(question, fault != "wrong")
        message: dict[str, Any] = {"content": text}
        if fault == "malformed":
            message = {"content": text[: len(text) // 2]}
        if fault == "refusal":
            message = {"content": None, "refusal": "I cannot help with that."}
        reason = fault if fault in {"length", "content_filter"} else "stop"
        usage = {
            "prompt_tokens": len(str(body["messages"])) // 4,
            "completion_tokens": 10 + chance.randrange(40),
        }
        self.usd += usage["prompt_tokens"] / 1e3 + usage["completion_tokens"] * 2 / 1e3
        return {
            "model": "teacher-1",
            "choices": [{"message": message, "finish_reason": reason}],
            "usage": {} if fault == "no_usage" else usage,
        }


PRICE = {"usd_per_million_input_tokens": 1000, "usd_per_million_output_tokens": 2000}
"""Of a `Teacher`."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if content:
            self.respond(content)
        else:
            # Whoever asked was killed before it had said what.
            self.close_connection = True

    def do_GET(self) -> None:
        self.respond(b"")

    def respond(self, content: bytes) -> None:
        with self.server.lock:
            self.server.keys.add(self.headers.get("Authorization"))
            said = self.server.answer(self.path, content)
        if isinstance(said, float):
            time.sleep(said)
            self.close_connection = True
            return
        status, answer = (said, {}) if isinstance(said, int) else (200, said)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.01")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""
