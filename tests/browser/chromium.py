"""Chromium, spoken to over two pipes: no driver and no network port, only the DevTools protocol."""

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
SECONDS = 60.0


def find_chromium():
    """Return the path of a Chromium, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A headless browser with one page; it records dialogs, requests and what the console says."""

    def __init__(self, binary):
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        to_browser, to_us = os.pipe(), os.pipe()
        self._write, self._read = to_browser[1], to_us[0]
        command = [
            *(binary, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
            *(f"--user-data-dir={self._profile}", "--no-first-run", "--disable-dev-shm-usage"),
            "--disable-background-networking",
        ]
        # The protocol is spoken on descriptors 3 and 4; those at hand may be in the way.
        theirs = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_browser[0], to_us[1])]

        def move():
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=move,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_browser[0], to_us[1], *theirs):
            os.close(end)
        self._buffer = b""
        self._number = 0
        self.dialogs, self.requests, self.errors, self.loaded = [], [], [], 0
        self._session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send a command and return its result; events on the way are recorded."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._write, data) :]
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def open(self, path, *, settle=0.0):
        """Load a file and wait until it is there, and some seconds more."""
        before = self.loaded
        self.call("Page.navigate", url=Path(path).as_uri())
        until = time.monotonic() + SECONDS
        while self.loaded == before:
            assert time.monotonic() < until, f"{path} did not load"
            self.evaluate("1")
        until = time.monotonic() + settle
        while time.monotonic() < until:
            self.evaluate("1")

    def evaluate(self, expression):
        """Run a script in the page and return its value; promises are waited for."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def shape(self, width, height, *, dark=False, mobile=False):
        """Give the page a size and a colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def close(self):
        """End the browser and remove its profile."""
        os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        shutil.rmtree(self._profile, ignore_errors=True)

    def _next(self):
        while b"\0" not in self._buffer:
            data = os.read(self._read, 1 << 20)
            assert data, "the browser ended"
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\0", 1)
        message = json.loads(line)
        self._record(message.get("method"), message.get("params", {}))
        return message

    def _record(self, method, params):
        if method == "Page.javascriptDialogOpening":
            self.dialogs.append(params["message"])
            self._number += 1
            # Not waited for: its answer is read like an event.
            data = {
                "id": self._number,
                "method": "Page.handleJavaScriptDialog",
                "params": {"accept": False},
                "sessionId": self._session,
            }
            os.write(self._write, json.dumps(data).encode() + b"\0")
        elif method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Page.loadEventFired":
            self.loaded += 1
        elif method == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("text", ""))
