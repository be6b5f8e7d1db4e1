"""What a plan says of a GPU that this machine could not use at the first step."""

import json

import pytest

from ft_tools.errors import Refused
from ft_tools.runs.hardware import devices
from ft_tools.runs.processes.endings import is_out_of_memory
from ft_tools.training import preflight
from ft_tools.training.tool import launch_sft
from tests.unit.test_training_launch import CONFIG, files, sft

__all__ = ["files"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Give a cache in which the torch of this machine is asked once what it was built for."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def a100(tmp_path, cache, monkeypatch):
    """Put an A100 into the machine, of which a program uses 12 GiB; a C compiler is on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    row = "0, GPU-1a, NVIDIA A100-SXM4-80GB, 81920, 12288, 8.0, 535.54.03, Disabled"
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\necho '{row}'\n")
    (folder / "cc").write_text("#!/bin/sh\n")
    for name in ("nvidia-smi", "cc"):
        (folder / name).chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setenv(devices.FILES_VARIABLE, str(tmp_path / "root"))
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(cache))


@pytest.fixture
def on_a_gpu(files, a100, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return files


def test_a_torch_that_cannot_use_the_card_is_missing_unless_nothing_is_tried(on_a_gpu, monkeypatch):
    """The torch of this machine is built for the CPU; the preflight tries it."""
    monkeypatch.setenv(preflight.VARIABLE, "1")
    monkeypatch.setattr(preflight, "SECONDS", 120.0)
    shown = launch_sft(sft())
    (missing,) = shown.plan["missing"]
    assert missing.startswith("preflight_device: torch ")
    assert "without CUDA cannot use NVIDIA A100" in missing
    assert missing in shown.warnings
    skipped = launch_sft(sft(preflight=False))
    assert skipped.plan["missing"] == []
    assert any(warning.startswith("preflight_skipped") for warning in skipped.warnings)


def test_memory_that_others_use_is_in_the_plan_and_not_in_its_hash(on_a_gpu, tmp_path):
    """Another run makes the micro-batch smaller; the plan that was confirmed stays the same."""
    (on_a_gpu / "instruct" / "config.json").write_text(
        json.dumps(CONFIG | {"intermediate_size": 131_072})
    )
    card = tmp_path / "bin" / "nvidia-smi"
    alone = launch_sft(sft())
    card.write_text(card.read_text().replace("12288", "80400"))
    beside = launch_sft(sft())
    sizes = [one.plan["training"]["per_device_train_batch_size"] for one in (alone, beside)]
    assert [one.plan["estimate"]["used_by_others_gib"] for one in (alone, beside)] == [12.0, 78.5]
    assert (sizes, beside.plan_hash) == ([4, 1], alone.plan_hash)


def test_a_confirmed_plan_that_no_longer_fits_is_refused_by_that_rule(on_a_gpu, tmp_path):
    large = CONFIG | {"vocab_size": 5_000_000}
    (on_a_gpu / "instruct" / "config.json").write_text(json.dumps(large))
    shown = launch_sft(sft())
    card = tmp_path / "bin" / "nvidia-smi"
    card.write_text(card.read_text().replace("12288", "81800"))
    with pytest.raises(Refused, match="does_not_fit"):
        launch_sft(sft(confirm=shown.plan_hash))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (type("AcceleratorError", (RuntimeError,), {})("CUDA error: out of memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("Error out of memory at line 380 in file ops.cu"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 GB"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("full"), True),
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), False),
        (ValueError("memory"), False),
    ],
)
def test_memory_that_ran_out_is_known_by_the_words_of_every_library(error, expected):
    assert is_out_of_memory(error) == expected
    wrapped = ValueError("a step failed")
    wrapped.__cause__ = error
    assert is_out_of_memory(wrapped) == expected
