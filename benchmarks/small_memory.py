"""Merge, check and quantize a 3B model in a control group of 6 GiB: made or refused, never killed.

    python -m benchmarks.small_memory

A model of random weights with the shapes of Llama 3.2 3B, 6.0 GiB in bfloat16, and a LoRA adapter
over it. In the group, every plan and every worker counts 6 GiB as the machine's memory. What the
plan refuses is kept with its reason, what it allows is run. Memory is the group's `total_rss`,
sampled twice a second; files that the kernel can drop are left out.

Needs Linux, a control group that may be divided (root), the demo model's tokenizer and 35 GiB of
disk; takes minutes. Writes small_memory.json beside this file.
"""

import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig

from ft_tools import workspace
from ft_tools.errors import FineTuningError
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.models import demo
from ft_tools.models.size import size_of_files
from ft_tools.runs.hardware import memory
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft

GIB = 2**30
LIMIT = 6 * GIB
RANK = 16
RUN_SECONDS = 3600
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
# Source: https://huggingface.co/meta-llama/Llama-3.2-3B, config.json
SHAPE = {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
         "num_attention_heads": 24, "num_key_value_heads": 8, "head_dim": 128,
         "vocab_size": 128_256, "tie_word_embeddings": True}  # fmt: skip


def make_base(folder: Path) -> None:
    """Write the model, a file per layer; every layer has the same random weights."""
    folder.mkdir()
    config = LlamaConfig(**SHAPE, dtype="bfloat16", architectures=["LlamaForCausalLM"])
    config.save_pretrained(folder)
    for name in TOKENIZER:
        if (demo.folder() / name).exists():
            shutil.copy(demo.folder() / name, folder / name)
    torch.manual_seed(0)
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    keys = SHAPE["num_key_value_heads"] * SHAPE["head_dim"]

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.bfloat16) * 0.02

    layer = {
        "self_attn.q_proj": weight(hidden, hidden),
        "self_attn.k_proj": weight(keys, hidden),
        "self_attn.v_proj": weight(keys, hidden),
        "self_attn.o_proj": weight(hidden, hidden),
        "mlp.gate_proj": weight(inner, hidden),
        "mlp.up_proj": weight(inner, hidden),
        "mlp.down_proj": weight(hidden, inner),
        "input_layernorm": torch.ones(hidden, dtype=torch.bfloat16),
        "post_attention_layernorm": torch.ones(hidden, dtype=torch.bfloat16),
    }
    parts = {"embed": {
        "model.embed_tokens.weight": weight(SHAPE["vocab_size"], hidden),
        "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
    }}  # fmt: skip
    for i in range(SHAPE["num_hidden_layers"]):
        parts[f"layer-{i:02}"] = {f"model.layers.{i}.{n}.weight": w for n, w in layer.items()}
    places = {}
    for part, held in parts.items():
        save_file(held, folder / f"model-{part}.safetensors", metadata={"format": "pt"})
        places |= dict.fromkeys(held, f"model-{part}.safetensors")
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def make_adapter(folder: Path, base: str) -> None:
    """Write an adapter on the query and value projections of every layer."""
    folder.mkdir()
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK,
             "target_modules": ["q_proj", "v_proj"], "base_model_name_or_path": base}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(about))
    hidden = SHAPE["hidden_size"]
    outs = {"q_proj": hidden, "v_proj": SHAPE["num_key_value_heads"] * SHAPE["head_dim"]}
    held = {}
    for i in range(SHAPE["num_hidden_layers"]):
        for module, d_out in outs.items():
            name = f"base_model.model.model.layers.{i}.self_attn.{module}"
            held[f"{name}.lora_A.weight"] = 0.02 * torch.randn(RANK, hidden)
            held[f"{name}.lora_B.weight"] = 0.02 * torch.randn(d_out, RANK)
    save_file(held, folder / "adapter_model.safetensors")


