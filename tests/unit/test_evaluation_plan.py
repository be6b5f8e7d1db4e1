"""Requests, held-out files, contamination, plans."""

import json
from pathlib import Path

import pytest

from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.errors import BadData, BadInput, PlanChanged
from ft_tools.evaluation.held_out import read_held_out
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import ModelFiles, may_think
from ft_tools.evaluation.tool import evaluate
from ft_tools.formats.test_sets import asked_by
from ft_tools.publish import sha256
from ft_tools.runs.state import directory
from tests.made_runs import made_run
from tests.unit.held_out_files import (
    TEMPLATE,
    chat,
    ids,
    model_folder,
    questions,
    trained_run,
    write,
)
from tests.unit.test_shipping import write_safetensors


@pytest.fixture
def base(workspace):
    return model_folder(workspace / "base")


def test_a_plan_starts_nothing_and_says_what_would_be_done(workspace, base):
    write(workspace / "held.jsonl", questions(20))
    launch = evaluate(EvaluateRequest(model=base, baseline=base, dataset="held.jsonl"))
    assert not launch.started
    assert not (workspace / "runs").exists()
    assert launch.plan["num_examples"] == 20
    assert set(launch.plan["metrics"]) == {"exact_match", "token_f1"}
    assert launch.plan["rendering"] == "chat"
    assert 0 < launch.plan["duration"]["low_seconds"] < launch.plan["duration"]["high_seconds"]
    assert 0.2 < launch.plan["minimum_detectable_effect"] < 0.25
    assert launch.next_steps[0].arguments["confirm"] == launch.plan_hash
    assert {"few_held_out_examples", "training_data_unknown"} <= ids(launch.warnings)
    assert "compared_with_itself" in ids(launch.warnings)
    assert (launch.plan["alone"], launch.plan["look"], len(launch.plan["systems"])) == (False, 1, 2)
    alone = evaluate(EvaluateRequest(model=base, dataset="held.jsonl"))
    assert (alone.plan["alone"], [one["name"] for one in alone.plan["systems"]]) == (
        True,
        ["tuned"],
    )
    assert "measured_alone" in ids(alone.warnings)
    model_folder(workspace / "other", template="other {{ messages }}")
    differs = evaluate(EvaluateRequest(model="other", baseline=base, dataset="held.jsonl"))
    assert "templates_differ" in ids(differs.warnings)


def test_the_time_of_an_earlier_run_of_the_same_models_is_that_of_the_next(workspace, base):
    write(workspace / "held.jsonl", questions(20))
    request = EvaluateRequest(model=base, baseline=base, dataset="held.jsonl")
    plan = evaluate(request).plan
    run = workspace / "runs" / "evaluate-0123456789abcdef"
    run.mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps(plan))
    took = [{"name": name, "seconds_mean": 10.0} for name in ("baseline", "tuned")]
    (run / "report.json").write_text(json.dumps({"systems": took}))
    found = evaluate(request).plan["duration"]
    truth = 2 * 10 * (20 + plan["num_general_prompts"])
    assert found["low_seconds"] < truth < found["high_seconds"] < 2.1 * found["low_seconds"]
    assert found["source"] != plan["duration"]["source"]


def test_a_question_longer_than_the_context_is_warned_of(workspace, base):
    write(workspace / "held.jsonl", [*questions(19), chat("word " * 400, "Yes.")])
    request = EvaluateRequest(model=base, baseline=base, dataset="held.jsonl", max_new_tokens=64)
    config = workspace / "base" / "config.json"
    for positions, is_warned in ((600, False), (500, True)):
        stored = json.loads(config.read_text()) | {"max_position_embeddings": positions}
        config.write_text(json.dumps(stored))
        assert ("longer_than_context" in ids(evaluate(request).warnings)) is is_warned


def test_a_metric_that_no_row_has_anything_for_is_refused(workspace, base):
    rows = [chat(f"Is {i} so?", "Yes.") for i in range(20)]
    write(workspace / "held.jsonl", rows)
    asked = EvaluateRequest(model=base, baseline=base, dataset="held.jsonl", metrics=["tool_call"])
    with pytest.raises(BadInput, match="no row has"):
        evaluate(asked)
    call = chat("Look it up", '{"name": "find", "arguments": {}}')
    write(workspace / "held.jsonl", [call, *rows])
    assert set(evaluate(asked).plan["metrics"]) == {"tool_call"}


