"""Evaluation with real libraries on a tiny real model."""

import json
import shutil
from pathlib import Path

import lm_eval
import pytest
import torch
from lm_eval.tasks import TaskManager
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from benchmarks.small_models import untrained_llama
from ft_tools.cli import main as cli
from ft_tools.errors import Refused
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker import loaded_models
from ft_tools.evaluation.worker.decoding import decode
from ft_tools.models.machine import Machine
from ft_tools.models.placement import needed_bytes
from ft_tools.models.size import size_of_files
from ft_tools.runs.request import RunRequest
from ft_tools.runs.tool import get_run
from tests.tiny.evaluating import (
    IN_FLOAT32,
    LIBRARY_WARNINGS,
    by_metric,
    damage,
    plan_of,
    rows,
    run_here,
    write,
    writer_of,
    writers_of,
)

pytestmark = [
    pytest.mark.tiny,
    *LIBRARY_WARNINGS,
]


def test_the_base_below_an_adapter_is_the_base_itself(taught_model, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(taught_model)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    adapter = plan_of(taught_model, tmp_path / "adapter")
    base_writer, tuned = writers_of(IN_FLOAT32, plan_of(taught_model), adapter)
    assert base_writer.model is tuned.model
    assert isinstance(tuned.model, PeftModel)
    prompt = tuned.render(HeldOut(line=1, messages=rows(1)[0]["messages"][:1]), "chat")
    below = base_writer.generate([prompt], 12)
    assert below == writer_of(taught_model).generate([prompt], 12)
    assert tuned.generate([prompt], 12) != below


def test_the_same_model_twice_differs_by_exactly_nothing(workspace, taught_model, monkeypatch):
    monkeypatch.setattr("ft_tools.evaluation.worker.answering.NEW_TOKENS", 8)
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(60))
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", max_new_tokens=8, batch_size=32,
        metrics=["exact_match", "rouge"], stress=[{"change": "case"}],
    )  # fmt: skip
    run_dir, report = run_here(workspace, request)
    (one, other) = ([row.model_dump() for row in each.stress] for each in report.systems)
    assert one == other
    assert [row["num_changed"] for row in one] == [60]
    assert isinstance(report, EvaluationReport)
    for row in report.comparisons:
        assert row.difference == 0.0, row.metric
        assert row.verdict == "no_detectable_change", row
        assert row.ci_low < 0 < row.ci_high
    assert {row.metric for row in report.general_ability} == {"general_questions", "refusals"}
    assert len((run_dir / "samples.jsonl").read_text().splitlines()) == 60
    page = (run_dir / "report.html").read_text()
    assert "Where is my parcel number 3?" in page
    assert "Where is my parcel" not in report.model_dump_json()


def test_one_system_is_scored_alone_with_intervals_and_a_verdict(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(6))
    more = {"dataset": "held.jsonl", "max_new_tokens": 4, "general_ability": False}
    request = EvaluateRequest(model="a", target={"exact_match": 0.9}, **more)
    run_dir, report = run_here(workspace, request)
    assert report.alone
    assert (report.comparisons, report.ranking) == ([], [])
    (one,) = report.systems
    assert one.target == "not_met"
    assert one.scores["exact_match"].ci_high < 0.5
    assert len((run_dir / "outputs.jsonl").read_text().splitlines()) == 6


def test_a_pipelines_gate_ends_with_three_unless_the_target_is_met(workspace, taught_model, capsys):
    damage(taught_model, workspace / "a", 5)
    shutil.copytree(taught_model, workspace / "b")
    write(workspace / "held.jsonl", rows(30))
    argv = ["evaluate", "b", "--baseline", "a", "--dataset", "held.jsonl", "--yes"]
    argv += ["--max-new-tokens", "12", "--no-general-ability", "--metrics", "token_f1"]
    argv += ["--response-format", "detailed"]
    assert cli.run([*argv, "--target", '{"token_f1": 0.05}']) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1])["state"] == "succeeded"
    # The same answers under another target: nothing is generated again.
    assert cli.run([*argv, "--target", '{"token_f1": 0.5}']) == 3
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {one["num_reused"] for one in second["result"]["systems"]} == {30}
    run = get_run(RunRequest(run_id=second["run_id"]))
    assert run.state == "succeeded"
    assert len(run.result["comparisons"]) == 1
    assert Path(run.report_html).is_file()
    assert run.progress.fraction == 1.0


def test_numbers_that_overflow_are_no_measurement():
    model = untrained_llama().eval()
    model.model.norm.weight.data.fill_(float("inf"))
    tokens = torch.randint(3, 500, (1, 9))
    with pytest.raises(Refused, match="not finite"):
        decode(model, tokens.tolist(), 2, [0], None)


# cuBLAS has words of its own and no type.
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
OTHER = RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), CUBLAS, OTHER])
def test_batches_are_halved_when_memory_runs_out_and_for_no_other_error(
    workspace, taught_model, monkeypatch, error
):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(9))
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", max_new_tokens=4, general_ability=False,
        metrics=["exact_match"],
    )  # fmt: skip
    run_dir, expected = run_here(workspace, request)
    shutil.rmtree(run_dir)
    forward, sizes = LlamaForCausalLM.forward, []

    def scarce(model, *more, input_ids, **named):
        sizes.append(len(input_ids))
        if len(input_ids) > 3:
            raise error
        return forward(model, *more, input_ids=input_ids, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", scarce)
    if error is OTHER:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            run_here(workspace, request)
        return
    found = run_here(workspace, request)[1]
    assert max(sizes) > 3
    for one, other in zip(found.comparisons, expected.comparisons, strict=True):
        assert one.tuned == pytest.approx(other.tuned, rel=1e-4)


def test_two_sides_that_do_not_fit_together_are_asked_one_after_the_other(
    taught_model, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    damage(taught_model, other, 0.5)
    files = plan_of(taught_model), plan_of(other)
    expected = [w.generate(["Where"], 6) for w in writers_of(IN_FLOAT32, *files)]
    needed = needed_bytes(size_of_files(other), "float32")
    models = loaded_models.LoadedModels(IN_FLOAT32, files)
    writers = [models.writer(one) for one in files]

    def room_for_one(device="auto"):
        return Machine((), 2**30 + int(needed * (1.5 - len(models.loaded))))

    monkeypatch.setattr(loaded_models, "free_machine", room_for_one)
    for _ in range(2):
        for i, writer in enumerate(writers):
            assert writer.generate(["Where"], 6) == expected[i]
            assert len(models.loaded) == 1
    monkeypatch.setattr(loaded_models, "free_machine", lambda device="auto": Machine((), 2**29))
    models.free()
    with pytest.raises(Refused, match="evaluating m takes at least"):
        writers[0].generate(["Where"], 6)


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
    direct = {}
    for side, folder in folders.items():
        found = lm_eval.simple_evaluate(
            model="hf",
            model_args=f"pretrained={folder},dtype=float32",
            tasks=["our_towns"],
            task_manager=TaskManager(include_path=str(workspace / "tasks"), include_defaults=False),
            batch_size=4,
            device="cpu",
            bootstrap_iters=0,
        )
        mean = float(found["results"]["our_towns"]["acc,none"])
        assert getattr(row, side) == pytest.approx(mean, rel=1e-5)
        samples = found["samples"]["our_towns"]
        direct[side] = {one["doc_id"]: float(one["acc"]) for one in samples}
    before, after = direct["baseline"], direct["tuned"]
    assert row.num_examples == len(before) == 16
    assert row.num_better == sum(after[i] > before[i] for i in before) > 0
    assert row.num_worse == sum(after[i] < before[i] for i in before) > 0
