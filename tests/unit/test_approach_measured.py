"""What evaluations, documents and a dataset put in the place of claims."""

import json

import pytest

from ft_tools.approach.documents import count_tokens, daily_costs
from ft_tools.approach.measured import evaluated
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.tool import recommend_approach
from ft_tools.errors import BadInput, NotFound
from ft_tools.evaluation.request import EvaluateRequest

RUN = "evaluate-00000000000000aa"


def prompted(name, examples, target, score=0.7, usd=None, trained=False):
    return {
        "name": name,
        "kind": "endpoint",
        "is_trained": trained,
        "has_examples": examples,
        "scores": {"exact_match": {"value": score}},
        "target": target,
        "usd_per_1000_calls": usd,
    }


def write_run(workspace, report, kind="evaluate"):
    run_dir = workspace / "runs" / RUN.replace("evaluate", kind)
    run_dir.mkdir(parents=True)
    info = {"run_id": run_dir.name, "kind": kind, "created_at": 0.0, "version": "0"}
    (run_dir / "run.json").write_text(json.dumps(info))
    if report is not None:
        (run_dir / "report.json").write_text(json.dumps(report))


def ask(**arguments):
    return recommend_approach(ApproachRequest(**arguments))


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_WORKSPACE", str(tmp_path))
    return tmp_path


def test_a_measured_prompt_with_examples_and_a_missed_target_are_read():
    systems = [prompted("plain", False, "not_met"), prompted("shown", True, "not_met")]

    assert evaluated({"systems": systems}) == {
        "has_eval_set": True,
        "prompting_tried": "few_shot",
        "target_met": False,
    }


def test_held_out_questions_that_were_learned_from_are_named(workspace):
    simple = {"name": "tf_idf", "kind": "tf_idf", "target": "not_shown", "scores": {}}
    write_run(workspace, {"systems": [simple], "num_fresh": 0})
    found = ask(symptoms=["classification"], evaluations=[RUN])
    assert found.approach != "do_nothing"
    assert any("new wordings" in note for note in found.measured.notes)


def test_one_prompt_that_meets_the_target_is_enough():
    systems = [prompted("plain", False, "met"), prompted("shown", True, "not_met")]

    assert evaluated({"systems": systems})["target_met"] is True


def test_an_undecided_interval_is_no_answer():
    assert "target_met" not in evaluated({"systems": [prompted("plain", False, "undecided")]})


def test_a_trained_system_is_no_prompt_and_meets_the_target():
    found = evaluated({"systems": [prompted("tuned", True, "met", trained=True)]})

    assert found == {"has_eval_set": True, "target_met": True}


def test_a_simple_classifier_that_meets_the_target_is_what_to_use(workspace):
    simple = prompted("tf_idf", False, "met") | {"kind": "tf_idf"}
    systems = [prompted("plain", False, "not_met"), simple]
    write_run(workspace, {"systems": systems, "ranking": [{"name": "tf_idf"}]})
    report = ask(symptoms=["classification"], evaluations=[RUN])

    assert report.approach == "do_nothing"
    assert [step.approach for step in report.path] == ["do_nothing", "prompting"]
    assert report.path[1].why.startswith("If a change misses the target")
    assert report.measured.notes == [f"tf_idf of {RUN} meets the target: use it"]
    assert report.measured.filled_in["prompting_tried"] == "zero_shot"


def test_the_scores_of_the_cheapest_and_the_most_expensive_system_are_compared():
    systems = [
        prompted("small", True, "not_met", 0.6, usd=1.0),
        prompted("large", True, "met", 0.9, usd=20.0),
    ]
    found = evaluated({"systems": systems, "main_metric": "exact_match"})

    assert (found["small_model_score"], found["large_model_score"]) == (0.6, 0.9)


def test_a_claim_that_an_evaluation_contradicts_is_said_and_the_measurement_wins(workspace):
    write_run(workspace, {"systems": [prompted("shown", True, "met")]})
    report = ask(symptoms=["style"], target_met=False, evaluations=[RUN])

    assert report.approach == "do_nothing"
    assert "target_met=False was given, True was measured" in report.measured.contradictions
    assert report.measured.filled_in["prompting_tried"] == "few_shot"


