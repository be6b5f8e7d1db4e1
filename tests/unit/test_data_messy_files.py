"""Files as people keep them: each becomes exactly the rows that its maker means, in two calls."""

import csv
import json
import sqlite3

import pytest

from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest, ShowRequest
from ft_tools.data.show.show_examples import show_examples
from ft_tools.errors import BadData, BadInput
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


def remarks_beside_answers(folder):
    remarks = ["", "ok", "delete", "Besser."]
    rows = [["q", "a", "better", "checked", "no"]]
    rows += [
        [a, s, remarks[at % 4], "x" * (at % 8 < 4), at] for at, (a, s) in enumerate(ALL.items())
    ]
    write_csv(folder / "f.csv", rows)
    mapping = {
        "prompt": "q",
        "answer": "{a}",
        "corrected": {"column": "better", "as_given": "ok"},
        "keep": [{"checked": "x"}, {"better": "!="}],
        "drop": {"no": [3], "better": ["delete"]},
    }
    return (
        "f.csv",
        {"mapping": mapping},
        {
            a: "Besser." if at % 4 == 3 else s
            for at, (a, s) in enumerate(ALL.items())
            if at % 4 != 2 and at != 3 and (at % 8 < 4 or at % 4)
        },
    )


def speakers_by_id(folder):
    def turn(who, text, public=True):
        return {"author_id": who, "body": text, "public": public}

    rows = [
        {"comments": [turn(100 + at, a), turn(1, "Hm.", False), turn(1, f"<p>{s}</p>")]}
        for at, (a, s) in enumerate(ALL.items())
    ]
    rows.append({"comments": [turn(100, "Hello?"), turn(1, "Who is that?", False)]})
    users = [{"id": at + 100, "role": "end-user"} for at in range(COUNT)]
    users.append({"id": 1, "role": "agent"})
    (folder / "f.json").write_text(json.dumps({"tickets": rows, "users": users}))
    turns = {
        "conversation": "comments",
        "role": "author_id",
        "role_from": {"list": "users", "id": "id", "role": "role"},
        "text": "body",
        "roles": {"agent": "assistant", "*": "user"},
        "keep": {"public": True},
    }
    return "f.json", {"sheet": "tickets", "mapping": {"turns": turns, "plain_html": True}}, ALL