class Group:
    """A control group below this process's own, which it enters."""

    def __init__(self) -> None:
        lines = memory.OWN_GROUPS.read_text().splitlines()
        own = next((line.split(":", 2)[2] for line in lines if ":memory:" in line), None)
        self.is_first = own is not None
        within = own if own is not None else lines[-1].split(":", 2)[2]
        root = memory.CGROUPS / "memory" if self.is_first else memory.CGROUPS
        self.before = root / within.lstrip("/")
        self.folder = self.before / f"small-memory-{os.getpid()}"
        self.most = 0
        self._over = threading.Event()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be in the group, with all that is started meanwhile."""
        self.folder.mkdir()
        limit = "memory.limit_in_bytes" if self.is_first else "memory.max"
        (self.folder / limit).write_text(str(LIMIT))
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))
        sampler = threading.Thread(target=self._sample, daemon=True)
        sampler.start()
        try:
            yield
        finally:
            self._over.set()
            sampler.join()
            (self.before / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self) -> None:
        """Take the group away, once nothing is in it."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                self.folder.rmdir()
                return
            time.sleep(0.1)

    def kills(self) -> int:
        """Return how many processes the kernel ended here for their memory."""
        name = "memory.oom_control" if self.is_first else "memory.events"
        rows = dict(line.split() for line in (self.folder / name).read_text().splitlines())
        return int(rows["oom_kill"])

    def _sample(self) -> None:
        key = "total_rss" if self.is_first else "anon"
        while not self._over.wait(0.5):
            rows = (self.folder / "memory.stat").read_text().splitlines()
            held = next(int(row.split()[1]) for row in rows if row.split()[0] == key)
            self.most = max(self.most, held)


def tried(tool: Any, request: Any) -> dict[str, Any]:
    """Plan, and run what the plan allows; returns how it ended."""
    began = time.monotonic()
    try:
        plan = tool(request)
    except FineTuningError as error:
        return {"end": "refused in the plan", "why": str(error)}
    run_id = tool(request.model_copy(update={"confirm": plan.plan_hash})).run_id
    while (run := get_run(RunRequest(run_id=run_id))).state not in ENDED:
        if time.monotonic() - began > RUN_SECONDS:
            raise SystemExit(f"{run_id} is still {run.state}; see {workspace.runs_dir()}")
        time.sleep(1)
    found: dict[str, Any] = {"end": run.state, "seconds": round(time.monotonic() - began)}
    found["planned_ram_gib"] = round(plan.plan["ram_bytes"] / GIB, 2)
    if run.state != "succeeded":
        return found | {"reason": run.reason, "error": run.error and run.error.message}
    result = run.result or {}
    return found | {
        "merge_checked": "by its outputs" if result["merge_check"] else "weight by weight",
        "formats": {
            one["format"]: {key: one.get(key) for key in ("state", "size_bytes", "error",
                                                          "tokenizer_parity")}
            for one in result["formats"]
        },
    }  # fmt: skip


def steps() -> dict[str, Any]:
    """Ask for everything that loads, merges or quantizes the model."""
    ship = {"source": "adapter", "name": "small"}
    rows = [
        {"messages": [{"role": "user", "content": f"What is {i}?"},
                      {"role": "assistant", "content": f"It is {i}."}]}
        for i in range(40)
    ]  # fmt: skip
    text = "\n".join(map(json.dumps, rows)) + "\n"
    (workspace.roots()[0] / "rows.jsonl").write_text(text, encoding="utf-8")
    accepted = {"accept_findings": ["no_quality_filter", "too_few_examples", "no_eval_set"],
                "accept_reason": "a measurement"}  # fmt: skip
    return {
        "train with LoRA": tried(
            launch_sft, SftRequest(model="base", dataset="rows.jsonl", method="lora", **accepted)
        ),
        "evaluate": tried(evaluate, EvaluateRequest(model="base", dataset="rows.jsonl")),
        "merge, gptq:4": tried(
            merge_and_quantize, ShipRequest(formats=["gptq:4"], calibration="rows.jsonl", **ship)
        ),
        "merge, gguf:Q4_K_M": tried(
            merge_and_quantize, ShipRequest(formats=["gguf:Q4_K_M"], **ship)
        ),
    }


def main() -> None:
    """Measure, and keep the result."""
    if not os.access(memory.CGROUPS, os.W_OK):
        print("skipped: control groups cannot be made here; run it as root on Linux")
        return
    group = Group()
    with tempfile.TemporaryDirectory() as folder:
        os.environ[workspace.VARIABLE] = folder
        unpacked = demo.ensure()
        while unpacked and get_run(RunRequest(run_id=unpacked)).state not in ENDED:
            time.sleep(1)
        make_base(Path(folder) / "base")
        make_adapter(Path(folder) / "adapter", "base")
        with group.entered():
            ends = steps()
        kills = group.kills()
        params = size_of_files(Path(folder) / "base").num_params
    group.remove()
    result = {
        "claim": "in 6 GiB, what is asked of a 3B model is made or refused in the plan",
        "params": params,
        "limit_gib": LIMIT / GIB,
        "killed_for_memory": kills,
        "peak_gib": round(group.most / GIB, 2),
        "steps": ends,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, no GPU",
        "torch": torch.__version__,
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    sys.exit(main())
