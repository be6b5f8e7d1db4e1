"""Where an evaluation loads its models, and how long it would take, on machines made up."""

import json
import subprocess
import sys

import pytest

from ft_tools.errors import Refused
from ft_tools.evaluation.estimates import seconds_per_token
from ft_tools.evaluation.plan import EvaluatePlan
from ft_tools.evaluation.systems.models import LoadPlan, decide, quantization_of
from ft_tools.evaluation.tool import slots_of
from ft_tools.models.machine import Card, Machine
from ft_tools.models.resolve import ModelSource
from ft_tools.models.size import size_of
from ft_tools.runs.hardware import devices
from ft_tools.runs.state.records import RunInfo
from tests.unit.test_models_placement import fake_driver

GIB = 2**30
NF4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}


def machine(*cards, ram=64):
    return Machine(tuple(Card("card", gib * GIB) for gib in cards), ram * GIB)


def sized(name):
    return size_of(ModelSource(name=name, kind="hub"))


@pytest.mark.parametrize(
    ("name", "fake", "trained", "expected"),
    [
        ("meta-llama/Llama-3.1-8B", machine(24), None, (False, "bfloat16", False)),
        ("meta-llama/Llama-3.1-8B", machine(), None, (True, "float32", False)),
        ("meta-llama/Llama-3.1-8B", machine(ram=24), None, (True, "bfloat16", False)),
        # 32.8 B trained with QLoRA on one card of 24 GB: 67 GiB in bfloat16, 20 in 4 bits.
        ("Qwen/Qwen3-32B", machine(24), NF4, (False, "bfloat16", True)),
        ("Qwen/Qwen3-32B", machine(48, 48), NF4, (False, "bfloat16", False)),
    ],
)
def test_models_are_loaded_in_16_bits_where_that_fits_else_as_trained(
    name, fake, trained, expected
):
    plan = decide(sized(name), fake, trained)
    assert (plan.on_cpu, plan.dtype, plan.four_bit) == expected
    assert (plan.quantization == NF4) is plan.four_bit
    with pytest.raises(Refused, match=r"evaluating takes at least 144\.\d GiB"):
        decide(sized("meta-llama/Llama-3.1-70B"), machine(24), None)


@pytest.mark.parametrize(
    ("name", "trained", "expected"),
    [
        # 1.2 B: 5.1 GiB in float32, in which no model overflows.
        ("meta-llama/Llama-3.2-1B", None, ("float32", False)),
        # 4.0 B: 16.5 GiB in float32, 8.2 in 16 bits.
        ("Qwen/Qwen3-4B", None, ("float16", False)),
        ("meta-llama/Llama-3.1-8B", NF4, ("float16", True)),
    ],
)
def test_a_card_without_bfloat16_evaluates_in_numbers_that_it_computes_in(name, trained, expected):
    old = Machine((Card("Tesla T4", 14 * GIB, has_bfloat16=False),), 12 * GIB)
    plan = decide(sized(name), old, trained)
    assert (plan.place, (plan.dtype, plan.four_bit)) == ("cuda:0", expected)
    # The control: the same memory on a newer card.
    new = decide(sized(name), Machine((Card("A2", 14 * GIB),), 12 * GIB), trained)
    assert (new.place, new.dtype) == ("cuda:0", "bfloat16")


def test_an_adapter_remembers_how_its_base_was_loaded(workspace):
    run_dir = workspace / "runs" / "sft-0123456789abcdef"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=0.0)
    (run_dir / "run.json").write_text(info.model_dump_json())
    (run_dir / "plan.json").write_text(json.dumps({"quantization": NF4}))
    source = ModelSource(name="x", kind="adapter", adapter="a", run_id=run_dir.name)
    assert quantization_of(source) == NF4
    assert quantization_of(source.model_copy(update={"kind": "folder"})) is None


def test_time_is_that_of_the_device(tmp_path, monkeypatch):
    weights = 16 * 10**9
    on_cpu = LoadPlan(place="cpu", dtype="float32", num_bytes=0)
    on_gpu = LoadPlan(place="cuda:0", dtype="bfloat16", num_bytes=0)
    # Two cores: half a second for a token of an 8B, 41 hours for 256 tokens of 1,150 examples.
    assert seconds_per_token(weights, 32, on_cpu) == pytest.approx(0.56)
    fake_driver(tmp_path, monkeypatch, "NVIDIA A100-SXM4-80GB, 81920, 8.0")
    # 312 TFLOPS over 200 operations per byte: 1.56 TB/s, so 10 ms, less than a step's own 30.
    assert seconds_per_token(weights, 32, on_gpu) == pytest.approx(0.03 / 32)
    assert seconds_per_token(10 * weights, 1, on_gpu) == pytest.approx(160e9 / 1.56e12)
    fake_driver(tmp_path, monkeypatch, "Unheard-of 9000, 81920, 8.0")
    assert seconds_per_token(weights, 32, on_gpu) is None
    assert len(devices.find_cards()) == 1
    # 65 TFLOPS of float16 over the same 200: 325 GB/s.
    fake_driver(tmp_path, monkeypatch, "Tesla T4, 15360, 7.5")
    assert seconds_per_token(weights, 1, on_gpu) == pytest.approx(16e9 / 0.325e12)


def test_an_evaluation_over_several_cards_takes_a_slot_of_each(tmp_path, monkeypatch):
    card = "NVIDIA A100-SXM4-80GB, 81920, 8.0"
    fake_driver(tmp_path, monkeypatch, card, card)
    device = devices.find_device("auto")

    def slots(place):
        loading = LoadPlan(place=place, dtype="bfloat16", num_bytes=0)
        return slots_of(EvaluatePlan.model_construct(loading=loading), device)

    assert slots("auto") == ("cuda", (["GPU-0", "GPU-1"], 2))
    assert slots("cuda:0")[1][1] == 1
    assert slots("cpu") == ("cpu", ([], 1))


def test_an_evaluation_without_a_model_imports_no_library_of_models():
    probe = "import sys, ft_tools.evaluation.worker.evaluate as _; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True)
    assert not {"torch", "transformers", "peft", "llama_cpp"} & set(done.stdout.split())
