"""What merge_and_quantize decides, plans and refuses, from files' headers alone."""

import io
import json
import pickle
import struct
import tarfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from ft_tools import publish
from ft_tools.errors import (
    BadData,
    BadInput,
    Missing,
    NotFound,
    OutputExists,
    PlanChanged,
    Refused,
)
from ft_tools.models import safetensors_headers
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.state.records import Status
from ft_tools.shipping import comparison_text, converter_script, formats, quality, tool
from ft_tools.shipping import llm_compressor_environment as environment
from ft_tools.shipping.plan import ShipPlan, plan_of
from ft_tools.shipping.quality import PositionScores, summarise, verdict_of
from ft_tools.shipping.report import MergeCheck
from ft_tools.shipping.request import ShipRequest
from tests.made_runs import made_run

HIDDEN, RANK = 64, 4
MODULE = "model.layers.0.self_attn.q_proj"
RUN = "sft-0123456789abcdef"


def write_safetensors(path, shapes):
    save_file({name: np.zeros(shape, np.float16) for name, shape in shapes.items()}, path)


def make_base(folder, *, hidden=HIDDEN, config=None):
    folder.mkdir()
    about = {"model_type": "llama", "tie_word_embeddings": True} | (config or {})
    (folder / "config.json").write_text(json.dumps(about))
    shapes = {"model.embed_tokens.weight": (128, hidden), f"{MODULE}.weight": (hidden, hidden)}
    write_safetensors(folder / "model.safetensors", shapes)


def make_adapter(folder, *, hidden=HIDDEN, base="base", **config):
    folder.mkdir(parents=True)
    about = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    shapes = {
        f"base_model.model.{MODULE}.lora_A.weight": (RANK, hidden),
        f"base_model.model.{MODULE}.lora_B.weight": (hidden, RANK),
    }
    write_safetensors(folder / "adapter_model.safetensors", shapes)


def make_run(workspace, **files):
    """Make a finished run with an adapter; `files` are JSON files of it."""
    run = workspace / "runs" / RUN
    make_adapter(run / "artifacts" / "adapter")
    made_run(RUN, Status(state="succeeded"), files=files, lineage={"base_model": "base"})


@pytest.fixture
def pair(workspace):
    make_base(workspace / "base")
    make_adapter(workspace / "adapter")
    (workspace / "rows.jsonl").write_text(json.dumps({"text": "Hello"}))
    return workspace


def ask(**arguments):
    return tool.merge_and_quantize(ShipRequest(**{"source": "adapter"} | arguments))


def ids_of(launch):
    return [warning.partition(":")[0] for warning in launch.warnings]


def test_without_confirm_the_plan_is_returned_and_nothing_is_written(pair):
    before = sorted(pair.rglob("*"))
    launch = ask(formats=["safetensors", "mlx:8bit"])
    assert (launch.started, launch.run_id) == (False, None)
    assert launch.plan["adapter"]["route"] == "shards"
    assert launch.plan["num_params"] == 128 * HIDDEN + HIDDEN * HIDDEN
    assert 0 < launch.plan["duration"]["low_seconds"] <= launch.plan["duration"]["high_seconds"]
    assert launch.next_steps[0].arguments["confirm"] == launch.plan_hash
    assert sorted(pair.rglob("*")) == before
    assert ask(formats=["safetensors", "mlx:8bit"]).plan_hash == launch.plan_hash
    assert ask(formats=["gguf:Q8_0"]).plan_hash != launch.plan_hash


def test_a_run_that_an_earlier_version_planned_can_still_be_resumed(pair):
    rows = [formats.find("gguf:Q4_K_M")]
    plan = plan_of(ShipRequest(source="adapter"), rows).model_dump(mode="json")
    old = {"published_kl": None, "expected": "unknown", "source": ""}
    plan["formats"] = [row | old for row in plan["formats"]]
    plan |= {"disks": [{"folder": "/", "num_bytes": 1, "uses": ["work"]}]}
    plan["measured_as"] = {"evaluation": "e", "system": "s", "max_new_tokens": 9, "metric": "f1"}
    make_run(pair, plan=plan, request={})
    assert Session(pair / "runs" / RUN).plan(ShipPlan).formats[0].format == "gguf:Q4_K_M"


