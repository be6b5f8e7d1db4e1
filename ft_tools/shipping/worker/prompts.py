"""Whether the programs that run a shipped model build the prompts that it was trained on.

Also where its answers end, and the generation config that says so.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ft_tools.models.model_folder import read_object
from ft_tools.models.worker.end_tokens import end_tokens
from ft_tools.shipping import modelfile
from ft_tools.shipping.asking import greedy_settings

OLLAMA, LLAMA_CPP, TRANSFORMERS = "Ollama", "llama.cpp and LM Studio", "transformers and vLLM"
GENERATION = "generation_config.json"


def ends_of(tokenizer: Any, folder: Path) -> list[int]:
    """Return the tokens that end an answer of the model in a folder."""
    configs = (
        read_object(folder / name).get("eos_token_id") for name in (GENERATION, "config.json")
    )
    return end_tokens(tokenizer, *configs)


def stop_texts(tokenizer: Any, folder: Path) -> tuple[str, ...]:
    """Return the texts that end an answer."""
    return tuple(str(tokenizer.convert_ids_to_tokens(i)) for i in ends_of(tokenizer, folder))


def write_greedy(tokenizer: Any, folder: Path, max_new_tokens: int | None) -> None:
    """Rewrite generation_config.json so that the model answers as it was measured."""
    file = folder / GENERATION
    made = greedy_settings(read_object(file), ends_of(tokenizer, folder), max_new_tokens)
    file.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")


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
    """Compare each program's prompts with those of training, on talks of 1 to 5 messages."""
    if not trained.chat_template:
        return {TRANSFORMERS: "no chat template: it was trained on plain text"}
    wanted = renderer(trained)
    found = {TRANSFORMERS: _compared(wanted, renderer(shipped))}
    if gguf is not None:
        from ft_tools.shipping.worker import llama

        is_same = llama.template_of(gguf) == trained.chat_template
        found[LLAMA_CPP] = (
            f"the file's template {'is' if is_same else 'DIFFERS from'} the trained one"
        )
        found[OLLAMA] = (
            "no TEMPLATE: the chat template is not made of fixed parts; check the prompts"
            if parts is None
            else _compared(wanted, parts.render)
        )
    return found


def _compared(wanted: modelfile.Render, build: Callable[[Any, bool], str]) -> str:
    takes_system = modelfile.rendered(wanted, *modelfile.probes(with_system=True)[-1]) or ""
    cases = modelfile.probes(with_system=modelfile.PROBE_SYSTEM in takes_system)
    same = sum(wanted(*case) == modelfile.rendered(build, *case) for case in cases)
    return f"prompts equal to training's in {same} of {len(cases)} conversations"
