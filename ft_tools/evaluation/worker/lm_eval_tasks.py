"""Run lm-evaluation-harness on both models and join the results document by document."""

from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ft_tools.errors import BadInput
from ft_tools.evaluation.metrics.scoring import Scores, Settings, compare_scores
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.report import Comparison
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker.generation import Pair, TransformersWriter
from ft_tools.evaluation.worker.writer import Writer

NO_FILTER = "none"


def compare_benchmarks(
    plan: EvaluatePlan, request: EvaluateRequest, pair: Pair, settings: Settings
) -> list[Comparison]:
    """Return a comparison for each metric of each task.

    Raises:
        BadInput: A task is not known, a model is a GGUF file, or the two saw different prompts.
    """
    manager = TaskManager(
        include_path=plan.task_paths or None, include_defaults=not plan.task_paths
    )
    known = set(manager.all_tasks)
    unknown = sorted(set(plan.lm_eval_tasks) - known)
    if unknown:
        near = ", ".join(sorted(known)[:20])
        raise BadInput(f"lm-eval has no task {unknown[0]!r}; known: {near}")
    before, after = (
        run_tasks(writer, plan, request, manager) for writer in (pair.baseline, pair.tuned)
    )
    lower: set[str] = set()
    scores = _joined(before, after, lower)
    return compare_scores(
        *scores,
        Settings(settings.seed, settings.smallest_effect, lower_is_better=frozenset(lower)),
    )


def run_tasks(
    writer: Writer, plan: EvaluatePlan, request: EvaluateRequest, manager: TaskManager
) -> dict[str, Any]:
    """Run the tasks on one model; returns the harness's own results, with every document."""
    if not isinstance(writer, TransformersWriter):
        raise BadInput("lm_eval_tasks need transformers models; a GGUF file has no log-likelihoods")
    model = HFLM(pretrained=writer.model, tokenizer=writer.tokenizer, batch_size=plan.batch_size)
    with writer.side():
        results: dict[str, Any] = lm_eval.simple_evaluate(
            model=model,
            tasks=list(plan.lm_eval_tasks),
            task_manager=manager,
            limit=request.lm_eval_limit,
            log_samples=True,
            bootstrap_iters=0,
            apply_chat_template=plan.rendering == "chat" and writer.template is not None,
            random_seed=plan.seed,
            numpy_random_seed=plan.seed,
            torch_random_seed=plan.seed,
            fewshot_random_seed=plan.seed,
        )
    return results


def _joined(
    before: dict[str, Any], after: dict[str, Any], lower: set[str]
) -> tuple[Scores, Scores]:
    """Pair the documents of both sides; the same document must have had the same prompt."""
    first, second = Scores(), Scores()
    for task, rows in before["samples"].items():
        left = {(row["doc_id"], row.get("filter", NO_FILTER)): row for row in rows}
        right = {
            (row["doc_id"], row.get("filter", NO_FILTER)): row for row in after["samples"][task]
        }
        if any(left[key]["prompt_hash"] != right[key]["prompt_hash"] for key in left):
            raise BadInput(
                f"task {task!r}: the models got different prompts, because their chat templates "
                'differ; pass rendering="plain"'
            )
        filters = sorted({key[1] for key in left})
        for name in sorted({m for row in rows for m in row.get("metrics", [])}):
            higher = before.get("higher_is_better", {}).get(task, {}).get(name, True)
            for one in filters:
                keys = [key for key in left if key[1] == one and _is_number(left[key].get(name))]
                if not keys:
                    continue
                shown = f"{task}.{name}" + (f".{one}" if len(filters) > 1 else "")
                first[shown] = [float(left[key][name]) for key in keys]
                second[shown] = [float(right[key][name]) for key in keys]
                if higher is False:
                    lower.add(shown)
    return first, second


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
