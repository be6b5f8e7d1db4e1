"""Whether exact variations improve a model: the demo's task with 40 real rows.

    python -m benchmarks.made_rows [--seeds 1] [--folder FOLDER] [--teacher MODEL_FOLDER]

The demo's table is prepared as in the demo, with a larger test part (whole wordings are held out).
Of the rest, 40 rows are drawn by seed. Models are trained with the same settings, seed and number
of optimizer steps:

- real: on the 40 rows alone;
- variations: with exact copies of them by create_dataset (products and order numbers swapped,
  typing errors, lower case, greetings cut off), no teacher;
- teacher: with as many other messages of the table, answered by a local model through
  create_dataset and kept where they fit the schema. With `--teacher` only: the merged model of a
  demo, which has learned from some of these messages, none of the test part of its own split.

`evaluate` asks both the same test rows. Its interval is over these rows, not over trainings; more
seeds show those. Steps are few and the model small, so that it runs on two cores. The rows are
those of the demo, which were written from 70 templates. Writes made_rows.json beside this file.
"""

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.report import CreateReport
from ft_tools.demo.walk import ADVISED, PREPARED, SCHEMA, TABLE
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.models import demo
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.tools import TOOLS
from tests.creating import read, write
from tests.demo_tickets.phrases import PRODUCTS

RESULTS = Path(__file__).with_suffix(".json")
NUM_REAL = 40
NUM_ASKED = 157
TEACHER = "teacher"
TEST_FRACTION = 0.35
TRAINING = {
    "max_steps": 100,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 1,
    "eval_strategy": "no",
    "logging_steps": 25,
    "save_steps": 1000,
}
ACCEPTED = ["validation_unwatched", "no_eval_set", "no_quality_filter", "too_few_examples"]
GREETINGS = ["Hello", "Hi there", "Good morning", "Hey", "Dear team", "Good evening"]
METRIC = "exact_match"


def call(tool: str, **arguments: Any) -> Any:
    """Call a tool as a client does."""
    return TOOLS[tool].call(TOOLS[tool].request.model_validate(arguments))


def run(tool: str, **arguments: Any) -> tuple[str, dict[str, Any], float]:
    """Plan, confirm and follow a run; returns its id, its report and its seconds."""
    began = time.monotonic()
    plan = call(tool, **arguments)
    for warning in plan.warnings:
        print(f"  {tool}: {warning}", flush=True)
    run_id = call(tool, **arguments, confirm=plan.plan_hash).run_id
    while (found := get_run(RunRequest(run_id=run_id, log_lines=20))).state not in ENDED:
        time.sleep(1)
    if found.state != "succeeded":
        raise SystemExit(f"{run_id} {found.state}: {found.error} {found.log_tail}")
    seconds = round(time.monotonic() - began, 1)
    print(f"{run_id}: {seconds} s", flush=True)
    return run_id, directory.whole_json(directory.find(run_id) / "report.json"), seconds


