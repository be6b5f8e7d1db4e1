"""How many rows made of benchmarks an audit finds, by kind, and how many clean rows it flags.

    python -m benchmarks.contamination [--meaning] REPHRASED HUMANEVAL CLEAN [CLEAN ...]

REPHRASED is the folder `data/rephrase` of https://github.com/lm-sys/llm-decontaminator
(Apache-2.0): questions of three subjects of MMLU, of GSM8K and of HumanEval, paraphrased and
translated. HUMANEVAL is
HumanEval.jsonl of https://github.com/openai/human-eval (MIT). CLEAN are files of other rows, and
gsm8k_test.jsonl among them is the benchmark. The thresholds were chosen on the even rows of
HumanEval and on `TUNED_ROWS` rows of codegen-instruct, which are no clean rows here; of each kind
the odd rows are counted on their own. Rows with a prompt are searched in `fast` mode;
near-duplicates are not removed before. Without `--meaning` only the search by words is measured,
which needs no model.
"""

import ast
import csv
import json
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.audit_rows import real_rows

RESULTS = Path(__file__).with_suffix(".json")
SUBJECTS = ("abstract_algebra", "sociology", "high_school_us_history")
CODE = "codegen-instruct"
TUNED_ROWS = 1000
CLEAN_ROWS = {CODE: 2500, "gsm8k_train": 3500, "toolformer-similarity-0.9": 2500}
NUM_CLEAN = 10_000
GSM8K_STEP = 4
Row = dict[str, str]


