"""How far the memory formulas for Macs are from peaks that were measured.

    python -m benchmarks.apple            # prints both tables and writes benchmarks/apple.json
    python -m benchmarks.apple --measure  # runs steps of random models on this machine's CPU first

Published rows: `benchmarks/apple_rows.toml`, of mlx-lm's own trainer on Macs, with that trainer's
loss head. Own rows: this project's engine on MLX's CPU backend, whose attention keeps length x
length scores; that term is added for them and is not part of an estimate.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ft_tools.memory import apple
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.setup import Setup
from ft_tools.models.config import shape_from_config
from ft_tools.models.shape import ModelShape
from ft_tools.models.shape_of_model import shape_of

HERE = Path(__file__).parent
STORED = HERE / "apple.json"
BYTES = {"GB": 1e9, "GiB": 2**30}
# mlx-lm's trainer: bytes per logit of its loss, which is not there at the same time as saved
# activations. Both were chosen on the rows marked `fitted`; the others were not looked at.
MLX_LM_HEAD = 11.0
# Attention before MLX 0.32.4, bytes per score. Source: IonDen/mlx-train-perf, its planner.
OLD_SCORE = 8.716
# Attention on MLX's CPU backend, bytes per score, in a block that is kept.
CPU_SCORE = 5.4
BASE = {"h": 128, "i": 384, "layers": 8, "heads": 2, "kv": 1, "vocab": 512, "length": 128}
# Other widths than those that the constants were fitted to.
OWN = (
    {},
    {"layers": 12},
    {"h": 192, "i": 768},
    {"i": 640, "heads": 3},
    {"kv": 2, "length": 192},
    {"vocab": 16000, "length": 384, "layers": 4},
)


def setup_for(shape: ModelShape, **arguments: Any) -> Setup:
    """Return a step of a shape on a Mac."""
    asked = {"model": "Qwen/Qwen3-0.6B", "gpu": "M4 Max 128GB"} | arguments
    return setup_of(VramRequest.model_validate(asked), shape)


def published() -> list[dict[str, Any]]:
    """Return each published peak beside the formulas' for mlx-lm's trainer."""
    found = []
    for row in tomllib.loads((HERE / "apple_rows.toml").read_text("utf-8"))["row"]:
        shape = shape_of(row["model"])
        trained = shape.model_copy(update={"num_layers": row["layers"]})
        setup = setup_for(
            trained,
            method="qlora" if "bits" in row else "lora",
            lora_rank=8,
            target_modules=row.get("targets", "all-linear"),
            seq_len=row["seq_len"],
            micro_batch=row["batch"],
            gradient_checkpointing=row["checkpointing"],
        )
        phases = apple.phases(setup, MLX_LM_HEAD * setup.tokens * shape.vocab_size)
        loss = phases["loss"]
        loss["loss_head"] = max(loss["loss_head"], loss.pop("saved_activations"))
        missing = shape.total_params - trained.total_params
        weights = missing * (apple.QUANTIZED_BYTES if "bits" in row else 2)
        if row.get("old_attention"):
            scores = shape.num_heads * row["batch"] * row["seq_len"] ** 2
            phases["backward"]["attention"] = OLD_SCORE * scores
        peak = max(sum(parts.values()) for parts in phases.values()) + weights
        measured = row["peak"] * BYTES[row["unit"]]
        fitted = row.get("fitted", False)
        found.append({"id": row["id"], "measured": measured, "predicted": peak, "fitted": fitted})
    return found


CHILD = r"""
import json, sys, tempfile
from pathlib import Path
import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.models import llama
from ft_tools.models.worker.mlx.model import Factors, MlxModel
asked = json.load(sys.stdin)
config, length, dtype, checkpointing, targets = asked
folder = Path(tempfile.mkdtemp())
(folder / "config.json").write_text(json.dumps(config))
net = llama.Model(llama.ModelArgs.from_dict(config))
mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(net.parameters())))
del net
model = MlxModel(folder, dtype)
linears = model.linears()
names = [n for n in linears if "layers" in n and (targets is None or n.split(".")[-1] in targets)]
model.wrap(names, checkpointed=checkpointing)
factors = {
    n: Factors(mx.random.normal((8, linears[n][1])), mx.zeros((linears[n][0], 8)), 2.0)
    for n in names
}
ids = mx.array(np.random.default_rng(0).integers(0, config["vocab_size"], (1, length)))
mx.eval(ids, [a for f in factors.values() for a in f.arrays])
mx.clear_cache()
mx.reset_peak_memory()
before = mx.get_active_memory()
with model.adapted(factors, training=True):
    kept = model.gradients(factors, ids, ids, mx.ones((1, length - 1)))
