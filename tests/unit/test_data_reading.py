"""Reading: what is data, what is not, and what a bad row becomes."""

import gzip
import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ft_tools import workspace as paths
from ft_tools.data.audit import perform
from ft_tools.data.read.rows import Reader
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset, audit_if_small
from ft_tools.errors import BadData
from ft_tools.formats.readers import decompressed, json_rows, source


def rows_of(path):
    return Reader(AuditRequest(path=str(path)), path).rows()


def good(number):
    return {"prompt": f"What is {number} and {number}?", "completion": f"It is {2 * number}."}


def values(path):
    return [row.value for row in rows_of(paths.existing(str(path)))]


def problems(path):
    found = [(row.number, row.problem) for row in rows_of(paths.existing(str(path)))]
    return [one for one in found if one[1]]


def jsonl(rows):
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


ROWS = [good(number) for number in range(30)]


def table(separator, end="\n", quote="", above=""):
    lines = [{"prompt": "prompt", "completion": "completion"}, *ROWS]
    cells = ([f"{quote}{cell}{quote}" for cell in row.values()] for row in lines)
    return (above + "".join(separator.join(line) + end for line in cells)).encode()


FEW_SHOT = [{"prompt": "a", "completion": "b"}] * 2
CHATS = [
    [
        {"role": "user", "content": row["prompt"]},
        {"role": "assistant", "content": row["completion"]},
    ]
    for row in ROWS
]
TEXTS = [json.dumps(row).encode() for row in ROWS]
WRAPPED = {"rows": ROWS, "version": 1, "info": {"a": [{}]}}
FILES = {
    "lines": ("d.jsonl", jsonl(ROWS), ROWS),
    "pretty objects": (
        "d.json",
        b"\n".join(json.dumps(row, indent=2).encode() for row in ROWS),
        ROWS,
    ),
    "CSV": ("d.csv", table(",", "\r\n", '"'), ROWS),
    "TSV": ("d.tsv", table("\t"), ROWS),
    "semicolons": ("d.csv", table(";"), ROWS),
    "Excel's CSV": ("d.csv", table(";", "\r\n", above="sep=;\r\n"), ROWS),
    "CSV below blank lines": ("d.csv", table(",", quote='"', above="\n\r\n"), ROWS),
    "a byte order mark": ("d.jsonl", b"\xef\xbb\xbf" + jsonl(ROWS), ROWS),
    "lines below blank ones": ("d.jsonl", b"\n" * 200_000 + jsonl(ROWS), ROWS),
    "an object below blank lines": (
        "d.json",
        b" \n" * 100_000 + json.dumps({"data": ROWS}).encode(),
        ROWS,
    ),
    "an array, an element a line": ("d.jsonl", b"[" + b",\n".join(TEXTS) + b"]", ROWS),
    "a wrapped array": ("d.jsonl", json.dumps(WRAPPED).encode(), ROWS),
    "a wrapped array behind its version": (
        "d.json",
        json.dumps({"version": "1.1", "info": {"a": [{}]}, "data": ROWS}).encode(),
        ROWS,
    ),
    "conversations on lines": ("d.jsonl", jsonl(CHATS), CHATS),
    "an array of conversations": ("d.json", json.dumps(CHATS).encode(), CHATS),
}
LONG_FIRST = [{"examples": FEW_SHOT * 3000} | ROWS[0], ROWS[1]]
FILES |= {
    f"{key}, {len(rows)} rows in {name}": (name, jsonl(rows), rows)
    for key in ("examples", "data")
    for rows in ([{key: FEW_SHOT} | row for row in ROWS],)
    for name in ("d.jsonl", "d.json")
}
SEVERAL = {"seed": 1, "test": FEW_SHOT, "train": ROWS, "names": ["a"]}
FILES |= {
    "one row": ("d.jsonl", jsonl(LONG_FIRST[1:]), LONG_FIRST[1:]),
    "a long first row": ("d.jsonl", jsonl(LONG_FIRST), LONG_FIRST),
    "a log's line": ("d.jsonl", b"[INFO] 12 rows exported\n" + jsonl(ROWS), [None, *ROWS]),
    "a number on the first line": ("d.jsonl", b"[1, 2]\n" + jsonl(ROWS), [[1, 2], *ROWS]),
    "the longest of several lists": ("d.json", json.dumps(SEVERAL).encode(), ROWS),
    "two wrapped arrays": ("d.json", jsonl([{"data": ROWS}] * 2), [{"data": ROWS}] * 2),
}


@pytest.mark.parametrize("case", FILES)
def test_all_of_a_file_is_read_however_its_json_is_put_together(workspace, case):
    name, content, rows = FILES[case]
    (workspace / name).write_bytes(content)
    (workspace / f"{name}.gz").write_bytes(gzip.compress(content))
    assert values(name) == values(f"{name}.gz") == rows
    unread = [(at, "unreadable_line") for at, row in enumerate(rows, 1) if row is None]
    assert problems(name) == unread


def test_a_folder_is_read_in_the_order_of_its_names_and_numbered_through(workspace):
    (workspace / "many").mkdir()
    (workspace / "many" / "b.jsonl").write_bytes(jsonl(ROWS[10:]))
    (workspace / "many" / "a.json").write_bytes(json.dumps(ROWS[:10]).encode())
    (workspace / "many" / "notes.txt").write_text("not data")
    found = list(rows_of(workspace / "many"))
    assert [row.value for row in found] == ROWS
    assert [row.number for row in found] == list(range(1, 31))
    (workspace / "many" / "c.jsonl").write_bytes(b"\n\n")
    with pytest.raises(BadData, match=r"c\.jsonl: holds only white.* name the other files one by"):
        values("many")


