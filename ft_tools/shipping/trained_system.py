"""The system text that a model was trained with, which whoever runs it must send too."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ft_tools.errors import FineTuningError
from ft_tools.formats.training_rows import read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.publish import sha256
from ft_tools.runs.state import directory
from ft_tools.shipping.comparison_text import training_file

SYSTEM_ROLES = {"system", "developer"}
MAX_OTHERS = 5


@dataclass(frozen=True)
class TrainedSystem:
    """What the training examples have for a system text."""

    text: str | None = None
    """The most frequent one; None: most examples have none, or the training data is unknown."""
    num_examples: int = 0
    num_with_text: int = 0
    others: list[tuple[str, int]] = field(default_factory=list)
    """The other texts and how many examples have them, the most frequent first."""

    def sentence(self) -> str:
        """Return what is shipped, and what else there was."""
        if not self.num_examples:
            return "the training data is not available: the system text it used is unknown"
        if self.text is None:
            return (
                f"{self.num_examples - self.num_with_text} of {self.num_examples} training "
                "examples have no system text; none is shipped"
            )
        said = f"shipped: the system text of {self.num_with_text} of {self.num_examples} training "
        said += "examples"
        if self.others:
            counts = ", ".join(str(count) for _, count in self.others[:MAX_OTHERS])
            said += f"; {len(self.others)} other system texts were used ({counts} examples)"
        return said


def trained_system(source: str) -> TrainedSystem:
    """Return the system text of a run's training data.

    Args:
        source: What is shipped, as in the request; only a run knows its training data.
    """
    if not directory.RUN_ID.fullmatch(source):
        return TrainedSystem()
    path = training_file(source)
    if path is None or not _is_unchanged(source, path):
        return TrainedSystem()
    try:
        return system_of(path)
    except FineTuningError:
        return TrainedSystem()


def system_of(path: Path) -> TrainedSystem:
    """Count the system texts of a training file.

    Raises:
        BadData: A line is not a JSON object.
    """
    texts = Counter(_text_of(example) for _, example in read_examples(path))
    total = sum(texts.values())
    if not texts:
        return TrainedSystem()
    text, count = texts.most_common(1)[0]
    others = [(one, many) for one, many in texts.most_common() if one and one != text]
    if text is None:
        return TrainedSystem(None, total, total - count, others)
    return TrainedSystem(text, total, count, others)


def _text_of(example: Example) -> str | None:
    for name in ("messages", "prompt", "chosen"):
        turns = example.get(name)
        if isinstance(turns, list) and turns and isinstance(turns[0], dict):
            first = turns[0]
            content = first.get("content")
            is_system = first.get("role") in SYSTEM_ROLES and isinstance(content, str)
            return str(content) if is_system else None
    return None


def _is_unchanged(run_id: str, path: Path) -> bool:
    plan = directory.read_json(directory.find(run_id) / "plan.json") or {}
    dataset = plan.get("dataset")
    known = dataset.get("sha256") if isinstance(dataset, dict) else None
    return known is None or known == sha256(path)
