"""How much each fault test does: in the plain suite, and at full size (`make test-faults`)."""

import pytest

# What is counted: (plain, full); None: every one there is.
SIZES: dict[str, tuple[int | None, int | None]] = {
    "kill points of a program": (40, None),
    "kill points of a start": (3, None),
    "error points of a program": (16, None),
    "kills of a server": (5, 40),
    "resume races": (4, 500),
    "cancels": (6, 100),
    "equal starts": (1, 50),
    "nasty paths": (2_000, 20_000),
    "file swaps": (2_000, 20_000),
    "injections": (20, 1_000),
}


def sized(what: str):
    """Run a test at both sizes; the full one is deselected in the plain suite."""
    plain, full = SIZES[what]
    return pytest.mark.parametrize(
        "size", [plain, pytest.param(full, marks=pytest.mark.faults)], ids=["plain", "full"]
    )