def test_a_plan_repeats_what_the_report_of_its_run_says_is_wrong(pair):
    cut = {"signal": "rows_cut", "observed": "28 of 48 are cut", "advice": "raise max_length"}
    other = {"signal": "first_loss", "observed": "first loss 9", "advice": "look"}
    found = {"id": "memorising", "observed": "validation loss rose", "advice": "fewer epochs"}
    make_run(pair, report={"health": [cut, other], "diagnosis": [found]})
    said = [one for one in ask(source=RUN).warnings if one.startswith("training_finding")]
    assert [("rose" in one, "28 of 48" in one) for one in said] == [(True, False), (False, True)]


def test_a_plan_for_an_adapter_that_changed_since_is_refused(pair):
    agreed = ask(formats=["safetensors"]).plan_hash
    with (pair / "adapter" / "adapter_model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    with pytest.raises(PlanChanged):
        ask(formats=["safetensors"], confirm=agreed)
    assert not (pair / "runs").exists()


def test_a_format_that_needs_text_is_refused_without_it(pair):
    name = "awq:4"
    with pytest.raises(BadInput, match="`calibration`"):
        ask(formats=["safetensors", name])
    assert ask(formats=[name], calibration="rows.jsonl").plan["calibration"]
    for arguments in (
        {"formats": [name], "held_out": "rows.jsonl"},
        # An argument that would do nothing.
        {"formats": ["gguf:Q4_K_M"]},
    ):
        with pytest.raises(BadInput):
            ask(calibration="rows.jsonl", **arguments)
    # A run brings its own training file.
    make_run(pair, plan={"dataset": {"path": str(pair / "rows.jsonl")}})
    assert ask(source=RUN, formats=[name]).plan["calibration"] == str(pair / "rows.jsonl")


def test_an_environment_is_planned_and_one_that_a_killed_build_left_is_none(pair, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(pair / "cache"))
    without, launch = ask(formats=["safetensors"]), ask(formats=["safetensors", "fp8"])
    assert launch.plan["disk_bytes"] - without.plan["disk_bytes"] > environment.missing_bytes() > 0
    assert "environment_built" in ids_of(launch)
    environment.python().parent.mkdir(parents=True)
    environment.python().touch()
    assert not environment.is_built()
    (environment.folder() / environment.MARKER).write_text("{}")
    assert (environment.is_built(), environment.missing_bytes()) == (True, 0)
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(pair / "other"))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Missing, match=r"\(venv ended with 1\).*gguf:Q4_K_M"):
        environment.build(pair / "log", lambda: None)
    assert not environment.is_built()


def test_calibration_is_spread_over_the_file_and_never_what_is_measured(workspace):
    lines = [json.dumps({"text": f"number {i}"}) for i in range(1000)]
    train, held_out = workspace / "train.jsonl", workspace / "held_out.jsonl"
    train.write_text("\n".join(lines))
    held_out.write_text("\n".join(lines[:500]))
    found = comparison_text.calibration_examples(train, held_out)
    numbers = [int(row["text"].split()[1]) for row in found]
    assert len(set(numbers)) == comparison_text.NUM_CALIBRATION
    assert min(numbers) >= 500
    # The mean of 128 of 500..999 has a standard deviation of 11.
    assert abs(sum(numbers) / len(numbers) - 750) < 60
    assert found == comparison_text.calibration_examples(train, held_out)


