"""Make shipped artifacts again and again, killed or on a disk that is too small.

`python -m tests.tiny.shipping_steps kill FOLDER TRIALS SEED` or `... disk FOLDER PLACE SIZE...`,
where FOLDER has `base`, `adapter` and `source.gguf`. The libraries are loaded once and each trial
is a fork. Prints a JSON object: for each step its trials, how they ended, and what was wrong.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

from ft_tools import publish
from ft_tools.errors import FineTuningError
from ft_tools.models.placement import Placement
from ft_tools.shipping import formats
from ft_tools.shipping.worker import llama_job, merging
from ft_tools.shipping.worker.shipment import disk_full_of_libraries

DONE, FULL, REFUSED = 0, 75, 5


def merge(folder, into):
    with publish.new_folder(into / "merged") as staging, disk_full_of_libraries(staging):
        base, adapter = folder / "base", folder / "adapter"
        merging.merge_by_shards(base, adapter, staging, None, lambda: None)
        merging.copy_small_files(base, adapter, staging)


def merge_in_memory(folder, into):
    with publish.new_folder(into / "merged") as staging, disk_full_of_libraries(staging):
        base, adapter = folder / "base", folder / "adapter"
        merging.merge_whole(base, adapter, staging, Placement("cpu", "bfloat16", 0))
        merging.copy_small_files(base, adapter, staging)


def quantize(folder, into):
    with publish.new_folder(into / "gguf") as staging, disk_full_of_libraries(staging):
        row = formats.find("gguf:Q4_0")
        llama_job.quantize(folder / "source.gguf", staging / "model.gguf", row)


def merge_naively(folder, into):
    """The negative control: straight into the final folder."""
    (into / "merged").mkdir()
    base, adapter = folder / "base", folder / "adapter"
    merging.merge_by_shards(base, adapter, into / "merged", None, lambda: None)
    publish.seal(into / "merged")


QUICK, STEPS = (merge, quantize, merge_naively), (merge, merge_in_memory, quantize, merge_naively)
FEW = 10


def child(step, folder, into):
    """Fork a trial; its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        step(folder, into)
        os._exit(DONE)
    except FineTuningError as error:
        os._exit(FULL if error.exit_code == FULL else REFUSED)
    except BaseException:
        os._exit(99)


def visible(into):
    return [path for path in into.iterdir() if not path.name.startswith(publish.STAGING)]


def half_made(into):
    """Say which visible artifact is not whole."""
    return [path.name for path in visible(into) if publish.verify(path)]


def kill_sweep(folder, num_trials, seed):
    dice, found = random.Random(seed), {}
    for step in QUICK if num_trials < FEW else STEPS:
        into = folder / "out"
        into.mkdir()
        began = time.monotonic()
        assert os.waitpid(child(step, folder, into), 0)[1] == 0, step
        lasts = time.monotonic() - began
        shutil.rmtree(into)
        killed, bad = 0, []
        for _ in range(num_trials):
            into.mkdir()
            pid = child(step, folder, into)
            time.sleep(dice.uniform(0, lasts))
            os.kill(pid, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            bad += half_made(into)
            if not bad and not visible(into):
                # A retry works, and clears what the dead one left.
                assert os.waitpid(child(step, folder, into), 0)[1] == 0
                bad += half_made(into) + [p.name for p in into.iterdir() if p not in visible(into)]
            shutil.rmtree(into)
        found[step.__name__] = {"trials": num_trials, "killed": killed, "bad": bad}
    return found


def disk_sweep(folder, place, sizes):
    found = {}
    for step in QUICK if len(sizes) < FEW else STEPS:
        ends, bad = [], []
        for num_kib in sizes:
            subprocess.run(["umount", str(place)], capture_output=True)
            options = f"size={num_kib}k,mode=0700"
            argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
            subprocess.run(argv, check=True, capture_output=True)
            code = os.waitstatus_to_exitcode(os.waitpid(child(step, folder, place), 0)[1])
            ends.append(code)
            bad += [(num_kib, name) for name in half_made(place)]
            if code not in (DONE, FULL) or (code != DONE and visible(place)):
                bad.append((num_kib, code))
        found[step.__name__] = {"ends": ends, "bad": bad}
    subprocess.run(["umount", "-l", str(place)], capture_output=True)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "kill":
        answer = kill_sweep(folder, int(sys.argv[3]), int(sys.argv[4]))
    else:
        answer = disk_sweep(folder, Path(sys.argv[3]), [int(size) for size in sys.argv[4:]])
    sys.stdout.write(json.dumps(answer))