def prepared(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Prepare and audit the demo's table; returns the rows to train on and the settings."""
    (folder / TABLE).write_bytes(files("ft_tools.demo.data").joinpath(TABLE).read_bytes())
    asked = PREPARED | {"test_fraction": TEST_FRACTION, "validation_fraction": 0}
    agreed = call("prepare_dataset", **asked)
    made = call("prepare_dataset", **asked, confirm=agreed.mapping_hash)
    (folder / SCHEMA).write_text(json.dumps(made.mapping.answer_schema), encoding="utf-8")
    clean = call("audit_dataset", path=made.outputs.train, output_dir="clean")
    lora = call("suggest_lora_config", model=demo.HUB_ID, dataset=clean.outputs.train)
    advised = {name: lora.training[name] for name in ADVISED}
    return read(Path(clean.outputs.train)), {"peft": lora.peft, "training": advised | TRAINING}


def variations(seed: int) -> list[dict[str, Any]]:
    """Return the exact changes.

    No end is cut: there stands what the priority follows from.
    """
    chance = random.Random(seed)
    orders = [f"{chance.choice('ABCDEFGHJK')}{chance.randrange(1000, 10_000)}" for _ in range(100)]
    return [
        {"change": "swapped_values", "field": "product", "values": list(PRODUCTS), "copies": 2},
        {"change": "swapped_values", "field": "order", "values": orders},
        {"change": "typing_errors", "rate": 0.03, "share": 0.5},
        {"change": "case", "to": "lower", "share": 0.25},
        {"change": "cut_start", "values": GREETINGS, "share": 0.5},
    ]


def taught(folder: Path, place: str, rows: list[dict[str, Any]]) -> str:
    """Let the teacher answer as many messages as variations add rows; returns the file to train."""
    asked = [{"messages": row["messages"][:-1]} for row in rows[NUM_REAL : NUM_REAL + NUM_ASKED]]
    write(folder / place / "asked.jsonl", asked)
    decoding = {"json_schema": SCHEMA, "max_new_tokens": 60}
    teacher = {"model": TEACHER, "decoding": decoding}
    for part in ("pilot", "teacher"):
        run(
            "create_dataset", source=f"{place}/asked.jsonl", kind="answers", teacher=teacher,
            checks=[{"kind": "json_schema", "schema": SCHEMA}], output_dir=f"{place}/{part}",
            test="data/test.jsonl", validation_fraction=0,
        )  # fmt: skip
    made = read(folder / place / "teacher" / "train.jsonl")
    write(folder / place / "taught.jsonl", rows[:NUM_REAL] + made)
    return f"{place}/taught.jsonl"


def created(report: dict[str, Any]) -> dict[str, Any]:
    """Return what a creation says of itself, in numbers."""
    found = CreateReport.model_validate(report)
    rows = found.outputs.num_train if found.outputs else 0
    listed = {one.id: one.count for one in found.findings}
    return {"rows": rows, "makers": found.makers, "dropped": found.dropped, "findings": listed}


def measured(folder: Path, seed: int, rows: list[dict[str, Any]], how: Any) -> dict[str, Any]:
    """Make the rows, train both models and evaluate them, for one choice of 40 rows."""
    place = f"seed{seed}"
    real = f"{place}/real.jsonl"
    (folder / place).mkdir()
    drawn = random.Random(seed).sample(rows, len(rows))
    write(folder / real, drawn[:NUM_REAL])
    seconds = {}
    _, made, seconds["create_dataset"] = run(
        "create_dataset", source=real, kind="variations", variations=variations(seed),
        output_dir=f"{place}/variations", test="data/test.jsonl", validation_fraction=0,
    )  # fmt: skip
    datasets = {"real": real, "variations": f"{place}/variations/train.jsonl"}
    if (folder / TEACHER).exists():
        datasets["teacher"] = taught(folder, place, drawn)
    systems = []
    for name, dataset in datasets.items():
        run_id, _, seconds[name] = run(
            "launch_sft", model=demo.HUB_ID, dataset=dataset, name=f"{name} {seed}",
            preflight=False, accept_findings=ACCEPTED,
            accept_reason="equal steps, no checkpoint is chosen", **how,
        )  # fmt: skip
        systems.append({"name": name, "model": run_id, "decoding": {"json_schema": SCHEMA}})
    _, report, seconds["evaluate"] = run(
        "evaluate", systems=systems, dataset="data/test.jsonl", max_new_tokens=60,
        metrics=[METRIC], origin="written", general_ability=False,
    )  # fmt: skip
    scores = compared(EvaluationReport.model_validate(report))
    return {"made": created(made), "seconds": seconds, **scores}


def compared(report: EvaluationReport) -> dict[str, Any]:
    """Return the scores and the paired differences from the real rows alone."""
    systems = {
        one.name: {
            "exact_match": one.scores[METRIC].model_dump(),
            "fields": {k: v.value for k, v in one.per_class.items() if "=" not in k},
        }
        for one in report.systems
    }
    for one in report.comparisons:
        if one.metric == METRIC:
            kept = {"difference", "ci_low", "ci_high", "verdict"}
            systems[one.system]["versus_real"] = one.model_dump(include=kept)
    return {"num_test": report.num_examples, "coverage": report.coverage, "systems": systems}


def main() -> None:
    """Measure each seed, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="choices of 40 rows")
    parser.add_argument("--folder", help="new folder for the runs, to keep them")
    parser.add_argument("--teacher", help="folder of a merged model that answers messages")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary).resolve()
        folder.mkdir(exist_ok=True)
        if arguments.teacher:
            shutil.copytree(arguments.teacher, folder / TEACHER)
        os.environ[workspace.VARIABLE] = str(folder)
        if started := demo.ensure():
            raise SystemExit(f"the demo model is being unpacked by {started}; start again")
        rows, how = prepared(folder)
        found: dict[str, Any] = {
            "model": demo.HUB_ID,
            "num_real": NUM_REAL,
            "settings": how,
            "seeds": {},
        }
        for seed in range(arguments.seeds):
            found["seeds"][str(seed)] = measured(folder, seed, rows, how)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(found["seeds"][str(seed)], indent=1), flush=True)


if __name__ == "__main__":
    main()
