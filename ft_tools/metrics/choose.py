"""Choose metrics by what the references look like, and say why."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from ft_tools.metrics.text import label, parse_json, tool_calls, words

# A part of the references that decides what they are; a few odd lines do not change it.
MOST = 0.9
MAX_CLASSES = 20
CLASS_WORDS = 5
EXAMPLES_PER_CLASS = 3
SHORT_WORDS = 12


def choose_metrics(requests: Sequence[str], references: Sequence[str]) -> dict[str, str]:
    """Return the words of a request with the reasons; for `auto` those the references suggest."""
    chosen: dict[str, str] = {}
    for request in requests:
        chosen |= _of_references(references) if request == "auto" else {request: "requested"}
    return chosen


def _of_references(references: Sequence[str]) -> dict[str, str]:
    size = len(references)
    if sum(_is_call(text) for text in references) >= MOST * size:
        return {"tool_call": "references are tool calls"}
    if sum(isinstance(parse_json(text), dict) for text in references) >= MOST * size:
        return dict.fromkeys(
            ("exact_match", "json_valid", "json_fields"), "references are JSON objects"
        )
    lengths = [len(words(text)) for text in references]
    classes = Counter(label(text) for text in references)
    few = len(classes) <= min(MAX_CLASSES, size / EXAMPLES_PER_CLASS)
    if len(classes) > 1 and few and max(lengths) <= CLASS_WORDS:
        return {"classification": f"references are {len(classes)} short labels"}
    if median(lengths) <= SHORT_WORDS:
        why = f"references are short: {median(lengths):g} words at the median"
        return {"exact_match": why, "token_f1": why}
    why = (
        f"references are texts: {median(lengths):g} words at the median; ROUGE compares wording "
        "and cannot tell right from wrong: declare `checks`, such as contains or a judge"
    )
    return {"rouge": why}


def _is_call(text: str) -> bool:
    return "name" in text and tool_calls(text) is not None and '"arguments"' in text
