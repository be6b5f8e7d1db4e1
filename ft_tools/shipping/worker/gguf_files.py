"""GGUF files: convert with llama.cpp's own script, quantize and run with its own library.

What calls the library runs in a process of its own (`llama_process.py`); nothing here needs torch.
"""

import ctypes
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import llama_cpp.llama_chat_format
import numpy as np
from gguf import GGMLQuantizationType
from safetensors.numpy import save_file

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.models import model_folder, safetensors_headers
from ft_tools.models.gguf_header import read_header
from ft_tools.models.worker import gguf
from ft_tools.shipping import converter_script
from ft_tools.shipping.formats import Format
from ft_tools.shipping.multi_token_prediction import lacks_predictors
from ft_tools.shipping.published_config import for_converter, unread
from ft_tools.shipping.watched_program import watched

# Types that hold what is not quantized by design: norms and biases.
UNQUANTIZED = {"F32", "F16", "BF16"}
IQ_OF_256 = ("IQ3", "IQ4_XS")
NO_SPACE = "No space left on device"
# Less is free after llama.cpp failed, which does not say why: the disk was full.
FULL_BYTES = 64 * 1024
UNKNOWN_TOKENIZER = "BPE pre-tokenizer was not recognized"


class ConversionFailed(FineTuningError):
    """llama.cpp could not make a file; the message says why, as far as it can be told."""

    code = "conversion_failed"
    exit_code = 5


def convert(model: Path, into: Path, outtype: str, stop: Callable[[], None]) -> None:
    """Convert a safetensors folder into one GGUF file.

    Args:
        model: Folder with safetensors and tokenizer.
        into: File to write.
        outtype: f32, f16 or bf16.
        stop: Called while it works; raises to end early.

    Raises:
        DiskFull: There is no space for it.
        ConversionFailed: The converter does not know the architecture or the tokenizer.
    """
    script = converter_script.script()
    with _readable(model, into.with_suffix(".model")) as folder:
        argv = [sys.executable, str(script), str(folder)]
        argv += ["--outtype", outtype, "--outfile", str(into)]
        options = ["--no-mtp"] if lacks_predictors(model) else []
        code, said = _converted([*argv, *options], into, stop)
        if code != 0 and options and not into.exists():
            # An architecture that does not take the option is refused before anything is written;
            # so is a tokenizer, whose reason stays among the words.
            code, said_without = _converted(argv, into, stop)
            said += said_without
    if code != 0 or not into.is_file():
        sys.stderr.write(said[-20_000:])
        into.unlink(missing_ok=True)
        if NO_SPACE in said:
            raise DiskFull(f"no space left while writing {into}; free some and run it again")
        raise ConversionFailed(_why(said))


@contextmanager
def _readable(model: Path, beside: Path) -> Iterator[Path]:
    """Give the folder that the converter reads: the model's, or links to it with what it lacks."""
    config = model_folder.config(model)
    shapes = {name: tensor.shape for name, tensor in safetensors_headers.survey(model).items()}
    own, added = for_converter(config), unread(config, shapes)
    if own is None and not added:
        yield model
        return
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        # An index would not have what is added; the converter does without one.
        for file in model.iterdir():
            if file.is_file() and file.name not in ("config.json", safetensors_headers.INDEX):
                (beside / file.name).symlink_to(file.resolve())
        (beside / "config.json").write_text(json.dumps(own or config), encoding="utf-8")
        if added:
            zeros = {name: np.zeros(shape, dtype=np.float16) for name, shape in added.items()}
            save_file(zeros, beside / "model-unread.safetensors")
        yield beside
    finally:
        shutil.rmtree(beside)


def _converted(argv: list[str], into: Path, stop: Callable[[], None]) -> tuple[int, str]:
    """Run the converter; returns its exit code and its output."""
    log = into.with_suffix(".log")
    environment = {k: v for k, v in os.environ.items() if k != "NO_LOCAL_GGUF"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    code = watched(argv, log, stop, environment)
    said = log.read_text(encoding="utf-8", errors="replace")
    log.unlink()
    return code, said


def quantize(source: Path, into: Path, row: Format) -> None:
    """Quantize a GGUF file.

    Raises:
        DiskFull: There is no space for it.
        ConversionFailed: llama.cpp refuses.
    """
    options = llama_cpp.llama_model_quantize_default_params()
    kind = "ALL" if row.type_name == "F32" else "MOSTLY"
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{kind}_{row.type_name}")
    options.nthread = gguf.num_threads()
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(into).encode(), ctypes.byref(options)
    )
    if code != 0 or not into.is_file():
        is_full = shutil.disk_usage(into.parent).free < FULL_BYTES
        into.unlink(missing_ok=True)
        if is_full:
            raise DiskFull(f"no space left while writing {into}; free some and run it again")
        raise ConversionFailed(
            f"llama.cpp could not quantize to {row.type_name} (code {code}); get_run with "
            "log_lines shows its words; check the free space, or take another type"
        )


