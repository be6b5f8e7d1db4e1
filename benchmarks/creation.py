"""What create_dataset keeps, pays and promises with a teacher of known faults on loopback.

    python -m benchmarks.creation [--kills 50] [--seeds 40]

A scripted teacher answers sums: 20% wrong, 5% malformed, 2% refusals, 5% 429, 1% stalls, a price
per token. Measured: which rows are kept by exact checks, by a judge that errs, by the quotes of
documents; what 50 kills of the worker ask and pay twice; whether the forecast of a pilot covers
what the whole then costs and yields. Writes creation.json beside this file. It shows accounting and
filters, not that made rows help a model.
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from ft_tools import workspace
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.tool import create_dataset
from ft_tools.endpoints import client
from ft_tools.endpoints.client import Question
from ft_tools.runs.request import ResumeRequest, RunRequest
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run, resume_run
from tests.creating import planned_here, read, run_here, write
from tests.endpoint import PRICE, Teacher, serving

RESULTS = Path(__file__).with_suffix(".json")
FAULTS = {"wrong": 0.20, "malformed": 0.05, "refusal": 0.02, "429": 0.05, "stall": 0.01}
TIMEOUT_SECONDS = 1.0
CHECKS = [
    {"kind": "pattern", "pattern": r"The sum is \d+\."},
    {"kind": "number", "reference": "sum"},
]
BUDGET_USD = 250.0
SUITES = ("exact", "judge", "documents", "kills", "forecasts")


def add(question: str, is_right: bool = True) -> str:
    """Answer a sum, or be off by a little."""
    a, b = (int(word.strip("?")) for word in question.split() if word.strip("?").isdigit())
    return f"The sum is {a + b if is_right else a + b + 1 + a % 3}."


def sums(count: int) -> list[dict[str, Any]]:
    """Return so many different sums."""
    pairs = [(n, (n * 7919) % 613) for n in range(count)]
    return [{"prompt": f"What is {a} + {b}?", "sum": a + b} for a, b in pairs]


def asking(url: str, **more: Any) -> dict[str, Any]:
    """Return the arguments of a creation."""
    endpoint = {
        "url": url,
        "model": "teacher",
        "max_calls": 100_000,
        "timeout_seconds": TIMEOUT_SECONDS,
        "max_concurrency": 8,
    }
    return {
        "source": "sums.jsonl",
        "kind": "answers",
        "teacher": {"endpoint": endpoint, "price": PRICE, "decoding": {"temperature": 0.8}},
        "checks": CHECKS,
        "output_dir": "made",
        "provider": "open_licence",
        "pilot_rows": 0,
    } | more


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Return all rows of the files."""
    return [row for name in ("train", "validation") for row in read(folder / f"{name}.jsonl")]


def is_right(row: dict[str, Any]) -> bool:
    """Return whether a row's answer is the sum."""
    asked, answer = (str(turn["content"]) for turn in row["messages"])
    return answer == add(asked)


