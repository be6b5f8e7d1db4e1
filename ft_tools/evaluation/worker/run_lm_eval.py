"""Run lm-evaluation-harness on both models and join the results document by document."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ft_tools.errors import BadInput
from ft_tools.evaluation.metrics.scoring import Scores, Settings, compare_scores
from ft_tools.evaluation.report import Comparison
from ft_tools.evaluation.worker.state import SIDES, State
from ft_tools.evaluation.worker.transformers_generation import TransformersWriter
from ft_tools.models.worker.loading import free_memory
from ft_tools.publish import write_file
from ft_tools.runs.processes.out_of_memory import is_out_of_memory

NO_FILTER = "none"
PER_TASK = 100
"""Steps that a task counts as, for each model."""


class Watched(HFLM):  # type: ignore[misc]
    """The harness's model, which says how far it is between its batches.

    Args:
        tell: Takes the fraction of the requests that are answered; raises to end early.
    """

    def __init__(self, *arguments: Any, tell: Callable[[float], None], **named: Any) -> None:
        self._tell = tell
        self._asked = self._done = 0
        super().__init__(*arguments, **named)

    def generate_until(self, requests: list[Any], *more: Any, **named: Any) -> Any:
        """Continue texts, which are counted first."""
        self._asked += len(requests)
        return super().generate_until(requests, *more, **named)

    def _loglikelihood_tokens(self, requests: list[Any], *more: Any, **named: Any) -> Any:
        self._asked += len(requests)
        return super()._loglikelihood_tokens(requests, *more, **named)

    def _model_call(self, batch: Any, *more: Any, **named: Any) -> Any:
        self._say(len(batch))
        return super()._model_call(batch, *more, **named)

    def _model_generate(self, batch: Any, *more: Any, **named: Any) -> Any:
        self._say(len(batch))
        return super()._model_generate(batch, *more, **named)

    def _say(self, size: int) -> None:
        """Count a batch that begins; a long text is cut into several, so there may be more."""
        self._tell(min(1.0, self._done / max(1, self._asked)))
        self._done += size


def compare_benchmarks(state: State, settings: Settings) -> list[Comparison]:
    """Return a comparison for each metric of each task.

    A task that an earlier attempt finished is not run again.

    Raises:
        BadInput: A task is not known, a model is a GGUF file, or the two saw different prompts.
        Stopped: A cancel was asked.
    """
    plan = state.plan
    manager = TaskManager(
        include_path=plan.task_paths or None, include_defaults=not plan.task_paths
    )
    known = set(manager.all_tasks)
    unknown = sorted(set(plan.lm_eval_tasks) - known)
    if unknown:
        near = ", ".join(sorted(known)[:20])
        raise BadInput(f"lm-eval has no task {unknown[0]!r}; known: {near}")
    before, after = (_all_tasks(state, side, manager, number) for number, side in enumerate(SIDES))
    lower: set[str] = set()
    scores = _joined(before, after, lower)
    return compare_scores(
        *scores,
        Settings(settings.seed, settings.smallest_effect, lower_is_better=frozenset(lower)),
    )


def _all_tasks(state: State, side: str, manager: TaskManager, number: int) -> dict[str, Any]:
    """Run the tasks on one model, one after the other; each is kept when it is done."""
    found: dict[str, Any] = {"samples": {}, "higher_is_better": {}}
    tasks = list(state.plan.lm_eval_tasks)
    parts = len(SIDES) * len(tasks)

    def tell_of(place: int, fraction: float) -> None:
        state.check_stop()
        state.session.progress(int(PER_TASK * (place + fraction)), PER_TASK * parts)

    for i, task in enumerate(tasks):
        tell = partial(tell_of, number * len(tasks) + i)
        kept = state.session.run_dir / f"lm_eval-{side}-{i}.json"
        if not kept.is_file():
            state.session.event(f"running {task}, {side}")
            write_file(kept, json.dumps(run_task(state, side, task, manager, tell)))
        one = json.loads(kept.read_bytes())
        for key in found:
            found[key] |= one[key]
        tell(1.0)
    return found


def run_task(
    state: State, side: str, task: str, manager: TaskManager, tell: Callable[[float], None]
) -> dict[str, Any]:
    """Run a task on one model; returns its documents' scores. Batches are halved for memory.

    Args:
        state: Of the evaluation.
        side: Whose turn it is.
        task: Its name.
        manager: Knows the tasks.
        tell: Takes the fraction that is done; raises to end early.
    """
    writer, plan = state.writer(side), state.plan
    if not isinstance(writer, TransformersWriter):
        raise BadInput("lm_eval_tasks need transformers models; a GGUF file has no log-likelihoods")
    size = plan.batch_size
    while True:
        model = Watched(
            pretrained=writer.model,
            tokenizer=writer.tokenizer,
            batch_size=size,
            softmax_dtype="float32",
            tell=tell,
        )
        try:
            with writer.side():
                results: dict[str, Any] = lm_eval.simple_evaluate(
                    model=model,
                    tasks=[task],
                    task_manager=manager,
                    limit=state.request.lm_eval_limit,
                    log_samples=True,
                    bootstrap_iters=0,
                    apply_chat_template=plan.rendering == "chat" and writer.template is not None,
                    random_seed=plan.seed,
                    numpy_random_seed=plan.seed,
                    torch_random_seed=plan.seed,
                    fewshot_random_seed=plan.seed,
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
    names = list(row.get("metrics", []))
    scores = {name: float(row[name]) for name in names if _is_number(row.get(name))}
    about = {key: row.get(key) for key in ("doc_id", "filter", "prompt_hash")}
    return {**about, "filter": row.get("filter", NO_FILTER), "metrics": names, **scores}


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
