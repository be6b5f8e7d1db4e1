"""Near-duplicates: the plain definition, ours and other tools, on the same rows, in one go.

    python -m benchmarks.audit NAME DATA [DATA ...] [--rows N] [--parts plain,meaning,...]

Plain is the classic definition: encode every row with all-MiniLM-L6-v2 (batch 256), then the O(n^2)
NumPy loop that keeps a row if no kept row before it has a cosine above 0.95, on prompt and answer.
`meaning` is a whole audit: reading and checking are in its seconds. `semhash_minilm` and `rensa`
are other tools (`benchmarks/audit_peers.py`), run by `--peers-python`. `benchmarks/audit_rows.py`
says which rows. Each part runs in a process of its own, so its peak memory is its own. Loading a
model is in nobody's seconds.

With `--plain-rows K` plain is too slow to be run: its encoding is timed on K rows and multiplied,
its loop is timed at each `STRIDE`th row over random vectors, none of which is near, and the result
says `extrapolated`. The reference is then `meaning`.

The result is printed and stored under NAME in `benchmarks/audit.json`.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audit_rows import grown, real_rows

THRESHOLD = 0.95
STRIDE = 25
BATCH = 256
DUPLICATE = {"exact_duplicate", "near_duplicate"}
FIELDS = ("prompt", "completion")
RESULTS = Path(__file__).with_suffix(".json")
PEERS = Path(__file__).with_name("audit_peers.py")
PEER_PARTS = ("semhash_minilm", "rensa")


def main() -> None:
    """Build the rows, run every part, compare the kept sets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", help="stored under this name")
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--rows", type=int, default=0, help="0: the rows of the files")
    parser.add_argument("--copies", type=float, default=0.05)
    parser.add_argument("--max-chars", type=int, default=0, help="take shorter rows only")
    parser.add_argument("--parts", default="plain,meaning")
    parser.add_argument("--plain-rows", type=int, default=0)
    parser.add_argument("--peers-python", type=Path)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.data:
        print("name what to compare on: no data is shipped that is large enough to time anything")
        return
    if arguments.part:
        print(json.dumps(run_part(arguments.data[0], arguments.part, arguments.plain_rows)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        num_real, count = write_rows(path, arguments)
        results = {
            part: in_process(path, part, arguments) for part in arguments.parts.split(",") if part
        }
        summary = compare(results, Path(folder))
    summary |= {
        "data": [data.name for data in arguments.data],
        "rows": count,
        "real_rows": num_real,
        "copies_fraction": arguments.copies if count > num_real else 0.0,
        "machine": machine(),
    }
    print(json.dumps(summary, indent=1))
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    stored[arguments.name] = summary
    RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def write_rows(path: Path, arguments: argparse.Namespace) -> tuple[int, int]:
    """Write the rows; return how many are real, and how many there are."""
    rows = [row for data in arguments.data for row in real_rows(data.resolve())]
    if arguments.max_chars:
        rows = [row for row in rows if len(row[0]) + len(row[1]) <= arguments.max_chars]
    count = arguments.rows or len(rows)
    made = grown(rows, count, arguments.copies) if arguments.rows else iter(rows)
    with path.open("w", encoding="utf-8") as file:
        for prompt, answer in made:
            file.write(json.dumps({"prompt": prompt, "completion": answer}) + "\n")
    return min(len(rows), count), count


def in_process(path: Path, part: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a process of its own; the last line that it prints is its result."""
    ours = [sys.executable, "-m", "benchmarks.audit", part, str(path), "--part", part]
    command = [*ours, "--plain-rows", str(arguments.plain_rows)]
    if part in PEER_PARTS:
        command = [str(arguments.peers_python), str(PEERS), str(path), part, str(vectors_of(path))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(part, result["seconds"], result.get("phases"), file=sys.stderr, flush=True)
    return result


def vectors_of(path: Path) -> Path:
    """Return where plain leaves its vectors."""
    return path.with_suffix(".npz")


def run_part(path: Path, part: str, plain_rows: int) -> dict[str, Any]:
    """Return the kept rows, the seconds and the peak memory of one way to do it."""
    if part == "plain":
        result = plain_extrapolated(path, plain_rows) if plain_rows else plain(path)
    else:
        result = ours(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result | {"peak_gib": round(peak, 3)}


def plain(path: Path) -> dict[str, Any]:
    """Encode every row, then compare each with every kept row before it."""
    fields, encode_seconds = plain_encode(path, 0)
    kept, compare_seconds = plain_loop(fields)
    np.savez(vectors_of(path), **dict(zip(FIELDS, fields, strict=True)))
    return {
        "seconds": round(encode_seconds + compare_seconds, 2),
        "encode_seconds": round(encode_seconds, 2),
        "compare_seconds": round(compare_seconds, 2),
        "kept": kept,
    }


def plain_extrapolated(path: Path, plain_rows: int) -> dict[str, Any]:
    """Time the encoding on the first rows, and the loop at some rows when all before are kept."""
    with path.open(encoding="utf-8") as file:
        count = sum(1 for _ in file)
    _, encode_seconds = plain_encode(path, plain_rows)
    numbers = np.random.default_rng(0)
    fields = []
    for _ in FIELDS:
        field = numbers.normal(size=(count, 384)).astype(np.float32)
        fields.append(field / np.linalg.norm(field, axis=1, keepdims=True))
    began = time.perf_counter()
    for row in range(0, count, STRIDE):
        is_near([field[:row] for field in fields], [field[row] for field in fields])
    compare_seconds = STRIDE * (time.perf_counter() - began)
    encode_seconds *= count / plain_rows
    return {
        "extrapolated": f"encoding from {plain_rows} rows; the loop from each {STRIDE}th, all kept",
        "seconds": round(encode_seconds + compare_seconds, 2),
        "encode_seconds": round(encode_seconds, 2),
        "compare_seconds": round(compare_seconds, 2),
    }


def plain_encode(path: Path, first: int) -> tuple[list[Any], float]:
    """Encode each field as SentenceTransformer does it with batches of 256."""
    from sentence_transformers import SentenceTransformer

    from ft_tools.similarity.minilm import find_minilm

    rows = list(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    model = SentenceTransformer(str(find_minilm()), device="cpu")
    began = time.perf_counter()
    fields = [
        model.encode(
            [row[name] for row in rows[: first or None]],
            batch_size=BATCH,
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        for name in FIELDS
    ]
    return fields, time.perf_counter() - began


def plain_loop(fields: list[Any]) -> tuple[list[int], float]:
    """Keep a row if no kept row before it is near in every field."""
    began = time.perf_counter()
    kept: list[int] = []
    stacks = [np.empty_like(field) for field in fields]
    for row in range(len(fields[0])):
        before = [stack[: len(kept)] for stack in stacks]
        if not is_near(before, [field[row] for field in fields]):
            for field, stack in zip(fields, stacks, strict=True):
                stack[len(kept)] = field[row]
            kept.append(row)
    return kept, time.perf_counter() - began


def is_near(kept: list[Any], row: list[Any]) -> bool:
    """Tell whether a row is near a kept one in every field."""
    near = np.ones(len(kept[0]), dtype=bool)
    for stack, vector in zip(kept, row, strict=True):
        near &= stack @ vector > THRESHOLD
    return bool(near.any())


def ours(path: Path) -> dict[str, Any]:
    """Run the whole audit, outputs included."""
    from ft_tools.data.audit import perform
    from ft_tools.data.pipeline import Methods
    from ft_tools.data.read.scan import Scan
    from ft_tools.data.request import AuditRequest
    from ft_tools.data.worker.near_by_meaning import ByMeaning
    from ft_tools.similarity.minilm import find_minilm

    os.environ["FINE_TUNING_LLM_WORKSPACE"] = str(path.parent)
    folder = find_minilm()
    assert folder is not None
    phases: list[tuple[str, float]] = []
    search = ByMeaning(
        folder,
        lambda name: phases.append((name, time.perf_counter())),
        lambda done, total: None,
    )
    phases.append(("reading and checking", time.perf_counter()))
    scans: list[Scan] = []

    def find(scanned: Scan, request: AuditRequest) -> Any:
        scans.append(scanned)
        near = search.find(scanned, request)
        phases.append(("reporting and writing", time.perf_counter()))
        return near

    request = AuditRequest(
        path=path.name,
        near_duplicates="semantic",
        max_removed_fraction=1.0,
        output_dir="out",
    )
    began = time.perf_counter()
    report = perform(request, Methods(find_near=find))
    seconds = time.perf_counter() - began
    phases.append(("end", time.perf_counter()))
    ledger = scans[0].ledger
    fates = [ledger.reason_of(at) for at in range(len(ledger))]
    return {
        "seconds": round(seconds, 2),
        "kept": [at for at, fate in enumerate(fates) if fate not in DUPLICATE],
        "removed_for_other_reasons": sum(
            fate is not None and fate not in DUPLICATE for fate in fates
        ),
        "twins": {at: twin[0] for at, twin in ledger.original.items()},
        "phases": [
            f"{name}: {until - since:.1f} s" for (name, since), (_, until) in pairwise(phases)
        ],
        "notes": report.assumptions,
    }


def compare(results: dict[str, dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Return times, memory and how each kept set differs from the reference."""
    order = ("plain", "meaning", *results)
    reference = next(part for part in order if "kept" in results.get(part, {}))
    wanted = set(results[reference]["kept"])
    stored = folder / "rows.npz"
    vectors = dict(np.load(stored)) if stored.exists() else None
    pairs = true_pairs(vectors) if vectors is not None else None
    summary: dict[str, Any] = {"reference": reference}
    base = results.get("plain", results[reference])["seconds"]
    if pairs is not None:
        summary["pairs_above_the_threshold"] = len(pairs)
    for part, result in results.items():
        if part == "semhash_minilm":
            # It was given the vectors; making them is part of its way.
            result["seconds"] += results["plain"]["encode_seconds"]
        twins = result.pop("twins", {})
        if "kept" in result:
            kept = set(result.pop("kept"))
            removed = set(range(max(wanted | kept, default=0) + 1)) - wanted
            result["num_kept"] = len(kept)
            result["kept_by_the_reference_only"] = len(wanted - kept)
            result["kept_by_this_only"] = len(kept - wanted)
            result["removed_also_by_this_fraction"] = round(
                1 - len(removed & kept) / max(1, len(removed)), 5
            )
            result["differences"] = differences(wanted ^ kept, twins, vectors)
        summary[part] = result | {"times_as_fast_as_plain": round(base / result["seconds"], 2)}
    return summary


def differences(
    rows: set[int], twins: dict[str, int], vectors: dict[str, Any] | None
) -> list[dict[str, Any]]:
    """Return rows that one keeps and the other does not, with the plain cosines of the pair."""
    found = []
    for row in sorted(rows)[:20]:
        twin = twins.get(str(row))
        one: dict[str, Any] = {"row": row, "twin": twin}
        if vectors is not None and twin is not None:
            one["cosines"] = [round(float(vectors[f][row] @ vectors[f][twin]), 5) for f in FIELDS]
        found.append(one)
    return found


def true_pairs(vectors: dict[str, Any]) -> Any:
    """Return every pair of rows above the threshold in both fields, shaped (n, 2)."""
    found = []
    count = len(vectors[FIELDS[0]])
    for start in range(0, count, 512):
        rows = slice(start, start + 512)
        near = np.logical_and.reduce([vectors[f][rows] @ vectors[f].T > THRESHOLD for f in FIELDS])
        a, b = np.nonzero(near)
        a += start
        found.append(np.stack([a, b], axis=1)[a < b])
    return np.concatenate(found)


def processor() -> str:
    """Return what the processor calls itself: two of the same name may differ in speed by half."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return platform.processor() or platform.machine()
    lines = [line.split(":") for line in path.read_text().splitlines() if ":" in line]
    facts = {name.strip(): value.strip() for name, value, *_ in lines}
    named = [facts.get(name, "unknown") for name in ("model name", "cpu family", "model")]
    return "{}, family {}, model {}".format(*named)


def machine() -> dict[str, Any]:
    """Say what it ran on."""
    names = ("torch", "sentence-transformers", "numpy", "transformers", "tokenizers")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_when_done": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
    }


if __name__ == "__main__":
    main()
