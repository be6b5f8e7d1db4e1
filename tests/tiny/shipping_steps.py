"""Make shipped artifacts on disks that are too small, and on one that is not.

`python -m tests.tiny.shipping_steps FOLDER PLACE KIB...`, where FOLDER has `base`, `adapter` and
`source.gguf`, and a disk of each size is mounted at PLACE. The libraries are loaded once and each
trial is a fork. Prints a JSON object: for each step how its trials ended, and what was wrong.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from ft_tools import publish
from ft_tools.errors import FineTuningError
from ft_tools.models.placement import Placement
from ft_tools.shipping import formats
from ft_tools.shipping.worker import llama_job, merging
from ft_tools.shipping.worker.shipment import disk_full_of_libraries

FULL = 75


def merge(folder, staging):
    merging.merge_by_shards(folder / "base", folder / "adapter", staging, lambda: None)


def merge_in_memory(folder, staging):
    place = Placement("cpu", "bfloat16", 0)
    merging.merge_whole(folder / "base", folder / "adapter", staging, place)


def quantize(folder, staging):
    row = formats.find("gguf:Q4_0")
    llama_job.quantize(folder / "source.gguf", staging / "model.gguf", row)


def ended(step, folder, place):
    """Fork a trial; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with publish.new_folder(place / "made") as made, disk_full_of_libraries(made):
                step(folder, made)
            code = 0
        except FineTuningError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def sweep(step, folder, place, sizes):
    ends, bad = [], []
    for num_kib in sizes:
        subprocess.run(["umount", str(place)], capture_output=True)
        options = f"size={num_kib}k,mode=0700"
        argv = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        subprocess.run(argv, check=True, capture_output=True)
        ends.append(ended(step, folder, place))
        visible = [p for p in place.iterdir() if not p.name.startswith(publish.STAGING)]
        if ends[-1] not in (0, FULL) or bool(visible) != (ends[-1] == 0):
            bad.append((num_kib, ends[-1]))
        bad += [(num_kib, path.name) for path in visible if publish.verify(path)]
    subprocess.run(["umount", "-l", str(place)], capture_output=True)
    return {"ends": ends, "bad": bad}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, place, *sizes = sys.argv[1:]
    found = {
        step.__name__: sweep(step, Path(folder), Path(place), [int(size) for size in sizes])
        for step in (merge, merge_in_memory, quantize)
    }
    sys.stdout.write(json.dumps(found))
