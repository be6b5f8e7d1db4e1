"""Run lm-evaluation-harness on each model and join the results document by document."""

import contextlib
import json
from dataclasses import dataclass
from itertools import chain
from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ft_tools.errors import BadInput
from ft_tools.evaluation.results import Scores
from ft_tools.evaluation.worker.state import State
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.metrics.table import Metric
from ft_tools.models.worker.loading import free_memory
from ft_tools.publish import write_file
from ft_tools.runs.processes.endings import is_out_of_memory

# Metrics of the harness that are 0 or 1 for each document, unless a task computes its own: `acc` of
# truthfulqa_mc2 is the probability of the true answers.
# Source: https://github.com/EleutherAI/lm-evaluation-harness, lm_eval/api/metrics.py
YES_NO = {"acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match"}


@dataclass(frozen=True)
class Benchmarks:
    """Scores of each document by metric, such as gsm8k.exact_match, and the metrics' rows."""

    scores: dict[str, Scores]
    rows: dict[str, Metric]


def run_benchmarks(state: State) -> Benchmarks:
    """Run the tasks on each model; a task that an earlier attempt finished is not run again.

    Raises:
        BadInput: A task is not known, a model is a GGUF file, or the models saw different prompts.
        Stopped: A cancel was requested between two tasks.
    """
    state.session.phase("running benchmarks")
    plan = state.plan
    manager = TaskManager(
        include_path=plan.task_paths or None, include_defaults=not plan.task_paths
    )
    known = set(manager.all_tasks)
    if unknown := sorted(set(plan.lm_eval_tasks) - known):
        near = ", ".join(sorted(known)[:20])
        raise BadInput(f"lm-eval has no task {unknown[0]!r}; known: {near}")
    sides: dict[str, dict[str, Any]] = {}
    total = len(plan.weights) * len(plan.lm_eval_tasks)
    for side in plan.weights:
        sides[side] = {"samples": {}, "higher_is_better": {}}
        for i, task in enumerate(plan.lm_eval_tasks):
            state.check_stop()
            state.session.progress((len(sides) - 1) * len(plan.lm_eval_tasks) + i, total)
            kept = state.session.run_dir / f"lm_eval-{side}-{i}.json"
            if not kept.is_file():
                state.session.event(f"running {task}, {side}")
                write_file(kept, json.dumps(_run_task(state, side, task, manager)))
            for key, values in json.loads(kept.read_bytes()).items():
                sides[side][key] |= values
    state.session.progress(total, total)
    return join(sides)


def join(sides: dict[str, dict[str, Any]]) -> Benchmarks:
    """Pair the documents of all sides; the same document must have had the same prompt.

    Raises:
        BadInput: It had another one.
    """
    reference, *_ = sides.values()
    found = Benchmarks({name: {} for name in sides}, {})
    for task, first in reference["samples"].items():
        by_side = {
            name: {(row["doc_id"], row["filter"]): row for row in side["samples"][task]}
            for name, side in sides.items()
        }
        prompts = {key: row["prompt_hash"] for key, row in next(iter(by_side.values())).items()}
        for rows in by_side.values():
            if any(rows[key]["prompt_hash"] != prompt for key, prompt in prompts.items()):
                raise BadInput(
                    f"task {task!r}: the models got different prompts, because their chat "
                    'templates differ; pass rendering="plain"'
                )
        filters = sorted({row["filter"] for row in first})
        pairs = sorted({(metric, row["filter"]) for row in first for metric in row["metrics"]})
        for metric, one in pairs:
            keys = [(r["doc_id"], one) for r in first if r["filter"] == one and metric in r]
            shown = f"{task}.{metric}" + (f".{one}" if len(filters) > 1 else "")
            values = {name: [rows[key][metric] for key in keys] for name, rows in by_side.items()}
            is_yes_no = metric in YES_NO and {0.0, 1.0}.issuperset(chain(*values.values()))
            is_higher = reference["higher_is_better"].get(task, {}).get(metric, True)
            found.rows[shown] = Metric(
                shown,
                "a metric of lm-evaluation-harness",
                "yes_no" if is_yes_no else "mean",
                higher_is_better=is_higher is not False,
                high=1.0 if metric in YES_NO else None,
            )
            for name, own in values.items():
                found.scores[name][shown] = own
    return found


def _run_task(state: State, side: str, task: str, manager: TaskManager) -> dict[str, Any]:
    """Run a task on one model; returns its documents' scores. Batches are halved for memory."""
    writer, plan = state.writers[side], state.plan
    if not isinstance(writer, TransformersWriter):
        raise BadInput("lm_eval_tasks need transformers models; a GGUF file has no log-likelihoods")
    seeds = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")
    size = plan.batch_size
    while True:
        try:
            with writer.side():
                results: dict[str, Any] = lm_eval.simple_evaluate(
                    model=HFLM(
                        pretrained=writer.model,
                        tokenizer=writer.tokenizer,
                        batch_size=size,
                        softmax_dtype="float32",
                    ),
                    tasks=[task],
                    task_manager=manager,
                    limit=state.request.lm_eval_limit,
                    log_samples=True,
                    bootstrap_iters=0,
                    apply_chat_template=plan.rendering == "chat" and writer.template is not None,
                    **dict.fromkeys(seeds, plan.seed),
                )
            break
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        size //= 2
        free_memory()
    samples = {name: [_scores(row) for row in rows] for name, rows in results["samples"].items()}
    return {"samples": samples, "higher_is_better": results.get("higher_is_better", {})}


def _scores(row: dict[str, Any]) -> dict[str, Any]:
    """Keep what a comparison needs of a document; its texts stay behind."""
    scores = {}
    for name in row.get("metrics", []):
        with contextlib.suppress(KeyError, TypeError, ValueError):
            scores[name] = float(row[name])
    kept = {key: row.get(key) for key in ("doc_id", "prompt_hash")}
    return {**kept, "filter": row.get("filter", "none"), "metrics": list(scores), **scores}
