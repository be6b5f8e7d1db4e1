"""Ten messy tables: from the file to a launch in three calls, with everything planted reported."""

import json
import random
from pathlib import Path

import pytest

from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.errors import BadData
from ft_tools.formats.readers.encodings import encoding_of
from ft_tools.formats.training_rows import survey
from ft_tools.workspace import VARIABLE
from tests.unit.messy_tables import CARD, GITHUB_TOKEN, TABLES
from tests.unit.taken_steps import taken

LAUNCHES = {"sft": "launch_sft", "dpo": "launch_dpo", "kto": "launch_dpo"}


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder))
        yield folder


@pytest.fixture(scope="module", params=TABLES, ids=lambda table: table.name)
def table(request):
    return request.param


@pytest.fixture(scope="module")
def proposed(table, shared_workspace):
    table.write(shared_workspace / table.name)
    return prepare_dataset(PrepareRequest(path=table.name))


@pytest.fixture(scope="module")
def made(table, proposed):
    """Take the call that the proposal offers, with what the user decides."""
    arguments = dict(proposed.next_steps[0].arguments)
    arguments.pop("confirm", None)
    arguments.pop("output_dir", None)
    arguments["mapping"] = arguments["mapping"] | table.decide
    shown = prepare_dataset(PrepareRequest(**arguments))
    return taken(shown, output_dir=f"of-{table.name}")


def written(made, name):
    with open(getattr(made.outputs, name), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_mapping_is_proposed_and_each_verdict_column_asked_about(table, proposed):
    mapping = proposed.mapping
    assert tuple(mapping.answer_columns) == table.answers
    assert mapping.group_by == ([table.group] if table.group else [])
    asked = [f"column {name} may mark rows" for name in table.verdicts]
    assert all(any(q.startswith(a) for q in proposed.questions) for a in asked)
    assert len(proposed.questions) == len(asked)
    assert len(proposed.examples) == 3


def test_what_is_only_worth_a_word_is_said(table, proposed):
    notes = " ".join(proposed.assumptions)
    assert (f"column {table.time} holds times" in notes) == bool(table.time)
    assert ("begin like a formula" in notes) == (table.name == "broken.csv")
    assert ("read as cp1252" in notes) == (table.name == "rueckmeldungen.csv")
    assert ("agree on 92%" in notes) == (table.name == "sondage.ods")


def test_every_row_is_accounted_for_with_its_reason(table, made):
    counts = made.counts
    assert sum(counts.values()) == made.num_rows == table.rows
    expected = {
        "no_answer": table.no_answer,
        "exact_duplicate": table.duplicates,
        "marked_bad": table.bad,
        "unreadable": table.unreadable,
    }
    assert {name: counts.get(name, 0) for name in expected} == expected
    parts = ("train", "validation", "test", "removed", "unlabelled")
    assert sum(len(written(made, part)) for part in parts) == table.rows


def test_secrets_personal_data_and_orders_are_reported_and_not_written(table, made):
    kinds = {"github_token": table.secrets, "card": table.cards, "email": table.addresses}
    assert made.masked == {kind: count for kind, count in kinds.items() if count}
    found = {f.id: f.count for f in made.findings if not f.in_validation}
    held = [r for part in ("validation", "test") for r in written(made, part)]
    elsewhere = sum("Ignore all previous" in json.dumps(row) for row in held)
    assert found.get("instruction_like", 0) + elsewhere == table.injections
    texts = "".join(json.dumps(written(made, part)) for part in ("train", "validation", "test"))
    assert GITHUB_TOKEN not in texts
    assert CARD not in texts
    assert "posteo" not in texts


def test_the_next_call_plans_the_training_of_all_that_was_written(table, made):
    step = made.next_steps[0]
    assert (made.task, step.tool) == (table.task, LAUNCHES[table.task])
    rows = survey(Path(made.outputs.train), table.task)
    assert rows.num_examples == made.outputs.num_train
    assert step.arguments["validation"] == made.outputs.validation


def test_turns_of_a_conversation_are_put_in_order_and_rows_of_none_are_counted(workspace):
    table = next(table for table in TABLES if table.name == "threads.sqlite")
    table.write(workspace / table.name)
    query = "select * from turns union all select '', 'agent', 'lost words', '', 'accepted'"
    shown = prepare_dataset(PrepareRequest(path=table.name, query=query))
    assert shown.counts["unreadable"] == 1
    made = taken(shown)
    assert sum(made.counts.values()) == table.rows + 1
    for row in written(made, "train"):
        roles = [turn["role"] for turn in row["messages"]]
        assert roles == ["user", "assistant"] * 2
        numbers = [int(turn["content"].split()[-1][:-1]) for turn in row["messages"][1::2]]
        assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Frage;Antwort\nGröße?;Größer als für dich\n", "cp1252"),
        ("pregunta,respuesta\n¿Por qué mi módem no enciende mañana?,Débil señal\n", "cp1252"),
        ("pytanie,odpowiedź\nProszę sprawdzić łącze,Zgłoś błąd\n", "cp1250"),
        # ruff: noqa: RUF001
        ("вопрос,ответ\nМой маршрутизатор не работает,Проверьте кабель\n", "cp1251"),
        ("質問,答え\nルーターが動かない,ケーブルを確認してください\n", "shift_jis"),
        ("问题,答案\n我的路由器坏了,请检查电缆\n", "gb18030"),
        ("Frage;Antwort\nGröße?;Größer\n", "utf-16"),
        ("Frage;Antwort\nGröße?;Größer\n", "utf-8"),
        ("plain,words\n", "utf-8"),
    ],
)
def test_an_encoding_is_recognised_from_the_bytes(text, encoding):
    many = text * 30
    assert many.encode(encoding).decode(encoding_of(many.encode(encoding))) == many


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_are_no_table_in_some_encoding(workspace, seed):
    (workspace / "t.csv").write_bytes(random.Random(seed).randbytes(3000))
    with pytest.raises(BadData, match="is a binary file"):
        prepare_dataset(PrepareRequest(path="t.csv"))


