"""P13: no text makes a check slow: each pattern takes time linear in what it reads."""

import re
import time

import pytest

from ft_tools import redaction
from ft_tools.data.judge import privacy, text_faults, turn_faults
from ft_tools.data.understand.languages import Languages, language_of
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.data.understand.preferences import PairStatistics
from ft_tools.formats.formats import normalise
from ft_tools.formats.quoting import quote
from ft_tools.metrics.answers import is_repetitive
from ft_tools.metrics.text import tool_calls
from ft_tools.views import page

PLAIN, FULL = 10_000, 200_000
sizes = pytest.mark.parametrize(
    "size", [PLAIN, pytest.param(FULL, marks=pytest.mark.faults)], ids=["plain", "full"]
)
# Seconds of CPU: below it, a text of these sizes is no matter; above it, LONGER times the text must
# not take MOST_RATIO times as long: the middle between linear time, 4, and quadratic, 16.
SLOW = {PLAIN: 0.01, FULL: 0.04}
LONGER = 4
MOST_RATIO = 8.0
TRIALS = 3
MOST_NAMED = 3
UNITS = [
    *" \n\t1aA=-@\"'`{<*#._([|\\:!/?\u3010\u4f60",
    *("{{", "\r\n", "\n ", "a ", "1 ", "a\n", "a.", "a@", "a@a.", "- ", "1.", "A1", "**a", "\\n"),
    *("\\u00a0", "\u00e9 ", "```", "<|", "](", "://", "://a:", "+1", "(555) ", "-eyJ"),
]
OPENERS = [
    *("a:", "\n", "{{a", "![", "**", "<", "\u3010", "1. ", "# ", "- ", "+1", "AB12", "a@", "://a:"),
]
RUNS = [" ", "\n", "1", "a", "-"]


def hostile(pieces):
    """Yield (name, how to make it of a size): runs, and what begins like something looked for."""
    for unit in dict.fromkeys([*UNITS, *pieces]):
        yield unit, lambda size, unit=unit: unit * (size // len(unit))
    for opener in dict.fromkeys([*OPENERS, *pieces]):
        for run in RUNS:
            once, again = f"\n{opener}{run}", f"\n{opener}{run * 9}"
            yield f"{opener} and {run}", lambda size, once=once, run=run: once + run * size
            yield again, lambda size, again=again: again * (size // len(again))


def cpu_seconds(call, text):
    began = time.process_time()
    call(text)
    return time.process_time() - began


def is_slower_than_linear(call, text, longer):
    """Tell whether LONGER times the text takes far more times as long, however often it is asked.

    What else runs on the machine only ever adds: the least of some is nearest.
    """

    def least(of):
        return min(cpu_seconds(call, of) for _ in range(2))

    return all(least(longer) > MOST_RATIO * least(text) for _ in range(TRIALS))


def slow_on(call, size, texts):
    """Name the texts for which a call takes more than linear time."""
    found = []
    for name, made in texts:
        # A tenth first: what is far worse than linear would not end at the whole size.
        for length in (size // 10, size):
            took = cpu_seconds(call, made(length))
            if took >= SLOW[size] and is_slower_than_linear(
                call, made(length), made(LONGER * length)
            ):
                found.append(f"{name!r}: {took:.2f} s for {length} characters")
                break
        if len(found) == MOST_NAMED:
            break
    return found


def pair(text):
    row = {"prompt": "Why?", "chosen": f"x{text}", "rejected": f"y{text}"}
    example = normalise(1, row)
    PairStatistics().add(example)
    turn_faults.structure(example)
    text_faults.contents(example)


def answered(prompt, answer):
    text_faults.contents(normalise(1, {"prompt": prompt, "completion": answer}))


def merged(text):
    answered("Why?", f"{text}:\nTask: a")


CHECKS = {
    "a prompt": lambda text: answered(text, "Because it is so."),
    "an answer": merged,
    "a text": lambda text: text_faults.contents(normalise(1, {"text": text})),
    "a pair": pair,
    "secrets": privacy.secrets_in,
    "secrets, with hints": lambda text: privacy.secrets_in(f"{text} eyJ://"),
    "personal data": lambda text: privacy.personal_data_in(f"{text} 1@ 1234567890"),
    "masking": lambda text: privacy.mask(f"{text} 1@ eyJ"),
    "a quotation": lambda text: quote(text, 200),
    "redaction": redaction.redact,
    "languages": lambda text: Languages().add(text, text),
    "language": language_of,
    "length": estimate_tokens,
    "tool calls": tool_calls,
    "a loop": is_repetitive,
    "page": page.joined,
}


@sizes
@pytest.mark.parametrize("check", CHECKS)
def test_a_check_takes_time_linear_in_the_text(check, size):
    pieces = ["<tool_call>", "task", "answer", "read", "at", "sk-", "hf_", "-----BEGIN "]
    assert slow_on(CHECKS[check], size, hostile(pieces)) == []


def test_a_conversation_of_many_turns_takes_time_linear_in_their_number():
    def example(count):
        turns = [{"role": role, "content": "a"} for role in ("user", "assistant")] * (count // 2)
        return normalise(1, {"messages": turns})

    def check(example):
        turn_faults.structure(example)
        text_faults.contents(example)

    assert not is_slower_than_linear(check, example(4_000), example(LONGER * 4_000))


def test_a_quadratic_pattern_would_be_named():
    """The items of lists as they were first looked for."""
    item = re.compile(r"^\s*- ", re.MULTILINE)
    breaks = [("breaks", lambda size: "\n" * (size // 2))]
    assert len(slow_on(item.findall, PLAIN, breaks)) == 1