def tensor_types(path: Path) -> dict[str, list[str]]:
    """Return a file's tensors by the type they are held in."""
    found: dict[str, list[str]] = {}
    for name, kind in read_header(path).tensors.items():
        found.setdefault(GGMLQuantizationType(kind).name, []).append(name)
    return found


def fallbacks(types: dict[str, list[str]], row: Format) -> dict[str, list[str]]:
    """Return what llama.cpp took because a row is no multiple of a K-quant's 256 weights.

    >>> q4 = Format("gguf:Q4_K_M", "gguf", 4.9)
    >>> fallbacks({"F32": ["n"], "Q5_0": ["a", "b"], "Q4_K": ["c"], "Q6_K": ["d"]}, q4)
    {'Q5_0': ['a', 'b']}
    """
    blocks_of_256 = row.type_name.endswith("_K") or "_K_" in row.type_name
    if not blocks_of_256 and not row.type_name.startswith(IQ_OF_256):
        return {}
    known = {name for name in types if name.endswith("_K") or name.startswith(IQ_OF_256)}
    return {name: held for name, held in sorted(types.items()) if name not in known | UNQUANTIZED}


def greedy(model: Any, ids: list[int], num_tokens: int, ends: set[int]) -> list[int]:
    """Continue ids greedily; stops before an end token."""
    model.reset()
    made: list[int] = []
    for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0, reset=True):
        if token in ends or len(made) == num_tokens:
            break
        made.append(int(token))
    return made


def chat_with_gguf(path: Path, messages: list[dict[str, str]], num_tokens: int) -> tuple[str, int]:
    """Chat once with a GGUF file, by the template that is in it.

    Returns:
        The greedy answer and its number of tokens.
    """
    with gguf.opened(path, 2048) as model:
        answer = model.create_chat_completion(messages, max_tokens=num_tokens, temperature=0.0)
    return (
        str(answer["choices"][0]["message"]["content"]).strip(),
        int(answer["usage"]["completion_tokens"]),
    )


def gguf_answers(
    model: Any, prompts: Sequence[list[int]], num_tokens: int, ends: set[int]
) -> tuple[list[list[int]], float]:
    """Continue each prompt greedily with a GGUF file, up to its own end token or one of `ends`.

    Returns:
        The ids that were added, and tokens per second of the generation, prompts included.
    """
    began = time.monotonic()
    found = [greedy(model, ids, num_tokens, ends | {model.token_eos()}) for ids in prompts]
    return found, sum(map(len, found)) / max(time.monotonic() - began, 1e-9)


def template_of(path: Path) -> str | None:
    """Return the chat template that a GGUF file holds."""
    template = read_header(path).values.get("tokenizer.chat_template")
    return None if template is None else str(template)


def renderer(template: str, bos: str, eos: str) -> Callable[[Any, bool], str]:
    """Return what builds prompts from a file's template, as llama-cpp-python does."""

    def render(messages: Any, generation: bool) -> str:
        formatter = llama_cpp.llama_chat_format.Jinja2ChatFormatter(
            template=template, eos_token=eos, bos_token=bos, add_generation_prompt=generation
        )
        return str(formatter(messages=list(messages)).prompt)

    return render


def _why(said: str) -> str:
    if UNKNOWN_TOKENIZER in said:
        return (
            "llama.cpp's converter does not know this tokenizer's pre-tokenizer, so it cannot say "
            "how text is split; ship safetensors, or use a newer llama.cpp through "
            f"{converter_script.VARIABLE}"
        )
    if "is not supported" in said:
        return (
            "llama.cpp's converter does not support this architecture; ship safetensors, or use a "
            f"newer llama.cpp through {converter_script.VARIABLE}"
        )
    last = [line for line in said.splitlines() if line.strip()][-1:]
    kind = last[0].partition(":")[0][:60] if last else "no output"
    return f"llama.cpp's converter failed ({kind!a}); get_run with log_lines shows its words"
