"""What is shipped is asked as it was trained and measured: in every text and file beside it."""

import ast
import json
import shlex
from dataclasses import replace

import pytest

from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.mapping_for_inference import SNIPPET
from ft_tools.errors import BadInput
from ft_tools.models.resolve import ModelSource
from ft_tools.publish import sha256
from ft_tools.shipping import handoff, modelfile
from ft_tools.shipping.asking import (
    SCHEMA,
    asking_of,
    context_of,
    greedy_settings,
    measured_as,
    trained_systems,
    write_files,
)
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.report import FormatResult, ShipReport
from tests.made_runs import made_run

RUN, EVALUATION = "sft-0123456789abcdef", "evaluate-00000000000000aa"
ADAPTER = "/runs/adapter"
ANSWERS = {"type": "object", "properties": {"team": {"enum": ["a", "b"]}}, "required": ["team"]}
SOURCE = ModelSource(name=RUN, kind="adapter", path="/base", adapter=ADAPTER, run_id=RUN)
TEMPLATE = "Mail:\n{question}\nTeam as JSON:"
PLAN = ShipPlan.model_construct(
    name="mail", base_model="org/base", adapter=None, base_config_sha256=""
)


def make_run(workspace, run_id=RUN, parent=None, **plan):
    lineage = {"parent_run": parent} if parent else {}
    return made_run(run_id, files={"plan": plan}, lineage=lineage)


@pytest.fixture
def evaluated(workspace):
    """An evaluation of two ways to ask one run; the second one is better."""
    (workspace / "schema.json").write_text(json.dumps(ANSWERS))
    decoding = {"json_schema": "schema.json", "max_new_tokens": 48}
    asked = {"system": "Sort the mail.", "template": TEMPLATE, "decoding": decoding}
    systems = [{"name": "plain", "model": RUN}, {"name": "best", "model": RUN, **asked}]
    model = {"name": RUN, "load_from": "/base", "adapter": ADAPTER}
    hashes = {"plain": {}, "best": {"schema.json": sha256(workspace / "schema.json")}}
    plans = [
        {"name": name, "model": model, "max_new_tokens": 48, "files_sha256": files}
        for name, files in hashes.items()
    ]
    scores = {"plain": 0.5, "best": 0.9}
    results = [{"name": n, "scores": {"exact_match": {"value": v}}} for n, v in scores.items()]
    run = make_run(workspace, EVALUATION, systems=plans, num_examples=100)
    report = {"main_metric": "exact_match", "systems": results}
    (run / "request.json").write_text(json.dumps({"systems": systems, "dataset": "held.jsonl"}))
    (run / "report.json").write_text(json.dumps(report))
    return workspace


def write_talks(path, systems):
    rows = []
    for system in systems:
        own = [{"role": "system", "content": system}] if system else []
        talk = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
        rows.append(json.dumps({"messages": [*own, *talk]}) + "\n")
    path.write_text("".join(rows))
    return path


def test_the_system_text_that_most_training_examples_have_is_shipped(workspace):
    data = write_talks(workspace / "t.jsonl", ["Sort.", "Sort.", "Other.", "Sort."])
    run = make_run(workspace, dataset={"path": str(data)})
    assert trained_systems(RUN) == {"Sort.": 3, "Other.": 1}
    assert asking_of(RUN, None, None).system == "Sort."
    write_talks(data, [None, None, "Sort."])
    assert trained_systems(RUN) == {None: 2, "Sort.": 1}
    assert asking_of(RUN, None, None).system is None
    # Only unchanged training data of a run says what it was.
    (run / "plan.json").write_text(json.dumps({"dataset": {"path": str(data), "sha256": "0"}}))
    assert trained_systems(RUN) == trained_systems("some/folder") == {}


def test_the_newest_evaluation_of_a_run_says_how_its_best_system_was_asked(evaluated):
    found = measured_as(SOURCE, None)
    assert (found.evaluation, found.system) == (EVALUATION, "best")
    assert (found.max_new_tokens, found.json_schema) == (48, "schema.json")
    assert "0.9" in found.score
    how = asking_of("an/adapter", found, None)
    assert (how.system, how.template, how.schema) == ("Sort the mail.", TEMPLATE, ANSWERS)
    assert asking_of("an/adapter", found, "You are a pirate.").system == "You are a pirate."
    assert measured_as(SOURCE.model_copy(update={"adapter": "/another"}), None) is None


def test_a_schema_that_changed_since_is_not_shipped_as_measured(evaluated):
    (evaluated / "schema.json").write_text("{}")
    assert measured_as(SOURCE, None).system == "plain"
    with pytest.raises(BadInput, match=EVALUATION):
        measured_as(SOURCE.model_copy(update={"adapter": "/b"}), EVALUATION)


