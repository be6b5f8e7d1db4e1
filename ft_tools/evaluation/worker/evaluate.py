"""Compare systems as planned, and write the report."""

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel

from ft_tools.errors import PlanChanged
from ft_tools.evaluation import conclude
from ft_tools.evaluation.evaluation_plan import EvaluatePlan
from ft_tools.evaluation.findings import refusal, warning
from ft_tools.evaluation.held_out import (
    HeldOut,
    clusters_of,
    read_held_out,
    scored_rows,
    wordings_in,
)
from ft_tools.evaluation.learned_rows import learned_lines
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.report import Comparison, EvaluationReport
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import Measured, Scores, Settings, Stressed, compare_scores
from ft_tools.evaluation.stress import HELD_OUT
from ft_tools.evaluation.worker.answering import answer_all, general_scores
from ft_tools.evaluation.worker.state import State
from ft_tools.formats.test_sets import asked_by, earlier_looks, remember_look
from ft_tools.metrics.answers import columns_of, confusion, has_classes
from ft_tools.metrics.checks.scorer import Scorer, file_hashes
from ft_tools.metrics.table import CHECK, METRICS, REQUESTS, Metric, metric, score_outputs
from ft_tools.metrics.text import label
from ft_tools.publish import sha256, write_file
from ft_tools.runs.processes.worker_session import Session, main

IF_OUT_OF_MEMORY = (
    "close other programs, then resume_run: outputs so far are kept; if it happens again, evaluate "
    "with a smaller batch_size or max_new_tokens, or with device='cpu'"
)


