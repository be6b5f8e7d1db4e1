"""What is shipped is asked as it was measured: an evaluation's settings in every text and file."""

import ast
import json
import re
import shlex
from dataclasses import replace

import pytest

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.mapping_for_inference import SNIPPET
from ft_tools.errors import BadInput
from ft_tools.evaluation.systems.earlier_answers import find_answers
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.runs.state.records import RunInfo
from ft_tools.shipping import handoff, modelfile
from ft_tools.shipping.answers_as_measured import next_steps
from ft_tools.shipping.asking import Asking, asking_of, greedy_settings, write_files
from ft_tools.shipping.comparison_text import example_question
from ft_tools.shipping.context_length import context_of
from ft_tools.shipping.evaluated_prompt import MeasuredAs, measured_as
from ft_tools.shipping.model_card import model_card
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import FormatResult
from ft_tools.shipping.trained_system import TrainedSystem

RUN = "sft-0123456789abcdef"
ADAPTER = "/runs/adapter"
SCHEMA = {"type": "object", "properties": {"team": {"enum": ["a", "b"]}}, "required": ["team"]}
SOURCE = ModelSource(name=RUN, kind="adapter", path="/base", adapter=ADAPTER, run_id=RUN)
TEMPLATE = "Mail:\n{question}\nTeam as JSON:"


@pytest.fixture
def evaluated(workspace):
    """An evaluation of two ways to ask one run; the second one is better."""
    (workspace / "schema.json").write_text(json.dumps(SCHEMA))
    write_evaluation(workspace, "evaluate-00000000000000aa", {"plain": 0.5, "best": 0.9})
    return workspace


def write_evaluation(workspace, run_id, scores):
    run = workspace / "runs" / run_id
    run.mkdir(parents=True)
    decoding = {"json_schema": "schema.json", "max_new_tokens": 48}
    asked = {"system": "Sort the mail.", "template": TEMPLATE, "decoding": decoding}
    extra = {"plain": {}, "best": asked}
    systems = [{"name": name, "model": RUN, **extra[name]} for name in scores]
    request = {"systems": systems, "dataset": "held.jsonl"}
    model = {"name": RUN, "load_from": "/base", "adapter": ADAPTER}
    hashes = {"plain": {}, "best": {"schema.json": sha256(workspace / "schema.json")}}
    plans = [
        {"name": n, "model": model, "max_new_tokens": 48, "files_sha256": hashes[n]} for n in scores
    ]
    results = [{"name": n, "scores": {"exact_match": {"value": v}}} for n, v in scores.items()]
    info = RunInfo(run_id=run_id, kind="evaluate", created_at=0.0)
    report = {"main_metric": "exact_match", "systems": results}
    files = {"request": request, "plan": {"systems": plans, "num_examples": 100}, "report": report}
    for name, value in files.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    (run / "run.json").write_text(info.model_dump_json())


def test_the_newest_evaluation_of_a_run_says_how_its_best_system_was_asked(evaluated):
    found = measured_as(SOURCE, None)
    assert (found.evaluation, found.system) == ("evaluate-00000000000000aa", "best")
    assert (found.max_new_tokens, found.json_schema) == (48, "schema.json")
    how = asking_of("an/adapter", found, None)
    assert (how.system, how.template, how.schema) == ("Sort the mail.", TEMPLATE, SCHEMA)
    assert "the system text of best in evaluate-00000000000000aa" in how.sentence()
    other = SOURCE.model_copy(update={"adapter": "/another"})
    assert measured_as(other, None) is None


@pytest.mark.parametrize("name", ["plan", "report"])
def test_a_damaged_evaluation_is_passed_over(evaluated, name):
    write_evaluation(evaluated, "evaluate-00000000000000bb", {"plain": 0.5})
    (evaluated / "runs" / "evaluate-00000000000000bb" / f"{name}.json").write_text("{")
    assert measured_as(SOURCE, None).evaluation == "evaluate-00000000000000aa"
    assert find_answers("a key") == (None, set())


