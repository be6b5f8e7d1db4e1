"""Compare systems as planned, and write the report."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import BaseModel

from ft_tools import workspace
from ft_tools.errors import PlanChanged
from ft_tools.evaluation import conclude
from ft_tools.evaluation.conclude import CLASSIFIER, Call
from ft_tools.evaluation.contamination import learned_lines, pools_of
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.report import Comparison, EvaluationReport, SystemResult
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import (
    MeasuredSystem,
    MetricComparison,
    Scores,
    Settings,
    compare_scores,
    main_metric,
    output_health,
    rank,
    score_of,
    system_result,
    with_fresh,
)
from ft_tools.evaluation.systems import classifier
from ft_tools.evaluation.systems.system import Answer
from ft_tools.evaluation.worker.answering import answer_held_out
from ft_tools.evaluation.worker.judging import JudgeUnavailable, judge_answers
from ft_tools.evaluation.worker.likelihoods import general_scores, reference_likelihoods
from ft_tools.evaluation.worker.state import State
from ft_tools.metrics.answers import OTHER, confusion, field_names, field_scores
from ft_tools.metrics.compare import compare_whole_set
from ft_tools.metrics.table import METRICS, Metric, asked_for, metric, score_outputs
from ft_tools.metrics.text import label
from ft_tools.publish import sha256, write_file
from ft_tools.runs.processes.worker_session import Session, main

ARTIFACTS = {"samples": "samples.jsonl", "classifier": CLASSIFIER}
IF_OUT_OF_MEMORY = (
    "close other programs, then resume_run: outputs so far are kept; if it happens again, evaluate "
    "with a smaller batch_size or max_new_tokens, or with device='cpu'"
)

Answers = dict[str, list[Answer]]


@dataclass
class Numbers:
    """Everything that was measured."""

    answers: Answers = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    """System -> metric -> a value for each example."""
    whole_set: dict[str, dict[str, float]] = field(default_factory=dict)
    """System -> measures of the whole set, such as macro F1."""
    comparisons: list[Comparison] = field(default_factory=list)
    general: list[Comparison] = field(default_factory=list)
    benchmarks: list[Comparison] = field(default_factory=list)
    alone: list[SystemResult] = field(default_factory=list)
    """Of a model without anything to compare with: what was measured beside its answers."""


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
    state = State(session, request, plan, read_planned(request, plan), notes=list(plan.warnings))
    if plan.has_models:
        # Seconds of imports, which endpoints and simple baselines do without.
        from ft_tools.evaluation.worker.loaded_models import LoadedModels, prepare

        prepare(plan.seed, session.info.created_at)
        files = [one.model for one in plan.systems if one.model] or list(plan.weights.values())
        state.models = LoadedModels(plan.loading, files)
    numbers = measure(state)
    if state.models is not None:
        state.models.close()
    session.phase("writing the report")
    report = write_report(state, numbers)
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


def measure(state: State) -> Numbers:
    """Measure general ability, answers and benchmarks, as planned."""
    numbers, plain = Numbers(), Settings(state.request.seed, state.settings.smallest_effect)
    beside: dict[str, Scores] = {name: {} for name in state.plan.weights}
    rows: dict[str, Metric] = dict(METRICS)
    if state.plan.num_general_prompts:
        found = general_scores(state)
        numbers.general = compare_scores(found, plain)
        _add(beside, found)
    if state.examples:
        _measure_answers(state, numbers)
    if state.plan.lm_eval_tasks:
        # The harness takes seconds to import and is needed only here.
        from ft_tools.evaluation.worker.lm_eval_tasks import run_benchmarks

        benchmarks = run_benchmarks(state)
        numbers.benchmarks = compare_scores(benchmarks.scores, plain, benchmarks.rows)
        _add(beside, benchmarks.scores)
        rows |= benchmarks.rows
    if len(beside) == 1:
        [(name, scores)] = beside.items()
        values = {key: score_of(rows[key], found, plain) for key, found in scores.items()}
        model = state.plan.weights[name].name
        numbers.alone = [SystemResult(name=name, kind="model", model=model, scores=values)]
    return numbers


def _add(scores: dict[str, Scores], more: Mapping[str, Scores]) -> None:
    for name, found in more.items():
        scores[name] |= found


def _measure_answers(state: State, numbers: Numbers) -> None:
    """Let all systems answer, score them, and compare each with the reference."""
    chosen, scoring = list(state.plan.metrics), state.scoring
    answers = numbers.answers = answer_held_out(state)
    texts = {name: [one.text for one in found] for name, found in answers.items()}
    numbers.scores = {name: score_outputs(chosen, t, scoring) for name, t in texts.items()}
    wanted = [row for request in chosen for row in asked_for(request)]
    if any(row.source == "likelihood" for row in wanted):
        _add(numbers.scores, reference_likelihoods(state))
    reference, *others = answers
    found: dict[tuple[str, str], MetricComparison] = {}
    numbers.whole_set = {name: {} for name in answers}
    for row in wanted:
        if row.score_set is None:
            continue
        values = {name: row.score_set(texts[name], state.references) for name in answers}
        for name, value in values.items():
            numbers.whole_set[name][row.name] = value
        for name in others:
            paired = compare_whole_set(
                texts[reference],
                texts[name],
                state.references,
                row.score_set,
                clusters=state.settings.clusters,
                seed=state.settings.seed,
            )
            found[name, row.name] = MetricComparison(paired, values[reference], values[name])
    if "judge" in chosen and others:
        judged = judge_answers(state, answers)
        found |= {("tuned", "judge"): judged} if judged is not None else {}
    numbers.comparisons = compare_scores(numbers.scores, state.settings, others=found)


def write_report(state: State, numbers: Numbers) -> EvaluationReport:
    """Write samples.jsonl and report.html, and return the report."""
    plan, run_dir = state.plan, state.session.run_dir
    report, values = _report(state, numbers)
    effect = state.request.smallest_effect_fraction
    report = conclude.concluded(report, plan.size_warning, effect, _call(state))
    samples = _samples(state, numbers.answers, values, report)
    lines = [json.dumps(asdict(sample)) for sample in samples]
    if lines:
        write_file(run_dir / "samples.jsonl", "\n".join(lines) + "\n")
    fields = {
        name: field_scores([answer.text for answer in found], state.references)
        for name, found in numbers.answers.items()
    }
    labels = _labels(state) if report.confusion else []
    write_file(run_dir / "report.html", document(report, samples, labels, fields))
    if any(one.kind == "tf_idf" for one in report.systems):
        write_file(run_dir / CLASSIFIER, Path(classifier.__file__).read_text(encoding="utf-8"))
    for kind, name in ARTIFACTS.items():
        if (run_dir / name).is_file():
            state.session.artifact(kind, run_dir / name)
    if not report.compares_systems:
        for row in numbers.comparisons:
            state.session.metrics({f"{row.metric}_difference": row.difference})
    return conclude.without_details(report)


def _call(state: State) -> Call:
    """Return what the next steps repeat of this evaluation."""
    given = state.request.model_dump(
        mode="json", exclude_defaults=True, exclude={"systems", "confirm", "name", "request_id"}
    )
    if state.request.systems:
        given["systems"] = [state.session.run_dir.name]
    overlap = state.plan.contamination
    learned = [*overlap.checked_against, *overlap.learned_from] if overlap else []
    columns = classifier.columns_of(state.references)
    return Call(
        run_id=state.session.run_dir.name,
        arguments=given,
        learned_from=learned[0] if learned else "",
        has_classes=bool(columns) and all(map(classifier.has_classes, columns.values())),
    )


def _report(state: State, numbers: Numbers) -> tuple[EvaluationReport, dict[str, Sequence[float]]]:
    """Return the report without conclusions, and the main metric of each system and example."""
    plan, references, answers = state.plan, state.references, numbers.answers
    specs = {spec.name: spec for spec in state.request.all_systems()}
    systems = [
        MeasuredSystem(
            specs[one.name],
            one,
            answers[one.name],
            numbers.scores[one.name],
            numbers.whole_set[one.name],
        )
        for one in plan.systems
    ]
    results = [system_result(one, references, plan.target, state.settings) for one in systems]
    results = _with_scores(results, numbers.alone)
    name = main_metric(list(systems[0].scores), plan.target) if systems else None
    values: dict[str, Sequence[float]] = {}
    ranking, num_fresh = [], None
    if name is not None:
        values = {one.spec.name: one.scores[name] for one in systems}
        if (fresh := _fresh(state)) is not None:
            num_fresh = len(fresh)
            bound = plan.target.get(name)
            results = with_fresh(results, name, values, fresh, state.settings, bound)
        ranking = rank(results, name, values, state.settings, has_target=bool(plan.target))
    names = [one.name for one in plan.systems]
    tuned, baseline = plan.weights.get("tuned"), plan.weights.get("baseline")
    report = EvaluationReport(
        tuned=tuned.name if tuned else ", ".join(names[1:] or names),
        baseline=baseline.name if baseline else tuned.name if tuned else names[0],
        alone=plan.alone,
        compares_systems=bool(state.request.systems) and not plan.alone,
        summary=[],
        num_examples=len(state.examples),
        target=plan.target,
        main_metric=name or "",
        systems=results,
        field_names=field_names(references) if systems else [],
        ranking=ranking,
        comparisons=numbers.comparisons,
        general_ability=numbers.general,
        benchmarks=numbers.benchmarks,
        outputs={one: output_health(found, references) for one, found in answers.items()},
        contamination=plan.contamination,
        num_fresh=num_fresh,
        accepted=plan.accepted,
        notes=state.notes,
        report_html=str(state.session.run_dir / "report.html"),
        samples_jsonl=str(state.session.run_dir / "samples.jsonl") if answers else "",
    )
    return report.model_copy(update=_classes(state, answers)), values


def _with_scores(results: list[SystemResult], alone: list[SystemResult]) -> list[SystemResult]:
    """Return the results with what was measured of a single model beside its answers."""
    if not results or not alone:
        return results or alone
    return [results[0].model_copy(update={"scores": results[0].scores | alone[0].scores})]


def _classes(state: State, answers: Answers) -> dict[str, object]:
    """Return the confusion counts under class numbers: class names are text of the data."""
    if "classification" not in state.plan.metrics:
        return {}
    known = Counter(label(reference) for reference in state.references)
    most = known.most_common(1)[0][1] / len(state.references)
    number = {one: str(i) for i, one in enumerate(_labels(state))} | {OTHER: OTHER}
    counts = {
        name: {
            number[one]: {number[column]: count for column, count in row.items()}
            for one, row in confusion([a.text for a in found], state.references).items()
        }
        for name, found in answers.items()
    }
    return {"confusion": counts, "majority_fraction": round(most, 4)}


def _labels(state: State) -> list[str]:
    return sorted({label(reference) for reference in state.references})


def _fresh(state: State) -> list[int] | None:
    """Return the places of the questions that resemble no learned one; None if no question does."""
    overlap = state.plan.contamination
    named = [Path(path) for path in overlap.checked_against] if overlap else []
    files = [path for path in named if path.is_file()]
    pools = pools_of(state.request.all_systems(), state.held_out_path, state.examples)
    others = [pool for path, pool in pools.items() if path not in files]
    exact, near = learned_lines(state.examples, files, others)
    seen = exact | near
    return [i for i, one in enumerate(state.examples) if one.line not in seen] if seen else None


def _samples(
    state: State,
    answers: Answers,
    values: Mapping[str, Sequence[float]],
    report: EvaluationReport,
) -> list[Sample]:
    """Return every example with all answers, worst regressions first.

    The change is of the best system by the reference.
    """
    if not answers:
        return []
    reference, *others = answers
    rows = [row for row in report.comparisons if row.metric == report.main_metric]
    sign = metric(report.main_metric).sign if report.main_metric else 0.0
    shown = max(rows, key=lambda row: sign * row.tuned).system if rows else [reference, *others][-1]
    before, after = values.get(reference), values.get(shown)
    found = [
        Sample(
            line=example.line,
            prompt=example.asked,
            reference=example.reference,
            answers={name: answers[name][i].text for name in answers},
            change=sign * (after[i] - before[i]) if before and after else 0.0,
        )
        for i, example in enumerate(state.examples)
    ]
    return sorted(found, key=lambda sample: (sample.change, sample.line))


if __name__ == "__main__":
    main(work)
