"""How long the first answer for an id on the Hub takes, in a process that knows nothing yet.

    python -m benchmarks.first_answer [--output benchmarks/first_answer.json] [--unit 16]

A stand-in for the Hub on loopback serves a config.json of a family with a row, of every kind of
family without one, and of an architecture that is named nowhere. Each is asked about by
`fine-tuning-llm estimate-vram` in a new process with an empty cache, and once more.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.family_rows import config
from tests import hub as stand_in

ROWS = ("smollm3", "olmo3", "qwen3_moe")
OTHERS = ("qwen3_5", "gemma4", "gpt_oss", "nemotron_h", "lfm2_moe", "deepseek_v3", "kimi_linear")
UNNAMED = {"arcee": {"model_type": "arcee"}, "glm": {"model_type": "glm"}}


def asked(url: str, model: str, place: Path) -> dict[str, Any]:
    """Ask for an estimate from the command line; seconds, and what it rests on."""
    environment = os.environ | {
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": "0",
        "FINE_TUNING_LLM_CACHE": str(place / "cache"),
        "HF_HOME": str(place / "hf"),
        "FINE_TUNING_LLM_WORKSPACE": str(place),
    }
    command = ["fine-tuning-llm", "estimate-vram", "--model", model, "--format", "json"]
    began = time.monotonic()
    made = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    seconds = round(time.monotonic() - began, 2)
    if made.returncode:
        return {"seconds": seconds, "error": made.stderr.strip()[-300:]}
    report = json.loads(made.stdout)
    return {"seconds": seconds, "basis": report["interval_basis"]}


def main() -> int:
    """Ask about every model, first and again, and write the seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("benchmarks/first_answer.json"))
    parser.add_argument("--unit", type=int, default=16, help="hidden size is 64 times this")
    arguments = parser.parse_args()
    configs = {name: config(name, arguments.unit, 32_000) for name in (*ROWS, *OTHERS)}
    plain = config("smollm3", arguments.unit, 32_000)
    configs |= {name: plain | own for name, own in UNNAMED.items()}
    rows = []
    with stand_in.serving() as hub, tempfile.TemporaryDirectory() as folder:
        for name, of_class in configs.items():
            hub.configs[f"lab/{name}"] = of_class
            place = Path(folder, name)
            place.mkdir()
            first = asked(hub.url, f"lab/{name}", place)
            again = asked(hub.url, f"lab/{name}", place)
            row = {"family": name, "has_row": name in ROWS, "first": first, "again": again}
            rows.append(row | {"load": round(os.getloadavg()[0], 1)})
            print(json.dumps(rows[-1]), flush=True)
    written = {
        "slowest_with_row": max(r["first"]["seconds"] for r in rows if r["has_row"]),
        "slowest_without": max(r["first"]["seconds"] for r in rows if not r["has_row"]),
        "rows": rows,
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "machine": platform.machine(),
    }
    arguments.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return 1 if any("error" in row["first"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
