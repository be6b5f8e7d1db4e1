"""Whether the programs that run a shipped model build the prompts that it was trained on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ft_tools.shipping import modelfile

OLLAMA, LLAMA_CPP, TRANSFORMERS = "Ollama", "llama.cpp and LM Studio", "transformers and vLLM"


def prompt_parts(tokenizer: Any) -> modelfile.PromptParts | None:
    """Cut the chat template into the parts that Ollama's template is made of."""
    if not tokenizer.chat_template:
        return None
    first = tokenizer("x", add_special_tokens=True).input_ids[0]
    bos = tokenizer.bos_token if first == tokenizer.bos_token_id else ""
    return modelfile.parts_of(renderer(tokenizer), bos or "")


def renderer(tokenizer: Any) -> modelfile.Render:
    """Return what builds prompts in training."""

    def render(messages: Any, generation: bool) -> str:
        return str(
            tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generation
            )
        )

    return render


def proofs(
    trained: Any, shipped: Any, parts: modelfile.PromptParts | None, gguf: Path | None
) -> dict[str, str]:
    """Compare each program's prompts with those of training, over conversations of 1 to 5 messages.

    Args:
        trained: The tokenizer of the adapter, or of the base where the adapter has none.
        shipped: The tokenizer beside the shipped weights.
        parts: Of the chat template, from `prompt_parts`.
        gguf: One of the GGUF files; None: there is none.
    """
    if not trained.chat_template:
        return {TRANSFORMERS: "no chat template: it was trained on plain text"}
    wanted = renderer(trained)
    found = {TRANSFORMERS: _compared(wanted, renderer(shipped))}
    if gguf is not None:
        from ft_tools.shipping.worker import gguf_files

        held = gguf_files.template_of(gguf)
        same = (
            "the file's template is the trained one"
            if held == trained.chat_template
            else ("the file's template differs from the trained one")
        )
        build = gguf_files.renderer(held or "", trained.bos_token or "", trained.eos_token or "")
        found[LLAMA_CPP] = f"{same}; {_compared(wanted, build)}"
        found[OLLAMA] = (
            "no TEMPLATE: the chat template is not made of fixed parts; check the prompts"
            if parts is None
            else _compared(wanted, parts.render)
        )
    return found


def _compared(wanted: modelfile.Render, build: Callable[[Any, bool], str]) -> str:
    cases = modelfile.probes(with_system=_takes_system(wanted))
    same = sum(_same(wanted, build, messages, generation) for messages, generation in cases)
    return f"prompts equal to training's in {same} of {len(cases)} conversations"


def _same(wanted: modelfile.Render, build: Any, messages: Any, generation: bool) -> bool:
    expected = wanted(messages, generation)
    try:
        return bool(build(messages, generation) == expected)
    except Exception:
        # A template raises whatever it likes, for instance for a role that it does not know.
        return False


def _takes_system(render: modelfile.Render) -> bool:
    messages, generation = modelfile.probes(with_system=True)[-1]
    try:
        return messages[0]["content"] in render(messages, generation)
    except Exception:
        return False
