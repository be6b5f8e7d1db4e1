"""No number in prose that facts/ or a benchmark does not have.

A number of SKILL.md, README.md or references/ must be a value of `ft_tools/facts/*.toml`, or stand
in the result of a benchmark that its section names, rounded as it is printed there. What no other
facts file holds has a row in `ft_tools/facts/prose.toml`: what is said, values, units, source.
"""

import ast
import json
import operator
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

ROOT = Path(__file__).parent.parent
FACTS = ROOT / "ft_tools" / "facts"
PAGES = ["SKILL.md", "README.md", *(f"references/{p.name}" for p in ROOT.glob("references/*.md"))]
TABLES = ("thresholds.toml", "approaches.toml", "gpus.toml")
NOT_QUOTED = {"bf16_dense_tflops", "memory_gib"}

# Not claims: front matter, code, tables made from the facts (a test compares them),
WHOLE = (
    r"\A---\n.*?\n---\n",
    r"```.*?```",
    r"<!-- made from (\w+) -->.*?<!-- end of \1 -->",
)
# code in a line, links and citations, numbers of a list,
NOT_PROSE = (
    r"^ {4,}(?![-*\d]).*$",
    r"`[^`\n]*`",
    r"\[[^\]\n]*\]\([^)\n]*\)",
    r"https?://\S+",
    r"\([A-Z][A-Za-z.,& ]+ \d+, (?:19|20)\d\d(?:, \d+-\d+)?\)",
    r"^\s*\d+\. ",
)
# names that have a number in them, references to steps of a list.
NAMES = (
    r"\b(?:Llama|Qwen|Gemma|OLMo|Phi|Mistral|GPT|Tulu|RTX|FSDP|DeepSeek|Granite|Falcon)[ -]?"
    r"\d[\d.]*\w*(?:(?:,| and) \d(?![\d%]))*",
    r"\b(?:TRL|PEFT|transformers|Python|vLLM|torch|CUDA|Node|fitcheck-llm)\s\d+(?:\.\d+)*",
    r"\b\d+x?\d*B\b",
    r"\b(?:4|8|16|32)[- ]bits?\b",
    r"\bsteps?\s+\d+(?:\s(?:to|and)\s\d+)*",
    r"\bISO \d+",
)
UNITS = r"(?:[kM]B?|GB|[KMG]iB|ms|s|h|x)?"
NUMBER = re.compile(rf"(?<![\w.])x?(\d[\d,]*(?:\.\d+)?(?:e-?\d+)?){UNITS}(?!\w)")
SCALES = (1.0, 100.0, 1e-6)
"""A measurement may be printed as it is, as per cent, or as millions (bytes as MB)."""

CURE = """
{page} says {number} in: {line}
A number in prose needs a source. One of:
 - say it with the value that ft_tools/facts/thresholds.toml has;
 - name the benchmark (`benchmarks/NAME.json`) in the same section, if its result has the number;
 - add a row to ft_tools/facts/prose.toml:
   [[{table}]]
   says = "..."
   values = [{number}]
   units = "..."
   source = "https://..."   (or a file that holds it: benchmarks/*.json, tests/*.py, ft_tools/*;
                             or "arithmetic: 0.5 + 4/64")
"""


