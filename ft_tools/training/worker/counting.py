"""Count a dataset's tokens for a plan, in a process of its own: JSON in, JSON out.

The process does without torch, which takes seconds to import, and has a limit on its memory,
because a template is a program of whoever made the model.
"""

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from ft_tools.errors import FineTuningError, Refused
from ft_tools.formats.formats import num_shared
from ft_tools.formats.training_rows import DatasetFacts, read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.lora.data_shape import padding_fraction
from ft_tools.training.checks.learnable import Tally, count_prompts, packs, require_answers
from ft_tools.training.token_counts import CountAnswer, CountRequest, Counts, DataReport, Lengths
from ft_tools.training.worker import tokenizing

MAX_BYTES = 8 * 2**20
"""Of a file's examples that are tokenized; a larger file is scaled from its beginning."""
MEMORY_BYTES = 2 * 2**30
PADDED_BATCH = 8
"""Rows of a batch for which padding is counted."""
Rows = list[tuple[int, Example]]
"""Lines with their examples."""


def count(request: CountRequest) -> Counts:
    """Tokenize both files and count."""
    from transformers import AutoTokenizer

    from ft_tools.formats.worker import today

    # As in the run, which keeps the day on which it was launched.
    today.hold(time.time())
    tokenizer = AutoTokenizer.from_pretrained(
        request.tokenizer, local_files_only=True, trust_remote_code=False
    )
    if request.template_path is not None:
        tokenizer.chat_template = Path(request.template_path).read_text(encoding="utf-8")
    counted = _count_file(request, tokenizer, request.dataset)
    if request.validation is None:
        return counted
    held_out = _count_file(request, tokenizer, request.validation)
    longest = held_out.lengths.longest_tokens
    return counted.model_copy(update={"validation": held_out.data, "longest_held_out": longest})


def _count_file(request: CountRequest, tokenizer: Any, facts: DatasetFacts) -> Counts:
    """Count the beginning of a file, and scale that to the whole of it."""
    rows, limit = _beginning(facts), request.max_length
    if request.task == "sft":
        cut = (limit, request.packing)
        kept, tally = tokenizing.supervised(tokenizer, facts, rows, request.loss_on, cut)
        report = tally.report(len(rows), num_prompt_drifts=sum(one.prompt_drifts for one in kept))
        num_rows, uncut = len(kept), tally.uncut
        if request.packing and limit:
            num_rows = packs([len(one.input_ids) for one in kept], limit, request.packing)
    elif request.task == "grpo":
        prompts = _tokenized(facts, rows, partial(tokenizing.prompt_ids, tokenizer))
        uncut = [(len(ids), 0) for ids in prompts]
        report, num_rows = count_prompts([tokens for tokens, _ in uncut]), len(rows)
    else:
        tally, answers = Tally(limit), []
        parts = partial(tokenizing.prompt_and_answers, tokenizer, facts)
        for prompt, *wholes in _tokenized(facts, rows, parts):
            start = min(num_shared(prompt, whole) for whole in wholes)
            left = [tally.add(len(whole), len(whole) - start) for whole in wholes]
            answers += [wholes[0][start:]] * left[0]
        require_answers(facts.path, limit, answers, tokenizing.special_ids(tokenizer))
        report, num_rows, uncut = tally.report(len(rows)), len(answers), tally.uncut
    wholes_of = [whole for whole, _ in uncut]
    lengths = Lengths(
        mean_tokens=round(fmean(wholes_of), 1),
        mean_answer_tokens=round(fmean(trained for _, trained in uncut), 1),
        longest_tokens=max(wholes_of),
        padding=padding_fraction(wholes_of, PADDED_BATCH),
    )
    if len(rows) != facts.num_examples:
        factor = facts.num_examples / len(rows)
        whole = {name: round(value * factor) for name, value in report.model_dump().items()}
        report, num_rows = DataReport(**whole), round(num_rows * factor)
    return Counts(data=report, num_rows=num_rows, num_counted=len(rows), lengths=lengths)


def _tokenized(facts: DatasetFacts, rows: Rows, ids_of: Callable[[Example], Any]) -> Iterator[Any]:
    """Yield what each row becomes, where the template takes it."""
    for line, example in rows:
        with tokenizing.refused_by_template(f"{facts.path}:{line}", example):
            found = ids_of(example)
        yield found


def _beginning(facts: DatasetFacts) -> Rows:
    """Return the lines and examples of a file, up to so many bytes of it."""
    path = Path(facts.path)
    each = int(path.stat().st_size / max(1, facts.num_examples)) + 1
    return [*islice(read_examples(path), -(-MAX_BYTES // each))]


def _answer(work: Callable[[], Counts]) -> CountAnswer:
    try:
        return CountAnswer(counts=work())
    except Refused as error:
        return CountAnswer(refused=str(error))
    except FineTuningError as error:
        return CountAnswer(failed=error.code)
    except Exception as error:
        # Words of a template or of a library stay here.
        return CountAnswer(failed=f"counting failed ({type(error).__name__})")


def main() -> None:
    """Answer one request."""
    # transformers takes it for missing, and imports its tokenizers alone.
    sys.modules["torch"] = None  # type: ignore[assignment]
    import transformers  # noqa: F401

    sink, sys.stdout = sys.stdout, sys.stderr
    used = psutil.Process().memory_info().vms
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES,) * 2)
    request = CountRequest.model_validate_json(sys.stdin.read())
    sink.write("\n" + _answer(lambda: count(request)).model_dump_json())


if __name__ == "__main__":
    main()