print(json.dumps([mx.get_peak_memory() - before, mx.get_cache_memory(), mx.get_peak_memory()]))
"""


def measure() -> list[dict[str, Any]]:
    """Run a step of each of our own rows on this machine's CPU, each in a process of its own."""
    found = []
    for change in OWN:
        sizes = BASE | change
        for checkpointing in (False, True):
            for targets in (None, ["q_proj", "v_proj"]):
                config = config_of(sizes)
                asked = [config, sizes["length"], "float32", checkpointing, targets]
                with tempfile.TemporaryDirectory() as scratch:
                    answer = subprocess.run(
                        [sys.executable, "-c", CHILD],
                        input=json.dumps(asked),
                        capture_output=True,
                        text=True,
                        check=True,
                        env={**os.environ, "TMPDIR": scratch},
                    )
                marginal, cached, peak = json.loads(answer.stdout)
                about = {"sizes": sizes, "checkpointing": checkpointing, "targets": targets}
                print(json.dumps(about | {"marginal": marginal}), flush=True)
                found.append(about | {"marginal": marginal, "cached": cached, "peak": peak})
    return found


def config_of(sizes: dict[str, int]) -> dict[str, Any]:
    """Return the config.json of a random model of these sizes."""
    return {
        "model_type": "llama",
        "hidden_size": sizes["h"],
        "intermediate_size": sizes["i"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "num_key_value_heads": sizes["kv"],
        "head_dim": 64,
        "vocab_size": sizes["vocab"],
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
    }


def own(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each of our own peaks, without weights, beside the formulas'."""
    found = []
    for row in rows:
        sizes = row["sizes"]
        shape = shape_from_config(config_of(sizes), "own")
        setup = setup_for(
            shape,
            lora_rank=8,
            target_modules=row["targets"] or "all-linear",
            seq_len=sizes["length"],
            gradient_checkpointing=row["checkpointing"],
            dtype="float32",
        )
        scores = CPU_SCORE * sizes["layers"] * sizes["heads"] * sizes["length"] ** 2
        if row["checkpointing"]:
            scores = 0.0
        phases = apple.phases(setup)
        for parts in phases.values():
            del parts["base_weights"], parts["adapter_states"]
        # MLX's gradients of the adapters.
        peak = max(sum(p.values()) for p in phases.values()) + scores + 4 * setup.trainable_params
        name = f"{sizes} {'checkpointed' if row['checkpointing'] else 'kept'} {row['targets']}"
        found.append({"id": name, "measured": row["marginal"], "predicted": peak})
    return found


def stored() -> dict[str, Any]:
    """Return what was measured and compared last; empty if nothing was."""
    return dict(json.loads(STORED.read_text("utf-8"))) if STORED.is_file() else {}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean absolute error, bias and the worst row."""
    errors = [row["predicted"] / row["measured"] - 1 for row in rows]
    return {
        "rows": len(rows),
        "mean_error": round(statistics.fmean(map(abs, errors)), 4),
        "bias": round(statistics.fmean(errors), 4),
        "worst": round(max(errors, key=abs), 4),
    }


def main() -> None:
    """Compare, print and store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    result = {key: stored().get(key) for key in ("mlx", "own_rows")}
    if parser.parse_args().measure:
        result = {"mlx": version("mlx"), "own_rows": measure()}
    rows = result["own_rows"] or []
    all_published = published()
    groups = {
        "published_fitted": [row for row in all_published if row["fitted"]],
        "published_held_out": [row for row in all_published if not row["fitted"]],
        "own": own(rows),
    }
    for name, compared in groups.items():
        for row in compared:
            error = row["predicted"] / row["measured"] - 1
            print(f"{error:+7.1%}  {row['measured'] / 2**30:8.3f} GiB  {row['id']}")
        if compared:
            result[name] = summary(compared)
            print(name, result[name])
    STORED.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
