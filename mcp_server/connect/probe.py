"""Start a registered server as a client does, and ask it for its tools."""

import json
import os
import selectors
import subprocess
import tempfile
import time
from typing import Any

from ft_tools.errors import FineTuningError

PATH = "/usr/local/bin:/usr/bin:/bin"
SECONDS = 60.0
VERSION = "2025-11-25"


def list_tools(argv: list[str], environment: dict[str, str]) -> tuple[str, list[str]]:
    """Return the server's version and its tools.

    The process gets only what the strictest clients pass on: HOME, PATH and the entry's own
    variables; it starts in an empty folder.

    Raises:
        FineTuningError: It does not start or does not answer.
    """
    hello = {
        "protocolVersion": VERSION,
        "capabilities": {},
        "clientInfo": {"name": "fine-tuning-llm connect", "version": "1"},
    }
    given = {"HOME": os.path.expanduser("~"), "PATH": PATH} | environment
    with tempfile.TemporaryDirectory() as folder:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=given,
            )
        except OSError as error:
            raise FineTuningError(f"{argv[0]} does not start ({error.strerror})") from error
        try:
            answers = _Answers(process)
            found = answers.ask({"id": 1, "method": "initialize", "params": hello})
            answers.send({"method": "notifications/initialized"})
            tools = answers.ask({"id": 2, "method": "tools/list"})["tools"]
            return found["serverInfo"]["version"], [tool["name"] for tool in tools]
        finally:
            process.kill()
            process.communicate()


class _Answers:
    """The lines of a process, read with a time limit."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._deadline = time.monotonic() + SECONDS
        self._unread = b""

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            line = json.dumps({"jsonrpc": "2.0", **message}) + "\n"
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise FineTuningError("the server ended instead of answering") from error

    def ask(self, message: dict[str, Any]) -> Any:
        """Send a request and return its result."""
        self.send(message)
        while True:
            try:
                answer = json.loads(self._line())
            except ValueError as error:
                raise FineTuningError("the server writes something else on stdout") from error
            if answer.get("id") == message["id"]:
                if "result" not in answer:
                    raise FineTuningError(f"the server refused {message['method']}")
                return answer["result"]

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        file = self._process.stdout.fileno()
        with selectors.DefaultSelector() as waiting:
            waiting.register(file, selectors.EVENT_READ)
            while b"\n" not in self._unread:
                if not waiting.select(max(0.0, self._deadline - time.monotonic())):
                    raise FineTuningError(f"the server did not answer within {SECONDS:.0f} s")
                data = os.read(file, 1 << 16)
                if not data:
                    raise FineTuningError("the server ended instead of answering")
                self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line
