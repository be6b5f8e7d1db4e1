"""Near-duplicates: the plain definition against ours, on the same rows, in one go.

    python benchmarks/audit.py DATA.jsonl [--rows N] [--modes exact,fast] [--plain]

Plain is the classic definition: encode every row with all-MiniLM-L6-v2 (batch 256), then the O(n^2)
NumPy loop that keeps a row if no kept row before it has a cosine above 0.95, on prompt and answer.
Ours is the audit's own search, `exact` and `fast`. More rows than the file has are made by light
changes of its rows: every third copy is lower-cased, every third gets a closing word, and every
third has one word replaced by a number, which keeps some pairs above the threshold and moves
others below it. Each part runs in a process of its own, so that its peak memory is its own.

The result is printed and written to `benchmarks/audit.json`, with the machine and the versions.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

THRESHOLD = 0.95
BATCH = 256
RESULTS = Path(__file__).with_suffix(".json")


def main() -> None:
    """Build the rows, run every part, compare the kept sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--modes", default="exact,fast")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        sys.stdout.write(json.dumps(run_part(arguments.data, arguments.part)) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = build(arguments.data, arguments.rows)
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        parts = ["plain"] if arguments.plain else []
        parts += [mode for mode in arguments.modes.split(",") if mode]
        results = {part: in_process(path, part) for part in parts}
    summary = compare(results)
    summary |= {"data": arguments.data.name, "rows": len(rows), "machine": machine()}
    print(json.dumps(summary, indent=1))
    RESULTS.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def build(data: Path, count: int) -> list[dict[str, str]]:
    """Read (prompt, completion) rows, and make more of them if asked to."""
    text = data.read_text(encoding="utf-8")
    raw = json.loads(text) if text.lstrip()[0] == "[" else list(map(json.loads, text.splitlines()))
    rows = []
    for row in raw:
        prompt = row.get("question") or row.get("prompt") or row.get("instruction", "")
        extra = row.get("input", "")
        answer = row.get("answer") or row.get("completion") or row.get("output")
        answer = answer or row.get("response") or row.get("text", "")
        rows.append({"prompt": f"{prompt}\n\n{extra}" if extra else prompt, "completion": answer})
    numbers = random.Random(0)
    made = rows[: count or None]
    while len(made) < count:
        made.append(perturbed(numbers, rows[len(made) % len(rows)], len(made)))
    return made


def perturbed(numbers: random.Random, row: dict[str, str], at: int) -> dict[str, str]:
    """Return a row that is a little different."""
    words = row["prompt"].split(" ")
    if at % 3 == 0:
        return row | {"prompt": row["prompt"].lower()}
    if at % 3 == 1:
        return row | {"prompt": row["prompt"] + " Thanks.", "completion": row["completion"]}
    place = numbers.randrange(len(words))
    words[place] = str(numbers.randrange(10_000))
    answer = row["completion"].split(" ")
    answer[numbers.randrange(len(answer))] = str(numbers.randrange(10_000))
    return {"prompt": " ".join(words), "completion": " ".join(answer)}


def in_process(path: Path, part: str) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, str(path), "--part", part]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_part(path: Path, part: str) -> dict[str, Any]:
    """Return the kept rows, the seconds and the peak memory of one way to do it."""
    result = plain(path) if part == "plain" else ours(path, part)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result | {"peak_gib": round(peak, 3)}


def plain(path: Path) -> dict[str, Any]:
    """Encode every row, then compare each with every kept row before it."""
    import numpy as np
    from sentence_transformers import SentenceTransformer

    from ft_tools.data.minilm import find_minilm

    rows = list(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    model = SentenceTransformer(str(find_minilm()), device="cpu")
    began = time.perf_counter()
    fields = [
        model.encode(
            [row[name] for row in rows],
            batch_size=BATCH,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        for name in ("prompt", "completion")
    ]
    encoded = time.perf_counter()
    kept: list[int] = []
    stacks = [np.empty_like(field) for field in fields]
    for row in range(len(rows)):
        near = np.ones(len(kept), dtype=bool)
        for field, stack in zip(fields, stacks, strict=True):
            near &= stack[: len(kept)] @ field[row] > THRESHOLD
        if not near.any():
            for field, stack in zip(fields, stacks, strict=True):
                stack[len(kept)] = field[row]
            kept.append(row)
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "encode_seconds": round(encoded - began, 2),
        "kept": kept,
    }


def ours(path: Path, mode: str) -> dict[str, Any]:
    """Run the audit's search; reading and checking are in the seconds too."""
    from ft_tools.data.audit import Means, perform
    from ft_tools.data.minilm import find_minilm
    from ft_tools.data.reports import AuditRequest
    from ft_tools.data.scan import Scan
    from ft_tools.workers.audit_models import Encoder, Semantic

    os.environ["FINE_TUNING_LLM_WORKSPACE"] = str(path.parent)
    folder = find_minilm()
    assert folder is not None
    encoder = Encoder(folder, lambda done, total: None)
    if mode == "fast":
        # The table is made once a machine and cached; it is no part of an audit's time.
        encoder.static(["warm"])
    scans: list[Scan] = []
    search = Semantic(encoder, lambda name: None, lambda done, total: None)

    def find(scanned: Scan, request: AuditRequest) -> Any:
        scans.append(scanned)
        return search.find(scanned, request)

    request = AuditRequest(path=path.name, near_duplicates="semantic", semantic_mode=mode)
    began = time.perf_counter()
    report = perform(request, Means(find_near=find, with_pairs=False))
    seconds = time.perf_counter() - began
    ledger = scans[0].ledger
    gone = {"exact_duplicate", "near_duplicate"}
    kept = [at for at in range(len(ledger)) if ledger.reason_of(at) not in gone]
    return {"seconds": round(seconds, 2), "kept": kept, "notes": report.assumptions}


def compare(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return times, memory and how each kept set differs from the first one's."""
    first = next(iter(results))
    reference = set(results[first]["kept"])
    summary: dict[str, Any] = {"reference": first}
    for part, result in results.items():
        kept = set(result.pop("kept"))
        removed_by_reference = set(range(max(reference | kept) + 1)) - reference
        missed = removed_by_reference & kept
        summary[part] = result | {
            "num_kept": len(kept),
            "kept_by_the_reference_only": sorted(reference - kept)[:50],
            "kept_by_this_only": sorted(kept - reference)[:50],
            "recall_of_removed": round(1 - len(missed) / max(1, len(removed_by_reference)), 5),
            "speedup": round(results[first]["seconds"] / result["seconds"], 2),
        }
    return summary


def machine() -> dict[str, Any]:
    """Say what it ran on."""
    names = ("torch", "sentence-transformers", "numpy", "transformers")
    return {
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


if __name__ == "__main__":
    main()
