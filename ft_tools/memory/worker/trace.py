"""Trace the memory of a training step: real classes, fake tensors, live storage counted.

The model class, PEFT, the loss and the optimizer are the libraries' own, run on tensors that have
a shape and no data, so it needs neither a GPU nor weights. It shares no formula with
`ft_tools.memory`, and is the referee where no published measurement is.
"""

import contextlib
import gc
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from ft_tools.models.library_process import ALONE

if __name__ == "__main__":
    # The libraries read these while they are imported.
    os.environ |= ALONE

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from trl.trainer.utils import add_fused_lm_head

from ft_tools.memory.report import TraceReport
from ft_tools.memory.request import TraceRequest
from ft_tools.memory.request_to_setup import setup_of, shape_of_request
from ft_tools.memory.states import QUANTIZED_BYTES
from ft_tools.memory.trace import (
    DEPTHS,
    NEEDED,
    at_depth,
    compared,
    traced_setup,
)
from ft_tools.memory.traced_activations import Options, options_of
from ft_tools.memory.worker.imitated_kernels import ATTENTION, gpu_kernels, quantize
from ft_tools.memory.worker.live_tensors import Live
from ft_tools.models.quantized import NEVER_PACKED
from ft_tools.models.shape_of_model import config_of
from ft_tools.models.worker.build import build, load_config, loader_of, text_path
from ft_tools.runs.processes.worker_session import Session, Stopped, main

# What TRL's SFT trainer asks of its loss.
TRL_OUTPUTS = ("log_probs", "entropy", "is_top1")


def work(session: Session) -> TraceReport:
    """Trace the step of a request, at two depths, and compare it with the formulas."""
    request = session.request(TraceRequest)
    vram = request.as_vram()
    shape = shape_of_request(vram)
    setup = traced_setup(setup_of(vram, shape))
    config = config_of(request.model)
    versions = {name: version(name) for name in NEEDED}
    if shape.blocks:
        session.phase(f"tracing all {shape.num_layers} blocks")
        whole = trace_step(config, options_of(setup))
        found = {name: float(size) for name, size in whole.items()}
        return compared(setup, found, versions, request.gpu)
    traced: list[dict[str, int]] = []
    for step, depth in enumerate(DEPTHS, start=1):
        session.phase(f"tracing {depth} blocks, from which the {shape.num_layers} are counted")
        traced.append(trace_step(with_layers(config, depth), options_of(setup)))
        session.progress(step, len(DEPTHS))
        if session.should_stop:
            raise Stopped
    found = at_depth(traced[0], traced[1], shape.num_layers)
    return compared(setup, found, versions, request.gpu)


def with_layers(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """Return the config of the same model with fewer blocks; towers stay as they are."""
    shallow = dict(config)
    inner = config.get("text_config")
    if isinstance(inner, Mapping) and inner.get("model_type"):
        return shallow | {"text_config": with_layers(inner, depth)}
    shallow["n_layer" if "n_layer" in config else "num_hidden_layers"] = depth
    if config.get("layer_types"):
        shallow["layer_types"] = list(config["layer_types"])[:depth]
    return shallow


def trace_step(config: dict[str, Any], options: Options) -> dict[str, int]:
    """Trace one training step, after one that made the optimizer's states.

    Args:
        config: Keys of config.json, with as many layers as are to be traced.
        options: How the step is run.

    Returns:
        Phase -> bytes: `loss`, `backward` and `optimizer`, resident states included.
    """
    with gpu_kernels(), torch.device("meta"):
        model, _ = build_model(config, options)
    with FakeTensorMode(allow_non_fake_inputs=True), gpu_kernels(), Live() as live:
        give_storage(model, live)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=options.foreach, fused=not options.foreach)
        ids = torch.zeros((options.sequences, options.seq_len), dtype=torch.long)
        _step(model, optimizer, ids, options, live)
        gc.collect()
        return _step(model, optimizer, ids, options, live)


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ids: torch.Tensor,
    options: Options,
    live: Live,
) -> dict[str, int]:
    """Run forward, backward and optimizer, and note the peak of each phase."""
    peaks: dict[str, int] = {}
    final_hidden: list[torch.Tensor] = []
    watch = _backbone(model).register_forward_hook(
        lambda _, __, output: final_hidden.append(output[0])
    )
    live.restart()
    with autocast(options.autocast):
        loss, outputs = _loss(model, ids, options)
    watch.remove()

    def head_done(_: torch.Tensor) -> None:
        peaks["loss"] = live.peak
        for output in outputs:
            if "logits" in output:
                # A model output is a dictionary too, which setting an attribute leaves alone.
                output.logits = None
                OrderedDict.__setitem__(output, "logits", None)
        live.restart()

    noted = final_hidden.pop().register_hook(head_done)  # type: ignore[no-untyped-call]
    loss.backward()  # type: ignore[no-untyped-call]
    # The hook and the output hold each other, and so the embedding's output and its gradient.
    noted.remove()
    outputs.clear()
    del loss
    peaks["backward"] = live.peak
    live.restart()
    optimizer.step()
    peaks["optimizer"] = live.peak
    optimizer.zero_grad(set_to_none=True)
    return peaks


