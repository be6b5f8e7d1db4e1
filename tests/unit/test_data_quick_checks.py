"""The quick forms of the audit's checks say what the plain patterns say."""

import random
import re
from array import array
from itertools import accumulate, chain, pairwise
from pathlib import Path

from ft_tools.data.judge import privacy
from ft_tools.data.judge.new_information import (
    ANY,
    NAME,
    WORKED,
    _is_program,
    facts_of,
)
from ft_tools.data.judge.new_information import ASCII as ASCII_PATTERNS
from ft_tools.data.judge.text_faults import (
    BOILERPLATE,
    BOILERPLATE_STARTS,
    CHAT_MARKS,
    CONTROL,
    GENERATED,
    INSTRUCTION_LIKE,
    MARKER_WORDS,
    MARKERS,
    REPEATED_CHARS,
    REPEATED_DIGITS,
    TELLING,
    UNSEEN,
    UNSEEN_WORDS,
    _has_control,
    contents,
    repeats,
    telling_words,
)
from ft_tools.data.read.example_texts import telling_words_of, that_may_be_private
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.read.scan import _privacy
from ft_tools.data.read.scanned import Scan
from ft_tools.data.understand.lengths import LETTERS_A_PIECE, estimate_all, estimate_tokens
from ft_tools.formats.formats import normalise
from ft_tools.similarity import word_hashes, word_pairs
from ft_tools.similarity.word_hashes import WordNumbers, WordSet, tokens_in
from ft_tools.similarity.word_pairs import WordPairs
from ft_tools.similarity.words import (
    FEW_OTHERS,
    TOKENS,
    folded,
    other_characters,
    tokens_of,
)

ASCII = [chr(code) for code in range(128)]
PLAIN_NUMBER = re.compile(r"(?<![\w.,])\d{2,}(?:[.,:/]\d+)*")
WORD = re.compile(r"[A-Za-z\d-]+")
PLAIN_PROGRAM = re.compile(
    r"```|[;{}][ \t\r]{0,8}$|^[ \t]{0,16}(?:def|class|import|SELECT|function) ", re.MULTILINE
)
PLAIN_NAME = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]{2,30}(?: [A-Z][a-z]{2,30})*")


def drawn(parts: list[str], count: int) -> list[str]:
    """Return texts of a few parts each."""
    numbers = random.Random(5)
    return ["".join(numbers.choices(parts, k=12)) for _ in range(count)]


def test_words_and_signs_of_ascii_are_those_of_the_pattern() -> None:
    texts = [f"a{one}{other}b" for one in ASCII for other in ASCII]
    assert [tokens_of(text) for text in texts] == [TOKENS.findall(text.lower()) for text in texts]


def test_words_and_signs_of_other_characters_are_those_of_the_pattern() -> None:
    letters = "\u00e9\u00df\u0130\u017f\u0663\u0301\u03b1\u03b2\u03b3\u03b4\u03b5\u4f60"
    marks = "\u201c\u2014\u3002\u2020\u2021\u2022\U0001f600\ud800\xa0\u2028\x1c"
    texts = drawn([*letters, *marks, "a", "B1", " ", "-", "_", "+"], 6000)
    assert [tokens_of(text) for text in texts] == [TOKENS.findall(folded(t)) for t in texts]
    num_others = [len(set(other_characters(text))) for text in texts if "\u4f60" not in text]
    assert min(num_others) <= FEW_OTHERS // 2


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
    words = [[w for w in WORD.findall(text) if any(map(str.isdigit, w))] for text in texts]
    for by in (ANY, ASCII_PATTERNS):
        assert [by.number.findall(t) for t in texts] == [PLAIN_NUMBER.findall(t) for t in texts]
        assert [by.word.findall(text) for text in texts] == words
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
        words = [word for word in WORD.findall(text) if 3 <= len(word) <= 40]
        facts = {w for w in words if any(map(str.isdigit, w)) and any(map(str.isalpha, w))}
        if not ANY.arithmetic.search(text) and not any(sign in text for sign in WORKED):
            facts |= {*PLAIN_NUMBER.findall(text)}
        wanted.append(len(facts | {*NAME.findall(text)}))
    assert [len(facts_of(text)) for text in texts] == wanted
    assert {0, 1, 2} < set(wanted)


def test_what_is_found_in_many_texts_at_once_is_what_is_found_in_each() -> None:
    parts = ["a b1", "C++ ", "\u00e9", "\u4f60", "", "\n", "@", "hf_", "_", "://", "1234 5", "AB12"]
    texts = drawn(parts, 2000)
    texts = [text[: at % 30] for at, text in enumerate(texts)]
    assert estimate_all(texts) == list(map(estimate_tokens, texts))
    found = privacy.that_may_hold(texts)
    assert found == {at for at, text in enumerate(texts) if privacy.may_hold(text)}
    assert 0 < len(found) < len(texts)


def test_words_are_numbered_as_the_words_of_each_text_are(monkeypatch) -> None:
    parts = ["a ", "b1", "C++ ", "#", "\u00e9", "\u201d", "\u4f60", "-", ",", "_", "x" * 9, "\0"]
    texts = [text[: at % 40] for at, text in enumerate(drawn(parts, 2000))]
    known: dict[str, int] = {}
    wanted = [[known.setdefault(w, len(known) + 1) for w in tokens_of(text)] for text in texts]
    # Few slots: most words of a slot push another one out.
    monkeypatch.setattr(word_hashes, "SLOT_BITS", 5)
    monkeypatch.setattr(word_hashes, "PIECE", 20)
    numbers, found = WordNumbers(), []
    for at in range(0, len(texts), 50):
        tokens = tokens_in(texts[at : at + 50])
        of = numbers.of(tokens.hashes).tolist()
        found += [of[start:end] for start, end in pairwise([0, *tokens.ends.tolist()])]
    assert found == wanted
    assert len(known) > 200
    looked_for = sorted(known)[::7]
    said = WordSet(looked_for).within(tokens_in(texts))
    assert said == [{*tokens_of(text)} & {*looked_for} for text in texts]
    assert tokens_in([]).hashes.tolist() == tokens_in([""]).hashes.tolist() == []


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
    tokens = tokens_in(texts)
    kinds = bytes(at < 5 for at in range(len(texts)))
    numbers = array("I", WordNumbers().of(tokens.hashes).tobytes())
    made = WordPairs(numbers, array("Q", tokens.ends.tolist()), kinds)
    plain = [{*pairwise(words)} or {*words} for words in map(str.split, texts)]
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