def main() -> None:
    """Build the rows, search them, and write the shares."""
    by_meaning = "--meaning" in sys.argv
    given = [argument for argument in sys.argv[1:] if argument != "--meaning"]
    if len(given) < 3:
        print("name the folders and files: no benchmark is shipped with this project")
        return
    rephrased, human_eval, *clean = map(Path, given)
    kinds = {name: list(filter(_says, rows)) for name, rows in made(rephrased, human_eval)}
    texts = {name: rows for name, rows in kinds.items() if "text" in rows[0]}
    chats = {name: rows for name, rows in kinds.items() if name not in texts}
    drawn = clean_rows(clean)
    with tempfile.TemporaryDirectory() as name:
        os.environ["FINE_TUNING_LLM_WORKSPACE"] = name
        benchmarks = write_benchmarks(Path(name), rephrased, human_eval, clean)
        results = searched(Path(name), benchmarks, texts, by_meaning=by_meaning)
        results |= searched(Path(name), benchmarks, chats | drawn, by_meaning=by_meaning)
    flagged = {name: results[name] for name in drawn}
    total, alarms = (sum(one[key] for one in flagged.values()) for key in ("rows", "found"))
    result = {
        "kinds": {name: results[name] for name in kinds},
        "clean": flagged,
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


def _says(row: Row) -> bool:
    """Tell whether the paraphraser made anything of a row."""
    return all(len(text.split()) > 2 for text in row.values())


def lines(path: Path) -> list[Any]:
    """Return the values of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_benchmarks(
    folder: Path, rephrased: Path, human_eval: Path, clean: list[Path]
) -> list[str]:
    """Copy the benchmarks as they are published; return their names."""
    sources = [human_eval, *(rephrased / f"{name}_test.csv" for name in SUBJECTS)]
    sources += [path for path in clean if path.stem == "gsm8k_test"]
    for source in sources:
        (folder / source.name).write_bytes(source.read_bytes())
    return [source.name for source in sources]


def made(rephrased: Path, human_eval: Path) -> Iterable[tuple[str, list[Row]]]:
    """Yield each kind of contaminated rows."""
    problems = lines(human_eval)
    for language in ("python", "js", "c"):
        texts = [row["text"] for row in lines(rephrased / f"humaneval_{language}.jsonl")]
        yield f"HumanEval paraphrased, as {language}", [{"text": text} for text in texts]
        yield f"HumanEval paraphrased, as {language}, task in the prompt", told(texts)
    yield (
        "HumanEval solutions, other names, no comments",
        [
            {
                "prompt": "Write the program.",
                "completion": renamed(p["prompt"] + p["canonical_solution"]),
            }
            for p in problems
        ],
    )
    yield (
        "HumanEval copied into answers",
        [{"prompt": "Write a task for a test.", "completion": p["prompt"]} for p in problems],
    )
    questions = [
        row["text"].split("\nAnswer:")[0] for row in lines(rephrased / "rephrase_gsm8k.jsonl")
    ]
    asked = [question.removeprefix("Question: ") for question in questions][::GSM8K_STEP]
    yield "GSM8K paraphrased", [{"prompt": q, "completion": "It is just so."} for q in asked]
    yield (
        "GSM8K paraphrased, in answers",
        [{"prompt": "Write a task for a test.", "completion": q} for q in asked],
    )
    for name in SUBJECTS:
        texts = [
            row["text"].strip()
            for row in lines(rephrased / f"{name}_test_rephrase_english_filtered_question.jsonl")
        ]
        yield (
            f"MMLU {name} paraphrased, the question alone",
            [{"prompt": text, "completion": "It is just so."} for text in texts],
        )
    with (rephrased / "high_school_us_history_test.csv").open(encoding="utf-8", newline="") as file:
        alone = [row[0].strip().split("\n")[-1] for row in csv.reader(file)]
    yield (
        "MMLU high_school_us_history copied without the passage",
        [{"prompt": text, "completion": "It is just so."} for text in alone],
    )


def told(texts: list[str]) -> list[Row]:
    """Put what the comments say into a prompt, and the program without them into the answer."""
    from ft_tools.data.repeats.code_parts import comments_of, without_comments

    return [
        {"prompt": f"Write a function. {comments[0]}", "completion": without_comments(text)}
        for text in texts
        if (comments := comments_of(text))
    ]


def renamed(program: str) -> str:
    """Give all that a program names itself other names, and take its docstrings out."""
    tree = ast.parse(program)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.setdefault(node.name, f"work{len(names)}")
            if ast.get_docstring(node):
                node.body = node.body[1:]
        elif isinstance(node, ast.arg):
            names.setdefault(node.arg, f"item{len(names)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, f"value{len(names)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.name = names[node.name]
        elif isinstance(node, ast.arg):
            node.arg = names[node.arg]
        elif isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


def clean_rows(paths: list[Path]) -> dict[str, list[Row]]:
    """Draw the rows that are no benchmark's, by file; those of codegen that were not tuned on."""
    found: dict[str, list[Row]] = {}
    left = NUM_CLEAN
    for path in paths:
        if path.stem == "gsm8k_test":
            continue
        rows = [{"prompt": asked, "completion": said} for asked, said in real_rows(path.resolve())]
        if path.stem == CODE:
            drawn = random.Random(0).sample(range(len(rows)), 2 * TUNED_ROWS)
            rows = [row for at, row in enumerate(rows) if at not in set(drawn[:TUNED_ROWS])]
        wanted = min(left, CLEAN_ROWS.get(path.stem, left), len(rows))
        found[path.stem] = random.Random(7).sample(rows, wanted)
        left -= wanted
    return found


def found_in(
    folder: Path, benchmarks: list[str], rows: list[Row], *, by_meaning: bool
) -> dict[str, set[int]]:
    """Return which rows are found, by finding: each row has one of them at most."""
    from ft_tools.data.read.example_texts import lengths_of
    from ft_tools.data.read.scan import scan
    from ft_tools.data.repeats.benchmarks import Benchmarks
    from ft_tools.data.request import AuditRequest

    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    request = AuditRequest(path=path.name, benchmark_paths=benchmarks)
    known = Benchmarks([folder / name for name in benchmarks])
    scanned = scan(request, (path, None), known, lambda _: None, lengths_of, with_pairs=False)
    if by_meaning:
        search_by_meaning(scanned, request)
    return {name: set(scanned.found.get(name, ())) for name in FOUND}


def search_by_meaning(scanned: Any, request: Any) -> None:
    """Look for paraphrases as an audit with embeddings does."""
    from ft_tools.data.worker.benchmarks_by_meaning import Paraphrases
    from ft_tools.data.worker.search_by_meaning import semantic
    from ft_tools.data.worker.static_vectors import StaticVectors
    from ft_tools.similarity.minilm import find_minilm

    model = find_minilm()
    assert model is not None
    search = semantic(model, lambda _: None, lambda *_: None)
    indices, parts = search._read(scanned, request)
    is_text = parts["prompt"].is_empty
    columns = [parts["answer"]] if is_text else [parts["prompt"], parts["answer"]]
    static = None if is_text else StaticVectors(search.model, columns, request.seed)
    paraphrases = Paraphrases(search.model, static, search._shared, lambda *_: None)
    answered = None if is_text else parts["answer"]
    print(paraphrases.remove(scanned, request, indices, columns[0], answered), file=sys.stderr)


FOUND = ("benchmark_ngram", "benchmark_semantic")


def searched(
    folder: Path, benchmarks: list[str], groups: dict[str, list[Row]], *, by_meaning: bool
) -> dict[str, dict[str, Any]]:
    """Search all groups of rows at once, and count what is found in each."""
    rows = [row for group in groups.values() for row in group]
    found = found_in(folder, benchmarks, rows, by_meaning=by_meaning)
    words, every = found["benchmark_ngram"], set().union(*found.values())
    results, start = {}, 0
    for name, group in groups.items():
        own = range(start, start + len(group))
        odd = own[1::2]
        start += len(group)
        results[name] = {
            "rows": len(group),
            "found": len(every.intersection(own)),
            "found_by_words": len(words.intersection(own)),
            "found_fraction": round(len(every.intersection(own)) / len(group), 4),
            "found_of_odd_rows_fraction": round(len(every.intersection(odd)) / len(odd), 4),
        }
    return results


if __name__ == "__main__":
    main()
