"""GGUF files: converted with llama.cpp's own script; quantized and run by its own library.

llama.cpp checks its assumptions with assertions, and one that fails ends the process that runs it:
so what calls the library runs in a process of its own (`llama_job.py`).
"""

import os
import sys
from pathlib import Path
from typing import Any

from gguf import GGUFReader

from ft_tools.errors import DiskFull
from ft_tools.shipping import converter_script
from ft_tools.shipping.formats import Format
from ft_tools.shipping.programs import (
    ProgramFailed,
    Stop,
    answer_of,
    last_error,
    watched,
)
from ft_tools.shipping.published_config import lacks_predictors

MODULE = "ft_tools.shipping.worker.llama_job"
# Types that hold what is not quantized by design: norms and biases.
UNQUANTIZED = {"F32", "F16", "BF16"}
IQ_OF_256 = ("IQ3", "IQ4_XS")


def convert(model: Path, into: Path, outtype: str, stop: Stop) -> None:
    """Convert a safetensors folder into one GGUF file.

    Raises:
        DiskFull: There is no space for it.
        ProgramFailed: The converter does not know the architecture or the tokenizer.
    """
    script, log = converter_script.script(), into.with_suffix(".log")
    environment = {k: v for k, v in os.environ.items() if k != "NO_LOCAL_GGUF"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    code, words = 1, ""
    argv = [sys.executable, str(script), str(model)]
    argv += ["--outtype", outtype, "--outfile", str(into)]
    # An architecture that does not take the option is refused before anything is written.
    for options in (["--no-mtp"], []) if lacks_predictors(model) else ([],):
        try:
            code, words = watched([*argv, *options], log, stop, environment)
        except DiskFull:
            into.unlink(missing_ok=True)
            raise
        if code == 0 or into.exists():
            break
    if code == 0 and into.is_file():
        return
    into.unlink(missing_ok=True)
    raise ProgramFailed(
        f"llama.cpp's converter failed ({last_error(words)!a}): it does not know this architecture "
        "or tokenizer; get_run with log_lines shows which. Ship safetensors, or use a newer "
        f"llama.cpp through {converter_script.VARIABLE}"
    )


def do(task: str, scratch: Path, stop: Stop, **job: Any) -> dict[str, Any]:
    """Let llama.cpp do a task of `llama_job.py` in a process of its own; returns its answer.

    Raises:
        DiskFull: There is no space for what it writes.
        ProgramFailed: llama.cpp refuses, or it aborted.
    """
    name = f"llama.cpp (llama-cpp-python {converter_script.version()})"
    argv = [sys.executable, "-P", "-m", MODULE]
    # llama.cpp calls a debugger for its own trace, which takes a minute.
    return answer_of(name, argv, {"task": task, **job}, scratch, stop, GGML_NO_BACKTRACE="1")


def tensor_types(path: Path) -> dict[str, int]:
    """Return how many of a file's tensors are held in each type."""
    found: dict[str, int] = {}
    for tensor in GGUFReader(path).tensors:
        name = tensor.tensor_type.name
        found[name] = found.get(name, 0) + 1
    return found


def fallbacks(types: dict[str, int], row: Format) -> dict[str, int]:
    """Return what llama.cpp took because a row is no multiple of a K-quant's 256 weights.

    >>> q4 = Format("gguf:Q4_K_M", "gguf", 4.9)
    >>> fallbacks({"F32": 1, "Q5_0": 2, "Q4_K": 1, "Q6_K": 1}, q4)
    {'Q5_0': 2}
    """
    blocks_of_256 = row.type_name.endswith("_K") or "_K_" in row.type_name
    if not blocks_of_256 and not row.type_name.startswith(IQ_OF_256):
        return {}
    known = {name for name in types if name.endswith("_K") or name.startswith(IQ_OF_256)}
    return {name: num for name, num in sorted(types.items()) if name not in known | UNQUANTIZED}


def template_of(path: Path) -> str | None:
    """Return the chat template that a GGUF file holds."""
    template = GGUFReader(path).get_field("tokenizer.chat_template")
    return None if template is None else str(template.contents())
