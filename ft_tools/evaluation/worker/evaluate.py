"""Compare systems as planned, and write the report."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation import conclude
from ft_tools.evaluation.contamination import answer_grams, find_alike, pools_of
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.metrics import measures
from ft_tools.evaluation.metrics.judge import JudgeUnavailable
from ft_tools.evaluation.metrics.scoring import (
    Scores,
    Settings,
    changed_lines,
    copied_words,
    health,
)
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.recommend_system import CLASSIFIER, Asked
from ft_tools.evaluation.report import Comparison, EvaluationReport
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems import classifier
from ft_tools.evaluation.systems.ranking import (
    Measured,
    best_challenger,
    main_metric,
    rank,
    result_of,
    with_fresh,
)
from ft_tools.evaluation.systems.system import Answered
from ft_tools.evaluation.worker.answering import answer_held_out
from ft_tools.evaluation.worker.compare_general_ability import evaluate_general
from ft_tools.evaluation.worker.score_systems import Compared, compare_systems
from ft_tools.evaluation.worker.state import State, read_outputs
from ft_tools.formats.wordings import has_few_wordings
from ft_tools.publish import sha256, write_file
from ft_tools.runs.processes.worker_session import Session, main

MAX_GRAMS = 2_000_000
ARTIFACTS = {"samples": "samples.jsonl", "model_card": "model_card.md", "classifier": CLASSIFIER}
IF_OUT_OF_MEMORY = (
    "close other programs, then resume_run: outputs so far are kept; if it happens again, evaluate "
    "with a smaller batch_size or max_new_tokens, or with device='cpu'"
)


def work(session: Session) -> BaseModel:
    """Evaluate as planned.

    Raises:
        JudgeUnavailable: The judge failed; the page with all the rest is written, the outputs and
            its verdicts are kept, and a resumed run asks only for what is missing.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    request = session.request(EvaluateRequest)
    plan = session.plan(EvaluatePlan)
    session.update(if_out_of_memory=IF_OUT_OF_MEMORY)
    if plan.has_models:
        # Seconds of imports, which endpoints and simple baselines do without.
        from ft_tools.evaluation.worker.transformers_generation import load_pair, prepare

        prepare(plan.seed, session.info.created_at)
    examples = read_planned(request, plan)
    saved = read_outputs(session.run_dir / "outputs.jsonl")
    state = State(session, request, plan, examples, saved, notes=list(plan.warnings))
    if plan.tuned is not None and plan.baseline is not None:
        session.phase("loading the models")
        state.pair = load_pair(plan.tuned, plan.baseline, plan.loading)
    has_general = request.general_ability and state.pair is not None
    general = evaluate_general(state) if has_general else []
    answers = answer_held_out(state) if examples else {}
    compared = compare_systems(state, answers) if examples else Compared([], {}, {})
    benchmarks = run_benchmarks(state) if plan.lm_eval_tasks else []
    session.phase("writing the report")
    report = write_report(state, answers, compared, general, benchmarks)
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
    from ft_tools.evaluation.worker.run_lm_eval import compare_benchmarks

    settings = Settings(state.request.seed, state.request.smallest_effect_fraction)
    rows = compare_benchmarks(state, settings)
    state.check_stop()
    return rows


def write_report(
    state: State,
    answers: dict[str, list[Answered]],
    compared: Compared,
    general: list[Comparison],
    benchmarks: list[Comparison],
) -> EvaluationReport:
    """Write samples.jsonl, model_card.md and report.html, and return the report."""
    plan, run_dir = state.plan, state.session.run_dir
    labels = sorted({measures.label(reference) for reference in state.references})
    has_classes = "classification" in plan.metrics
    report = _measured(state, answers, compared).model_copy(
        update={"general_ability": general, "benchmarks": benchmarks}
    )
    if has_classes:
        known = Counter(measures.label(reference) for reference in state.references)
        most = known.most_common(1)[0][1] / len(state.references)
        counts = {name: _numbered(said, state.references, labels) for name, said in answers.items()}
        report = report.model_copy(
            update={"confusion": counts, "majority_fraction": round(most, 4)}
        )
    effect = state.request.smallest_effect_fraction
    report = conclude.concluded(report, plan.size_warning, effect, _asked(state))
    samples = _samples(state, answers, compared.scores, report)
    lines = [json.dumps(asdict(sample)) for sample in samples]
    if lines:
        write_file(run_dir / "samples.jsonl", "\n".join(lines) + "\n")
    fields = {
        name: measures.field_scores([answer.text for answer in said], state.references)
        for name, said in answers.items()
    }
    if not report.compares_systems:
        write_file(run_dir / "model_card.md", conclude.model_card(report))
    page = document(report, samples, labels if has_classes else (), fields)
    write_file(run_dir / "report.html", page)
    if any(one.kind == "tf_idf" for one in report.systems):
        write_file(run_dir / CLASSIFIER, Path(classifier.__file__).read_text(encoding="utf-8"))
    for kind, name in ARTIFACTS.items():
        if (run_dir / name).is_file():
            state.session.artifact(kind, run_dir / name)
    if not report.compares_systems:
        for row in compared.comparisons:
            state.session.metrics({f"{row.metric}_difference": row.difference})
    return conclude.without_details(report)


