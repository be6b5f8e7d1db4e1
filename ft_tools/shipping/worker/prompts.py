"""Whether the programs that run a shipped model build the prompts that it was trained on.

Also where its answers end, and the generation config that says so.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ft_tools.models.model_folder import read_object
from ft_tools.models.worker.end_tokens import end_tokens
from ft_tools.shipping import modelfile
from ft_tools.shipping.asking import greedy_settings
from ft_tools.shipping.worker.proof import render

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

    def built(messages: Sequence[modelfile.Message], generation: bool) -> str:
        return render(tokenizer, list(messages), generation=generation)

    return modelfile.parts_of(built, bos or "")


def proofs(
    trained: Any, shipped: Any, parts: modelfile.PromptParts | None, gguf: Path | None
) -> dict[str, str]:
    """Return for each program whether it builds the prompts that were trained on.

    `trained` is the tokenizer of the adapter, or of the base where the adapter has none.
    """
    if not trained.chat_template:
        return {TRANSFORMERS: "no chat template: it was trained on plain text"}
    held = {TRANSFORMERS: shipped.chat_template}
    if gguf is not None:
        from ft_tools.shipping.worker import llama

        held[LLAMA_CPP] = llama.template_of(gguf)
    found = {
        name: ("" if template == trained.chat_template else "NOT ") + "the trained chat template"
        for name, template in held.items()
    }
    if gguf is not None:
        # Parts are kept only if they build every prompt as the template does.
        found[OLLAMA] = (
            "no TEMPLATE: the chat template is not made of fixed parts; check the prompts"
            if parts is None
            else "a TEMPLATE that builds the trained prompts in each of "
            f"{len(modelfile.probes(with_system=parts.system is not None))} conversations"
        )
    return found