def test_what_a_pattern_finds_has_one_of_its_words() -> None:
    texts = drawn(SAYINGS, 4000)
    words = list(map(telling_words, texts))
    for patterns in (BOILERPLATE, GENERATED, INSTRUCTION_LIKE):
        for by in {by for found in patterns.values() for by in found}:
            its = {word for word, found in patterns.items() if by in found}
            told = [said for text, said in zip(texts, words, strict=True) if by.search(text)]
            assert all(said & its for said in told)
            assert told
    for by, its in ((MARKERS, MARKER_WORDS), (UNSEEN, UNSEEN_WORDS)):
        told = [s for t, s in zip(texts, words, strict=True) if by.search(t) and "![" not in t]
        assert told
        assert all(said & its for said in told)
    for text in texts:
        assert all(mark in text.lower() for mark, by in CHAT_MARKS if by.search(text))
        if any(by.search(text) for found in BOILERPLATE.values() for by in found):
            assert any(start in text.lower() for start in BOILERPLATE_STARTS)


def test_an_example_has_the_same_faults_whether_its_words_are_looked_up_or_all_are_said() -> None:
    texts = iter(drawn(SAYINGS, 6000))
    seen: set[str] = set()
    for at in range(1000):
        one, two, three, four = (next(texts) for _ in range(4))
        asked = {"role": "user", "content": two}
        turns = [{"role": "system", "content": one}, asked, {"role": "assistant", "content": three}]
        rows = [
            {"messages": [*turns, {"role": "user", "content": four}][at % 2 :]},
            {"prompt": two, "chosen": three, "rejected": four},
            {"prompt": two, "completion": three, "label": at % 2 == 0},
            {"text": four},
            {"instruction": one, "output": three},
        ]
        example = normalise(1, rows[at % 5])
        asks, answers = example.prompt_and_answer()
        turns = [*asks, *answers, *example.rejected]
        words = telling_words("\n".join(turn["content"] for turn in turns))
        said = telling_words_of(example, asks, answers, words)
        found = contents(example, said)
        assert found == contents(example, TELLING) == contents(example)
        seen.update(found)
    assert len(seen) >= 6


def test_a_secret_is_looked_for_wherever_an_example_has_a_text() -> None:
    secret = "sk-" + "a1" * 12
    asked, answered = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
    plain = {"messages": [asked, answered]}
    assert that_may_be_private([normalise(1, plain)]) == set()
    for row in (
        {"messages": [asked | {"content": secret}, answered]},
        {"messages": [asked | {"name": secret}, answered]},
        {"messages": [asked, answered | {"thinking": secret}]},
        {"messages": [asked, answered | {"tool_calls": [{"function": {"name": secret}}]}]},
        plain | {"tools": [{"function": {"name": secret}}]},
        plain | {"system": secret},
        {"prompt": "a", "chosen": "b", "rejected": secret},
        {"text": secret},
    ):
        assert that_may_be_private([normalise(1, r) for r in (plain, row, plain)]) == {1}
        scanned = Scan(Ledger(with_pairs=False), (Path("a"), None))
        assert _privacy(scanned, normalise(1, row)) == ["secret"]


def test_programs_are_those_of_the_plain_pattern() -> None:
    parts = ["```", ";", "}", "\n", "  def ", "class ", "\nimport ", "SELECT ", "word "]
    texts = [text[: at % 40] for at, text in enumerate(drawn(parts, 2000))]
    programs = [bool(PLAIN_PROGRAM.search(text)) for text in texts]
    assert [_is_program(text) for text in texts] == programs
    assert {True, False} == set(programs)


def test_pairs_of_words_are_numbered_alike_however_they_are_sorted(monkeypatch) -> None:
    numbers = random.Random(2)
    held = [numbers.choices(range(1, 9), k=numbers.randrange(7)) for _ in range(60)]
    ends = array("Q", accumulate(map(len, held)))
    kinds = bytes(at % 2 for at in range(len(held)))

    def made(words):
        pairs = WordPairs(array("I", chain(*words)), ends, kinds)
        return [pairs.of(at) for at in range(len(held))], pairs.num_different

    at_once = made(held)
    # Words of so high numbers leave no room for a place beside a pair.
    assert made([[2**31 - 10 + word for word in words] for words in held]) == at_once
    monkeypatch.setattr(word_pairs, "SORTED_AT_ONCE", 20)
    in_parts = made(held)
    assert in_parts[1] == at_once[1]
    assert [*map(len, in_parts[0])] == [*map(len, at_once[0])]


def test_letters_around_another_script_are_runs_of_their_own() -> None:
    assert LETTERS_A_PIECE == 8
    # Two pieces and a character of 0.5 tokens; nine letters in a row are two pieces.
    assert estimate_tokens("abcd\u00e9efghi") == estimate_tokens("abcdefghi") == 2
    assert estimate_tokens("abcdefgh" * 3 + "\u00e9" * 4) == 5