def made(name="gguf:Q8_0", path="/o/gguf-Q8_0/x.gguf"):
    return FormatResult(format=name, state="made", path=path, sha256="ab" * 32)


def guide_of(how, *results):
    report = ShipReport.model_construct(
        name="mail", recommended_format="gguf:Q8_0", formats=list(results) or [made()],
        answers_as_measured="As measured.", prompt_proof={"Ollama": "8 of 8"}, merged_path="merged",
    )  # fmt: skip
    return handoff.handoff(report, how), handoff.model_card(PLAN, None, "mit", {}, how)


@pytest.fixture
def how(evaluated):
    found = asking_of("an/adapter", measured_as(SOURCE, None), None)
    return replace(found, stops=("<|im_end|>",), num_ctx=4096)


def requests_in(guide):
    """Return the JSON bodies of the guide's curl commands, as a shell reads them."""
    text = guide.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip().startswith("curl")]
    return [json.loads(shlex.split(line)[-1]) for line in lines]


def test_the_guide_and_the_card_carry_everything_that_answers_depend_on(how, workspace):
    guide, card = guide_of(how)
    openai, ollama = requests_in(guide)
    turn = "Mail:\nHello\nTeam as JSON:"
    assert ollama["format"] == ANSWERS
    # The Modelfile adds the system text, and nothing else does.
    assert ollama["messages"] == [{"role": "user", "content": turn}]
    assert openai["response_format"]["json_schema"]["schema"] == ANSWERS
    assert openai["messages"][0] == {"role": "system", "content": "Sort the mail."}
    assert (openai["max_tokens"], openai["temperature"]) == (48, 0)
    assert "max_new_tokens=48, do_sample=False" in guide
    for text in (guide, card):
        assert "    Sort the mail.\n" in text
        assert all(one in text for one in ("`<|im_end|>`", json.dumps(TEMPLATE), "48 tokens"))
        assert str(workspace) not in text
    assert json.dumps(ANSWERS) in card
    assert "llama-server -m gguf-Q8_0/x.gguf --jinja -c 4096" in guide
    (chat,) = [shlex.split(line) for line in guide.splitlines() if "llama-cli" in line]
    # llama-cli sends no system text by itself, and enforces no schema.
    assert chat[-6:] == ["-n", "48", "-sys", "Sort the mail.", "--json-schema-file", SCHEMA]
    assert "lms import --copy gguf-Q8_0/x.gguf" in guide
    assert "ollama create mail-q8_0 -f gguf-Q8_0/Modelfile" in guide
    copied = "scp -r HANDOFF.md answer_schema.json gguf-Q8_0 USER@MACHINE:FOLDER/"
    assert guide.index(copied) < guide.index("ollama create")
    prepared = replace(how, columns=("mail",))
    assert "answer_schema.json format_input.py mapping.json gguf" in guide_of(prepared)[0]


def test_a_prepared_file_ships_the_code_that_asks_about_a_row(workspace):
    mapping = ColumnMapping(prompt="{subject}: {body}", answer=["team"], system="Sort.")
    (workspace / "mapping.json").write_text(mapping.model_dump_json())
    (workspace / "format_input.py").write_text(SNIPPET)
    make_run(workspace, dataset={"path": str(write_talks(workspace / "train.jsonl", [None]))})
    how = asking_of(RUN, None, None)
    assert 'messages = format_input({"subject": "...", "body": "..."})' in guide_of(how)[0]
    out = workspace / "out"
    out.mkdir()
    write_files(how, out)
    ast.parse((out / "format_input.py").read_text())
    assert json.loads((out / "mapping.json").read_text())["prompt"] == "{subject}: {body}"
    make_run(workspace, "dpo-0123456789abcdef", parent=RUN)
    assert asking_of("dpo-0123456789abcdef", None, None).columns == ("subject", "body")


def test_the_generation_config_and_the_modelfile_stop_and_decode_as_measured(how):
    base = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "pad_token_id": 0}
    settings = greedy_settings(base, [2, 7], None)
    assert settings == {"pad_token_id": 0, "do_sample": False, "eos_token_id": [2, 7]}
    lines = modelfile.modelfile("m.gguf", None, ["</s>"], "Sort.", how.limits).splitlines()
    wanted = {"num_ctx 4096", "num_predict 48", "temperature 0", 'stop "</s>"'}
    assert {line.removeprefix("PARAMETER ") for line in lines} >= wanted


@pytest.mark.parametrize(
    ("source", "longest", "model_context", "context"),
    [(RUN, 100, None, 8192), (RUN, 100, 6000, 6000), ("a/folder", 3000, 131072, 4096)],
)
def test_the_context_holds_training_and_measuring_and_no_more_than_the_model(
    workspace, source, longest, model_context, context
):
    make_run(workspace, training={"max_length": 5000})
    assert context_of(source, longest, model_context) == context
