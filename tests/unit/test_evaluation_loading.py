"""Where an evaluation loads its models, and how long it would take, on machines made up."""

import subprocess
import sys

import pytest

from ft_tools.errors import Refused
from ft_tools.evaluation.systems.models import decide, quantization_of
from ft_tools.models.machine import Card, Machine
from ft_tools.models.resolve import ModelSource
from ft_tools.models.size import size_of
from tests.made_runs import made_run

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
        # Memory would hold 16 bits, in which a processor takes hours.
        ("Qwen/Qwen3-32B", machine(24, ram=128), NF4, (False, "bfloat16", True)),
        ("Qwen/Qwen3-32B", machine(ram=128), NF4, (True, "bfloat16", False)),
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


def test_an_adapter_remembers_how_its_base_was_loaded(workspace):
    run_dir = made_run("sft-0123456789abcdef", files={"plan": {"quantization": NF4}})
    source = ModelSource(name="x", kind="adapter", adapter="a", run_id=run_dir.name)
    assert quantization_of(source) == NF4
    assert quantization_of(source.model_copy(update={"kind": "folder"})) is None


def test_an_evaluation_without_a_model_imports_no_library_of_models():
    probe = "import sys, ft_tools.evaluation.worker.evaluate as _; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, check=True, text=True)
    assert not {"torch", "transformers", "peft", "llama_cpp"} & set(done.stdout.split())