NOT_READ = {
    "single.csv": ("question,answer\n'Where, eh?','Here, too'\n", "csv_columns.*double quotes"),
    "open.csv": ('question,answer\n"Where,Here\nWhen,Now\n', "csv_columns.*close each"),
    "nan.jsonl": ('{"prompt": "a", "completion": NaN}\n', "unreadable_line.*NaN"),
    "half.jsonl": ('{"prompt": "\\ud83d", "completion": "b"}\n', "invalid_unicode.*surrogates"),
    "list.jsonl": ("\n[1, 2]\n", "jsonl:2: no row can be read.*a row must be an object"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_a_file_of_which_no_row_can_be_read_says_why(workspace, name):
    content, said = NOT_READ[name]
    (workspace / name).write_text(content)
    with pytest.raises(BadData, match=said):
        prepare_dataset(PrepareRequest(path=name))


def test_what_reading_noted_is_in_the_proposal(workspace):
    rows = "".join(f"What is {at}?,It is {at},{at}{',more' * (at % 3 == 0)}\n" for at in range(30))
    (workspace / "t.csv").write_text("question,answer,answer\n" + rows)
    shown = prepare_dataset(PrepareRequest(path="t.csv"))
    found = {finding.id: (finding.count, finding.lines) for finding in shown.findings}
    assert found["csv_columns"] == (shown.counts["unreadable"], [1, 4, 7, 10, 13])
    assert found["repeated_key"] == (20, [2, 3, 5, 6, 8])


def test_short_questions_and_answers_are_proposed_by_their_names(workspace):
    (workspace / "t.csv").write_text(
        "question,answer\n" + "".join(f"q{at},a{at}\n" for at in range(40))
    )
    shown = prepare_dataset(PrepareRequest(path="t.csv"))
    assert (shown.mapping.prompt, shown.mapping.answer_columns) == ("{question}", ["answer"])
    assert (shown.questions, shown.unused_columns) == ([], [])
    assert prepare_dataset(PrepareRequest(**shown.next_steps[0].arguments)).outputs


def test_a_column_of_turns_that_are_taken_as_they_are_is_used(workspace):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [json.dumps({"messages": turns, "source": f"s{at % 7}"}) + "\n" for at in range(40)]
    (workspace / "t.jsonl").write_text("".join(rows))
    assert prepare_dataset(PrepareRequest(path="t.jsonl")).unused_columns == ["source"]


def test_a_table_without_rows_is_refused_with_what_to_name(workspace):
    (workspace / "t.csv").write_text("text,team\n")
    with pytest.raises(BadData, match="name a file with rows"):
        prepare_dataset(PrepareRequest(path="t.csv"))
