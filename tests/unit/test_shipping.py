"""What merge_and_quantize decides, plans and refuses, from files' headers alone."""

import io
import json
import shutil
import struct
import tarfile

import pytest

from ft_tools import publish
from ft_tools.errors import (
    BadData,
    BadInput,
    DiskFull,
    Missing,
    NotFound,
    OutputExists,
    PlanChanged,
    Refused,
    UnknownName,
)
from ft_tools.models import safetensors_headers
from ft_tools.runs.state.records import RunInfo, Status
from ft_tools.shipping import (
    calibration,
    comparison_text,
    converter_script,
    formats,
    handoff,
    llm_compressor_environment,
    model_card,
    quality,
    tool,
)
from ft_tools.shipping.asking import Asking
from ft_tools.shipping.plan import plan_of
from ft_tools.shipping.published_config import as_published
from ft_tools.shipping.quality import Measured, summarise, verdict_of
from ft_tools.shipping.report import FormatResult
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.trained_system import TrainedSystem

HIDDEN, RANK = 64, 4
HOW = Asking(TrainedSystem("Sort it's mail."), "Sort it's mail.")
ASKED = handoff.Asked(HOW, ["</s>"], "As measured.", "", {"Ollama": "8 of 8"})
MODULE = "model.layers.0.self_attn.q_proj"


