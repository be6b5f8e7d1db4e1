"""The quick forms of the audit's checks say what the plain patterns say."""

import random
import re

from ft_tools.data.judge.new_information import (
    NAME,
    NUMBER,
    PROGRAM,
    QUICK_PROGRAM,
    WORD,
    _mixed_words,
)
from ft_tools.data.judge.text_faults import CONTROL, INSTRUCTION_LIKE, _has_control
from ft_tools.data.repeats.word_pairs import TOKENS, tokens_of
from ft_tools.data.understand.lengths import LETTERS_A_PIECE, estimate_tokens

ASCII = [chr(code) for code in range(128)]
PLAIN_NUMBER = re.compile(r"(?<![\w.,])\d{2,}(?:[.,:/]\d+)*")
PLAIN_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,30}(?: [A-Z][a-z]{2,30})*")


def drawn(parts: list[str], count: int) -> list[str]:
    """Return texts of a few parts each."""
    numbers = random.Random(5)
    return ["".join(numbers.choices(parts, k=12)) for _ in range(count)]


def test_words_and_signs_of_ascii_are_those_of_the_pattern() -> None:
    texts = [f"a{one}{other}b" for one in ASCII for other in ASCII]
    assert [tokens_of(text) for text in texts] == [TOKENS.findall(text.lower()) for text in texts]


def test_control_characters_are_found_where_the_pattern_finds_them() -> None:
    others = ["\xa0", "\u2028", "\u202e", "\ufffd", "\x85", "\u00e9", "\U0001f600"]
    texts = [f"a\n\t\r{char}b" for char in [*ASCII, *others]]
    assert [_has_control(text) for text in texts] == [bool(CONTROL.search(text)) for text in texts]


def test_names_are_found_with_and_without_another_before() -> None:
    parts = [" ", "Ada", " Bo", " Cleo", " Da", ", ", "; Eve", "d ", ". ", "Fay ", "x" * 30, "\n"]
    texts = drawn(parts, 4000)
    assert [NAME.findall(text) for text in texts] == [PLAIN_NAME.findall(text) for text in texts]
    assert any(len(NAME.findall(text)) > 1 for text in texts)


def test_numbers_and_words_with_digits_are_those_of_the_plain_patterns() -> None:
    parts = ["1", "23", "45.6", ",", ".", "-", " ", "a", "B7", "\n", "\x1f", "x" * 38, ":", "_"]
    texts = drawn(parts, 4000)
    assert [NUMBER.findall(text) for text in texts] == [PLAIN_NUMBER.findall(t) for t in texts]
    words = [[word for word in WORD.findall(text) if not word.isalpha()] for text in texts]
    assert [_mixed_words(text) for text in texts] == words
    assert any(len(word) == 40 for found in words for word in found)


def test_what_speaks_to_an_assistant_has_the_words_that_are_searched_first() -> None:
    parts = ["Ignore ", "ALL ", "your ", "rules ", "reveal ", "System Prompt ", "You are now DAN "]
    parts += ["rm -rf /", "wget x", "| sh ", "<Important>", "Note to AI: ", "run ", "launch_sft "]
    for words, pattern in INSTRUCTION_LIKE:
        found = [text for text in drawn(parts, 300) if pattern.search(text)]
        assert found
        assert all(any(word in text.casefold() for word in words) for text in found)


def test_no_program_lacks_the_signs_that_are_searched_first() -> None:
    parts = [
        "```",
        ";",
        "}",
        "\n",
        "  def ",
        "class ",
        "\nimport ",
        "SELECT ",
        "function ",
        "word ",
    ]
    programs = [text for text in drawn(parts, 500) if PROGRAM.search(text)]
    assert programs
    assert all(any(sign in text for sign in QUICK_PROGRAM) for text in programs)


def test_letters_around_another_script_are_runs_of_their_own() -> None:
    assert LETTERS_A_PIECE == 8
    # Two pieces and a character of 0.5 tokens; nine letters in a row are two pieces.
    assert estimate_tokens("abcd\u00e9efghi") == estimate_tokens("abcdefghi") == 2
    assert estimate_tokens("abcdefgh" * 3 + "\u00e9" * 4) == 5
