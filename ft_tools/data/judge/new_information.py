"""How much of the answers is new information: facts that a prompt does not contain.

Numbers, names and codes of an answer are looked for in its prompt. Where most of them are new in
most examples, the file teaches facts, and fine-tuning on facts raises hallucination.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

from ft_tools.similarity.words import other_characters

MOST_CHARACTERS = 4000
"""Read of a prompt's end and of an answer's beginning."""


class Patterns(NamedTuple):
    """What has digits, of one kind or of any."""

    number: re.Pattern[str]
    """No word, dot or comma before it: that is looked at behind its first digit, if it has one."""
    word: re.Pattern[str]
    """With a digit in it."""
    arithmetic: re.Pattern[str]
    """Numbers of a calculation are worked out, not told."""


def _patterns(digit: str) -> Patterns:
    """Return the patterns; `digit` is what stands for one within brackets."""
    return Patterns(
        re.compile(rf"[{digit}](?<![\w.,][{digit}])[{digit}]+(?:[.,:/][{digit}]+)*"),
        re.compile(rf"(?<![A-Za-z{digit}-])[A-Za-z-]*+[{digit}][A-Za-z{digit}-]*+"),
        re.compile(rf"[{digit}]\s?[-+*/=\u00d7\u00f7]\s?[{digit}]"),
    )


ANY = _patterns(r"\d")
ASCII = _patterns("0-9")
"""Twice as fast."""
CODE_CHARS = range(3, 41)
_ALIKE = bytes(
    48 if c in b"0123456789"
    else 32 if c == 32
    else 59 if c in b",;"
    else 46 if c > 127 or not chr(c).isalpha()
    else 65 if chr(c).isupper()
    else 97
    for c in range(256)
)  # fmt: skip
"""Digits become 0, letters a or A, what may stand before a name `;`, and the rest a dot."""
CODES = (b"a0", b"A0", b"0a", b"0A")
NAMES = (b"a Aaa", b"; Aaa")
NAME = re.compile(r" (?<=[a-z,;] )([A-Z][a-z]{2,30}(?: [A-Z][a-z]{2,30})*)")
"""Capitalized within a sentence."""
WORKED = ("\\frac", "\\boxed", "\\times", "####")
"""Signs of a calculation."""
LINE_OF_A_PROGRAM = re.compile(r"^[ \t]{0,16}(?:def|class|import|SELECT|function) ", re.MULTILINE)
END_OF_A_LINE = re.compile(r"[;{}][ \t\r]{0,8}$", re.MULTILINE)
# One of these is where the pattern finds something: plain search is many times faster.
PROGRAM = (
    (("def ", "class ", "import ", "SELECT ", "function "), LINE_OF_A_PROGRAM),
    ((";", "{", "}"), END_OF_A_LINE),
)
CAPITALIZED_NOUNS = frozenset({"de"})
"""Languages in which a capital letter does not mark a name."""

# Ours: two facts are more than a coincidence; most of them, in most examples, is a purpose.
MIN_FACTS = 2
MOSTLY = 0.5
MIN_EXAMPLES = 20


def is_mostly_new(prompt: str, answer: str, language: str = "") -> bool:
    """Return whether an answer tells facts that its prompt does not contain.

    Programs tell none, and the numbers of a calculation are none.

    >>> is_mostly_new("When was the depot opened?", "It was opened in 1987 by Ada Moreno.")
    True
    >>> is_mostly_new("Ada Moreno opened it in 1987. Who, when?", "It was Ada Moreno in 1987.")
    False
    """
    answer = answer[:MOST_CHARACTERS]
    facts = facts_of(answer, language)
    is_new = len(facts) >= MIN_FACTS and _num_new(facts, prompt) > MOSTLY * len(facts)
    return is_new and not _is_program(answer)


def facts_of(answer: str, language: str = "") -> set[str]:
    """Return the numbers, names and codes of an answer."""
    facts: set[str] = set()
    # Digits that are not ASCII are rare.
    is_plain = answer.isascii() or not any(map(str.isdecimal, other_characters(answer)))
    by = ASCII if is_plain else ANY
    # Without hyphens a code has a letter beside a digit, and a number has two digits.
    signs = answer.encode("ascii", "ignore").translate(_ALIKE, b"-")
    if not is_plain or b"0" in signs:
        if not is_plain or any(map(signs.__contains__, CODES)):
            facts = {*filter(_is_code, by.word.findall(answer))}
        if not is_plain or b"00" in signs:
            facts |= _numbers(answer, by)
    if language not in CAPITALIZED_NOUNS and any(map(signs.__contains__, NAMES)):
        facts |= {*NAME.findall(answer)}
    return facts


def _num_new(facts: set[str], prompt: str) -> int:
    """Count the facts that a prompt does not contain."""
    given = prompt[-MOST_CHARACTERS:].casefold()
    return sum([fact.casefold() not in given for fact in facts])


def _numbers(text: str, by: Patterns) -> set[str]:
    """Return the numbers that a text tells, not those that it works out."""
    is_worked = any(map(text.__contains__, WORKED)) or by.arithmetic.search(text)
    return set() if is_worked else {*by.number.findall(text)}


def _is_program(text: str) -> bool:
    """Return whether a text is a program, or shows one."""
    holds = text.__contains__
    return "```" in text or any(any(map(holds, signs)) and by.search(text) for signs, by in PROGRAM)


def _is_code(word: str) -> bool:
    """Return whether a word with a digit has a letter, too, as the number of a part does."""
    return len(word) in CODE_CHARS and any(map(str.isalpha, word))


@dataclass
class AddedFacts:
    """Counts the examples whose answers tell facts that the prompts do not contain."""

    num_examples: int = 0
    num_mostly_new: int = 0

    def add(self, prompt: str, answer: str, language: str) -> None:
        """Count one example; one without an answer of its own counts as none."""
        if prompt and answer:
            self.num_examples += 1
            self.num_mostly_new += is_mostly_new(prompt, answer, language)

    def findings(self) -> list[tuple[str, int]]:
        """Return `answers_add_facts` where it holds for most examples."""
        is_most = self.num_mostly_new > MOSTLY * self.num_examples
        if self.num_examples < MIN_EXAMPLES or not is_most:
            return []
        return [("answers_add_facts", self.num_mostly_new)]
