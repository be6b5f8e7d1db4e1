"""Evaluations use no more memory than there is: a few rows, halves, one side at a time."""

import shutil

import pytest
import torch
from transformers import LlamaForCausalLM

from benchmarks.small_models import untrained_llama
from ft_tools.errors import Refused
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.worker import loaded_models
from ft_tools.evaluation.worker.decoding import decode
from ft_tools.models.machine import Machine
from ft_tools.models.placement import needed_bytes
from ft_tools.models.size import size_of_files
from tests.tiny.evaluating import (
    IN_FLOAT32,
    LIBRARY_WARNINGS,
    damage,
    plan_of,
    rows,
    run_here,
    write,
    writers_of,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]


def test_numbers_that_overflow_are_no_measurement():
    model = untrained_llama().eval()
    model.model.norm.weight.data.fill_(float("inf"))
    tokens = torch.randint(3, 500, (1, 9))
    with pytest.raises(Refused, match="not finite"):
        decode(model, tokens.tolist(), 2, [0], None)


# cuBLAS has words of its own and no type.
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
OTHER = RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), CUBLAS, OTHER])
def test_batches_are_halved_when_memory_runs_out_and_for_no_other_error(
    workspace, taught_model, monkeypatch, error
):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(9))
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", max_new_tokens=4, general_ability=False,
        metrics=["exact_match"],
    )  # fmt: skip
    run_dir, expected = run_here(workspace, request)
    shutil.rmtree(run_dir)
    forward, sizes = LlamaForCausalLM.forward, []

    def scarce(model, *more, input_ids, **named):
        sizes.append(len(input_ids))
        if len(input_ids) > 3:
            raise error
        return forward(model, *more, input_ids=input_ids, **named)

    monkeypatch.setattr(LlamaForCausalLM, "forward", scarce)
    if error is OTHER:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            run_here(workspace, request)
        return
    found = run_here(workspace, request)[1]
    assert max(sizes) > 3
    for one, other in zip(found.comparisons, expected.comparisons, strict=True):
        assert one.tuned == pytest.approx(other.tuned, rel=1e-4)


def test_two_sides_that_do_not_fit_together_are_asked_one_after_the_other(
    taught_model, tmp_path, monkeypatch
):
    other = tmp_path / "other"
    damage(taught_model, other, 0.5)
    files = plan_of(taught_model), plan_of(other)
    expected = [w.generate(["Where"], 6) for w in writers_of(IN_FLOAT32, *files)]
    needed = needed_bytes(size_of_files(other), "float32")
    writers = writers_of(IN_FLOAT32, *files)

    def loaded():
        return [one.weights.is_loaded for one in writers]

    def room_for_one(device="auto"):
        return Machine((), 2**30 + int(needed * (1.5 - sum(loaded()))))

    monkeypatch.setattr(loaded_models, "free_machine", room_for_one)
    for _ in range(2):
        for i, writer in enumerate(writers):
            assert writer.generate(["Where"], 6) == expected[i]
            assert sum(loaded()) == 1
    monkeypatch.setattr(loaded_models, "free_machine", lambda device="auto": Machine((), 2**29))
    writers[0].weights.free()
    with pytest.raises(Refused, match="evaluating m takes at least"):
        writers[0].generate(["Where"], 6)