def test_the_hash_follows_data_model_and_arguments(workspace, base):
    held = write(workspace / "held.jsonl", questions(20))
    request = EvaluateRequest(model=base, baseline=base, dataset="held.jsonl")
    first = evaluate(request).plan_hash
    assert evaluate(request).plan_hash == first
    assert evaluate(request.model_copy(update={"seed": 1})).plan_hash != first
    write_safetensors(workspace / "base" / "model.safetensors", {"w": (33,)})
    second = evaluate(request).plan_hash
    assert second != first
    write(held, questions(21))
    assert evaluate(request).plan_hash not in {first, second}
    with pytest.raises(PlanChanged, match="does not match"):
        evaluate(request.model_copy(update={"confirm": first}))


def test_training_data_that_cannot_be_read_is_said_not_to_be_checked(workspace, base):
    run = trained_run(workspace, questions(5))
    (workspace / "train.jsonl").unlink()
    write(workspace / "held.jsonl", questions(5))
    launch = evaluate(EvaluateRequest(model=run, dataset="held.jsonl"))
    assert launch.plan["contamination"]["checked_against"] == []
    assert launch.plan["contamination"]["not_checked"] == [str(workspace / "train.jsonl")]
    assert "training_files_missing" in ids(launch.warnings)


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_file_that_chose_the_checkpoint_is_no_fresh_test(workspace, base, is_copy):
    run = trained_run(workspace, questions(5))
    held = write(workspace / "held.jsonl", [chat(f"New {i}?", "Yes.") for i in range(8)])
    plan = workspace / "runs" / run / "plan.json"
    request = EvaluateRequest(model=run, dataset="held.jsonl")
    assert "checkpoint_selected_here" not in ids(evaluate(request).warnings)
    validation = {"path": str(held), "sha256": ""}
    if is_copy:
        validation = {"path": str(held.with_name("validation.jsonl")), "sha256": sha256(held)}
    known = json.loads(plan.read_text()) | {"validation": validation}
    plan.write_text(json.dumps(known))
    assert "checkpoint_selected_here" in ids(evaluate(request).warnings)


def test_answers_are_known_by_whether_a_model_may_think_and_not_by_how_many_rows_are_asked(
    workspace, base
):
    run = trained_run(workspace, questions(5))
    write(workspace / "held.jsonl", [chat(f"New {i}?", "Yes.") for i in range(8)])
    plan = workspace / "runs" / run / "plan.json"
    known = json.loads(plan.read_text()) | {"task": "sft"}

    def keys(num_thoughts, **more):
        known["dataset"]["num_thoughts"] = num_thoughts
        plan.write_text(json.dumps(known))
        found = evaluate(EvaluateRequest(model=run, dataset="held.jsonl", **more)).plan
        return [one["answers_key"] for one in found["systems"]]

    assert keys(3) == keys(3, max_examples=2)
    assert not set(keys(3)) & set(keys(0))


SHIPS = [f"ship-{i:016x}" for i in range(3)]


@pytest.mark.parametrize(
    "named", [*SHIPS[:2], "runs/{run}/artifacts/model", f"runs/{SHIPS[0]}/artifacts/merged", "out"]
)
def test_a_model_is_known_to_answer_at_once_however_its_training_is_named(workspace, base, named):
    run = trained_run(workspace, questions(5))
    write(workspace / "held.jsonl", [chat(f"New {i}?", "Yes.") for i in range(8)])
    plan = workspace / "runs" / run / "plan.json"
    made = [(run, None), (f"runs/{run}/artifacts/model", None), (SHIPS[0], str(workspace / "out"))]
    for ship, (source, out) in zip(SHIPS, made, strict=True):
        run_dir = made_run(ship, files={"plan": {"source": source, "output_dir": out}})
        model_folder(Path(out) if out else run_dir / "artifacts" / "merged")
    template = {"chat_template": TEMPLATE + "<think>"}
    (workspace / "base" / "tokenizer_config.json").write_text(json.dumps(template))

    def planned(num_thoughts):
        dataset = {"num_thoughts": num_thoughts, "path": str(workspace / "train.jsonl")}
        plan.write_text(json.dumps({"task": "sft", "dataset": dataset}))
        systems = [
            {"name": "before", "model": base},
            {"name": "after", "model": named.format(run=run)},
        ]
        launch = evaluate(EvaluateRequest(systems=systems, dataset="held.jsonl"))
        warned = "thought_not_switched_off" in ids(launch.warnings)
        return warned, {one["answers_key"] for one in launch.plan["systems"]}

    (warned, at_once), (other_warned, thinking) = planned(0), planned(3)
    assert (warned, other_warned) == (True, False)
    assert not at_once & thinking


