"""A stand-in for the Hub on loopback: answers as the real one does, well or badly."""

import hashlib
import json
import threading
import time
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
GIB = 2**30


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class Hub(ThreadingHTTPServer):
    """Serves repositories by what their name says; `asked` lists the paths it was asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = []
        self.tokens = []
        self.commit = COMMIT
        self.configs = {}

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

    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.tokens.append(self.headers.get("authorization"))
        _, owner, name, _, revision, file = self.path.split("/", 5)
        refusals = {
            "gated": (403, {"X-Error-Code": "GatedRepo"}),
            "private": (401, {"X-Error-Code": "RepoNotFound"}),
            "missing": (404, {"X-Error-Code": "RepoNotFound"}),
            "bad-token": (401, {"X-Error-Message": "Invalid credentials in Authorization header"}),
            "no-config": (404, {"X-Error-Code": "EntryNotFound"}),
            "limited": (429, {"Retry-After": "30"}),
            "broken": (503, {}),
            "renamed": (307, {"Location": f"/{owner}/new-name/resolve/{revision}/{file}"}),
            "elsewhere": (302, {"Location": f"http://localhost:{self.server.server_port}/x"}),
            "circle": (302, {"Location": self.path}),
        }
        if name == "slow":
            time.sleep(3)
        if name in refusals:
            return self._send(refusals[name][0], refusals[name][1], b"")
        if name == "moved-inside":
            # As the Hub does for small files: to its own cache, by a relative address.
            stored = {"Location": "/api/stored/at/there/config.json"}
            return self._send(307, self._about(json.dumps(CONFIG).encode()) | stored, b"")
        if file != "config.json":
            return self._file(name, file)
        content = json.dumps(self.server.configs.get(f"{owner}/{name}", CONFIG)).encode()
        if name == "huge":
            return self._send(200, {"Content-Length": str(5 * GIB)}, b"x" * 1000)
        if name == "huge-unsaid":
            return self._stream()
        if name == "no-json":
            content = b"<html>"
        about = self._about(content)
        if name == "wrong-hash":
            about["ETag"] = f'"{"0" * 40}"'
        if name == "no-commit":
            del about["X-Repo-Commit"]
        return self._send(200, about, content)

    def _file(self, name, file):
        files = {"tokenizer_config.json": b'{"model_max_length": 128}', "tokenizer.json": b"{}"}
        if file not in files:
            return self._send(404, {"X-Error-Code": "EntryNotFound"}, b"")
        return self._send(200, self._about(files[file]), files[file])

    def _about(self, content):
        return {"X-Repo-Commit": self.server.commit, "ETag": f'"{git_hash(content)}"'}

    def _stream(self):
        self.send_response(200)
        self.end_headers()
        for _ in range(64):
            self.wfile.write(b" " * 2**16)

    def _send(self, status, headers, content):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)
