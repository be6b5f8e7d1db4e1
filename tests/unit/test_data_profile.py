"""The profile of a file: columns with what they hold, quoted rows, all within a budget."""

import json
import re

import pytest
from pydantic import ValidationError

from ft_tools.concise import concise
from ft_tools.contract import compact
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest, ShowRequest
from ft_tools.data.show.show_examples import show_examples
from ft_tools.data.understand.lengths import estimate_tokens
from ft_tools.errors import BadInput
from tests.unit.jsonl import write


def rows(count=60):
    return [
        {
            "id": f"T{at:04}",
            "request": (
                f"A lamp is broken at house {at} of the long street number {at * 3}.",
                f"There was loud music again last night near number {at} and {at + 1}.",
                f"Could somebody please mow the grass behind building {at}?",
            )[at % 3],
            "department": ("lighting", "noise", "parks")[at % 3],
            "urgency": None if at % 4 else at % 5,
            "review": {"state": "ok" if at % 3 else "rejected", "by": ["mh"]},
        }
        for at in range(count)
    ]


def show(**arguments):
    return show_examples(ShowRequest(path="d.jsonl", **arguments))


def test_each_column_is_described_with_values_where_they_are_few(workspace):
    write(workspace / "d.jsonl", rows())
    report = show()
    profile = report.profile
    assert (profile.format, profile.num_rows, profile.file) == ("unknown", 60, "JSON lines")
    columns = {one.name: one for one in profile.columns}
    assert list(columns) == [
        "id",
        "request",
        "department",
        "urgency",
        "review.state",
        "review.by[]",
    ]
    assert (columns["id"].distinct, columns["id"].decide) == (60, None)
    assert columns["department"].holds == "lighting 20, noise 20, parks 20"
    assert columns["department"].decide is True
    assert (columns["urgency"].type, columns["urgency"].filled) == ("number", 0.25)
    assert columns["review.state"].holds == "ok 40, rejected 20"
    assert len(report.examples) == 5
    lines = [one.row for one in report.examples]
    assert lines == sorted(lines)
    assert lines[-1] - lines[0] > 30
    assert "follow" in profile.similar
    assert report.next_steps[0].tool == "prepare_dataset"


def test_a_file_in_a_training_format_is_named_as_such(workspace):
    turns = [
        {
            "messages": [
                {"role": "user", "content": f"Question {at}?"},
                {"role": "assistant", "content": f"Answer {at}."},
            ]
        }
        for at in range(30)
    ]
    write(workspace / "d.jsonl", turns)
    report = show()
    assert report.profile.format == "openai_messages"
    assert not any(one.decide for one in report.profile.columns)
    assert report.next_steps[0].tool == "audit_dataset"
    roles = next(one for one in report.profile.columns if one.name == "messages[].role")
    assert roles.holds == "user 30, assistant 30"
    asked = report.examples[0].row - 1
    assert f"Question {asked}? / Answer {asked}." in report.examples[0].value
    # Only audit_dataset reads other spellings than those of TRL.
    assert "as they are" in report.next_steps[0].why
    (workspace / "d.json").write_text(json.dumps({"data": turns}))
    other = [{"instruction": f"Question {at}?", "output": "Answer."} for at in range(30)]
    write(workspace / "other.jsonl", other)
    for name in ("d.json", "other.jsonl"):
        (step,) = show_examples(ShowRequest(path=name)).next_steps
        assert step.tool == "audit_dataset"
        assert "output_dir" in step.why


def test_all_columns_of_a_nested_file_are_named_in_the_budget_with_how_to_see_what_they_hold(
    workspace,
):
    parts = [f"part{at}" for at in range(12)]
    text = dict.fromkeys(parts, "The text of a reply, of which no two are the same: {}.")
    made = [
        {"ticket": {"user": {k: v.format(at) for k, v in text.items()}, "tags": parts[at:]}}
        | {f"field{at}": text | {"id": at} for at in range(4)}
        for at in range(20)
    ]
    write(workspace / "d.jsonl", made)
    report = show()
    request = ShowRequest(path="d.jsonl")
    assert estimate_tokens(json.dumps(concise(report, "show_examples", request))) <= 600
    named = report.profile.more_columns
    assert "field3.{part0, " in named
    assert named.count("part11") == 5
    assert not named.endswith("\u2026")
    assert prepare_dataset(PrepareRequest(path="d.jsonl")).profile.more_columns.count("part11") == 5
    raised = int(re.search(r"max_tokens=(\d+)", named)[1])
    profile = show(max_tokens=raised).profile
    assert (len(profile.columns), profile.more_columns) == (65, "")