@pytest.mark.parametrize(
    ("template", "is_warned"),
    [
        ("{% if enable_thinking is false %}<think></think>{% endif %}", False),
        ("{% if enable_thinking is false %}/nothink <think></think>{% endif %}", True),
        ("<|channel|>analysis{{ reasoning_effort }}", True),
        ("plain", False),
    ],
)
def test_a_base_whose_thought_has_no_switch_is_warned_of(workspace, base, template, is_warned):
    run = trained_run(workspace, questions(5))
    write(workspace / "held.jsonl", [chat(f"New {i}?", "Yes.") for i in range(8)])
    plan = workspace / "runs" / run / "plan.json"
    known = json.loads(plan.read_text())
    known["dataset"]["num_thoughts"] = 0
    plan.write_text(json.dumps(known | {"task": "sft"}))
    files = [workspace / "base", workspace / "runs" / run / "artifacts" / "model"]
    for folder in files:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    launch = evaluate(EvaluateRequest(model=run, dataset="held.jsonl"))
    assert ("thought_not_switched_off" in ids(launch.warnings)) is is_warned


def test_a_reference_is_what_follows_its_thought_and_is_as_long_as_it_was_written(workspace, base):
    thought = "<think>" + "Well. " * 900 + "</think>\n\n"
    rows = [chat(f"Mail {i}", thought + ("spam" if i % 2 else "ham")) for i in range(40)]
    write(workspace / "held.jsonl", rows)
    launch = evaluate(EvaluateRequest(model=base, dataset="held.jsonl"))
    assert "classification" in launch.plan["metrics"]
    assert "answers_longer_than_limit" in ids(launch.warnings)
    texts = [{"prompt": f"Mail {i}", "completion": thought + "spam"} for i in range(2)]
    for made in (rows, texts):
        found = read_held_out(write(workspace / "held.jsonl", made))
        assert {one.reference for one in found} <= {"spam", "ham"}
        # They are the same rows to the count of looks, which knows them with their thoughts.
        assert asked_by(one.numbered for one in found) == asked_by(enumerate(made, 1))


def test_an_answer_with_text_and_calls_is_as_long_as_both(workspace):
    call = {"type": "function", "function": {"name": "find", "arguments": {"place": "Oslo"}}}
    row = chat("Where?", "I will look.")
    row["messages"][-1]["tool_calls"] = [call]
    (found,) = read_held_out(write(workspace / "held.jsonl", [row]))
    assert found.written.startswith("I will look.")
    assert found.written.endswith(found.reference)
    assert json.loads(found.reference) == [call["function"]]


def test_the_plans_of_all_runs_are_read_once_for_all_models(workspace, monkeypatch):
    made_run(SHIPS[0], files={"plan": {"task": "merge"}})
    read, whole_json = [], directory.whole_json
    monkeypatch.setattr(directory, "whole_json", lambda path: read.append(path) or whole_json(path))
    names = ("org/one", "org/two")
    assert may_think(
        ModelFiles(name=one, kind="hub", load_from=one, files_sha256="") for one in names
    )
    assert len(read) == 1


STORIES = [
    f"the {colour} lamp that I ordered for my mother last {month} came without its {part} shade"
    for colour, month, part in [
        ("red", "May", "paper"), ("blue", "June", "glass"), ("green", "July", "linen"),
        ("white", "April", "metal"), ("black", "March", "straw"), ("grey", "August", "silk"),
    ]
]  # fmt: skip
TASK = "Turn the customer's message below into a ticket with a category and an order number: "


@pytest.mark.parametrize(
    ("trained", "lines"),
    [
        (TASK + STORIES[2].replace("the green lamp", "the Green lamp,") + "!", [3]),
        (TASK + "my invoice of last week has two positions that I never asked for", []),
        (TASK + "order 4711 of 3 May never came to house 5 in the long street", [7]),
    ],
)
def test_near_copies_are_found_numbers_aside_and_the_wording_of_the_task_is_not(
    workspace, base, trained, lines
):
    stories = [*STORIES, "order 4712 of 12 May never came to house 81 in the long street"]
    write(workspace / "held.jsonl", [chat(TASK + story, "ok") for story in stories])
    run = trained_run(workspace, [{"messages": ["Where?", {"content": 3}]}, chat(trained, "ok")])
    launch = evaluate(EvaluateRequest(model=run, dataset="held.jsonl"))
    found = launch.plan["contamination"]
    assert (found["num_exact"], found["num_near"], found["lines"]) == (0, len(lines), lines)
    assert ("near_copies" in ids(launch.warnings)) == bool(lines)
    # However many there are that differ from a training question in numbers alone.
    write(workspace / "train.jsonl", questions(8))
    write(
        workspace / "held.jsonl",
        [chat(f"Where is my parcel number {i}?", "?") for i in range(90, 95)],
    )
    found = evaluate(EvaluateRequest(model=run, dataset="held.jsonl")).plan["contamination"]
    assert (found["num_exact"], found["num_near"]) == (0, 5)


