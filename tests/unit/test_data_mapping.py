"""A mapping is applied exactly: what it does not name is refused, and nothing is guessed."""

import csv
import json

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadInput, Refused
from ft_tools.formats.plain_html import plain_html
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft
from tests.creating import chat
from tests.protocol import calls
from tests.unit.jsonl import read, write

WORDS = ("parcel", "depot", "refund", "invoice", "account", "password", "delivery", "return")


def row(at, **others):
    asked = f"Where is the {WORDS[at % 8]} number {at} of customer {at * 7} now?"
    return {"asked": asked, "said": f"It waits at counter {at}.", **others}


ASKS = {"prompt": "{asked}", "answer": ["said"]}


def prepare(mapping, **others):
    """Show, confirm and return the report."""
    others = {"path": "d.jsonl", "output_dir": "out", "contradictions": "keep"} | others
    request = PrepareRequest(mapping=mapping, **others)
    confirm = prepare_dataset(request).mapping_hash
    return prepare_dataset(request.model_copy(update={"confirm": confirm}))


def lines(workspace, *names):
    folder = workspace / "out" if (workspace / "out").exists() else workspace
    return [one for name in names for one in read(folder / f"{name}.jsonl")]


EXAMPLES = ("train", "validation", "test")


def test_rows_become_examples_and_every_row_is_in_one_file(workspace):
    rows = [row(at) for at in range(60)] + [row(3), row(70, said="")]
    write(workspace / "d.jsonl", rows)
    made = prepare({**ASKS, "system": "Be brief."})
    assert made.counts == {
        "train": made.outputs.num_train,
        "validation": made.outputs.num_validation,
        "test": made.outputs.num_test,
        "exact_duplicate": 1,
        "no_answer": 1,
    }
    turns = [one["messages"] for one in lines(workspace, *EXAMPLES)]
    assert {turn[0]["content"] for turn in turns} == {"Be brief."}
    assert {turn[1]["content"]: turn[2]["content"] for turn in turns} == {
        one["asked"]: one["said"] for one in rows[:60]
    }
    assert [one["reason"] for one in lines(workspace, "unlabelled")] == ["no_answer"]
    assert [one["row"] for one in lines(workspace, "removed")] == [61]


def test_a_column_that_nothing_reads_is_refused_with_its_values_until_it_is_named(workspace):
    rows = [row(at, id=at, mark=("prima", "schlecht")[at % 3 == 0]) for at in range(30)]
    write(workspace / "d.jsonl", rows)
    with pytest.raises(BadInput, match=r"mark \(prima 20, schlecht 10\)") as refused:
        prepare_dataset(PrepareRequest(path="d.jsonl", mapping=ASKS))
    assert "id (" not in str(refused.value)
    shown = prepare_dataset(PrepareRequest(path="d.jsonl", mapping={**ASKS, "ignore": "mark"}))
    assert shown.not_used == ["id"]
    assert shown.mapping_hash
    made = prepare({**ASKS, "drop": {"mark": "schlecht"}})
    assert made.counts["dropped"] == 10
    kept = {one["messages"][0]["content"] for one in lines(workspace, *EXAMPLES)}
    assert kept == {one["asked"] for one in rows if one["mark"] == "prima"}


def test_audit_and_launch_ask_about_the_same_columns(workspace):
    calls.prepare(workspace)
    rows = [
        {"prompt": row(at)["asked"], "completion": row(at)["said"], "stars": at % 5 + 1}
        for at in range(40)
    ]
    write(workspace / "d.jsonl", rows)
    report = audit_dataset(AuditRequest(path="d.jsonl", output_dir="clean"))
    (finding,) = [one for one in report.findings if one.id == "undecided_columns"]
    assert (finding.severity, finding.count) == ("error", 40)
    assert finding.columns == ["stars (1 8, 2 8, 3 8, 4 8, 5 8)"]
    assert (report.verdict, report.outputs) == ("not_ready", None)
    with pytest.raises(Refused, match=r"^undecided_columns: .*stars"):
        launch_sft(SftRequest(model="model", dataset="d.jsonl"))
    reason = {"accept_findings": ["undecided_columns"], "accept_reason": "the user said so"}
    assert launch_sft(SftRequest(model="model", dataset="d.jsonl", **reason)).plan_hash
    mapping = {"keep": {"stars": ">=4"}}
    kept = audit_dataset(
        AuditRequest(path="d.jsonl", mapping=mapping, output_dir="clean", near_duplicates="off")
    )
    assert kept.removed_by == {"not_kept": 24}
    assert kept.outputs.num_train + kept.outputs.num_validation == 16