def test_a_base_that_is_not_the_recorded_one_is_refused_by_its_hash(pair):
    digest = publish.sha256(pair / "base" / "config.json")
    make_run(pair, plan={"model": {"config_sha256": digest}})
    assert ask(source=RUN, formats=["safetensors"]).plan["base_model"] == "base"
    with (pair / "base" / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(BadInput, match=f"base that run {RUN} was trained on"):
        ask(source=RUN, formats=["safetensors"])
    # A base that the caller names is the caller's to answer for.
    assert ask(source=RUN, formats=["safetensors"], base_model="base")


@pytest.mark.parametrize("recorded", ["/home/another/models/base", "gone/away/model", None])
def test_a_named_base_does_for_one_that_is_elsewhere_or_not_recorded(pair, recorded):
    make_adapter(pair / "orphan", base=recorded)
    with pytest.raises((NotFound, BadInput), match=r"adapter orphan .*`base_model`"):
        ask(source="orphan", formats=["safetensors"])
    named = ask(source="orphan", formats=["safetensors"], base_model="base")
    assert named.plan["load_from"] == str(pair / "base")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"r": "x"}, BadInput),
        ({"r": -1}, BadInput),
        ({"lora_alpha": [8]}, BadInput),
        ({"peft_type": "LOHA"}, BadInput),
        ({"init_lora_weights": "pissa_niter_4"}, Refused),
        ({"hidden": 2 * HIDDEN}, BadInput),
        *((text, BadInput) for text in ("", "{", "[]")),
    ],
)
def test_an_adapter_that_cannot_be_put_on_its_base_is_refused(pair, config, error):
    make_adapter(pair / "strange", **(config if isinstance(config, dict) else {}))
    if isinstance(config, str):
        (pair / "strange" / "adapter_config.json").write_text(config)
    with pytest.raises(error, match="strange"):
        ask(source="strange")


BASE, WEIGHTS = "base/model.safetensors", "adapter/adapter_model.safetensors"
INDEX, PICKLE = f"base/{safetensors_headers.INDEX}", pickle.dumps([1])
HEADER = json.dumps({"w": {"dtype": "F32", "shape": [-2, 2], "data_offsets": [0, 16]}}).encode()


def index(**files):
    return json.dumps({"weight_map": files}).encode()


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({BASE: struct.pack("<Q", len(HEADER)) + HEADER + bytes(16)}, BadInput),
        *(({name: size}, BadInput) for name in (BASE, WEIGHTS) for size in (0, 20, -1)),
        ({INDEX: index(a="model.safetensors", b="model-2.safetensors")}, NotFound),
        *(
            ({"outside.safetensors": b"", INDEX: index(w=name)}, BadInput)
            for name in ("../outside.safetensors", "/etc/passwd", "a/../../outside", "..", "")
        ),
        # A pickle in the place of weights, under their own name, too.
        ({BASE: None, "base/pytorch_model.bin": PICKLE}, Refused),
        ({WEIGHTS: None, "adapter/adapter_model.bin": PICKLE}, Refused),
        *(({name: PICKLE}, BadInput) for name in (BASE, WEIGHTS)),
    ],
)
def test_damaged_and_hostile_weights_are_refused(pair, files, error):
    for name, held in files.items():
        if held is None:
            (pair / name).unlink()
        else:
            # A number cuts the file there.
            cut = held if isinstance(held, bytes) else (pair / name).read_bytes()[:held]
            (pair / name).write_bytes(cut)
    with pytest.raises(error):
        ask(formats=["safetensors"])


def test_an_output_folder_with_something_in_it_is_refused(pair):
    (pair / "out").mkdir()
    (pair / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists):
        ask(output_dir="out")


def test_tied_embeddings_and_added_tokens_are_merged_in_memory(pair):
    file = pair / "adapter" / "adapter_model.safetensors"
    write_safetensors(file, {"base_model.model.model.embed_tokens.weight": (128, HIDDEN)})
    assert ask().plan["adapter"]["route"] == "whole"
    make_base(pair / "untied", config={"tie_word_embeddings": False})
    assert ask(base_model="untied").plan["adapter"]["route"] == "shards"
    write_safetensors(file, {"base_model.model.model.embed_tokens.weight": (130, HIDDEN)})
    assert ask(base_model="untied").plan["adapter"]["route"] == "whole"


@pytest.mark.parametrize(
    ("verdict", "limit"), [("good", 0.01), ("ok", 0.05), ("fair", 0.1), ("warn", 0.3)]
)
def test_a_verdict_changes_just_above_its_line(verdict, limit):
    assert verdict_of(limit, None, True)[0] == verdict
    assert verdict_of(limit + 1e-7, None, True)[0] != verdict


