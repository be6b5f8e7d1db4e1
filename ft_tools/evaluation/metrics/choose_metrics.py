"""Choose metrics by what the references look like, and say why."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ft_tools.evaluation.metrics.measures import label, parse_json, tool_calls, words

# A part of the references that decides what they are; a few odd lines don't change it.
MOST = 0.9
MAX_CLASSES = 20
CLASS_WORDS = 5
EXAMPLES_PER_CLASS = 3
SHORT_WORDS = 12

# The request's word -> the measures it stands for.
MEASURES: dict[str, tuple[str, ...]] = {
    "json_valid": ("json_valid",),
    "json_fields": ("json_fields",),
    "exact_match": ("exact_match",),
    "token_f1": ("token_f1",),
    "rouge": ("rougeL", "rouge1", "rouge2"),
    "json_schema": ("json_schema",),
    "regex": ("regex",),
    "contains": ("contains",),
    "number": ("number",),
    "set_f1": ("set_f1",),
    "abstention": ("abstention",),
    "classification": ("accuracy", "macro_f1"),
    "tool_call": ("tool_call",),
    "perplexity": ("log_perplexity",),
    "judge": ("judge", "judge_equal_length"),
}


def choose_metrics(
    asked: Sequence[str], references: Sequence[str], rows: Sequence[Mapping[str, Any]] = ()
) -> dict[str, str]:
    """Return the metrics to use, each with why.

    Args:
        asked: As in the request; `auto` stands for what the references suggest.
        references: The expected answers.
        rows: The whole rows; `contains` and `abstain` in them are read.
    """
    chosen: dict[str, str] = {}
    for metric in asked:
        if metric == "auto":
            chosen |= _of_rows(rows) | _suggested(references)
        else:
            chosen[metric] = "requested"
    return chosen


def is_latin(references: Sequence[str]) -> bool:
    """Tell whether most letters are ASCII; ROUGE's own tokenizer sees no others."""
    letters = [c for text in references for c in text if c.isalpha()]
    return not letters or sum(c.isascii() for c in letters) >= len(letters) / 2


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    chosen = {}
    if any("contains" in row or "not_contains" in row for row in rows):
        chosen["contains"] = "rows have `contains` or `not_contains`"
    if any(row.get("abstain") is True for row in rows):
        chosen["abstention"] = "rows have `abstain`"
    return chosen


def _suggested(references: Sequence[str]) -> dict[str, str]:
    size = len(references)
    perplexity = {"perplexity": "measures how well the references are predicted"}
    if sum(_is_call(text) for text in references) >= MOST * size:
        return {"tool_call": "references are tool calls"} | perplexity
    if sum(isinstance(parse_json(text), dict) for text in references) >= MOST * size:
        why = "references are JSON objects"
        return {"exact_match": why, "json_valid": why, "json_fields": why} | perplexity
    lengths = [len(words(text)) for text in references]
    classes = Counter(label(text) for text in references)
    few = len(classes) <= min(MAX_CLASSES, size / EXAMPLES_PER_CLASS)
    if len(classes) > 1 and few and max(lengths) <= CLASS_WORDS:
        return {"classification": f"references are {len(classes)} short labels"} | perplexity
    if median(lengths) <= SHORT_WORDS:
        why = f"references are short: {median(lengths):g} words at the median"
        return {"exact_match": why, "token_f1": why} | perplexity
    why = (
        f"references are texts: {median(lengths):g} words at the median; ROUGE compares wording "
        "and cannot tell right from wrong: add `contains` to the rows, or a judge"
    )
    return {"rouge": why} | perplexity


def _is_call(text: str) -> bool:
    return "name" in text and tool_calls(text) is not None and '"arguments"' in text
