"""How many rows made of GSM8K an audit finds, and how many clean rows it flags.

    python -m benchmarks.contamination [--meaning] REPHRASED GSM8K_TEST CLEAN [CLEAN ...]

REPHRASED is `data/rephrase/rephrase_gsm8k.jsonl` of https://github.com/lm-sys/llm-decontaminator
(Apache-2.0), GSM8K_TEST the test questions of https://github.com/openai/grade-school-math (MIT).
CLEAN are files of other rows. Without `--meaning` only the search by words is measured, which needs
no model.
"""

import json
import os
import platform
import random
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.audit_rows import real_rows

RESULTS = Path(__file__).with_suffix(".json")
CLEAN_ROWS = 500
"""Of each file."""
GSM8K_STEP = 8
FOUND = ("benchmark_ngram", "benchmark_semantic")
ANSWER = "It is just so."
ASKED = "Write a task for a test."
Row = dict[str, str]


def main() -> None:
    """Build the rows, search them, and write the shares."""
    by_meaning = "--meaning" in sys.argv
    given = [argument for argument in sys.argv[1:] if argument != "--meaning"]
    if len(given) < 3:
        print("name the files: no benchmark is shipped with this project")
        return
    rephrased, gsm8k, *clean = map(Path, given)
    kinds = made(rephrased, gsm8k)
    drawn = clean_rows(clean)
    with tempfile.TemporaryDirectory() as name:
        os.environ["FINE_TUNING_LLM_WORKSPACE"] = name
        (Path(name) / "benchmark.jsonl").write_bytes(gsm8k.read_bytes())
        results = searched(Path(name), kinds | drawn, by_meaning=by_meaning)
    total, alarms = (sum(results[name][key] for name in drawn) for key in ("rows", "found"))
    result = {
        "kinds": {name: results[name] for name in kinds},
        "clean": {name: results[name] for name in drawn},
        "clean_rows": total,
        "false_alarms": alarms,
        "false_alarms_fraction": round(alarms / total, 5),
        "by_meaning": by_meaning,
        "machine": platform.machine(),
        "torch": version("torch"),
        "sentence_transformers": version("sentence-transformers"),
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def lines(path: Path) -> list[Any]:
    """Return the values of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def made(rephrased: Path, gsm8k: Path) -> dict[str, list[Row]]:
    """Return each kind of contaminated rows."""
    texts = [row["text"].split("\nAnswer:")[0] for row in lines(rephrased)][::GSM8K_STEP]
    asked = [text.removeprefix("Question: ") for text in texts]
    copied = [row["question"] for row in lines(gsm8k)][::GSM8K_STEP]
    return {
        "GSM8K copied": [{"prompt": one, "completion": ANSWER} for one in copied],
        "GSM8K paraphrased": [{"prompt": one, "completion": ANSWER} for one in asked],
        "GSM8K paraphrased, in answers": [{"prompt": ASKED, "completion": one} for one in asked],
    }


def clean_rows(paths: list[Path]) -> dict[str, list[Row]]:
    """Draw the rows that are no benchmark's, by file."""
    found: dict[str, list[Row]] = {}
    for path in paths:
        rows = [{"prompt": asked, "completion": said} for asked, said in real_rows(path.resolve())]
        found[path.stem] = random.Random(7).sample(rows, min(CLEAN_ROWS, len(rows)))
    return found


def searched(
    folder: Path, groups: dict[str, list[Row]], *, by_meaning: bool
) -> dict[str, dict[str, Any]]:
    """Audit all groups of rows at once, and count what is found in each."""
    from ft_tools.data.audit import perform
    from ft_tools.data.pipeline import Methods
    from ft_tools.data.read.scan import Scan
    from ft_tools.data.repeats.near import Near
    from ft_tools.data.request import AuditRequest
    from ft_tools.data.worker.near_by_meaning import ByMeaning
    from ft_tools.similarity.minilm import find_minilm

    rows = [row for group in groups.values() for row in group]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    scans: list[Scan] = []

    def find(scanned: Scan, request: AuditRequest) -> Near:
        scans.append(scanned)
        if not by_meaning:
            return Near(0, "not looked for")
        model = find_minilm()
        assert model is not None
        return ByMeaning(model, lambda _: None, lambda *_: None).find(scanned, request)

    # A cosine of 1: near-duplicates stay, so that each row is looked for.
    request = AuditRequest(
        path=path.name, benchmark_paths=["benchmark.jsonl"], near_duplicate_threshold=1.0
    )
    perform(request, Methods(find_near=find))
    words, meaning = (set(scans[0].found.get(name, ())) for name in FOUND)
    results, start = {}, 0
    for name, group in groups.items():
        own = range(start, start + len(group))
        start += len(group)
        results[name] = {
            "rows": len(group),
            "found": len((words | meaning).intersection(own)),
            "found_by_words": len(words.intersection(own)),
        }
    return results


if __name__ == "__main__":
    main()
