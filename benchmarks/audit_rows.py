"""The rows that benchmarks/audit.py compares on: real ones, and more made of them.

Real rows are what the audit compares: it reads the file, leaves out what its checks remove, and
sets the lines of a template aside. Where more are asked for than there are, the rest is made:

- `copies` of them are light changes of a real row, in turn: all in lower case; a closing word; one
  word of prompt and answer replaced by a number. Some stay above the threshold, others fall below.
- the others are a real row with `VARIED` of its words replaced by words of other rows: new
  examples of the same length and vocabulary, as a large set has them, and no near-duplicates.
"""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from ft_tools.data.read.example_texts import lengths_of
from ft_tools.data.read.scan import Scan
from ft_tools.data.repeats.benchmarks import Benchmarks
from ft_tools.data.request import AuditRequest

VARIED = 0.4
Texts = tuple[str, str]


def real_rows(path: Path) -> list[Texts]:
    """Return the (prompt, answer) texts that an audit of the file compares."""
    os.environ["FINE_TUNING_LLM_WORKSPACE"] = str(path.parent)
    request = AuditRequest(path=path.name)
    scanned = Scan(request, (path, None), Benchmarks([]), with_pairs=False)
    scanned.read(lambda _: None, lengths_of)
    # torch comes with it, which a search by words does without.
    from ft_tools.data.worker.near_by_meaning import shared_lines, texts_of, without

    shared = shared_lines(scanned)
    return [(without(one.prompt, shared), one.answer) for one in texts_of(scanned)]


def grown(rows: Sequence[Texts], count: int, copies: float) -> Iterator[Texts]:
    """Yield `count` rows in random order: the real ones, light copies, and new ones."""
    numbers = random.Random(0)
    made = len(rows)
    num_copies = min(round(copies * count), max(0, count - made))
    kinds = ["real"] * min(made, count) + ["copy"] * num_copies
    kinds += ["new"] * (count - len(kinds))
    numbers.shuffle(kinds)
    order = list(range(made))
    numbers.shuffle(order)
    words = [word for prompt, answer in rows for word in f"{prompt} {answer}".split()]
    at = 0
    for place, kind in enumerate(kinds):
        if kind == "real":
            yield rows[order[at]]
            at += 1
        elif kind == "copy":
            yield lightly(numbers, numbers.choice(rows), place)
        else:
            prompt, answer = numbers.choice(rows)
            yield _varied(numbers, prompt, words), _varied(numbers, answer, words)


def lightly(numbers: random.Random, row: Texts, kind: int) -> Texts:
    """Return a row that is a little different."""
    prompt, answer = row
    if kind % 3 == 0:
        return prompt.lower(), answer.lower()
    if kind % 3 == 1:
        return f"{prompt} Thanks.", answer
    return _numbered(numbers, prompt), _numbered(numbers, answer)


def _numbered(numbers: random.Random, text: str) -> str:
    words = text.split(" ")
    words[numbers.randrange(len(words))] = str(numbers.randrange(10_000))
    return " ".join(words)


def _varied(numbers: random.Random, text: str, words: Sequence[str]) -> str:
    return " ".join(
        numbers.choice(words) if numbers.random() < VARIED else word for word in text.split(" ")
    )
