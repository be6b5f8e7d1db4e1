"""create_dataset without a teacher: exact variations, their origin, and one part for copies."""

import json

import pytest
from pydantic import ValidationError

from ft_tools.creation.request import CreateRequest
from ft_tools.creation.worker import create as worker
from ft_tools.formats.origin import describe_made, row_hash
from ft_tools.runs.processes import start
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training.tool import launch_sft
from tests.creating import RUN_ID, chat, read, run_here, write
from tests.unit.launches import accepting, sft

STREETS = ["North Parade", "Elm Street", "Mill Lane"]
NEW_STREETS = ["Oak Road", "High Street"]
FAULTS = ["the bin is full", "a lamp is out", "the pump is loud", "a tree fell down"]
SWAP = {"change": "swapped_values", "field": "street", "values": NEW_STREETS, "copies": 4}
CHANGES = [
    SWAP,
    {"change": "typing_errors", "rate": 0.1, "share": 0.5},
    {"change": "cut_start", "values": ["Hello", "Good day"]},
]


def tickets(count):
    for at in range(count):
        street = STREETS[at % 3]
        question = f"Hello, {FAULTS[at % 4]} in front of {at} {street}, since {at % 7} days."
        yield chat(question, {"street": street, "number": at})


def asked(row):
    return row["messages"][0]["content"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run of exact variations, shared: it is read only."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("creation")
        patch.setenv("FINE_TUNING_LLM_WORKSPACE", str(folder))
        write(folder / "rows.jsonl", tickets(24))
        launch, report = run_here(
            folder,
            source="rows.jsonl",
            kind="variations",
            output_dir="made",
            variations=CHANGES,
            validation_fraction=0.2,
        )
        yield folder, launch, report


def test_the_answers_copy_of_a_swapped_value_changes_with_the_question(made):
    folder, *_ = made
    rows = read(folder / "made" / "train.jsonl") + read(folder / "made" / "validation.jsonl")
    swapped = [row for row in rows if any(name in asked(row) for name in NEW_STREETS)]
    assert len(swapped) > 24
    for row in rows:
        answer = json.loads(row["messages"][1]["content"])
        assert answer["street"] in asked(row)
        assert f" {answer['number']} {answer['street']}" in asked(row)


def test_a_greeting_is_cut_and_a_share_of_the_rows_is_misspelt(made):
    folder, launch, report = made
    origins = read(folder / "made" / "origin.jsonl")
    changes = [one.get("change", "") for one in origins]
    assert changes.count("typing_errors 0.1") == 12
    assert changes.count("cut_start") == 24
    assert changes.count("") == 24
    assert launch.plan["num_made"]["source"] == 24
    assert sum(launch.plan["num_made"].values()) == report.num_kept == len(origins)
    rows = read(folder / "made" / "train.jsonl")
    assert sum(asked(row)[0].islower() for row in rows) >= 15


def test_every_row_of_the_files_has_its_origin_by_hash_and_copies_of_one_are_in_one_part(made):
    folder, _, report = made
    origins = {one["row"]: one for one in read(folder / "made" / "origin.jsonl")}
    parts = [set(), set()]
    for part, name in zip(parts, ("train.jsonl", "validation.jsonl"), strict=True):
        for row in read(folder / "made" / name):
            line = int(origins[row_hash(row)]["source"].rpartition(":")[2])
            part.add(json.loads(row["messages"][1]["content"])["number"])
            assert line - 1 in part
    assert parts[1]
    assert parts[0].isdisjoint(parts[1])
    made_rows = sum(one["kind"] == "variations" for one in origins.values())
    assert report.makers == {"variations": made_rows, "source": 24}
    assert describe_made(folder / "made" / "train.jsonl").endswith(" variations")


def test_a_row_of_calls_gets_the_new_value_in_its_call(workspace):
    call = {"function": {"name": "report", "arguments": {"street": "Mill Lane"}}, "id": "c1"}
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Report {at} Mill Lane."},
                {"role": "assistant", "content": "", "tool_calls": [call]},
            ],
            "street": "Mill Lane",
        }
        for at in range(6)
    ]
    write(workspace / "rows.jsonl", rows)
    run_here(
        workspace,
        source="rows.jsonl",
        kind="variations",
        output_dir="made",
        variations=[{**SWAP, "copies": 1}],
        validation_fraction=0,
    )
    found = {
        row["messages"][1]["tool_calls"][0]["function"]["arguments"]["street"]
        for row in read(workspace / "made" / "train.jsonl")
        if "Mill Lane" not in asked(row)
    }
    assert found <= set(NEW_STREETS)
    assert found