def test_a_value_that_no_row_has_is_refused_with_those_that_are_there(workspace):
    write(workspace / "d.jsonl", [row(at, mark=("ok", "bad")[at % 2]) for at in range(20)])
    for rule in ("keep", "drop"):
        with pytest.raises(BadInput, match=r"'okay' \(similar: ok\) in mark, which has ok 10, b"):
            prepare_dataset(
                PrepareRequest(path="d.jsonl", mapping={**ASKS, rule: {"mark": ["okay"]}})
            )
    with pytest.raises(BadInput, match=r"names the column 'marks'.*similar: mark"):
        prepare_dataset(PrepareRequest(path="d.jsonl", mapping={**ASKS, "keep": {"marks": "ok"}}))


MARKS = {"column": "mark", "good": ["up"], "bad": ["down"]}


def test_marks_that_are_neither_good_nor_bad_are_refused(workspace):
    write(
        workspace / "d.jsonl", [row(at, mark=("up", "down", "so-so")[at % 3]) for at in range(30)]
    )
    with pytest.raises(BadInput, match=r"neither good nor bad: so-so 10"):
        prepare_dataset(PrepareRequest(path="d.jsonl", mapping={**ASKS, "marks": MARKS}))
    made = prepare({**ASKS, "marks": MARKS | {"neither": ["so-so"]}})
    assert (made.task, made.counts["not_marked"]) == ("kto", 10)
    assert made.marks == {"good": 10, "bad": 10}
    rows = lines(workspace, *EXAMPLES)
    assert sorted(one["label"] for one in rows) == [False] * 10 + [True] * 10
    assert {one["prompt"][0]["content"]: one["label"] for one in rows} == {
        row(at)["asked"]: at % 3 == 0 for at in range(30) if at % 3 < 2
    }


def test_two_columns_of_answers_are_pairs(workspace):
    rows = [row(at, better=f"Counter {at}, second floor." if at % 2 else "") for at in range(40)]
    write(workspace / "d.jsonl", rows)
    sides = {"prompt": "{asked}", "chosen": "better", "rejected": "said"}
    made = prepare(sides)
    assert (made.task, made.counts["no_answer"]) == ("dpo", 20)
    assert all("floor" in one["chosen"][0]["content"] for one in lines(workspace, *EXAMPLES))
    assert prepare({**ASKS, "corrected": "better"}, output_dir="other").num_corrected == 20


PICKED = {"column": "pick", "answers": {"A": "a", "B": "b"}, "neither": ["=", "-"]}


def test_a_column_says_which_of_two_answers_is_chosen(workspace):
    rows = [
        {
            "q": f"Question {at}, please?",
            "a": f"Yes {at}.",
            "b": f"No {at}.",
            "pick": "AB=-"[at % 4],
        }
        for at in range(80)
    ]
    first, second = rows[:2]
    swapped = {"a": second["b"], "b": second["a"], "pick": "A"}
    rows += [first | {"pick": "B"}, second | swapped, {"pick": "A", "a": "same", "b": "same"}]
    rows[-1]["q"] = "Test question"
    rows += [{"q": "Alone?", "a": "Yes.", "b": "", "pick": "A"}, first | {"pick": " "}]
    write(workspace / "d.jsonl", rows)
    mapping = {"prompt": "q", "chosen": PICKED}
    whole = {"test_fraction": 0.0, "validation_fraction": 0.0, "contradictions": None}
    made = prepare(mapping, **whole)
    assert made.counts == {
        "train": 39,
        "not_marked": 41,
        "conflicting_targets": 2,
        "exact_duplicate": 1,
        "identical_pair": 1,
        "no_answer": 1,
    }
    pairs = lines(workspace, "train")
    assert {
        (one["chosen"][0]["content"].split()[0], one["rejected"][0]["content"].split()[0])
        for one in pairs
    } == {("Yes", "No"), ("No", "Yes")}
    with pytest.raises(BadInput, match='values that choose no answer: "=" 20'):
        prepare({"prompt": "q", "chosen": PICKED | {"neither": ["-"]}})
    dropped = {"drop": {"q": {"pattern": "(?i)^test"}}}
    shown = prepare_dataset(PrepareRequest(path="d.jsonl", mapping=mapping | dropped))
    assert shown.counts["dropped"] == 1


