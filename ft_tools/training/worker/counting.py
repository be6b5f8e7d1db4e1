"""Count a dataset's tokens for a plan, in a process of its own: JSON in, JSON out.

The process does without torch, which takes seconds to import, and has a limit on its memory,
because a template is a program of whoever made the model.
"""

import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import psutil

from ft_tools.errors import FineTuningError, Refused
from ft_tools.formats.formats import num_shared
from ft_tools.formats.training_rows import DatasetFacts, read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.lora.data_shape import padding_fraction
from ft_tools.training.checks.learnable import (
    Tally,
    count_answers,
    packs,
    require_answers,
)
from ft_tools.training.token_counts import CountAnswer, CountRequest, Counts, DataReport, Lengths
from ft_tools.training.worker import tokenizing

MAX_BYTES = 8 * 2**20
"""Of a file's examples that are tokenized; a larger file is scaled from its beginning."""
MEMORY_BYTES = 2 * 2**30
PADDED_BATCH = 8
"""Rows of a batch for which padding is counted."""


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
    by_task = {"sft": _count_sequences, "grpo": _count_prompts}
    of_file = by_task.get(request.task, _count_preferences)
    counted = of_file(request, tokenizer, request.dataset)
    if request.validation is None:
        return counted
    held_out = of_file(request, tokenizer, request.validation)
    longest = held_out.lengths.longest_tokens
    return counted.model_copy(update={"validation": held_out.data, "longest_held_out": longest})


def _count_sequences(request: CountRequest, tokenizer: Any, facts: DatasetFacts) -> Counts:
    tally, num_counted = Tally(request.max_length, request.packing), 0
    for line, example in _beginning(facts):
        num_counted += 1
        with tokenizing.refused_by_template(f"{facts.path}:{line}", example):
            for one in tokenizing.sequences(tokenizer, facts, example, request.loss_on):
                tally.add(one)
    tally.require_learnable(facts.path, tokenizing.end_ids(tokenizer))
    num_rows = len(tally.kept)
    if request.packing and request.max_length:
        lengths = [len(one.input_ids) for one in tally.kept]
        num_rows = packs(lengths, request.max_length, request.packing)
    return _scaled(tally.report(num_counted), num_rows, facts, tally.lengths)


def _count_preferences(request: CountRequest, tokenizer: Any, facts: DatasetFacts) -> Counts:
    """Count pairs of answers, or marked ones: a prompt and what may follow it."""
    limit = request.max_length
    kept: list[tuple[int, int]] = []
    uncut: list[tuple[int, int]] = []
    answers: list[list[int]] = []
    num_counted = 0
    for line, example in _beginning(facts):
        num_counted += 1
        with tokenizing.refused_by_template(f"{facts.path}:{line}", example):
            prompt, *wholes = tokenizing.prompt_and_answers(tokenizer, facts, example)
        start = min(num_shared(prompt, whole) for whole in wholes)
        uncut += [(len(whole), len(whole) - start) for whole in wholes]
        if limit is None or start < limit:
            answers.append(wholes[0][start:])
            kept += [(start, len(whole) - start) for whole in wholes]
    require_answers(facts.path, limit, answers, tokenizing.special_ids(tokenizer))
    report = count_answers(request.task, num_counted, limit, kept)
    return _scaled(report, len(answers), facts, uncut)


def _count_prompts(request: CountRequest, tokenizer: Any, facts: DatasetFacts) -> Counts:
    """Count prompts, to which the model writes the answers itself."""
    lengths: list[tuple[int, int]] = []
    for line, example in _beginning(facts):
        with tokenizing.refused_by_template(f"{facts.path}:{line}", example):
            lengths.append((len(tokenizing.prompt_ids(tokenizer, example)), 0))
    report = count_answers(request.task, len(lengths), None, lengths)
    return _scaled(report, len(lengths), facts, lengths)


def _beginning(facts: DatasetFacts) -> Iterator[tuple[int, Example]]:
    """Yield the lines and examples of a file, up to so many bytes of it."""
    size, path = 0, Path(facts.path)
    share = path.stat().st_size / max(1, facts.num_examples)
    for line, example in read_examples(path):
        if size >= MAX_BYTES:
            return
        size += int(share) + 1
        yield line, example


def _scaled(
    report: DataReport, num_rows: int, facts: DatasetFacts, uncut: list[tuple[int, int]]
) -> Counts:
    """Scale the counts of a file's beginning to the whole of it.

    `num_rows` are the beginning's rows that batches are made of, `uncut` the (tokens, trained
    tokens) of each of its sequences.
    """
    num_counted = report.num_examples
    wholes = [whole for whole, _ in uncut]
    lengths = Lengths(
        mean_tokens=round(fmean(wholes), 1),
        mean_answer_tokens=round(fmean(trained for _, trained in uncut), 1),
        longest_tokens=max(wholes),
        padding=padding_fraction(wholes, PADDED_BATCH),
    )
    if num_counted != facts.num_examples:
        factor = facts.num_examples / num_counted
        whole = {name: round(value * factor) for name, value in report.model_dump().items()}
        report, num_rows = DataReport(**whole), round(num_rows * factor)
    return Counts(data=report, num_rows=num_rows, num_counted=num_counted, lengths=lengths)


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