def test_a_schema_that_changed_since_is_not_shipped_as_measured(evaluated):
    (evaluated / "schema.json").write_text("{}")
    assert measured_as(SOURCE, None).system == "plain"
    with pytest.raises(BadInput, match="no result for"):
        measured_as(SOURCE.model_copy(update={"adapter": "/b"}), "evaluate-00000000000000aa")


def test_a_system_text_of_the_request_goes_before_the_measured_one(evaluated):
    how = asking_of("an/adapter", measured_as(SOURCE, None), "You are a pirate.")
    assert how.system == "You are a pirate."
    assert "the system text of the request" in how.sentence()


def guide_of(how, default="", example="Hello"):
    plan = ShipPlan.model_construct(name="mail", base_model="org/base", adapter=None)
    plan = plan.model_copy(update={"base_config_sha256": ""})
    made = FormatResult(format="gguf:Q8_0", state="made", path="/o/gguf-Q8_0/x.gguf", sha256="0")
    asked = handoff.Asked(
        how, ["<|im_end|>"], "As measured.", "gguf:Q8_0", {}, 4096, default, example
    )
    guide = handoff.handoff(plan, [made], asked, "merged")
    return guide, model_card(plan, None, "mit", {}, how, ["<|im_end|>"])


def requests_in(guide):
    """Return the JSON bodies of the guide's curl commands, as a shell reads them."""
    text = guide.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip().startswith("curl")]
    return [json.loads(shlex.split(line)[-1]) for line in lines]


def test_the_guide_and_the_card_carry_everything_that_answers_depend_on(evaluated):
    how = asking_of("an/adapter", measured_as(SOURCE, None), None)
    guide, card = guide_of(how)
    openai, ollama = requests_in(guide)
    turn = "Mail:\nHello\nTeam as JSON:"
    assert ollama["format"] == SCHEMA
    assert ollama["messages"] == [{"role": "user", "content": turn}]
    assert openai["response_format"]["json_schema"]["schema"] == SCHEMA
    assert openai["messages"][0] == {"role": "system", "content": "Sort the mail."}
    assert (openai["max_tokens"], openai["temperature"]) == (48, 0)
    assert "max_new_tokens=48, do_sample=False" in guide
    for text in (guide, card):
        assert "Sort the mail." in text
        assert "`<|im_end|>`" in text
        assert json.dumps(TEMPLATE) in text
        assert "longest answer: 48 tokens" in text
        assert "temperature: 0" in text
    assert json.dumps(SCHEMA) in card
    assert "llama-server -m gguf-Q8_0/x.gguf --jinja -c 4096" in guide
    (chat,) = [shlex.split(line) for line in guide.splitlines() if "llama-cli" in line]
    # llama-cli sends no system text by itself, and enforces no schema.
    assert chat[-6:] == ["-n", "48", "-sys", "Sort the mail.", "--json-schema-file", handoff.SCHEMA]
    assert "Recommended format: gguf:Q8_0." in guide.split("|")[0]
    assert str(evaluated) not in guide + card


def test_the_guide_names_the_files_that_a_mac_needs_and_asks_a_real_question(evaluated):
    how = asking_of("an/adapter", measured_as(SOURCE, None), None)
    guide, _ = guide_of(how, example="Where's my parcel?")
    copied = "scp -r HANDOFF.md answer_schema.json gguf-Q8_0 USER@MACHINE:FOLDER/"
    assert copied in guide
    assert guide.index(copied) < guide.index("ollama create")
    openai, ollama = requests_in(guide)
    assert ollama["messages"][0]["content"] == "Mail:\nWhere's my parcel?\nTeam as JSON:"
    assert openai["messages"][-1] == ollama["messages"][0]
    assert "Ollama, LM Studio and vLLM were not run" in guide
    prepared = replace(how, columns=("mail",))
    assert "answer_schema.json format_input.py mapping.json gguf" in guide_of(prepared)[0]