def test_a_key_in_a_row_is_masked_before_it_is_written(workspace):
    secret = "AKIA" + "Q7RZ2MPX" * 2
    write(workspace / "rows.jsonl", [*tickets(6), chat(f"My key is {secret}, is it bad?", "yes")])
    run_here(
        workspace,
        source="rows.jsonl",
        kind="variations",
        output_dir="made",
        variations=[{"change": "case"}],
    )
    written = [path.read_text("utf-8") for path in (workspace / "made").iterdir()]
    assert not any(secret in text for text in written)


def test_a_training_on_made_rows_records_their_share_for_the_model_card(files, monkeypatch):
    lineages = []

    def start_run(*_, lineage, **__):
        lineages.append(lineage)
        return "sft-0123456789abcdef"

    write(files / "rows.jsonl", tickets(12))
    options = {"variations": [{"change": "case", "share": 0.5}], "validation_fraction": 0}
    run_here(files, source="rows.jsonl", kind="variations", output_dir="made", **options)
    monkeypatch.setattr(start, "start", start_run)
    for dataset in ("made/train.jsonl", "train.jsonl"):
        accepted = accepting("no_quality_filter", "validation_unwatched", "undecided_columns")
        arguments = {"dataset": dataset, "training": {"num_train_epochs": 1}, **accepted}
        plan = launch_sft(sft(**arguments))
        launch_sft(sft(**arguments, confirm=plan.plan_hash))
    made, real = lineages
    assert made["made_rows"] == "6 of 18 (33%): 6 variations"
    assert "made_rows" not in real


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"variations": []}, "either options.variations"),
        ({"variations": [SWAP], "budget_usd": 1}, "budget_usd"),
        ({"variations": [{"change": "cut_start"}]}, "cut_start"),
        ({"variations": [SWAP], "sample": 3}, "sample"),
        ({"variations": [SWAP], "template": "{passage} {question} !"}, "docu"),
        ({"variations": [SWAP], "num_rows": 3}, "num_rows is for"),
        ({"kind": "answers"}, "requires teacher"),
        ({"kind": "traces", "checks": [{"kind": "length", "max": 3}]}, "checks is for"),
        ({"kind": "answers", "teacher": {"model": "m"}, "samples": 2}, "greedily"),
        ({"kind": "answers", "teacher": {"model": "m", "baseline": "majority"}}, "exactly one"),
        ({"kind": "traces", "teacher": {"model": "m"}}, "teacher is for"),
        ({"kind": "documents", "teacher": {"model": "m", "document": "d.md"}}, "teacher.document"),
        ({"kind": "documents", "teacher": {"model": "m"}, "samples": 3}, "samples is for"),
    ],
)
def test_arguments_that_do_not_fit_together_are_refused(arguments, named):
    given = {"source": "rows.jsonl", "kind": "variations", "output_dir": "made"}
    with pytest.raises(ValidationError, match=named):
        CreateRequest(**given | arguments)


def test_a_run_that_was_killed_after_its_files_were_written_ends_with_the_same_files(workspace):
    write(workspace / "rows.jsonl", tickets(9))
    arguments = {"source": "rows.jsonl", "kind": "variations", "output_dir": "made"}
    _, first = run_here(workspace, **arguments, variations=[{"change": "case"}])
    before = (workspace / "made" / "manifest.json").stat().st_mtime_ns
    again = worker.work(Session(workspace / "runs" / RUN_ID))
    assert again == first
    assert (workspace / "made" / "manifest.json").stat().st_mtime_ns == before
