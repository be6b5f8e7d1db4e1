"""What is shipped is asked as it was trained and measured: in every text and file beside it."""

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
from ft_tools.shipping.asking import (
    SCHEMA,
    Asking,
    MeasuredAs,
    TrainedSystem,
    asking_of,
    context_of,
    greedy_settings,
    measured_as,
    trained_system,
    write_files,
)
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.recommendation import next_steps
from ft_tools.shipping.report import FormatResult

RUN, EVALUATION = "sft-0123456789abcdef", "evaluate-00000000000000aa"
ADAPTER = "/runs/adapter"
ANSWERS = {"type": "object", "properties": {"team": {"enum": ["a", "b"]}}, "required": ["team"]}
SOURCE = ModelSource(name=RUN, kind="adapter", path="/base", adapter=ADAPTER, run_id=RUN)
TEMPLATE = "Mail:\n{question}\nTeam as JSON:"
PLAN = ShipPlan.model_construct(
    name="mail", base_model="org/base", adapter=None, base_config_sha256=""
)


@pytest.fixture
def evaluated(workspace):
    """An evaluation of two ways to ask one run; the second one is better."""
    (workspace / "schema.json").write_text(json.dumps(ANSWERS))
    write_evaluation(workspace, EVALUATION, {"plain": 0.5, "best": 0.9})
    return workspace


def make_run(workspace, run_id=RUN, parent=None, **plan):
    run = workspace / "runs" / run_id
    run.mkdir(parents=True)
    kind, lineage = run_id.partition("-")[0], {"parent_run": parent} if parent else {}
    info = RunInfo(run_id=run_id, kind=kind, created_at=0.0, lineage=lineage)
    (run / "run.json").write_text(info.model_dump_json())
    (run / "plan.json").write_text(json.dumps(plan))
    return run


def write_evaluation(workspace, run_id, scores):
    decoding = {"json_schema": "schema.json", "max_new_tokens": 48}
    asked = {"system": "Sort the mail.", "template": TEMPLATE, "decoding": decoding}
    extra = {"plain": {}, "best": asked}
    systems = [{"name": name, "model": RUN, **extra[name]} for name in scores]
    model = {"name": RUN, "load_from": "/base", "adapter": ADAPTER}
    hashes = {"plain": {}, "best": {"schema.json": sha256(workspace / "schema.json")}}
    plans = [
        {"name": n, "model": model, "max_new_tokens": 48, "files_sha256": hashes[n]} for n in scores
    ]
    results = [{"name": n, "scores": {"exact_match": {"value": v}}} for n, v in scores.items()]
    run = make_run(workspace, run_id, systems=plans, num_examples=100)
    request = {"systems": systems, "dataset": "held.jsonl"}
    (run / "request.json").write_text(json.dumps(request))
    report = {"main_metric": "exact_match", "systems": results}
    (run / "report.json").write_text(json.dumps(report))


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


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
    assert trained_system(RUN) == TrainedSystem("Sort.", 4, 3, 1)
    write_talks(data, [None, None, "Sort."])
    assert trained_system(RUN) == TrainedSystem(None, 3, 1, 1)
    # Only unchanged training data of a run says what it was.
    change(run / "plan.json", dataset={"path": str(data), "sha256": "0"})
    assert trained_system(RUN) == trained_system("some/folder") == TrainedSystem()


def test_the_newest_evaluation_of_a_run_says_how_its_best_system_was_asked(evaluated):
    found = measured_as(SOURCE, None)
    assert (found.evaluation, found.system) == (EVALUATION, "best")
    assert (found.max_new_tokens, found.json_schema) == (48, "schema.json")
    assert (found.value, found.num_examples) == (0.9, 100)
    how = asking_of("an/adapter", found, None)
    assert (how.system, how.template, how.schema) == ("Sort the mail.", TEMPLATE, ANSWERS)
    assert asking_of("an/adapter", found, "You are a pirate.").system == "You are a pirate."
    assert measured_as(SOURCE.model_copy(update={"adapter": "/another"}), None) is None


@pytest.mark.parametrize("name", ["plan", "report"])
def test_a_damaged_evaluation_is_passed_over(evaluated, name):
    write_evaluation(evaluated, "evaluate-00000000000000bb", {"plain": 0.5})
    (evaluated / "runs" / "evaluate-00000000000000bb" / f"{name}.json").write_text("{")
    assert measured_as(SOURCE, None).evaluation == EVALUATION
    assert find_answers("a key") == (None, set())


def test_a_schema_that_changed_since_is_not_shipped_as_measured(evaluated):
    (evaluated / "schema.json").write_text("{}")
    assert measured_as(SOURCE, None).system == "plain"
    with pytest.raises(BadInput, match=EVALUATION):
        measured_as(SOURCE.model_copy(update={"adapter": "/b"}), EVALUATION)


