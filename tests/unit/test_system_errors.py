"""What the operating system refuses is said with its path, the problem and what to do."""

import ctypes
import errno
import json
import os
import subprocess
import sys

import pytest

from ft_tools import system_errors
from ft_tools.cli import main as cli
from ft_tools.errors import BadInput, DiskFull, FineTuningError, NotFound
from ft_tools.tools import TOOLS
from tests.unit.test_shipping import write_safetensors

ROW = '{{"prompt": "What is {0} times {0}, minus {1}?", "completion": "It is {2}, of course."}}\n'
ROWS = "".join(ROW.format(n, n % 7, n * n - n % 7) for n in range(100))
CONFIG = {"model_type": "llama", "hidden_size": 64}
READS_ANYTHING = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, with which root passes every mode (capabilities(7))."""


@pytest.fixture
def ordinary():
    """Take from this thread, if it is root's, what lets root read and write everything."""
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("root may do everything here")
    system = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, less = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert system.capget(header, before) == 0
    less[:] = before[:]
    less[0] &= ~READS_ANYTHING
    assert system.capset(header, less) == 0
    yield
    assert system.capset(header, before) == 0


@pytest.fixture
def closed(workspace, ordinary):
    """Give a workspace with things that may not be read or written."""
    (workspace / "data.jsonl").write_text(ROWS)
    (workspace / "locked").mkdir()
    (workspace / "locked" / "data.jsonl").write_text(ROWS)
    (workspace / "fixed").mkdir()
    (workspace / "runs").mkdir()
    (workspace / "model").mkdir()
    (workspace / "model" / "config.json").write_text(json.dumps(CONFIG))
    (workspace / "whole").mkdir()
    (workspace / "whole" / "config.json").write_text(json.dumps(CONFIG))
    write_safetensors(workspace / "whole" / "model.safetensors", {"w": (4, 4)})
    modes = {"locked": 0, "fixed": 0o555, "runs": 0o300, "model/config.json": 0}
    for name, mode in modes.items():
        (workspace / name).chmod(mode)
    yield workspace
    for name in modes:
        (workspace / name).chmod(0o700)


CASES = {
    "a folder to audit": (
        "audit_dataset",
        {"path": "locked"},
        "this user may not {verb} {w}/locked; run: chmod u+",
    ),
    "a folder to prepare": ("prepare_dataset", {"path": "locked"}, "may not {verb} {w}/locked"),
    "a file in it": ("audit_dataset", {"path": "locked/data.jsonl"}, "may not enter {w}/locked"),
    "where to write": (
        "audit_dataset",
        {"path": "data.jsonl", "output_dir": "fixed/clean"},
        "this user may not write in {w}/fixed; run: chmod u+w '{w}/fixed'",
    ),
    "where to ship": (
        "merge_and_quantize",
        {"source": "whole", "formats": ["safetensors"], "output_dir": "fixed/a/b"},
        "this user may not write in {w}/fixed; run: chmod u+w '{w}/fixed'",
    ),
    "runs": ("get_run", {}, "may not read {w}/runs"),
    "a model": (
        "suggest_lora_config",
        {"model": "model", "goal": "style"},
        "may not read {w}/model/config.json",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_this_user_may_not_do_is_said_with_its_path_and_the_command(closed, case):
    tool, arguments, said = CASES[case]
    spec = TOOLS[tool]
    with pytest.raises(FineTuningError) as caught:
        spec.call(spec.request.model_validate(arguments))
    texts = [said.format(w=closed, verb=verb) for verb in ("read", "enter")]
    assert any(text in str(caught.value) for text in texts), str(caught.value)
    assert "another" in str(caught.value)


def test_the_command_line_says_it_too_and_shows_the_traceback_only_if_asked(closed, capsys):
    argv = ["audit-dataset", "data.jsonl", "--output-dir", "fixed/clean", "--format", "agent"]
    assert cli.run(argv) == 2
    said = capsys.readouterr().err
    assert f"this user may not write in {closed}/fixed" in json.loads(said)["error"]["message"]
    assert cli.run([*argv, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def started(*argv, **changed):
    return subprocess.run(
        [sys.executable, "-m", *argv], capture_output=True, text=True, env=os.environ | changed
    )


def test_a_name_that_the_terminal_cannot_show_is_escaped(workspace):
    (workspace / "emo🙂.jsonl").write_text(ROWS)
    argv = ["ft_tools", "audit-dataset", "emo🙂.jsonl", "--format", "human"]
    ended = started(*argv, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "\\U0001f642" in ended.stdout


def test_every_error_with_a_path_becomes_one_that_says_what_to_do(tmp_path):
    kinds = {
        errno.ENOENT: NotFound,
        errno.ENOSPC: DiskFull,
        errno.EROFS: DiskFull,
        errno.EMFILE: FineTuningError,
        errno.ENAMETOOLONG: BadInput,
    }
    for number, kind in kinds.items():
        with pytest.raises(kind, match="; ") as caught, system_errors.explained():
            raise OSError(number, os.strerror(number), str(tmp_path / "a"))
        assert type(caught.value) is kind
        assert number == errno.EMFILE or str(tmp_path) in str(caught.value)