def exact(folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Keep answers by exact checks."""
    write(folder / "sums.jsonl", sums(1000))
    teacher = Teacher(add, FAULTS)
    with serving(teacher) as server:
        _, report = run_here(folder, **asking(server.url))
    rows = rows_in(folder / "made")
    right = teacher.faults[""]
    return {
        "asked": report.num_asked,
        "kept": report.num_kept,
        "wrong_kept_fraction": sum(not is_right(row) for row in rows) / len(rows),
        "right_kept_fraction": sum(map(is_right, rows)) / right,
        "dropped": report.dropped,
        "kept_and_dropped_add_up": report.num_kept + sum(report.dropped.values())
        == report.num_asked,
        "answered_twice": sum(count > 1 for count in teacher.answered.values()),
        "usd_of_answers": round(teacher.usd, 4),
        "usd_in_ledger": round(report.usd or 0.0, 4),
    }


def judge(folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Keep answers by a judge that passes right and wrong ones at known rates."""
    found = {}
    for passes_right, passes_wrong in ((0.9, 0.1), (0.95, 0.3)):
        name = f"t={passes_right:g} f={passes_wrong:g}"
        place = folder / name
        place.mkdir()
        os.environ[workspace.VARIABLE] = str(place)
        write(place / "sums.jsonl", sums(1000))
        teacher, chance = Teacher(add, {"wrong": 0.7}), random.Random(0)

        def reply(
            question: str,
            body: dict[str, Any],
            teacher: Teacher = teacher,
            chance: random.Random = chance,
            rates: tuple[float, float] = (passes_right, passes_wrong),
        ) -> Any:
            if body["model"] != "judge":
                return teacher(question, body)
            quoted = json.loads(question[question.index("{") : question.rindex("}\n") + 1])
            rate = rates[add(quoted["request"]) != quoted["answer"]]
            return json.dumps({"pass": chance.random() < rate})

        with serving(reply) as server:
            endpoint = {"url": server.url, "model": "judge", "max_calls": 5000}
            checks = [
                {"kind": "judge", "endpoint": endpoint, "rubric": "Is it right?"},
                # A judge alone needs marked rows; here it is the judge that is measured.
                {"kind": "pattern", "pattern": "The sum.*"},
            ]
            run_here(place, **asking(server.url, checks=checks))
        rows = rows_in(place / "made")
        p = teacher.faults[""] / 1000
        expected = passes_wrong * (1 - p) / (passes_right * p + passes_wrong * (1 - p))
        found[name] = {
            "teacher_right": p,
            "wrong_kept_fraction": round(1 - sum(map(is_right, rows)) / len(rows), 4),
            "by_the_formula": round(expected, 4),
            "right_kept_fraction": round(sum(map(is_right, rows)) / teacher.faults[""], 4),
        }
    return found


def documents(folder: Path, _: argparse.Namespace) -> dict[str, Any]:
    """Keep answers from documents by quotes and numbers; one fault of each kind is beyond them."""
    docs = folder / "docs"
    docs.mkdir()
    for n in range(200):
        (docs / f"sheet{n:03}.md").write_text(
            f"Pump P{n} weighs {10 + n} kg. It lifts {100 + 3 * n} litres per minute and is blue."
        )
    kinds, chance = Counter[str](), random.Random(0)

    def reply(question: str, _: dict[str, Any]) -> str:
        passage = json.loads(question[question.index('{"text"') :])["text"]
        name, weight = passage.split()[1], passage.split()[3]
        kind = chance.choices(
            ("right", "wrong_number", "invented_quote", "wrong_word"), (0.7, 0.1, 0.1, 0.1)
        )[0]
        kinds[kind] += 1
        answer = f"Pump {name} weighs {weight} kg and is blue."
        quotes = [passage.split(". ")[0]]
        if kind == "wrong_number":
            answer = f"Pump {name} weighs {int(weight) + 5000} kg."
        if kind == "invented_quote":
            answer, quotes = f"Pump {name} is silent.", [f"{name} is silent"]
        if kind == "wrong_word":
            answer = f"Pump {name} weighs {weight} kg and is red."
        one = {"question": f"What is known of pump {name}?", "answer": answer, "quotes": quotes}
        return json.dumps({"examples": [one]})

    with serving(reply) as server:
        more = {"checks": [], "questions_per_passage": 1, "unanswerable_fraction": 0.1}
        _, report = run_here(folder, **asking(server.url, source="docs", kind="documents", **more))
    kept = Counter[str]()
    for row in rows_in(folder / "made"):
        answer = str(row["messages"][1]["content"])
        for word, kind in (("blue", "right"), ("red", "wrong_word"), ("silent", "invented_quote")):
            kept[kind] += word in answer
        kept["unanswerable"] += "does not say" in answer
    return {
        "asked": dict(kinds),
        "kept": dict(+kept),
        "dropped": report.dropped,
        "right_kept_fraction": kept["right"] / kinds["right"],
        "wrong_numbers_and_quotes_kept": kept["invented_quote"] + kept["wrong_number"],
        "wrong_words_kept": kept["wrong_word"],
    }


def kills(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Kill the worker again and again, with a budget that does not suffice for all prompts."""
    write(folder / "sums.jsonl", sums(4000))
    teacher = Teacher(add, {"429": 0.02, "500": 0.01})
    chance = random.Random(0)

    asked_again = 0

    def slow(question: str, body: dict[str, Any]) -> Any:
        nonlocal asked_again
        key = Question([], json.dumps(body, ensure_ascii=False).encode(), 0).key
        asked_again += replies.exists() and key in replies.read_text()
        return teacher(question, body)

    kept_before: list[int] = []
    replies = folder / "none"
    with serving(slow) as server:
        arguments = asking(server.url, budget_usd=BUDGET_USD)
        arguments["teacher"]["decoding"]["max_new_tokens"] = 64
        plan = create_dataset(CreateRequest.model_validate(arguments))
        run = create_dataset(CreateRequest.model_validate(arguments | {"confirm": plan.plan_hash}))
        run_dir = directory.find(run.run_id or "")
        replies = run_dir / "replies.jsonl"
        while len(kept_before) < options.kills:
            begun = _lines(replies)
            until = time.monotonic() + 60
            while _lines(replies) <= begun + chance.randrange(20) and time.monotonic() < until:
                if get_run(RunRequest(run_id=run_dir.name)).state in ENDED:
                    break
                time.sleep(0.01)
            if directory.read_status(run_dir).state == "succeeded":
                break
            kill_worker(run_dir)
            kept_before.append(_lines(replies))
            resume_run(ResumeRequest(run_id=run_dir.name))
        while (state := get_run(RunRequest(run_id=run_dir.name)).state) not in ENDED:
            time.sleep(0.1)
    report = json.loads((run_dir / "report.json").read_text()) if state == "succeeded" else {}
    answers = sum(teacher.answered.values())
    return {
        "state": state,
        "kills": len(kept_before),
        "budget_usd": BUDGET_USD,
        "usd_of_answers": round(teacher.usd, 4),
        "usd_in_ledger": round(report.get("usd", 0.0), 4),
        "answers_sent": answers,
        "answers_kept": _lines(replies),
        "asked_again_after_it_was_kept": asked_again,
        "lost_in_flight_at_a_kill": answers - _lines(replies),
        "rows_kept": report.get("num_kept"),
        "dropped": report.get("dropped"),
    }


def kill_worker(run_dir: Path) -> None:
    """Kill the supervisor and the worker of a run, and wait until nobody holds it."""
    marks = f"{run_dir}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if marks in command and b"ft_tools" in command:
            os.kill(int(process.name), signal.SIGKILL)
    until = time.monotonic() + 30
    while time.monotonic() < until:
        files = [locks.take(run_dir / name) for name in (locks.SUPERVISOR, locks.OWNER)]
        for file in files:
            if file is not None:
                os.close(file)
        if None not in files:
            return
        time.sleep(0.02)


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def forecasts(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Compare what a pilot of 20 forecasts with what the whole costs and yields."""
    covered, ratios, kept = 0, [], 0
    for seed in range(options.seeds):
        place = folder / str(seed)
        place.mkdir()
        os.environ[workspace.VARIABLE] = str(place)
        write(place / "sums.jsonl", sums(220))
        teacher = Teacher(add, FAULTS | {"stall": 0.0}, seed)
        with serving(teacher) as server:
            arguments = asking(server.url, pilot_rows=20, seed=seed)
            _, pilot = run_here(place, f"create-{seed:016x}", **arguments)
            run_dir = place / "runs" / f"create-{seed:016x}"
            (run_dir / "report.json").write_text(pilot.model_dump_json())
            ended = json.loads((run_dir / "status.json").read_text()) | {"state": "succeeded"}
            (run_dir / "status.json").write_text(json.dumps(ended))
            launch, _ = planned_here(place, f"create-{seed + 1000:016x}", **arguments)
            _, report = run_here(place, f"create-{seed + 1000:016x}", **arguments)
        asking_plan: Any = launch.plan["asking"]
        forecast = asking_plan["forecast"]
        usd = forecast["usd"]
        covered += usd["low"] <= (report.usd or 0.0) <= usd["high"]
        kept += forecast["kept"]["low"] <= report.num_kept <= forecast["kept"]["high"]
        ratios.append(usd["high"] / usd["low"])
    return {
        "seeds": options.seeds,
        "cost_covered": covered,
        "kept_covered": kept,
        "upper_over_lower_median": round(median(ratios), 3),
        "upper_over_lower_largest": round(max(ratios), 3),
    }


def main() -> None:
    """Measure each suite in a workspace of its own, and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--only", choices=SUITES)
    options = parser.parse_args()
    client.FIRST_WAIT_SECONDS = 0.05
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in SUITES:
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                os.environ[workspace.VARIABLE] = folder
                results[name] = globals()[name](Path(folder), options)
            print(name, json.dumps(results[name], indent=1))
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
