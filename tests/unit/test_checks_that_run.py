"""Checks that run something: the answer's code, its query, the user's function, a judge."""

import json
import sqlite3
import threading
import time

import pytest
from pydantic import TypeAdapter

from ft_tools.endpoints.budget import BudgetUsedUp
from ft_tools.errors import BadData, BadInput, OutsideWorkspace, PlanChanged
from ft_tools.metrics.checks.request import Check
from ft_tools.metrics.checks.scorer import Scorer, file_hashes, require_columns
from ft_tools.metrics.isolation.probe import available, find
from tests.endpoint import serving

CHECKS = TypeAdapter(list[Check])
needs_isolation = pytest.mark.skipif(
    available() is None, reason=f"nothing isolates here: {find().reason}"
)


def scorer(*checks, scratch=None):
    return Scorer(CHECKS.validate_python(list(checks)), scratch)


def totals(scorer, rows, answers):
    return [one.total for one in scorer.score(rows, answers)]


# Code and its tests.

ADD = "def add(a, b):\n    return a + b"
ADD_TESTS = "assert add(1, 2) == 3\nassert add(-1, 1) == 0"
STACK = """
class Stack:
    def __init__(self): self.kept = []
    def push(self, one): self.kept.append(one)
    def pop(self):
        if not self.kept: raise IndexError("empty")
        return self.kept.pop()
    def __len__(self): return len(self.kept)
"""
SOUND = {
    "asserts": (ADD, ADD_TESTS),
    "a fenced answer": (f"Sure!\n```python\n{ADD}\n```\nIt adds.", ADD_TESTS),
    "the last of two blocks": (f"```\nx = 1\n```\nNo:\n```python\n{ADD}\n```", ADD_TESTS),
    "a list of tests": (ADD, ADD_TESTS.split("\n")),
    "test functions": (ADD, f"def test_add():\n    {ADD_TESTS.splitlines()[0]}"),
    "an import": (ADD, "from solution import add\nimport solution\nassert solution.add(2, 2) == 4"),
    "unittest": (
        ADD,
        "import unittest\nclass T(unittest.TestCase):\n"
        "    def test(self): self.assertEqual(add('a', 'b'), 'ab')",
    ),
    "a class": (
        STACK,
        "s = Stack()\ns.push({'a': (1, 2.5, None)})\nassert len(s) == 1\n"
        "assert s.pop() == {'a': (1, 2.5, None)}\n"
        "try:\n    s.pop()\nexcept IndexError as e:\n    assert str(e) == 'empty'\n"
        "else:\n    assert False",
    ),
    "a change in place": (
        "def order(items, *, down=False): items.sort(reverse=down)",
        "items = [1, 3, 2]\norder(items, down=True)\nassert items == [3, 2, 1]",
    ),
    "large and odd values": (
        "def same(x): return x\ndef count():\n    yield from range(3)",
        "assert same(10**5000) == 10**5000\nassert same({1, 2}) == {1, 2}\n"
        "assert same(b'\\0\\xff') == b'\\0\\xff'\nassert same((True, [], {})) == (True, [], {})\n"
        "assert list(count()) == [0, 1, 2]\nassert same('\\ud800') == '\\ud800'",
    ),
    "output of its own": (f"print('x' * 10**5)\n{ADD}", f"print('y')\n{ADD_TESTS}"),
}


@needs_isolation
def test_code_that_does_what_its_tests_want_passes(tmp_path):
    rows = [{"tests": tests} for _, tests in SOUND.values()]
    with scorer({"kind": "tests", "column": "tests", "seconds": 20}) as one:
        found = totals(one, rows, [code for code, _ in SOUND.values()])
    assert dict(zip(SOUND, found, strict=True)) == dict.fromkeys(SOUND, 1.0)


