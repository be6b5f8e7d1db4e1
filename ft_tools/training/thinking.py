"""Whether a model that thinks before it answers is trained on answers with thoughts."""

import re
from pathlib import Path

from ft_tools.formats.example import THOUGHTS
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.models import model_folder
from ft_tools.models.resolve import ModelSource

# What templates write around a thought: <think> of Qwen 3, DeepSeek R1, GLM 4.5 and Nemotron, the
# analysis channel of gpt-oss, START_THINKING of Command A, Seed-OSS, [THINK] of Mistral, thought
# channel of Gemma 4. Source: the chat templates of these models on the Hub.
THINKS = re.compile(
    r"<think>|<\|channel\|>analysis|<\|START_THINKING\|>|<seed:think>|\[THINK\]|<\|channel>thought"
)
SWITCH = re.compile(r"\b(enable_thinking|thinking_budget|reasoning_effort)\b")
# Fewer answers than this share are an oversight, not a decision.
FEW = 0.05


def about_thoughts(
    source: ModelSource, dataset: DatasetFacts, template_path: str | None
) -> list[str]:
    """Say so when thoughts and model do not go together, with the two cures."""
    template = _template(source, template_path)
    if template is None or dataset.format == "text":
        return []
    share = dataset.num_thoughts / dataset.num_examples
    if THINKS.search(template) and share <= FEW:
        switch = SWITCH.search(template)
        how = f"`{switch[1]}`" if switch else "a checkpoint of the same family that does not think"
        return [
            f"thinking_lost: {source.name} thinks before it answers, and {dataset.num_thoughts} of "
            f"{dataset.num_examples} answers have a thought, so it learns to answer without one. "
            "Keep thoughts in the data (`reasoning_content`, as this model itself writes them), or "
            f"use the tuned model without thinking only: {how}"
        ]
    if dataset.num_thoughts and not reads_thoughts(template):
        return [
            f"thinking_lost: {dataset.num_thoughts} of {dataset.num_examples} answers have a "
            f"thought, and the chat template of {source.name} has no place for it. Train a model "
            "that thinks, or write the thought into the answer's text (<think>...</think>) and "
            "remove it again wherever the tuned model is used"
        ]
    return []


def reads_thoughts(template: str) -> bool:
    """Say whether a template prints a thought that a message has beside its content.

    >>> reads_thoughts("{{ message.reasoning_content }}"), reads_thoughts("{{ message.content }}")
    (True, False)
    """
    return any(re.search(rf"\b{name}\b", template) for name in THOUGHTS)


def _template(source: ModelSource, given: str | None) -> str | None:
    if given is None and not source.path:
        return None
    folder = Path(model_folder.tokenizer_folder(source.adapter, source.path or ""))
    return model_folder.chat_template(folder, given)
