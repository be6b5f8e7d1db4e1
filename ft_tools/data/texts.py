"""Read the texts of kept examples again, for a search that needs more than their hashes.

What many prompts share line by line (a template, a preamble) is set aside, so that it does not make
them all alike; where nothing else would be left, the prompt stays whole.
"""

from collections import Counter
from collections.abc import Iterator

from ft_tools.data.formats import normalise
from ft_tools.data.ledger import KEPT, hash_of
from ft_tools.data.reports import AuditRequest
from ft_tools.data.scan import Scan, rows_of, said

# A line in more than a tenth of the prompts is part of a template.
SHARED_FRACTION = 0.1
MIN_SHARED = 50
MIN_LINE_CHARS = 12
SAMPLE_ROWS = 20_000


def texts_of(scanned: Scan, request: AuditRequest) -> Iterator[tuple[int, str, str]]:
    """Yield (index, prompt, answer) of each example that is kept so far."""
    index = 0
    for part in reversed(scanned.inputs):
        if part is None:
            continue
        for _, row, number in rows_of(part):
            if index < len(scanned.ledger) and scanned.ledger.fate[index] == KEPT:
                example = normalise(number, row.value, request.named_columns)
                asked, answered = example.prompt_and_answer()
                yield index, said(asked), said(answered)
            index += 1


def shared_lines(scanned: Scan, request: AuditRequest) -> frozenset[int]:
    """Return the hashes of prompt lines that belong to a template."""
    counts: Counter[int] = Counter()
    seen = 0
    for _, prompt, _ in texts_of(scanned, request):
        counts.update({hash_of(line) for line in _lines(prompt) if len(line) >= MIN_LINE_CHARS})
        seen += 1
        if seen >= SAMPLE_ROWS:
            break
    limit = max(MIN_SHARED, SHARED_FRACTION * seen)
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
