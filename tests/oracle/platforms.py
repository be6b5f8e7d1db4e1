"""Where the record was made: floats are equal to the bit only there."""

import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("torch", "transformers", "trl", "peft", "llama-cpp-python")
OTHER_PROCESSOR = 1e-4
"""Relative tolerance of losses and scores on another processor or with other libraries."""


def here() -> dict[str, str]:
    """Return the processor and the versions of the libraries that compute."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = models[0] if models else platform.processor()
    return {"processor": processor, **{name: version(name) for name in LIBRARIES}}


def tolerance(recorded: dict[str, str]) -> float:
    """Return 0 where the record was made; elsewhere print what differs."""
    differ = {key: value for key, value in here().items() if recorded.get(key) != value}
    if differ:
        print(f"recorded elsewhere, losses and scores are equal to 1e-4: {differ}")
    return OTHER_PROCESSOR if differ else 0.0
