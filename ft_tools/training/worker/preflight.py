"""Try in small what a run will do, in its environment and on its device, and time its step.

The standard output has a line of JSON after the checks and one after the step: whoever ends this
process early knows what it found until then. Each check is a few milliseconds of real work by the
libraries that the run uses. What a library says of a failure goes to standard error, which is kept
as a log.
"""

import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from ft_tools.models.worker.loading import use_kept_kernel
from ft_tools.runs.processes.endings import is_out_of_memory
from ft_tools.training.preflight import PreflightCheck, PreflightResult, Question

LENGTH, WIDTH, VOCABULARY = 32, 128, 512
IN_USE = "busy or unavailable"
"""What CUDA says of a card that one program alone may use, and another one does."""
OUTPUTS = ("log_probs", "entropy", "is_top1")
"""What TRL's trainer asks of its loss."""


def answer(question: Question) -> list[PreflightCheck]:
    """Run the checks, up to one that all others need."""
    device = torch.device(question.device)
    dtype = getattr(torch, question.precision)
    checks: dict[str, Callable[[], Any]] = {"device": lambda: torch.zeros(1, device=device)}
    checks["matmul"] = lambda: _finite(torch.ones(64, 64, device=device, dtype=dtype) @ _eye(dtype))
    if question.quantized:
        checks["nf4"] = lambda: _nf4(device, dtype)
    checks["attention"] = lambda: _attention(_model(question).to(device, dtype))
    checks["loss"] = lambda: _loss(_model(question).to(device, dtype))

    def _eye(kind: torch.dtype) -> torch.Tensor:
        return torch.eye(64, device=device, dtype=kind)

    found = []
    for name, check in checks.items():
        found.append(_tried(name, check))
        if name in {"device", "attention"} and found[-1].state == "failed":
            # What follows needs it.
            break
    if device.type == "cuda" and found[0].state == "passed":
        found += _memory()
    return found


def _memory() -> list[PreflightCheck]:
    """Return what is free; after an illegal access every call fails, and the rest is to be told."""
    with contextlib.suppress(RuntimeError):
        free, total = torch.cuda.mem_get_info()
        gib = {"free_gib": free / 2**30, "total_gib": total / 2**30}
        return [PreflightCheck(id="memory", state="passed", **gib)]
    return []


def _tried(name: str, check: Callable[[], Any]) -> PreflightCheck:
    try:
        check()
        if torch.cuda.is_available():
            # Kernels fail when they are waited for.
            torch.cuda.synchronize()
    except Exception as error:
        traceback.print_exc()
        # Another program may hold the card or its memory: no fault of this environment.
        state = "skipped" if is_out_of_memory(error) or IN_USE in str(error) else "failed"
        return PreflightCheck(id=name, state=state, error=type(error).__name__, torch=_build())
    return PreflightCheck(id=name, state="passed")


def _build() -> str:
    """Return what the installed torch was built for."""
    flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()
    cuda = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return f"torch {torch.__version__} {cuda}" + (f" ({flags})" if flags else "")


def _finite(found: torch.Tensor) -> None:
    if not torch.isfinite(found).all():
        raise ArithmeticError("not finite")


def _nf4(device: torch.device, dtype: torch.dtype) -> None:
    """Run a product with a 4-bit weight forward and backward."""
    import bitsandbytes

    layer = bitsandbytes.nn.Linear4bit(
        64, 64, bias=False, compute_dtype=dtype, compress_statistics=True, quant_type="nf4"
    ).to(device)
    rows = torch.ones(8, 64, device=device, dtype=dtype, requires_grad=True)
    layer(rows).sum().backward()
    assert rows.grad is not None
    _finite(rows.grad)


def _model(question: Question) -> Any:
    use_kept_kernel(question.attention)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=VOCABULARY,
    )
    return LlamaForCausalLM._from_config(config, attn_implementation=question.attention)


def _inputs(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(LENGTH, device=model.device)[None]
    # Two examples in a row, as packing makes them.
    positions = (torch.arange(LENGTH, device=model.device) % (LENGTH // 2))[None]
    return {"input_ids": ids, "position_ids": positions}


def _attention(model: Any) -> None:
    with torch.no_grad():
        _finite(model.model(**_inputs(model), use_cache=False)[0])


def _loss(model: Any) -> None:
    """Run TRL's loss head forward and backward."""
    add_fused_lm_head(model, outputs=OUTPUTS)
    inputs = _inputs(model)
    output = model(**inputs, labels=inputs["input_ids"], fused_lm_head=True)
    loss = -output.log_probs.sum() / LENGTH
    loss.backward()
    _finite(model.model.embed_tokens.weight.grad)


def main() -> None:
    """Answer the question of the standard input."""
    sink, sys.stdout = sys.stdout, sys.stderr
    question = Question.model_validate_json(sys.stdin.read())
    found = PreflightResult(checks=answer(question))
    print("\n" + found.model_dump_json(), file=sink, flush=True)
    if question.step is None or any(one.state == "failed" for one in found.checks):
        return
    from ft_tools.training.worker import step_time

    timed = found.model_copy(update={"step": step_time.measure(question.step)})
    print(timed.model_dump_json(), file=sink, flush=True)


if __name__ == "__main__":
    main()