@pytest.mark.parametrize("num_columns", [3, 40, 300])
def test_a_profile_stays_in_its_budget_whatever_the_file_holds(workspace, num_columns):
    wide = [
        {
            f"column {name} with a long name": f"value {at % 9} \u202e" * 20
            for name in range(num_columns)
        }
        for at in range(30)
    ]
    write(workspace / "d.jsonl", wide)
    report = show()
    text = json.dumps(compact(report), ensure_ascii=False)
    assert estimate_tokens(text) <= 700
    assert "\u202e" not in text
    assert len(report.profile.columns) + report.profile.num_more_columns == min(num_columns, 300)


def test_rows_are_whole_within_the_budget_and_columns_can_be_chosen(workspace):
    write(workspace / "d.jsonl", rows())
    report = show(lines=list(range(1, 31)))
    assert [one.row for one in report.examples] == list(range(1, 31))
    assert not any(one.truncated for one in report.examples)
    assert json.loads(json.loads(report.examples[7].value)) == rows()[7]
    report = show(lines=[2, 3], columns=["department", "review.by[]"])
    assert json.loads(json.loads(report.examples[0].value)) == {
        "department": "noise",
        "review.by[]": ["mh"],
    }
    long = [{"prompt": "p" * 3000, "chosen": "c" * 3000, "n": 7}] * 3
    write(workspace / "d.jsonl", long)
    report = show(lines=[1, 2, 3], max_tokens=300)
    assert sum(len(one.value) for one in report.examples) <= 1500
    beginning = json.loads(json.loads(report.examples[0].value))
    assert beginning.keys() == long[0].keys()
    assert any("raise max_tokens" in warning for warning in report.warnings)
    assert [one.row for one in show(field="n").examples] == [1, 2, 3]


def test_ranges_are_read_until_the_budget_ends_and_count_among_what_where_selects(workspace):
    write(workspace / "d.jsonl", rows(200))
    report = show(lines="1-200")
    assert [one.row for one in report.examples] == list(range(1, len(report.examples) + 1))
    assert not any(one.truncated for one in report.examples)
    after = len(report.examples) + 1
    assert [f"lines {after}-200" in one for one in report.warnings] == [True]
    report = show(lines=["2-3", 9, "60-80"], where={"department": "parks"}, max_tokens=20_000)
    assert [one.row for one in report.examples] == [6, 9, 27, *range(180, 200, 3)]
    assert [one for one in report.warnings if "67-80" in one and "66" in one] == report.warnings
    report = show(columns="department", where={"department": "parks"})
    assert [one.row for one in report.examples] == list(range(3, 200, 3))
    assert report.warnings == []
    with pytest.raises(ValidationError):
        show(lines="3-x")


def test_values_that_stand_out_are_shown_with_their_counts(workspace):
    long = "This is a longer answer that an editor wrote instead of the given one, row {}."
    made = [{"n": f"{at / 2:g}".replace(".", ","), "fix": long.format(at)} for at in range(20)]
    made += [{"n": "k. A.", "fix": "ok"}, {"n": "k. A.", "fix": "ok"}, {"n": "", "fix": "delete"}]
    write(workspace / "d.jsonl", made)
    number, text = show().profile.columns
    assert number.holds == "0 to 9.5; k. A. 2"
    assert text.holds.endswith("characters; ok 2, delete 1")