def test_the_next_call_never_asks_the_same_of_the_same_measurements_again(workspace):
    """Advice on a missed target named a call whose answer was itself, with a lesser prompt."""
    write_run(workspace, {"systems": [prompted("shown", True, "not_met")]})
    kept = {"dataset": "test.jsonl", "target": {"exact_match": 0.9}}
    asked = kept | {"model": "org/small"}
    (workspace / "runs" / RUN / "request.json").write_text(json.dumps(asked))
    changed = {"model": "org/small", "name": "changed_1", "system": "your_system_text"}
    report = ask(evaluations=[RUN])
    again = ask(evaluations=[RUN], prompting_tried="zero_shot")

    assert report.approach == again.approach == "prompting"
    for (step,) in (report.next_steps, again.next_steps):
        assert step.tool == "evaluate"
        assert step.arguments == kept | {"systems": [RUN, changed]}
        EvaluateRequest.model_validate(step.arguments)
    optimized = ask(evaluations=[RUN], prompting_tried="optimized", response_format="detailed")
    for step in optimized.next_steps:
        assert step.arguments.get("prompting_tried", "optimized") == "optimized"


def trained(workspace, name="sft-0123456789abcdef"):
    """A finished run whose diagnosis says that it was too short, and its next call."""
    run = workspace / "runs" / name
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    arguments = {"from_run": name, "training": {"num_train_epochs": 1}}
    found = {"id": "too_few_steps", "advice": "train the result further", "continues": True}
    step = {"tool": "launch_sft", "arguments": arguments, "why": "too_few_steps"}
    (run / "report.json").write_text(json.dumps({"diagnosis": [found], "next_steps": [step]}))
    return name, arguments


def test_a_measured_run_that_was_still_learning_is_trained_further_before_its_data_is_changed(
    workspace,
):
    """evaluate said to train further, and the advice on that evaluation to collect data first."""
    run, arguments = trained(workspace)
    systems = [
        prompted("shown", True, "not_met"),
        prompted("tuned", False, "not_met", trained=True) | {"model": run},
    ]
    write_run(workspace, {"systems": systems})
    asked = {"tried_training": ["sft"], "considering": ["sft"], "num_demonstrations": 236}
    report = ask(evaluations=[RUN], **asked)

    assert (report.approach, report.verdicts[0].verdict) == ("sft", "now")
    assert (report.next_steps[0].tool, report.next_steps[0].arguments) == ("launch_sft", arguments)
    assert not report.path[0].measure_first
    assert report.measured.contradictions == []
    assert ask(evaluations=[RUN]).approach == "sft"
    (workspace / "runs" / run / "report.json").write_text(json.dumps({"diagnosis": []}))
    assert ask(evaluations=[RUN], **asked).approach == "collect_data_first"


LABELLED = {
    "considering": ["sft", "small_model_fine_tuning"],
    "symptoms": ["classification"],
    "num_demonstrations": 236,
    "prompting_tried": "few_shot",
    "model": "HuggingFaceTB/SmolLM2-135M-Instruct",
}


def test_a_chosen_model_that_misses_with_examples_is_trained_on_enough_labels():
    """Its training was now, and the first step was to search for a prompt."""
    report = ask(target_met=False, has_eval_set=True, **LABELLED)

    assert report.approach == "small_model_fine_tuning"
    assert {each.approach: each.verdict for each in report.verdicts} == {
        "sft": "now",
        "small_model_fine_tuning": "now",
    }


def test_the_next_call_takes_the_file_that_an_evaluation_learned_from_for_the_dataset(workspace):
    """A path that does not exist was to be audited, and the evaluation knew the training file."""
    seen = {"learned_from": ["clean/train.jsonl"]}
    write_run(workspace, {"systems": [prompted("shown", True, "not_met")], "contamination": seen})
    (gone, *_) = ask(evaluations=[RUN], **LABELLED).next_steps
    (workspace / "clean").mkdir()
    (workspace / "clean/train.jsonl").touch()
    (step, *_) = ask(evaluations=[RUN], **LABELLED).next_steps

    assert (step.tool, step.arguments["path"]) == ("audit_dataset", "clean/train.jsonl")
    assert "your_data" not in step.why
    assert gone.arguments["path"] == "your_data.jsonl"


