"""Evaluation with real libraries on a tiny real model."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from ft_tools.cli import main as cli
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.runs.processes.worker_session import Stopped
from ft_tools.runs.request import RunRequest
from ft_tools.runs.tool import get_run
from tests.tiny.evaluating import (
    IN_FLOAT32,
    LIBRARY_WARNINGS,
    RUN_ID,
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
    assert base_writer.weights is tuned.weights
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


def test_ten_prompts_are_underpowered_and_a_resumed_run_keeps_what_it_has(
    workspace, taught_model, monkeypatch
):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(10))
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", metrics=["exact_match"], max_new_tokens=4,
        batch_size=4, general_ability=False,
    )  # fmt: skip
    generate = TransformersWriter.generate
    asked = []

    def stops_after_two(writer, prompts, max_new_tokens, grammar=None):
        asked.append(len(prompts))
        if len(asked) == 2:
            (workspace / "runs" / RUN_ID / "cancel").touch()
        return generate(writer, prompts, max_new_tokens, grammar)

    monkeypatch.setattr(TransformersWriter, "generate", stops_after_two)
    with pytest.raises(Stopped):
        run_here(workspace, request)
    run_dir = workspace / "runs" / RUN_ID
    assert len((run_dir / "outputs.jsonl").read_text().splitlines()) == 8
    (run_dir / "cancel").unlink()
    with (run_dir / "outputs.jsonl").open("a") as stream:
        stream.write('{"set": "held_out", "si')
    _, report = run_here(workspace, request)
    assert sum(asked) == 20
    assert report.comparisons[0].verdict == "underpowered"
    assert report.comparisons[0].num_examples == 10


def test_one_system_is_scored_alone_with_intervals_and_a_verdict(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(6))
    more = {"dataset": "held.jsonl", "max_new_tokens": 4, "general_ability": False}
    target = {"exact_match": 0.9}
    for given in ({"model": "a"}, {"systems": [{"name": "plain", "model": "a"}]}):
        run_dir, report = run_here(workspace, EvaluateRequest(**given, **more, target=target))
        assert report.alone
        assert (report.comparisons, report.ranking) == ([], [])
        (one,) = report.systems
        assert one.target == "not_met"
        assert one.scores["exact_match"].ci_high < 0.5
        assert len((run_dir / "outputs.jsonl").read_text().splitlines()) == 6
        shutil.rmtree(run_dir)


def test_a_pipelines_gate_ends_with_three_unless_what_it_requires_is_so(
    workspace, taught_model, capsys
):
    damage(taught_model, workspace / "a", 5)
    shutil.copytree(taught_model, workspace / "b")
    write(workspace / "held.jsonl", rows(30))
    argv = ["evaluate", "b", "--baseline", "a", "--dataset", "held.jsonl", "--yes"]
    argv += ["--max-new-tokens", "12", "--no-general-ability"]
    # The same id is the same run: only the gate is asked again.
    argv += ["--metrics", "token_f1", "--request-id", "gate"]
    met = ["--require", "improved:token_f1", "--require", "not_regressed"]
    assert cli.run([*argv, *met]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out.splitlines()[-1])["state"] == "succeeded"
    assert "requirement not met" not in shown.err
    code = cli.run([*argv, *met, "--require", "at_most:token_f1:0.1"])
    assert code == 3, capsys.readouterr().err
    said = capsys.readouterr().err
    assert "requirement not met: at_most:token_f1:0.1: token_f1 improved" in said
    assert cli.run([*argv, "--require", "improved:rouge"]) == 2
    assert "'rougeL' was not measured; measured: token_f1" in capsys.readouterr().err
    (run_dir,) = (workspace / "runs").glob("evaluate-*")
    run = get_run(RunRequest(run_id=run_dir.name))
    assert run.state == "succeeded"
    assert len(run.result["comparisons"]) == 1
    assert Path(run.report_html).is_file()
    assert run.progress.fraction == 1.0
