"""estimate_vram: every refusal, every threshold at its edge, and what must hold of any answer."""

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ft_tools.lora.request import LoraRequest
from ft_tools.memory import changes_to_fit
from ft_tools.memory.bounds import usable_gib
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.shape_of_model import shape_of

LLAMA = "meta-llama/Meta-Llama-3-8B"
GIB = 2**30


def estimated(**arguments):
    return estimate_vram(VramRequest(**({"model": LLAMA} | arguments)))


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"method": "full", "lora_rank": 8}, "remove one"),
        ({"method": "full", "target_modules": "all-linear"}, "remove one"),
        ({"method": "full", "lora_dropout": 0.1}, "'lora' or 'qlora'"),
        ({"method": "lora", "quantization": "nf4"}, "'qlora'"),
        ({"method": "lora", "kbit_prepared": True}, "'qlora'"),
        ({"sharding": "fsdp"}, "num_gpus >= 2"),
        ({"num_gpus": 4}, "'fsdp'"),
        ({"gpu": "T4", "gpu_memory_gib": 16}, "not both"),
        ({"precompute_ref_log_probs": True}, "'dpo'"),
        ({"generated": 32}, "'grpo'"),
        ({"task": "grpo", "seq_len": 512, "prompt_len": 512}, "less than seq_len"),
        ({"target_modules": ["q_proj", "lm_head"]}, "all-linear"),
        ({"loss_head": "trl_fused", "trl_version": "1.14"}, "1.15"),
        ({"seq_len": 0}, "greater than or equal to 1"),
    ],
)
def test_a_contradiction_is_refused_with_its_cure(arguments, cure):
    with pytest.raises(ValidationError, match=cure):
        VramRequest(**({"model": LLAMA} | arguments))


@pytest.mark.parametrize("gpu", [24, "24", "24 GiB"])
def test_a_number_stands_for_a_gpu_of_so_many_gib(gpu):
    named = VramRequest(model=LLAMA, options={"gpu": gpu})
    assert named == VramRequest(model=LLAMA, gpu=gpu)
    assert estimate_vram(named).usable_gib == usable_gib(None, 24)
    assert LoraRequest(model=LLAMA, gpu=gpu).gpu_memory_gib == 24


# --- thresholds, at their edges -------------------------------------------------------------------


@pytest.mark.parametrize("head", ["fused_linear", "full_logits"])
def test_fits_goes_by_what_the_process_takes(head):
    """An RTX 3060 was called a fit for a process that may take more than the card has."""
    seen = set()
    for memory in range(8, 40):
        report = estimated(gpu_memory_gib=memory, loss_head=head)
        expected = "no"
        if report.process_high_gib <= report.usable_gib:
            expected = "yes"
        elif report.peak_allocated_gib + 0.5 <= report.usable_gib:  # the CUDA context
            expected = "tight"
        assert report.fits == expected
        seen.add(report.fits)
    assert seen == {"yes", "tight", "no"}
    assert estimated().fits == "unknown"


# --- what attention is asked to hold --------------------------------------------------------------


@pytest.mark.parametrize(("micro_batch", "seq_len"), [(4, 2048), (4, 4096), (4, 8192)])
def test_packed_rows_under_sdpa_hold_a_mask_of_all_their_positions(micro_batch, seq_len):
    def mask(attention, **more):
        report = estimated(
            micro_batch=micro_batch,
            seq_len=seq_len,
            packed_batches=True,
            attention=attention,
            **more,
        )
        return report.peak_allocated_gib, report.components.get("attention_mask", 0)

    # A byte for each pair of positions, and two in the copy that a call of SDPA makes.
    pairs = (micro_batch * seq_len) ** 2 / GIB
    assert mask("sdpa")[0] - mask("flash")[0] >= 2.9 * pairs
    # Without recomputation each of the 32 blocks keeps its copy.
    kept = [mask(name, gradient_checkpointing=False)[1] for name in ("sdpa", "flash")]
    assert kept == [pytest.approx(65 * pairs, rel=1e-3), 0]