def test_texts_of_several_lines_stay_in_their_code_block_and_in_their_argument(evaluated):
    how = asking_of("an/adapter", measured_as(SOURCE, None), None)
    system = "Sort the mail.\n\n# Teams\nAnswer in ``` fences.\nIt's JSON."
    how = replace(how, system=system)
    plan = ShipPlan.model_construct(name="mail", base_model="org/base", adapter=None)
    plan = plan.model_copy(update={"base_config_sha256": ""})
    made = [
        FormatResult(format="gguf:Q8_0", state="made", path="/o/gguf-Q8_0/x.gguf", sha256="0"),
        FormatResult(format="mlx:4", state="made", path="/o/mlx-4"),
    ]
    asked = handoff.Asked(how, [], "As measured.", "", {}, 4096, "", "Where is it?")
    guide = handoff.handoff(plan, made, asked, "merged")
    # A fence is closed by one of the same length, as CommonMark has it.
    blocks = re.findall(r"^(`{3,})sh\n(.*?)^\1$", guide, re.MULTILINE | re.DOTALL)
    words = {line[0]: line for _, block in blocks for line in commands_of(block)}
    assert words["llama-cli"][words["llama-cli"].index("-sys") + 1] == system
    generate = words["mlx_lm.generate"]
    assert generate[generate.index("--system-prompt") + 1] == system
    assert generate[-1] == "Mail:\nWhere is it?\nTeam as JSON:"
    headings = [line for line in guide.splitlines() if line.startswith("# ")]
    assert headings == ["# How to run mail", "# Teams", "# Teams"]


def commands_of(block):
    """Return the commands of a block, each split as a shell splits it."""
    reader = shlex.shlex(block, posix=True, punctuation_chars="\n")
    reader.whitespace, reader.whitespace_split, reader.commenters = " \t", True, ""
    words = [[]]
    for word in reader:
        words[-1:] = [words[-1], []] if word == "\n" else [[*words[-1], word]]
    return [line for line in words if line]


def test_the_question_of_a_guide_is_short_and_holds_no_personal_data(workspace):
    asked = ["x" * 400, "I am ada.king@mail.internal", "Where is it?", "And now?"]
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": "a"}]}
        for q in asked
    ]
    path = workspace / "held.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert example_question(path) == "Where is it?"
    path.write_text(json.dumps(rows[0]))
    assert example_question(path) is None


def test_the_shipped_file_is_measured_next_on_the_rows_of_the_tuned_model(evaluated):
    made = FormatResult(format="gguf:Q8_0", state="made", path="/o/gguf-Q8_0/x.gguf", sha256="0")
    run = evaluated / "runs" / "evaluate-00000000000000aa"
    request = json.loads((run / "request.json").read_text())
    (evaluated / "test.jsonl").write_text("{}")
    (run / "request.json").write_text(json.dumps(request | {"dataset": "test.jsonl"}))
    found = MeasuredAs(evaluation=run.name, system="best", max_new_tokens=48)
    (step,) = next_steps([made], "gguf:Q8_0", found)
    assert step.arguments == {"model": "/o/gguf-Q8_0/x.gguf", "dataset": "test.jsonl"}
    (evaluated / "test.jsonl").unlink()
    (step,) = next_steps([made], "gguf:Q8_0", found)
    assert "dataset" not in step.arguments


@pytest.mark.parametrize("verdict", ["met", "not_met", None])
def test_the_guide_says_what_the_tuned_model_scored_and_whether_that_met_the_target(
    evaluated, verdict
):
    path = evaluated / "runs" / "evaluate-00000000000000aa" / "report.json"
    report = json.loads(path.read_text())
    report["systems"][1] |= {"target": verdict}
    report["systems"][1]["scores"]["exact_match"] |= {"ci_low": 0.82, "ci_high": 0.95}
    path.write_text(json.dumps(report | ({"target": {"exact_match": 0.92}} if verdict else {})))
    said = measured_as(SOURCE, None).sentence()
    assert said.startswith(
        "evaluate-00000000000000aa measured exact_match 0.9 [0.82, 0.95] on 100 held-out examples"
    )
    assert ("the target (exact_match 0.92) is NOT met" in said) == (verdict == "not_met")
    assert ("is met" in said) == (verdict == "met")
    for text in guide_of(asking_of("an/adapter", measured_as(SOURCE, None), None)):
        assert said in text