def write_safetensors(path, shapes, *, cut=0):
    """Write zeros in bfloat16; `cut` bytes are missing at the end."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 2
        for length in shape:
            size *= length
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at - cut))


def make_base(folder, *, hidden=HIDDEN, config=None):
    folder.mkdir()
    about = {"model_type": "llama", "tie_word_embeddings": True} | (config or {})
    (folder / "config.json").write_text(json.dumps(about))
    shapes = {
        "model.embed_tokens.weight": (128, hidden),
        f"{MODULE}.weight": (hidden, hidden),
    }
    write_safetensors(folder / "model.safetensors", shapes)


def make_adapter(folder, *, hidden=HIDDEN, base="base", **config):
    folder.mkdir()
    about = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(about | config))
    shapes = {
        f"base_model.model.{MODULE}.lora_A.weight": (RANK, hidden),
        f"base_model.model.{MODULE}.lora_B.weight": (hidden, RANK),
    }
    write_safetensors(folder / "adapter_model.safetensors", shapes)


@pytest.fixture
def pair(workspace):
    make_base(workspace / "base")
    make_adapter(workspace / "adapter")
    return workspace


def ask(**arguments):
    return tool.merge_and_quantize(ShipRequest(**{"source": "adapter"} | arguments))


def test_without_confirm_the_plan_is_returned_and_nothing_is_written(pair):
    before = sorted(pair.rglob("*"))
    launch = ask(formats=["safetensors", "bnb:nf4"])
    assert not launch.started
    assert launch.run_id is None
    assert launch.plan["adapter"]["route"] == "shards"
    assert launch.plan["num_params"] == 128 * HIDDEN + HIDDEN * HIDDEN
    assert launch.next_steps[0].arguments["confirm"] == launch.plan_hash
    assert sorted(pair.rglob("*")) == before


def test_a_small_model_in_four_bits_that_nobody_measured_is_warned_of(pair):
    small = ask(formats=["gguf:Q4_K_M"]).warnings
    assert any("below 1B parameters" in warning for warning in small)
    assert any("no evaluation of this model is on record" in warning for warning in small)
    # The run itself tells which of them is enough, where both are made.
    for names in (["gguf:Q8_0"], ["gguf:Q8_0", "gguf:Q4_K_M"]):
        assert not any("1B" in warning for warning in ask(formats=names).warnings)


def test_a_plan_repeats_what_the_report_of_its_run_says_is_wrong(pair):
    run = pair / "runs" / "sft-0123456789abcdef"
    shutil.copytree(pair / "adapter", run / "artifacts" / "adapter")
    info = RunInfo(run_id=run.name, kind="sft", created_at=1.0)
    (run / "run.json").write_text(info.model_dump_json())
    (run / "status.json").write_text(Status(state="succeeded").model_dump_json())
    cut = {"signal": "rows_cut", "observed": "28 of 48 are cut", "advice": "raise max_length"}
    other = {"signal": "first_loss", "observed": "first loss 9", "advice": "look"}
    found = {"id": "memorising", "observed": "validation loss rose", "advice": "fewer epochs"}
    (run / "report.json").write_text(json.dumps({"health": [cut, other], "diagnosis": [found]}))
    said = [one for one in ask(source=run.name).warnings if one.startswith(run.name)]
    assert said == [
        f"{run.name}: validation loss rose: fewer epochs",
        f"{run.name}: 28 of 48 are cut: raise max_length",
    ]


def test_a_model_that_the_converter_does_not_carry_is_warned_of_in_the_plan(pair, monkeypatch):
    known = ask(formats=["gguf:Q8_0"]).warnings
    assert not any("does not carry" in warning for warning in known)
    monkeypatch.setenv("LLAMA_CPP_DIR", str(pair / "llama.cpp"))
    table = pair / "llama.cpp" / "conversion" / "__init__.py"
    table.parent.mkdir(parents=True)
    table.write_text('TEXT_MODEL_MAP: dict[str, str] = {"OtherForCausalLM": "other"}\n')
    config = pair / "base" / "config.json"
    named = json.loads(config.read_bytes()) | {"architectures": ["LlamaForCausalLM"]}
    config.write_text(json.dumps(named))
    warned = ask(formats=["gguf:Q8_0", "gguf:F16", "safetensors"]).warnings
    said = next(warning for warning in warned if "does not carry" in warning)
    assert said.startswith("gguf:Q8_0, gguf:F16 will not be made: ")
    assert "take safetensors" in said


def test_the_same_request_has_the_same_plan(pair):
    assert ask().plan_hash == ask().plan_hash
    assert ask().plan_hash != ask(formats=["gguf:Q8_0"]).plan_hash


def test_a_plan_for_an_adapter_that_changed_since_is_refused(pair):
    agreed = ask(formats=["safetensors"]).plan_hash
    with (pair / "adapter" / "adapter_model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    with pytest.raises(PlanChanged):
        ask(formats=["safetensors"], confirm=agreed)
    assert not (pair / "runs").exists()


def test_an_unknown_format_is_refused_with_the_known_ones(pair):
    with pytest.raises(UnknownName, match=r"'gguf:Q4_K_X'; .*nearest: .*gguf:Q4_K_M"):
        ask(formats=["gguf:Q4_K_X"])


@pytest.mark.parametrize("name", ["gptq:4", "awq:4"])
def test_a_format_that_needs_text_is_refused_without_it(pair, name):
    with pytest.raises(BadInput, match=rf"{name} cannot be made without text.*`calibration`"):
        ask(formats=["safetensors", name])
    (pair / "rows.jsonl").write_text(json.dumps({"text": "Hello"}))
    assert ask(formats=[name], calibration="rows.jsonl").plan["calibration"]


def test_the_plan_says_which_environment_will_be_built_and_its_size(pair, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(pair / "cache"))
    without = ask(formats=["safetensors"])
    launch = ask(formats=["safetensors", "fp8"])
    planned = launch.plan["environments"][0]
    assert planned["requirement"] == llm_compressor_environment.REQUIREMENT
    assert planned["formats"] == ["fp8"]
    assert not planned["is_built"]
    assert launch.plan["disk_bytes"] - without.plan["disk_bytes"] > planned["disk_bytes"]
    assert any("is built with pip first" in warning for warning in launch.warnings)
    assert [path.name for path in (pair / "cache").iterdir()] == ["plans"]


def test_an_environment_that_a_killed_build_left_is_none(pair, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(pair / "cache"))
    llm_compressor_environment.python().parent.mkdir(parents=True)
    llm_compressor_environment.python().touch()
    assert not llm_compressor_environment.is_built()
    (llm_compressor_environment.folder() / llm_compressor_environment.MARKER).write_text("{}")
    assert llm_compressor_environment.is_built()


def test_an_environment_that_cannot_be_built_says_what_to_do(pair, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(pair / "cache"))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(Missing, match=r"cannot be built \(venv ended with 1\).*gguf:Q4_K_M"):
        llm_compressor_environment.build(pair / "log", lambda: None)
    assert not llm_compressor_environment.is_built()


def test_calibration_is_spread_over_the_file_and_never_what_is_measured(workspace):
    lines = [json.dumps({"text": f"number {i}"}) for i in range(1000)]
    (workspace / "train.jsonl").write_text("\n".join(lines))
    (workspace / "held_out.jsonl").write_text("\n".join(lines[:500]))
    found = calibration.examples(workspace / "train.jsonl", workspace / "held_out.jsonl", 100)
    numbers = [int(row["text"].split()[1]) for row in found]
    assert len(set(numbers)) == 100
    assert min(numbers) >= 500
    # The mean of 100 of 500..999 has a standard deviation of 13.
    assert abs(sum(numbers) / 100 - 750) < 60
    assert found == calibration.examples(
        workspace / "train.jsonl", workspace / "held_out.jsonl", 100
    )


def test_an_adapter_of_another_base_is_refused_by_shape(pair):
    make_base(pair / "wider", hidden=2 * HIDDEN)
    with pytest.raises(BadInput, match=r"trained on another base: .*lora_A.weight has 64 where"):
        ask(base_model="wider")


def test_a_quantized_base_is_refused_with_the_cure(pair):
    make_base(pair / "gptq", config={"quantization_config": {"quant_method": "gptq"}})
    with pytest.raises(Refused, match=r"merge_into_quantized: .*\(gptq\).*`base_model`"):
        ask(base_model="gptq")


def test_a_base_that_is_not_the_recorded_one_is_refused_by_its_hash(pair):
    run_id = "sft-0123456789abcdef"
    run_dir = pair / "runs" / run_id
    (run_dir / "artifacts").mkdir(parents=True)
    info = RunInfo(run_id=run_id, kind="sft", created_at=0.0, lineage={"base_model": "base"})
    (run_dir / "run.json").write_text(info.model_dump_json())
    make_adapter(run_dir / "artifacts" / "adapter")
    recorded = {"model": {"config_sha256": publish.sha256(pair / "base" / "config.json")}}
    (run_dir / "plan.json").write_text(json.dumps(recorded))
    request = ShipRequest(source=run_id, formats=["safetensors"])
    assert tool.merge_and_quantize(request).plan["base_model"] == "base"
    with (pair / "base" / "config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(BadInput, match=r"is not the base that run sft-.* was trained on"):
        tool.merge_and_quantize(request)
    # A base that the caller names is the caller's to answer for.
    assert tool.merge_and_quantize(request.model_copy(update={"base_model": "base"}))


def test_an_adapter_trained_on_a_quantized_base_asks_for_the_original(pair):
    bnb = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    make_base(pair / "base-bnb-4bit", config=bnb)
    make_adapter(pair / "qlora", base="base-bnb-4bit")
    request = ShipRequest(source="qlora", formats=["safetensors"])
    with pytest.raises(Refused, match=r"\(bitsandbytes\).*original 16-bit model as `base_model`"):
        tool.merge_and_quantize(request)
    with pytest.raises(NotFound, match="original"):
        tool.merge_and_quantize(request.model_copy(update={"base_model": "./original"}))
    named = request.model_copy(update={"base_model": "base"})
    assert tool.merge_and_quantize(named).plan["base_model"] == "base"


def test_an_adapter_that_was_changed_after_training_is_refused(pair):
    publish.seal(pair / "adapter")
    assert ask(formats=["safetensors"])
    with (pair / "adapter" / "adapter_model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    with pytest.raises(BadInput, match=r"was changed since it was written: adapter_model"):
        ask(formats=["safetensors"])


def test_a_base_that_is_not_there_is_named(pair):
    make_adapter(pair / "orphan", base="gone/away/model")
    with pytest.raises(NotFound, match="gone/away/model"):
        tool.merge_and_quantize(ShipRequest(source="orphan"))


@pytest.mark.parametrize("recorded", ["/home/another/models/base", "gone/away/model", None])
def test_a_named_base_does_for_one_that_is_elsewhere_or_not_recorded(pair, recorded):
    make_adapter(pair / "orphan", base=recorded)
    request = ShipRequest(source="orphan", formats=["safetensors"])
    with pytest.raises((NotFound, BadInput), match=r"adapter orphan .*`base_model`"):
        tool.merge_and_quantize(request)
    named = request.model_copy(update={"base_model": "base"})
    assert tool.merge_and_quantize(named).plan["load_from"] == str(pair / "base")


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_damaged_adapter_config_is_refused(pair, text):
    (pair / "adapter" / "adapter_config.json").write_text(text)
    for base in (None, "base"):
        with pytest.raises(BadInput, match=r"adapter"):
            ask(formats=["safetensors"], base_model=base)


def test_pickle_weights_are_refused(pair):
    (pair / "adapter" / "adapter_model.safetensors").unlink()
    (pair / "adapter" / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Refused, match=r"adapter_model\.bin, a pickle file"):
        ask()


@pytest.mark.parametrize("wrong", [{"r": "x"}, {"r": None}, {"r": -1}, {"lora_alpha": [8]}])
def test_an_adapter_whose_scale_is_no_number_is_refused(pair, wrong):
    make_adapter(pair / "strange", **wrong)
    with pytest.raises(BadInput, match=r"(r|lora_alpha)=.* must be a number above 0"):
        tool.merge_and_quantize(ShipRequest(source="strange"))


def test_a_tensor_with_a_size_below_zero_is_no_tensor(pair):
    header = {"w": {"dtype": "F32", "shape": [-2, 2], "data_offsets": [0, 16]}}
    text = json.dumps(header).encode()
    file = pair / "base" / "model.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(16))
    with pytest.raises(BadInput, match="its header makes no sense"):
        ask()


@pytest.mark.parametrize("victim", ["base/model.safetensors", "adapter/adapter_model.safetensors"])
@pytest.mark.parametrize("size", [0, 4, 20, -1])
def test_weights_that_are_cut_short_are_refused(pair, victim, size):
    data = (pair / victim).read_bytes()
    (pair / victim).write_bytes(data[:size])
    with pytest.raises(BadInput, match=r"(damaged|cut short).*again"):
        ask()


def test_a_missing_shard_is_named(pair):
    names = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (pair / "base" / safetensors_headers.INDEX).write_text(json.dumps({"weight_map": names}))
    write_safetensors(pair / "base" / "model-1.safetensors", {"a": (2, 2)})
    with pytest.raises(NotFound, match=r"lacks model-2\.safetensors"):
        ask()


def test_an_adapter_that_cannot_be_put_back_is_refused(pair):
    make_adapter(pair / "pissa", init_lora_weights="pissa_niter_4")
    with pytest.raises(Refused, match=r"unrepeatable_start.*cannot be repeated"):
        tool.merge_and_quantize(ShipRequest(source="pissa"))


def test_another_kind_of_adapter_is_refused(pair):
    make_adapter(pair / "loha", peft_type="LOHA")
    with pytest.raises(BadInput, match="is a LOHA adapter"):
        tool.merge_and_quantize(ShipRequest(source="loha"))


def test_an_output_folder_with_something_in_it_is_left_alone(pair):
    (pair / "out").mkdir()
    (pair / "out" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match="not empty"):
        ask(output_dir="out")
    assert (pair / "out" / "mine.txt").read_text() == "mine"


def test_a_model_larger_than_the_disk_is_refused_beforehand(pair):
    # A sparse file: it has its size, and takes no space. No layer is too large for the memory.
    layer = {"dtype": "BF16", "shape": [HIDDEN, HIDDEN], "data_offsets": [0, 2 * HIDDEN**2]}
    header = {f"{MODULE}.weight": layer}
    for i in range(15 * 1024):
        places = [i * 2**30, (i + 1) * 2**30]
        large = {"dtype": "BF16", "shape": [2**19, 1024], "data_offsets": places}
        header[f"model.layers.{i + 1}.mlp.up_proj.weight"] = large
    text = json.dumps(header).encode()
    with (pair / "base" / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + 15 * 2**40)
    with pytest.raises(DiskFull, match=r"shipping this model .* needs .* only .* GiB are free"):
        ask(formats=["safetensors"])


def test_chat_without_a_gguf_is_refused(pair):
    with pytest.raises(BadInput, match="add 'gguf:Q4_K_M'"):
        ask(formats=["safetensors"], chat="Hello")


def test_calibrating_on_what_is_measured_is_refused(pair):
    (pair / "rows.jsonl").write_text(json.dumps({"text": "Hello"}))
    with pytest.raises(BadInput, match="would flatter"):
        ask(formats=["gptq:4"], calibration="rows.jsonl", held_out="rows.jsonl")
    planned = ask(formats=["gptq:4"], calibration="rows.jsonl").plan
    assert planned["calibration"] == str(pair / "rows.jsonl")


def test_calibration_for_formats_that_do_not_use_it_is_refused(pair):
    (pair / "rows.jsonl").write_text(json.dumps({"text": "Hello"}))
    with pytest.raises(BadInput, match="calibration"):
        ask(formats=["gguf:Q4_K_M"], calibration="rows.jsonl")


def test_dequantized_is_refused_for_a_whole_model(pair):
    with pytest.raises(BadInput, match="needs an adapter"):
        tool.merge_and_quantize(ShipRequest(source="base", merge_base="dequantized"))


def test_tied_embeddings_are_merged_in_memory(pair):
    file = pair / "adapter" / "adapter_model.safetensors"
    write_safetensors(file, {"base_model.model.model.embed_tokens.weight": (128, HIDDEN)})
    assert ask().plan["adapter"]["route"] == "whole"
    assert "ties" in ask().plan["adapter"]["why_whole"]


def test_more_tokens_than_the_base_are_merged_in_memory(workspace):
    make_base(workspace / "base", config={"tie_word_embeddings": False})
    make_adapter(workspace / "adapter")
    file = workspace / "adapter" / "adapter_model.safetensors"
    write_safetensors(file, {"base_model.model.model.embed_tokens.weight": (130, HIDDEN)})
    assert ask().plan["adapter"]["why_whole"] == "it has more tokens than the base"


@pytest.mark.parametrize(
    ("kl", "verdict"),
    [
        (0.01, "good"),
        (0.0100001, "ok"),
        (0.05, "ok"),
        (0.0500001, "fair"),
        (0.1, "fair"),
        (0.1000001, "warn"),
        (0.3, "warn"),
        (0.3000001, "fail"),
    ],
)
def test_a_verdict_changes_just_above_its_line(kl, verdict):
    assert verdict_of(kl, tokenizer_parity=True) == verdict


def test_a_model_that_reads_other_tokens_fails_however_close_it_is():
    quality_ = summarise(measured([0.0] * 4), tokenizer_parity=False)
    assert quality_.verdict == "fail"
    assert "tokenizes" in quality.verdict_reason(quality_).rule


def test_the_summary_is_that_of_the_numbers():
    found = summarise(measured([0.0, 0.1, 0.2, 0.3]), tokenizer_parity=True)
    assert found.mean_kl == pytest.approx(0.15)
    # Standard deviation 0.1291 of 4 values, over 2.
    assert found.kl_standard_error == pytest.approx(0.06455, abs=1e-5)
    assert found.p99_kl == pytest.approx(0.297)
    assert found.top1_agreement == 0.5
    assert found.perplexity_ratio == pytest.approx(2.718281828**0.5)


def measured(kls):
    return Measured(
        kls=kls,
        same_top1=[True, False] * (len(kls) // 2),
        reference_nlls=[1.0] * len(kls),
        nlls=[1.5] * len(kls),
    )


def test_published_losses_grow_as_files_shrink():
    rows = [row for row in formats.FORMATS if row.published_kl is not None]
    assert [r.bits_per_weight for r in rows] == sorted(
        (r.bits_per_weight for r in rows), reverse=True
    )
    k_quants = [r.published_kl for r in rows if "Q4_0" not in r.name]
    assert k_quants == sorted(k_quants)


def test_the_converter_is_taken_out_of_an_archive_and_nothing_else_is(tmp_path):
    root = "llama_cpp_python-1/vendor/llama.cpp"
    archive = make_archive(
        tmp_path / "sdist.tar.gz",
        {
            f"{root}/convert_hf_to_gguf.py": b"print()",
            f"{root}/gguf-py/gguf/a.py": b"a = 1",
            f"{root}/conversion/../../../escape.py": b"bad",
            f"/{root}/convert_hf_to_gguf.py": b"bad",
            f"{root}/src/llama.cpp": b"large",
            "llama_cpp_python-1/setup.py": b"bad",
        },
        links={f"{root}/conversion/link.py": "/etc/passwd"},
    )
    converter_script.keep(archive, tmp_path / "kept")
    kept = {p.relative_to(tmp_path / "kept").as_posix() for p in (tmp_path / "kept").rglob("*.py")}
    assert kept == {"convert_hf_to_gguf.py", "gguf-py/gguf/a.py"}
    assert (tmp_path / "kept" / "convert_hf_to_gguf.py").read_bytes() == b"print()"
    assert not list(tmp_path.rglob("escape.py"))


def test_an_archive_without_a_converter_leaves_nothing_behind(tmp_path):
    archive = make_archive(tmp_path / "sdist.tar.gz", {"x-1/readme": b"hello"})
    with pytest.raises(BadData, match=r"has no convert_hf_to_gguf\.py"):
        converter_script.keep(archive, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_converter_that_was_changed_in_the_cache_is_not_run(tmp_path, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(tmp_path))
    monkeypatch.delenv(converter_script.VARIABLE, raising=False)
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1")
    root = "llama_cpp_python-1/vendor/llama.cpp"
    files = {f"{root}/convert_hf_to_gguf.py": b"print()"}
    converter_script.keep(make_archive(tmp_path / "sdist.tar.gz", files), converter_script.cached())
    assert converter_script.script().is_file()
    converter_script.script().write_bytes(b"print(1)")
    with pytest.raises(BadData, match="was changed"):
        converter_script.script()


def test_a_llama_cpp_folder_without_a_converter_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv(converter_script.VARIABLE, str(tmp_path))
    with pytest.raises(NotFound, match=converter_script.VARIABLE):
        converter_script.script()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("gptq:4", "vllm serve ./gptq-4 --override"),
        ("awq:4", "vllm serve ./awq-4 --override"),
        ("fp8", "vllm serve ./fp8 --override"),
        ("bnb:nf4", "vllm serve ./bnb-nf4 --quantization bitsandbytes --override"),
    ],
)
def test_the_guide_has_the_line_that_serves_each_format(pair, name, line):
    (pair / "rows.jsonl").write_text(json.dumps({"text": "Hello"}))
    needed = "rows.jsonl" if formats.find(name).needs_text else None
    request = ShipRequest(source="adapter", formats=[name], calibration=needed)
    planned = plan_of(request, [formats.find(name)])
    made = FormatResult(format=name, state="made", path=str(pair / name.replace(":", "-")))
    guide = handoff.handoff(planned, [made], ASKED, "merged")
    assert line in guide
    needs = "bitsandbytes" if name == "bnb:nf4" else "compressed-tensors"
    assert f"pip install accelerate {needs}" in guide
    assert "transformers (pip install accelerate):" in guide


@pytest.mark.parametrize(
    ("folder", "asked", "name"),
    [
        ("My base (v2)", "", "My-base-v2-tuned"),
        ("größe", "", "gr-e-tuned"),
        ("模型", "", "model-tuned"),
        ("n" * 100, "", f"{'n' * 60}-tuned"),
        ("base", "My model", "My-model"),
        ("base", "-x", "x"),
        ("base", " ", "base-tuned"),
    ],
)
def test_files_have_a_name_that_a_shell_and_ollama_take(workspace, folder, asked, name):
    make_base(workspace / folder)
    request = ShipRequest(source=folder, name=asked)
    assert plan_of(request, [formats.find("gguf:Q8_0")]).name == name


@pytest.mark.parametrize("name", ["gguf", "gguf:Q9_X", "exl2"])
def test_an_unknown_format_is_refused_with_what_may_be_passed(name):
    with pytest.raises(UnknownName, match=r"pass safetensors, bnb:nf4, .*such as gguf:Q4_K_M"):
        formats.find(name)


def make_archive(path, files, links=None):
    with tarfile.open(path, "w:gz") as bundle:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            bundle.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.SYMTYPE
            member.linkname = target
            bundle.addfile(member)
    return path


def test_a_text_models_part_of_a_config_is_published_as_a_whole_one_is():
    text = {"model_type": "cohere2", "auto_map": {"AutoModel": "evil.Model"}, "rotary_pct": 0.5}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 777.0}
    published = as_published(text)
    assert "auto_map" not in published
    assert (published["rope_theta"], published["rotary_pct"]) == (777.0, 0.5)
    whole = as_published({"model_type": "seeing", "auto_map": {}, "text_config": text})
    assert whole == {"model_type": "seeing", "text_config": published}


def test_a_preference_pair_is_measured_on_its_chosen_answer():
    pair_ = {"prompt": "2+2=", "chosen": "4", "rejected": "5"}
    assert comparison_text.conversation(pair_) == "2+2=4"
    assert comparison_text.prompt_of(pair_) == "2+2="


def test_the_prompt_of_a_conversation_ends_before_its_last_answer():
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert comparison_text.prompt_of({"messages": talk}) == talk[:1]
    assert comparison_text.prompt_of({"text": "only"}) is None


def test_the_guide_and_the_card_name_no_folder_of_this_machine(pair):
    planned = plan_of(
        ShipRequest(source="adapter", base_model=str(pair / "base")), [formats.find("gguf:Q8_0")]
    )
    made = FormatResult(
        format="gguf:Q8_0",
        state="made",
        path=str(pair / "out" / "gguf-Q8_0" / "x-Q8_0.gguf"),
        sha256="ab" * 32,
    )
    broken = FormatResult(format="bnb:nf4", state="failed", error="no such kernel")
    guide = handoff.handoff(planned, [made, broken], ASKED, "merged")
    card = model_card.model_card(
        planned, None, "", {"training run": "sft-0123456789abcdef"}, HOW, ["</s>"]
    )
    assert str(pair) not in guide + card
    assert "ollama create base-tuned-q8_0 -f gguf-Q8_0/Modelfile" in guide
    assert "bnb:nf4: no such kernel" in guide
    assert "- Ollama: 8 of 8" in guide
    assert "    Sort it's mail.\n" in guide
    assert """{"role": "system", "content": "Sort it'"'"'s mail."}""" in guide
    assert '[{"role": "system", "content": "Sort it\'s mail."}, {"role": "user"' in guide
    file = "gguf-Q8_0/x-Q8_0.gguf"
    assert f"lms import --copy {file}" in guide
    assert f"llama-server -m {file} --jinja -c 2048" in guide
    assert "vllm serve ./merged" in guide
    assert "names no licence" in card