MAKERS = [
    remarks_beside_answers,
    speakers_by_id,
    title_above,
    two_sheets,
    german_decimals,
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
    chosen = show_examples(ShowRequest(path="d.json", sheet="a"))
    assert chosen.profile.num_rows == 3
    assert "more" not in chosen.profile.file
    steps = show_examples(ShowRequest(path="d.json")).next_steps
    assert [(one.tool, one.arguments["sheet"]) for one in steps] == [
        ("show_examples", "a"),
        ("prepare_dataset", "b"),
    ]


def reports(first, last):
    rows = [{"text": ASKED[at], "coded": {"parts": ["a"] * (at % 2)}} for at in range(first, last)]
    return {"schema": 3, "site": {"name": "Drachten", "more": {"reports": rows, "by": [{"x": 1}]}}}


def test_a_list_inside_objects_of_an_object_is_a_table(workspace):
    (workspace / "d.json").write_text(json.dumps(reports(0, COUNT)))
    report = show_examples(ShowRequest(path="d.json"))
    assert report.profile.num_rows == COUNT
    assert [one.arguments["sheet"] for one in report.next_steps] == [
        "site.more.by",
        "site.more.reports",
    ]
    mapping = {"prompt": "text", "answer": {"parts": "coded.parts"}, "ignore": ["*"]}
    asked = {"mapping": mapping, "sheet": "site.more.reports"}
    made = prepare_dataset(PrepareRequest(path="d.json", **asked))
    # An empty list is an answer.
    assert sum(made.counts.values()) == COUNT
    assert "no_answer" not in made.counts
    wrong = {**mapping, "prompt": "{site.more.reports[].text}"}
    (workspace / "pages").mkdir()
    for at in range(2):
        (workspace / "pages" / f"{at}.json").write_text(json.dumps(reports(12 * at, 12 * at + 12)))
    assert show_examples(ShowRequest(path="pages")).profile.num_rows == 2
    assert prepare_dataset(PrepareRequest(path="pages", **asked)).num_rows == COUNT
    with pytest.raises(BadInput, match=r"items of a list.*\(site.more.reports\).*`sheet`"):
        prepare_dataset(PrepareRequest(path="pages", mapping=wrong))


def test_an_object_that_holds_a_conversation_or_objects_by_id_is_one_row(workspace):
    nodes = {f"n{at}": {"id": f"n{at}", "parts": [{"text": SAID[at]}]} for at in range(3)}
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    for value in ({"title": "t", "mapping": nodes}, {"talk": talk}):
        (workspace / "d.json").write_text(json.dumps(value))
        assert show_examples(ShowRequest(path="d.json")).profile.num_rows == 1


def test_bounds_on_dates_in_two_formats_leave_out_what_is_no_date(workspace):
    days = [
        f"{at + 1:02}.04.2026" if at % 2 else f"2026-04-{at + 1:02}T09:30" for at in range(COUNT)
    ]
    rows = [["q", "a", "day"], ["text", "text", "TT.MM.JJJJ"]]
    rows += [[*pair, day] for pair, day in zip(ALL.items(), days, strict=True)]
    write_csv(workspace / "f.csv", rows)
    asked = {"prompt": "q", "answer": "a"}
    made = prepare_dataset(
        PrepareRequest(path="f.csv", mapping={**asked, "keep": {"day": ">=10.04.2026"}})
    )
    assert made.counts["not_kept"] == 10
    assert any(one.startswith("day: 1 values") for one in made.assumptions)
    upto = ShowRequest(path="f.csv", where={"day": "<=2026-04-09"})
    assert show_examples(upto).profile.num_rows == 9
    with pytest.raises(BadInput, match=r"days, 2026-04-01.*pattern"):
        prepare_dataset(
            PrepareRequest(path="f.csv", mapping={**asked, "keep": {"q": ">=2026-04-01"}})
        )
    write_csv(workspace / "f.csv", [*rows, ["Wann?", "Morgen.", "03/04/2026"]])
    with pytest.raises(BadInput, match=r"'03/04/2026' can be several days.*pattern"):
        prepare_dataset(
            PrepareRequest(path="f.csv", mapping={**asked, "keep": {"day": ">=2026-04-10"}})
        )


def test_each_sheet_is_named_with_its_size_and_each_table_with_its_columns(workspace):
    pytest.importorskip("python_calamine")
    path, _, _ = two_sheets(workspace)
    report = show_examples(ShowRequest(path=path))
    assert '"Daten" 25 x 2' in report.profile.file
    assert [one.arguments["sheet"] for one in report.next_steps] == ["Daten", "Data"]
    path, _, _ = database(workspace)
    with pytest.raises(BadData, match=r"asked: id, text; said: id, text"):
        show_examples(ShowRequest(path=path))
    with pytest.raises(BadInput, match="two columns named 'id'"):
        show_examples(ShowRequest(path=path, query="SELECT * FROM asked a, said b"))


def test_a_speaker_that_the_list_lacks_is_refused_whatever_stands_for_all_others(workspace):
    path, arguments, _ = speakers_by_id(workspace)
    made = json.loads((workspace / path).read_text())
    made["tickets"][0]["comments"][0]["author_id"] = -1
    (workspace / path).write_text(json.dumps(made))
    with pytest.raises(BadInput, match=r'lacks 1 speakers \("?-1"? 1\)'):
        prepare_dataset(PrepareRequest(path=path, **arguments))
    arguments["mapping"]["turns"]["roles"]["-1"] = "leave_out"
    report = prepare_dataset(PrepareRequest(path=path, **arguments))
    assert report.counts["replies_left_out"] == 1


def test_what_is_in_no_part_is_counted_with_both_files(workspace):
    rows = [["q", "a"], *ALL.items(), ["Was?", ""], ["Test", "test"], ["Test 2", "&lt;b&gt;"]]
    write_csv(workspace / "f.csv", rows)
    asked = {"path": "f.csv", "mapping": {"prompt": "q", "answer": "a"}, "near_duplicates": "off"}
    asked["mapping"]["replace"] = {r"Tagen\b": "Werktagen", r"\.$": "!"}
    report = prepare_dataset(PrepareRequest(**asked, output_dir="out"))
    found = {one.id: one for one in report.findings}
    assert found["html_in_answers"].rows == [COUNT + 3]
    assert report.num_stripped == COUNT
    assert any("1 rows are in no part" in one and "unlabelled" in one for one in report.assumptions)
    confirmed = PrepareRequest(**asked, output_dir="out", confirm=report.mapping_hash)
    made = prepare_dataset(confirmed).outputs
    assert made.format_input.endswith("format_input.py")
    with open(made.train, encoding="utf-8") as lines:
        assert "Werktagen!" in json.loads(next(lines))["messages"][-1]["content"]
