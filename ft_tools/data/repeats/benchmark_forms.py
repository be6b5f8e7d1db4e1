"""Read benchmark files by their parts: a question, the same without its passage, code, an answer.

The published benchmarks are recognised by the columns of their own files; in others the question
is looked for under the usual names.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools.data.repeats.code_parts import comments_of, is_program, values_of
from ft_tools.data.understand.languages import FUNCTION_WORDS
from ft_tools.formats.example import content_of
from ft_tools.formats.formats import normalise
from ft_tools.formats.readers.source import find_sources, read

# Columns of benchmarks that no format of training data has, in lower case: MATH, HellaSwag,
# WinoGrande, PIQA, OpenBookQA, MT-Bench, SVAMP.
QUESTIONS = ("question", "problem", "ctx", "sentence", "goal", "question_stem", "turns", "body")
# Name -> the columns that its own files have, in lower case.
FORMS: dict[str, frozenset[str]] = {
    "HumanEval": frozenset({"prompt", "canonical_solution", "entry_point"}),
    "MBPP": frozenset({"code", "test_list"}),
    "IFEval": frozenset({"prompt", "instruction_id_list"}),
    "GPQA": frozenset({"question", "correct answer", "incorrect answer 1"}),
    "MATH": frozenset({"problem", "solution", "level"}),
    "MATH-500": frozenset({"problem", "solution", "subject", "unique_id"}),
    "MMLU": frozenset({"question", "choices", "answer"}),
    "MMLU-Pro": frozenset({"question", "options", "answer"}),
}
SOLUTIONS = ("canonical_solution", "code")
WORKED = ("solution", "explanation", "answer")
CHOICES = ("choices", "options", "correct answer")
GSM8K_END = "####"
LETTERS = frozenset("ABCD")
NUM_MMLU_COLUMNS = 6
"""The original CSV files of MMLU have no header: question, four choices, the letter."""
CALCULATION = re.compile(r"<<[^<>\n]{0,80}>>")
CHOICE_LINE = re.compile(r"^[ \t]*\(?[A-Ja-j][.):][ \t].*$", re.MULTILINE)
MIN_PASSAGE_WORDS = 30
MIN_ASKED_WORDS = 3
"""Words of its own that a question without its passage needs, or it fits every passage."""
WORD = re.compile(r"[^\W\d_]{2,}")
GENERAL = (
    "following statement statements true false correct best describes describe above below passage "
    "most likely according author excerpt except answer question text information"
)
OF_EVERY_QUESTION = FUNCTION_WORDS["en"].union(GENERAL.split())


@dataclass(frozen=True)
class Item:
    """A question of a benchmark, by the parts that are compared."""

    question: str
    """All that is asked; empty where no question is recognised."""
    asked: str = ""
    """The question alone, where it has choices or a passage before it."""
    comment: str = ""
    """What its program does, in words."""
    program: str = ""
    solution: str = ""
    """A program that answers it."""
    answer: str = ""
    """An answer in words."""
    values: frozenset[str] = frozenset()
    """Of the program's examples and tests."""
    benchmark: str = ""
    """The published benchmark that has files of this form; empty if none is recognised."""


def items_of(path: Path) -> Iterator[Item]:
    """Yield each row of a benchmark file; one without a question where none is recognised."""
    for source in find_sources(path):
        for row in read(source):
            if row.problem:
                yield Item("")
                continue
            if source.kind in {"csv", "tsv"} and _has_no_header(row.value):
                if row.number == 1:
                    yield _of_choices(list(row.value))
                yield _of_choices(list(row.value.values()))
                continue
            yield _item(row.number, row.value)


def last_part(text: str) -> str:
    r"""Return a question without its choices and without the passage before it; empty if none.

    >>> last_part("one two three four five six " * 6 + "\nWhich river is it?\nA. Po\nB. Inn")
    'Which river is it?'
    >>> last_part("Which river is it?")
    ''
    """
    plain = CHOICE_LINE.sub("", text).strip()
    passage, _, last = plain.rpartition("\n")
    if len(passage.split()) >= MIN_PASSAGE_WORDS:
        return last.strip()
    return plain if plain != text.strip() else ""


def is_telling(asked: str) -> bool:
    """Tell whether a question says enough by itself to be looked for without its passage.

    >>> is_telling("Which of the following is true?"), is_telling("Who led the Whiskey Rebellion?")
    (False, True)
    """
    own = {word for word in WORD.findall(asked.lower()) if word not in OF_EVERY_QUESTION}
    return len(own) >= MIN_ASKED_WORDS


def _item(number: int, row: Any) -> Item:
    example = normalise(number, row)
    if example.text is not None:
        question = example.text
    else:
        turns, _ = example.prompt_and_answer()
        question = "\n".join(content_of(m) for m in turns if m["role"] == "user")
    question = question.strip() or _named(row)
    is_row = isinstance(row, Mapping)
    columns = {str(name).lower(): value for name, value in row.items()} if is_row else {}
    benchmark = _form(columns)
    solution = _first_text(columns, SOLUTIONS)
    if solution or is_program(question):
        return _program(question, solution, columns, benchmark)
    asked = last_part(question)
    if not asked and any(name in columns for name in CHOICES):
        asked = question
    answer = CALCULATION.sub("", _first_text(columns, WORKED))
    return Item(question, asked, answer=answer, benchmark=benchmark)


def _program(question: str, solution: str, columns: Mapping[str, Any], benchmark: str) -> Item:
    """Return a question that is answered by a program, or that is one."""
    comments = comments_of(question)
    words = "" if is_program(question) else question
    tests = columns.get("test_list", columns.get("test", ""))
    return Item(
        question,
        comment=comments[-1] if comments else words,
        program=f"{question}\n{solution}",
        solution=solution or question,
        values=values_of(f"{question}\n{tests}"),
        benchmark=benchmark,
    )


def _form(columns: Mapping[str, Any]) -> str:
    """Name the published benchmark whose files have these columns."""
    if columns.keys() >= {"question", "answer"} and GSM8K_END in str(columns["answer"]):
        return "GSM8K"
    return next((name for name, needed in FORMS.items() if needed <= columns.keys()), "")


def _has_no_header(row: Any) -> bool:
    """Tell whether a CSV row is of MMLU's own files, whose first question stands as the header."""
    if not isinstance(row, Mapping) or len(row) != NUM_MMLU_COLUMNS:
        return False
    return list(row)[-1] in LETTERS and list(row.values())[-1] in LETTERS


def _of_choices(cells: list[str]) -> Item:
    question = cells[0].strip()
    return Item(question, last_part(question) or question, benchmark="MMLU")


def _first_text(columns: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((v for name in names if isinstance(v := columns.get(name), str) and v.strip()), "")


def _named(row: Any) -> str:
    """Return what the columns of a benchmark that is no training data ask.

    >>> _named({"Problem": "What is 2 + 2?", "level": "1"})
    'What is 2 + 2?'
    """
    if not isinstance(row, Mapping):
        return ""
    columns = {str(name).lower(): value for name, value in row.items()}
    for name in QUESTIONS:
        value = columns.get(name)
        if isinstance(value, Mapping):
            # The stem of a multiple choice, as ARC has it.
            value = value.get("stem")
        if isinstance(value, list) and all(isinstance(turn, str) for turn in value):
            value = "\n".join(value)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""
