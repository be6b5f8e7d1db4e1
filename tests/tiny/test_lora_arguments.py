"""What suggest_lora_config returns is what the installed PEFT, bitsandbytes and TRL take."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from trl import DPOConfig, SFTConfig

from ft_tools.lora.request import LoraRequest
from ft_tools.training.suggestion import suggest_lora_config

pytestmark = [
    pytest.mark.tiny,
    # TRL's own default raises it; the new name is not in TRL's configuration yet.
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated"),
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
CASES = [
    {"model": "meta-llama/Llama-3.1-8B", "gpu": "RTX 3060", "num_examples": 400},
    {"model": "Qwen/Qwen2.5-1.5B", "goal": "reasoning", "method": "full", "gpu_memory_gib": 80},
    {"model": "google/gemma-2-2b", "goal": "preference", "method": "full", "gpu": "H100-80GB"},
]


def case_id(case):
    return "-".join(str(value).split("/")[-1] for value in case.values())


@pytest.fixture(params=CASES, ids=case_id)
def report(request):
    return suggest_lora_config(LoraRequest(**request.param))


def test_the_training_arguments_construct_trls_config(report, tmp_path):
    config_type = DPOConfig if report.task == "dpo" else SFTConfig
    # This machine may have no GPU; nothing else is changed.
    on_cpu = {"use_cpu": True} if not torch.cuda.is_available() else {}
    config = config_type(output_dir=str(tmp_path), **report.training, **on_cpu)
    for name, value in report.training.items():
        assert getattr(config, name) == value, name
    assert (report.peft == {}) == (report.method == "full")
    if report.peft:
        assert LoraConfig(**report.peft).r == report.peft["r"]
    if report.quantization:
        assert BitsAndBytesConfig(**report.quantization).bnb_4bit_compute_dtype == torch.bfloat16


def test_the_adapter_fits_a_real_model_and_trains_as_many_parameters(workspace, tiny_model_in):
    from_folder = suggest_lora_config(LoraRequest(model=tiny_model_in, goal="style"))
    model = AutoModelForCausalLM.from_pretrained(workspace / tiny_model_in)
    total = sum(p.numel() for p in model.parameters())
    adapted = get_peft_model(model, LoraConfig(**from_folder.peft))
    trainable = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert (from_folder.total_params, from_folder.trainable_params) == (total, trainable)
    assert from_folder.trainable_fraction == pytest.approx(
        trainable / (total + trainable), abs=1e-6
    )
