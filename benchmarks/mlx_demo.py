"""The demo with an adapter that MLX trains ends with the verdicts of the demo with torch.

    python -m benchmarks.mlx_demo --torch demo-output/20260101-120000

Runs the demo with `--engine mlx`, MLX multiplying with scipy's OpenBLAS (see
`benchmarks.fast_blas`), and reads the verdicts of its evaluation and of what it shipped. Those of
torch are read from the folder of a finished demo, or made first where none is given. Writes
mlx_demo.json beside this file.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import fast_blas

PACKAGES = ["torch", "transformers", "peft", "trl", "mlx", "mlx-lm"]


def run_demo(engine: str, into: Path) -> Path:
    """Run the demo to its end; returns its folder."""
    command = [sys.executable, "-m", "ft_tools.demo", "--engine", engine, "--output", str(into)]
    env = fast_blas.environment(into) if engine == "mlx" else None
    subprocess.run(command, env=env, check=True)
    return max(path for path in into.iterdir() if path.is_dir())


def report_of(folder: Path, kind: str) -> dict[str, Any]:
    """Return the report of the demo's only run of a kind."""
    (path,) = (folder / "runs").glob(f"{kind}-*/report.json")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def outcome(folder: Path) -> dict[str, Any]:
    """Return what a finished demo found: verdicts, and the numbers behind them."""
    (plan,) = (folder / "runs").glob("sft-*/plan.json")
    trained = report_of(folder, "sft")
    systems = report_of(folder, "evaluate")["systems"]
    shipped = report_of(folder, "ship")
    return {
        "engine": json.loads(plan.read_bytes())["engine"],
        "verdicts": {
            "target": {one["name"]: one["target"] for one in systems},
            "merge": shipped["merge_check"]["passed"],
            "formats": {
                one["format"]: (one.get("quality") or {}).get("verdict")
                for one in shipped["formats"]
            },
            "recommended": shipped.get("recommended_format"),
        },
        "exact_match": {one["name"]: one["scores"]["exact_match"] for one in systems},
        "training_seconds": trained["seconds"],
        "train_loss": trained["train_loss"],
        "validation_loss": trained["validation_loss"],
    }


def main() -> None:
    """Run the demo, compare, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--torch", type=Path, help="folder of a finished demo with torch")
    parser.add_argument("--mlx", type=Path, help="folder of a finished demo with MLX")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        theirs = outcome(arguments.torch or run_demo("torch", Path(name)))
        began = time.monotonic()
        ours = outcome(arguments.mlx or run_demo("mlx", Path(name)))
        seconds = None if arguments.mlx else round(time.monotonic() - began)
    if (theirs["engine"], ours["engine"]) != ("torch", "mlx"):
        parser.error(f"the demos were trained by {theirs['engine']} and {ours['engine']}")
    result = {
        "claim": "the demo ends with the same verdicts, whichever engine trains",
        "same_verdicts": theirs["verdicts"] == ours["verdicts"],
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "versions": {each: importlib.metadata.version(each) for each in PACKAGES},
        "load_average": round(os.getloadavg()[0], 1),
        "seconds_of_the_demo_with_mlx": seconds,
        "torch": theirs,
        "mlx": ours,
    }
    text = json.dumps(result, indent=1)
    Path(__file__).with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
