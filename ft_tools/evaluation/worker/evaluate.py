"""Compare two models as planned, and write the report."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel
from transformers.utils import logging as transformers_logging

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation import conclude
from ft_tools.evaluation.contamination import answer_grams
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.metrics import measures
from ft_tools.evaluation.metrics.judge import JudgeUnavailable
from ft_tools.evaluation.metrics.scoring import (
    Answered,
    Scores,
    Settings,
    changed_lines,
    copied_words,
    health,
)
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.report import Comparison, EvaluationReport
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker.generation import load_pair
from ft_tools.evaluation.worker.measuring import (
    compare_held_out,
    evaluate_general,
    generate_held_out,
)
from ft_tools.evaluation.worker.state import SIDES, State, read_outputs
from ft_tools.examples.worker import today
from ft_tools.publish import sha256, write_file
from ft_tools.runs.session import Session, main

MAX_GRAMS = 2_000_000


def work(session: Session) -> BaseModel:
    """Evaluate as planned.

    Raises:
        JudgeUnavailable: The judge failed; the page with all the rest is written, the outputs and
            its verdicts are kept, and a resumed run asks only for what is missing.
    """
    transformers_logging.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)
    request = EvaluateRequest.model_validate_json(session.request_json())
    plan = EvaluatePlan.model_validate_json(session.plan_json())
    torch.manual_seed(plan.seed)
    today.hold(session.info.created_at)
    examples = read_planned(request, plan)
    session.phase("loading the models")
    dtype = torch.bfloat16 if torch.cuda.is_available() else torch.float32
    pair = load_pair(plan.tuned, plan.baseline, dtype)
    saved = read_outputs(session.run_dir / "outputs.jsonl")
    state = State(session, request, plan, pair, examples, saved, list(plan.warnings))
    general = evaluate_general(state) if request.general_ability else []
    answers = {side: generate_held_out(state, side) for side in SIDES} if examples else {}
    comparisons, scores = compare_held_out(state, answers) if examples else ([], ({}, {}))
    benchmarks = run_benchmarks(state) if plan.lm_eval_tasks else []
    session.phase("writing the report")
    report = write_report(state, answers, scores, comparisons, general, benchmarks)
    if state.unfinished:
        raise JudgeUnavailable(
            f"{state.unfinished}. Everything else is measured and in {report.report_html}; "
            "resume_run asks the judge for the rest, and generates nothing again"
        )
    return report


def read_planned(request: EvaluateRequest, plan: EvaluatePlan) -> list[HeldOut]:
    """Read the held-out file that was planned.

    Raises:
        PlanChanged: It is another file now, or the JSON Schema is.
    """
    schema = request.json_schema
    if schema and sha256(workspace.existing(schema)) != plan.json_schema_sha256:
        raise PlanChanged(f"{schema} changed since the plan was confirmed; call evaluate again")
    if plan.dataset is None:
        return []
    path = Path(plan.dataset)
    if sha256(path) != plan.dataset_sha256:
        raise PlanChanged(f"{path} changed since the plan was confirmed; call evaluate again")
    return read_held_out(
        path, cluster_field=request.cluster_field, max_examples=request.max_examples
    )


def run_benchmarks(state: State) -> list[Comparison]:
    """Run lm-evaluation-harness tasks on both models."""
    state.session.phase("running benchmarks")
    # The harness takes seconds to import and is needed only here.
    from ft_tools.evaluation.worker.lm_eval_tasks import compare_benchmarks

    settings = Settings(state.request.seed, state.request.smallest_effect_fraction)
    rows = compare_benchmarks(state.plan, state.request, state.pair, settings)
    state.check_stop()
    return rows


def write_report(
    state: State,
    answers: dict[str, list[Answered]],
    scores: tuple[Scores, Scores],
    comparisons: list[Comparison],
    general: list[Comparison],
    benchmarks: list[Comparison],
) -> EvaluationReport:
    """Write samples.jsonl, model_card.md and report.html, and return the report."""
    references = [example.reference for example in state.examples]
    overlap = state.plan.contamination
    files = [Path(path) for path in overlap.checked_against] if overlap else []
    known = answer_grams([f for f in files if f.is_file()], copied_words(), MAX_GRAMS)
    labels = sorted({measures.label(reference) for reference in references})
    confusion = {}
    if "classification" in state.plan.metrics:
        confusion = {side: _numbered(answers[side], references, labels) for side in SIDES}
    run_dir = state.session.run_dir
    report = EvaluationReport(
        tuned=state.plan.tuned.name,
        baseline=state.plan.baseline.name,
        alone=state.plan.alone,
        summary=[],
        comparisons=comparisons,
        general_ability=general,
        benchmarks=benchmarks,
        outputs={side: health(answers[side], references, known) for side in answers},
        confusion=confusion,
        samples=changed_lines(*scores, state.examples),
        contamination=overlap,
        notes=state.notes,
        report_html=str(run_dir / "report.html"),
        samples_jsonl=str(run_dir / "samples.jsonl") if answers else "",
    )
    effect = state.request.smallest_effect_fraction
    report = report.model_copy(
        update={
            "notes": conclude.notes(report, state.plan.size_warning),
            "summary": conclude.summarise(report),
            "reasons": conclude.reasons(report, effect),
            "next_steps": conclude.next_steps(report, effect),
        }
    )
    samples = _samples(state, answers, scores)
    lines = [json.dumps(sample.__dict__) for sample in samples]
    if lines:
        write_file(run_dir / "samples.jsonl", "\n".join(lines) + "\n")
    write_file(run_dir / "model_card.md", conclude.model_card(report))
    write_file(run_dir / "report.html", document(report, samples, labels if confusion else ()))
    for kind, name in (("samples", "samples.jsonl"), ("model_card", "model_card.md")):
        if (run_dir / name).is_file():
            state.session.artifact(kind, run_dir / name)
    for row in comparisons:
        state.session.metrics({f"{row.metric}_difference": row.difference})
    return report


def _samples(
    state: State, answers: dict[str, list[Answered]], scores: tuple[Scores, Scores]
) -> list[Sample]:
    if not answers:
        return []
    before, after = scores
    name = next((name for name in before if name in after), None)
    sign = 1.0 if name is None or measures.METRICS[name].higher_is_better else -1.0
    return [
        Sample(
            line=example.line,
            prompt=example.asked,
            reference=example.reference,
            baseline=answers["baseline"][i].text,
            tuned=answers["tuned"][i].text,
            change=sign * (after[name][i] - before[name][i]) if name else 0.0,
            signs=_signs(answers["tuned"][i]),
        )
        for i, example in enumerate(state.examples)
    ]


def _signs(answer: Answered) -> tuple[str, ...]:
    signs = {
        "cut off": not answer.finished,
        "empty": measures.is_empty(answer.text),
        "in a loop": measures.is_repetitive(answer.text),
    }
    return tuple(name for name, is_so in signs.items() if is_so)


def _numbered(
    answers: Sequence[Answered], references: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return the confusion counts under class numbers: class names are text of the data."""
    number = {one: str(i) for i, one in enumerate(labels)} | {"(other)": "(other)"}
    counts = measures.confusion([answer.text for answer in answers], references)
    return {
        number[one]: {number[column]: count for column, count in row.items()}
        for one, row in counts.items()
    }


if __name__ == "__main__":
    main(work)