def _backbone(model: nn.Module) -> nn.Module:
    whole: Any = model.get_base_model() if isinstance(model, PeftModel) else model
    backbone: nn.Module = whole.get_submodule(text_path(whole))
    return backbone


def _loss(model: nn.Module, ids: torch.Tensor, options: Options) -> tuple[torch.Tensor, list[Any]]:
    if not options.trl_head:
        output = model(input_ids=ids, labels=ids, use_cache=False)
        return output.loss, [output]
    output = model(input_ids=ids, labels=ids, fused_lm_head=True)
    return -output.log_probs.sum() / ids.numel(), [output]


@contextlib.contextmanager
def autocast(wanted: bool) -> Iterator[None]:
    """Compute in bf16 where that is wanted, as on a GPU."""
    if not wanted:
        yield
        return
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def build_model(config: dict[str, Any], options: Options) -> tuple[nn.Module, bool]:
    """Build a model as it is trained, on the meta device.

    Returns:
        The model, and whether its attention builds all scores: where that is asked for, and where
        the class has no other that a GPU without further packages runs.
    """
    real = load_config(config)
    auto: Any = getattr(transformers, loader_of(real))
    model_type = auto._model_mapping[type(real)]
    pluggable = getattr(model_type, "_supports_attention_backend", False)
    eager = options.eager or not (pluggable or model_type._supports_sdpa)
    eager = eager or (not model_type._supports_sdpa and not options.flash)
    # Falcon has attention classes of its own, whose call of SDPA is replaced while it is traced.
    attention = "eager" if eager else ATTENTION if pluggable else "sdpa"
    _, model = build(config, attention)
    model.to(getattr(torch, options.dtype))
    model.train()
    if options.quantization:
        whole = {*NEVER_PACKED.get(str(config.get("model_type")), ())}
        head = model.get_output_embeddings()
        quantize(model, head, QUANTIZED_BYTES[options.quantization], whole)
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if options.trl_head:
        add_fused_lm_head(model, outputs=TRL_OUTPUTS)
    traced: nn.Module = model if options.method == "full" else _adapted(model, options)
    return traced, eager


def _adapted(model: Any, options: Options) -> nn.Module:
    if options.checkpointing:
        model.enable_input_require_grads()
    names = options.target_modules
    config = LoraConfig(
        r=options.rank,
        lora_dropout=options.dropout,
        target_modules=names if isinstance(names, str) else list(names),
        target_parameters=list(options.target_parameters) or None,
        exclude_modules=options.excluded or None,
        task_type="CAUSAL_LM" if hasattr(model, "prepare_inputs_for_generation") else None,
    )
    adapted: nn.Module = get_peft_model(model, config, autocast_adapter_dtype=False)
    dtype = torch.float32 if options.adapter_bytes == 4 else torch.bfloat16
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    return adapted


def give_storage(model: nn.Module, live: Live) -> None:
    """Put tensors with a storage in the place of those on the meta device; tied ones stay tied."""
    made: dict[torch.Tensor, Any] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, old in table.items():
                if old is None:
                    continue
                if old not in made:
                    new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
                    live.add(new)
                    is_parameter = isinstance(old, nn.Parameter)
                    made[old] = nn.Parameter(new, old.requires_grad) if is_parameter else new
                table[name] = made[old]


if __name__ == "__main__":
    main(work)
