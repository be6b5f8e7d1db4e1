"""What a Mac is found to be, with the branches of macOS forced on this machine."""

import json
import platform
import sys

import pytest

from ft_tools.errors import BadInput
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems import models as on_mlx
from ft_tools.models import mlx
from ft_tools.models.resolve import ModelSource
from ft_tools.training.plan import plan_sft
from tests.unit.launches import sft


def put(folder, name, script):
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)


@pytest.fixture
def on_a_mac(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Apple M4 Max\\n68719476736", "M4 Max 64GB"),
        ("Apple M1\\n8589934592", "M1 8GB"),
        ("Intel(R) Core(TM) i7\\n17179869184", ""),
        ("", ""),
    ],
)
def test_a_mac_says_what_it_is(on_a_mac, said, name):
    put(on_a_mac, "sysctl", f"printf '{said}'")
    assert mlx.mac_name() == name


@pytest.fixture
def model(tmp_path):
    def put_model(config, adapter=None):
        for name, content in (("config.json", config), ("adapter_config.json", adapter or {})):
            (tmp_path / name).write_text(json.dumps(content))
        place = str(tmp_path)
        return ModelSource(kind="folder", name="m", path=place, adapter=place if adapter else None)

    return put_model


@pytest.mark.skipif(not mlx.is_installed(), reason="the extra mlx is not installed")
def test_a_mac_evaluates_with_mlx_or_says_why_its_gpu_is_idle(on_a_mac, model):
    request = EvaluateRequest(model="m", dataset="held.jsonl")
    llama = {"model_type": "llama"}
    assert on_mlx.chooses_mlx(request, [model(llama, {"peft_type": "LORA"})]) == (True, "")
    assert on_mlx.chooses_mlx(request, []) == (False, "")
    for config, adapter, reason in (
        ({"model_type": "ufo"}, None, "no model type 'ufo'"),
        (llama | {"text_config": {}}, None, "more than text"),
        (llama | {"quantization_config": {}}, None, "quantized already"),
        (llama, {"peft_type": "IA3"}, "type IA3"),
        (llama, {"bias": "all"}, "with bias"),
        (llama, {"modules_to_save": ["lm_head"]}, "modules_to_save"),
    ):
        source = model(config, adapter)
        uses_mlx, idle = on_mlx.chooses_mlx(request, [source])
        assert not uses_mlx
        assert reason in idle
        # What was asked for is refused, not replaced in silence.
        with pytest.raises(BadInput, match=reason):
            on_mlx.chooses_mlx(request.model_copy(update={"device": "mlx"}), [source])


@pytest.mark.skipif(not mlx.is_installed(), reason="the extra mlx is not installed")
def test_a_launch_on_a_mac_holds_bfloat16_and_recomputes_blocks_by_default(files, on_a_mac):
    found = plan_sft(sft())
    assert (found.engine, found.weights_dtype) == ("mlx", "bfloat16")
    assert found.training["gradient_checkpointing"] is True
    asked = sft(training={"num_train_epochs": 1, "gradient_checkpointing": False})
    assert plan_sft(asked).training["gradient_checkpointing"] is False