def test_an_answer_that_is_marked_bad_is_no_reference(workspace, base):
    rows = [
        {"prompt": f"Where is {i}?", "completion": f"In house {i}.", "label": i % 3 > 0}
        for i in range(9)
    ]
    write(workspace / "marks.jsonl", rows)
    launch = evaluate(EvaluateRequest(model="base", dataset="marks.jsonl"))
    assert launch.plan["num_examples"] == 6
    assert "marked_bad: 3 rows" in "".join(launch.warnings)
    first = evaluate(EvaluateRequest(model="base", dataset="marks.jsonl", max_examples=2))
    assert "marked_bad: 1 rows" in "".join(first.warnings)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q"},
        {"prompt": "Q", "completion": ""},
        {"messages": [{"role": "user", "content": "Q"}]},
        {"text": "only text"},
    ],
)
def test_a_row_without_its_reference_is_named_by_line(workspace, row):
    path = write(workspace / "held.jsonl", [chat("a", "b"), row])
    with pytest.raises(BadData, match=r"held\.jsonl:2"):
        read_held_out(path)


def test_the_last_answer_is_the_reference_and_clusters_are_kept(workspace):
    path = write(workspace / "held.jsonl", [chat("a", " b ", source=7), chat("c", "d", source=8)])
    found = read_held_out(path, cluster_field="source")
    assert [(e.asked, e.reference, e.cluster) for e in found] == [("a", "b", "7"), ("c", "d", "8")]
    with pytest.raises(BadData, match="no field 'group'"):
        read_held_out(path, cluster_field="group")
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    turns = [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": [call]}]
    (one,) = read_held_out(write(path, [{"messages": turns, "tools": "[]"}]))
    assert json.loads(one.reference) == [{"name": "f", "arguments": {"x": 1}}]


def test_a_raw_file_is_read_by_the_mapping_that_prepares_it(workspace, base):
    rows = [
        {"mail": f"Where is my parcel {i}?", "town": "Oslo", "state": "open" if i % 4 else "spam",
         "customer": f"c{i % 3}", "phone": "+47 22 33 44 55"}
        for i in range(20)
    ]  # fmt: skip
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (workspace / "raw.csv").write_text("\n".join(lines) + "\n")
    mapping = {"prompt": "Town? {mail}", "answer": {"town": "town"}, "keep": {"state": "open"},
               "system": "Answer in JSON.", "ignore": ["*"]}  # fmt: skip
    given = {"model": base, "baseline": base, "dataset": "raw.csv", "mapping": mapping}
    request = EvaluateRequest(**given, cluster_field="customer", options={"max_examples": 10})
    launch = evaluate(request)
    assert launch.plan["num_examples"] == 10
    assert "left_out_by_mapping: 4 rows" in "".join(launch.warnings)
    first = read_held_out(workspace / "raw.csv", request.mapping, "customer")[0]
    assert (first.line, first.reference, first.cluster) == (2, '{"town": "Oslo"}', "c1")
    assert first.asked == "Town? Where is my parcel 1?"
    assert first.row["phone"] != rows[0]["phone"]
    # What prepare_dataset writes of the same rows is the same test to the count of looks.
    prepared = {"path": "raw.csv", "mapping": mapping, "output_dir": "parts", "test_fraction": 0.5}
    prepared["confirm"] = prepare_dataset(PrepareRequest(**prepared)).mapping_hash
    prepare_dataset(PrepareRequest(**prepared))
    (test,) = (workspace / "parts").rglob("test.jsonl")
    whole = {one.asked: one for one in read_held_out(workspace / "raw.csv", request.mapping)}
    for one in read_held_out(test):
        assert (one.messages, one.reference) == (whole[one.asked].messages, one.reference)
        assert asked_by([one.numbered]) == asked_by([whole[one.asked].numbered])
    for wrong, problem in (
        (mapping | {"prompt": "letter"}, "'letter', which the file does not have"),
        (None, "pass options.mapping"),
    ):
        asked = EvaluateRequest(**given | {"mapping": wrong})
        with pytest.raises(BadInput, match=problem):
            evaluate(asked)
