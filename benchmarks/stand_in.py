"""Compare a dense stand-in's formulas with traces of classes that have no formula.

    python -m benchmarks.stand_in [--output benchmarks/stand_in.json] [--model-type TYPE ...]

Each type is sized as its configuration class's defaults say. It tells how wide the interval has to
be where shapes are given without a family, or a class cannot be traced. Some seconds a row.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.models.shape_of_model import shape_of_config

GIB = 2**30
TYPES = (
    *("lfm2", "apertus", "gpt_oss", "cohere2", "seed_oss"),
    *("glm4_moe", "qwen3_5_text", "falcon_h1", "arcee", "ministral3"),
)
WAYS = (("lora", True), ("lora", False), ("qlora", True), ("full", True))


def compare(model_type: str, method: str, checkpointing: bool) -> dict[str, object]:
    """Return the peak of one way to train, traced and by the stand-in's formulas."""
    shape = shape_of_config({"model_type": model_type}, model_type)
    request = VramRequest(
        model=model_type,
        method=method,
        gradient_checkpointing=checkpointing,
        seq_len=2048,
        micro_batch=4,
    )
    setup = setup_of(request, shape)
    if setup.profile is None:
        raise SystemExit(f"{model_type} cannot be traced here; leave it out")
    traced, stand_in = phases(setup), phases(replace(setup, profile=None))
    return {
        "model_type": model_type,
        "method": method,
        "checkpointing": checkpointing,
        "traced_gib": round(traced.peak / GIB, 3),
        "stand_in_gib": round(stand_in.peak / GIB, 3),
        "difference": round(stand_in.peak / traced.peak - 1, 4),
    }


def main() -> None:
    """Compare every type in every way, print the rows, and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/stand_in.json"))
    parser.add_argument("--model-type", action="append")
    arguments = parser.parse_args()
    rows = []
    for model_type in arguments.model_type or TYPES:
        for method, checkpointing in WAYS:
            row = compare(model_type, method, checkpointing)
            rows.append(row)
            print(*row.values(), flush=True)
    arguments.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
