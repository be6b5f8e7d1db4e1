"""Files as people keep them: each becomes exactly the rows that its maker means, in two calls."""

import csv
import json
import sqlite3

import pytest

from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest, ShowRequest
from ft_tools.data.show.show_examples import show_examples
from ft_tools.errors import BadInput
from tests.unit.workbooks import write_xlsx

COUNT = 24
ASKED = [f"Wann kommt das Paket {at} aus dem Lager {at % 7} an?" for at in range(COUNT)]
SAID = [f"Paket {at} kommt in {at + 2} Tagen." for at in range(COUNT)]
ALL = dict(zip(ASKED, SAID, strict=True))


def write_csv(path, rows, separator=",", encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=separator).writerows(rows)


def title_above(folder):
    rows = [["Review of answers, Q3", "", ""], ["", "", ""], ["Asked", "Answered", "OK?"]]
    rows += [[a, s, ("ok", "bad")[at % 3 == 0]] for at, (a, s) in enumerate(ALL.items())]
    write_csv(folder / "f.csv", rows)
    mapping = {"prompt": "{Asked}", "answer": "Answered", "keep": {"OK?": "ok"}}
    return "f.csv", {"mapping": mapping}, {a: s for at, (a, s) in enumerate(ALL.items()) if at % 3}


def two_sheets(folder):
    pytest.importorskip("python_calamine")
    rows = [["frage", "antwort"], *map(list, ALL.items())]
    write_xlsx(folder / "f.xlsx", [["note"], ["see below"]], others={"Daten": rows})
    return "f.xlsx", {"sheet": "Daten", "mapping": {"prompt": "{frage}", "answer": "antwort"}}, ALL


def german_decimals(folder):
    rows = [["Frage", "Antwort", "Note"]]
    rows += [[a, s, f"{at % 5},5"] for at, (a, s) in enumerate(ALL.items())]
    write_csv(folder / "f.csv", rows, ";", "cp1252")
    mapping = {"prompt": "{Frage}", "answer": "Antwort", "keep": {"Note": ">=2,5"}}
    return (
        "f.csv",
        {"mapping": mapping},
        {a: s for at, (a, s) in enumerate(ALL.items()) if at % 5 >= 2},
    )


def better_beside_given(folder):
    rows = [["q", "a", "better"]]
    rows += [[a, s, f"Besser: {s}" if at % 2 else ""] for at, (a, s) in enumerate(ALL.items())]
    write_csv(folder / "f.tsv", rows, "\t")
    mapping = {"prompt": "{q}", "answer": "a", "corrected": "better"}
    return (
        "f.tsv",
        {"mapping": mapping},
        {a: f"Besser: {s}" if at % 2 else s for at, (a, s) in enumerate(ALL.items())},
    )


def tickets(folder):
    rows = [
        {
            "subject": "Lieferung",
            "description": a,
            "comments": [
                {"author_role": "agent", "body": f"Kunde {at} ist schwierig.", "public": False},
                {"author_role": "agent", "body": s, "public": True},
            ],
        }
        for at, (a, s) in enumerate(ALL.items())
    ]
    (folder / "f.json").write_text(json.dumps({"count": COUNT, "tickets": rows}))
    turns = {
        "conversation": "comments",
        "role": "author_role",
        "text": "body",
        "first": "description",
        "roles": {"agent": "assistant"},
        "keep": {"public": True},
    }
    return "f.json", {"mapping": {"turns": turns, "ignore": ["subject"]}}, ALL


def database(folder):
    base = sqlite3.connect(folder / "f.db")
    base.execute("CREATE TABLE asked (id INTEGER, text TEXT)")
    base.execute("CREATE TABLE said (id INTEGER, text TEXT)")
    base.executemany("INSERT INTO asked VALUES (?, ?)", enumerate(ASKED))
    base.executemany("INSERT INTO said VALUES (?, ?)", enumerate(SAID))
    base.commit()
    base.close()
    query = "SELECT a.text AS question, s.text AS answer FROM asked a JOIN said s ON a.id = s.id"
    return "f.db", {"query": query, "mapping": {"prompt": "{question}", "answer": "answer"}}, ALL


MAKERS = [
    title_above,
    two_sheets,
    german_decimals,
    better_beside_given,
    tickets,
    database,
]


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_a_messy_file_becomes_what_its_maker_means(workspace, make):
    path, arguments, meant = make(workspace)
    asked = {"path": path, "output_dir": "out", "near_duplicates": "off", **arguments}
    profile = show_examples(
        ShowRequest(**{k: v for k, v in asked.items() if k in {"path", "sheet", "query"}})
    ).profile
    assert profile.num_rows >= COUNT
    shown = prepare_dataset(PrepareRequest(**asked))
    made = prepare_dataset(PrepareRequest(**asked, confirm=shown.mapping_hash)).outputs
    found = {}
    for name in (made.train, made.validation, made.test):
        with open(name, encoding="utf-8") as lines:
            turns = [json.loads(line)["messages"] for line in lines]
        found |= {turn[0]["content"]: turn[-1]["content"] for turn in turns}
    assert found == meant


def test_a_header_and_sheet_are_said_and_a_sheet_that_is_not_there_is_refused(workspace):
    title_above(workspace)
    profile = show_examples(ShowRequest(path="f.csv")).profile
    assert "line 3 is taken as the header" in profile.file
    assert [one.name for one in profile.columns] == ["Asked", "Answered", '"OK?"']
    (workspace / "d.json").write_text(json.dumps({"a": [{"x": 1}] * 3, "b": [{"y": 1}] * 9}))
    with pytest.raises(BadInput, match="has no list 'c'; its lists: b, a"):
        show_examples(ShowRequest(path="d.json", sheet="c"))
    assert show_examples(ShowRequest(path="d.json", sheet="a")).profile.num_rows == 3