class Figure(BaseModel):
    """A row of prose.toml: numbers that a page states."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str = Field(min_length=8)
    values: list[float] = Field(min_length=1)
    units: str = Field(min_length=1)
    source: str = Field(min_length=8)


def name(page: str) -> str:
    return Path(page).stem.lower()


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def figures() -> dict[str, list[Figure]]:
    rows = tomllib.loads((FACTS / "prose.toml").read_text(encoding="utf-8"))
    return {page: [Figure.model_validate(row) for row in listed] for page, listed in rows.items()}


@cache
def known() -> frozenset[float]:
    return frozenset(
        value
        for file in TABLES
        for value in leaves(tomllib.loads((FACTS / file).read_text(encoding="utf-8")))
    )


def leaves(data: Any) -> Iterator[float]:
    """Yield the numbers of nested tables and lists; text is not searched."""
    if isinstance(data, dict):
        data = [value for key, value in data.items() if key not in NOT_QUOTED]
    if isinstance(data, list):
        for each in data:
            yield from leaves(each)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        yield float(data)


def prose(text: str) -> str:
    """Blank out what makes no claim, keeping the lines."""
    for pattern in WHOLE:
        text = re.sub(pattern, lambda m: "\n" * m[0].count("\n"), text, flags=re.S)
    for pattern in (*NOT_PROSE, *NAMES):
        text = re.sub(pattern, " ", text, flags=re.M)
    return text


def numbers(text: str) -> list[tuple[str, bool]]:
    """Return the numbers of a text, without separators of thousands; True: of per cent.

    >>> numbers("from 1,000 to 2e-4, x1.16 of 0.5% and 256MiB")
    [('1000', False), ('2e-4', False), ('1.16', False), ('0.5', True), ('256', False)]
    """
    return [
        (found[1].replace(",", ""), text[found.end() :].lstrip(" ").startswith(("%", "per cent")))
        for found in NUMBER.finditer(text)
    ]


def sections(text: str) -> list[str]:
    return re.split(r"^(?=#+ )", text, flags=re.M)


def measured(section: str) -> list[float]:
    """Return the numbers in the results of the benchmarks that a section names."""
    found: list[float] = []
    for each in set(re.findall(r"benchmarks/(\w+)\.(?:py|json)", section)):
        result = ROOT / "benchmarks" / f"{each}.json"
        if result.is_file():
            found += leaves(json.loads(result.read_text(encoding="utf-8")))
    return found


def is_measured(printed: str, values: Iterable[float]) -> bool:
    """Tell whether a value rounds to what is printed, at the digits that are printed."""
    digits = len(printed.partition(".")[2]) if "e" not in printed else 12
    return any(
        abs(round(abs(value) * scale, digits) - float(printed)) < 10.0 ** -(digits + 3)
        for value in values
        for scale in SCALES
    )


def unsourced(page: str, text: str) -> list[tuple[str, str]]:
    """Return (number, line) of what nothing backs."""
    stated = {value for row in figures().get(name(page), []) for value in row.values}
    found = []
    for section in sections(text):
        results = measured(section)
        for line in prose(section).splitlines():
            for printed, is_per_cent in numbers(line):
                value = float(printed)
                values = {value, round(value / 100, 9)} if is_per_cent else {value}
                if not values & (known() | stated) and not is_measured(printed, results):
                    found.append((printed, line.strip()))
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_number_of_a_page_is_in_the_facts_or_in_a_benchmark(page):
    problems = [
        CURE.format(page=page, number=number, line=line[:120], table=name(page))
        for number, line in unsourced(page, text_of(page))
    ]

    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", figures())
def test_every_row_has_a_source_that_holds_its_values(page):
    assert [row.says for row in figures()[page] if not_held(row)] == []


def not_held(row: Figure) -> list[float]:
    """Return the values of a row that its source does not have; an address is not opened."""
    if row.source.startswith("arithmetic: "):
        held = [calculate(row.source.partition(": ")[2])]
    elif row.source.startswith(("https://", "ours: ")):
        held = row.values
    else:
        held = values_in(ROOT / row.source) or row.values
    return [value for value in row.values if not is_measured(spelt(value), held)]


def values_in(path: Path) -> list[float]:
    """Return the numbers of a file; of a benchmark, those of its result, none without one."""
    text = path.read_text(encoding="utf-8")
    if path.parent.name == "benchmarks":
        result = path.with_suffix(".json")
        return list(leaves(json.loads(result.read_text("utf-8")))) if result.is_file() else []
    written = re.findall(r"(?<![\w.])\d[\d_]*(?:\.\d+)?(?:e-?\d+)?", text)
    return [float(each.replace("_", "")) for each in written]


@pytest.mark.parametrize("page", PAGES)
def test_every_row_is_said_by_its_page(page):
    said = {float(each) for each, _ in numbers(prose(text_of(page)))}
    stale = [row.says for row in figures().get(name(page), []) if set(row.values) - said]

    assert stale == [], "the page no longer says this: change or remove these rows"


def spelt(value: float) -> str:
    return f"{value:.10f}".rstrip("0").rstrip(".")


OPERATIONS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def calculate(expression: str) -> float:
    """Work out a sum of numbers.

    >>> calculate("0.5 + 4/64")
    0.5625
    """

    def value(node: ast.AST) -> float:
        if isinstance(node, ast.BinOp):
            return OPERATIONS[type(node.op)](value(node.left), value(node.right))
        assert isinstance(node, ast.Constant), ast.dump(node)
        return float(node.value)

    return value(ast.parse(expression, mode="eval").body)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("arithmetic: 3 * 7", 22),
        ("benchmarks/startup.json", 7777),
        ("ft_tools/examples/json_stream.py", 7777),
    ],
)
def test_a_row_whose_source_says_something_else_is_found(source, value):
    row = Figure(says="something else", values=[value], units="none", source=source)

    assert not_held(row) == [value]


@pytest.mark.parametrize(
    "text",
    [
        "Accuracy rises by 7.77 points.",
        "It needs 7777 examples ([Someone 2024](https://example.org/7777)).",
        "| rank | 77.7% |",
        "77.7GB are enough, see [the guide](https://example.org).",
        "x7.77 faster, measured with `benchmarks/startup.py`.",
    ],
)
def test_a_number_that_nobody_backs_is_found(text):
    assert len(unsourced("references/lora.md", text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "1. TRL 1.16 and Llama 3.2 3B in 4-bit weights; Gemma 2 and 3; see step 7 to 9.",
        "`7777` and\n```\n7777\n```\nand ([Someone 7777](https://example.org/7777)).",
        "Connor's formula (Biometrics 43, 1987) and (Statistics in Medicine 17, 1998, 891-908).",
    ],
)
def test_names_code_and_citations_are_no_claims(text):
    assert unsourced("references/lora.md", text) == []


def test_a_measurement_counts_only_where_its_benchmark_is_named():
    result = json.loads(text_of("benchmarks/startup.json"))
    printed = f"{result['time_ratio']:.3f}"

    assert unsourced("references/lora.md", f"It took {printed} times as long.")
    assert not unsourced("references/lora.md", f"It took {printed} times (`benchmarks/startup.py`)")
