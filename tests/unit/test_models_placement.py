"""Where models fit: real configs against cards and memory that are made up."""

import pytest

from ft_tools.models import placement
from ft_tools.models.machine import Card, Machine
from ft_tools.models.resolve import ModelSource
from ft_tools.models.size import size_of

GIB = 2**30
LLAMA_8B, LLAMA_70B = "meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-70B"
QWEN_30B = "Qwen/Qwen3-30B-A3B"


def size(name):
    return size_of(ModelSource(name=name, kind="hub"))


def machine(*cards, ram=64):
    return Machine(tuple(Card("card", int(gib * GIB)) for gib in cards), ram * GIB)


def where(name, fake, **options):
    found = placement.candidates(size(name), fake, **options)
    return (found[0].device, found[0].dtype) if found else None


def test_a_hub_model_that_is_not_here_has_its_size_from_its_config():
    assert size(LLAMA_8B).num_params == 8_030_261_248
    assert size(QWEN_30B).expert_params == 48 * 128 * 3 * 2048 * 768
    assert size("nobody/unknown") is None


@pytest.mark.parametrize(
    ("name", "fake", "expected"),
    [
        # 8.03 B: 32.9 GiB in float32 and 16.5 in bfloat16, the margin of 1.1 included.
        (LLAMA_8B, machine(24), ("cuda:0", "bfloat16")),
        (LLAMA_8B, machine(80), ("cuda:0", "float32")),
        (LLAMA_8B, machine(), ("cpu", "float32")),
        (LLAMA_8B, machine(ram=32), ("cpu", "bfloat16")),
        (LLAMA_8B, machine(12, ram=16), None),
        # 70.6 B: 144.5 GiB in bfloat16.
        (LLAMA_70B, machine(80), None),
        (LLAMA_70B, machine(48, 80), None),
        (LLAMA_70B, machine(80, 80), ("auto", "bfloat16")),
        (LLAMA_70B, machine(ram=512), ("cpu", "float32")),
        # 30.5 B: 62.6 GiB in bfloat16.
        (QWEN_30B, machine(24, ram=48), None),
        (QWEN_30B, machine(24), ("cpu", "bfloat16")),
        (QWEN_30B, machine(80), ("cuda:0", "bfloat16")),
        (QWEN_30B, machine(80, 80), ("auto", "float32")),
    ],
)
def test_a_model_goes_where_it_fits_and_nowhere_else(name, fake, expected):
    if expected == ("auto", "float32"):
        # One card is preferred to two, in bfloat16 to none in float32.
        expected = ("cuda:0", "bfloat16")
        assert placement.candidates(size(name), fake)[1].device == "auto"
    assert where(name, fake) == expected


def test_fused_experts_are_not_counted_as_quantized():
    nf4 = placement.weight_bytes(size(QWEN_30B), "bfloat16", four_bit=True) / GIB
    # 55.6 GiB by transformers' own replace_with_bnb_linear on the meta device.
    assert nf4 == pytest.approx(55.6, abs=0.3)
    dense = placement.weight_bytes(size(LLAMA_8B), "bfloat16", four_bit=True) / GIB
    # 6.98 B in linear layers at 0.516 bytes, 1.05 B in embeddings and head at 2.
    assert dense == pytest.approx(5.3, abs=0.1)


@pytest.mark.parametrize("exact", [True, False])
def test_a_card_without_bfloat16_never_runs_in_it(exact):
    """A merge was proved in imitated bfloat16 on a T4, where evaluate took float16."""
    t4 = Machine((Card("T4", 15 * GIB, has_bfloat16=False),), 8 * GIB)
    l4 = Machine((Card("L4", 22 * GIB),), 8 * GIB)
    small, large = size("Qwen/Qwen3-1.7B"), size("Qwen/Qwen3-4B")
    # Two bytes a number, unless numbers are to be exact and four fit.
    for one, expected in ((small, "float32" if exact else "float16"), (large, "float16")):
        assert placement.running_places(one, t4, exact=exact)[0].dtype == expected
    assert placement.running_places(large, t4, four_bit=True, exact=exact)[0].dtype == "float16"
    assert placement.running_places(large, l4)[0].dtype == "bfloat16"


def test_a_family_that_overflows_float16_never_runs_in_it():
    t4 = Machine((Card("T4", 15 * GIB, has_bfloat16=False),), 32 * GIB)
    gemma = size("google/gemma-3-4b-it")
    whole, packed = (
        placement.running_places(gemma, t4, four_bit=four)[0] for four in (False, True)
    )
    assert (whole.device, packed.device, packed.dtype) == ("cpu", "cuda:0", "float32")
