"""Size, loss and speed of each format of the demo model, beside PEFT's and llama.cpp's own ways.

`python -m benchmarks.quantize` writes quantize.json beside this file. Formats are made and measured
by merge_and_quantize itself, on the demo model as it is; the merges run in processes of their own,
so that the peak of one is not that of the other. The quantizers take turns in one process: the step
of a run with its publishing, and llama.cpp's function alone.
"""

import argparse
import ctypes
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import llama_cpp
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from ft_tools import publish, workspace
from ft_tools.models import demo, safetensors_headers
from ft_tools.models.worker import gguf
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.shipping import formats
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.shipping.worker import llama, llama_job, merging
from tests.demo_tickets.make import prepared

FORMATS = [
    "gguf:F16", "gguf:Q8_0", "gguf:Q6_K", "gguf:Q5_K_M", "gguf:Q4_K_M", "gguf:IQ4_XS",
    "gguf:Q4_0", "gguf:Q3_K_M", "gguf:Q2_K", "fp8", "gptq:4",
]  # fmt: skip
PACKAGES = ["torch", "transformers", "peft", "llama-cpp-python", "gguf"]
SHARD = "70MB"


def main() -> None:
    """Run both measurements, or one merge in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--merge", choices=["shards", "peft"], help="one merge, here")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--formats", nargs="+", default=FORMATS)
    parser.add_argument("--repeats", type=int, default=3, help="merges of each kind")
    arguments = parser.parse_args()
    if arguments.merge:
        print(json.dumps(merge(arguments.merge, arguments.folder)))
        return
    with tempfile.TemporaryDirectory() as where:
        os.environ[workspace.VARIABLE] = where
        wait(demo.ensure())
        report = ship(arguments.formats)
        merges = measure_merges(Path(where), arguments.repeats)
        quantizers = measure_quantizers(Path(where), arguments.repeats)
    result = {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", "all"),
            "load_average_1m": round(os.getloadavg()[0], 1),
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "model": demo.HUB_ID,
        "merge": merges,
        "quantize_seconds": quantizers,
        "num_held_out_tokens": report["num_held_out_tokens"],
        "formats": [row(r) for r in report["formats"]],
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def wait(run_id):
    """Follow a run to its end."""
    while run_id:
        run = get_run(RunRequest(run_id=run_id))
        if run.state in ENDED:
            assert run.state == "succeeded", run
            return run.result
        time.sleep(0.5)
    return None


def ship(names):
    """Make and measure formats of the demo model; what needs text is calibrated on the demo's."""
    request = {"source": demo.HUB_ID, "formats": names}
    if any(formats.find(name).needs_text for name in names):
        request |= {"calibration": prepared(Path(os.environ[workspace.VARIABLE])).train}
    agreed = merge_and_quantize(ShipRequest(**request)).plan_hash
    return wait(merge_and_quantize(ShipRequest(**request, confirm=agreed)).run_id)


def row(result):
    """Keep the numbers of a format."""
    kept = {key: result[key] for key in ("format", "state", "size_bytes", "seconds", "error")}
    kept |= {key: result[key] for key in ("fallbacks", "tensor_types")}
    return kept | {key: result[key] for key in ("tokens_per_second", "quality")}


def measure_merges(where, repeats):
    """Merge a four-shard copy of the demo model in both ways; medians."""
    model = AutoModelForCausalLM.from_pretrained(demo.folder(), dtype=torch.bfloat16)
    model.save_pretrained(where / "base", max_shard_size=SHARD)
    torch.manual_seed(0)
    lora = LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, lora)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.002)
    adapted.save_pretrained(where / "adapter")
    files = safetensors_headers.weight_files(where / "base")
    found = {
        "num_shards": len(files),
        "largest_shard_mib": max(f.stat().st_size for f in files) / 2**20,
        "adapter_mib": (where / "adapter" / safetensors_headers.ADAPTER).stat().st_size / 2**20,
    }
    for way in ("shards", "peft"):
        runs = [in_a_process(way, where) for _ in range(repeats)]
        found[way] = {key: sorted(run[key] for run in runs)[repeats // 2] for key in runs[0]}
    found["bound_mib"] = 2 * found["largest_shard_mib"] + found["adapter_mib"]
    return found


def measure_quantizers(where, repeats):
    """Quantize the demo model to Q4_K_M in both ways, in turns; medians of seconds."""
    source, kind = where / "source.gguf", formats.find("gguf:Q4_K_M")
    llama.convert(demo.folder(), source, "bf16", lambda: None)

    def ours(into):
        with publish.new_folder(into) as staging:
            llama_job.quantize(source, staging / "model.gguf", kind)

    def bare(into):
        options = llama_cpp.llama_model_quantize_default_params()
        options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
        options.nthread = gguf.num_threads()
        paths = str(source).encode(), str(into).encode()
        assert llama_cpp.llama_model_quantize(*paths, ctypes.byref(options)) == 0

    found = {"ours": [], "llama.cpp": []}
    for turn in range(repeats):
        for name, way in (("ours", ours), ("llama.cpp", bare)):
            began = time.monotonic()
            way(where / f"{name}-{turn}")
            found[name].append(time.monotonic() - began)
    return {name: round(sorted(seconds)[repeats // 2], 3) for name, seconds in found.items()}


def in_a_process(way, where):
    """Run one merge in a process of its own."""
    argv = [sys.executable, __file__, "--merge", way, "--folder", str(where)]
    return json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)


def merge(way, where):
    """Merge here; returns seconds, and how far this process's memory rose above its start."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Resets VmHWM, see proc(5).
    before = resident("VmRSS")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as into:
        if way == "shards":
            base, adapter = where / "base", where / "adapter"
            merging.merge_by_shards(base, adapter, Path(into), lambda: None)
        elif way == "peft":
            base = AutoModelForCausalLM.from_pretrained(where / "base", dtype="auto")
            merged = PeftModel.from_pretrained(base, where / "adapter").merge_and_unload()
            merged.save_pretrained(into)
        seconds = time.monotonic() - began
    return {"seconds": round(seconds, 3), "peak_mib": round(resident("VmHWM") - before, 1)}


def resident(key):
    """Return a line of /proc/self/status, in MiB; mapped files count."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
