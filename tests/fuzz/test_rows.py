"""P13: rows of real shapes, damaged inside, give a report, a plan or a clear error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tokenizers import Tokenizer, models, pre_tokenizers

from ft_tools import workspace as workspace_module
from ft_tools.data.judge.readiness import is_undecided
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadData, FineTuningError
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.formats.training_rows import survey
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.fuzz.rows import KEYS, files, sound_files
from tests.protocol import calls

ACCEPTED = {
    "accept_findings": ["no_quality_filter", "undecided_columns"],
    "accept_reason": "a fuzzer",
}
PLAIN_KEYS = st.sampled_from([key for key in KEYS if key and "{" not in key and "}" not in key])
TURNS = st.fixed_dictionaries(
    {"conversation": PLAIN_KEYS, "role": PLAIN_KEYS, "text": PLAIN_KEYS},
    optional={
        "order": PLAIN_KEYS,
        "roles": st.just({"*": "user", "gpt": "assistant"}),
        "user": PLAIN_KEYS,
        "starts_with": st.just("user"),
    },
)
MARKS = st.fixed_dictionaries(
    {"column": PLAIN_KEYS, "good": st.just([">=1"]), "bad": st.just(["<1"])},
    optional={"neither": st.just(["a"])},
)
MAPPINGS = st.none() | st.fixed_dictionaries(
    {"ignore": st.sampled_from([["*"], []])},
    optional={
        "keep": st.dictionaries(PLAIN_KEYS, st.sampled_from([["a"], [">0"], [""]]), max_size=2),
        "marks": MARKS,
        "turns": TURNS,
        "group_by": st.lists(PLAIN_KEYS, max_size=1),
        "time_column": PLAIN_KEYS,
        "mask": st.lists(PLAIN_KEYS, max_size=1),
    },
) | st.builds(
    lambda asked, answers, more: {"prompt": f"{{{asked}}}", "ignore": ["*"], "answer": answers}
    | more,
    PLAIN_KEYS,
    st.lists(PLAIN_KEYS, min_size=1, max_size=2) | st.dictionaries(st.just("k"), PLAIN_KEYS),
    st.sampled_from([
        {},
        {"corrected": {"column": "text", "when": {"id": "!="}}},
        {"answer_schema": {"properties": {"k": {"type": "boolean"}}}, "replace": {"^a$": "true"}},
    ]),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give a workspace with two models: `model` of weights alone, `words` with a tokenizer."""
    path = tmp_path_factory.mktemp("rows")
    calls.prepare(path)
    (path / "words").mkdir()
    for file in (path / "model").iterdir():
        (path / "words" / file.name).write_bytes(file.read_bytes())
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<end>": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<end>"])
    tokenizer.save(str(path / "words" / "tokenizer.json"))
    config = {"chat_template": calls.TEMPLATE, "eos_token": "<end>"}
    (path / "words" / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workspace_module.VARIABLE, str(path))
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield path


def write(folder, rows, name="d.jsonl"):
    text = json.dumps(rows) if name.endswith(".json") else "".join(map(line, rows))
    (folder / name).write_text(text, encoding="utf-8")
    return name


def line(row):
    return json.dumps(row) + "\n"


