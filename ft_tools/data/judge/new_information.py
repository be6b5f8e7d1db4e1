"""How much of the answers is new information: facts that a prompt does not contain.

Numbers, names and codes of an answer are looked for in its prompt. Where most of them are new in
most examples, the file teaches facts, and fine-tuning on facts raises hallucination.
"""

import re

MOST_CHARACTERS = 4000
"""Read of a prompt's end and of an answer's beginning."""
NUMBER = re.compile(r"\d(?<![\w.,]\d)\d+(?:[.,:/]\d+)*")
WORD = re.compile(r"(?<![A-Za-z\d-])[A-Za-z-]*+\d[A-Za-z\d-]*+")
"""With a digit in it."""
IN_A_WORD = re.compile(r"\d(?:(?=[A-Za-z-])|(?<=[A-Za-z-]\d))")
"""Such a digit is in each word that has a letter, too: to look for it is faster."""
CODE_CHARS = range(3, 41)
NAME = re.compile(r"[A-Z](?<=[a-z,;] [A-Z])[a-z]{2,30}(?: [A-Z][a-z]{2,30})*")
"""Capitalized within a sentence."""
CAPITALIZED_NOUNS = frozenset({"de"})
"""Languages in which a capital letter does not mark a name."""
CALCULATION = re.compile(r"\d\s?[-+*/=\u00d7\u00f7]\s?\d|\\frac|\\boxed|\\times|####")
"""Its numbers are worked out, not told."""
PROGRAM = re.compile(
    r"```|[;{}][ \t\r]{0,8}$|^[ \t]{0,16}(?:def|class|import|SELECT|function) ", re.MULTILINE
)
# Two facts are more than a coincidence; most of them, in most examples, is a purpose. Judgement.
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
    facts = _facts_of(answer, language)
    if len(facts) < MIN_FACTS:
        return False
    given = prompt[-MOST_CHARACTERS:].casefold()
    num_new = sum(fact.casefold() not in given for fact in facts)
    return num_new > MOSTLY * len(facts) and PROGRAM.search(answer) is None


def _facts_of(answer: str, language: str) -> set[str]:
    """Return the numbers, names and codes of an answer."""
    facts: set[str] = set()
    if language not in CAPITALIZED_NOUNS:
        facts.update(NAME.findall(answer))
    if IN_A_WORD.search(answer):
        words = [word for word in WORD.findall(answer) if len(word) in CODE_CHARS]
        facts.update(word for word in words if any(map(str.isalpha, word)))
    if NUMBER.search(answer) and not CALCULATION.search(answer):
        facts.update(NUMBER.findall(answer))
    return facts


class AddedFacts:
    """Counts the examples whose answers tell facts that the prompts do not contain."""

    def __init__(self) -> None:
        self._num_examples = self._num_mostly_new = 0

    def add(self, prompt: str, answer: str, language: str) -> None:
        """Count one example; one without an answer of its own counts as none."""
        if prompt and answer:
            self._num_examples += 1
            self._num_mostly_new += is_mostly_new(prompt, answer, language)

    def findings(self) -> list[tuple[str, int]]:
        """Return `answers_add_facts` where it holds for most examples."""
        is_most = self._num_mostly_new > MOSTLY * self._num_examples
        if self._num_examples < MIN_EXAMPLES or not is_most:
            return []
        return [("answers_add_facts", self._num_mostly_new)]