def test_the_answer_with_the_higher_rating_is_chosen_and_a_list_is_kept_by_one_item(workspace):
    rows = [
        {
            "q": f"Question {at}?",
            "a": f"Yes {at}.",
            "b": f"No {at}.",
            "rated": {"a": at % 5, "b": "2,5" if at % 2 else 2},
            "tags": ["new", "x"] if at % 10 else ["old"],
        }
        for at in range(100)
    ]
    write(workspace / "d.jsonl", rows)
    higher = {"rated.a": "a", "rated.b": "b"}
    mapping = {"prompt": "q", "chosen": {"higher": higher}, "keep": {"tags[]": "new"}}
    made = prepare(mapping, test_fraction=0.0, validation_fraction=0.0)
    # 2 against 2 is a tie; every tenth has the old tag alone.
    assert made.counts == {"train": 80, "not_kept": 10, "not_marked": 10}
    assert made.left_out_by == {"tags[]": "old 10"}
    for one in lines(workspace, "train"):
        at = int(one["prompt"][0]["content"].split()[1].rstrip("?"))
        assert one["chosen"][0]["content"].startswith("Yes") == (at % 5 > 2)
    other = mapping | {"keep": {"tags[]": "!=x"}}
    assert prepare(other, output_dir="other").counts["not_kept"] == 90


