"""Passages of documents: they stay in the prompt, and carry the answer.

What a passage carries is searched, not judged: each quote word for word, each number.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import Row
from ft_tools.evaluation.systems.asking import filled
from ft_tools.metrics.text import normalise

_BLANK_LINES = re.compile(r"\n\s*\n")
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
PART = ", passage "
UNANSWERABLE = "unanswerable"
"""Change of an origin."""


def unsupported(passage: str, question: str, answer: str, quotes: Sequence[str]) -> str:
    """Return why a passage does not carry an answer; empty if nothing speaks against it.

    >>> unsupported("The pump weighs 12.5 kg.", "How heavy?", "It weighs 12 kg.", ["12.5 kg"])
    'number_not_found'
    """
    if not question or not answer:
        return "empty"
    text = normalise(passage)
    if not quotes or any(normalise(quote) not in text for quote in quotes):
        return "quote_not_found"
    known = {*_NUMBER.findall(text), *_NUMBER.findall(normalise(question))}
    return "" if known.issuperset(_NUMBER.findall(normalise(answer))) else "number_not_found"


def unanswerable(
    request: CreateRequest, rows: Sequence[Row], passages: Mapping[str, str]
) -> list[Row]:
    """Return rows that ask a question of one passage about another that lacks its quotes.

    Args:
        request: The share of such rows, and their answer.
        rows: Whose questions are asked.
        passages: Source -> text.
    """
    share, answer = request.unanswerable_fraction, request.unanswerable_answer
    wanted = round(len(rows) * share / (1 - share))
    chance = random.Random(f"{request.seed}\x1funanswerable")
    texts = {source: normalise(text) for source, text in passages.items()}
    made: list[Row] = []
    for row in chance.sample(list(rows), len(rows)):
        if len(made) == wanted:
            break
        quotes, file = list(map(normalise, row.quotes)), row.group.rpartition(PART)[0]
        lacking = [name for name, text in texts.items() if not any(one in text for one in quotes)]
        elsewhere = [name for name in lacking if name.rpartition(PART)[0] != file]
        if not (choices := elsewhere or lacking):
            continue
        other = chance.choice(choices)
        about = {"source": f"{other}; question of {row.group}", "change": UNANSWERABLE}
        origin = row.origin.model_copy(update={**about, "checks": {}})
        asked = filled(request.template, row.question, passages[other])
        turns = (("user", asked), ("assistant", answer))
        messages = [{"role": role, "content": text} for role, text in turns]
        # Its prompt holds that passage: rows of one passage stay in one part.
        made.append(replace(row, origin=origin, messages=messages, group=other))
    return made


def passages(text: str, most: int) -> Iterator[str]:
    r"""Yield a text in parts of whole paragraphs, at most so many characters each.

    >>> list(passages("One.\n\nTwo.\n\n" + "x" * 12, 10))
    ['One.\n\nTwo.', 'xxxxxxxxxx', 'xx']
    """
    held = ""
    for paragraph in _BLANK_LINES.split(text):
        part = paragraph.strip()
        if held and len(held) + 2 + len(part) > most:
            yield held
            held = ""
        while len(part) > most:
            cut = max(part.rfind("\n", 0, most), part.rfind(". ", 0, most) + 1) or most
            yield part[:cut].strip()
            part = part[cut:].strip()
        held = f"{held}\n\n{part}" if held and part else held or part
    if held:
        yield held
