"""An OpenAI-compatible endpoint on loopback that answers what a test says."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """Answers with `reply(question, body)`: a text, a whole answer, or a status that refuses."""

    def __init__(self, reply: Callable[[str, dict[str, Any]], Any]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.lock = reply, threading.Lock()
        self.questions: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def serving(reply: Callable[[str, dict[str, Any]], Any]) -> Iterator[Endpoint]:
    with Endpoint(reply) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][-1]["content"]
        with self.server.lock:
            self.server.questions.append(question)
            said = self.server.reply(question, body)
        status = said if isinstance(said, int) else 200
        answer = said if isinstance(said, dict) else {}
        if isinstance(said, str):
            answer = {"model": "m", "choices": [{"message": {"content": said}}]}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Stay quiet."""
