"""P13: no text makes a check slow: each pattern takes time linear in what it reads."""

import ast
import importlib
import pkgutil
import re
import time
from pathlib import Path

import pytest

import ft_tools
from ft_tools import redaction
from ft_tools.data.judge import privacy, text_faults, turn_order
from ft_tools.data.understand.languages import Languages, language_of
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.data.understand.preferences import PairStatistics, words_of
from ft_tools.formats.formats import normalise
from ft_tools.formats.quoting import quote
from ft_tools.metrics.answers import is_repetitive
from ft_tools.metrics.text import tool_calls
from ft_tools.views import markup

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
# What is never given a text of anybody else.
SEARCHES = {"search", "sub", "subn", "split", "findall", "finditer"}
USES = SEARCHES | {"match", "fullmatch"}
SOURCES = {path: path.read_text("utf-8") for path in Path(ft_tools.__path__[0]).rglob("*.py")}
WHERE_USED: dict[str, set[str]] = {}
"""What is done with a name anywhere in the package: EMAIL.sub, EMAIL.match."""
for _name, _use in re.findall(
    rf"\b(\w+)\.({'|'.join(sorted(USES))})\b", "\n".join(SOURCES.values())
):
    WHERE_USED.setdefault(_name, set()).add(_use)


def modules():
    """Return the modules of the package but the workers, which import torch."""
    for info in pkgutil.walk_packages(ft_tools.__path__, "ft_tools."):
        if ".worker." not in info.name and not info.name.endswith("__main__"):
            yield importlib.import_module(info.name)


def compiled(value):
    """Yield the patterns in a module's value."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from compiled(inner)
    elif isinstance(value, list | tuple | set):
        for inner in value:
            yield from compiled(inner)


def inline(code):
    """Yield the patterns that code gives to `re` where it uses them, and whether they search."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        of, _, use = ast.unparse(node.func).rpartition(".")
        first = node.args[0]
        if of == "re" and use in USES and isinstance(first, ast.Constant):
            yield re.compile(first.value), use in SEARCHES


def is_searched(name):
    """Tell whether a pattern of this name is looked for, or must match from where it begins."""
    uses = WHERE_USED.get(name, set())
    return not uses or bool(uses & SEARCHES)


def patterns():
    """Return every pattern of the package by its text: (where it is, itself, is it searched)."""
    found = {}
    for module in modules():
        for name, value in list(vars(module).items()):
            for pattern in compiled(value):
                if isinstance(pattern.pattern, str):
                    one = (module.__name__, pattern, is_searched(name))
                    found.setdefault((pattern.pattern, pattern.flags), one)
    for path, code in sorted(SOURCES.items()):
        for pattern, searched in inline(code):
            found.setdefault((pattern.pattern, pattern.flags), (path.stem, pattern, searched))
    return [*found.values()]


PATTERNS = patterns()


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


def pieces_of(pattern):
    """Return the words and marks that a pattern is made of."""
    words = re.findall(r"[A-Za-z_<>]{2,}|[<!#*{:/@-]{2,}", pattern.pattern)
    return list(dict.fromkeys(words))[:12]


def test_the_patterns_are_found():
    assert {text_faults.PLACEHOLDER, privacy.EMAIL, *redaction.PATTERNS.values()} <= {
        p for _, p, _ in PATTERNS
    }
    assert (True, True) in {(p.pattern == r"\n\s*\n", searched) for _, p, searched in PATTERNS}
    assert len(PATTERNS) > 60
    known = {pattern: searched for _, pattern, searched in PATTERNS}
    assert known[text_faults.MANNERS["model_generated"][0].pattern]
    assert not known[text_faults.EMPTY_ANSWER]


@sizes
@pytest.mark.parametrize(
    ("pattern", "searched"),
    [(pattern, searched) for _, pattern, searched in PATTERNS],
    ids=[f"{name}-{pattern.pattern[:30]!a}" for name, pattern, _ in PATTERNS],
)
def test_a_pattern_takes_time_linear_in_the_text(pattern, searched, size):
    def use(text):
        pattern.match(text)
        pattern.fullmatch(text)
        if searched:
            pattern.sub("", text)

    assert slow_on(use, size, hostile(pieces_of(pattern))) == []


def pair(text):
    row = {"prompt": "Why?", "chosen": f"x{text}", "rejected": f"y{text}"}
    example = normalise(1, row)
    PairStatistics().add(example)
    turn_order.structure(example)
    text_faults.contents(example)


def merged(text):
    text_faults.content("Why?", f"{text}:\nTask: a", is_text=False)


CHECKS = {
    "a prompt": lambda text: text_faults.content(text, "Because it is so.", is_text=False),
    "an answer": merged,
    "a text": lambda text: text_faults.content("", text, is_text=True),
    "a pair": pair,
    "secrets": privacy.secrets_in,
    "secrets, with hints": lambda text: privacy.secrets_in(f"{text} eyJ://"),
    "personal data": lambda text: privacy.personal_data_in(f"{text} 1@ 1234567890"),
    "masking": lambda text: privacy.mask(f"{text} 1@ eyJ"),
    "a quotation": lambda text: quote(text, 200),
    "redaction": redaction.redact,
    "languages": lambda text: Languages().add(text, text),
    "language": language_of,
    "wording": words_of,
    "length": estimate_tokens,
    "tool calls": tool_calls,
    "a loop": is_repetitive,
    "markup": markup.text,
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
        turn_order.structure(example)
        text_faults.contents(example)

    assert not is_slower_than_linear(check, example(4_000), example(LONGER * 4_000))


def test_a_quadratic_pattern_would_be_named():
    """The items of lists as they were first looked for."""
    item = re.compile(r"^\s*- ", re.MULTILINE)
    breaks = [("breaks", lambda size: "\n" * (size // 3))]
    assert len(slow_on(item.findall, PLAIN, breaks)) == 1