def made(name="gguf:Q8_0", path="/o/gguf-Q8_0/x.gguf"):
    return FormatResult(format=name, state="made", path=path, sha256="ab" * 32)


def guide_of(how, *results):
    said, proofs = ("As measured.", "gguf:Q8_0"), {"Ollama": "8 of 8"}
    guide = handoff.handoff(PLAN, results or [made()], how, said, proofs, "merged")
    return guide, handoff.model_card(PLAN, None, "mit", {}, how)


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


def test_what_was_not_measured_is_not_in_the_guide():
    guide, card = guide_of(Asking())
    for body in requests_in(guide):
        assert not body.keys() & {"format", "response_format", "max_tokens"}
    assert "longest answer" not in guide + card
    adds = "The chat template then adds its own"
    assert adds not in guide
    own = Asking(TrainedSystem(None, 3, 0), default_system="You are named SmolLM")
    assert adds in guide_of(own)[0]
    assert "    You are named SmolLM\n" in guide_of(own)[0]


@pytest.mark.parametrize(
    ("name", "line", "needs"),
    [
        ("gptq:4", "vllm serve ./gptq-4 --override", "compressed-tensors"),
        ("fp8", "vllm serve ./fp8 --override", "compressed-tensors"),
        ("bnb:nf4", "vllm serve ./bnb-nf4 --quantization bitsandbytes --override", "bitsandbytes"),
    ],
)
def test_the_guide_has_the_line_that_serves_each_format(name, line, needs):
    failed = FormatResult(format="mlx:4bit", state="failed", error="no such kernel")
    guide, _ = guide_of(Asking(), made(name, f"/o/{name.replace(':', '-')}"), failed)
    assert line in guide
    assert f"pip install accelerate {needs}" in guide
    assert "transformers (pip install accelerate):" in guide
    assert "mlx:4bit: no such kernel" in guide
    assert "vllm serve ./merged" in guide


def test_texts_of_several_lines_stay_in_their_code_block_and_in_their_argument(how):
    system = "Sort the mail.\n\n# Teams\nAnswer in ``` fences.\nIt's JSON."
    guide, _ = guide_of(replace(how, system=system), made(), made("mlx:4bit", "/o/mlx-4bit"))
    # A fence is closed by one of the same length, as CommonMark has it.
    blocks = re.findall(r"^(`{3,})sh\n(.*?)^\1$", guide, re.MULTILINE | re.DOTALL)
    words = {line[0]: line for _, block in blocks for line in commands_of(block)}
    assert words["llama-cli"][words["llama-cli"].index("-sys") + 1] == system
    generate = words["mlx_lm.generate"]
    assert generate[generate.index("--system-prompt") + 1] == system
    assert generate[-1] == "Mail:\nHello\nTeam as JSON:"
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


def test_the_shipped_file_is_measured_next_on_the_rows_of_the_tuned_model(evaluated):
    (evaluated / "test.jsonl").write_text("{}")
    change(evaluated / "runs" / EVALUATION / "request.json", dataset="test.jsonl")
    found = MeasuredAs(evaluation=EVALUATION, system="best", max_new_tokens=48)
    (step,) = next_steps([made()], "gguf:Q8_0", found)
    assert step.arguments == {"model": "/o/gguf-Q8_0/x.gguf", "dataset": "test.jsonl"}
    (evaluated / "test.jsonl").unlink()
    (step,) = next_steps([made()], "gguf:Q8_0", found)
    assert "dataset" not in step.arguments


@pytest.mark.parametrize("verdict", ["met", "not_met", None])
def test_the_guide_says_what_the_tuned_model_scored_and_whether_that_met_the_target(
    evaluated, verdict
):
    path = evaluated / "runs" / EVALUATION / "report.json"
    report = json.loads(path.read_text())
    report["systems"][1] |= {"target": verdict}
    report["systems"][1]["scores"]["exact_match"] |= {"ci_low": 0.82, "ci_high": 0.95}
    path.write_text(json.dumps(report | ({"target": {"exact_match": 0.92}} if verdict else {})))
    found = measured_as(SOURCE, None)
    said = found.sentence()
    assert "exact_match 0.9 [0.82, 0.95] on 100" in said
    assert ("NOT met" in said) == (verdict == "not_met")
    for text in guide_of(asking_of("an/adapter", found, None)):
        assert said in text


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


def test_the_context_holds_training_and_measuring_and_no_more_than_the_model(workspace):
    make_run(workspace, training={"max_length": 5000})
    assert context_of(RUN, 100, None) == 8192
    assert context_of(RUN, 100, 6000) == 6000
    assert context_of("a/folder", 100, 131072) == 2048
    assert context_of("a/folder", 3000, 131072) == 4096
