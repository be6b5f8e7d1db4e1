"""What a creation would do: what is asked of whom, what is made at once, and what is refused."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ft_tools import workspace
from ft_tools.creation.asking import AskingPlan, plan_asking, prompts_of
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.leaks import TestQuestions
from ft_tools.creation.report import QUOTED, LogCounts, QuotedRow
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import Made, MadeRow
from ft_tools.creation.terms import require_allowed, terms_of_providers, terms_warnings
from ft_tools.creation.traces.made import traced_rows
from ft_tools.creation.variations import varied_rows
from ft_tools.data.judge import privacy
from ft_tools.formats.column_counts import shown
from ft_tools.formats.quoting import quote
from ft_tools.formats.readers.source import is_ours
from ft_tools.publish import sha256
from ft_tools.runs.estimates import Duration, duration
from ft_tools.runs.launch import Plan
from ft_tools.runs.state import directory
from ft_tools.similarity.minilm import find_minilm

NUM_QUOTED, QUOTED_CHARS = 5, 200
MOST_LISTED = 10
QUOTED_ORIGIN = {"change", "date", "checks", "signs"}
"""What a quoted row shows of its origin; origin.jsonl has the rest."""


class CreatePlan(Plan):
    """What a creation would do."""

    MACHINE: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("heading", "quoted", "duration"), True),
        "asking": {
            **dict.fromkeys(("num_known", "reused_from", "forecast"), True),
            **dict.fromkeys(("estimated_input_tokens", "most_usd"), True),
            "price": {"source"},
        },
    }

    kind: str
    pilot: bool = Field(False, description="A few prompts, to know yield and price of the rest.")
    source_sha256: str = Field(description="Of the file; of a folder, of its files.")
    test_sha256: str | None = None
    num_source: int = Field(0, description="Rows, passages or sessions of the source.")
    asking: AskingPlan | None = Field(None, description="Null: nobody is asked.")
    num_made: dict[str, int] = Field(
        default_factory=dict, description="Without a teacher: kind of origin -> rows, counted."
    )
    dropped: dict[str, int] = Field(
        default_factory=dict, description="Without a teacher: reason -> rows that are left out."
    )
    num_test_rows: int = Field(0, description="Rows of the source that test rows ask, left out.")
    duration: Duration | None = Field(None, description="Null: not known before the pilot.")
    accepted: list[str] = Field(default_factory=list, description="Ids of accepted findings.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    log: LogCounts | None = Field(None, description="Of traces: what the logs hold.")
    marks_sha256: str | None = None
    heading: str = QUOTED
    quoted: list[QuotedRow] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


def make_plan(request: CreateRequest) -> CreatePlan:
    """Return what would be done; it reads the source and the test rows, and asks nobody.

    Raises:
        BadInput: The output folder is missing or not empty, or arguments do not fit the files.
        NotFound: A file is not there.
        Refused: The teacher's terms forbid this use.
    """
    if request.output_dir is None:
        raise refusal("no_output_dir")
    workspace.new_folder(request.output_dir)
    path = workspace.existing(request.source)
    test = workspace.existing(request.test) if request.test else None
    plan = CreatePlan(
        kind=request.kind,
        source_sha256=content_sha256(path),
        test_sha256=sha256(test) if test else None,
        marks_sha256=sha256(workspace.existing(request.marks)) if request.marks else None,
        accepted=request.accept_findings,
        accept_reason=request.accept_reason,
        warnings=_warnings(request),
    )
    if request.teacher is not None:
        return _plan_asking(request, plan, path, test)
    made = made_at_once(request, path, plan.source_sha256)
    if made.log is not None:
        terms = terms_of_providers(request, made.log.terms)
        made = replace(made, warnings=[*made.warnings, *terms_warnings(terms)])
        if request.confirm:
            # Until then the plan shows what there is to decide.
            require_allowed(request, terms)
            if request.keep is None:
                raise refusal("no_condition")
    return _plan_made(request, plan, made, test)


def made_at_once(request: CreateRequest, path: Path, digest: str) -> Made:
    """Return the rows that are made without asking anybody."""
    if request.kind == "traces":
        return traced_rows(request, path, digest)
    rows = varied_rows(path, request.source, digest, request.variations, request.seed)
    return Made(rows, len(rows))


def _plan_asking(
    request: CreateRequest, plan: CreatePlan, path: Path, test: Path | None
) -> CreatePlan:
    """Add what would be asked of the teacher, and five prompts or rows of the pilot."""
    prompts, num_held = prompts_of(request, path, test)
    asking, is_pilot, warnings = plan_asking(request, prompts, plan.source_sha256)
    if num_held:
        warnings.append(
            warning("test_asked", num=num_held, test=request.test, listed=request.source)
        )
    seconds = asking.forecast.seconds if asking.forecast else None
    parts = [(1.0, (seconds.low, seconds.high))] if seconds else []
    made = rows_of_pilot(asking.forecast.pilot_run) if asking.forecast else []
    sent = [
        QuotedRow(source=one.source, prompt=quoted_text(str(one.messages[-1]["content"])))
        for one in prompts[:NUM_QUOTED]
    ]
    return plan.model_copy(
        update={
            "pilot": is_pilot,
            "num_source": len(prompts) + num_held,
            "asking": asking,
            "num_test_rows": num_held,
            "duration": duration(parts, "the pilot") if parts else None,
            "quoted": made or sent,
            "warnings": [*plan.warnings, *warnings],
        }
    )


def rows_of_pilot(run_id: str) -> list[QuotedRow]:
    """Return the rows that a pilot's report quotes."""
    report = directory.whole_json(directory.find(run_id) / "report.json")
    return [QuotedRow.model_validate(row) for row in report.get("quoted", [])]


