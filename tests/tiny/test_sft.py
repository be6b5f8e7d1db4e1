"""Supervised runs over a tiny real model."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GptOssConfig,
    GptOssForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
)

from ft_tools import workspace as workspace_module
from ft_tools.errors import NotFound, Refused
from ft_tools.formats.masking import IGNORED
from ft_tools.publish import verify
from ft_tools.runs.state import directory, records
from ft_tools.training import micro_batches, samples
from ft_tools.training.request import SftRequest
from ft_tools.training.train_further import continued
from ft_tools.training.training_plan import SftPlan
from ft_tools.training.worker import artifacts, loading, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    TOOL_FILES,
    WITH_TOOLS,
    conversations,
    prepared,
    run_here,
    same_bits,
    weights_of,
    weights_of_script,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]


@pytest.fixture
def data(workspace, tiny_model_in):
    write_jsonl(workspace / "train.jsonl", conversations(24))
    write_jsonl(workspace / "held_out.jsonl", conversations(6, first=24))
    return {"model": tiny_model_in, "dataset": "train.jsonl"}


def request(data, **changed):
    # With a schedule no rows are held out.
    once = {} if changed.get("validation") else {"num_train_epochs": 1}
    training = {**once, **QUICK, **changed.pop("training", {})}
    accepted = {"accept_findings": ["validation_unwatched"], "accept_reason": "a test"}
    return SftRequest(**data, **changed, training=training, **accepted)


@pytest.mark.parametrize("method", ["qlora", "full"])
def test_the_loss_falls_on_examples_that_can_be_memorised(data, method):
    training = {"num_train_epochs": 5, "save_steps": 50}
    report = run_here(sft.work, request(data, method=method, training=training), method)
    assert report.first_loss > 5
    assert report.train_loss < 0.8 * report.first_loss
    artifact = Path(report.artifact)
    assert artifact.name == ("model" if method == "full" else "adapter")
    assert verify(artifact) == []


@pytest.mark.parametrize("peft", [{"use_dora": True, "r": 64}, {"init_lora_weights": "olora"}])
def test_a_published_adapter_gives_the_trained_model_back(data, peft):
    training = {"num_train_epochs": 1}
    session = prepared(request(data, peft=peft, training=training), "adapter")
    plan = SftPlan.model_validate_json(session.plan_json())
    assert plan.peft["use_rslora"] == (peft.get("r") == 64)
    trained, logits = {}, artifacts.publish_result

    def keep(session, plan, trainer, tokenizer):
        trained["model"] = trainer.model
        return logits(session, plan, trainer, tokenizer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(artifacts, "publish_result", keep)
        report = sft.work(session)
    base = AutoModelForCausalLM.from_pretrained(workspace_module.roots()[0] / "tiny-llama")
    loaded = PeftModel.from_pretrained(base, report.artifact)
    ids = torch.tensor([[1, 5, 9, 30, 2]])
    with torch.no_grad():
        trained["model"].eval()
        ours = trained["model"](input_ids=ids).logits
        again = loaded.eval()(input_ids=ids).logits
        with loaded.disable_adapter():
            untrained = loaded(input_ids=ids).logits
    assert torch.allclose(ours, again, atol=1e-5)
    assert not torch.allclose(ours, untrained, atol=1e-3)


def test_the_best_checkpoint_is_kept_and_training_stops_early(data, workspace):
    # Answers that contradict the training ones: more training makes the held-out loss worse.
    rows = conversations(6, first=100)
    for number, row in enumerate(rows):
        row["messages"][1]["content"] = f"Nobody knows at all, ask {number} again on Monday."
    write_jsonl(workspace / "held_out.jsonl", rows)
    training = {"learning_rate": 2e-2, "num_train_epochs": 20, "eval_steps": 2, "warmup_steps": 0}
    session = prepared(request(data, validation="held_out.jsonl", training=training), "early")
    report = sft.work(session)
    status = json.loads((session.run_dir / "status.json").read_bytes())
    assert report.stopped_early
    assert report.steps < 120
    assert report.best_step < report.steps
    assert status["best"]["step"] == report.best_step
    kept = session.run_dir / "checkpoints" / f"checkpoint-{report.best_step}"
    assert same_bits(weights_of(report.artifact), weights_of(kept))
    (example,) = samples.read(session.run_dir)
    assert example["prompt"].endswith("<|im_start|>assistant\n")
    assert example["expected"] == rows[0]["messages"][1]["content"] + "<|im_end|>\n"
    assert rows[0]["messages"][1]["content"] in (session.run_dir / "report.html").read_text()


def test_the_end_of_an_answer_is_trained_though_it_pads_too(data, workspace):
    tokenizer = AutoTokenizer.from_pretrained(workspace / data["model"])
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    session = prepared(request(data), "mask")
    training = sft.Supervised(session)
    plan = training.plan
    training.tokenizer, training.held_out = tokenizer, None
    training.train_set = training.read(plan.dataset)
    rows = [training.train_set[0], {k: v[:9] for k, v in training.train_set[1].items()}]
    batch_of = micro_batches.of_run(session.run_dir, plan)
    trainer = training.make_trainer(loading.run_arguments(session, plan, batch_of))
    labels = trainer.data_collator(rows)["labels"]
    assert labels[0].tolist() == rows[0]["labels"]
    trained = [token for token in rows[0]["labels"] if token != IGNORED]
    assert tokenizer.decode(trained) == "The parcel is late.<|im_end|>\n"
    assert labels[1, 9:].eq(IGNORED).all()


def test_a_packed_batch_has_the_loss_of_its_unpacked_examples(data):
    training = {"num_train_epochs": 1, "logging_steps": 1, "per_device_train_batch_size": 24}
    packed = {"packing": True, "max_length": 512, "per_device_train_batch_size": 4}
    apart = run_here(sft.work, request(data, training=training), "apart")
    session = prepared(request(data, training={**training, **packed}), "packed")
    together = sft.work(session)
    assert apart.steps == together.steps == 1
    assert together.first_loss == pytest.approx(apart.first_loss, abs=2e-4)
    assert any(
        "do not see one another" in e.message for e in directory.read_events(session.run_dir)
    )


CONV = {"layer_types": ["conv", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16, "head_dim": 16}


@pytest.mark.parametrize(
    ("build", "layers", "why"),
    [
        (lambda **own: Lfm2ForCausalLM(Lfm2Config(**own)), CONV, "it refuses them"),
        (
            lambda **own: GptOssForCausalLM(GptOssConfig(**own)),
            EXPERTS,
            "the second of two changes",
        ),
    ],
    ids=["refuses", "mixes"],
)
def test_a_model_that_cannot_keep_packed_examples_apart_is_refused_before_the_first_step(
    data, workspace, build, layers, why
):
    own = json.loads((workspace / "tiny-llama" / "config.json").read_text())
    keys = ("vocab_size", "hidden_size", "bos_token_id", "eos_token_id", "pad_token_id")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    model = build(**{key: own[key] for key in keys}, **heads, num_hidden_layers=2, **layers)
    model.save_pretrained(workspace / "tiny-llama")
    training = {"packing": True, "max_length": 64}
    asked = request(data, method="full", peft={}, training=training)
    with pytest.raises(Refused, match=rf"{why}.*training\.packing=false"):
        run_here(sft.work, asked, "mixing")


@pytest.mark.parametrize("gone", ["train.jsonl", "tiny-llama"])
def test_what_is_gone_for_now_is_no_end_of_the_run(data, workspace, gone):
    session = prepared(request(data), "gone")
    (workspace / gone).rename(workspace / "elsewhere")
    with pytest.raises(NotFound, match=f"{gone} no longer exists.*resume_run"):
        sft.work(session)
    assert NotFound.code not in records.FINAL


@pytest.mark.parametrize("changed", ["train.jsonl", "own.jinja", "tiny-llama/chat_template.jinja"])
def test_what_changed_since_it_was_confirmed_is_refused(data, workspace, changed):
    template = (workspace / "tiny-llama" / "chat_template.jinja").read_text()
    (workspace / "own.jinja").write_text(template)
    own = {"chat_template_path": "own.jinja"} if changed == "own.jinja" else {}
    session = prepared(request(data, training=own), "changed")
    (workspace / changed).write_text((workspace / changed).read_text() + "\n")
    with pytest.raises(Refused, match="not the one that was confirmed"):
        sft.work(session)


@pytest.mark.parametrize(
    "tools",
    [pytest.param(False, id="plain", marks=pytest.mark.faults), pytest.param(True, id="tools")],
)
def test_the_exported_script_trains_the_same_adapter_bit_for_bit(data, tmp_path, workspace, tools):
    training = {"max_steps": 6, "save_steps": 50}
    peft = {"r": 4, "lora_dropout": 0.1}
    if tools:
        (workspace / "tools.jinja").write_text(WITH_TOOLS)
        write_jsonl(workspace / "train.jsonl", TOOL_FILES["messages"])
        training |= {"chat_template_path": "tools.jinja", "max_length": 256}
    session = prepared(request(data, peft=peft, training=training), "export")
    report = sft.work(session)
    assert same_bits(weights_of(report.artifact), weights_of_script(session, tmp_path))


def test_a_finished_run_is_trained_further_from_where_it_was_with_a_rate_that_is_lower(data):
    few = {"num_train_epochs": 2, "eval_steps": 6, "save_steps": 6}
    first = prepared(request(data, validation="held_out.jsonl", training=few), "1")
    before = sft.work(first)
    first.end("succeeded")
    asked = continued(SftRequest(from_run=first.run_dir.name))
    second = prepared(asked, "2")
    after = sft.work(second)
    plan = SftPlan.model_validate_json(second.plan_json())
    assert plan.training["learning_rate"] == QUICK["learning_rate"] / 2
    assert plan.training["num_train_epochs"] == 2
    assert after.first_loss < before.first_loss - 0.5
    assert after.validation_loss < before.validation_loss
    rates = [
        row["learning_rate"]
        for row in directory.read_metrics(second.run_dir)
        if "learning_rate" in row
    ]
    assert rates[0] < max(rates) > rates[-1]