def test_experts_are_quantized_before_transformers_5_only():
    mixtral = {"model": "mistralai/Mixtral-8x7B-v0.1", "method": "qlora", "lora_rank": 16}
    mixtral |= {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"]}
    old, new = (estimated(**mixtral, transformers_version=at) for at in ("4.57", "5.0"))
    assert old.components["base_weights"] < 24 < 80 < new.components["base_weights"]
    assert any("experts stay in 16 bits" in text for text in new.assumptions)
    assert not any("experts stay" in text for text in old.assumptions)


# --- published sizes of single parts --------------------------------------------------------------


def test_pure_bf16_full_fine_tuning_takes_ten_bytes_with_foreach_and_eight_fused():
    # Measured on Mistral 7B: 67.46 GiB, fms-acceleration a100_80gb.csv:8.
    base = {"model": "mistralai/Mistral-7B-v0.1", "method": "full", "seq_len": 128}
    params = shape_of("mistralai/Mistral-7B-v0.1").total_params
    for optimizer, size in (("adamw_torch", 10), ("adamw_torch_fused", 8)):
        report = estimated(**base, optimizer=optimizer)
        assert report.phases["optimizer"] == pytest.approx(size * params / GIB, abs=0.05)


def test_nf4_weights_are_those_measured_at_rest():
    # 4.0107 GiB at rest with fp32 adapters and their moments, a100_80gb.csv:76.
    names = ["q_proj", "k_proj", "v_proj", "o_proj"]
    asked = {"model": "mistralai/Mistral-7B-v0.1", "method": "qlora", "trl_version": None}
    parts = estimated(**asked, target_modules=names).components
    at_rest = ("base_weights", "adapter_weights", "optimizer_states", "workspace")
    assert sum(parts[name] for name in at_rest) == pytest.approx(4.0107, rel=0.002)


def test_blocks_that_recompute_nothing_keep_autocasts_copies_of_fp32_weights():
    asked = {"model": "meta-llama/Llama-3.2-1B", "dtype": "float32", "seq_len": 512}
    # 16 blocks of 60,817,408 weights in 16 bits: a trace of the real class has 7.580 GiB in all.
    kept = estimated(**asked, gradient_checkpointing=False)
    assert kept.components["saved_weight_copies"] == pytest.approx(1.8125, abs=1e-4)
    assert kept.peak_allocated_gib == pytest.approx(7.580, rel=0.005)
    assert "saved_weight_copies" not in estimated(**asked).components
    assert (
        "saved_weight_copies"
        not in estimated(**asked | {"dtype": "bfloat16"}, gradient_checkpointing=False).components
    )


def test_a_full_dpo_run_holds_a_reference_unless_it_is_computed_before():
    with_reference, without = (
        estimated(task="dpo", method="full", precompute_ref_log_probs=before)
        for before in (False, True)
    )
    weights = 2 * shape_of(LLAMA).total_params / GIB
    difference = with_reference.peak_allocated_gib - without.peak_allocated_gib
    assert difference == pytest.approx(weights, abs=0.01)
    assert "reference_weights" not in estimated(task="dpo").components
    # FSDP gathers it whole on each GPU.
    asked = {"task": "dpo", "method": "full", "num_gpus": 8, "sharding": "fsdp"}
    assert estimated(**asked).components["reference_weights"] > weights


# --- what holds of any estimate -------------------------------------------------------------------

SETUPS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(
            [LLAMA, "Qwen/Qwen3-0.6B", "microsoft/phi-2", "mistralai/Mixtral-8x7B-v0.1"]
        ),
        "method": st.sampled_from(["full", "lora", "qlora"]),
        "task": st.sampled_from(["sft", "dpo"]),
        "seq_len": st.integers(1, 32768),
        "micro_batch": st.integers(1, 64),
        "gradient_checkpointing": st.booleans(),
        "attention": st.sampled_from(["flash", "sdpa", "eager"]),
        "padded_batches": st.booleans(),
        "optimizer": st.sampled_from(["adamw_torch", "adamw_torch_fused", "adamw_8bit"]),
        "loss_head": st.sampled_from(["auto", "full_logits", "fused_logits", "fused_linear"]),
        "gpu": st.sampled_from(["T4", "RTX 4090", "A100-80GB", "H200"]),
    }
)


@settings(max_examples=150, deadline=None)
@given(SETUPS)
def test_every_report_is_consistent(arguments):
    report = estimated(**arguments)
    assert report.peak_allocated_gib == max(report.phases.values())
    assert report.peak_allocated_gib == report.phases[report.dominant_phase]
    assert sum(report.components.values()) == pytest.approx(report.peak_allocated_gib, abs=0.002)
    low, high = report.peak_allocated_low_gib, report.peak_allocated_high_gib
    assert low < report.peak_allocated_gib < high
    assert report.process_low_gib <= report.process_high_gib
    assert report.process_high_gib > high


@settings(max_examples=60, deadline=None)
@given(SETUPS, st.sampled_from(["seq_len", "micro_batch"]))
def test_more_tokens_never_take_less(arguments, grown):
    more = arguments | {grown: arguments[grown] + 1}
    smaller, larger = (estimated(**a).peak_allocated_gib for a in (arguments, more))
    assert smaller <= larger