def test_a_damaged_report_is_said_and_a_damaged_request_changes_no_advice(workspace):
    write_run(workspace, {"systems": [prompted("shown", True, "not_met")]})
    run_dir = workspace / "runs" / RUN
    (run_dir / "request.json").write_text('{"dataset": ')
    assert ask(evaluations=[RUN]).next_steps[0].tool == "evaluate"
    (run_dir / "report.json").write_text('{"systems": ')
    with pytest.raises(BadInput, match="is damaged; evaluate again"):
        ask(evaluations=[RUN])


def test_training_is_not_now_beside_a_prompt_that_comes_first():
    report = ask(**LABELLED)
    sft = report.verdicts[0]

    assert report.approach == "prompt_optimization"
    assert sft.verdict == "later"
    assert sft.condition.startswith(
        "off the path: after prompt_optimization, if the target is still missed: of"
    )


def test_that_prompts_were_searched_is_believed_beside_their_evaluation(workspace):
    """Advice asked for a search of prompts that was done, and no claim could end that."""
    write_run(workspace, {"systems": [prompted("shown", True, "not_met")]})
    measured = ask(symptoms=["style"], prompting_tried="optimized", evaluations=[RUN]).measured

    assert measured.contradictions == []
    assert measured.filled_in == {"has_eval_set": True, "target_met": False}


def test_a_run_that_is_no_evaluation_or_has_no_report_is_refused(workspace):
    write_run(workspace, None)
    write_run(workspace, {}, kind="sft")

    with pytest.raises(BadInput, match="has no report yet"):
        ask(evaluations=[RUN])
    with pytest.raises(BadInput, match="not an evaluation"):
        ask(evaluations=[RUN.replace("evaluate", "sft")])
    with pytest.raises(NotFound):
        ask(evaluations=["evaluate-00000000000000bb"])


def test_documents_are_counted_and_their_daily_cost_is_computed(workspace):
    folder = workspace / "handbook"
    folder.mkdir()
    (folder / "one.md").write_text("The parcel desk opens at nine. " * 400)
    (folder / "two.txt").write_text("Refunds take five days. " * 400)
    report = ask(symptoms=["knowledge_gap"], documents="handbook", calls_per_day=1000)
    costs = {each.approach: each.usd_per_day for each in report.documents.costs}

    assert report.approach == "long_context"
    assert report.documents.num_files == 2
    assert report.measured.filled_in["corpus_tokens"] == count_tokens("handbook")[1] > 3000
    assert 0 < costs["long_context"] < costs["rag"]


def test_documents_without_text_are_refused_with_the_formats_that_are_read(workspace):
    (workspace / "scan.pdf").write_bytes(b"%PDF")
    with pytest.raises(BadInput, match=r"no text that can be read \(1 pdf\)"):
        ask(symptoms=["knowledge_gap"], documents="scan.pdf")
    (workspace / "notes.odt").write_bytes(b"PK")
    with pytest.raises(BadInput, match=r"no text files; supported: .*\.pdf"):
        ask(symptoms=["knowledge_gap"], documents="notes.odt")


def test_a_call_that_is_repeated_has_only_what_was_given_or_measured(workspace):
    (workspace / "one.md").write_text("The parcel desk opens at nine. " * 40)
    report = ask(symptoms=["knowledge_gap"], documents="one.md")
    again = next(step for step in report.next_steps if step.tool == "recommend_approach")
    assert all(value not in ([], None, "unknown") for value in again.arguments.values())


@pytest.mark.parametrize("content", [b"", b" \n", bytes(range(256)) * 20])
def test_files_that_hold_no_text_are_not_counted_as_text(workspace, content):
    (workspace / "notes").mkdir()
    (workspace / "notes" / "a.txt").write_bytes(content)
    with pytest.raises(BadInput, match="holds no text: empty or binary"):
        count_tokens("notes")
    (workspace / "notes" / "b.txt").write_text("Refunds take five days.", encoding="utf-16")
    (workspace / "notes" / "c.txt").write_text("Refunds take five days.")
    num_files, tokens = count_tokens("notes")
    assert num_files == 2
    assert tokens == 2 * count_tokens("notes/c.txt")[1]


