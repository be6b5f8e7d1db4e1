"""Near-duplicate removal by other tools; run by benchmarks/audit.py with a Python that has them.

    python benchmarks/audit_peers.py ROWS.jsonl PART VECTORS.npz

Parts: `semhash_minilm` (SemHash on the very MiniLM vectors, so only the search is timed),
`rensa` (MinHash of neighbouring word pairs, LSH
at Jaccard 0.8). SemHash compares prompt and answer as one vector, so it removes on their mean
cosine; rensa compares them as one set. The last line printed is JSON.
"""

import json
import re
import resource
import sys
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD = 0.95
JACCARD = 0.8
PERMUTATIONS = 128
BANDS = 16


def main() -> None:
    """Run one part and print what it keeps."""
    if len(sys.argv) < 4:
        print("this is run by benchmarks/audit.py")
        return
    path, part, vectors = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    rows = list(map(json.loads, path.read_text(encoding="utf-8").splitlines()))
    for at, row in enumerate(rows):
        row["at"] = str(at)
    result = PARTS[part](rows, vectors)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(result | {"peak_gib": round(peak, 3)}))


def semhash_minilm(rows: list[dict[str, str]], vectors: Path) -> dict[str, Any]:
    """SemHash's search on the vectors of the plain definition."""
    from semhash import SemHash

    stored = np.load(vectors)
    joined = np.concatenate([stored["prompt"], stored["completion"]], axis=1) / 2**0.5
    began = time.perf_counter()
    made = SemHash.from_embeddings(joined, rows, model=None, columns=["prompt", "completion"])
    kept = made.self_deduplicate(threshold=THRESHOLD).selected
    return _result("semhash", began, kept)


def rensa(rows: list[dict[str, str]], vectors: Path) -> dict[str, Any]:
    """Rensa's MinHash and LSH; a row goes if a kept row before it is estimated at the threshold."""
    from rensa import RMinHash, RMinHashLSH

    began = time.perf_counter()
    index = RMinHashLSH(threshold=JACCARD, num_perm=PERMUTATIONS, num_bands=BANDS)
    made: list[Any] = []
    kept = []
    for at, row in enumerate(rows):
        words = re.findall(r"\w+", f"{row['prompt']}\n{row['completion']}".lower())
        sketch = RMinHash(num_perm=PERMUTATIONS, seed=0)
        sketch.update([f"{a} {b}" for a, b in pairwise(words)] or words)
        made.append(sketch)
        if not any(sketch.jaccard(made[other]) >= JACCARD for other in index.query(sketch)):
            index.insert(at, sketch)
            kept.append({"at": at})
    return _result("rensa", began, kept)


def _result(name: str, began: float, kept: list[Any]) -> dict[str, Any]:
    seconds = round(time.perf_counter() - began, 2)
    return {
        "seconds": seconds,
        "kept": sorted(int(row["at"]) for row in kept),
        "version": f"{name} {version(name)}",
    }


PARTS = {"semhash_minilm": semhash_minilm, "rensa": rensa}

if __name__ == "__main__":
    main()
