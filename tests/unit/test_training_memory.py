"""What a run gets of a GPU beside other programs, and how memory that ran out is known."""

import json

import pytest

from ft_tools.errors import Refused
from ft_tools.runs.processes.endings import is_out_of_memory
from ft_tools.training.tool import launch_sft
from tests.unit.launches import CONFIG, sft


@pytest.fixture
def others_use(files, smi):
    """Put an A100 into the machine, of which a program uses 12 GiB, or as many MiB as are given."""

    def used(mib):
        smi(f"0, GPU-1a, NVIDIA A100-SXM4-80GB, 81920, {mib}, 8.0, 535.54.03, Disabled")

    used(12288)
    return used


def test_memory_that_others_use_is_in_the_plan_and_not_in_its_hash(others_use, files):
    """Another run makes the micro-batch smaller; the plan that was confirmed stays the same."""
    (files / "instruct" / "config.json").write_text(
        json.dumps(CONFIG | {"intermediate_size": 131_072})
    )
    alone = launch_sft(sft())
    others_use(80400)
    beside = launch_sft(sft())
    sizes = [one.plan["training"]["per_device_train_batch_size"] for one in (alone, beside)]
    assert [one.plan["estimate"]["used_by_others_gib"] for one in (alone, beside)] == [12.0, 78.5]
    assert (sizes, beside.plan_hash) == ([4, 1], alone.plan_hash)


def test_a_confirmed_plan_that_no_longer_fits_is_refused_by_that_rule(others_use, files):
    large = CONFIG | {"vocab_size": 5_000_000}
    (files / "instruct" / "config.json").write_text(json.dumps(large))
    shown = launch_sft(sft())
    others_use(81800)
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
