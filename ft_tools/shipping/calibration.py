"""Text that a quantizer may look at: like what was trained on, never what is measured on."""

import json
import random
from pathlib import Path

from ft_tools.formats.training_rows import read_examples
from ft_tools.formats.trl_formats import Example
from ft_tools.shipping import comparison_text

# Source: https://arxiv.org/abs/2210.17323, section 4: 128 segments.
NUM_EXAMPLES = 128
MAX_EXAMPLE_TOKENS = 512


def examples(path: Path, measured_on: Path | None, count: int = NUM_EXAMPLES) -> list[Example]:
    """Return examples spread evenly by chance over a file, the same ones each time.

    An example that is also measured on is left out, however often the file has it.

    Args:
        path: JSONL file.
        measured_on: File of held-out examples; None: there is none.
        count: How many at most.

    Raises:
        BadData: A line is not a JSON object.
    """
    known = {_key(e) for _, e in read_examples(measured_on)} if measured_on else set()
    dice = random.Random(0)
    kept: list[Example] = []
    seen = 0
    for _, example in read_examples(path):
        if comparison_text.conversation(example) is None or _key(example) in known:
            continue
        # Reservoir sampling, algorithm R: each of `seen` examples is kept with the same chance.
        seen += 1
        if len(kept) < count:
            kept.append(example)
        elif (place := dice.randrange(seen)) < count:
            kept[place] = example
    return kept


def _key(example: Example) -> str:
    return json.dumps(comparison_text.conversation(example), sort_keys=True)
