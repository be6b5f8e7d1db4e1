"""The quick forms of the audit's checks say what the plain patterns say."""

import random
import re
from array import array
from itertools import accumulate, chain

from ft_tools.data.judge import privacy
from ft_tools.data.judge.new_information import (
    ARITHMETIC,
    NAME,
    NUMBER,
    PROGRAM,
    QUICK_PROGRAM,
    WORD,
    WORKED,
    _is_code,
    _mixed_words,
    new_information,
)
from ft_tools.data.judge.text_faults import (
    CONTROL,
    INSTRUCTION_LIKE,
    REPEATED_CHARS,
    REPEATED_DIGITS,
    _has_control,
    repeats,
)
from ft_tools.data.repeats.word_pairs import WordPairs
from ft_tools.data.repeats.words import TOKENS, Words, tokens_of
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


def test_facts_of_an_answer_are_those_of_the_plain_patterns() -> None:
    parts = [
        "1",
        "23",
        "B7",
        "a-",
        "-1",
        " ",
        ". ",
        " + ",
        "=",
        "\\frac",
        "\u0663\u0664",
        "\u00e9",
        "x",
    ]
    texts = drawn(parts, 4000)
    wanted = []
    for text in texts:
        facts = {word for word in WORD.findall(text) if _is_code(word)}
        if not ARITHMETIC.search(text) and not any(sign in text for sign in WORKED):
            facts |= {*NUMBER.findall(text)}
        wanted.append(len(facts | {*NAME.findall(text)}))
    assert [new_information("", text).num_facts for text in texts] == wanted
    assert {0, 1, 2} < set(wanted)


def test_numbers_of_people_are_looked_for_wherever_one_could_begin() -> None:
    texts = drawn(["A", "B", "c", "1", "23", " ", "(", ").", "-", "\u00e9", "\u0663", "4567"], 4000)
    begins = [bool(re.search("[A-Z]{2}[0-9]{2}", text)) for text in texts]
    assert [privacy._begins_an_iban(text) for text in texts] == begins
    long = [bool(privacy.LONG_NUMBER.search(text)) for text in texts]
    assert [privacy._has_long_number(text) for text in texts] == long
    assert {True, False} == set(begins) == set(long)


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


def test_pairs_of_words_are_those_of_each_text() -> None:
    texts = ["", "a", "b", "a b", "a b a b c", "b", "a b", "c a b a b"]
    words = Words()
    held = [words.of(text) for text in texts]
    ends = array("Q", accumulate(map(len, held)))
    kinds = bytes(at < 5 for at in range(len(texts)))
    made = WordPairs(array("I", chain(*held)), ends, kinds)
    plain = [words.pairs_of(text) for text in texts]
    assert [made.num_of(at) for at in range(len(texts))] == list(map(len, plain))
    assert made.num_different == len(
        {(kind, p) for kind, of in zip(kinds, plain, strict=True) for p in of}
    )
    for one in range(len(texts)):
        for other in range(len(texts)):
            if kinds[one] == kinds[other]:
                shared = len({*made.of(one)} & {*made.of(other)})
                assert shared == len(plain[one] & plain[other])
            else:
                assert not {*made.of(one)} & {*made.of(other)}


def test_a_letter_run_has_a_piece_for_each_eight_letters() -> None:
    for text in drawn(["a" * 7, "b", "c" * 8, " ", "\n", "\u00e9", "_"], 2000):
        runs = re.findall("[a-z]+", text)
        pieces = sum(-(-len(run) // 8) for run in runs)
        other = text.count("\u00e9")
        marks = text.count("_") + text.count("\n")
        assert estimate_tokens(text) == round(pieces + marks * 0.68 + other * 0.5)


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
