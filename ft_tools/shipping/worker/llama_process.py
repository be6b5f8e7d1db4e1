"""One job of llama.cpp in a process of its own: `python -m ft_tools...llama_process JOB.json`.

Where llama.cpp meets what it did not expect, it aborts, and the process ends with it: this one, not
the run (`gguf_jobs.py`). The job names what to do and every path; the answer is a JSON file.
"""

import json
import sys
from pathlib import Path
from typing import Any

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.models.worker import gguf
from ft_tools.shipping import formats
from ft_tools.shipping.worker import gguf_files
from ft_tools.shipping.worker.logits_file import new_logits

MIN_CONTEXT = 8


def main() -> None:
    """Do the job named on the command line."""
    job = json.loads(Path(sys.argv[1]).read_bytes())
    try:
        answer = TASKS[job["task"]](job)
    except FineTuningError as error:
        answer = {"failed": str(error), "disk_full": isinstance(error, DiskFull)}
    Path(job["answer"]).write_text(json.dumps(answer), encoding="utf-8")


def quantize(job: dict[str, Any]) -> dict[str, Any]:
    """Quantize `source` into `file` as `format`."""
    gguf_files.quantize(Path(job["source"]), Path(job["file"]), formats.find(job["format"]))
    return {}


def split(job: dict[str, Any]) -> dict[str, Any]:
    """Return the ids of `probes`; the weights stay on the disk."""
    with gguf.opened(job["file"], MIN_CONTEXT, vocab_only=True, verbose=True) as model:
        return {"ids": [gguf.tokenize(model, text) for text in job["probes"]]}


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run `file` over `texts`: logits to a file, ids of `probes`, greedy answers to `prompts`."""
    with gguf.opened(job["file"], job["context"], verbose=True) as model:
        vocabulary = model.n_vocab()
        rows = new_logits(Path(job["logits"]), sum(map(len, job["texts"])), vocabulary)
        at = 0
        for ids in job["texts"]:
            for part in gguf.logits_in_batches(model, ids):
                rows[at : at + len(part)] = part
                at += len(part)
        rows.flush()
        ends = set(job["ends"])
        answers, speed = gguf_files.gguf_answers(model, job["prompts"], job["max_new_tokens"], ends)
        ids = [gguf.tokenize(model, text) for text in job["probes"]]
    return {"vocabulary": vocabulary, "answers": answers, "tokens_per_second": speed, "ids": ids}


def chat(job: dict[str, Any]) -> dict[str, Any]:
    """Answer `messages` by the template that is in `file`."""
    text, count = gguf_files.chat_with_gguf(
        Path(job["file"]), job["messages"], job["max_new_tokens"]
    )
    return {"text": text, "num_tokens": count}


TASKS = {"quantize": quantize, "split": split, "run": run, "chat": chat}

if __name__ == "__main__":
    main()
