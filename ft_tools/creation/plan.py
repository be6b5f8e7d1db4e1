"""What a creation would do: what is asked of whom, what is made at once, and what is refused."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ft_tools import workspace
from ft_tools.creation.asking import AskingPlan, plan_asking
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.leaks import TestQuestions
from ft_tools.creation.prompts import ASKINGS
from ft_tools.creation.report import QUOTED, LogCounts, QuotedRow
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import NUM_QUOTED, quoted_rows, quoted_text
from ft_tools.creation.traces.made import traced_rows
from ft_tools.creation.variations import varied_rows
from ft_tools.evaluation.systems.models import find_model, model_files
from ft_tools.evaluation.systems.plan import files_of
from ft_tools.facts.teachers import teachers, terms_of
from ft_tools.formats.column_counts import shown
from ft_tools.formats.readers.source import is_ours
from ft_tools.metrics.checks.scorer import file_hashes
from ft_tools.publish import sha256
from ft_tools.runs.estimates import Duration, duration
from ft_tools.runs.launch import Plan
from ft_tools.runs.state import directory
from ft_tools.similarity.minilm import find_minilm

MOST_LISTED = 10
TERMS = "teacher_terms"
NEED_NONE = frozenset({"cleared", "same_family"})
"""Providers whose terms somebody read, or who are the user."""
MADE_AT_ONCE = {"traces": traced_rows, "variations": varied_rows}
"""Kind -> what makes its rows without asking anybody."""


class CreatePlan(Plan):
    """What a creation would do."""

    CONCISE = (
        *("is_open", "asking", "num_source", "num_made", "dropped", "num_test_rows", "log"),
        *("terms", "duration", "accepted"),
    )
    MACHINE: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("heading", "quoted", "duration"), True),
        "asking": {
            **dict.fromkeys(("num_known", "reused_from", "forecast", "most_usd"), True),
            "judge_fraction": True,
            "price": {"source"},
        },
    }

    kind: str
    pilot: bool = Field(False, description="A few prompts, to know yield and price of the rest.")
    files_sha256: dict[str, str] = Field(description="All that are read -> hash.")
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
    terms: list[dict[str, str]] = Field(
        default_factory=list,
        description="What is known of the terms of the models' providers; not legal advice.",
    )
    is_open: bool = Field(
        False, description="What logs are chosen by, or what terms forbid, has to be decided first."
    )
    heading: str = QUOTED
    quoted: list[QuotedRow] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    @property
    def summary(self) -> str:
        """Return what would be made of how much."""
        what = "A pilot of" if self.pilot else "Makes"
        made = f" {sum(self.num_made.values()):,} rows," if self.num_made else ""
        return f"{what} {self.kind}:{made} from {self.num_source:,} in the source. Nothing started."


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
    warnings = [] if test else [warning("no_test")]
    if test and find_minilm() is None:
        warnings.append(warning("leaks_by_words"))
    if request.validation_fraction:
        warnings.append(warning("made_validation"))
    files = hashes_of(request)
    found = (_asked if request.teacher else _made)(request, files, path, test)
    log: LogCounts | None = found.get("log")
    providers = log.terms if log else {}
    if request.teacher:
        providers = {terms_of(request.teacher.model_name)[0]: ""}
    if request.provider is not None:
        providers = dict.fromkeys({request.provider} - NEED_NONE, "")
    terms = [_terms_of(name, request.product_use) for name in providers]
    accepted = TERMS in request.accept_findings
    forbidden = next((one for one in terms if one["use"] == "forbidden" and not accepted), None)
    lacks_condition = log is not None and not request.keep
    if forbidden and (request.teacher or request.confirm):
        raise refusal(TERMS, **forbidden)
    if lacks_condition and request.confirm:
        raise refusal("no_condition")
    for one in terms:
        if one["use"] != "allowed":
            row_id = "terms_not_allowed" if one["source"] else "terms_unknown"
            warnings.append(warning(row_id, **one))
    return CreatePlan(
        kind=request.kind,
        files_sha256=files,
        accepted=request.accept_findings,
        accept_reason=request.accept_reason,
        terms=terms,
        is_open=forbidden is not None or lacks_condition,
        warnings=[*warnings, *found.pop("warnings")],
        **found,
    )


def hashes_of(request: CreateRequest) -> dict[str, str]:
    """Return path -> SHA-256 of all files that a creation reads; of a folder, of its files."""
    named = filter(None, (request.source, request.test, request.marks, request.marked))
    files = {name: _content_sha256(workspace.existing(name)) for name in named}
    files |= files_of(request.teacher) if request.teacher else {}
    return files | file_hashes(request.checks)


def _content_sha256(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    found = (each for each in path.rglob("*") if each.is_file() and not each.is_symlink())
    files = sorted(each for each in found if not is_ours(path, each))
    lines = [f"{each.relative_to(path)} {sha256(each)}" for each in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _terms_of(provider: str, use: str | None) -> dict[str, str]:
    row = teachers()[provider]
    known = row.model_dump(include={"note", "source", "edition", "read"})
    return {"provider": provider, "use": row.of_use(use), **known}


def _asked(
    request: CreateRequest, files: Mapping[str, str], path: Path, test: Path | None
) -> dict[str, Any]:
    """Return what would be asked of the teacher, and five prompts or rows of the pilot."""
    teacher = request.teacher
    assert teacher is not None
    model = model_files(find_model(teacher.model)) if teacher.model else None
    asking = ASKINGS[request.kind](request, teacher, model)
    prompts, num_held = asking.drawn(path, test)
    plan, is_pilot, warnings = plan_asking(asking, prompts, files)
    if num_held:
        about = {"num": num_held, "test": request.test, "listed": request.source}
        warnings.append(warning("test_asked", **about))
    found = {"num_source": len(prompts) + num_held, "num_test_rows": num_held, "asking": plan}
    quoted: list[Any] = [
        QuotedRow(source=one.source, prompt=quoted_text(one.subject))
        for one in prompts[:NUM_QUOTED]
    ]
    if forecast := plan.forecast:
        report = directory.whole_json(directory.find(forecast.pilot_run) / "report.json")
        quoted = report.get("quoted") or quoted
        if not request.batch:
            seconds = (forecast.seconds.low, forecast.seconds.high)
            found["duration"] = duration([(1.0, seconds)], "the pilot")
    return found | {"pilot": is_pilot, "quoted": quoted, "warnings": warnings}


def _made(
    request: CreateRequest, files: Mapping[str, str], path: Path, test: Path | None
) -> dict[str, Any]:
    """Return the number of the rows that are made without a teacher, and five of them."""
    made = MADE_AT_ONCE[request.kind](request, path, files[request.source])
    warnings, dropped, rows = made.warnings, made.dropped, made.kept
    TestQuestions(test).drop_from(rows)
    groups = dict.fromkeys(row.group for row in rows if row.reason)
    if groups:
        listed = ", ".join(map(shown, [*groups][:MOST_LISTED]))
        about = {"num": len(groups), "test": request.test, "listed": listed}
        warnings = [*warnings, warning("test_asked", **about)]
    return {
        "num_source": len(made.rows if made.log else {row.group for row in rows}),
        "dropped": dropped,
        "num_made": dict(Counter(row.origin.kind for row in made.kept)),
        "num_test_rows": len(groups),
        "quoted": quoted_rows(made.kept),
        "log": made.log,
        "warnings": warnings,
    }