def work(session: Session) -> BaseModel:
    """Evaluate as planned."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    request = session.request(EvaluateRequest)
    plan = _without_removed(session.plan(EvaluatePlan))
    session.update(if_out_of_memory=IF_OUT_OF_MEMORY)
    state = State(session, request, plan, _read_planned(request, plan), notes=list(plan.warnings))
    if files := [one.model for one in plan.systems if one.model]:
        # Seconds of imports, which endpoints and simple baselines do without.
        from ft_tools.evaluation.worker.loaded_models import LoadedModels, prepare

        prepare(request.seed, session.info.created_at)
        state.models = LoadedModels(plan.loading, files)
    measured = _measure(state)
    if state.models is not None:
        state.models.close()
    session.phase("writing the report")
    return _write_report(state, measured)


def _without_removed(plan: EvaluatePlan) -> EvaluatePlan:
    """Return a plan without the metrics that are gone; refuse one that has no others."""
    target = {name: value for name, value in plan.target.items() if name in METRICS}
    metrics = {name: why for name, why in plan.metrics.items() if name in REQUESTS}
    gone = sorted({*plan.metrics, *plan.target} - {*metrics, *target})
    if not gone:
        return plan
    if not metrics:
        raise refusal("metrics_removed", names=", ".join(gone))
    warnings = [*plan.warnings, warning("metrics_removed", names=", ".join(gone))]
    update = {"metrics": metrics, "target": target, "warnings": warnings}
    return plan.model_copy(update=update)


def _read_planned(request: EvaluateRequest, plan: EvaluatePlan) -> list[HeldOut]:
    """Read the held-out file that was planned; refuse another, and other files of checks."""
    if file_hashes(request.checks) != plan.check_files:
        raise PlanChanged("a file of `checks` changed since the plan was confirmed; plan again")
    path = Path(plan.dataset)
    if sha256(path) != plan.dataset_sha256:
        raise PlanChanged(f"{path} changed since the plan was confirmed; call evaluate again")
    return read_held_out(path, request.mapping, request.cluster_field, request.max_examples)


def _measure(state: State) -> Measured:
    """Measure general ability, answers and benchmarks, as planned."""
    plan, request, examples = state.plan, state.request, state.examples
    looks = 1 + earlier_looks(
        asked_by(one.numbered for one in examples), state.session.run_dir.name
    )
    effect = request.smallest_effect_fraction
    settings = Settings(request.seed, effect, clusters_of(examples), looks)
    measured = Measured(state.references, settings, plan.target, origin=request.origin)
    # Where no groups are named, but most rows follow few wordings.
    measured.wordings = None if request.cluster_field else wordings_in(examples)
    if plan.num_general_prompts:
        measured.general = _compare_weights(state, measured, general_scores(state), METRICS)
    place_of = {example.line: i for i, example in enumerate(examples)}
    for kind, answers in answer_all(state).items():
        rows = state.sets[kind]
        references = [one.reference for one in rows]
        texts = {name: [one.text for one in found] for name, found in answers.items()}
        scores = {name: score_outputs([*plan.metrics], t, references) for name, t in texts.items()}
        for name, more in _check_scores(state, texts, rows).items():
            scores[name] |= more
        if kind == HELD_OUT:
            measured.answers, measured.scores = answers, scores
        else:
            places = [place_of[one.line] for one in rows]
            measured.stressed.append(Stressed(kind.rpartition(" ")[0], places, scores))
    if request.lm_eval_tasks:
        # The harness takes seconds to import and is needed only here.
        from ft_tools.evaluation.worker.lm_eval_tasks import task_scores

        measured.benchmarks = _compare_weights(state, measured, *task_scores(state))
    named = map(Path, plan.contamination.checked_against)
    files = [path for path in named if path.is_file()]
    systems = list(state.specs.values())
    exact, near = learned_lines(examples, Path(plan.dataset), files, systems)
    if seen := exact | near:
        measured.fresh = [i for i, one in enumerate(examples) if one.line not in seen]
    return measured


def _compare_weights(
    state: State, measured: Measured, scores: dict[str, Scores], rows: Mapping[str, Metric]
) -> list[Comparison]:
    """Compare what was measured beside the answers; a model alone has scores."""
    plain = Settings(state.request.seed, state.request.smallest_effect_fraction)
    if state.plan.alone:
        [found] = scores.values()
        measured.alone |= {key: plain.score(rows[key], own) for key, own in found.items()}
    return compare_scores(scores, plain, rows)


def _check_scores(
    state: State, texts: Mapping[str, Sequence[str]], examples: Sequence[HeldOut]
) -> dict[str, Scores]:
    """Return system -> `checks`, and each of several, -> a value for each example.

    What a check breaks on is 0, and a note says so.
    """
    checks, found = state.request.checks, dict[str, Scores]()
    if not checks:
        return found
    state.session.phase("checking the answers")
    rows = scored_rows(examples)
    with Scorer(checks, state.session.run_dir) as scorer:
        for system, answers in texts.items():
            scores = scorer.score(rows, answers)
            state.check_stop()
            if broken := {name for one in scores for name, v in one.parts.items() if v is None}:
                nums = {"num": sum(one.total is None for one in scores), "total": len(rows)}
                names = ", ".join(sorted(broken))
                state.notes.append(warning("checks_broken", system=system, names=names, **nums))
            found[system] = {"checks": [one.total or 0.0 for one in scores]}
            for name in scores[0].parts if len(checks) > 1 else ():
                found[system][CHECK + name] = [one.parts[name] or 0.0 for one in scores]
    return found


def _write_report(state: State, measured: Measured) -> EvaluationReport:
    """Write samples.jsonl and report.html, and return the report; that is a look at the rows."""
    plan, request, run_dir = state.plan, state.request, state.session.run_dir
    overlap, columns = plan.contamination, columns_of(state.references)
    learned = [*overlap.checked_against, *overlap.learned_from]
    exclude = {"confirm", "name", "request_id"}
    call = conclude.Call(
        run_id=run_dir.name,
        arguments=request.model_dump(mode="json", exclude_defaults=True, exclude=exclude),
        learned_from=learned[0] if learned else "",
        has_classes=all(map(has_classes, columns.values())),
    )
    found = _report(state, measured)
    report = conclude.concluded(found, request.smallest_effect_fraction, call)
    samples = _samples(state, measured, report)
    lines = [json.dumps(asdict(sample)) for sample in samples]
    write_file(run_dir / "samples.jsonl", "\n".join(lines) + "\n")
    remember_look(asked_by(one.numbered for one in state.examples), run_dir.name)
    named = measured.answers if "classification" in plan.metrics else ()
    counts = {name: confusion(measured.texts_of(name), state.references) for name in named}
    write_file(run_dir / "report.html", document(report, samples, counts))
    state.session.artifact("samples", run_dir / "samples.jsonl")
    return report


def _report(state: State, measured: Measured) -> EvaluationReport:
    """Return the report without conclusions: all systems with their verdicts and ranking."""
    plan, settings = state.plan, measured.settings
    results = [measured.result(state.specs[one.name], one) for one in plan.systems]
    names = [one.name for one in results]
    shown = {name: files.name for name, files in state.weights.items()}
    notes, wordings, clusters = list(state.notes), measured.wordings, settings.clusters
    if wordings:
        notes.append(warning("few_wordings", num=len(wordings), groups=len(set(wordings))))
    most = None
    if "classification" in plan.metrics:
        [(_, num)] = Counter(map(label, state.references)).most_common(1)
        most = round(num / len(state.references), 4)
    return EvaluationReport(
        tuned=shown.get("tuned", ", ".join(names[1:] or names)),
        baseline=shown.get("baseline", shown.get("tuned", names[0])),
        alone=plan.alone,
        compares_systems=bool(state.request.systems) and not plan.alone,
        summary=[],
        num_examples=len(state.examples),
        target=plan.target,
        main_metric=measured.main,
        systems=results,
        ranking=measured.ranking(results),
        majority_fraction=most,
        origin=state.request.origin,
        comparisons=sorted(
            compare_scores(measured.scores, settings),
            key=lambda row: row.metric not in {measured.main, *plan.target},
        ),
        general_ability=measured.general,
        benchmarks=measured.benchmarks,
        contamination=plan.contamination,
        num_fresh=None if measured.fresh is None else len(measured.fresh),
        accepted=plan.accepted,
        look=settings.looks,
        coverage=round(1 - settings.alpha, 6),
        num_clusters=len(set(clusters)) if clusters else None,
        notes=notes,
    )


def _samples(state: State, measured: Measured, report: EvaluationReport) -> list[Sample]:
    """Return every example with all answers, worst regressions of the best system first."""
    answers, name = measured.answers, report.main_metric
    sign = metric(name).sign if name else 0.0
    rows = [row for row in report.comparisons if row.metric == name]
    best = max(rows, key=lambda row: sign * row.tuned).system if rows else [*answers][-1]
    before, after = (measured.scores[one].get(name) for one in (next(iter(answers)), best))
    found = [
        Sample(
            line=example.line,
            prompt=example.asked,
            reference=example.reference,
            answers={one: answers[one][i].text for one in answers},
            change=sign * (after[i] - before[i]) if before and after else 0.0,
        )
        for i, example in enumerate(state.examples)
    ]
    return sorted(found, key=lambda sample: (sample.change, sample.line))


if __name__ == "__main__":
    main(work)
