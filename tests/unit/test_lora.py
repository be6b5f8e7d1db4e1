"""suggest_lora_config: every rule at its edge, and what any suggestion must keep to."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft_tools import facts
from ft_tools.errors import BadInput
from ft_tools.lora import choices
from ft_tools.lora.data_shape import DataShape
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.settings_that_fit import dtype_of
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.config import has_row
from ft_tools.models.shape_of_model import shape_of
from ft_tools.training.suggestion import suggest_lora_config

LLAMA = "meta-llama/Llama-3.1-8B"
# The others are read off their classes, which takes a process: tests/tiny/test_generality.py.
WITH_ROWS = sorted(name for name, row in facts.models().items() if has_row(row.config))


def suggest(**arguments):
    return suggest_lora_config(LoraRequest(**({"model": LLAMA} | arguments)))


def rank_of(**arguments):
    return suggest(**arguments).peft["r"]


# --- rank and alpha -------------------------------------------------------------------------------


def test_the_rank_rises_when_the_data_has_more_tokens_than_the_adapter_parameters():
    capacity = shape_of(LLAMA).lora_params(16)
    assert rank_of(num_examples=1, mean_completion_tokens=capacity) == 16
    assert rank_of(num_examples=1, mean_completion_tokens=capacity + 1) == 32
    assert rank_of(num_examples=1, mean_completion_tokens=20 * capacity) == 128
    assert rank_of(goal="style", num_examples=1, mean_completion_tokens=20 * capacity) == 8


# --- learning rate --------------------------------------------------------------------------------


# The best of five rates at the highest rank of the published sweep; rates beside it in the grid are
# a factor of three away. Source: lr.sft_lora.
SWEEP = {2048: 1e-3, 3072: 1e-3, 4096: 3e-4, 8192: 3e-4}


@pytest.mark.parametrize(("hidden", "best"), SWEEP.items())
def test_the_rate_is_within_one_grid_step_of_the_best_of_the_sweep(hidden, best):
    rate = choices.choose_learning_rate("sft", "lora", hidden).value
    assert best / 3 < rate < best * 3


# --- schedule -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_examples", "tokens", "epochs", "batch"),
    [
        (10, 4, 10, 4),
        (267, 4, 9, 4),  # 603 steps
        (50, 400, 10, 4),
        (300, 64, 8, 4),  # 600
        (300, 65, 6, 4),  # 225
        (800, 4, 3, 4),  # 600
        (1599, 4, 3, 4),
        (1600, 4, 3, 8),  # 600
        (2000, 4, 1, 16),  # 125
        (2000, 400, 2, 16),
        (20_000, 400, 1, 32),
    ],
)
def test_batch_and_epochs_follow_rows_and_answers(num_examples, tokens, epochs, batch):
    report = suggest(num_examples=num_examples, mean_completion_tokens=tokens)
    assert (report.training["num_train_epochs"], report.effective_batch) == (epochs, batch)


PADDED = DataShape(num_examples=5000, answer_tokens=40, tokens=256, padding=0.41)


@pytest.mark.parametrize(
    ("change", "packs"),
    [
        ({}, True),
        ({"padding": 0.4}, False),
        ({"padding": None}, False),
        ({"tokens": 127}, False),  # a step's 16 rows fill less than one pack
    ],
)
def test_rows_are_packed_where_their_real_lengths_make_it_pay(change, packs):
    data = PADDED.model_copy(update=change)
    assert choices.choose_schedule(data, "sft", max_length=2048).packing is packs


# --- card -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpu", "method"), [("RTX 4090", "lora"), ("RTX 3060", "qlora"), ("A100-80GB", "lora")]
)
def test_lora_where_it_fits_and_qlora_where_it_does_not(gpu, method):
    report = suggest(gpu=gpu)
    assert report.method == method
    assert report.vram.fits == "yes"
    assert bool(report.gave_up) == (method == "qlora")


def test_what_the_card_and_the_model_do_not_take_is_given_up():
    long = suggest(model="microsoft/Phi-3-mini-4k-instruct", seq_len=8192)
    assert (long.training["max_length"], len(long.gave_up)) == (4096, 1)
    full = suggest(model="Qwen/Qwen2.5-7B", method="full", gpu="RTX 6000 Ada")
    assert full.training["optim"] != "adamw_torch_fused"
    assert full.gave_up
    none = suggest(model="meta-llama/Llama-3.1-70B", gpu="RTX 4090")
    assert (none.vram.fits, none.next_steps[0].tool) == ("no", "estimate_vram")


@pytest.mark.parametrize(
    ("gpu", "dtype"), [("T4", "float16"), ("V100-16GB", "float16"), ("RTX 3090", "bfloat16")]
)
def test_old_cards_compute_in_fp16(gpu, dtype):
    assert dtype_of(gpu) == dtype
    training = suggest(model="Qwen/Qwen2.5-0.5B", gpu=gpu).training
    assert (training["fp16"], training["bf16"]) == (dtype == "float16", dtype == "bfloat16")
    assert "dtype" not in training.get("model_init_kwargs", {})


# --- what any suggestion keeps to -----------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "model": st.sampled_from(WITH_ROWS),
            "goal": st.sampled_from(sorted(choices.RANK_OF_GOAL)),
            "method": st.sampled_from(["auto", "lora", "qlora", "full"]),
        },
        optional={
            "num_examples": st.integers(1, 10**6),
            "mean_completion_tokens": st.floats(1, 5000),
            "seq_len": st.integers(8, 40_000),
            "gpu": st.sampled_from(sorted(facts.gpus())),
        },
    )
)
def test_any_suggestion_is_whole_and_true_to_its_estimate(arguments):
    report = suggest_lora_config(LoraRequest(**arguments))
    training = report.training
    batch = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]
    assert batch == report.effective_batch >= 1
    assert report.task == ("dpo" if arguments["goal"] == "preference" else "sft")
    assert (report.peft == {}) == (report.method == "full")
    assert (report.quantization is not None) == (report.method == "qlora")
    assert all(reason.source for reason in report.reasons)
    if arguments["method"] != "auto":
        assert report.method == arguments["method"]
    dtype = "bfloat16" if training["bf16"] else "float16" if training["fp16"] else "float32"
    dtype = "float32" if report.method == "full" else dtype
    again = {
        "model": arguments["model"],
        "task": report.task,
        "method": report.method,
        "seq_len": training["max_length"],
        "micro_batch": training["per_device_train_batch_size"],
        "gradient_accumulation_steps": training["gradient_accumulation_steps"],
        "optimizer": training["optim"],
        "dtype": dtype,
        "mixed_precision": training["bf16"] or training["fp16"],
        "gpu": arguments.get("gpu"),
    }
    if report.method != "full":
        again |= {
            "lora_rank": report.peft["r"],
            "target_modules": report.peft["target_modules"],
        }
    elif report.task == "dpo":
        again["precompute_ref_log_probs"] = True
    again = estimate_vram(VramRequest(**again)).model_dump()
    assert again | report.vram.model_dump() == again


def test_the_next_step_is_a_launch_that_takes_what_was_suggested():
    step = suggest(gpu="RTX 4090").next_steps[0]
    assert step.tool == "launch_sft"
    assert step.arguments["peft"]["r"] == 16
    # What is named stays: the launch would choose none of these by the memory of its card.
    chosen = {"bf16", "fp16", "model_init_kwargs", "optim", "gradient_checkpointing"}
    chosen |= {"per_device_train_batch_size", "gradient_accumulation_steps", "packing"}
    assert not chosen & set(step.arguments["training"])
    assert suggest(goal="preference").next_steps[0].tool == "launch_dpo"


# --- a named dataset ------------------------------------------------------------------------------


def chats(path, answers):
    rows = [
        {"messages": [{"role": "user", "content": f"Question {i}"},
                      {"role": "assistant", "content": answer}]}
        for i, answer in enumerate(answers)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("answer", "goal", "rank"),
    [
        (lambda i: ("refund", "question")[i % 2], "classification", 16),
        (lambda i: json.dumps({"label": ("refund", "question")[i % 2]}), "classification", 16),
        (lambda i: json.dumps({"order": i}), "extraction", 16),
        (lambda i: f"It is answer {i}.", "instruction", 16),
    ],
)
def test_a_named_dataset_gives_goal_rows_and_the_next_call(workspace, answer, goal, rank):
    chats(workspace / "train.jsonl", [answer(i) for i in range(300)])
    report = suggest(dataset="train.jsonl")
    (read,) = [r for r in report.reasons if r.id == "dataset_read"]
    assert "300 rows, 30 of them held out" in read.observed
    assert [r.observed for r in report.reasons if "rank by goal" in r.rule] == [goal]
    assert report.peft["r"] == rank
    # 270 rows in batches of 4.
    assert report.estimated_steps == report.training["num_train_epochs"] * 68
    assert report.next_steps[0].arguments["dataset"] == "train.jsonl"


def test_a_dataset_that_a_launch_would_refuse_is_to_be_audited_first(workspace):
    answers = [f"It is answer {i}." for i in range(300)]
    chats(workspace / "train.jsonl", answers)
    assert [step.tool for step in suggest(dataset="train.jsonl").next_steps] == ["launch_sft"]
    chats(workspace / "train.jsonl", [*answers, "The key is AKIAIOSFODNN7QXAMPLE."])
    report = suggest(dataset="train.jsonl")
    assert [r.observed for r in report.reasons if r.id == "audit_errors"] == ["secret: 1"]
    assert [step.tool for step in report.next_steps] == ["audit_dataset", "launch_sft"]
    assert report.next_steps[0].arguments == {"path": "train.jsonl"}
    rows = [json.loads(line) for line in (workspace / "train.jsonl").read_text().splitlines()]
    marked = [row | {"verdict": ("good", "bad")[at % 2]} for at, row in enumerate(rows[:300])]
    (workspace / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in marked))
    report = suggest(dataset="train.jsonl")
    found = [r.observed for r in report.reasons if r.id == "audit_errors"]
    assert found == ["undecided_columns: 1"]


def test_a_goal_that_the_dataset_cannot_serve_is_refused(workspace):
    chats(workspace / "train.jsonl", ["yes"] * 10)
    with pytest.raises(BadInput, match="holds examples with one answer"):
        suggest(dataset="train.jsonl", goal="preference")
    pair = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
    (workspace / "pairs.jsonl").write_text((json.dumps(pair) + "\n") * 4)
    with pytest.raises(BadInput, match="holds preferences"):
        suggest(dataset="pairs.jsonl", goal="style")
    assert suggest(dataset="pairs.jsonl").task == "dpo"
