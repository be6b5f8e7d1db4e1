"""What is shown is what is written; parts are divided without leaks, and earlier ones are kept."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from ft_tools.contract import compact
from ft_tools.data import prepare as module
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadData, BadInput, OutputExists
from tests.unit.jsonl import write

WORDS = (
    *("amber", "birch", "cedar", "delta", "ember", "fjord"),
    *("grove", "heath", "inlet", "jetty", "knoll", "lagoon"),
)
ASKS = {"prompt": "{asked}", "answer": ["said"]}


def row(number, **others):
    at = number
    words = [WORDS[(at * step + step) % 12] for step in (1, 5, 7)]
    asked = f"Which {words[0]} of {words[1]} has the {words[2]} number {at * at}?"
    return {"asked": asked, "said": f"The one in hall {at % 7}, shelf {at}.", **others}


def ask(**others):
    return PrepareRequest(
        **{"path": "d.jsonl", "mapping": ASKS, "output_dir": "out", "near_duplicates": "lexical"}
        | others
    )


def confirmed(request):
    confirm = prepare_dataset(request).mapping_hash
    return prepare_dataset(request.model_copy(update={"confirm": confirm}))


def asked(workspace, name, folder="out"):
    text = (workspace / folder / f"{name}.jsonl").read_text("utf-8")
    turns = [json.loads(line) for line in text.splitlines()]
    return [one.get("messages", one.get("prompt"))[0]["content"] for one in turns]


def test_a_table_without_a_mapping_shows_its_profile_and_the_call_to_fill_in(workspace):
    write(workspace / "d.jsonl", map(row, range(30)))
    report = prepare_dataset(PrepareRequest(path="d.jsonl"))
    assert report.profile.num_rows == 30
    assert report.mapping_hash == ""
    assert report.next_steps[0].arguments["mapping"]["prompt"] == "{COLUMN}"


def test_the_next_step_of_a_concise_report_can_be_called_as_it_is(workspace):
    write(workspace / "d.jsonl", map(row, range(40)))
    shown = compact(prepare_dataset(ask(mapping={**ASKS, "mask": []})))
    written = prepare_dataset(PrepareRequest(**shown["next_steps"][0]["arguments"]))
    assert (workspace / "out" / "train.jsonl").exists()
    assert written.mapping_hash == shown["mapping_hash"]


def test_nothing_is_written_before_what_was_shown_is_confirmed(workspace):
    write(workspace / "d.jsonl", map(row, range(40)))
    shown = prepare_dataset(ask())
    assert not (workspace / "out").exists()
    assert json.loads(shown.examples[0].prompt).startswith("Which ")
    assert shown.next_steps[0].arguments["confirm"] == shown.mapping_hash
    with pytest.raises(BadInput, match="is not the hash"):
        prepare_dataset(ask(confirm="0" * 16))
    with pytest.raises(BadInput, match="is not the hash"):
        prepare_dataset(ask(confirm=shown.mapping_hash, seed=1))
    write(workspace / "d.jsonl", map(row, range(41)))
    with pytest.raises(BadInput, match="is not the hash"):
        prepare_dataset(ask(confirm=shown.mapping_hash))


def test_the_same_call_twice_writes_once_and_another_one_needs_a_new_folder(workspace):
    write(workspace / "d.jsonl", map(row, range(40)))
    made = confirmed(ask())
    assert prepare_dataset(ask(confirm=made.mapping_hash)) == made
    with pytest.raises(OutputExists, match="another file, mapping or split"):
        confirmed(ask(seed=3))
    (workspace / "full").mkdir()
    (workspace / "full" / "x").write_text("x")
    with pytest.raises(OutputExists):
        prepare_dataset(ask(output_dir="full"))


def test_a_large_file_is_prepared_by_a_run(workspace, monkeypatch):
    started = []

    def start(kind, request, plan, **others):
        started.append((kind, request.mapping, plan.path, others["lineage"]))
        return "prepare-0123456789abcdef"

    monkeypatch.setattr(module, "AT_ONCE_BYTES", 100)
    monkeypatch.setattr(module, "start", start)
    write(workspace / "d.jsonl", map(row, range(40)))
    report = confirmed(ask())
    assert report.run_id == "prepare-0123456789abcdef"
    assert started[0][0] == "prepare"
    assert started[0][1].answer == ["said"]


def test_the_latest_rows_are_the_test_part_and_their_groups_are_not_trained_on(workspace):
    rows = [row(at, who=f"c{at % 40}", at=f"{1 + at % 28}.{1 + at // 28}.2026") for at in range(80)]
    write(workspace / "d.jsonl", rows)
    made = confirmed(
        ask(mapping={**ASKS, "group_by": "who", "time_column": "at"}, test_fraction=0.25)
    )
    assert set(asked(workspace, "test")) == {one["asked"] for one in rows[60:]}
    assert made.counts["same_group_as_test"] == 20
    assert any("same_group_as_test" in note for note in made.assumptions)


TEMPLATES = (
    "I sent you my {} last week and nobody has answered me since then",
    "Please tell me when the {} will be back in your store near the station",
    "Somebody stole a {} out of our yard during the very first night",
    "The colour of this {} is not what was printed on the box at all",
    "We would like to order another {} for the new office upstairs",
    "Does the guarantee of a {} cover damage by heavy rain or by hail",
    "Your driver left my {} with a neighbour whom I do not even know",
    "There is a long scratch on one side of the {} that came today",
    "Can I swap the {} for a larger one without paying postage again",
)


@pytest.mark.parametrize(
    ("begins", "ends", "is_template"),
    [("Can I", "?", False), ("Can I send the", "back that you brought to my house today?", True)],
)
def test_short_questions_with_the_same_opening_follow_no_template(
    workspace, begins, ends, is_template
):
    rows = [
        {"asked": f"{begins} {'ab'[at % 2]}{at} c{at} d{at} {ends}", "said": f"The {at}."}
        for at in range(60)
    ]
    write(workspace / "d.jsonl", rows)
    found = [one.id for one in prepare_dataset(ask(near_duplicates="auto")).findings]
    assert ("few_wordings" in found) is is_template


@pytest.mark.parametrize("seed", range(6))
def test_whole_templates_are_held_out_of_each_class_in_proportion(workspace, seed):
    teams, places = ("stock", "billing", "delivery"), ("hall", "yard", "desk", "gate")
    rows = [
        {
            "asked": t.format(f"{WORDS[at % 12]} {at}"),
            "team": teams[n % 3],
            "place": places[at % 4],
            "case": f"{n}{at}",
        }
        for n, t in enumerate(TEMPLATES)
        for at in range(20)
    ]
    write(workspace / "d.jsonl", rows)
    mapping = {"prompt": "{asked}", "answer": ["team", "place", "case"]}
    parts = {"near_duplicates": "auto", "test_fraction": 0.34, "validation_fraction": 0.0}
    assert confirmed(ask(mapping=mapping, seed=seed, **parts)).wordings["num_test"] == 3
    team_of = {one["asked"]: one["team"] for one in rows}
    starts = {one[:12] for one in asked(workspace, "test")}
    assert not any(one[:12] in starts for one in asked(workspace, "train"))
    for name in ("train", "test"):
        counts = Counter(team_of[one] for one in asked(workspace, name))
        assert len(counts) == 3
        assert max(counts.values()) <= 1.1 * min(counts.values())


def test_a_file_that_is_prepared_again_keeps_its_first_test_rows(workspace):
    write(workspace / "d.jsonl", [row(at, mark=at % 2) for at in range(80)])
    confirmed(ask(mapping={**ASKS, "ignore": "mark"}, test_fraction=0.2))
    marks = {"column": "mark", "good": 1, "bad": 0}
    again = ask(mapping={**ASKS, "marks": marks}, output_dir="kto", test_fraction=0.2, seed=5)
    shown = prepare_dataset(again)
    assert any("of a test set of this workspace" in note for note in shown.assumptions)
    confirmed(again)
    assert set(asked(workspace, "test")) == set(asked(workspace, "test", "kto"))
    assert set(asked(workspace, "train", "kto")).isdisjoint(asked(workspace, "test"))


def test_rows_collected_as_a_test_are_all_tested_and_kept_out_of_training_elsewhere(workspace):
    write(workspace / "exam.jsonl", map(row, range(60, 70)))
    made = confirmed(ask(path="exam.jsonl", output_dir="exam", test_fraction=1))
    assert made.counts == {"test": 10}
    assert made.next_steps[0].arguments["dataset"] == made.outputs.test
    # Nothing of them is left to train on, and the plan says so.
    with pytest.raises(BadInput, match="earlier test sets"):
        prepare_dataset(ask(path="exam.jsonl", output_dir="other"))
    write(workspace / "d.jsonl", map(row, range(70)))
    confirmed(ask(test_fraction=0))
    assert set(asked(workspace, "test")) == set(asked(workspace, "test", "exam"))
    assert set(asked(workspace, "train")).isdisjoint(asked(workspace, "test", "exam"))


def test_a_plan_whose_earlier_test_part_is_gone_is_not_confirmed(workspace):
    write(workspace / "d.jsonl", map(row, range(80)))
    confirmed(ask(test_fraction=0.2))
    again = ask(output_dir="again", test_fraction=0.2, seed=5)
    shown = prepare_dataset(again)
    shutil.rmtree(workspace / "out")
    with pytest.raises(BadInput, match="other rows of earlier test sets"):
        prepare_dataset(again.model_copy(update={"confirm": shown.mapping_hash}))
    assert not (workspace / "again").exists()
    assert confirmed(again).mapping_hash == shown.mapping_hash.partition("-")[0]


def test_rows_that_a_run_was_trained_on_never_become_test_rows(workspace):
    rows = [row(at) for at in range(80)]
    write(workspace / "first.jsonl", rows[:40])
    confirmed(ask(path="first.jsonl", output_dir="first", test_fraction=0.0))
    plan = {"dataset": {"path": str(workspace / "first" / "train.jsonl")}}
    run = workspace / "runs" / "sft-0123456789abcdef"
    run.mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps(plan))
    write(workspace / "d.jsonl", rows)
    made = confirmed(ask(test_fraction=0.4))
    test = set(asked(workspace, "test"))
    assert len(test) >= 25
    assert test.isdisjoint(asked(workspace, "train", "first"))
    assert any("were trained on by runs" in note for note in made.assumptions)


def test_contradictions_are_decided_by_the_caller(workspace):
    rows = [row(at) for at in range(60)]
    rows += [one | {"said": "Somewhere else."} for one in rows[:6]]
    rows += rows[:2]
    write(workspace / "d.jsonl", rows)
    shown = prepare_dataset(ask())
    assert shown.contradictions[0] == [1, 61]
    assert shown.next_steps[0].arguments["contradictions"] == "majority"
    assert "12 of 66 rows" in shown.decide_first[0]
    # Nobody can confirm what is open.
    assert shown.mapping_hash == ""
    with pytest.raises(ValueError, match=r"needs mapping\.time_column"):
        ask(contradictions="latest")
    shown = prepare_dataset(ask(contradictions="majority", response_format="detailed"))
    # How a report is shown is no part of what is confirmed.
    made = prepare_dataset(ask(contradictions="majority", confirm=shown.mapping_hash))
    # Of two prompts one answer is more frequent; of four none is.
    assert made.counts["conflicting_targets"] == 2 + 8
    assert confirmed(ask(contradictions="drop", output_dir="b")).counts["conflicting_targets"] == 12


def test_contradictions_are_decided_by_the_values_of_a_column(workspace):
    rows = [row(at, by=("jo", "ann", "", "jo")[at % 4]) for at in range(60)]
    # The other answer is of ann, of jo, of ann, of nobody; and twice of jo, as was the first.
    others = {0: "ann", 1: "jo", 2: "ann", 3: "", 4: "jo", 7: "jo"}
    rows += [rows[at] | {"said": "Elsewhere.", "by": who} for at, who in others.items()]
    write(workspace / "d.jsonl", rows)
    first = {"by": ["ann", "jo"]}
    shown = prepare_dataset(ask(contradictions=first))
    assert shown.counts["conflicting_targets"] == 4
    assert (shown.num_contradictions, shown.num_undecided) == (6, 2)
    assert shown.contradictions == [[5, 65], [8, 66]]
    step = shown.next_steps[0].arguments["contradictions"]
    assert step == [{"by": ["ann", "jo"]}, "drop"]
    assert "4 of 62 rows" in shown.decide_first[0]
    with pytest.raises(BadInput, match="contradictions: no row has 'anne'"):
        prepare_dataset(ask(contradictions={"by": ["anne"]}))
    with pytest.raises(BadInput, match="contradictions names the column 'who'"):
        prepare_dataset(ask(contradictions={"who": ["ann"]}))
    made = confirmed(ask(contradictions=step))
    assert (made.counts["conflicting_targets"], made.num_undecided) == (4 + 4, 0)
    parts = ("train", "validation", "test")
    kept = [text for part in parts for text in asked(workspace, part)]
    assert set(kept) & {row(at)["asked"] for at in others} == {row(at)["asked"] for at in range(4)}
    text = "".join((workspace / "out" / f"{part}.jsonl").read_text("utf-8") for part in parts)
    # The first rows answer it of ann (1) and jo (3), the others of ann (0, 2).
    assert text.count("Elsewhere.") == 2


def test_few_contradictions_are_no_more_where_the_split_leaves_rows_out(workspace):
    rows = [
        row(at, who=f"c{at % 60}", at=f"{1 + at % 28}.{1 + at // 28}.2026") for at in range(120)
    ]
    write(workspace / "d.jsonl", [*rows, rows[1] | {"said": "Somewhere else."}])
    mapping = {**ASKS, "group_by": "who", "time_column": "at"}
    made = confirmed(ask(mapping=mapping, test_fraction=0.25))
    # 2 of 121 rows, and of the 91 that are left.
    assert made.counts["same_group_as_test"] == 30
    assert made.contradictions == [[2, 121]]


def test_later_answers_are_kept_by_a_time(workspace):
    rows = [row(at, at=at) for at in range(60)]
    rows += [one | {"said": "It moved.", "at": 100 + at} for at, one in enumerate(rows[:6])]
    write(workspace / "d.jsonl", rows)
    mapping = {**ASKS, "time_column": "at"}
    made = confirmed(ask(mapping=mapping, contradictions="latest", test_fraction=0.1))
    assert made.counts["conflicting_targets"] == 6
    files = [workspace / "out" / f"{name}.jsonl" for name in ("train", "validation", "test")]
    assert "".join(one.read_text("utf-8") for one in files).count("It moved.") == 6


def test_the_code_beside_the_files_asks_as_was_trained(workspace):
    write(workspace / "d.jsonl", map(row, range(30)))
    confirmed(ask(mapping={**ASKS, "system": "Short.", "replace": {r"^\w+@\w+": "[mail]"}}))
    space = {"__file__": str(workspace / "out" / "format_input.py")}
    exec((workspace / "out" / "format_input.py").read_text("utf-8"), space)
    asked_of = space["format_input"]({" asked ": "Where?\nann@here", "said": "x"})
    assert asked_of == [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "Where?\n[mail]"},
    ]


def test_a_file_without_rows_and_one_of_other_rows_are_refused(workspace):
    (workspace / "d.csv").write_text("asked,said\n")
    with pytest.raises(BadData, match="holds no row"):
        prepare_dataset(ask(path="d.csv"))
    (workspace / "d.jsonl").write_text("[1]\n[2]\n")
    with pytest.raises(BadData, match="no row can be read"):
        prepare_dataset(ask())


def test_the_files_of_a_folder_are_prepared_as_one(workspace):
    days = workspace / "days"
    days.mkdir()
    write(days / "1.jsonl", [row(at, state="ok") for at in range(30)])
    write(days / "2.jsonl", [row(at, state="bad") for at in range(30, 40)])
    write(days / "3.jsonl", [row(at) for at in range(40, 60)])
    mapping = {**ASKS, "drop": {"state": ["bad"]}}
    asks = ask(path="days", mapping=mapping)
    shown = prepare_dataset(asks)
    assert shown.num_rows == 60
    assert shown.counts["dropped"] == 10
    report = confirmed(asks)
    parts = ("train", "validation", "test")
    written = [one for name in parts for one in asked(workspace, name)]
    assert Counter(written) == Counter(row(at)["asked"] for at in (*range(30), *range(40, 60)))
    (workspace / "out").rename(days / "out")
    assert prepare_dataset(asks).mapping_hash == shown.mapping_hash
    removed = (days / "out" / "removed.jsonl").read_text("utf-8").splitlines()
    # Rows are numbered as show_examples numbers them: the first file has 30.
    assert [json.loads(line)["row"] for line in removed] == list(range(31, 41))
    assert report.outputs.num_train + report.outputs.num_validation + report.outputs.num_test == 50
    write(days / "3.jsonl", [row(at) for at in range(40, 61)])
    with pytest.raises(BadInput, match="is not the hash"):
        prepare_dataset(asks.model_copy(update={"confirm": shown.mapping_hash}))
    with pytest.raises(BadInput, match="'unused'"):
        prepare_dataset(ask(path="days", mapping={**ASKS, "ignore": ["unused", "state"]}))


def test_files_of_a_folder_are_of_one_kind_and_each_has_the_list_that_is_named(workspace):
    pages = workspace / "pages"
    pages.mkdir()
    for page in (1, 2):
        rows = [row(at) for at in range(20 * page, 20 * page + 20)]
        users = [{"id": at} for at in range(30)]
        (pages / f"{page}.json").write_text(json.dumps({"users": users, "talks": rows}))
    assert prepare_dataset(ask(path="pages", sheet="talks")).num_rows == 40
    (pages / "3.json").write_text(json.dumps({"users": [{"id": 1}]}))
    with pytest.raises(BadData, match=r"3\.json.*no list 'talks'"):
        prepare_dataset(ask(path="pages", sheet="talks"))
    (pages / "4.csv").write_text("asked,said\na,b\n")
    with pytest.raises(BadInput, match="3 JSON, 1 CSV"):
        prepare_dataset(ask(path="pages"))


def test_a_mapping_of_an_earlier_preview_is_refused_with_a_cure(workspace):
    write(workspace / "d.jsonl", map(row, range(60)))
    made = confirmed(ask(test_fraction=0.0))
    audited = AuditRequest(path=made.outputs.train, output_dir="clean", near_duplicates="off")
    beside = workspace / "out" / "mapping.json"
    mapping = json.loads(beside.read_text("utf-8"))
    beside.write_text(json.dumps(mapping | {"answer_format": "json"}), encoding="utf-8")
    with pytest.raises(BadData, match=r"mapping\.json.*prepare_dataset"):
        audit_dataset(audited)
    beside.write_text(json.dumps(mapping), encoding="utf-8")
    assert (Path(audit_dataset(audited).outputs.folder) / "format_input.py").is_file()
    (workspace / "out" / "report.json").write_text('{"mapping": {"answer_format": "json"}}')
    with pytest.raises(OutputExists, match="earlier preview; name a new folder"):
        prepare_dataset(ask(test_fraction=0.0, confirm=made.mapping_hash))