def test_a_template_that_adds_its_own_system_text_is_said_to():
    how = Asking(TrainedSystem(None, 3, 0))
    guide, _ = guide_of(how, "You are a helpful AI assistant named SmolLM")
    assert "    You are a helpful AI assistant named SmolLM\n" in guide
    assert "The chat template then adds its own, as in training; so does the Modelfile" in guide
    assert how.sentence(has_default=True).endswith("none is shipped but the chat template's own")
    assert "adds its own" not in guide_of(how)[0]


def test_what_was_not_measured_is_not_in_the_guide():
    guide, card = guide_of(Asking())
    assert all(
        "format" not in body and "response_format" not in body for body in requests_in(guide)
    )
    assert "longest answer" not in guide + card


def test_a_prepared_file_ships_the_code_that_asks_about_a_row(workspace):
    mapping = ColumnMapping(prompt="{subject}: {body}", answer=["team"], system="Sort.")
    run = workspace / "runs" / RUN
    run.mkdir(parents=True)
    (workspace / "mapping.json").write_text(mapping.model_dump_json())
    (workspace / "format_input.py").write_text(SNIPPET)
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    data = workspace / "train.jsonl"
    data.write_text(json.dumps(row))
    (run / "run.json").write_text(RunInfo(run_id=RUN, kind="sft", created_at=0.0).model_dump_json())
    (run / "plan.json").write_text(json.dumps({"dataset": {"path": str(data)}}))
    how = asking_of(RUN, None, None)
    guide, _ = guide_of(how)
    assert 'messages = format_input({"subject": "...", "body": "..."})' in guide
    out = workspace / "out"
    out.mkdir()
    write_files(how, out)
    ast.parse((out / "format_input.py").read_text())
    assert json.loads((out / "mapping.json").read_text())["prompt"] == "{subject}: {body}"
    tuned = workspace / "runs" / "dpo-0123456789abcdef"
    tuned.mkdir()
    info = RunInfo(run_id=tuned.name, kind="dpo", created_at=0.0, lineage={"parent_run": RUN})
    (tuned / "run.json").write_text(info.model_dump_json())
    assert asking_of(tuned.name, None, None).columns == ("subject", "body")


def test_the_generation_config_and_the_modelfile_stop_and_decode_as_measured():
    base = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "pad_token_id": 0}
    made = greedy_settings(base, [2, 7], None)
    assert made == {"pad_token_id": 0, "do_sample": False, "eos_token_id": [2, 7]}
    limits = {"num_ctx": 4096, "num_predict": 48}
    lines = modelfile.modelfile("m.gguf", None, ["</s>"], "Sort.", limits).splitlines()
    assert "PARAMETER num_ctx 4096" in lines
    assert "PARAMETER num_predict 48" in lines
    assert "PARAMETER temperature 0" in lines


def test_the_context_holds_training_and_measuring_and_no_more_than_the_model(workspace):
    run = workspace / "runs" / RUN
    run.mkdir(parents=True)
    (run / "run.json").write_text(RunInfo(run_id=RUN, kind="sft", created_at=0.0).model_dump_json())
    (run / "plan.json").write_text(json.dumps({"training": {"max_length": 5000}}))
    assert context_of(RUN, 100, None) == 8192
    assert context_of(RUN, 100, 6000) == 6000
    assert context_of("a/folder", 100, 131072) == 2048
    assert context_of("a/folder", 3000, 131072) == 4096
