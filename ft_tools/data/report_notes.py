"""What a report says of its own reach: the shape of the data, and what was not searched."""

from ft_tools.data.read.scanned import Scan
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.repeats.near import Near
from ft_tools.data.request import AuditRequest
from ft_tools.data.split.draw import num_wanted, will_split
from ft_tools.formats.readers.source import is_held_out
from ft_tools.formats.remembered_test_sets import FOLDER, name_of
from ft_tools.similarity.ngrams import MIN_WORDS

# Of the validation examples that were wanted; with fewer, the report says why.
SHORT_SPLIT = 0.5
MOST_ABOUT = 5
"""Sentences about the sheets and headers of a folder's files."""
PARAPHRASES = "; paraphrases need near_duplicates='semantic'"


def shape_of(scanned: Scan, num_prompts: int) -> dict[str, float]:
    """Return the counts and shares that describe the data."""
    ledger = scanned.ledger
    kept = len(ledger.kept(validation=False))
    shape: dict[str, float] = {
        "num_first_prompts": num_prompts,
        "num_answers": len(set(ledger.answer[ledger.num_validation :]) - {0}),
        "num_removed": len(ledger) - ledger.num_validation - kept,
    }
    if ledger.num_paired and (num_pairs := len(ledger.pairs.numbers)):
        shape["distinct_word_pairs_fraction"] = round(ledger.pairs.num_different / num_pairs, 4)
    shape |= {f"num_with_{name}": count for name, count in scanned.parts.items()}
    scripts = scanned.scripts.most_common(5)
    shape |= {f"script_{name}": count for name, count in scripts if len(scripts) > 1}
    shape |= scanned.variety.shape()
    if scanned.num_trained_tokens is not None:
        shape["num_trained_tokens"] = scanned.num_trained_tokens
    shape |= {f"secret_{name}": count for name, count in scanned.secrets.items()}
    return shape | scanned.pairs.shape()


def assumptions_of(benchmarks: Benchmarks, scanned: Scan, num_alike: int, near: Near) -> list[str]:
    """Return how far leaks and benchmarks were looked for; `num_alike` begin as validation does."""
    notes = list(dict.fromkeys(scanned.about))[:MOST_ABOUT]
    if num_alike:
        notes.append(
            f"{num_alike} training examples begin with the first question of a validation example "
            "and then differ; they are kept"
        )
    if scanned.inputs[1] is not None and not scanned.ledger.kept(validation=True):
        notes.append("no example of the validation file can be used, so leaks cannot be found")
    if benchmarks.num_questions or benchmarks.num_too_short:
        notes.append(
            f"{benchmarks.num_questions} benchmark questions were searched word by word "
            f"(13 words in a row) in prompts and answers"
            f"{PARAPHRASES if not near.by_meaning else ''}"
        )
    if benchmarks.num_too_short:
        notes.append(
            f"{benchmarks.num_too_short} benchmark questions have fewer than {MIN_WORDS} words "
            "and were not searched word by word"
        )
    if benchmarks.num_without:
        notes.append(
            f"{benchmarks.num_without} benchmark rows have no recognised question; name the "
            "column with the questions `question`"
        )
    for file, count in scanned.test_sets.most_common():
        notes.append(
            f"{count} rows are among those of {name_of(file)}, which {FOLDER / file} remembers as "
            "a test set; if it is none any more, delete that file"
        )
    num_parts = sum(is_held_out(source) for source, _ in scanned.files)
    if 0 < num_parts < len(scanned.files):
        notes.append(
            f"{num_parts} of the {len(scanned.files)} files are named like test or validation "
            "parts "
            "but were read as training data: pass the training file alone, and the others as "
            "validation_path or benchmark_paths"
        )
    if len(scanned.files) > 1:
        notes.append(
            f"line numbers continue through all {len(scanned.files)} files in order of their names"
        )
    return notes


def short_split(request: AuditRequest, scanned: Scan, num_chosen: int) -> list[str]:
    """Note if far fewer examples went to validation than were asked for."""
    if not will_split(request):
        return []
    kept = len(scanned.ledger.kept(validation=False))
    wanted = num_wanted(kept, request.validation_fraction)
    if num_chosen >= SHORT_SPLIT * wanted:
        return []
    return [
        f"{num_chosen} of the {wanted} examples asked for are in the validation file: examples "
        "with the "
        "same or a similar prompt stay on one side, and these groups are too large; pass your own "
        "validation_path, or near_duplicates='off' to split prompts that are only similar"
    ]
