"""Write made rows through the audit: training and validation files, origins, findings, page."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.findings import refusal, sentence
from ft_tools.creation.page import creation_page
from ft_tools.creation.plan import CreatePlan, quoted_rows
from ft_tools.creation.report import CreatedFiles, CreateReport
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import GROUP, Made
from ft_tools.data.audit import perform
from ft_tools.data.judge.next_steps import launch_on
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.pipeline import Methods
from ft_tools.data.report import AuditReport
from ft_tools.data.request import AuditRequest
from ft_tools.formats.origin import FILE as ORIGINS
from ft_tools.next_steps import next_step
from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session

MADE, DROPPED, MARK = "made.jsonl", "dropped.jsonl", "creation.json"
"""In the run: the rows as the audit reads them, and what was dropped. In the folder: its run."""


def finish(session: Session, request: CreateRequest, plan: CreatePlan, made: Made) -> CreateReport:
    """Audit the rows, write the files, and report; a pilot only reports.

    Raises:
        Refused: No row is left.
    """
    if plan.pilot:
        whole = request.model_dump(
            mode="json", exclude_defaults=True, exclude={"confirm", "request_id"}
        )
        said = sentence("pilot", kept=len(made.rows), asked=made.num_asked)
        results = {"summary": [said], "next_steps": [next_step("create_whole", whole)]}
    else:
        results = _published(session, request, made)
    report = CreateReport(
        kind=request.kind,
        pilot=plan.pilot,
        num_asked=made.num_asked,
        num_kept=len(made.rows),
        dropped=dict(made.dropped.most_common()),
        log=made.log,
        makers=dict(Counter(row.origin.maker for row in made.rows).most_common()),
        usd=made.usd,
        num_calls=made.num_calls,
        quoted=quoted_rows(made.rows),
        warnings=[*plan.warnings, *made.warnings],
        **results,
    )
    html = creation_page(report, made.rows, session.run_dir / DROPPED)
    write_file(session.run_dir / "report.html", html)
    return report


def _published(session: Session, request: CreateRequest, made: Made) -> dict[str, Any]:
    """Publish the files, and return what the report says of them."""
    if not made.rows:
        listed = ", ".join(f"{count} {why}" for why, count in made.dropped.most_common())
        kept_in = str(session.run_dir / DROPPED)
        raise refusal("nothing_made", total=made.num_asked, counts=listed, kept_in=kept_in)
    session.phase("auditing")
    audit = _audited(session, request, made)
    assert audit.outputs is not None
    folder = Path(audit.outputs.folder)
    session.artifact("dataset", folder)
    outputs = CreatedFiles(**audit.outputs.model_dump(), origin=str(folder / ORIGINS))
    numbers = {"kept": len(made.rows), "asked": made.num_asked}
    numbers |= {"train": outputs.num_train, "validation": outputs.num_validation}
    validation = outputs.validation if outputs.num_validation else None
    steps = [
        next_step("read_made", {"path": outputs.train, "lines": ["1-10"]}),
        launch_on(outputs.train, validation, "sft", None),
    ]
    if request.test:
        steps.append(next_step("measure_made", {"dataset": request.test}))
    return {
        "summary": [sentence("made", **numbers)],
        "findings": audit.findings,
        "outputs": outputs,
        "next_steps": steps,
    }


def _audited(session: Session, request: CreateRequest, made: Made) -> AuditReport:
    """Return the audit of the rows, whose files are published; of an earlier attempt, as it was."""
    folder = workspace.resolve(request.output_dir or "")
    mark = {"run_id": session.run_dir.name}
    if (folder / MARK).is_file() and json.loads((folder / MARK).read_bytes()) == mark:
        return AuditReport.model_validate_json((folder / "report.json").read_bytes())
    path = session.run_dir / MADE
    lines = [json.dumps({**row.row, GROUP: row.group}, ensure_ascii=False) for row in made.rows]
    write_file(path, "\n".join(lines) + "\n")

    def write_origins(staging: Path) -> None:
        origins = {row.key: row.origin for row in made.rows}
        text = "".join(
            json.dumps({"row": key} | one.model_dump(mode="json", exclude_defaults=True)) + "\n"
            for key, one in origins.items()
        )
        write_file(staging / ORIGINS, text)
        write_file(staging / MARK, json.dumps(mark))

    # Logs hold an answer each time that something was asked.
    several = request.keep_per_prompt > 1 or request.kind == "traces"
    audited = AuditRequest(
        path=str(path),
        mapping=ColumnMapping(group_by=[GROUP], ignore=["*"]),
        # Copies of one row are alike by design, and stay in one part.
        near_duplicates="off" if request.variations else "lexical",
        contradictions="keep" if several else "drop",
        personal_data="keep",
        validation_fraction=request.validation_fraction,
        max_removed_fraction=1,
        seed=request.seed,
        output_dir=request.output_dir,
    )
    return perform(audited, Methods(write_beside=write_origins))
