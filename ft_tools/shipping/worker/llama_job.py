"""One job of llama.cpp in a process of its own: `python -m ft_tools...llama_job JOB.json`.

Where llama.cpp meets what it did not expect, it aborts, and the process ends with it: this one, not
the run. The job names what to do and every path; the answer is a JSON file. No torch.
"""

import ctypes
import json
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import llama_cpp

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.models.worker import gguf
from ft_tools.publish import disk_full_is_named
from ft_tools.shipping import formats
from ft_tools.shipping.formats import Format
from ft_tools.shipping.programs import ProgramFailed
from ft_tools.shipping.quality import answered

MIN_CONTEXT, ROOM_TOKENS = 8, 8
# Less is free after llama.cpp failed, which does not say why: the disk was full.
FULL_BYTES = 64 * 1024


def main() -> None:
    """Do the job named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_bytes())
    try:
        answer = {"quantize": _quantize, "run": _run}[job["task"]](job)
    except FineTuningError as error:
        answer = {"failed": str(error), "disk_full": isinstance(error, DiskFull)}
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def quantize(source: Path, into: Path, row: Format) -> None:
    """Quantize a GGUF file.

    Raises:
        DiskFull: There is no space for it.
        ProgramFailed: llama.cpp refuses.
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
        raise ProgramFailed(
            f"llama.cpp could not quantize to {row.type_name} (code {code}); get_run with "
            "log_lines shows its words; check the free space, or take another type"
        )


def answers_of(
    model: Any, prompts: Sequence[list[int]], num_tokens: int, ends: set[int]
) -> tuple[list[list[int]], float]:
    """Continue each prompt greedily with a GGUF file, up to its own end token or one of `ends`."""

    def answer(ids: list[int]) -> list[int]:
        model.reset()
        made: list[int] = []
        for token in model.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0, reset=True):
            if token in ends | {model.token_eos()} or len(made) == num_tokens:
                break
            made.append(int(token))
        return made

    return answered(prompts, answer)


def _quantize(job: dict[str, Any]) -> dict[str, Any]:
    quantize(Path(job["source"]), Path(job["file"]), formats.find(job["format"]))
    return {"made": job["format"]}


def _run(job: dict[str, Any]) -> dict[str, Any]:
    """Run `file` over `texts`: logits to a file, ids of `probes`, greedy answers to `prompts`.

    Without `logits` only the probes are split, and the weights stay on the disk.
    """
    texts, most = job["texts"], job["max_new_tokens"]
    tokenizes_only = job["logits"] is None
    longest = max(map(len, texts + job["prompts"]))
    context = MIN_CONTEXT if tokenizes_only else longest + most + ROOM_TOKENS
    opened = gguf.open_file(job["file"], context, vocab_only=tokenizes_only, verbose=True)
    with closing(opened) as model:
        answer: dict[str, Any] = {"ids": [gguf.tokenize(model, text) for text in job["probes"]]}
        if not tokenizes_only:
            path = Path(job["logits"])
            with disk_full_is_named(path), path.open("wb") as stream:
                for ids in texts:
                    stream.writelines(rows.data for rows in gguf.logits_in_batches(model, ids))
            answers, speed = answers_of(model, job["prompts"], most, set(job["ends"]))
            answer |= {"answers": answers, "tokens_per_second": speed}
            answer["vocabulary"] = model.n_vocab()
    return answer


if __name__ == "__main__":
    main()
