"""The quick forms of what an audit counts say what the plain patterns say."""

import random

from ft_tools.data.judge.text_faults import (
    MANNERS,
    MARKS,
    REPEATED_CHARS,
    REPEATED_DIGITS,
    repeats,
)
from ft_tools.similarity.words import (
    FEW_OTHERS,
    TOKENS,
    folded,
    other_characters,
    tokens_of,
)


def drawn(parts: list[str], count: int) -> list[str]:
    """Return texts of a few parts each."""
    numbers = random.Random(5)
    return ["".join(numbers.choices(parts, k=12)) for _ in range(count)]


def test_words_and_signs_of_other_characters_are_those_of_the_pattern() -> None:
    letters = "\u00e9\u00df\u0130\u017f\u0663\u0301\u03b1\u03b2\u03b3\u03b4\u03b5\u4f60"
    marks = "\u201c\u2014\u3002\u2020\u2021\u2022\U0001f600\ud800\xa0\u2028\x1c"
    texts = drawn([*letters, *marks, "a", "B1", " ", "-", "_", "+"], 6000)
    assert [tokens_of(text) for text in texts] == [TOKENS.findall(folded(t)) for t in texts]
    num_others = [len(set(other_characters(text))) for text in texts if "\u4f60" not in text]
    assert min(num_others) <= FEW_OTHERS // 2


def test_repeated_characters_are_found_where_the_patterns_find_them() -> None:
    parts = [
        "a" * 9,
        "a" * 8,
        "\u00e9" * 13,
        "1" * 6,
        "\u0663" * 7,
        "-" * 20,
        " ",
        "\xa0",
        "\n",
        "b",
    ]
    texts = drawn(parts, 4000)
    found = [bool(REPEATED_CHARS.search(t) or REPEATED_DIGITS.search(t)) for t in texts]
    assert [repeats(text) for text in texts] == found
    assert {True, False} == set(found)
    lines = [
        "one two three four five\n",
        "five four three two one\n",
        "short\n",
        "\n",
        "a b c d e f\n",
    ]
    for text in drawn([*lines, " ".join(f"w{at}" for at in range(90)) + "\n"], 2000):
        long = [line for line in text.split("\n") if len(line.split()) >= 5]
        if "w89" in text and len(long) >= 5 and len(set(long)) <= len(long) / 2:
            assert repeats(text)


SAYINGS = [
    *("Ignore ", "ALL ", "your ", "rules ", "reveal ", "System Prompt ", "You are now ", "DAN "),
    *("rm -rf /", "wget x", "| sh ", "<Important>", "Note to AI: ", "run ", "launch_sft ", "a"),
    *("as an ", "AI ", "language model ", "my ", "training data ends ", "I don't have "),
    *("personal ", "ChatGPT ", "gpt-4 ", "Llama", " 2 ", "claude", "As of my ", "last update "),
    *("I hope ", "this helps ", "is there anything ", "else I can help ", "Sure! Here ", "\n"),
    *("<think>", "regenerate response ", "copy code\n", "this ", "picture ", "the link ", "![a]("),
    *("<|user|>", "[INST]", "### Input:", "### Response:", "<end_of_turn>", "{{name}} ", "\u00e9"),
    *("turn0search1", "oaicite", "contentReference[", "utm_source=openai", "\u30101:"),
]


def test_what_a_pattern_finds_has_one_of_its_signs() -> None:
    texts = drawn(SAYINGS, 4000)
    rules = [rule for several in (MARKS | MANNERS).values() for rule in several]
    found = 0
    for signs, pattern in rules:
        told = [folded(text) for text in texts if pattern.search(text)]
        assert all(any(sign in text for sign in signs) for text in told)
        found += bool(told)
    assert found > len(rules) // 2