def test_what_the_hub_and_save_to_disk_write_beside_the_data_is_no_data(workspace):
    folder = workspace / "many"
    folder.mkdir()
    for name in ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"):
        (folder / name).write_text('{"splits": ["train"]}')
    (folder / "data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(BadData, match=r"load_from_disk.*to_json"):
        list(rows_of(folder))
    (folder / "train.jsonl").write_bytes(jsonl(ROWS))
    assert [row.value for row in rows_of(folder)] == ROWS


def test_every_bad_line_is_a_finding_with_its_number(workspace):
    lines = [json.dumps(good(at)).encode() for at in range(40)]
    lines[3] = b"{broken"
    lines[10] = b'{"prompt": NaN, "completion": "x"}'
    lines[20] = b"[" * 100_000
    lines[30] = b'{"prompt": "caf\xe9", "completion": "x"}'
    lines[35] = b'{"prompt": "\\ud800", "completion": "x"}'
    lines[36] = b'{"n": ' + b"9" * 5000 + b"}"
    (workspace / "data.jsonl").write_bytes(b"\n".join(lines))
    assert problems("data.jsonl") == [
        (4, "unreadable_line"),
        (11, "unreadable_line"),
        (21, "unreadable_line"),
        (31, "not_utf8"),
        (36, "invalid_unicode"),
        (37, "unreadable_line"),
    ]
    report = audit_dataset(AuditRequest(path="data.jsonl", output_dir="out"))
    lines_of = {finding.id: finding.rows for finding in report.findings}
    assert lines_of["unreadable_line"] == [4, 11, 21, 37]
    assert report.num_usable == 34
    (workspace / "data.jsonl").write_bytes(b"\n\n{broken\n")
    with pytest.raises(BadData, match=r"data\.jsonl:3"):
        audit_dataset(AuditRequest(path="data.jsonl"))


BROKEN = {
    "a bad element": b'[{"a": 1}, {"a": }, {"a": 3}]',
    "cut off in a value": b'[{"a": 1}, {"a"',
    "an integer of more than 64 bits": b'[{"a": 1' + b"0" * 30 + b"}]",
    "not UTF-8": b'[{"a": "caf\xe9"}]',
    "text behind an array": json.dumps(ROWS).encode() + b"and more",
    "a wrapped array that is cut off": json.dumps({"data": ROWS}).encode()[:-20],
    "objects with text between": b'{\n"a": 1}\n]\n{"a": 2}',
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_array_is_refused_with_the_last_row_that_was_read(workspace, case):
    (workspace / "data.json").write_bytes(b" " * 70_000 + BROKEN[case])
    with pytest.raises(BadData, match=r"not valid JSON behind row \d+"):
        values("data.json")


def test_an_array_has_bounds_for_a_row_and_for_its_depth(workspace, monkeypatch):
    deep = b'{"a": ' * 5000 + b"1" + b"}" * 5000
    (workspace / "deep.json").write_bytes(b'[{"a": 1}, ' + deep + b"]")
    assert problems("deep.json") == [(2, "unreadable_line")]
    monkeypatch.setattr(json_rows, "ROW_BYTES", 200_000)
    rows = [good(1), {"text": "x" * 500_000}, good(2)]
    for whole in (rows, {"a": rows[1]}):
        (workspace / "long.json").write_text(json.dumps(whole))
        with pytest.raises(BadData, match="has a row longer than"):
            values("long.json")
    monkeypatch.setattr(source, "MOST_OBJECT_BYTES", 400_000)
    (workspace / "large.json").write_text(json.dumps({"train": rows}))
    with pytest.raises(BadData, match="has a row longer than"):
        values("large.json")


def test_a_row_above_the_cap_is_skipped_and_reading_goes_on(workspace, monkeypatch):
    monkeypatch.setattr(json_rows, "ROW_BYTES", 1000)
    rows = [{"text": "one\u2028two"}, {"text": "x" * 5000}, good(2)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (workspace / "data.jsonl").write_text(lines, encoding="utf-8")
    assert problems("data.jsonl") == [(2, "row_too_long")]
    assert values("data.jsonl") == [rows[0], None, good(2)]


def test_a_bomb_ends_in_an_error_and_not_in_memory(workspace, monkeypatch):
    monkeypatch.setattr(decompressed, "MIN_DECODED_BYTES", 2**20)
    line = json.dumps({"text": "a" * 1000}).encode() + b"\n"
    (workspace / "bomb.jsonl.gz").write_bytes(gzip.compress(line * 20_000))
    pq.write_table(pa.table({"text": ["a" * 100_000] * 400}), workspace / "bomb.parquet")
    for name in ("bomb.jsonl.gz", "bomb.parquet"):
        assert (workspace / name).stat().st_size < 100_000
        assert audit_if_small(AuditRequest(path="bomb.parquet")) is None
        with pytest.raises(BadData, match="decodes to more than 1 MiB"):
            perform(AuditRequest(path=name))


def test_parquet_types_that_json_does_not_have_become_text(workspace):
    turns = [
        {"role": "user", "content": "When?", "from": None, "at": datetime(2026, 1, 2)},
        {"role": "assistant", "content": "Now.", "from": None, "at": datetime(2026, 1, 3)},
    ]
    rows = [{"messages": turns, "raw": b"\xff", "share": float("nan")} for _ in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), workspace / "table.parquet")
    request = AuditRequest(
        path="table.parquet",
        output_dir="out",
        max_removed_fraction=1.0,
        mapping={"ignore": ["*"]},
    )
    report = audit_dataset(request)
    assert report.duplicates.num_exact == 11
    assert json.loads((workspace / "out" / "train.jsonl").read_text()) == {
        "messages": [
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": "Now."},
        ]
    }
