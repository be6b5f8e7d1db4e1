"""Compare the peak memory of a run with the user's GPU: does it fit (yes, tight, no, unknown)?"""

from collections.abc import Mapping

from ft_tools import facts
from ft_tools.memory.report import Fits

GIB = 2**30
FITS: Mapping[Fits, str] = {"yes": "fits", "tight": "is tight on", "no": "does not fit"}


def verdict(peak_bytes: float, usable_gib: float | None) -> Fits:
    """Say whether an allocation fits.

    yes up to the fraction `vram.fit_fraction` of usable memory, tight up to all of it.
    """
    if usable_gib is None:
        return "unknown"
    used = peak_bytes / (usable_gib * GIB)
    if used <= facts.number("vram.fit_fraction"):
        return "yes"
    return "tight" if used <= 1 else "no"


def usable_gib(gpu: str | None, gpu_memory_gib: float | None) -> float | None:
    """Return the memory that PyTorch sees on a card, in GiB; None where none was named.

    A published total capacity where there is one, else a fraction of the printed memory, which is
    smaller for cards that keep error-correcting codes in it.

    Raises:
        UnknownName: No such GPU.

    >>> usable_gib("A100-80GB", None)
    79.15
    """
    if gpu is None:
        if gpu_memory_gib is None:
            return None
        return round(gpu_memory_gib * facts.number("vram.usable_fraction"), 2)
    card = facts.gpu(gpu)
    if card.usable_gib is not None:
        return card.usable_gib
    key = "vram.usable_fraction_ecc" if card.ecc_in_memory else "vram.usable_fraction"
    return round(card.memory_gib * facts.number(key), 2)