HACKS = {
    "wrong": "def add(a, b): return 0",
    "nothing": "Use the plus operator.",
    "no function": "x = 1",
    "exit": "raise SystemExit(0)",
    "exit in the function": "import sys\ndef add(a, b): sys.exit(0)",
    "exit at once": "import os\ndef add(a, b): os._exit(0)",
    "equal to everything": (
        "class E:\n    def __eq__(self, o): return True\ndef add(a, b): return E()"
    ),
    "a number equal to everything": (
        "class E(int):\n    def __eq__(self, o): return True\ndef add(a, b): return E(7)"
    ),
    "true to everything": (
        "class E:\n    def __bool__(self): return True\ndef add(a, b): return E()"
    ),
    "other builtins": "import builtins\nbuiltins.AssertionError = StopIteration\ndef add(a, b): 0",
    "no trace of tests": (
        "import sys\nsys.settrace(lambda *a: None)\nsys.excepthook = lambda *a: None\n"
        "def add(a, b): raise AssertionError"
    ),
    "a skipped test": "import unittest\ndef add(a, b): raise unittest.SkipTest",
    "a verdict of its own": (
        "import sys\ndef add(a, b):\n    frame = sys._getframe()\n    while frame:\n"
        "        if 'send' in frame.f_locals:\n"
        "            frame.f_locals['send']({'passed': True, 'broken': False, 'nonce': ''})\n"
        "        frame = frame.f_back\n"
    ),
    "another module in its place": (
        "import sys, types\nsys.modules['tests'] = types.ModuleType('tests')\n"
        "sys.modules['unittest'] = sys.modules['tests']\ndef add(a, b): return None"
    ),
    "a plugin of a test runner": "open('conftest.py', 'w').write('import os; os._exit(0)')",
    "names that the tests use": (
        "def add(a, b): return 0\ndef print(*a): 0\nAssertionError = KeyError"
    ),
    "no end": "def add(a, b):\n    while True: pass",
    "all memory": "kept = []\nwhile True: kept.append(bytearray(10**7))",
    "a fork bomb": "import os\ndef add(a, b):\n    while True: os.fork()",
    "endless output": (
        "import os\ndef add(a, b):\n    while True:\n        for n in range(3, 20):\n"
        "            try: os.write(n, b'x' * 10**6)\n            except OSError: pass"
    ),
    "a recursion": "def add(a, b):\n    one = []\n    one.append(one)\n    return one",
}


@needs_isolation
def test_no_trick_of_code_passes_its_tests(tmp_path):
    began = time.monotonic()
    with scorer({"kind": "tests", "column": "tests", "seconds": 2}) as one:
        found = totals(one, [{"tests": ADD_TESTS}] * len(HACKS), list(HACKS.values()))
    assert dict(zip(HACKS, found, strict=True)) == dict.fromkeys(HACKS, 0.0)
    assert time.monotonic() - began < 40


@needs_isolation
def test_a_module_that_tests_do_not_import_is_not_the_answers(tmp_path):
    tests = "assert math.isclose(third(1.0), 1 / 3)"
    rows = [{"tests": tests}] * 3 + [{"tests": "assert bisect([1, 3], 2) == 1"}]
    answers = [
        "import math\ndef third(x): return x / 3",
        "def third(x): return x / 3",
        "class math:\n    isclose = lambda *a: True\ndef third(x): return 0",
        "def bisect(items, x): return sum(i < x for i in items)",
    ]
    with scorer({"kind": "tests", "column": "tests", "seconds": 20}) as one:
        assert totals(one, rows, answers) == [1.0, 1.0, 0.0, 1.0]


@needs_isolation
def test_an_entry_point_is_a_name_or_a_column(tmp_path):
    tests = {"tests": "def check(candidate):\n    assert candidate(1) == 2\n"}
    answers = ["def inc(x): return x + 1", "def inc(x): return x"]
    for entry, row in (("inc", {}), ("name", {"name": "inc"})):
        told = {"kind": "tests", "column": "tests", "entry_point": entry}
        with scorer(told) as one:
            assert totals(one, [row | tests] * 3, [*answers, "def dec(x): return 2"]) == [1, 0, 0]
    # Without the name nothing calls `check`, and every answer would pass; nor can a fixture be had.
    broken = [tests, {"tests": "def test_inc(fixture):\n    assert inc(1) == fixture"}]
    with scorer({"kind": "tests", "column": "tests"}) as one:
        assert totals(one, broken, ["def inc(x): return x"] * 2) == [None, None]


@needs_isolation
def test_what_an_entry_point_returns_has_nothing_that_a_test_looks_for_but_plain_values(tmp_path):
    tests = "r = candidate(3)\nassert 3 in r\nassert len(r) == 2\nassert r[0] == 3"
    every = (
        "class Every:\n    def __contains__(self, one): return True\n"
        "    def __len__(self): return 2\n    def __getitem__(self, key): return 3\n"
        "def f(x): return Every()"
    )
    told = {"kind": "tests", "column": "tests", "entry_point": "f", "seconds": 20}
    with scorer(told) as one:
        rows = [{"tests": tests}] * 3
        answers = [every, "def f(x): return [x, 0]", "def f(x): return (y for y in (x, 0))"]
        assert totals(one, rows, answers) == [0.0, 1.0, 1.0]