@settings(max_examples=40, deadline=None)
@given(SETUPS)
def test_the_largest_that_fits_fits_and_the_next_does_not(arguments):
    report = estimated(**arguments)
    for key, found, step in (
        ("micro_batch", report.max_micro_batch, 1),
        ("seq_len", report.max_seq_len, changes_to_fit.SEQ_LEN_STEP),
    ):
        if found:
            assert estimated(**arguments | {key: found}).fits == "yes"
        limit = shape_of(arguments["model"]).max_positions if key == "seq_len" else 65_536
        if found + step <= limit:
            assert estimated(**arguments | {key: found + step}).fits != "yes"


@settings(max_examples=60, deadline=None)
@given(SETUPS)
# Without its first two changes, a batch of one saves less than the batch before it.
@example({
    "model": "meta-llama/Meta-Llama-3-8B", "method": "full", "task": "sft", "padded_batches": False,
    "gpu": "RTX 4090", "micro_batch": 40, "gradient_checkpointing": False, "attention": "sdpa",
    "seq_len": 117, "optimizer": "adamw_torch", "loss_head": "full_logits",
})  # fmt: skip
def test_changes_add_up_shrink_the_run_and_are_requests_themselves(arguments):
    report = estimated(**arguments)
    if report.fits == "yes":
        assert report.changes_to_fit == []
        return
    sizes = [report.peak_allocated_gib, *(c.peak_allocated_gib for c in report.changes_to_fit)]
    assert all(after < before for before, after in itertools.pairwise(sizes))
    for change in report.changes_to_fit:
        again = {k: v for k, v in (arguments | change.arguments).items() if v is not None}
        result = estimated(**again)
        assert result.peak_allocated_gib == pytest.approx(change.peak_allocated_gib, abs=0.001)
        assert result.fits == change.fits
    for step in report.next_steps:
        VramRequest(**step.arguments)


def test_what_changes_nothing_that_is_learned_comes_first():
    report = estimated(
        loss_head="full_logits", attention="eager", gradient_checkpointing=False,
        optimizer="adamw_torch", micro_batch=4, gpu="RTX 3090",
    )  # fmt: skip
    changes = [change.arguments for change in report.changes_to_fit]
    assert changes[0] == {"loss_head": "fused_linear"}
    assert changes[-1]["gradient_checkpointing"] is True
    assert "seq_len" not in changes[-1]


def test_experts_alone_are_adapted_where_no_modules_are_named():
    request = VramRequest(
        model="Qwen/Qwen3-30B-A3B", target_modules=(), target_parameters=("experts.down_proj",)
    )
    setup = setup_of(request, shape_of(request.model))
    assert [linear.name for linear in setup.targets] == ["mlp.experts.down_proj"]
    # Rank 16, of 48 layers with 128 experts: from 768 to 2048.
    assert setup.trainable_params == 48 * 128 * 16 * (768 + 2048)


def test_no_change_shards_a_base_that_launches_do_not_shard():
    """launch_* refuses to shard a 4-bit base; the estimate must not advise it."""
    report = estimated(model="meta-llama/Llama-3.1-405B", method="qlora", gpu="RTX 4090")
    for change in report.changes_to_fit:
        asked = {"method": "qlora"} | change.arguments
        assert not (asked.get("num_gpus", 1) > 1 and asked["method"] == "qlora")
    assert report.changes_to_fit[-1].arguments["num_gpus"] > 1


def test_the_step_of_a_grpo_run_is_that_of_sft_after_its_completions_are_written():
    asked = {"task": "grpo", "seq_len": 1024, "generated": 64, "prompt_len": 1}
    report, sft = estimated(**asked), estimated(seq_len=1024)
    assert report.dominant_phase == "generation"
    # 2 x layers x key-value heads x width of a head x 2 bytes: 128 KiB a token.
    assert report.components["kv_cache"] == pytest.approx(8.0, rel=0.02)
    trained = ("loss", "backward_top", "backward_bottom", "optimizer")
    assert {name: report.phases[name] for name in trained} == sft.phases


def test_long_prompts_take_most_while_they_are_read():
    asked = {"model": LLAMA, "task": "grpo", "seq_len": 1024, "generated": 64}
    report = estimated(**asked, prompt_len=900)
    assert report.dominant_phase == "prefill"
    fitting = estimated(**asked, prompt_len=900, gpu_memory_gib=24)
    assert "generated" in fitting.changes_to_fit[-1].arguments


def test_a_grpo_run_that_fits_nowhere_is_told_neither_to_cut_prompts_nor_to_share_gpus():
    sizes = {"seq_len": 2012, "prompt_len": 1500, "gpu_memory_gib": 7}
    asked = VramRequest(model=LLAMA, task="grpo", method="qlora", **sizes)
    changed = estimate_vram(asked).changes_to_fit[-1].arguments
    assert changed["generated"] < asked.generated
    assert not {"seq_len", "num_gpus"} & set(changed)
