"""No mark, mask or group of a mapping is passed over, wherever in a row its column is."""

import json

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.errors import BadInput
from ft_tools.formats.formats import normalise
from ft_tools.formats.test_sets import keys_of, remember
from tests.unit.test_data_prepare import ASKS, ask, asked, confirmed, row, write

TALK = {
    "conversation": "talk",
    "role": "by",
    "text": "said",
    "roles": {"c": "user", "a": "assistant"},
}
PAIRED = ("up", "down")


def talk(number, **others):
    said = [
        {"by": "c", "said": f"Where is parcel {number}? Write to ada{number}@mail.internal"},
        {"by": "a", "said": f"Parcel {number} is on its way."},
    ]
    return {"talk": [turn | others for turn in said]}


def test_columns_named_like_a_key_of_turns_are_decided_about(workspace):
    rows = [talk(at, kind="comment") | {"kind": "ok" if at % 3 else "bad"} for at in range(30)]
    write(workspace / "d.jsonl", rows)
    turns = TALK | {"keep": {"kind": ["comment"]}}
    with pytest.raises(BadInput, match=r"kind \(ok 20, bad 10\)"):
        prepare_dataset(ask(mapping={"turns": turns}))
    shown = prepare_dataset(ask(mapping={"turns": turns, "ignore": ["kind"]}))
    assert shown.num_rows == 30


def test_keys_of_turns_that_are_json_in_a_string_are_decided_about(workspace):
    rows = [{"talk": json.dumps(talk(at, rating=at % 2)["talk"])} for at in range(30)]
    write(workspace / "d.jsonl", rows)
    with pytest.raises(BadInput, match=r"talk\[\]\.rating"):
        prepare_dataset(ask(mapping={"turns": TALK}))
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho", "rating": 1}]
    write(workspace / "d.jsonl", [{"messages": json.dumps(chat)}] * 20)
    with pytest.raises(BadInput, match=r"messages\[\]\.rating"):
        prepare_dataset(PrepareRequest(path="d.jsonl"))


def test_marks_are_found_however_deep_and_however_late_in_a_list(workspace):
    deep = {"a": {"b": {"c": {"d": {"e": {"f": {"rating": "bad"}}}}}}}
    write(workspace / "d.jsonl", [row(at, **deep) for at in range(20)])
    with pytest.raises(BadInput, match=r"a\.b\.c\.d\.e\.f\.rating"):
        prepare_dataset(ask())
    late = {"votes": [*["ok"] * 300, "bad"]}
    write(workspace / "d.jsonl", [row(at, **(late if at % 2 else {})) for at in range(20)])
    shown = prepare_dataset(ask(mapping={**ASKS, "drop": {"votes": ["bad"]}}))
    assert shown.counts["dropped"] == 10


def test_columns_to_mask_are_masked_in_turns_too_or_refused(workspace):
    write(workspace / "d.jsonl", [talk(at) for at in range(40)])
    for name in ("talk", "talk[].said"):
        made = confirmed(ask(mapping={"turns": TALK, "mask": [name]}, output_dir=f"out-{name}"))
        assert made.masked == {"email": 40}
        files = [*(workspace / f"out-{name}").glob("*.jsonl")]
        assert not any("mail.internal" in one.read_text("utf-8") for one in files)
    write(workspace / "d.jsonl", map(row, range(40)))
    with pytest.raises(BadInput, match="aske"):
        prepare_dataset(ask(mapping={**ASKS, "mask": ["aske"]}))


def test_groups_inside_lists_are_groups(workspace):
    rows = [row(at, who=[{"id": f"c{at % 12}"}]) for at in range(120)]
    write(workspace / "d.jsonl", rows)
    mapping = {**ASKS, "group_by": "who[].id"}
    confirmed(ask(mapping=mapping, test_fraction=0.2))
    parts = [set(asked(workspace, name)) for name in ("train", "validation", "test")]
    groups = [{at % 12 for at in range(120) if row(at)["asked"] in part} for part in parts]
    assert all(groups)
    assert groups[0].isdisjoint(groups[1] | groups[2])


def test_what_belongs_to_an_earlier_test_row_is_not_trained_on_beside_the_latest_rows(workspace):
    rows = [row(at, who=f"c{at // 4}", at=f"2026-01-{1 + at // 4:02d}") for at in range(80)]
    earlier = {
        "messages": [
            {"role": "user", "content": rows[0]["asked"]},
            {"role": "assistant", "content": rows[0]["said"]},
        ]
    }
    write(workspace / "earlier.jsonl", [earlier])
    write(workspace / "earlier.jsonl", [earlier])
    remember(workspace / "earlier.jsonl", [keys_of(normalise(1, earlier))])
    write(workspace / "d.jsonl", rows)
    mapping = {**ASKS, "group_by": "who", "time_column": "at"}
    confirmed(ask(mapping=mapping, test_fraction=0.2))
    of_group = {one["asked"] for one in rows[:4]}
    assert of_group <= set(asked(workspace, "test"))
    assert of_group.isdisjoint(asked(workspace, "train"))


def test_a_second_column_of_a_name_is_decided_about_and_read_by_its_letter(workspace):
    lines = [f"Where is {at}?,In hall {at}.,{'good' if at % 3 else 'bad'},x" for at in range(30)]
    (workspace / "d.csv").write_text("\n".join(["asked,said,mark,mark", *lines]), "utf-8")
    mapping = {**ASKS, "drop": {"mark": "bad"}}
    with pytest.raises(BadInput, match=r"D \(x 30\)"):
        prepare_dataset(ask(path="d.csv", mapping=mapping))
    shown = prepare_dataset(ask(path="d.csv", mapping={**mapping, "ignore": "D"}))
    assert shown.counts["dropped"] == 10


def test_a_conversation_is_as_late_as_its_latest_turn(workspace):
    turns = {"conversation": "case", "role": "by", "text": "said", "roles": TALK["roles"]}
    rows = []
    for at in range(40):
        long = at < 20
        for place, (by, said) in enumerate((("c", row(at)["asked"]), ("a", row(at)["said"]))):
            day = 1 + at // 2 + place * long
            rows.append({"case": at, "by": by, "said": said, "at": f"2026-01-{day:02d}"})
    write(workspace / "d.jsonl", rows)
    confirmed(ask(mapping={"turns": turns, "time_column": "at"}, test_fraction=0.25))
    assert set(asked(workspace, "test")) == {row(at)["asked"] for at in range(30, 40)}


def test_a_column_to_ignore_that_is_misspelt_is_refused_with_the_nearest(workspace):
    write(workspace / "d.jsonl", [row(at, rating=at % 2, meta={"by": "a"}) for at in range(20)])
    mapping = {**ASKS, "ignore": ["raiting", "meta"]}
    with pytest.raises(BadInput, match=r"'raiting'.*rating"):
        perform(AuditRequest(path="d.jsonl", mapping=mapping))
    shown = prepare_dataset(ask(mapping={**ASKS, "ignore": ["rating", "meta.by"]}))
    assert shown.num_rows == 20


def test_objects_keyed_by_an_id_choose_rows_however_few_they_are(workspace):
    flags = ["bad", *["ok"] * 5]
    keyed = [{f"by{n}": {"flag": flags[n]} for n in range(1 + at % 6)} for at in range(36)]
    rows = [row(at, reviews=keyed[at] if at % 2 else {}) for at in range(36)]
    write(workspace / "d.jsonl", rows)
    mapping = ASKS | {"drop": {"reviews[].flag": ["bad"]}, "ignore": ["*"]}
    assert prepare_dataset(ask(mapping=mapping)).counts["dropped"] == 18
