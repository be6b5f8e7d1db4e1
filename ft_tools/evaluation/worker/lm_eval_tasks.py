"""Run tasks of lm-evaluation-harness on each model, to be compared document by document."""

import json
from contextlib import suppress
from itertools import chain
from typing import Any

import lm_eval
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from ft_tools import workspace
from ft_tools.errors import UnknownName
from ft_tools.evaluation.findings import refusal
from ft_tools.evaluation.results import Scores
from ft_tools.evaluation.worker.state import State
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.metrics.table import Metric
from ft_tools.publish import write_file

# Metrics of the harness that are 0 or 1 for each document, unless a task computes its own: `acc` of
# truthfulqa_mc2 is the probability of the true answers.
# Source: https://github.com/EleutherAI/lm-evaluation-harness, lm_eval/api/metrics.py
YES_NO = {"acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match"}
SEEDS = ("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed")


def task_scores(state: State) -> tuple[dict[str, Scores], dict[str, Metric]]:
    """Run the tasks on each model of the short form, unless an earlier attempt has.

    Returns:
        System -> metric, such as gsm8k.exact_match, -> a value for each document; the metrics.

    Raises:
        BadInput: A task is not known, or the models got different prompts.
    """
    tasks, sides = state.request.lm_eval_tasks, dict[str, dict[str, Any]]()
    paths = [str(workspace.existing(path)) for path in state.request.task_paths]
    manager = TaskManager(include_path=paths or None, include_defaults=not paths)
    for task in tasks:
        if task not in manager.all_tasks:
            raise UnknownName("task of lm-evaluation-harness", task, manager.all_tasks)
    for side in state.weights:
        sides[side] = {}
        for i, task in enumerate(tasks):
            kept = state.session.run_dir / f"lm_eval-{side}-{i}.json"
            if not kept.is_file():
                state.check_stop()
                state.session.phase(f"running {task}, {side}")
                write_file(kept, json.dumps(_run(state, side, task, manager)))
            sides[side] |= json.loads(kept.read_bytes())
    rows = {}
    for name, first in next(iter(sides.values())).items():
        found = [side[name] for side in sides.values()]
        if any(one["documents"] != first["documents"] for one in found):
            raise refusal("tasks_prompted_differently", name=name)
        known = first["metric"] in YES_NO
        whole = known and {0.0, 1.0}.issuperset(chain(*(one["values"] for one in found)))
        rows[name] = Metric(
            name,
            "a metric of lm-evaluation-harness",
            "yes_no" if whole else "mean",
            higher_is_better=first["higher_is_better"],
            is_fraction=known,
        )
    return {s: {name: one["values"] for name, one in by.items()} for s, by in sides.items()}, rows


def _run(state: State, side: str, task: str, manager: TaskManager) -> dict[str, Any]:
    """Return the values of each metric of a task by document; its texts stay behind."""
    assert state.models is not None
    writer, plan = state.models.writer(state.weights[side]), state.plan
    assert isinstance(writer, TransformersWriter)
    with writer.side():
        model = HFLM(
            pretrained=writer.model,
            tokenizer=writer.tokenizer,
            batch_size=plan.batch_size,
            softmax_dtype="float32",
        )
        results: dict[str, Any] = lm_eval.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=manager,
            limit=state.request.lm_eval_limit,
            log_samples=True,
            bootstrap_iters=0,
            apply_chat_template=plan.rendering == "chat" and writer.template is not None,
            **dict.fromkeys(SEEDS, state.request.seed),
        )
    found: dict[str, Any] = {}
    for name, rows in results["samples"].items():
        several = len({row["filter"] for row in rows}) > 1
        better = results["higher_is_better"].get(name, {})
        for row in rows:
            for metric in row["metrics"]:
                # Not every value is a number: word_perplexity has a pair for each document.
                with suppress(TypeError, ValueError):
                    value = float(row[metric])
                    key = f"{name}.{metric}" + (f".{row['filter']}" if several else "")
                    empty = {"metric": metric, "higher_is_better": better.get(metric)}
                    one = found.setdefault(key, {**empty, "documents": [], "values": []})
                    one["documents"].append([row["doc_id"], row["prompt_hash"]])
                    one["values"].append(value)
    return found
