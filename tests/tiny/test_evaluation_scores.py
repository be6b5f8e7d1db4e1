"""What is reported equals what the original libraries say of the same outputs."""

import shutil
from statistics import fmean

import lm_eval
import pytest
from lm_eval.tasks import TaskManager
from rouge_score import rouge_scorer

from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.runs.processes.worker_session import Session
from tests.tiny.evaluating import (
    LIBRARY_WARNINGS,
    TOWNS,
    answered_beforehand,
    by_metric,
    run_here,
    write,
)

pytestmark = [
    pytest.mark.tiny,
    *LIBRARY_WARNINGS,
]


def as_reported(value):
    return float(f"{value:.6g}")


def test_the_reported_rouge_is_rouge_scores_own(workspace, taught_model):
    references = [f"The parcel {i} lies in the depot of {TOWNS[i % 4]} today" for i in range(12)]
    texts = {
        "baseline": [f"Your parcel {i} is in a depot" for i in range(12)],
        "tuned": [f"The parcels {i} lay in {TOWNS[i % 3]}'s depot, today!" for i in range(12)],
    }
    run_dir = answered_beforehand(workspace, taught_model, references, texts, metrics=["rouge"])
    found = by_metric(worker.work(Session(run_dir)).comparisons)
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = rouge_scorer.RougeScorer(names)
    for name in names:
        for side in ("baseline", "tuned"):
            own = [
                scorer.score(reference, text)[name].fmeasure
                for reference, text in zip(references, texts[side], strict=True)
            ]
            assert getattr(found[name], side) == as_reported(fmean(own)), name
    assert found["rougeL"].baseline != found["rougeL"].tuned


TASK = """
task: our_towns
dataset_path: json
dataset_kwargs:
  data_files: DATA
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["Oslo", "Bergen", "Narvik", "Molde"]
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def towns(workspace, tiny_model, taught_model, monkeypatch):
    """A task of our own, and a request that compares two models on it."""
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    shutil.copytree(tiny_model, workspace / "a")
    shutil.copytree(taught_model, workspace / "b")
    data = workspace / "towns.jsonl"
    asked = "Where is my parcel number {}? It is in"
    write(data, [{"question": asked.format(i), "answer": i % 4} for i in range(16)])
    (workspace / "tasks").mkdir()
    (workspace / "tasks" / "our_towns.yaml").write_text(TASK.replace("DATA", str(data)))
    write(workspace / "held.jsonl", [{"prompt": "Where is it?", "completion": "Oslo"}])
    return EvaluateRequest(
        model="b", baseline="a", dataset="held.jsonl", max_new_tokens=2,
        lm_eval_tasks=["our_towns"], task_paths=["tasks"],
        general_ability=False, rendering="plain", batch_size=4,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_lm_eval_through_us_is_lm_eval_itself_document_by_document(workspace, towns):
    _, report = run_here(workspace, towns)
    folders = {"baseline": workspace / "a", "tuned": workspace / "b"}
    row = by_metric(report.benchmarks)["our_towns.acc"]
    direct = {
        side: lm_eval.simple_evaluate(
            model="hf",
            model_args=f"pretrained={folder},dtype=float32",
            tasks=["our_towns"],
            task_manager=TaskManager(include_path=str(workspace / "tasks"), include_defaults=False),
            batch_size=4,
            device="cpu",
            bootstrap_iters=0,
        )
        for side, folder in folders.items()
    }
    for side, results in direct.items():
        assert getattr(row, side) == as_reported(float(results["results"]["our_towns"]["acc,none"]))
    before, after = (
        {one["doc_id"]: float(one["acc"]) for one in direct[side]["samples"]["our_towns"]}
        for side in ("baseline", "tuned")
    )
    assert row.num_examples == len(before) == 16
    assert row.num_better == sum(after[i] > before[i] for i in before) > 0
    assert row.num_worse == sum(after[i] < before[i] for i in before) > 0
