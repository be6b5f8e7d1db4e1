"""What llama.cpp's library is asked for while a model is shipped: each a process of its own.

llama.cpp checks its assumptions with assertions, and one that fails ends the process that runs it.
So it costs the format that it was asked for, and the run keeps everything else.
"""

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.shipping import converter_script
from ft_tools.shipping.watched_program import watched
from ft_tools.shipping.worker import proving
from ft_tools.shipping.worker.merged_model import Shipment
from ft_tools.shipping.worker.proving import Proof

MODULE = "ft_tools.shipping.worker.llama_process"
# llama.cpp calls a debugger for its own trace, which takes a minute.
NO_TRACE = {"GGML_NO_BACKTRACE": "1"}
WHERE = re.compile(r"([\w-]+\.(?:cpp|cu|c|h|m):\d+): ")
ROOM_TOKENS = 8


class LlamaCppFailed(FineTuningError):
    """llama.cpp could not do a job; the message says why, as far as it can be told."""

    code = "llama_cpp_failed"
    exit_code = 5


def quantize(shipment: Shipment, source: Path, into: Path, name: str) -> None:
    """Quantize a GGUF file into a format.

    Raises:
        DiskFull: There is no space for it.
        LlamaCppFailed: llama.cpp refuses, or it aborted.
    """
    _done(shipment, "quantize", source=str(source), file=str(into), format=name)


def split(shipment: Shipment, file: Path, proof: Proof) -> bool:
    """Return whether a file splits every probe as in training; its weights stay on the disk.

    Raises:
        LlamaCppFailed: llama.cpp cannot read it, or it aborted.
    """
    texts = probes(proof)
    return same_ids(proof, texts, _done(shipment, "split", file=str(file), probes=texts)["ids"])


def run(
    shipment: Shipment, file: Path, proof: Proof, prompts: list[list[int]]
) -> tuple[dict[str, Any], np.memmap[Any, Any]]:
    """Run a file over the held-out text and let it continue prompts.

    Returns:
        `answers`, `tokens_per_second` and `same_ids`; and the logits, (tokens, vocabulary).

    Raises:
        LlamaCppFailed: llama.cpp cannot run it, or it aborted.
    """
    text, logits = proof.reference.text, shipment.scratch / "gguf.f32"
    longest = max(map(len, text.ids + prompts))
    end, texts = proof.tokenizer.eos_token_id, probes(proof)
    answer = _done(
        shipment,
        "run",
        file=str(file),
        context=longest + proof.max_new_tokens + ROOM_TOKENS,
        texts=text.ids,
        prompts=prompts,
        max_new_tokens=proof.max_new_tokens,
        ends=[] if end is None else [end],
        probes=texts,
        logits=str(logits),
    )
    shape = (text.num_tokens, answer["vocabulary"])
    answer["same_ids"] = same_ids(proof, texts, answer.pop("ids"))
    return answer, np.memmap(logits, dtype=np.float32, mode="r", shape=shape)


def chat(
    shipment: Shipment, file: Path, messages: list[dict[str, str]], num_tokens: int
) -> tuple[str, int]:
    """Chat once with a file; the greedy answer and its number of tokens.

    Raises:
        LlamaCppFailed: llama.cpp cannot run it, or it aborted.
    """
    found = _done(shipment, "chat", file=str(file), messages=messages, max_new_tokens=num_tokens)
    return str(found["text"]), int(found["num_tokens"])


def probes(proof: Proof) -> list[str]:
    """Return the texts that a file has to split as the trained tokenizer does."""
    text = proof.reference.text
    special = "".join(map(str, proof.tokenizer.all_special_tokens))
    return [*proving.PROBES, special, *text.raw, *text.prompt_texts]


def same_ids(proof: Proof, texts: list[str], found: list[list[int]]) -> bool:
    """Return whether texts were split as the trained tokenizer does."""
    return all(
        ids == proof.tokenizer(text, add_special_tokens=False).input_ids
        for text, ids in zip(texts, found, strict=True)
    )


def _done(shipment: Shipment, task: str, **job: Any) -> dict[str, Any]:
    scratch = shipment.scratch
    job_file, answer, log = scratch / "job.json", scratch / "answer.json", scratch / "job.log"
    answer.unlink(missing_ok=True)
    job_file.write_text(json.dumps({"task": task, "answer": str(answer), **job}), encoding="utf-8")
    argv = [sys.executable, "-P", "-m", MODULE, str(job_file)]
    code = watched(argv, log, shipment.stop_if_asked, os.environ | NO_TRACE)
    said = log.read_text(encoding="utf-8", errors="replace")
    found: dict[str, Any] = {}
    if code == 0 and answer.is_file():
        found = json.loads(answer.read_bytes())
        if "failed" not in found:
            return found
    sys.stderr.write(said[-20_000:])
    if found.get("disk_full"):
        raise DiskFull(found["failed"])
    raise LlamaCppFailed(found.get("failed") or ended(code, said))


def ended(code: int, said: str) -> str:
    """Return how a process of llama.cpp ended, and what to do.

    Args:
        code: Its exit code; negative: the signal that ended it.
        said: What it wrote; only the place in llama.cpp's source is taken from it.
    """
    name = f"llama.cpp (llama-cpp-python {converter_script.version()})"
    cure = (
        "get_run with log_lines shows its words; `python -m pip install -U llama-cpp-python` and "
        "ship again, or take safetensors"
    )
    place = WHERE.findall(said)
    if code == -signal.SIGABRT and place:
        return f"{name} aborted at {place[-1]}: it does not expect such a model; {cure}"
    if code == -signal.SIGKILL:
        return f"{name} was killed, most likely because memory ran out; free some and ship again"
    how = f"by signal {-code}" if code < 0 else f"with {code}"
    return f"{name} ended {how}; {cure}"
