"""Declared checks: what each kind pays for, and which tricks it does not."""

import time

import pytest
from pydantic import TypeAdapter, ValidationError

from ft_tools.errors import BadData, BadInput
from ft_tools.metrics.checks.request import Check, check_names, require_goal
from ft_tools.metrics.checks.scorer import MOST_CHARACTERS, Scorer, require_columns, scored_row

CHECKS = TypeAdapter(list[Check])
SCHEMA = {
    "type": "object",
    "properties": {"team": {"$ref": "#/$defs/team"}, "tags": {"type": "array"}},
    "required": ["team"],
    "additionalProperties": False,
    "$defs": {"team": {"type": "string"}},
}


def score(check, answer, row=None):
    row = {"answer": "", "prompt": ""} | (row or {})
    with Scorer(CHECKS.validate_python([check])) as scorer:
        [found] = scorer.score([row], [answer])
    return found.total


EQUALS, NUMBER = {"kind": "equals"}, {"kind": "number"}
TAGGED = EQUALS | {"extract": {"pattern": "<a>(.*?)</a>"}}
JSON = {"kind": "json_schema", "schema": SCHEMA}
VALUED = JSON | {"values": {"team": "queue"}}
RIGHT = {
    "text": (EQUALS, " OSLO ", {"answer": "Oslo"}),
    "JSON by values": (EQUALS, '{"b": 2, "a": "X"}', {"answer": {"a": "x", "b": 2}}),
    "a boolean column": (EQUALS, "True", {"answer": True}),
    "one tag": (TAGGED, "so <a>B</a>, yes <a>b</a>", {"answer": "B"}),
    "after a thought": (EQUALS, "<think>\nB?\n</think>\n\nb", {"answer": "B"}),
    "a reference after a thought": (EQUALS, "b", {"answer": "<think>A?</think> B"}),
    "a thought in a column": (EQUALS | {"reference": "gold"}, "b", {"gold": "<think>A?</think> B"}),
    "a thought in its form": ({"kind": "pattern", "pattern": "(?s)<think>.*</think>.*"},
                              "<think>B?</think> b", {}),
    "a JSON path": (EQUALS | {"extract": {"json_path": "a.b[1]"}}, '{"a": {"b": [0, 7]}}',
                    {"answer": "7"}),
    "the last number": (NUMBER, "2 + 2 = 4.0", {"answer": "#### 4"}),
    "a number": (NUMBER, "It is 1,000.", {"answer": 1000}),
    "a typeset minus": (NUMBER, "\u22125", {"answer": -5}),
    "a number nearby": (NUMBER | {"absolute_tolerance": 0.5}, "99.6", {"answer": "100"}),
    "a number in a tag": (NUMBER | {"extract": {"pattern": "= (.*)"}}, "x = 3\nnot 4",
                          {"answer": "3"}),
    "JSON": (JSON, '{"team": "a"}', {}),
    "JSON with its value": (VALUED, '{"team": "A"}', {"queue": "a"}),
    "a pattern": ({"kind": "pattern", "pattern": r"[A-Z]{2}-\d+"}, "AB-12\n", {}),
    "contains": ({"kind": "contains", "texts": ["15 eur", "vat"]}, "15 EUR with VAT", {}),
    "contains a column": ({"kind": "contains", "texts": "must"}, "It is 5 EUR.",
                          {"must": {"regex": r"\b5 eur"}}),
    "lacks": ({"kind": "lacks", "texts": ["sorry"]}, "Here it is.", {}),
    "length": ({"kind": "length", "min": 2, "max": 5}, "three whole words", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_paid_in_full(name):
    assert score(*RIGHT[name]) == 1.0


WRONG = {
    "every label": (EQUALS, "A or B or C", {"answer": "A"}),
    "every label in its tag": (TAGGED, "<a>A</a><a>B</a>", {"answer": "A"}),
    "every label in one tag": (TAGGED, "<a>A, B</a>", {"answer": "A"}),
    "no tag": (TAGGED, "A", {"answer": "A"}),
    "another case": (EQUALS | {"case_sensitive": True}, "oslo", {"answer": "Oslo"}),
    "the case inside JSON": (EQUALS | {"case_sensitive": True}, '["a"]', {"answer": ["A"]}),
    "true for 1": (EQUALS, "[true]", {"answer": [1]}),
    "nan": (NUMBER | {"relative_tolerance": 0.9}, "nan", {"answer": "5"}),
    "infinity": (NUMBER | {"absolute_tolerance": 1e300}, "1e999", {"answer": "5"}),
    "a number to be computed": (NUMBER, "2**100", {"answer": "1.3e30"}),
    "several numbers": (NUMBER | {"extract": {"pattern": r"= (\d+)"}}, "= 3 or = 4",
                        {"answer": "3"}),
    "prose around JSON": (JSON, 'Sure: {"team": "a"}', {}),
    "a fence around JSON": (JSON, '```json\n{"team": "a"}\n```', {}),
    "a key twice": (VALUED, '{"team": "b", "team": "a"}', {"queue": "a"}),
    "another key": (JSON, '{"team": "a", "b": 1}', {}),
    "a value of another type": (JSON, '{"team": "a", "tags": "b"}', {}),
    "NaN as JSON": (JSON | {"schema": {"type": "number"}}, "NaN", {}),
    "a number that no float holds": (JSON | {"schema": {"type": "number"}}, "1e999", {}),
    "the schema without the value": (VALUED, '{"team": "b"}', {"queue": "a"}),
    "a part of the pattern": ({"kind": "pattern", "pattern": r"\d+"}, "12 or 13", {}),
    "an echo": ({"kind": "contains", "texts": ["oslo"]}, "Is the capital Oslo or Bergen?",
                {"prompt": "Answer briefly.\nIs the capital Oslo or Bergen?"}),
    "what it should lack": ({"kind": "lacks", "texts": ["sorry"]}, "So  SORRY!", {}),
    "that with a sign that nobody sees": ({"kind": "lacks", "texts": ["sorry"]},
                                          "So\u200brry", {}),
    "no word": ({"kind": "length", "max": 20}, "... !!! ...", {}),
    "twice the length": ({"kind": "length", "max": 2}, "one two three four", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_trick_is_not_paid(name):
    assert score(*WRONG[name]) == 0.0


ODD = ["", " \n\t", "\0", "\ud800", "\u200b", "{" * 5000, "[" * 100_000, "9" * 100_000, "\x1b[2J"]
ALL_KINDS = [
    {"kind": "equals", "extract": {"json_path": "a"}},
    {"kind": "equals", "extract": {"pattern": "(x+x+)+y"}},
    {"kind": "number"},
    {"kind": "json_schema", "schema": {}},
    {"kind": "pattern", "pattern": "yes|no"},
    {"kind": "contains", "texts": ["yes"]},
]


@pytest.mark.parametrize("check", ALL_KINDS, ids=lambda check: check["kind"])
def test_an_odd_answer_is_wrong_and_breaks_nothing(check):
    row = {"answer": "yes 1", "prompt": ""}
    with Scorer(CHECKS.validate_python([check])) as scorer:
        found = scorer.score([row] * len(ODD), ODD)
    # The library takes a long number for JSON, and rightly so.
    assert {one.total for one in found[:7]} == {0.0}


@pytest.mark.parametrize("kind", ["lacks", "length"])
def test_an_empty_and_an_endless_answer_meet_no_check(kind):
    check = {"kind": kind} | ({"texts": ["no"]} if kind == "lacks" else {"max": 1_000_000})
    assert score(check, "fine") == 1.0
    assert score(check, " \n") == 0.0
    assert score(check, "fine " * MOST_CHARACTERS) == 0.0


SLOW = "a" * 40 + "!"


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "pattern", "pattern": "(a|aa)+$"},
        {"kind": "equals", "extract": {"pattern": "(a|aa)+$"}},
        {"kind": "json_schema", "schema": {"type": "string", "pattern": "^(a|aa)+$"}},
        {"kind": "json_schema", "schema": {"patternProperties": {"^(a|aa)+$": {}}}},
    ],
    ids=str,
)
def test_a_catastrophic_pattern_ends_as_wrong_in_a_second(check):
    answer = SLOW
    if check["kind"] == "json_schema":
        answer = f'"{SLOW}"' if "type" in check["schema"] else f'{{"{SLOW}": 1}}'
    began = time.monotonic()
    found = score(check, answer, {"answer": "x"})
    assert time.monotonic() - began < 5
    assert found == (1.0 if "patternProperties" in str(check) else 0.0)


def test_parts_are_weighted_and_named():
    checks = CHECKS.validate_python(
        [
            {"kind": "equals", "weight": 3},
            {"kind": "lacks", "texts": ["no"]},
            {"kind": "lacks", "texts": ["yes"], "name": "polite"},
            {"kind": "length", "max": 1},
            {"kind": "length", "max": 2},
        ]
    )
    assert check_names(checks) == ["equals", "lacks", "polite", "length_1", "length_2"]
    with Scorer(checks) as scorer:
        wrong, right = scorer.score([{"answer": "a"}] * 2, ["b", "a"])
    assert wrong.parts == {"equals": 0, "lacks": 1, "polite": 1, "length_1": 1, "length_2": 1}
    assert wrong.total == pytest.approx(4 / 7)
    assert right.total == 1.0


def test_a_schema_is_read_from_the_workspace(workspace):
    (workspace / "s.json").write_text('{"type": "integer"}')
    check = {"kind": "json_schema", "schema": "s.json"}
    assert [score(check, text) for text in ("3", "x")] == [1.0, 0.0]
    with pytest.raises(BadInput):
        score(check | {"schema": "../s.json"}, "3")


@pytest.mark.parametrize(
    ("check", "row", "problem"),
    [
        ({"kind": "equals", "reference": "gold"}, {}, "'gold'"),
        ({"kind": "equals"}, {"answer": " "}, "empty"),
        ({"kind": "number"}, {"answer": "none"}, "number"),
        ({"kind": "contains", "texts": "must"}, {"must": []}, "no text"),
        ({"kind": "contains", "texts": "must"}, {"must": [{"regex": "("}]}, "pattern"),
    ],
)
def test_a_row_that_no_answer_can_meet_is_refused_with_its_line(check, row, problem):
    rows = [(7, scored_row(row, "ask", row.get("answer", "")))]
    with pytest.raises(BadData, match=f"rows.jsonl:7: .*{problem}"):
        require_columns(CHECKS.validate_python([check]), rows, "rows.jsonl")


def test_a_row_keeps_its_own_answer_column():
    assert scored_row({"answer": 7, "prompt": []}, "ask", "long") == {"answer": 7, "prompt": "ask"}
    for row, answer in (({}, "<think>A?</think> B"), ({"answer": "<think>A?</think> B"}, "C")):
        assert scored_row(row, "ask", answer)["answer"] == "B"


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "equal"},
        {"kind": "equals", "refrence": "gold"},
        {"kind": "equals", "extract": {"pattern": "a", "json_path": "b"}},
        {"kind": "pattern", "pattern": "("},
        {"kind": "equals", "weight": 0},
        {"kind": "equals", "extract": {"json_path": "a..b"}},
        {"kind": "length", "min": 5, "max": 4},
        {"kind": "tests"},
        {"kind": "sql", "databases": []},
        {"kind": "python", "path": "a.py", "sha256": "x"},
        {"kind": "judge", "endpoint": {"url": "http://localhost/v1", "model": "m"}, "rubric": "r",
         "budget_usd": 1},
    ],
)  # fmt: skip
def test_a_check_that_cannot_be_meant_is_refused(check):
    with pytest.raises(ValidationError):
        CHECKS.validate_python([check])


def test_checks_that_wrong_answers_can_meet_are_no_goal():
    length, lacks = {"kind": "length", "max": 9}, {"kind": "lacks", "texts": ["a"]}
    require_goal(CHECKS.validate_python([length, EQUALS]))
    for form in ([length], [length, lacks]):
        with pytest.raises(ValueError, match="can be met"):
            require_goal(CHECKS.validate_python(form))