def test_the_summary_is_that_of_the_numbers_and_other_tokens_fail():
    kls = [0.0, 0.1, 0.2, 0.3]
    measured = PositionScores(kls, [True, False] * 2, [1.0] * 4, [1.5] * 4)
    found, _ = summarise(measured, tokenizer_parity=True)
    assert found.mean_kl == pytest.approx(0.15)
    # Standard deviation 0.1291 of 4 values, over 2.
    assert found.kl_standard_error == pytest.approx(0.06455, abs=1e-5)
    assert found.p99_kl == pytest.approx(0.297)
    assert (found.top1_agreement, found.verdict) == (0.5, "warn")
    assert found.perplexity_ratio == pytest.approx(2.718281828**0.5)
    measured.kls = [0.0] * 4
    other, why = summarise(measured, tokenizer_parity=False)
    assert (other.verdict, why.id) == ("fail", "tokenizers_differ")


@pytest.mark.parametrize(
    ("kl", "adapter_kl", "applied", "passed"),
    [
        (1e-4, 1e-4, 0.0, False),
        (1e-5, 1e-4, 0.98, True),
        (0.007, 0.01, 0.98, False),
        (0.007, 1.0, 0.98, True),
    ],
)
def test_a_merge_may_differ_by_what_rounding_costs_and_not_more(kl, adapter_kl, applied, passed):
    check = MergeCheck(
        mean_kl=kl, adapter_kl=adapter_kl, applied_fraction=applied, max_abs_logit_difference=0.0,
        top1_agreement=1.0, num_tokens=9, compute_dtype="float32", reference="base",
    )  # fmt: skip
    assert quality.judged(check).passed == passed


def make_archive(path, files, links=()):
    with tarfile.open(path, "w:gz") as bundle:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            bundle.addfile(member, io.BytesIO(data))
        for name in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            bundle.addfile(member)
    return path


ROOT = "llama_cpp_python-1/vendor/llama.cpp"


def test_the_converter_is_taken_out_of_an_archive_and_nothing_else_is(tmp_path):
    archive = make_archive(
        tmp_path / "sdist.tar.gz",
        {
            f"{ROOT}/convert_hf_to_gguf.py": b"print()",
            f"{ROOT}/gguf-py/gguf/a.py": b"a = 1",
            f"{ROOT}/conversion/../../../escape.py": b"bad",
            f"/{ROOT}/convert_hf_to_gguf.py": b"bad",
            f"{ROOT}/src/llama.cpp": b"large",
            "llama_cpp_python-1/setup.py": b"bad",
        },
        links=[f"{ROOT}/conversion/link.py"],
    )
    converter_script.keep(archive, tmp_path / "kept")
    kept = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*.py")}
    assert kept == {
        "kept/convert_hf_to_gguf.py": b"print()", "kept/gguf-py/gguf/a.py": b"a = 1",
    }  # fmt: skip


def test_a_converter_that_was_changed_in_the_cache_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(tmp_path))
    monkeypatch.delenv(converter_script.VARIABLE, raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1")
    files = {f"{ROOT}/convert_hf_to_gguf.py": b"print()"}
    converter_script.keep(make_archive(tmp_path / "sdist.tar.gz", files), converter_script.cached())
    converter_script.script().write_bytes(b"print(1)")
    with pytest.raises(BadData):
        converter_script.script()
    monkeypatch.setenv(converter_script.VARIABLE, str(tmp_path))
    with pytest.raises(NotFound, match=converter_script.VARIABLE):
        converter_script.script()


@pytest.mark.parametrize(
    ("folder", "asked", "name"),
    [
        ("My base (v2)", "", "My-base-v2-tuned"),
        ("模型", "", "model-tuned"),
        ("n" * 100, "", f"{'n' * 60}-tuned"),
        ("base", "My model", "My-model"),
        ("base", "-x", "x"),
    ],
)
def test_files_have_a_name_that_a_shell_and_ollama_take(workspace, folder, asked, name):
    make_base(workspace / folder)
    request = ShipRequest(source=folder, name=asked)
    assert plan_of(request, [formats.find("gguf:Q8_0")]).name == name
