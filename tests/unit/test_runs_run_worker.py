"""A worker's module runs as `python -m` would run it, and imports without looking for garbage."""

import json
import subprocess
import sys
from pathlib import Path

from ft_tools.runs.launchers.torchrun import single

WORKER = """
import gc, json, sys
imported = {"name": __name__, "argv": sys.argv[1:], "collects": gc.isenabled()}
from ft_tools.runs.processes.worker_session import main
try:
    main(None)
finally:
    # There is no such run: what is asked here happens before anybody looks.
    print(json.dumps([imported, gc.isenabled(), gc.get_freeze_count() > 1000]))
"""


def test_a_worker_imports_without_looking_for_garbage_and_works_with_it(tmp_path):
    (tmp_path / "probe.py").write_text(WORKER)
    folders = f"{tmp_path}:{Path(__file__).parents[2]}"
    argv = single(sys.executable, "probe", str(tmp_path / "nowhere"))
    done = subprocess.run(argv, capture_output=True, text=True, env={"PYTHONPATH": folders})
    imported, collects, is_frozen = json.loads(done.stdout)
    assert imported == {"name": "__main__", "argv": argv[-1:], "collects": False}
    assert collects
    assert is_frozen
