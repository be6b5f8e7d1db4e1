"""Evaluations use no more memory than there is: a few rows, halves, one side at a time."""

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from benchmarks.small_models import untrained_llama
from ft_tools.errors import Refused
from ft_tools.evaluation.worker import likelihoods, weights
from ft_tools.evaluation.worker.transformers_writer import token_losses
from ft_tools.evaluation.worker.writer import Likelihood, Output, generate_all
from ft_tools.models.machine import Machine
from ft_tools.models.placement import needed_bytes
from ft_tools.models.size import size_of_files
from tests.tiny.evaluating import IN_FLOAT32, LIBRARY_WARNINGS, damage, plan_of, writers_of

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]

SMALL = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 512,
         "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "soft-capped"])
def test_losses_of_a_few_rows_at_a_time_are_the_losses(kind, monkeypatch):
    torch.manual_seed(0)
    model = untrained_llama() if kind == "llama" else Gemma2ForCausalLM(Gemma2Config(**SMALL))
    monkeypatch.setattr(
        "ft_tools.evaluation.worker.transformers_writer.LOGIT_BYTES", 4 * 512 * 13 * 2
    )
    tokens = torch.randint(3, 500, (3, 17))
    mask = torch.ones_like(tokens)
    mask[1, 9:] = 0
    with torch.inference_mode():
        logits = model.eval()(input_ids=tokens, attention_mask=mask).logits
    flat = torch.nn.functional.cross_entropy(
        logits[:, 4:-1].flatten(0, 1), tokens[:, 5:].flatten(), reduction="none"
    ).view(3, 12)
    found = token_losses(model, tokens, mask, 5)
    kept = mask[:, 5:].bool()
    assert torch.allclose(found[kept], flat[kept].double(), atol=1e-5)


FULL = torch.OutOfMemoryError("full")
# cuBLAS and the CPU's allocator have words of their own and no type.
CUBLAS = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`")
IN_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 GB")
OTHER = RuntimeError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize("error", [FULL, CUBLAS, IN_MEMORY])
def test_a_batch_is_halved_for_good_when_memory_runs_out(error):
    asked = []

    class Narrow:
        def likelihoods(self, texts):
            asked.append(len(texts))
            if len(texts) > 3:
                raise error
            return [Likelihood(float(len(whole)), 1, 1) for _, whole in texts]

    class Nobody:
        def progress(self, done, total):
            pass

    class State:
        session = Nobody()

        def check_stop(self):
            pass

    texts = [("", "a" * n) for n in range(1, 12)]
    found = likelihoods.measure(State(), Narrow(), texts)
    assert [one.nats for one in found] == [float(n) for n in range(1, 12)]
    assert asked == [8, 4, 2, 2, 2, 2, 2, 1]


@pytest.mark.parametrize(
    ("error", "sizes"),
    [(FULL, [4, 2, 2]), (CUBLAS, [4, 2, 2]), (IN_MEMORY, [4, 2, 2]), (OTHER, [4])],
)
def test_answers_are_written_in_halves_when_memory_runs_out_and_for_no_other_error(error, sizes):
    asked = []

    class Narrow:
        def generate(self, prompts, max_new_tokens, grammar=None):
            asked.append(len(prompts))
            if len(prompts) > 2:
                raise error
            return [Output(prompt, 1, True) for prompt in prompts]

    prompts = ["dddd", "ccc", "bb", "a"]
    if error is OTHER:
        with pytest.raises(RuntimeError, match="illegal memory access"):
            list(generate_all(Narrow(), prompts, 5, 4))
    else:
        ((_, outputs, _),) = generate_all(Narrow(), prompts, 5, 4)
        assert [output.text for output in outputs] == prompts
    assert asked == sizes


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
        return [one.weights._model is not None for one in writers]

    def room_for_one(device="auto"):
        return Machine((), 2**30 + int(needed * (1.5 - sum(loaded()))))

    monkeypatch.setattr(weights, "free_machine", room_for_one)
    for _ in range(2):
        for i, writer in enumerate(writers):
            assert writer.generate(["Where"], 6) == expected[i]
            assert sum(loaded()) == 1
    monkeypatch.setattr(weights, "free_machine", lambda device="auto": Machine((), 2**29))
    writers[0].weights.free()
    with pytest.raises(Refused, match="evaluating m takes at least"):
        writers[0].generate(["Where"], 6)