GOOD = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
# What random exploration found; each ended a plan with a traceback.
FOUND = [
    {"messages": [{"role": ["user"], "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"completion": "In Oslo.", "text": "Where is parcel 4?"},
]


@pytest.mark.parametrize("row", FOUND, ids=range(len(FOUND)))
def test_what_was_found_is_refused_with_its_line(folder, row):
    path = write(folder, [GOOD, row])
    with pytest.raises(BadData, match=f"{path}:2"):
        launch_sft(SftRequest(model="model", dataset=path))
    with pytest.raises(BadData, match=f"{path}:2"):
        evaluate(EvaluateRequest(model="model", baseline="model", dataset=path))


def test_a_field_of_another_format_may_hold_anything(folder):
    """Random exploration found it: such a plan ended with a traceback."""
    side = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    other = [side[0], {"role": "assistant", "content": "c"}]
    row = {"chosen": side, "rejected": other, "messages": ["Where?", {"content": 3}]}
    path = write(folder, [row] * 2)
    assert launch_dpo(DpoRequest(model="model", dataset=path, **ACCEPTED)).plan_hash


def test_a_pair_of_answers_without_a_question_is_refused(folder):
    """Random exploration found it: the chat template ended the plan with a traceback."""
    answers = [[{"role": "assistant", "content": text}] for text in ("In Oslo.", "No idea.")]
    path = write(folder, [dict(zip(("chosen", "rejected"), answers, strict=True))])
    with pytest.raises(BadData, match=f"{path}:1"):
        launch_dpo(DpoRequest(model="model", dataset=path, **ACCEPTED))


@given(
    files(),
    MAPPINGS,
    st.sampled_from(["d.jsonl", "d.json"]),
    st.sampled_from(["auto", "sft", "dpo"]),
    st.sampled_from(["prompt", "response", "prompt_and_response"]),
)
def test_an_audit_of_damaged_rows_is_a_report_or_a_clear_error(
    folder, rows, mapping, name, task, deduplicate_on
):
    path = write(folder, rows, name)
    with contextlib.suppress(FineTuningError, ValidationError):
        request = AuditRequest(path=path, mapping=mapping, task=task, deduplicate_on=deduplicate_on)
        report = audit_dataset(request)
        assert (mapping and mapping.get("turns")) or report.num_examples == len(rows)


@given(
    files() | sound_files(),
    files() | sound_files(),
    st.sampled_from(["remove", "mask", "keep"]),
)
def test_damaged_rows_are_parted_without_loss_and_what_is_kept_is_read_again(
    folder, rows, held_out, personal_data
):
    number = write.number = getattr(write, "number", 0) + 1
    request = AuditRequest(
        path=write(folder, rows),
        validation_path=write(folder, held_out, "v.jsonl"),
        output_dir=f"out{number}",
        max_removed_fraction=1.0,
        personal_data=personal_data,
    )
    with contextlib.suppress(FineTuningError):
        report = audit_dataset(request)
        if report.outputs is None:
            # A person has to say first what a column of verdicts means.
            assert is_undecided(report.reasons)
            return
        out = folder / f"out{number}"
        num_written = sum(part.read_bytes().count(b"\n") for part in out.glob("*.jsonl"))
        assert num_written == report.num_examples + len(held_out)
        if report.task in {"sft", "dpo"} and report.outputs.num_train:
            facts = survey(out / "train.jsonl", report.task)
            assert facts.num_examples == report.outputs.num_train


@given(
    files() | sound_files(),
    MAPPINGS,
    st.sampled_from(["d.jsonl", "d.json"]),
    st.booleans(),
)
def test_a_mapping_of_damaged_rows_is_shown_and_written_or_refused(
    folder, rows, mapping, name, writes
):
    path = write(folder, rows, name)
    with contextlib.suppress(FineTuningError, ValidationError):
        request = PrepareRequest(path=path, mapping=mapping)
        proposed = prepare_dataset(request)
        if writes and proposed.mapping_hash:
            number = write.number = getattr(write, "number", 0) + 1
            confirmed = {"confirm": proposed.mapping_hash, "output_dir": f"out{number}"}
            assert prepare_dataset(request.model_copy(update=confirmed))


@given(files(("sft",)) | sound_files(("trained",)), st.booleans(), st.booleans())
def test_a_supervised_plan_on_damaged_rows_is_a_plan_or_a_clear_error(
    folder, rows, accepts, validates
):
    path = write(folder, rows)
    more = ACCEPTED if accepts else {}
    validation = write(folder, rows[:1], "v.jsonl") if validates else None
    with contextlib.suppress(FineTuningError):
        assert launch_sft(
            SftRequest(model="model", dataset=path, validation=validation, **more)
        ).plan_hash


@given(files(("pairs",)) | sound_files(("preferred",)), st.booleans())
def test_a_preference_plan_on_damaged_rows_is_a_plan_or_a_clear_error(folder, rows, accepts):
    more = ACCEPTED if accepts else {}
    with contextlib.suppress(FineTuningError):
        assert launch_dpo(DpoRequest(model="model", dataset=write(folder, rows), **more)).plan_hash


@given(
    files(("sft",)) | sound_files(("trained",)),
    st.sampled_from([["auto"], ["rouge", "json_valid"], ["classification"], ["tool_call"]]),
    st.none() | st.sampled_from(["source", "id", "tools", "messages"]),
)
def test_an_evaluation_plan_on_damaged_rows_is_a_plan_or_a_clear_error(
    folder, rows, metrics, cluster_field
):
    request = EvaluateRequest(
        model="model",
        baseline="model",
        dataset=write(folder, rows),
        metrics=metrics,
        cluster_field=cluster_field,
        general_ability=False,
    )
    with contextlib.suppress(FineTuningError):
        assert evaluate(request).plan_hash