@pytest.mark.parametrize("tests", ["add(1, 2)", "assert (", "", 3, ["assert x", 3], "-" * 10**6])
def test_tests_that_no_answer_can_fail_are_refused_with_their_line(tests):
    checks = CHECKS.validate_python([{"kind": "tests", "column": "tests"}])
    with pytest.raises(BadData, match=":4: column 'tests'"):
        require_columns(checks, [(4, {"tests": tests})], "rows.jsonl")


# SQL.


@pytest.fixture
def databases(workspace):
    for name, prices in (("a", (3, 5, 5)), ("b", (1, 2))):
        with sqlite3.connect(workspace / f"{name}.db") as file:
            file.execute("PRAGMA journal_mode=WAL")
            file.execute("CREATE TABLE items (id INTEGER, price REAL, name TEXT)")
            rows = [(i, price, f"n{i}") for i, price in enumerate(prices)]
            file.executemany("INSERT INTO items VALUES (?, ?, ?)", rows)
        file.close()
    return workspace


SQL = {"kind": "sql", "databases": ["a.db", "b.db"], "seconds": 2}
GOLD = "SELECT price FROM items WHERE price > 1.5 ORDER BY price"
QUERIES = {
    GOLD: 1.0,
    f"```sql\n{GOLD};\n```": 1.0,
    "SELECT price FROM items WHERE price >= 2 ORDER BY price DESC": 1.0,
    "SELECT DISTINCT price FROM items WHERE price > 1.5": 0.0,
    "SELECT price, id FROM items WHERE price > 1.5": 0.0,
    "SELECT 3 UNION ALL SELECT 5 UNION ALL SELECT 5": 0.0,
    "SELECT price FROM items": 0.0,
    "": 0.0,
    "I do not know.": 0.0,
    "SELECT 1; SELECT 2": 0.0,
    "SELECT '\0'": 0.0,
    "SELECT '\ud800'": 0.0,
    "ATTACH 'copy.db' AS copy": 0.0,
    "PRAGMA writable_schema = 1": 0.0,
    "SELECT * FROM pragma_table_info('items')": 0.0,
    "DELETE FROM items": 0.0,
    "DROP TABLE items": 0.0,
    "INSERT INTO items SELECT * FROM items RETURNING price": 0.0,
    "CREATE TABLE more AS SELECT * FROM items": 0.0,
    "VACUUM INTO 'copy.db'": 0.0,
    "SELECT load_extension('x')": 0.0,
    "SELECT readfile('a.db')": 0.0,
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n": 0.0,
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n": 0.0,
    "SELECT hex(zeroblob(1000000000))": 0.0,
    f"SELECT {'(' * 5000}1": 0.0,
    f"SELECT '{'a' * 5000}' LIKE '{'%a' * 400}b'": 0.0,
}


def test_a_query_is_right_if_its_rows_are_in_each_database(databases):
    with scorer(SQL) as one:
        found = totals(one, [{"answer": GOLD}] * len(QUERIES), list(QUERIES))
        assert dict(zip(QUERIES, found, strict=True)) == QUERIES
        # Nothing of all that changed what the next answer is compared with.
        assert totals(one, [{"answer": GOLD}], [GOLD]) == [1.0]
    with scorer(SQL | {"ordered": True}) as one:
        assert totals(one, [{"answer": GOLD}] * 2, [GOLD, f"{GOLD} DESC"]) == [1.0, 0.0]
    assert sorted(path.name for path in databases.iterdir()) == ["a.db", "b.db"]


@pytest.mark.parametrize(
    "gold",
    ["SELECT 1 FROM items WHERE price > 100", "SELECT nothing FROM items", "DROP TABLE items"],
)
def test_a_reference_without_rows_is_broken_whatever_the_answer(databases, gold):
    with scorer(SQL) as one:
        assert totals(one, [{"answer": gold}] * 2, ["SELECT 1 WHERE 0", GOLD]) == [None, None]


def test_a_file_that_is_no_database_is_refused(workspace):
    (workspace / "a.db").write_text("not a database, but long enough to be taken for one" * 99)
    with pytest.raises(BadInput, match="not an SQLite database"):
        scorer(SQL | {"databases": ["a.db"]})
    with pytest.raises(OutsideWorkspace):
        scorer(SQL | {"databases": ["/etc/passwd"]})


# The user's own function.

