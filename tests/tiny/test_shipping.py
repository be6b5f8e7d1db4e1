"""A model is shipped whole: merged, converted, quantized, proved, and resumed after a kill."""

import json
import os
import re
import signal
import textwrap
from contextlib import closing

import pytest
from transformers import AutoTokenizer

from ft_tools import publish
from ft_tools.errors import NotFound
from ft_tools.models import demo
from ft_tools.models.worker import gguf, loading
from ft_tools.runs.request import ResumeRequest
from ft_tools.runs.tool import resume_run
from ft_tools.shipping import formats
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.shipping.worker import llama, llama_job
from tests.faults.harness import worker_pid
from tests.tiny.measuring_gguf import measure, proof_of, wait, write_adapter

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


@pytest.fixture
def adapter_in(workspace, tiny_model_in):
    """Put an adapter over the tiny model into the workspace, with what training leaves there."""
    write_adapter(workspace / tiny_model_in, workspace / "adapter", tiny_model_in)
    (workspace / "adapter" / "optimizer.pt").write_bytes(b"left over")
    (workspace / "adapter" / "modeling_x.py").write_text("raise SystemExit")
    talk = [
        {"role": "user", "content": "The parcel arrived late on Monday."},
        {"role": "assistant", "content": '{"category": "delivery"}'},
    ]
    lines = [json.dumps({"messages": talk})] * 3
    (workspace / "held_out.jsonl").write_text("\n".join(lines))
    return "adapter"


def confirmed(**arguments):
    plan_hash = merge_and_quantize(ShipRequest(**arguments)).plan_hash
    return merge_and_quantize(ShipRequest(**arguments, confirm=plan_hash)).run_id


def test_a_killed_run_goes_on_where_it_was_and_one_bad_format_leaves_the_others(
    workspace, adapter_in, converter_script, monkeypatch, capsys
):
    run_id = confirmed(
        source=adapter_in,
        formats=["gguf:Q8_0", "safetensors", "mlx:8bit", "mlx:4bit"],
        output_dir="out",
        held_out="held_out.jsonl",
        name="my model",
    )
    run = wait(run_id, lambda run: any(a.kind == "model" for a in run.artifacts))
    os.kill(worker_pid(run_id), signal.SIGKILL)
    merged_at = (workspace / "out" / "merged" / "manifest.json").stat().st_mtime_ns
    assert wait(run_id, lambda run: False).state == "interrupted"
    resume_run(ResumeRequest(run_id=run_id))
    wait(run_id, lambda run: run.attempts == 2)
    run = wait(run_id, lambda run: run.attempts == 2 and run.state == "succeeded")
    assert run.state == "succeeded", run
    assert (workspace / "out" / "merged" / "manifest.json").stat().st_mtime_ns == merged_at

    report = run.result
    assert report["merge_check"]["passed"]
    assert report["merge_check"]["mean_kl"] < 1e-6
    assert report["held_out"] == "given"
    file, safetensors, *mlx = report["formats"]
    assert file["state"] == "failed"
    assert "converter failed" in file["error"]
    eight, four = mlx
    assert safetensors["state"] == eight["state"] == four["state"] == "made", report["formats"]
    assert four["quality"]["num_tokens"] > 0
    assert four["tokens_per_second"] > 0
    assert 0 < eight["quality"]["mean_kl"] < four["quality"]["mean_kl"] < 0.1, mlx
    assert four["size_bytes"] < eight["size_bytes"] < 0.7 * safetensors["size_bytes"]
    assert set(four["task"]) == set(report["task"]) == {"exact_match", "json_valid", "json_fields"}
    assert report["num_task_examples"] == 3
    assert report["prompt_proof"] == {"transformers and vLLM": "the trained chat template"}
    assert run.report_html

    merged = workspace / "out" / "merged"
    assert publish.verify(merged) == []
    assert not {p.suffix for p in merged.iterdir()} & {".pt", ".py"}
    assert not list(workspace.rglob(".tmp-*"))
    assert not (workspace / "out" / "gguf-Q8_0").exists()
    told = (workspace / "out" / "HANDOFF.md").read_text() + (merged / "README.md").read_text()
    assert "gguf:Q8_0: llama.cpp's converter failed" in told
    assert str(workspace) not in told

    # What the guide says for transformers is run as it stands there.
    monkeypatch.chdir(workspace / "out")
    (script,) = [part for part in code_of(told) if part.startswith("from transformers")]
    held = {}
    exec(script, held)
    asked = held["tokenizer"].decode(held["prompt"].input_ids[0])
    assert "user\nHello<|im_end|>" in asked
    assert capsys.readouterr().out == held["answer"] + "\n"
    generation = json.loads((merged / "generation_config.json").read_bytes())
    assert generation["do_sample"] is False
    assert "temperature" not in generation


def code_of(page):
    """Return the indented blocks of a Markdown page."""
    blocks = re.findall(r"(?:^ {4}.*\n)+", page, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def test_an_original_that_cannot_be_fetched_is_named(adapter_in, monkeypatch):
    # What HF_HUB_OFFLINE sets where it is there from the start.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    request = ShipRequest(source=adapter_in, base_model="nobody/nothing", formats=["safetensors"])
    planned = merge_and_quantize(request)
    assert "nobody/nothing is not on this machine" in planned.warnings[0]
    with pytest.raises(NotFound, match=r"'nobody/nothing' is not on this machine.*`base_model`"):
        loading.fetched(planned.plan["load_from"])


def test_the_demo_model_keeps_its_mind_as_it_shrinks(
    tmp_path, monkeypatch, smollm2, converter_script
):
    monkeypatch.setenv("FINE_TUNING_LLM_WORKSPACE", str(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(smollm2)
    source = tmp_path / "source.gguf"
    llama.convert(smollm2, source, "bf16", lambda: None)
    whole = proof_of(tmp_path, tokenizer, smollm2, 1)
    found, sizes, types = {}, {}, {}
    for name in ("gguf:Q8_0", "gguf:Q4_K_M"):
        row = formats.find(name)
        file = tmp_path / f"{row.type_name}.gguf"
        llama_job.quantize(source, file, row)
        found[name] = measure(file, whole)
        sizes[name] = file.stat().st_size
        types[name] = llama.fallbacks(llama.tensor_types(file), row)
    assert found["gguf:Q8_0"].tokenizer_parity
    assert found["gguf:Q8_0"].mean_kl <= 0.01, found
    assert found["gguf:Q8_0"].mean_kl < found["gguf:Q4_K_M"].mean_kl < 0.3, found
    assert sizes["gguf:Q4_K_M"] < sizes["gguf:Q8_0"] < 0.6 * source.stat().st_size
    # Its rows of 576 weights are no multiple of 256.
    assert types == {"gguf:Q8_0": {}, "gguf:Q4_K_M": {"Q5_0": 166, "Q8_0": 15}}
    messages = [{"role": "user", "content": demo.QUESTION}]
    asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    with closing(gguf.open_file(tmp_path / "Q8_0.gguf", 128)) as model:
        ((answer,), _) = llama_job.answers_of(model, [asked], 16, set())
    assert demo.ANSWER_HAS in tokenizer.decode(answer)
