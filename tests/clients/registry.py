"""A stand-in for the skill registry on loopback: one skill, its facts and its archive."""

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ABOUT = {
    "skill": {"tags": {}, "stats": {}, "createdAt": 1, "updatedAt": 1},
    "latestVersion": {"version": "0.1.0", "createdAt": 1, "changelog": ""},
    "owner": {"handle": "acme"},
}


@contextmanager
def serving_skill(folder: Path) -> Iterator[str]:
    """Serve a skill's folder as the registry does; give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/api/v1/download":
                self._answer(_archive(folder), "application/zip")
            elif path == "/api/v1/resolve":
                self._answer(b'{"match": null, "latestVersion": null}', "application/json")
            elif path.startswith("/api/v1/skills/"):
                named = {"slug": folder.name, "displayName": folder.name}
                about = ABOUT | {"skill": ABOUT["skill"] | named}
                self._answer(json.dumps(about).encode(), "application/json")
            else:
                self.send_error(404)

        def _answer(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _archive(folder: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                bundle.write(path, path.relative_to(folder))
    return stream.getvalue()