OWN = """
import os
def score(answer, row):
    if answer == "crash": os._exit(3)
    if answer == "hang":
        while True: pass
    if answer == "raise": raise KeyError(answer)
    if answer == "None": return None
    if answer == "two": return 2
    if answer == "nan": return float("nan")
    if answer == "text": return "1"
    print("seen", answer)
    return answer == row["gold"]
"""


def test_the_users_function_scores_and_what_it_breaks_on_is_no_score(workspace):
    (workspace / "own.py").write_text(OWN)
    answers = ["a", "b", "crash", "a", "hang", "a", "raise", "None", "two", "nan", "text", "", "a"]
    with scorer({"kind": "python", "path": "own.py", "seconds": 1}) as one:
        found = totals(one, [{"gold": "a"}] * len(answers), answers)
    by_answer = dict(zip(answers, found, strict=True))
    assert by_answer == {
        "a": 1.0, "b": 0.0, "": 0.0, "text": 1.0,
        **dict.fromkeys(("crash", "hang", "raise", "None", "two", "nan")),
    }  # fmt: skip
    assert [score for answer, score in zip(answers, found, strict=True) if answer == "a"] == [1] * 4


@needs_isolation
def test_the_users_function_is_isolated_where_something_isolates(workspace):
    (workspace / "secret").write_text("secret")
    (workspace / "own.py").write_text(
        "def score(answer, row):\n"
        f"    return open({str(workspace / 'secret')!r}).read() == 'secret'"
    )
    with scorer({"kind": "python", "path": "own.py"}) as one:
        assert totals(one, [{}], ["x"]) == [None]


@pytest.mark.parametrize("source", ["def score(answer): return 1", "x = 1", "def score(", "\0"])
def test_a_file_without_the_function_is_refused_unrun(workspace, source):
    (workspace / "own.py").write_text(source)
    with pytest.raises(BadInput, match="def score"):
        scorer({"kind": "python", "path": "own.py"})


def test_a_file_that_cannot_be_run_is_refused_with_its_first_answer(workspace):
    (workspace / "own.py").write_text("import no_such_module\ndef score(answer, row): return 1")
    one = scorer({"kind": "python", "path": "own.py"})
    with one, pytest.raises(BadInput, match="ModuleNotFoundError"):
        one.score([{}], ["x"])


def test_a_plan_has_the_hash_of_the_users_file_and_another_file_is_refused(workspace):
    (workspace / "own.py").write_text(OWN)
    given = {"kind": "python", "path": "own.py"}
    hashes = file_hashes(CHECKS.validate_python([given]))
    planned = given | {"sha256": hashes["own.py"]}
    with scorer(planned):
        pass
    (workspace / "own.py").write_text(OWN + "\n")
    with pytest.raises(PlanChanged):
        scorer(planned)


def test_a_service_lives_on_when_the_thread_that_started_it_ends(workspace):
    (workspace / "own.py").write_text(OWN)
    with scorer({"kind": "python", "path": "own.py"}) as one:
        found = []
        for _ in range(2):
            thread = threading.Thread(
                target=lambda: found.extend(totals(one, [{"gold": "a"}], ["a"]))
            )
            thread.start()
            thread.join()
    assert found == [1.0, 1.0]


# A judge.


def judge(server, **more):
    endpoint = {"url": server.url, "model": "m", "max_concurrency": 2}
    return {"kind": "judge", "endpoint": endpoint, "rubric": "It greets."} | more


def test_a_judge_passes_or_fails_and_nothing_is_asked_twice(tmp_path):
    def reply(question, body):
        return "pass" if "hm" in question else json.dumps({"pass": "hello" in question})

    answers = ["hello", "bye", "hm", "", " : ", "x" * 30_000]
    with serving(reply) as server:
        for _ in range(2):
            with scorer(judge(server), scratch=tmp_path) as one:
                found = totals(one, [{"prompt": "say hello" * 0, "answer": ""}] * 6, answers)
            assert found == [1.0, 0.0, None, 0.0, 0.0, 0.0]
        assert len(server.questions) == 3


def test_a_judges_budget_is_never_exceeded(tmp_path):
    price = {"usd_per_million_input_tokens": 1000, "usd_per_million_output_tokens": 1000}
    with serving(lambda question, body: '{"pass": true}') as server:
        told = judge(server, price=price, budget_usd=2.0)
        with scorer(told, scratch=tmp_path) as one, pytest.raises(BudgetUsedUp):
            one.score([{}] * 20, [f"answer {i}" for i in range(20)])
        assert 0 < len(server.questions) < 20
