"""What a plan says of a GPU that this machine could not use at the first step."""

import json
import os
import sys

import pytest

from ft_tools.errors import BadInput, Missing, Refused
from ft_tools.runs.hardware import devices
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.processes.endings import is_out_of_memory
from ft_tools.training.checks import installation
from ft_tools.training.checks.installation import covers, require_attention
from ft_tools.training.tool import launch_sft
from tests.unit.test_training_launch import CONFIG, files, sft, started

__all__ = ["files"]
CPU = Device(name="cpu", model="2 cores", memory_gib=16.0, precision="float32")
T4 = Device(name="cuda", model="T4", memory_gib=15.0, precision="float16", capability=7.5)
A100 = Device(name="cuda", model="A100", memory_gib=80.0, precision="bfloat16", capability=8.0)
FLASH = {"model_init_kwargs": {"attn_implementation": "flash_attention_2"}}


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


def test_flash_attention_is_refused_where_the_gpu_or_the_package_is_missing(monkeypatch):
    for device, told in ((CPU, "needs a GPU"), (T4, "needs compute capability 8, .* has 7.5")):
        with pytest.raises(BadInput, match=told):
            require_attention(device, FLASH, is_here=False)
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match="flash_attn"):
        require_attention(A100, FLASH, is_here=True)
    # Controls: another machine's packages are not looked at, and sdpa runs everywhere.
    require_attention(A100, FLASH, is_here=False)
    require_attention(T4, {"model_init_kwargs": {"attn_implementation": "sdpa"}}, is_here=True)
    require_attention(T4, {}, is_here=True)


@pytest.mark.parametrize(
    ("architectures", "capability", "expected"),
    [
        ("sm_70 sm_75 sm_80 sm_90", 8.9, True),
        ("sm_70 sm_75 sm_80 sm_90", 6.1, False),
        ("sm_75 sm_80 sm_90", 12.0, False),
        ("sm_75 sm_80 sm_90 compute_90", 12.0, True),
        ("sm_86", 8.0, False),
        ("sm_90a compute_90a", 10.0, False),
        ("sm_100 sm_120", 10.3, True),
    ],
)
def test_a_torch_covers_a_gpu_by_machine_code_or_by_ptx(architectures, capability, expected):
    assert covers(architectures.split(), capability) == expected


def test_a_plan_for_a_gpu_says_what_is_missing_and_a_confirmation_is_refused(on_a_gpu):
    shown = launch_sft(sft())
    assert shown.plan["device"]["name"] == "cuda"
    (missing,) = shown.plan["missing"]
    assert "has no CUDA, so it cannot use NVIDIA A100" in missing
    assert missing in shown.warnings
    with pytest.raises(Missing, match="nothing was started: the installed torch"):
        launch_sft(sft(confirm=shown.plan_hash))
    assert not started()
    # The control: the same plan for the CPU lacks nothing.
    assert launch_sft(sft(backend_options={"device": "cpu"})).plan["missing"] == []


def test_a_missing_compiler_is_said_before_the_first_step(on_a_gpu, tmp_path, monkeypatch):
    (tmp_path / "triton.py").write_text("")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    installation.importlib.invalidate_caches()
    there = installation.missing(A100)
    os.unlink(tmp_path / "bin" / "cc")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert any("there is no C compiler" in problem for problem in installation.missing(A100))
    assert not any("there is no C compiler" in problem for problem in there)


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


def test_a_driver_older_than_torch_s_cuda_is_missing_in_the_plan_with_the_cure(
    on_a_gpu, tmp_path, monkeypatch
):
    build = installation.TorchBuild(version="2.13", cuda="13.0", architectures=["sm_80"])
    monkeypatch.setattr(installation, "torch_build", lambda: build)
    card = tmp_path / "bin" / "nvidia-smi"
    usual = card.read_text()
    for known, is_missing in (("12.4", True), ("13.1", False)):
        banner = f'[ $# = 0 ] && echo "| CUDA Version: {known} |" && exit 0'
        card.write_text(usual.replace("#!/bin/sh", f"#!/bin/sh\n{banner}"))
        found = [line for line in launch_sft(sft()).plan.get("missing", []) if "driver" in line]
        assert bool(found) is is_missing
        assert all("12.4" in line and "13.0" in line for line in found)
