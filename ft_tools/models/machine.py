"""The machine that a model is loaded on: its cards, and the memory that this process may have."""

from dataclasses import dataclass

from ft_tools import facts
from ft_tools.runs.hardware import devices, memory


@dataclass(frozen=True)
class Card:
    """A GPU."""

    name: str
    num_bytes: int
    """Memory that a model may take on it."""
    has_bfloat16: bool = True
    """Without it, as on a T4 or V100, bfloat16 is emulated and slow."""


@dataclass(frozen=True)
class Machine:
    """What models can be loaded on."""

    cards: tuple[Card, ...]
    ram_bytes: int

    def without_cards(self) -> "Machine":
        """Return the machine as a run sees it that leaves the cards alone."""
        return Machine((), self.ram_bytes)


def this_machine(device: str = "auto") -> Machine:
    """Describe this machine empty, as a plan sees it: what other programs use is not subtracted."""
    cards = [] if device == "cpu" else devices.find_cards()
    if device not in {"auto", "cpu", "cuda"}:
        named = devices.find_device(device).cards
        cards = [card for card in cards if card.uuid in named]
    usable = facts.number("vram.usable_fraction") * 2**30
    return Machine(
        tuple(
            Card(card.model, int(card.memory_gib * usable), devices.has_bfloat16(card.capability))
            for card in cards
        ),
        memory.total_bytes(),
    )


def first_card(device: str = "auto") -> str:
    """Return the name of the first GPU that may be used; empty without one."""
    cards = this_machine(device).cards
    return cards[0].name if cards else ""
