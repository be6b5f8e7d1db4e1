"""A stand-in for the Hub on loopback: answers as the real one does, well or badly."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "89abcdef0123456789abcdef0123456789abcdef"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
    "_name_or_path": "/home/author/checkpoint",
}
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer_config.json": b'{"model_max_length": 128}',
    "tokenizer.json": b"{}",
}
REFUSALS = {
    "gated": (403, {"X-Error-Code": "GatedRepo"}),
    "private": (401, {"X-Error-Code": "RepoNotFound"}),
    "missing": (404, {"X-Error-Code": "RepoNotFound"}),
    "bad-token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
    "no-config": (404, {"X-Error-Code": "EntryNotFound"}),
    "limited": (429, {"Retry-After": "30"}),
    "broken": (503, {}),
    "no-commit": (200, {"ETag": '"0"'}),
    "huge": (200, {"ETag": '"0"', "X-Repo-Commit": COMMIT, "Content-Length": str(2**30)}),
}


class Hub(ThreadingHTTPServer):
    """Serves repositories by what their name says; `asked` lists the paths it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = []
        self.tokens = []
        self.commit = COMMIT

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving():
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers.get("authorization"))
        if self.path.startswith("/api/"):  # the library's own list of known agents
            return self._send(404, {}, b"")
        _, _, name, _, _, file = self.path.split("/", 5)
        content = FILES.get(file)
        if name in REFUSALS:
            return self._send(*REFUSALS[name], b"")
        if name == "half" and file != "config.json":
            return self._send(*REFUSALS["limited"], b"")
        if name == "changing" and self.server.asked.count(self.path) > 1:
            return self._send(*REFUSALS["no-commit"], b"")
        commit = {"X-Repo-Commit": self.server.commit}
        if content is None:
            return self._send(404, commit | {"X-Error-Code": "EntryNotFound"}, b"")
        etag = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        return self._send(200, commit | {"ETag": f'"{etag}"'}, content)

    def do_GET(self):
        self.do_HEAD()

    def _send(self, status, headers, content):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)