def test_several_answer_columns_are_one_json_object_in_the_types_of_their_values(workspace):
    rows = [
        row(at, team=("a", "b")[at % 2], level=str(at % 3), due=f"day {at}" if at % 4 else "")
        for at in range(40)
    ]
    with (workspace / "d.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    mapping = {"prompt": "{asked}", "answer": ["team", "level", "due"], "nullable": ["due"]}
    made = prepare({**mapping, "ignore": ["said"]}, path="d.csv")
    answers = [json.loads(one["messages"][1]["content"]) for one in lines(workspace, *EXAMPLES)]
    assert len(answers) == 40
    assert {type(one["level"]) for one in answers} == {int}
    assert sum(one["due"] is None for one in answers) == 10
    properties = made.mapping.answer_schema["properties"]
    assert properties["team"]["enum"] == ["a", "b"]
    assert properties["level"] == {"type": "integer"}
    assert made.labels["team"] == {"classes": 2, "largest": 20, "smallest": 20}
    with pytest.raises(BadInput, match="names 'teem'"):
        prepare({**mapping, "ignore": "*", "answer_schema": {"required": ["teem"]}}, path="d.csv")


def test_the_keys_of_a_json_answer_are_named_and_its_values_keep_their_types(workspace):
    def labels(at):
        parts = {"urgent": at % 2 == 0, "line": str(at % 5 + 3), "level": at, "tags": ["x", at]}
        return parts | {"note": None if at % 4 else '{"by": "ann"}', "size": at if at % 3 else "L"}

    rows = [row(at, labels=labels(at)) for at in range(60)]
    write(workspace / "d.jsonl", rows)
    names = {"number": "level", "line": "line", "is_urgent": "urgent", "size": "size"}
    names |= {"tags": "tags", "note": "note"}
    mapping = {
        "prompt": "{asked}",
        "answer": {key: f"labels.{name}" for key, name in names.items()},
        "nullable": ["note"],
        "ignore": ["said"],
    }
    made = prepare(mapping)
    schema = made.mapping.answer_schema
    answers = [json.loads(one["messages"][1]["content"]) for one in lines(workspace, *EXAMPLES)]
    assert [list(one) for one in answers] == [list(names)] * 60
    for answer in answers:
        Draft202012Validator(schema).validate(answer)
    given = {
        at: {key: labels(at)[name] for key, name in names.items()}
        | {"note": None if at % 4 else {"by": "ann"}}
        for at in range(60)
    }
    assert {one["number"]: one for one in answers} == given
    kinds = {key: about.get("type") for key, about in schema["properties"].items()}
    assert kinds == {
        "number": "integer",
        "line": "string",
        "is_urgent": "boolean",
        "size": ["integer", "string"],
        "tags": "array",
        "note": None,
    }
    note = {"answer": ["labels.note"], "nullable": ["labels.note"], "ignore": ["*"]}
    one = prepare(mapping | note, output_dir="one")
    assert one.mapping.answer_schema["properties"]["labels.note"]["anyOf"][0] == {"type": "object"}


def test_a_better_answer_is_used_where_another_column_says_so(workspace):
    kinds = ("keep", "fix", "drop")
    rows = [
        row(at, verdict=kinds[at % 3], better=f"Better {at}." * (at % 5 > 0)) for at in range(60)
    ]
    write(workspace / "d.jsonl", rows)
    better = {"column": "better", "when": {"verdict": "fix"}}
    keep = [{"verdict": "keep"}, {"verdict": "fix", "better": "!="}]
    made = prepare({**ASKS, "corrected": better, "keep": keep})
    said = {
        one["messages"][0]["content"]: one["messages"][1]["content"]
        for one in lines(workspace, *EXAMPLES)
    }
    assert said == {
        one["asked"]: one["better" if one["verdict"] == "fix" else "said"]
        for one in rows
        if one["verdict"] == "keep" or (one["verdict"] == "fix" and one["better"])
    }
    assert made.num_corrected == sum(
        one["verdict"] == "fix" and bool(one["better"]) for one in rows
    )


def test_values_are_replaced_before_they_get_the_types_of_a_given_schema(workspace):
    sizes = ("3 St.", "-", 4, "12")
    rows = [row(at, urgent=("ja", "nein")[at % 2], size=sizes[at % 4]) for at in range(40)]
    write(workspace / "d.jsonl", rows)
    kinds = {"urgent": {"type": "boolean"}, "size": {"type": ["integer", "null"]}}
    mapping = {"prompt": "asked", "answer": ["said", "urgent", "size"]}
    mapping["answer_schema"] = {"properties": kinds}
    with pytest.raises(BadInput, match=r'urgent ja 20, nein 20; size 3 St\. 10, "-" 10'):
        prepare(mapping)
    mapping["replace"] = {"^ja$": "true", "^nein$": "false", "^-$": "", " St[.]$": ""}
    made = prepare(mapping)
    answers = [json.loads(one["messages"][1]["content"]) for one in lines(workspace, *EXAMPLES)]
    assert {(one["urgent"], one["size"]) for one in answers} == {
        (True, 3), (False, None), (True, 4), (False, 12)
    }  # fmt: skip
    assert made.mapping.answer_schema["properties"] == {"said": {"type": "string"}} | kinds
    for answer in answers:
        Draft202012Validator(made.mapping.answer_schema).validate(answer)


def test_all_that_has_to_be_decided_is_in_one_refusal(workspace):
    rows = [row(at, mark=("up", "?")[at % 2], tone="ab"[at % 2], talk=at % 3) for at in range(40)]
    write(workspace / "d.jsonl", [*rows, *({**one, "said": "No."} for one in rows[:10])])
    mapping = {"prompt": "asked", "answer": {"text": "said", "more": "sad"}, "marks": MARKS}
    mapping |= {"drop": {"talk": ["7"]}, "answer_schema": {"required": ["txt"]}, "nullable": "sad"}
    with pytest.raises(BadInput) as refused:
        prepare_dataset(PrepareRequest(path="d.jsonl", mapping=mapping, output_dir="out"))
    for part in ("'sad'", "'txt'", "neither good nor bad: ", "'7'", r"tone (a 25, b 25)"):
        assert part in str(refused.value)
    mapping = {**ASKS, "ignore": ["mark", "talk"]}
    with pytest.raises(BadInput, match=r"2 things .* tone .* decide first: 20 of 50"):
        prepare_dataset(PrepareRequest(path="d.jsonl", mapping=mapping))


def test_signatures_are_removed_by_the_named_pattern_and_counted(workspace):
    rows = [row(at) for at in range(30)]
    for at in range(0, 30, 3):
        rows[at]["said"] += f"\n-- \nKim {at}, Support"
    write(workspace / "d.jsonl", rows)
    made = prepare({**ASKS, "replace": {r"\n-- \n.*\Z": ""}})
    assert made.num_stripped == 10
    assert not any("Support" in one["messages"][1]["content"] for one in lines(workspace, "train"))
    with pytest.raises(ValidationError, match="no regular expression"):
        ColumnMapping(**ASKS, replace={"(": ""})
    rows[0]["said"] = "a" * 60 + "!"
    write(workspace / "d.jsonl", rows)
    with pytest.raises(BadInput, match=r"the pattern .* needs more"):
        prepare({**ASKS, "replace": {r"(a|a|aa)+$": ""}}, output_dir="slow")


def test_patterns_read_each_value_of_a_json_answer_and_those_that_find_nothing_are_named(workspace):
    kinds = ("Delay", "delay ", "DELAY", "fare")
    write(workspace / "d.jsonl", [row(at, kind=kinds[at % 4]) for at in range(40)])
    mapping = {"prompt": "{asked}", "answer": ["kind", "said"]}
    made = prepare(mapping | {"replace": {"(?i)^delay$": "late", "^Fare$": "x", r"\.\Z": "!"}})
    said = [json.loads(one["messages"][1]["content"]) for one in lines(workspace, *EXAMPLES)]
    assert {one["kind"] for one in said} == {"late", "fare"}
    assert all(one["said"].endswith("!") for one in said)
    assert made.mapping.answer_schema["properties"]["kind"]["enum"] == ["fare", "late"]
    assert made.num_stripped == 40
    named = [note for note in made.assumptions if note.startswith("the pattern")]
    assert [("^Fare$" in note) for note in named] == [True]


def test_reserved_addresses_are_masked_and_those_of_offices_are_not(workspace):
    rows = [row(at) for at in range(30)]
    said = "bo@mail.example, info@mail.example, ada@mail.example."
    rows[4] = {"asked": "Is it ada@mail.example?", "said": said}
    write(workspace / "d.jsonl", rows)

    def rewritten(folder, **others):
        made = prepare({**ASKS, **others}, output_dir=folder)
        paths = [workspace / folder / f"{name}.jsonl" for name in EXAMPLES]
        text = "".join(path.read_text("utf-8") for path in paths)
        left = [name for name in ("ada@", "bo@", "info@") if name in text]
        return made, left

    made, left = rewritten("default")
    assert (made.masked, left) == ({"email": 1}, ["info@"])
    assert rewritten("none", mask=[])[0].masked == {}
    (found,) = [
        one["messages"] for one in lines(workspace / "default", *EXAMPLES) if "[email]" in str(one)
    ]
    assert [one["content"] for one in found] == [
        "Is it [email]?",
        "[email 2], info@mail.example, [email].",
    ]
    made, left = rewritten("one", mask=["said"])
    assert (made.masked, left) == ({"email": 1}, ["ada@", "info@"])
    made, left = rewritten("all", mask=["*"])
    assert (made.masked, left) == ({"email": 1}, ["info@"])
    made, left = rewritten("replaced", replace={r"\w+@[\w.]+\w": "[mail]"})
    assert (made.num_stripped, left) == (1, [])


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ({"prompt": "Say this:\nHello", "answer": ["said"]}, "has no {COLUMN}"),
        ({"prompt": "{asked}"}, "need each other"),
        ({"prompt": "{said}", "answer": ["said"]}, "contains the answer column 'said'"),
        ({**ASKS, "chosen": "a", "rejected": "b"}, "exclude each other"),
        ({**ASKS, "answer_schema": {"type": "object"}}, "needs a JSON"),
        ({"prompt": "q", "answer": "{a}, {b}", "nullable": ["b"]}, "'{a}, {b}' is a text"),
        ({"prompt": "q", "answer": ["a", "x {b}"]}, "'x {b}' is a text"),
        (
            {**ASKS, "marks": MARKS, "chosen": "c"},
            "need each other; .* exclude each other.*; marks",
        ),
        ({**ASKS, "marks": MARKS, "corrected": "c"}, "marks exclude"),
        ({**ASKS, "answr": ["x"]}, "answr"),
        ({**ASKS, "drop": {"said": {"patern": "x"}}}, "must be {.pattern.: "),
        ({**ASKS, "drop": {"said": {"pattern": "("}}}, "no regular expression"),
        ({"prompt": "asked", "chosen": PICKED | {"answers": {"A": "a", "B": "a"}}}, "1 columns"),
        ({"prompt": "asked", "chosen": PICKED, "rejected": "b"}, "remove it"),
    ],
)
def test_a_mapping_that_contradicts_itself_is_refused(mapping, said):
    with pytest.raises(ValidationError, match=said):
        ColumnMapping(**mapping)


def test_rows_that_are_examples_already_need_no_mapping_and_take_marks(workspace):
    chats = [chat(row(at)["asked"], row(at)["said"]) for at in range(30)]
    write(workspace / "d.jsonl", [one | {"vote": at % 2} for at, one in enumerate(chats)])
    made = prepare({"marks": {"column": "vote", "good": 1, "bad": 0}})
    assert (made.task, made.marks) == ("kto", {"good": 15, "bad": 15})
    write(workspace / "plain.jsonl", chats)
    shown = prepare_dataset(PrepareRequest(path="plain.jsonl"))
    assert shown.mapping_hash
    assert shown.profile is None
    assert len(shown.examples) == 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Put the <script> tag in, then reload.", "Put the <script> tag in, then reload."),
        ("<script>if (a<b) { x('<p>') }</script>Hi<!-- <b> -->", "Hi"),
        ("<html><body><p title='a>b'>Hi &amp;</p></body></html>", "Hi &"),
        # What begins tags and ends none took minutes.
        ("<a " * 20_000 + "x", "<a " * 20_000 + "x"),
        ("<br>" + " " * 60_000 + "x", "x"),
    ],
)
def test_html_becomes_text_and_no_text_is_lost(text, shown):
    assert plain_html(text) == shown