def test_contradictions_are_shown_as_pairs_and_the_report_says_how_to_see_the_rest(workspace):
    made = [{"q": f"What is {at} and {at}?", "a": f"It is {2 * at}."} for at in range(14)]
    ask = {"contradictions": True, "mapping": {"prompt": "{q}", "answer": "a"}}
    write(workspace / "d.jsonl", made)
    assert show(**ask).examples == []
    write(workspace / "d.jsonl", made + [one | {"a": "No idea."} for one in made])
    report, rest = show(**ask), show(**ask, offset=10)
    assert report.num_contradictions == rest.num_contradictions == 14
    assert "offset=10" in report.warnings[0]
    rows = [one.row for one in report.examples + rest.examples]
    assert rows == [line for at in range(1, 15) for line in (at, at + 14)]
    assert "It is 8." in report.examples[8].value
    assert "No idea." in report.examples[9].value


def test_the_folders_of_a_folder_are_named_with_how_many_files_each_has(workspace):
    for name in ("talks/a.jsonl", "talks/b.jsonl", "others/c.jsonl"):
        (workspace / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        write(workspace / "all" / name, rows())
    profile = show_examples(ShowRequest(path="all")).profile
    assert profile.file == "3 files, JSON lines; files in folders: talks 2, others 1"
    assert profile.num_rows == 180


def test_few_values_are_shown_whole_and_where_finds_one_item_of_a_list(workspace):
    kinds = [f"kind of message {at}" for at in range(12)]
    nodes = [
        {
            str(n): {"id": str(n), "kind": kinds[(at + n) % 12], "text": f"{at} {n}"}
            for n in range(3)
        }
        for at in range(24)
    ]
    extra = {f"long name of column {n}": "text of some words " * 9 for n in range(30)}
    write(workspace / "d.jsonl", [{"nodes": one, **extra} for one in nodes])
    report = show()
    (held,) = [one.holds for one in report.profile.columns if one.name == "nodes[].kind"]
    assert sorted(held.split(", ")) == sorted(f"{kind} 6" for kind in kinds)
    found = show(where={"nodes[].kind": [kinds[4]]}, lines=["1-100"], columns=["nodes[].text"])
    texts = [json.loads(json.loads(one.value))["nodes[].text"] for one in found.examples]
    assert [text[0] for text in texts] == [f"{at} 0" for at in (2, 3, 4, 14, 15, 16)]
    with pytest.raises(BadInput, match="where: no row has these values"):
        show(where={"nodes[].kind": ["other"]}, lines=[1])


def test_values_are_masked_and_where_selects_rows(workspace):
    who = ("ada.king@mail.internal", "[email]")
    made = [{"who": who[at % 2], "x": at, "y": "ab"[at % 2]} for at in range(30)]
    write(workspace / "d.jsonl", made)
    for report in (show(), show(lines="1-2")):
        text = report.model_dump_json()
        assert "ada.king" not in text
        # What masking puts there is not what the file has.
        assert "[masked email]" in text
        assert "[email]" in text
    assert show(where={"y": "b"}).profile.num_rows == 15


def test_many_short_rows_stay_in_the_budget_and_unreadable_ones_are_explained_once(workspace):
    (workspace / "d.jsonl").write_text('{"q": "a", "a": "b"}\n' + "{bad\n" * 2000)
    made = show_examples(ShowRequest(path="d.jsonl", lines="1-60"))
    assert len(made.examples) == 60
    assert len(made.warnings) == 20
    write(workspace / "d.jsonl", [{"q": at} for at in range(2000)])
    report = show(lines="1-2000")
    assert len(report.examples) > 50
    assert estimate_tokens(json.dumps(compact(report))) < 2 * 2000


def test_a_turn_of_a_conversation_is_shown_by_its_number(workspace):
    turns = [{"role": "user", "content": "Where?"}, {"role": "assistant", "content": "Here."}]
    row = {"messages": turns, "messages.1.content": "a column of that very name"}
    rows = [{"messages": turns}, row, {"messages": [], "a": {"b.c": [1, [2]]}}]
    write(workspace / "d.jsonl", rows)

    def shown(field):
        return {one.row: json.loads(one.value) for one in show(lines="1-3", field=field).examples}

    assert shown("messages.1.content") == {1: "Here.", 2: "a column of that very name"}
    assert shown("messages.0.role") == {1: "user", 2: "user"}
    assert shown("a.b.c.1.0") == {3: "2"}
    for no_number in ("messages.2", "messages.-1", "messages.x", "messages.1.content.0"):
        assert 1 not in shown(no_number)
