"""Read the texts of kept examples again, for a search that needs more than their hashes.

What many prompts share line by line (a template, a preamble) is set aside, so that it does not make
them all alike; where nothing else would be left, the prompt stays whole.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ft_tools.data.read.example_texts import text_of
from ft_tools.data.read.ledger import KEPT, hash_of
from ft_tools.data.read.scanned import Scan
from ft_tools.data.request import AuditRequest
from ft_tools.formats.example import content_of
from ft_tools.similarity.words import most_of_one

MIN_LINE_CHARS = 12
SAMPLE_ROWS = 20_000
CHUNK = 4096


@dataclass(frozen=True, slots=True)
class Texts:
    """What an example says, by the parts that are compared."""

    index: int
    prompt: str
    answer: str
    rejected: str
    """Of a preference pair; else empty."""
    questions: tuple[str, ...] = ()
    """What a conversation asks, one after another; empty if it asks once."""


def texts_of(scanned: Scan, request: AuditRequest) -> Iterator[Texts]:
    """Yield what each example says that is kept so far."""
    for index, row in scanned.read_again():
        if scanned.ledger.removal[index] != KEPT:
            continue
        example = scanned.example_of(scanned.ledger.lines[index], row.value)
        asked, answered = example.prompt_and_answer()
        questions = tuple(content_of(turn) for turn in asked if turn["role"] == "user")
        several = questions if len(questions) > 1 else ()
        rejected = text_of(example.rejected)
        yield Texts(index, text_of(asked), text_of(answered), rejected, several)


def shared_lines(scanned: Scan, request: AuditRequest) -> frozenset[int]:
    """Return the hashes of prompt lines that belong to a template."""
    counts: Counter[int] = Counter()
    seen = 0
    for texts in texts_of(scanned, request):
        lines = {line for line in _lines(texts.prompt) if len(line) >= MIN_LINE_CHARS}
        counts.update(map(hash_of, lines))
        seen += 1
        if seen >= SAMPLE_ROWS:
            break
    limit = most_of_one(seen)
    return frozenset(line for line, count in counts.items() if count > limit)


def without(prompt: str, shared: frozenset[int]) -> str:
    r"""Return a prompt without the lines of a template.

    >>> without("You are a helpful model.\nAdd 1 and 2.", frozenset({hash_of("Add 1 and 2.")}))
    'You are a helpful model.'
    """
    if not shared:
        return prompt
    own = "\n".join(line for line in _lines(prompt) if hash_of(line) not in shared)
    return own if own.strip() else prompt


def _lines(prompt: str) -> list[str]:
    return [line.strip() for line in prompt.split("\n")]


def in_chunks(rows: Iterator[Texts]) -> Iterator[list[Texts]]:
    """Give texts some thousands at a time, which are tokenized together."""
    chunk: list[Texts] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
