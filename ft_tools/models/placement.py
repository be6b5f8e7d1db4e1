"""Where a model is loaded, and in which numbers: on a card, over several, or in memory.

All that loads a model asks here, and so does every plan, so that nothing is started that cannot
fit and nothing is refused that can. Bytes are counted, nothing is loaded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ft_tools import facts
from ft_tools.models.machine import Machine
from ft_tools.models.size import ModelSize

Dtype = Literal["float32", "bfloat16", "float16"]
DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
# 4 bits, and for each block of 64 a scale that is itself quantized to 8 bits in blocks of 256.
# Source: https://arxiv.org/abs/2305.14314, section 3
NF4_BYTES = 0.5 + (1 + 4 / 256) / 64
CPU, SEVERAL = "cpu", "auto"


@dataclass(frozen=True)
class Placement:
    """Where a model goes."""

    device: str
    """cpu, cuda:0, or auto: spread over the cards."""
    dtype: Dtype
    num_bytes: int
    """What it takes there, room to compute included."""
    four_bit: bool = False

    @property
    def device_map(self) -> Any:
        """Return what `from_pretrained` takes; always named, or bitsandbytes picks a card."""
        return SEVERAL if self.device == SEVERAL else {"": self.device}

    def describe(self) -> str:
        """Return it in words.

        >>> Placement("cpu", "float32", 2**30).describe()
        'in memory, float32, about 1.0 GiB'
        """
        where = {CPU: "in memory", SEVERAL: "over all cards"}.get(self.device, f"on {self.device}")
        numbers = "4-bit" if self.four_bit else self.dtype
        return f"{where}, {numbers}, about {self.num_bytes / 2**30:.1f} GiB"


def weight_bytes(size: ModelSize, dtype: Dtype, *, four_bit: bool = False) -> int:
    """Return the bytes of a model's weights once loaded.

    4-bit loading quantizes linear layers only: embeddings, output layer and fused experts stay.
    """
    each = DTYPE_BYTES[dtype]
    if not four_bit:
        return size.num_params * each
    rest = size.num_params - size.linear_params
    return int(size.linear_params * NF4_BYTES) + rest * each


def needed_bytes(
    size: ModelSize, dtype: Dtype, *, four_bit: bool = False, working_bytes: int = 0
) -> int:
    """Return the bytes that running a model takes: weights, a margin, and what the task adds."""
    weights = weight_bytes(size, dtype, four_bit=four_bit)
    return int(weights * facts.number("loading.margin")) + working_bytes


def candidates(
    size: ModelSize,
    machine: Machine,
    dtypes: Sequence[Dtype] = ("float32", "bfloat16"),
    *,
    four_bit: bool = False,
    working_bytes: int = 0,
) -> list[Placement]:
    """Return every placement that fits, best first: a card, several cards, memory.

    Args:
        size: Of the model.
        machine: With what is free of its cards and its memory.
        dtypes: That the task can use, best first.
        four_bit: Whether linear layers are loaded in NF4.
        working_bytes: What the task keeps beside the model.
    """
    needs = {
        dtype: needed_bytes(size, dtype, four_bit=four_bit, working_bytes=working_bytes)
        for dtype in dtypes
    }
    found = []
    for dtype, needed in needs.items():
        if any(needed <= _room(card.num_bytes) for card in machine.cards):
            best = max(range(len(machine.cards)), key=lambda i: machine.cards[i].num_bytes)
            found.append(Placement(f"cuda:{best}", dtype, needed, four_bit))
    for dtype, needed in needs.items():
        # A layer is not divided, so each card may keep the room of one free.
        layer = int(size.layer_params * DTYPE_BYTES[dtype])
        room = sum(max(0, _room(card.num_bytes) - layer) for card in machine.cards)
        if len(machine.cards) > 1 and needed <= room:
            found.append(Placement(SEVERAL, dtype, needed, four_bit))
    packing = _packing_bytes(size) if four_bit else 0
    for dtype, needed in needs.items():
        if needed + packing + _process_bytes() <= machine.ram_bytes:
            found.append(Placement(CPU, dtype, needed + packing, four_bit))
    return found


def running_places(
    size: ModelSize,
    machine: Machine,
    *,
    four_bit: bool = False,
    working_bytes: int = 0,
    exact: bool = False,
) -> list[Placement]:
    """Return where a model runs in numbers that the device computes in, best first.

    Cards without bfloat16 only imitate it: there it is float16, in which models are trained there,
    or float32 first where numbers are to be exact; families that overflow float16 stay in float32.
    Memory has float32 or bfloat16.
    """
    dtypes: list[Dtype] = ["float32", "bfloat16"] if exact else ["bfloat16"]
    if not all(card.has_bfloat16 for card in machine.cards):
        dtypes = ["float32", "float16"] if exact and not four_bit else ["float16"]
        dtypes = ["float32"] if size.overflows else dtypes
    found = candidates(size, machine, dtypes, four_bit=four_bit, working_bytes=working_bytes)
    return [one for one in found if one.device != CPU] + candidates(
        size, machine.without_cards(), four_bit=four_bit, working_bytes=working_bytes
    )


def shortage(size: ModelSize, machine: Machine, *, four_bit: bool = False) -> str:
    """Return what a model needs at least and what there is."""
    least = needed_bytes(size, "bfloat16", four_bit=four_bit) / 2**30
    if not machine.cards:
        least += (_process_bytes() + (_packing_bytes(size) if four_bit else 0)) / 2**30
    cards = " + ".join(f"{card.num_bytes / 2**30:.0f}" for card in machine.cards)
    has = f"{machine.ram_bytes / 2**30:.1f} GiB of memory" + (
        f" and {cards} GiB of card" if cards else " and no card"
    )
    return f"at least {least:.1f} GiB, and this machine has {has}"


def _packing_bytes(size: ModelSize) -> int:
    """Return what NF4 takes beside its weights in memory: they are packed when they first run."""
    more = facts.number("loading.margin_4bit_cpu") - facts.number("loading.margin")
    return int(more * weight_bytes(size, "bfloat16", four_bit=True))


def _process_bytes() -> int:
    """Return what the libraries of a process take, whatever it loads."""
    return int(facts.number("loading.process_gib") * 2**30)


def _room(card_bytes: int) -> float:
    return card_bytes - facts.number("loading.card_gib") * 2**30
