"""What is reported equals what the original libraries say of the same outputs."""

import shutil
from statistics import fmean

import lm_eval
import pytest
import torch
from lm_eval.api.metrics import exact_match_fn
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from rouge_score import rouge_scorer
from sklearn import metrics as sklearn_metrics

from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory
from tests.tiny.evaluating import (
    LIBRARY_WARNINGS,
    TOWNS,
    answered_beforehand,
    by_metric,
    planned_here,
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


def test_the_reported_classification_is_scikit_learns_own(workspace, taught_model):
    names = ["late", "broken", "refund"]
    references = [names[i % 3] for i in range(30)]
    texts = {
        "baseline": [names[i % 2] for i in range(30)],
        "tuned": [names[i % 3] if i % 5 else "lost" for i in range(30)],
    }
    run_dir = answered_beforehand(
        workspace, taught_model, references, texts, metrics=["classification"]
    )
    report = worker.work(Session(run_dir))
    found = by_metric(report.comparisons)
    for side in ("baseline", "tuned"):
        accuracy = sklearn_metrics.accuracy_score(references, texts[side])
        macro = sklearn_metrics.f1_score(
            references, texts[side], labels=names, average="macro", zero_division=0
        )
        assert getattr(found["accuracy"], side) == as_reported(accuracy)
        assert getattr(found["macro_f1"], side) == as_reported(macro)
        labels = sorted(names)
        counts = sklearn_metrics.confusion_matrix(references, texts[side], labels=labels)
        for row, expected in enumerate(counts.tolist()):
            ours = report.confusion[side][str(row)]
            assert [ours.get(str(column), 0) for column in range(3)] == expected


def test_the_reported_exact_match_is_lm_evals_own(workspace, taught_model):
    references = ["Oslo", "New York", "Narvik", "Molde"] * 3
    texts = {
        "baseline": ["oslo", "New york", "Bergen", "Molde."] * 3,
        "tuned": ["Oslo", "new  york", "NARVIK", "Molde"] * 3,
    }
    run_dir = answered_beforehand(
        workspace, taught_model, references, texts, metrics=["exact_match"]
    )
    row = by_metric(worker.work(Session(run_dir)).comparisons)["exact_match"]
    for side in ("baseline", "tuned"):
        # The harness does not join repeated spaces, which ours does.
        single = [" ".join(text.split()) for text in texts[side]]
        own = exact_match_fn(predictions=single, references=references, ignore_case=True)
        assert getattr(row, side) == as_reported(float(own["exact_match"]))


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
def towns_task(workspace, taught_model, monkeypatch):
    """A task of our own, and a planned evaluation of one model against itself on it."""
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    shutil.copytree(taught_model, workspace / "a")
    data = workspace / "towns.jsonl"
    asked = "Where is my parcel number {}? It is in"
    write(data, [{"question": asked.format(i), "answer": i % 4} for i in range(8)])
    (workspace / "tasks").mkdir()
    (workspace / "tasks" / "our_towns.yaml").write_text(TASK.replace("DATA", str(data)))
    request = EvaluateRequest(
        model="a", baseline="a", lm_eval_tasks=["our_towns"], task_paths=["tasks"],
        general_ability=False, rendering="plain", batch_size=4,
    )  # fmt: skip
    return planned_here(workspace, request)


@pytest.mark.filterwarnings("ignore")
def test_a_task_is_cancelled_between_batches_halved_for_memory_and_not_run_twice(
    towns_task, monkeypatch
):
    asked = []
    whole = HFLM._model_call

    def scarce(model, inputs, *more, **named):
        asked.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("made up")
        return whole(model, inputs, *more, **named)

    monkeypatch.setattr(HFLM, "_model_call", scarce)
    session = Session(towns_task)
    (towns_task / "cancel").touch()
    with pytest.raises(Stopped):
        worker.work(session)
    assert asked == []
    hint = directory.read_status(towns_task).if_out_of_memory
    # Not that of a training, which has micro-batches.
    assert "a smaller batch_size or max_new_tokens, or with device='cpu'" in hint
    (towns_task / "cancel").unlink()
    session = Session(towns_task)
    seen = []
    monkeypatch.setattr(session, "progress", lambda *said: seen.append(said))
    report = worker.work(session)
    assert by_metric(report.benchmarks)["our_towns.acc"].num_examples == 8
    # Two models and one task of 32 texts: told between batches, of the whole, up to the end.
    assert seen[-1] == (200, 200)
    told = [step for step, total in seen if total == 200]
    assert len(set(told)) > 10
    assert max(asked) == 4
    assert asked.count(4) == 2
    assert {size for size in asked if size != 4} == {2}
    # Both sides were kept: what is resumed asks neither again.
    asked.clear()
    assert worker.work(Session(towns_task)).benchmarks == report.benchmarks
    assert asked == []


@pytest.mark.filterwarnings("ignore")
def test_lm_eval_through_us_is_lm_eval_itself_document_by_document(
    workspace, tiny_model, taught_model, monkeypatch
):
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    folders = {"baseline": workspace / "a", "tuned": workspace / "b"}
    shutil.copytree(tiny_model, folders["baseline"])
    shutil.copytree(taught_model, folders["tuned"])
    data = workspace / "towns.jsonl"
    asked = "Where is my parcel number {}? It is in"
    write(
        data,
        [{"question": asked.format(i), "answer": i % 4} for i in range(16)],
    )
    (workspace / "tasks").mkdir()
    (workspace / "tasks" / "our_towns.yaml").write_text(TASK.replace("DATA", str(data)))
    request = EvaluateRequest(
        model="b", baseline="a", lm_eval_tasks=["our_towns"], task_paths=["tasks"],
        general_ability=False, rendering="plain",
    )  # fmt: skip
    _, report = run_here(workspace, request)
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