def content_sha256(path: Path) -> str:
    """Return the sha256 of a file; of a folder, of names and hashes of the files of others."""
    if path.is_file():
        return sha256(path)
    found = (each for each in path.rglob("*") if each.is_file() and not each.is_symlink())
    files = sorted(each for each in found if not is_ours(path, each))
    lines = [f"{each.relative_to(path)} {sha256(each)}" for each in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _plan_made(
    request: CreateRequest, plan: CreatePlan, made: Made, test: Path | None
) -> CreatePlan:
    """Add the rows that are made without a teacher: their number, and five of them."""
    rows = made.rows
    held = TestQuestions(test).holding(rows)
    free = [row for row, is_held in zip(rows, held, strict=True) if not is_held]
    kinds = [row.origin.kind for row in free]
    warnings = [*plan.warnings, *made.warnings]
    groups = list(dict.fromkeys(row.group for row, one in zip(rows, held, strict=True) if one))
    if groups:
        listed = ", ".join(map(shown, groups[:MOST_LISTED]))
        warnings.append(warning("test_asked", num=len(groups), test=request.test, listed=listed))
    step = max(1, len(free) // NUM_QUOTED)
    return plan.model_copy(
        update={
            "num_source": made.num_asked if made.log else len({row.group for row in rows}),
            "dropped": dict(made.dropped.most_common()),
            "num_made": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
            "num_test_rows": len(groups),
            "quoted": [quoted(row) for row in free[::step][:NUM_QUOTED]],
            "warnings": warnings,
            "log": made.log,
        }
    )


def quoted(row: MadeRow) -> QuotedRow:
    """Return a made row as a report quotes it, with where it comes from."""
    origin = row.origin.model_dump(mode="json", exclude_defaults=True, include=QUOTED_ORIGIN)
    if signs := origin.get("signs"):
        origin["signs"] = {shown(name): _as_shown(value) for name, value in signs.items()}
    origin["made"] = row.origin.maker
    return QuotedRow(
        source=row.origin.source,
        prompt=quoted_text(row.question),
        answer=quoted_text(row.answer),
        origin=origin,
    )


def _as_shown(value: Any) -> Any:
    """Return a value that a log says: its texts bounded, quoted if they are not plain."""
    if isinstance(value, list):
        return [_as_shown(one) for one in value]
    return shown(value) if isinstance(value, str) else value


def quoted_text(text: str) -> str:
    """Return a text as reports quote it: masked, escaped, cut."""
    return quote(privacy.mask(text), QUOTED_CHARS)[0]


def _warnings(request: CreateRequest) -> list[str]:
    found = [] if request.test else [warning("no_test")]
    if request.test and find_minilm() is None:
        found.append(warning("leaks_by_words"))
    if request.validation_fraction:
        found.append(warning("made_validation"))
    return found
