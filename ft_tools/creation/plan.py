"""What a creation would do: what is asked of whom, what is made at once, and what is refused."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from ft_tools import workspace
from ft_tools.creation.asking import AskingPlan, plan_asking, prompts_of
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.leaks import TestQuestions
from ft_tools.creation.report import QUOTED, LogCounts, QuotedRow
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import MadeRow
from ft_tools.creation.traces.made import traced_rows
from ft_tools.creation.variations import varied_rows
from ft_tools.data.judge import privacy
from ft_tools.facts.teachers import teachers, terms_of
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
TERMS = "teacher_terms"
NEED_NONE = frozenset({"cleared", "same_family"})
"""Providers whose terms somebody read, or who are the user."""


class CreatePlan(Plan):
    """What a creation would do."""

    MACHINE: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("heading", "quoted", "duration"), True),
        "asking": {
            **dict.fromkeys(("num_known", "reused_from", "forecast", "most_usd"), True),
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
    digest = content_sha256(path)
    found, more = (_asked if request.teacher else _made)(request, digest, path, test)
    log: LogCounts | None = found.get("log")
    providers = list(log.terms) if log else []
    if request.teacher:
        providers = [terms_of(request.teacher.model_name)[0]]
    terms = _terms_for(request, providers)
    accepted = TERMS in request.accept_findings
    forbidden = next((one for one in terms if one["use"] == "forbidden" and not accepted), None)
    lacks_condition = log is not None and not request.keep
    if forbidden and (request.teacher or request.confirm):
        raise refusal(TERMS, **forbidden)
    if lacks_condition and request.confirm:
        raise refusal("no_condition")
    unsettled = [
        warning("terms_not_allowed" if one["source"] else "terms_unknown", **one)
        for one in terms
        if one["use"] != "allowed"
    ]
    return CreatePlan(
        kind=request.kind,
        source_sha256=digest,
        test_sha256=sha256(test) if test else None,
        marks_sha256=sha256(workspace.existing(request.marks)) if request.marks else None,
        accepted=request.accept_findings,
        accept_reason=request.accept_reason,
        terms=terms,
        is_open=forbidden is not None or lacks_condition,
        warnings=[*warnings, *unsettled, *more],
        **found,
    )


MADE_AT_ONCE = {"traces": traced_rows, "variations": varied_rows}
"""Kind -> what makes its rows without asking anybody."""


def content_sha256(path: Path) -> str:
    """Return the sha256 of a file; of a folder, of names and hashes of the files of others."""
    if path.is_file():
        return sha256(path)
    found = (each for each in path.rglob("*") if each.is_file() and not each.is_symlink())
    files = sorted(each for each in found if not is_ours(path, each))
    lines = [f"{each.relative_to(path)} {sha256(each)}" for each in files]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _terms_for(request: CreateRequest, providers: Iterable[str]) -> list[dict[str, str]]:
    """Return the terms of those whose models answer, or of whom the request names."""
    if request.provider is not None:
        providers = {request.provider} - NEED_NONE
    rows = {name: teachers()[name] for name in providers}
    return [
        {"provider": name, "use": row.of_use(request.product_use)}
        | row.model_dump(include={"note", "source", "edition", "read"})
        for name, row in rows.items()
    ]


def _asked(
    request: CreateRequest, digest: str, path: Path, test: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Return what would be asked of the teacher, and five prompts or rows of the pilot."""
    prompts, num_held = prompts_of(request, path, test)
    asking, is_pilot, warnings = plan_asking(request, prompts, digest)
    if num_held:
        about = {"num": num_held, "test": request.test, "listed": request.source}
        warnings.append(warning("test_asked", **about))
    rows = [
        QuotedRow(source=one.source, prompt=quoted_text(str(one.messages[-1]["content"])))
        for one in prompts[:NUM_QUOTED]
    ]
    time = None
    if forecast := asking.forecast:
        if not request.batch:
            time = duration([(1.0, (forecast.seconds.low, forecast.seconds.high))], "the pilot")
        report = directory.whole_json(directory.find(forecast.pilot_run) / "report.json")
        rows = [QuotedRow.model_validate(row) for row in report.get("quoted", [])] or rows
    found = {"pilot": is_pilot, "num_source": len(prompts) + num_held, "asking": asking}
    return found | {"num_test_rows": num_held, "duration": time, "quoted": rows}, warnings


def _made(
    request: CreateRequest, digest: str, path: Path, test: Path | None
) -> tuple[dict[str, Any], list[str]]:
    """Return the number of the rows that are made without a teacher, and five of them."""
    made = MADE_AT_ONCE[request.kind](request, path, digest)
    warnings = made.warnings
    held = list(zip(made.rows, TestQuestions(test).holding(made.rows), strict=True))
    free = [row for row, is_held in held if not is_held]
    groups = list(dict.fromkeys(row.group for row, is_held in held if is_held))
    if groups:
        listed = ", ".join(map(shown, groups[:MOST_LISTED]))
        about = {"num": len(groups), "test": request.test, "listed": listed}
        warnings = [*warnings, warning("test_asked", **about)]
    found = {
        "num_source": made.num_asked if made.log else len({row.group for row in made.rows}),
        "dropped": dict(made.dropped.most_common()),
        "num_made": dict(Counter(row.origin.kind for row in free)),
        "num_test_rows": len(groups),
        "quoted": quoted_rows(free),
        "log": made.log,
    }
    return found, warnings


def quoted_rows(rows: Sequence[MadeRow]) -> list[QuotedRow]:
    """Return five of some made rows as reports quote them, with where they come from."""
    return [_quoted(row) for row in rows[:: max(1, len(rows) // NUM_QUOTED)][:NUM_QUOTED]]


def _quoted(row: MadeRow) -> QuotedRow:
    origin = row.origin.model_dump(mode="json", exclude_defaults=True, include=QUOTED_ORIGIN)
    if signs := origin.get("signs"):
        # What a log says is bounded, and quoted where it is not plain.
        texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in signs.items()}
        origin["signs"] = {shown(name): shown(text) for name, text in texts.items()}
    origin["made"] = row.origin.maker
    prompt, answer = quoted_text(row.question), quoted_text(row.answer)
    return QuotedRow(source=row.origin.source, prompt=prompt, answer=answer, origin=origin)


def quoted_text(text: str) -> str:
    """Return a text as reports quote it: masked, escaped, cut."""
    return quote(privacy.mask(text), QUOTED_CHARS)[0]