def _asked(state: State) -> Asked:
    """Return what the next steps repeat of this evaluation."""
    given = state.request.model_dump(
        mode="json", exclude_defaults=True, exclude={"systems", "confirm", "name", "request_id"}
    )
    if state.request.systems:
        given["systems"] = [state.session.run_dir.name]
    overlap = state.plan.contamination
    learned = [*overlap.checked_against, *overlap.learned_from] if overlap else []
    columns = classifier.columns_of(state.references)
    return Asked(
        run_id=state.session.run_dir.name,
        arguments=given,
        learned_from=learned[0] if learned else "",
        has_classes=bool(columns) and all(map(classifier.has_classes, columns.values())),
        has_few_wordings=has_few_wordings([example.asked for example in state.examples]),
    )


def _measured(
    state: State, answers: dict[str, list[Answered]], compared: Compared
) -> EvaluationReport:
    """Return the report with everything that was measured of the systems."""
    plan, references = state.plan, state.references
    overlap = plan.contamination
    named = [Path(path) for path in overlap.checked_against] if overlap else []
    files = [path for path in named if path.is_file()]
    known = answer_grams(files, copied_words(), MAX_GRAMS)
    specs = {spec.name: spec for spec in state.request.all_systems()}
    kept = [one for one in plan.systems if one.name in answers]
    systems = [
        Measured(specs[one.name], one, answers[one.name], scores, compared.whole_set[one.name])
        for one in kept
        if (scores := compared.scores[one.name])
    ]
    if plan.alone:
        systems = systems[1:]
    results = [result_of(one, references, plan.target, state.settings) for one in systems]
    metric = main_metric(list(systems[0].scores), plan.target) if systems else None
    ranking = []
    num_fresh = None
    if metric is not None:
        values = {one.spec.name: one.scores[metric] for one in systems}
        if (fresh := _fresh(state, files)) is not None:
            num_fresh = len(fresh)
            results = with_fresh(results, metric, values, fresh, state.settings)
        ranking = rank(results, metric, values, state.settings, has_target=bool(plan.target))
    names = list(answers)
    return EvaluationReport(
        tuned=plan.tuned.name if plan.tuned else ", ".join(names[1:]),
        baseline=plan.baseline.name if plan.baseline else names[0],
        alone=plan.alone,
        compares_systems=bool(state.request.systems),
        summary=[],
        target=plan.target,
        main_metric=metric or "",
        systems=results,
        field_names=measures.field_names(references) if results else [],
        ranking=ranking,
        comparisons=compared.comparisons,
        outputs={name: health(answers[name], references, known) for name in answers},
        samples=changed_lines(compared.scores, names, metric, state.examples),
        contamination=overlap,
        num_fresh=num_fresh,
        accepted=plan.accepted,
        notes=state.notes,
        report_html=str(state.session.run_dir / "report.html"),
        samples_jsonl=str(state.session.run_dir / "samples.jsonl") if answers else "",
    )


def _fresh(state: State, files: Sequence[Path]) -> list[int] | None:
    """Return the places of the questions that resemble no learned one; None if no question does."""
    pools = pools_of(state.request.all_systems(), state.held_out_path, state.examples)
    others = [pool for path, pool in pools.items() if path not in files]
    seen = find_alike(state.examples, files, others).lines
    fresh = [i for i, example in enumerate(state.examples) if example.line not in seen]
    return fresh if seen else None


def _samples(
    state: State,
    answers: dict[str, list[Answered]],
    scores: dict[str, Scores],
    report: EvaluationReport,
) -> list[Sample]:
    """Return every example with all answers; the change is of the best system by the reference."""
    if not answers:
        return []
    names = list(answers)[1:] if report.alone else list(answers)
    shown = best_challenger(report) or names[-1]
    metric = report.main_metric
    sign = -1.0 if metric and not measures.METRICS[metric].higher_is_better else 1.0
    before, after = scores[names[0]].get(metric), scores[shown].get(metric)
    return [
        Sample(
            line=example.line,
            prompt=example.asked,
            reference=example.reference,
            answers={name: answers[name][i].text for name in names},
            change=sign * (after[i] - before[i]) if before and after else 0.0,
            signs=_signs(answers[shown][i]),
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
