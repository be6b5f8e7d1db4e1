"""Earlier creations that asked the same teacher: replies that are known, and the pilot."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.creation.findings import refusal
from ft_tools.creation.forecast import Agreement, Forecast, kept_of, total_of
from ft_tools.creation.prices import KnownPrice
from ft_tools.creation.prompts import Prompt
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.requests import prompt_sha256
from ft_tools.endpoints.client import read_replies
from ft_tools.facts import number
from ft_tools.formats.training_rows import read_examples
from ft_tools.runs.state import directory

REPLIES, MEASURED, JUDGES = "replies.jsonl", "measured.jsonl", "judges.json"
SEARCHED_RUNS = 50
"""Newest creations that are looked at."""
UNKEYED: Mapping[str, Any] = {
    "price": True,
    "name": True,
    "endpoint": {"max_calls", "max_usd", "max_concurrency", "timeout_seconds", "key_variable"},
}
"""Of a teacher: what no reply depends on."""
UNMEASURED = {
    *("name", "request_id", "confirm", "budget_hours", "teacher", "test", "test_similarity"),
    *("output_dir", "budget_usd", "num_rows", "pilot_rows", "provider", "product_use"),
    *("validation_fraction", "accept_findings", "accept_reason"),
}
"""Of a request: what changes neither yield nor price of a prompt; `asking_key` has the teacher."""
MARKS = {"good": True, "bad": False}


def asking_key(request: CreateRequest, source_sha256: str) -> str:
    """Return the hash of the teacher and the source, by which earlier runs are found."""
    teacher = request.teacher.model_dump(mode="json", exclude=UNKEYED) if request.teacher else None
    return _hash([request.kind, source_sha256, teacher])


def pilot_key(request: CreateRequest, key: str, files: Mapping[str, str]) -> str:
    """Return the hash of all that yield and price of a prompt depend on.

    Args:
        request: With checks, samples, passages ...
        key: Of its teacher and source.
        files: Path -> hash of what the teacher or a check reads.
    """
    return _hash([key, request.model_dump(mode="json", exclude=UNMEASURED), dict(files)])


def _hash(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def earlier_runs(key: str) -> list[Path]:
    """Return the creations that asked under a key, newest first."""
    runs = [run for run in directory.all_runs() if run.name.startswith("create-")]
    return [
        run
        for run in runs[:SEARCHED_RUNS]
        if (directory.whole_json(run / "plan.json").get("asking") or {}).get("key") == key
        and (run / REPLIES).is_file()
    ]


def known_keys(runs: Sequence[Path]) -> set[str]:
    """Return what replies of some runs are kept under."""
    return set().union(*(read_replies(run / REPLIES) for run in runs))


def pilot_of(runs: Sequence[Path], key: str) -> Path | None:
    """Return the newest pilot under a key that has ended well."""
    for run in runs:
        plan = directory.whole_json(run / "plan.json")
        is_pilot = plan.get("pilot") and plan["asking"].get("pilot_key") == key
        if is_pilot and directory.read_status(run).state == "succeeded":
            return run
    return None


def agreements_of(pilot: Path | None) -> dict[str, Agreement]:
    """Return how far each judge agreed with the user in a pilot."""
    found = directory.whole_json(pilot / JUDGES) if pilot else {}
    return {name: Agreement.model_validate(one) for name, one in found.items()}


def read_marked(path: Path) -> list[tuple[str, str, bool]]:
    """Return questions and answers that the user marked, and whether they are good.

    Raises:
        BadInput: They are too few, a label is neither good nor bad, or all are the same.
    """
    rows = []
    for line, row in read_examples(path):
        question, answer, mark = (row.get(name) for name in ("question", "answer", "label"))
        if not isinstance(question, str) or not isinstance(answer, str) or mark not in MARKS:
            raise refusal("marked_row", path=path, line=line)
        rows.append((question, answer, MARKS[str(mark)]))
    needed, good = int(number("creation.marked_rows")), sum(is_good for *_, is_good in rows)
    if len(rows) < needed or good in {0, len(rows)}:
        raise refusal("marked_too_few", path=path, num=len(rows), good=good, needed=needed)
    return rows


def forecast_of(
    pilot: Path,
    prompts: Sequence[Prompt],
    num_more: int,
    price: KnownPrice | None,
    concurrency: int,
) -> Forecast | None:
    """Return what so many further prompts will take, from what those of the pilot took."""
    measured = directory.read_rows(pilot / MEASURED)
    if len(measured) < 2:
        return None
    kept, tokens, seconds = (
        [float(row[name]) for row in measured] for name in ("kept", "tokens", "seconds")
    )
    usd = [
        price.usd_of(row["prompt_tokens"], row["tokens"]) + row["judge_usd"]
        for row in measured
        if price
    ]
    used = set(map(prompt_sha256, prompts))
    done = sum(float(row["kept"]) for row in measured if row["prompt"] in used)
    return Forecast(
        pilot_run=pilot.name,
        num_pilot_prompts=len(measured),
        kept=kept_of(kept, num_more, done),
        completion_tokens=total_of(tokens, num_more),
        usd=total_of(usd, num_more) if price else None,
        seconds=total_of([value / concurrency for value in seconds], num_more),
        usd_spent=sum(usd) if price else None,
    )
