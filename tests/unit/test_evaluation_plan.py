"""Requests, held-out files, contamination, plans."""

import json
import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from pydantic import ValidationError

from ft_tools.errors import BadData, BadInput, NotFound, PlanChanged, Refused
from ft_tools.evaluation.contamination import find_contamination, overlaps
from ft_tools.evaluation.held_out import HeldOut, asked_and_answered, read_held_out
from ft_tools.evaluation.plan_warnings import about_request
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.compared_models import Models
from ft_tools.evaluation.tool import evaluate
from ft_tools.models.obtain import PACKAGED
from ft_tools.publish import sha256
from ft_tools.runs.state.records import RunInfo
from tests.unit.test_shipping import write_safetensors

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def chat(question, answer, **more):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns} | more


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def model_folder(folder, template=TEMPLATE, size=64):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    write_safetensors(folder / "model.safetensors", {"w": (size // 2,)})
    return folder.name


def trained_run(workspace, training_rows, form="messages"):
    """Make the directory of a finished run, as launch_sft leaves it."""
    run_dir = workspace / "runs" / "sft-0123456789abcdef"
    (run_dir / "artifacts").mkdir(parents=True)
    model_folder(run_dir / "artifacts" / "model")
    data = write(workspace / "train.jsonl", training_rows)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=0.0, lineage={"base_model": "base"})
    (run_dir / "run.json").write_text(info.model_dump_json())
    plan = {"dataset": {"path": str(data), "format": form}}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    return run_dir.name


@pytest.fixture
def base(workspace):
    return model_folder(workspace / "base")


def questions(count):
    return [chat(f"Where is my parcel number {i}?", f"It is in town {i}.") for i in range(count)]


def test_a_plan_starts_nothing_and_says_what_would_be_done(workspace, base):
    write(workspace / "held.jsonl", questions(20))
    launch = evaluate(EvaluateRequest(model=base, baseline=base, dataset="held.jsonl"))
    assert not launch.started
    assert not (workspace / "runs").exists()
    assert launch.plan["num_examples"] == 20
    assert set(launch.plan["metrics"]) == {"exact_match", "token_f1", "perplexity"}
    assert launch.plan["rendering"] == "chat"
    assert 0.2 < launch.plan["minimum_detectable_effect"] < 0.25
    assert launch.next_steps[0].arguments["confirm"] == launch.plan_hash
    assert any("too few" in warning for warning in launch.warnings)


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


def test_held_out_questions_that_were_trained_on_are_refused_unless_accepted(workspace, base):
    run = trained_run(workspace, questions(5))
    write(workspace / "held.jsonl", [*questions(2), *[chat(f"New {i}?", "Yes.") for i in range(8)]])
    request = EvaluateRequest(model=run, dataset="held.jsonl")
    with pytest.raises(Refused, match=r"train_validation_leak: 2 held-out .* \(lines 1, 2\)"):
        evaluate(request)
    accepted = request.model_copy(update={"accept_findings": ["train_validation_leak"]})
    launch = evaluate(accepted)
    assert launch.plan["accepted"] == ["train_validation_leak"]
    assert launch.plan["contamination"]["num_exact"] == 2
    assert launch.plan["baseline"]["name"] == "base"


def test_training_data_that_cannot_be_read_is_said_not_to_be_checked(workspace, base):
    run = trained_run(workspace, questions(5))
    (workspace / "train.jsonl").unlink()
    write(workspace / "held.jsonl", questions(5))
    launch = evaluate(EvaluateRequest(model=run, dataset="held.jsonl"))
    assert launch.plan["contamination"]["checked_against"] == []
    assert launch.plan["contamination"]["not_checked"] == [str(workspace / "train.jsonl")]
    assert any("not checked against them" in warning for warning in launch.warnings)


@pytest.mark.parametrize("is_copy", [False, True])
def test_a_file_that_chose_the_checkpoint_is_no_fresh_test(workspace, base, is_copy):
    run = trained_run(workspace, questions(5))
    held = write(workspace / "held.jsonl", [chat(f"New {i}?", "Yes.") for i in range(8)])
    plan = workspace / "runs" / run / "plan.json"
    request = EvaluateRequest(model=run, dataset="held.jsonl")
    assert not any("selected its checkpoint" in line for line in evaluate(request).warnings)
    validation = {"path": str(held), "sha256": ""}
    if is_copy:
        validation = {"path": str(held.with_name("validation.jsonl")), "sha256": sha256(held)}
    known = json.loads(plan.read_text()) | {"validation": validation}
    plan.write_text(json.dumps(known))
    assert any("selected its checkpoint" in line for line in evaluate(request).warnings)


def test_a_question_differs_when_a_number_does():
    held = [HeldOut(line=1, prompt="Where is my parcel number 1?", reference="In Oslo.")]
    exact, near = overlaps(held, [("where is  my PARCEL number 1?", "x")])
    assert exact == {1}
    exact, near = overlaps(held, [("Where is my parcel number 2?", "Lost.")])
    assert exact == set()
    assert near == set()


def test_questions_that_differ_only_in_digits_and_names_are_twins(workspace, base):
    trained = [chat(f"Order K{i} of Ada Smith did not arrive.", "delivery") for i in range(5)]
    run = trained_run(workspace, trained)
    held = [
        chat("Order Z99 of Bob Miller did not arrive.", "delivery"),
        *[chat(f"Please tell me everything about the number {i}.", "other") for i in range(9)],
    ]
    write(workspace / "held.jsonl", held)
    launch = evaluate(EvaluateRequest(model=run, dataset="held.jsonl"))
    found = launch.plan["contamination"]
    assert (found["num_exact"], found["num_near"], found["num_twins"]) == (0, 0, 1)
    assert found["lines"] == [1]
    assert any("1 of 10 held-out questions equal a training" in line for line in launch.warnings)


def test_a_training_file_that_is_no_longer_one_is_compared_as_far_as_it_goes(workspace, base):
    asked = questions(8)
    run = trained_run(workspace, [{"messages": ["Where?", {"content": 3}]}, asked[0]])
    write(workspace / "held.jsonl", asked[1:])
    plan = evaluate(EvaluateRequest(model=run, dataset="held.jsonl")).plan
    assert plan["contamination"]["num_exact"] == 0
    assert plan["contamination"]["num_twins"] == 7


def test_questions_that_share_their_longest_sentence_are_counted_but_not_the_task(workspace):
    task = "Turn the message below into a ticket with a category. "
    parts = ["The lid of the kettle does not close", "My lamp flickers when I turn it on"]
    write(
        workspace / "t.jsonl",
        [chat(f"{task}Hello! {part} since day {i}.", "ok") for i, part in enumerate(parts)],
    )
    asked = [f"Good day. {part} since day 77. Best, Ann" for part in parts]
    asked += [f"Where can I find the manual of article number {i} in print?" for i in range(9)]
    held = [HeldOut(line=i, prompt=task + said, reference="x") for i, said in enumerate(asked, 1)]
    found = find_contamination(held, [workspace / "t.jsonl"])
    assert (found.num_exact, found.num_near, found.num_twins) == (0, 0, 0)
    assert (found.num_sentence_twins, found.lines) == (2, [1, 2])


@pytest.mark.parametrize(("is_templated", "num_worded"), [(True, 30), (False, 0)])
def test_questions_in_the_wording_of_a_training_question_are_counted_if_few_are_used(
    workspace, is_templated, num_worded
):
    dice = random.Random(1)
    words = ["".join(dice.choices("abcdefghij", k=5)) for _ in range(400)]
    items = ["kettle", "router", "ladder", "helmet", "printer", "sofa"]
    texts = [
        "After the update my {} makes a loud noise and then goes off",
        "Your courier left the {} with a neighbour who never had it",
        "Why is there a fee on the bill of the {} that nobody told me",
        "I was charged two times for one {} and want the money back",
    ]
    if not is_templated:
        texts = [" ".join(dice.choices(words, k=6)) + f" {{}} {word}" for word in words[:4]]
    trained = [said.format(item) for said in texts[:3] for item in items * 2]
    write(workspace / "t.jsonl", [chat(said, "ok") for said in trained])
    asked = [f"{said.format('drill')} {word}" for said in texts for word in words[:10]]
    if not is_templated:
        asked = [" ".join(dice.choices(words, k=9)) for _ in asked]
    held = [HeldOut(line=i, prompt=said, reference=str(i)) for i, said in enumerate(asked, 1)]
    found = find_contamination(held, [workspace / "t.jsonl"])
    assert found.num_same_wording == num_worded == found.num_alike
    request = EvaluateRequest(model="m", dataset="t.jsonl")
    warnings = about_request(request, [], [], found, Models({}))
    is_said = any("the wording of a training question" in line for line in warnings)
    assert is_said == is_templated


def test_an_answer_that_is_marked_bad_is_no_reference(workspace, base):
    rows = [
        {"prompt": f"Where is {i}?", "completion": f"In house {i}.", "label": i % 3 > 0}
        for i in range(9)
    ]
    write(workspace / "marks.jsonl", rows)
    launch = evaluate(EvaluateRequest(model="base", dataset="marks.jsonl"))
    assert launch.plan["num_examples"] == 6
    assert any(line.startswith("3 rows are left out: their answer") for line in launch.warnings)
    first = evaluate(EvaluateRequest(model="base", dataset="marks.jsonl", max_examples=2))
    assert any(line.startswith("1 rows are left out: their answer") for line in first.warnings)


@pytest.mark.parametrize(("most", "cut"), [(256, True), (512, False)])
def test_wanted_answers_that_are_longer_than_an_answer_may_be_are_counted(
    workspace, base, most, cut
):
    rows = [chat(f"Where is parcel {i}?", "In Oslo. " * (160 if i < 4 else 2)) for i in range(40)]
    write(workspace / "long.jsonl", rows)
    asked = EvaluateRequest(model="base", dataset="long.jsonl", max_new_tokens=most)
    said = [line for line in evaluate(asked).warnings if "wanted answers are longer" in line]
    assert bool(said) == cut
    if cut:
        assert said[0].startswith("about 4 of 40 wanted answers")
        assert "max_new_tokens=512 has room" in said[0]


def test_no_more_tokens_are_advised_than_are_allowed(workspace, base):
    write(workspace / "long.jsonl", [chat("Why?", "In Oslo. " * 5000)])
    said = evaluate(EvaluateRequest(model="base", dataset="long.jsonl")).warnings
    assert any("max_new_tokens=8192 is the most that is allowed" in line for line in said)
    with pytest.raises(ValueError, match="name a host"):
        EvaluateRequest(model="base", dataset="long.jsonl", metrics=["judge"], judge_url="http://")


def test_near_copies_are_found_and_the_wording_of_the_task_is_not():
    task = "Turn the customer's message below into a ticket with a category and an order number: "
    stories = [
        f"the {colour} lamp that I ordered for my mother last {month} came without its {part} shade"
        for colour, month, part in [
            ("red", "May", "paper"), ("blue", "June", "glass"), ("green", "July", "linen"),
            ("white", "April", "metal"), ("black", "March", "straw"), ("grey", "August", "silk"),
        ]
    ]  # fmt: skip
    held = [HeldOut(line=i, prompt=task + s, reference="ok") for i, s in enumerate(stories, 1)]
    other = task + "my invoice of last week has two positions that I never asked for at all"
    assert overlaps(held, [(other, "ok")]) == (set(), set())
    copy = task + stories[2].replace("the green lamp", "the Green lamp,") + "!"
    exact, near = overlaps(held, [(copy, "ok")])
    assert exact == set()
    assert near == {3}


def test_each_answer_of_a_training_conversation_is_a_question_with_its_answer():
    turns = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
        {"role": "assistant", "content": "D"},
    ]
    assert list(asked_and_answered({"messages": turns})) == [("A", "B"), ("A\nB\nC", "D")]
    assert list(asked_and_answered({"prompt": "P", "chosen": "Q", "rejected": "R"})) == [("P", "Q")]
    assert list(asked_and_answered({"text": "T"})) == [("", "T")]


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


def test_an_empty_file_is_refused(workspace):
    (workspace / "held.jsonl").write_text("\n\n")
    with pytest.raises(BadData, match="no examples"):
        read_held_out(workspace / "held.jsonl")


def test_the_last_answer_is_the_reference_and_clusters_are_kept(workspace):
    path = write(workspace / "held.jsonl", [chat("a", " b ", source=7), chat("c", "d", source=8)])
    found = read_held_out(path, cluster_field="source")
    assert [(e.asked, e.reference, e.cluster) for e in found] == [("a", "b", "7"), ("c", "d", "8")]
    with pytest.raises(BadData, match="no field 'group'"):
        read_held_out(path, cluster_field="group")


def test_tool_calls_become_the_reference(workspace):
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    turns = [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": [call]}]
    path = write(workspace / "held.jsonl", [{"messages": turns, "tools": "[]"}])
    (one,) = read_held_out(path)
    assert json.loads(one.reference) == [{"name": "f", "arguments": {"x": 1}}]
    assert one.tools == []


def test_an_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(ValidationError, match=r"'rouge'.*'exact_match'.*'json_valid'"):
        EvaluateRequest(model="m", dataset="d", metrics=["bleurt"])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "set `dataset`"),
        ({"dataset": "d", "metrics": ["regex"]}, "pattern"),
        ({"dataset": "d", "regex": "x"}, "pattern"),
        ({"dataset": "d", "metrics": ["judge"]}, "judge_url"),
        ({"dataset": "d", "judge_url": "file:///etc/passwd"}, "http"),
        ({"dataset": "d", "max_new_tokens": 0}, "greater than or equal"),
        ({"dataset": "d", "metrix": ["rouge"]}, "Extra inputs"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, problem):
    with pytest.raises(ValidationError, match=problem):
        EvaluateRequest(model="m", **arguments)


def test_a_model_that_came_from_nothing_known_is_measured_alone(workspace, base):
    write(workspace / "held.jsonl", questions(20))
    launch = evaluate(EvaluateRequest(model=base, dataset="held.jsonl"))
    assert launch.plan["alone"] is True
    assert any("measured alone" in warning for warning in launch.warnings)
    assert not evaluate(EvaluateRequest(model=base, baseline=base, dataset="held.jsonl")).plan[
        "alone"
    ]


def test_plain_prompts_are_written_as_the_model_was_trained(workspace, base):
    rows = [{"prompt": f"Q{i}", "completion": f"A{i}"} for i in range(3)]
    write(workspace / "held.jsonl", rows)
    run = trained_run(workspace, [{"prompt": "x", "completion": "y"}], "prompt_completion_text")
    assert evaluate(EvaluateRequest(model=run, dataset="held.jsonl")).plan["rendering"] == "plain"
    by_itself = EvaluateRequest(model=base, dataset="held.jsonl")
    assert evaluate(by_itself).plan["rendering"] == "chat"


def test_different_templates_and_tokenizers_are_explained(workspace, base):
    model_folder(workspace / "other", template="other {{ messages }}")
    for name in ("base", "other"):
        vocabulary = {"model": {"vocab": {name: 0}}}
        (workspace / name / "tokenizer.json").write_text(json.dumps(vocabulary))
    write(workspace / "held.jsonl", questions(20))
    launch = evaluate(EvaluateRequest(model="other", baseline=base, dataset="held.jsonl"))
    assert any("chat templates differ" in warning for warning in launch.warnings)
    assert any("bits per byte" in warning for warning in launch.warnings)


def test_a_template_among_several_with_names_is_one(workspace):
    named = [{"name": "tool_use", "template": "{{ tools }}"}, {"name": "default"}]
    named[1]["template"] = TEMPLATE
    folder = model_folder(workspace / "several", template=named)
    write(workspace / "held.jsonl", questions(3))
    request = EvaluateRequest(model=folder, dataset="held.jsonl", rendering="chat")
    assert evaluate(request).plan["rendering"] == "chat"


def test_a_chat_template_that_nobody_has_cannot_be_asked_for(workspace):
    folder = model_folder(workspace / "bare", template=None)
    write(workspace / "held.jsonl", questions(3))
    request = EvaluateRequest(model=folder, dataset="held.jsonl", rendering="chat")
    with pytest.raises(BadInput, match='rendering="plain"'):
        evaluate(request)
    assert (
        evaluate(EvaluateRequest(model=folder, dataset="held.jsonl")).plan["rendering"] == "plain"
    )


class Hub(BaseHTTPRequestHandler):
    """A Hub with one model, which only those with the token may read."""

    def do_HEAD(self):
        known = self.path == "/owner/there/resolve/main/config.json"
        allowed = self.headers.get("Authorization") == "Bearer hf_token"
        self.send_response(200 if known and allowed else 401 if known else self.server.missing)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(workspace, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), Hub)
    server.missing = 404
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(workspace / "hub"))
    for name in ("HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    write(workspace / "held.jsonl", questions(20))
    yield server
    server.shutdown()
    server.server_close()


def asked(base, model):
    return evaluate(EvaluateRequest(model=model, baseline=base, dataset="held.jsonl"))


def test_a_model_that_the_hub_does_not_have_fails_in_the_plan(hub, base, monkeypatch):
    with pytest.raises(NotFound, match=r"no model 'owner/missing'.*404.*spelling"):
        asked(base, "owner/missing")
    with pytest.raises(NotFound, match=r"401.*HF_TOKEN"):
        asked(base, "owner/there")
    monkeypatch.setenv("HF_TOKEN", "hf_token")
    assert any("the run downloads it" in line for line in asked(base, "owner/there").warnings)


def test_what_cannot_be_asked_of_the_hub_is_said(hub, base, monkeypatch, tmp_path):
    hub.missing = 503
    assert any("not checked" in line for line in asked(base, "owner/missing").warnings)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert any("not checked" in line for line in asked(base, "owner/missing").warnings)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(NotFound, match=r"owner/missing is not on .*HF_HUB_OFFLINE.*`hf download"):
        asked(base, "owner/missing")
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(tmp_path / "without-models"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "without-models"))
    with pytest.raises(NotFound, match="fine-tuning-llm demo --only-model"):
        asked(base, PACKAGED)


