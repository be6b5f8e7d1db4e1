"""Tables as people keep them: a title above the header, names that are missing, odd separators."""

import csv
from dataclasses import replace

import pytest

from ft_tools.errors import BadData
from ft_tools.formats.readers.csv_rows import read_csv
from ft_tools.formats.readers.encodings import encoding_of
from ft_tools.formats.readers.header import find_header
from ft_tools.formats.readers.source import find_sources, read, recognise
from tests.unit.workbooks import write_xlsx

HEADER = ["#", "Customer asked", "Assistant answered", "OK?"]
ASKED = [f"Where is parcel {at} of my order?" for at in range(12)]
SAID = [f"It is in depot {at}." for at in range(12)]
MARKS = [("ok", "bad")[at % 3 == 0] for at in range(12)]
ROWS = [list(row) for row in zip(range(12), ASKED, SAID, MARKS, strict=True)]
TITLES = [["Review of answers, Q3", "", "", ""], ["Date:", "2026-07-01", "", ""], [""] * 4]


def rows_of(path):
    return list(read(find_sources(path)[0]))


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def test_the_header_is_found_below_titles_in_a_sheet_and_in_a_file_of_text(workspace):
    write_xlsx(
        workspace / "t.xlsx", [*TITLES, HEADER, *ROWS], name="Q3", others={"Legend": [["x"]]}
    )
    write_csv(workspace / "padded.csv", [*TITLES, HEADER, *ROWS])
    write_csv(workspace / "short.csv", [["Review of answers"], [], [], HEADER, *ROWS])
    for name in ("t.xlsx", "padded.csv", "short.csv"):
        rows = rows_of(workspace / name)
        assert [list(row.value) for row in rows] == [HEADER] * 12
        assert [row.number for row in rows] == list(range(1, 13))
        assert any("line 4 is taken as the header" in one for one in rows[0].about)
    with pytest.raises(BadData, match='"Q3", "Legend"'):
        list(read(replace(recognise(workspace / "t.xlsx"), select="Data")))


@pytest.mark.parametrize(
    ("first", "columns"),
    [
        (["", "text"], [[f"user_{at}" for at in range(12)], ASKED]),
        (["", "label"], [ASKED, MARKS]),
        (["question", ""], [ASKED, SAID]),
        (["question", "", ""], [ASKED, SAID, MARKS]),
        (["question"], [ASKED, SAID, MARKS]),
        (["id", "", "", ""], [range(12), ASKED, SAID, range(12)]),
        (["conversation", ""], [["user", "assistant"] * 6, ASKED]),
        (["Country", 2020, 2021], [["DE", "FR"] * 6, range(12), range(12)]),
    ],
)
def test_the_first_row_below_few_names_is_no_header(first, columns):
    assert find_header([first, *map(list, zip(*columns, strict=True))]).at == 0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("text\nHello, world\nBye, all\n", ["text"]),
        ("question,answer\nWhy?,a, b, c\nHow?,d, e, f\n", ["question", "answer"]),
        (",text\n0,one of them\n1,two of them\n", ["A", "text"]),
        ("a,b,c\n1,,\n2,,\n3,,x\n", ["a", "b", "c"]),
    ],
)
def test_a_header_in_the_first_line_stays_the_header(workspace, text, names):
    (workspace / "t.csv").write_text(text)
    with (workspace / "t.csv").open("rb") as stream:
        rows = [row for row in read_csv(stream, ",") if row.problem is None]
    assert all(list(row.value) == names for row in rows)


@pytest.mark.parametrize("title", ["Export", "Export, Q3", "Export\n"])
def test_the_separator_is_found_below_a_title_without_any(workspace, title):
    lines = [f"{a}, now;{s};{m}" for a, s, m in zip(ASKED, SAID, MARKS, strict=True)]
    (workspace / "t.csv").write_text("\n".join([title, "Frage;Antwort;Note", *lines, ""]))
    assert list(rows_of(workspace / "t.csv")[0].value) == ["Frage", "Antwort", "Note"]
    (workspace / "one.csv").write_text("text\n" + "So; it is.\n" * 12)
    assert list(rows_of(workspace / "one.csv")[0].value) == ["text"]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Größe schön für\n" * 40, "cp1252"),
        ("Größe schön für\n" * 40, "utf-16"),
        ("質問と答え\n" * 40, "shift_jis"),
        ("вопрос и ответ\n" * 40, "cp1251"),
        ("für\n" * 40, "utf-8"),
    ],
)
def test_a_table_is_read_in_its_own_encoding(workspace, text, encoding):
    (workspace / "t.csv").write_bytes(f"text\n{text}".encode(encoding))
    assert encoding_of((workspace / "t.csv").read_bytes()) == encoding
    (source,) = find_sources(workspace / "t.csv")
    assert source.encoding == encoding
    assert next(iter(rows_of(workspace / "t.csv")[0].value.values())).strip()[:1] == text[0]