def test_caching_makes_long_context_ten_times_cheaper_at_steady_traffic():
    rare, steady = (daily_costs(100_000, calls)[0].usd_per_1000_calls for calls in (100, 10_000))

    assert rare == pytest.approx(375)
    assert steady == pytest.approx(30, rel=0.02)


def test_the_number_of_examples_of_a_dataset_is_counted(workspace):
    rows = [{"prompt": f"Say {n} in words", "completion": f"It is number {n}"} for n in range(60)]
    (workspace / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ask(symptoms=["style"], prompting_tried="optimized", dataset="data.jsonl")

    assert report.measured.filled_in["num_demonstrations"] > 50
    assert report.approach == "sft"


@pytest.mark.parametrize(
    ("frame", "chats", "counted"),
    [
        ("Chapter {}: the press needs {} drops of oil a day.", 0, {"num_demonstrations": 0}),
        ("Chapter {}: the press needs {} drops of oil a day.", 20, {}),
        ("### Instruction:\nName {}\n\n### Response:\nIt is {}", 0, {"num_demonstrations": 80}),
    ],
)
def test_rows_of_plain_text_are_tokens_of_a_corpus_and_no_demonstrations(
    workspace, frame, chats, counted
):
    rows = [{"text": frame.format(n, n * 7919)} for n in range(80)]
    rows += [{"prompt": f"Say {n} in words", "completion": f"It is {n}"} for n in range(chats)]
    (workspace / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = {"considering": ["sft", "continued_pretraining"], "dataset": "data.jsonl"}
    measured = ask(**asked).measured
    tokens = measured.filled_in.pop("corpus_tokens", 0)

    assert measured.filled_in == counted
    assert (tokens > 500) == frame.startswith("Chapter")
    assert ("text to continue" in measured.notes[0]) == bool(tokens) if measured.notes else True
    claimed = ask(**asked, num_demonstrations=900).measured
    assert bool(claimed.contradictions) == (not tokens)


def test_a_dataset_that_is_not_there_is_refused(workspace):
    with pytest.raises(NotFound, match=r"later\.jsonl"):
        ask(symptoms=["style"], prompting_tried="none", dataset="later.jsonl")


@pytest.mark.parametrize(("said", "verdict"), [({}, "later"), ({"num_demonstrations": 900}, "now")])
def test_rows_that_are_no_examples_are_not_counted_and_lead_to_their_preparation(
    workspace, said, verdict
):
    rows = [{"talk": {"customer": f"Where is {n}?", "agent": f"Here is {n}."}} for n in range(900)]
    (workspace / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ask(
        symptoms=["style"],
        prompting_tried="optimized",
        considering=["sft"],
        dataset="data.jsonl",
        **said,
    )

    assert report.verdicts[0].verdict == verdict
    assert "none of the 900 rows" in report.measured.notes[0]
    step = report.next_steps[0]
    assert (step.tool, step.arguments) == ("prepare_dataset", {"path": "data.jsonl"})


@pytest.fixture
def tickets(workspace):
    """A table of messages with two columns of classes, and no replies."""
    topics = ["billing", "delivery", "returns", "account"]
    rows = [
        f"Message {n * 37} says that {topic} of order {n} went wrong,{topic},{n % 2 and 'low'}"
        for n in range(300)
        for topic in [topics[n % 4]]
    ]
    head = "message,category,priority\n"
    (workspace / "tickets.csv").write_text(head + "\n".join(rows).replace(",0", ",high") + "\n")
    return {"considering": ["sft"], "dataset": "tickets.csv"}


def test_a_manner_that_no_column_of_a_table_shows_is_said_first_and_has_no_examples(tickets):
    """A thousand examples were presumed where a table was read that had no replies at all."""
    report = ask(symptoms=["style"], **tickets)

    assert report.summary.startswith(
        "No column of the dataset is recognised as replies: category, "
    )
    assert report.measured.filled_in["num_demonstrations"] == 0
    assert report.verdicts[0].verdict == "later"
    assert "1000" not in str(report.reasons)
    assert ask(symptoms=["style"], num_demonstrations=900, **tickets).measured.lacks


def test_the_rows_of_a_table_are_counted_under_the_mapping_that_is_proposed(tickets):
    report = ask(symptoms=["classification"], **tickets)
    num = report.measured.filled_in["num_demonstrations"]

    assert 0 < num <= 300
    assert f"prepare_dataset makes {num} examples of them" in report.measured.notes[0]
    assert "recognised as replies" not in report.summary
    both = ask(symptoms=["style", "classification"], **tickets)
    assert both.measured.filled_in["num_demonstrations"] == num
    assert both.summary.startswith("No column of the dataset is recognised as replies")


def test_a_concise_report_still_says_which_file_of_a_call_is_a_stand_in():
    """A path that does not exist was all that was left of a call."""
    report = ask(
        considering=["sft", "small_model_fine_tuning"],
        symptoms=["classification"],
        task="label",
        num_classes=5,
        num_demonstrations=236,
        prompting_tried="few_shot",
        target_met=False,
        data_source="human",
        personal_data=True,
        runs_on=["mac", "ollama"],
        has_eval_set=True,
    )
    (step,) = report.next_steps

    assert step.arguments == {"path": "your_data.jsonl"}
    assert step.why == "Put your own for your_data.jsonl."


def test_files_that_nobody_named_are_called_stand_ins():
    report = ask(symptoms=["style"], prompting_tried="optimized", num_demonstrations=900)

    (step,) = [step for step in report.next_steps if step.tool == "audit_dataset"]
    assert step.why.endswith("Put your own for your_data.jsonl.")


def test_a_model_or_run_that_nobody_named_is_called_a_stand_in():
    pairs = {"symptoms": ["preference"], "num_preference_pairs": 4000}
    report = ask(considering=["dpo"], checkpoint="sft_run", response_format="detailed", **pairs)

    launch = next(step for step in report.next_steps if step.tool == "launch_dpo")
    assert launch.arguments["sft_run"] == "your_sft_run"
    assert "model" not in launch.arguments
    assert "your_sft_run" in launch.why


def test_a_model_behind_an_api_is_not_launched_here():
    said = {"symptoms": ["style"], "prompting_tried": "optimized", "num_demonstrations": 900}
    hosted = ask(weights_access="api_only", **said)

    assert hosted.approach == "sft"
    assert "provider's training service" in hosted.path[0].next_step
    assert {step.tool for step in hosted.next_steps} == {"audit_dataset"}
    assert "launch_sft" in {step.tool for step in ask(**said).next_steps}


def test_the_next_call_for_answers_of_people_names_no_teacher():
    asked = {"considering": ["distillation"], "teacher": "openai", "product_use": "sold"}
    report = ask(**asked, response_format="detailed")
    again = next(step for step in report.next_steps if step.tool == "recommend_approach")

    assert "teacher" not in again.arguments
    assert again.arguments["data_source"] == "human"
    assert "terms allow this use" in report.path[0].stop_if
    assert any("compete with its services" in str(reason.rule) for reason in report.reasons)


def test_what_the_audit_finds_in_pairs_is_said_beside_their_number(workspace):
    rows = [
        {
            "prompt": f"Question {i}?",
            "chosen": f"A long and good answer, number {i}. " * 9,
            "rejected": "No.",
        }
        for i in range(300)
    ]
    (workspace / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = ask(considering=["dpo"], checkpoint="instruct", dataset="pairs.jsonl")

    assert report.measured.filled_in["num_preference_pairs"] == 300
    assert any("length_bias (300)" in note for note in report.measured.notes)


def test_a_text_too_short_to_be_cached_has_the_full_price():
    costs = {each.approach: each for each in daily_costs(100, 10_000)}

    assert costs["long_context"].usd_per_1000_calls == 0.3
    assert "too few to be cached" in costs["long_context"].assumptions


def test_too_few_marks_are_not_called_unknown():
    report = ask(symptoms=["preference"], considering=["kto", "dpo"], num_marks=210)
    said = {verdict.approach: verdict.why for verdict in report.verdicts}

    assert "fewer than the 1,000" in said["kto"]
    assert "not known to exist" in said["dpo"]


@pytest.mark.parametrize("count", ["hundreds", "300", 300, 300.0])
def test_a_count_may_be_rough_or_a_number_in_any_form(count):
    report = ask(symptoms=["style"], prompting_tried="optimized", num_demonstrations=count)

    assert report.approach == "sft"


@pytest.mark.parametrize("count", ["lots", -1, True, 1.5, ""])
def test_another_count_is_refused_with_the_rough_words(count):
    with pytest.raises(ValueError, match="tens, hundreds, thousands, more"):
        ApproachRequest(num_demonstrations=count)


def simple(score, target=None):
    return {
        "name": "tf_idf",
        "kind": "tf_idf",
        "target": target,
        "scores": {"accuracy": {"value": score}},
    }


def test_the_cheapest_system_that_meets_the_target_is_named_in_summary_and_verdicts(workspace):
    large = prompted("large", True, "met", 0.95) | {"scores": {"accuracy": {"value": 0.95}}}
    ranking = [{"name": "tf_idf"}, {"name": "large"}]
    systems = [large, simple(0.94, "met")]
    write_run(workspace, {"systems": systems, "ranking": ranking, "main_metric": "accuracy"})
    report = ask(
        considering=["sft", "small_model_fine_tuning"],
        symptoms=["classification"],
        evaluations=[RUN],
    )
    sft, small = report.verdicts

    assert report.approach == "do_nothing"
    assert report.summary.startswith("tf_idf meets the target (accuracy 0.94)")
    assert (small.verdict, sft.verdict) == ("now", "later")
    assert "tf_idf meets the target (accuracy 0.94)" in small.condition
    assert "tf_idf" in sft.condition


def test_a_score_without_a_target_is_named_and_asks_whether_it_is_enough(workspace):
    ranking = [{"name": "tf_idf", "versus_best": "best"}]
    evaluation = {"systems": [simple(0.94)], "ranking": ranking, "main_metric": "accuracy"}
    write_run(workspace, evaluation)
    report = ask(considering=["sft"], num_classes=5, num_demonstrations=400, evaluations=[RUN])

    assert report.summary.startswith("tf_idf is the cheapest that nothing beats")
    assert "(accuracy 0.94)" in report.summary
    assert report.path[0].measure_first
    assert all("beside tf_idf, which is measured" in each for each in report.path[0].measure_first)


def test_a_system_that_misses_the_target_is_what_to_compare_with(workspace):
    dear = simple(0.74, "not_met") | {"name": "dear"}
    ranking = [
        {"name": "tf_idf", "versus_best": "not_distinguishable"},
        {"name": "dear", "versus_best": "best"},
    ]
    systems = [dear, simple(0.7, "not_met")]
    write_run(workspace, {"systems": systems, "ranking": ranking, "main_metric": "accuracy"})
    report = ask(symptoms=["classification"], evaluations=[RUN])

    assert report.measured.best.meets_target is False
    assert report.summary.startswith("tf_idf is the cheapest that nothing beats beyond chance (")
    assert "not shown to meet the target" in report.summary


@pytest.mark.parametrize("target", ["met", "not_met", None])
def test_without_a_ranking_nothing_is_called_the_cheapest_or_the_best(workspace, target):
    write_run(workspace, {"systems": [simple(0.9, target)], "main_metric": "accuracy"})
    report = ask(symptoms=["classification"], evaluations=[RUN])

    assert report.measured.best is None
    assert "tf_idf" not in report.summary


@pytest.mark.parametrize("target", ["met", None])
def test_the_commonest_answer_is_never_what_to_use(workspace, target):
    majority = simple(0.9, target) | {"name": "majority", "kind": "majority"}
    ranking = [{"name": "majority", "versus_best": "best"}]
    evaluation = {"systems": [majority], "ranking": ranking, "main_metric": "accuracy"}
    write_run(workspace, evaluation)
    report = ask(symptoms=["classification"], evaluations=[RUN])

    assert report.approach != "do_nothing"
    assert report.measured.best is None
    assert report.measured.notes == []