def test_a_model_that_is_its_own_baseline_is_said_to_be_compared_with_itself(workspace, base):
    run = trained_run(workspace, questions(5))
    write(workspace / "held.jsonl", [chat(f"New {i}?", "Yes.") for i in range(8)])
    launch = evaluate(EvaluateRequest(model=run, baseline=run, dataset="held.jsonl"))
    assert [one["name"] for one in launch.plan["systems"]] == ["baseline", "tuned"]
    assert launch.plan["alone"] is False
    (said,) = [line for line in launch.warnings if line.startswith("baseline is the model itself")]
    assert "alone" not in said
    other = evaluate(EvaluateRequest(model=run, dataset="held.jsonl"))
    assert not any(line.startswith("baseline is") for line in other.warnings)


def test_a_folder_without_weights_fails_in_the_plan(workspace, base):
    write(workspace / "held.jsonl", questions(20))
    model_folder(workspace / "pickled")
    (workspace / "pickled" / "model.safetensors").rename(workspace / "pickled" / "model.bin")
    with pytest.raises(BadInput, match=r"pickled has a config.json but no \*\.safetensors"):
        asked(base, "pickled")


def test_a_folder_that_is_not_there_fails_in_the_plan(workspace, base):
    write(workspace / "held.jsonl", questions(20))
    with pytest.raises(NotFound, match="no-such-folder"):
        asked(base, "no-such-folder")


def test_an_evaluation_on_a_gpu_waits_for_it_and_one_on_the_cpu_for_nothing(
    workspace, base, tmp_path, monkeypatch
):
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    row = "0, GPU-1a, NVIDIA T4, 15360, 0, 7.5, 535.54.03, [N/A]"
    program.write_text(f"#!/bin/sh\necho '{row}'\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    write(workspace / "held.jsonl", questions(20))
    request = EvaluateRequest(model=base, baseline=base, dataset="held.jsonl")
    on_gpu = evaluate(request)
    on_cpu = evaluate(request.model_copy(update={"device": "cpu"}))
    assert on_gpu.plan["device"] == "NVIDIA T4"
    assert on_cpu.plan["device"] == "cpu"
    assert on_gpu.plan_hash != on_cpu.plan_hash
    with pytest.raises(BadInput, match="cuda:0 GPU-1a"):
        evaluate(request.model_copy(update={"device": "cuda:1"}))
