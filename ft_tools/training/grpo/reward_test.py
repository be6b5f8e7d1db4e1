"""Whether a reward tells right answers from wrong ones, tried before anything is trained.

References have to score 1; answers that solve nothing have to score clearly less. An answer to
another row that is right for this one, too, is left out.
"""

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.facts import number
from ft_tools.formats.answer_kinds import are_few_labels
from ft_tools.formats.json_text import json_collection
from ft_tools.metrics.checks.answers import as_text
from ft_tools.metrics.checks.request import Check
from ft_tools.metrics.checks.scorer import Scorer, Scores
from ft_tools.metrics.text import last_number, normalise
from ft_tools.training.findings import refusal, warning
from ft_tools.training.grpo.prompts import Prompt

ROWS = 16
CANDIDATES = 3
"""Other rows' answers that are tried for each row."""
POOL = 500
"""Rows, spread over the file, whose answers are looked through for these."""
REPEATS = 100
FILLER = "word "
MOST_COMMON = "most_common"
"""One reference for all rows; it may be right for some, so that only its mean counts."""
WHERE = re.compile(r"\bwhere\b", re.IGNORECASE)
LIST = 3
"""Items that make a list, and the most words of one."""
RIGHT = 0.999
RUN = {"tests", "sql"}
"""Kinds that run the answer: another number in a program may not change what it does."""
ASKED = {"judge"}
"""Kinds that cost money: they are asked by the probe, not by a plan."""
PLACEHOLDER = "{answer}"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
CONSTANTS = {**{name: name for name in ("True", "False", "None", "0")},
             "argument": "_[0] if _ else None"}  # fmt: skip
"""What a function that solves nothing may return in every case: at last, its first argument."""
ANYTHING = ".*"
"""An expression that matches everything."""
NO_ROWS = "SELECT NULL WHERE 0"
OFF, OFF_AT_LEAST = 0.3, 3
"""A near number: off by this part, and at least by so much."""
UNCOMPARED = "uncompared_values"
ROWS_OF_A_VALUE = 4
"""Rows on which each value of a reference is changed alone."""
SHORT = 8
"""Words of a line of which every number counts."""


class RewardTest(BaseModel):
    """What the reward gives to references and to answers that solve nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: int = Field(description="Prompts that were tried.")
    references_right: float | None = Field(
        None, description="Fraction of references that score 1; null without references."
    )
    gaps: dict[str, float] = Field(
        description="Kind of junk -> mean reward of the references minus that of the junk."
    )


def require_sound(
    checks: Sequence[Check],
    prompts: Sequence[Prompt],
    written_as: str,
    accepted: Collection[str] = (),
) -> tuple[RewardTest, list[str]]:
    """Refuse a reward that rejects references or pays for answers that solve nothing.

    `written_as` is how a right answer is written around the reference; `accepted` are ids that the
    user accepts.
    """
    tried = [check for check in checks if check.kind not in ASKED]
    chosen = list(prompts[:: max(1, len(prompts) // ROWS)][:ROWS])
    known = [one for one in chosen if one.reference.strip()]
    chosen = known or chosen
    cases = _junk(chosen, prompts, written_as, tried)
    asked: list[tuple[Prompt, str]] = []
    if known:
        # A reward may want the thought, which `written_as` would put inside its own form.
        plain = written_as == PLACEHOLDER
        asked += [
            (one, one.written if plain else _written(one.reference, written_as)) for one in chosen
        ]
    asked += [(one, text) for case in cases.values() for one, text in case]
    by_value = _one_value_changed(known, written_as)
    asked += [(one, text) for case in by_value.values() for one, text in case]
    with Scorer(tried) as scorer:
        scores = iter(scorer.score([one.row for one, _ in asked], [text for _, text in asked]))
    right: dict[int, float] = {}
    if known:
        found = [(one, next(scores)) for one in chosen]
        right = {one.line: _total(score) for one, score in found}
        _require_references(found)
    gaps = {
        name: _require_told_apart(name, [(one, next(scores)) for one, _ in case], right)
        for name, case in cases.items()
    }
    rewarded = {name: [_total(next(scores)) for _ in case] for name, case in by_value.items()}
    free = [name for name, totals in rewarded.items() if min(totals) >= RIGHT]
    notes = [] if known else [warning("no_references", rows=len(prompts))]
    if free:
        fields = {"names": ", ".join(free), "count": len(free), "all": len(by_value)}
        # Texts may be free; numbers, lists and truth values of an object are answers.
        answers = _no_texts(known) & {*free}
        if (answers or len(free) * 2 > len(by_value)) and UNCOMPARED not in accepted:
            raise refusal("values_not_compared", **fields)
        notes.append(warning("values_not_compared", **fields))
    test = RewardTest(
        rows=len(chosen),
        references_right=_fraction(right.values()) if known else None,
        gaps={name: round(gap, 3) for name, gap in gaps.items()},
    )
    return test, notes


Case = list[tuple[Prompt, str]]


def _junk(
    chosen: Sequence[Prompt], prompts: Sequence[Prompt], written_as: str, checks: Sequence[Check]
) -> dict[str, Case]:
    """Return answers that solve nothing, by what they are; several of a row may be candidates."""
    entries = [one.entry_point for one in checks if one.kind == "tests" and one.entry_point]
    columns = [name for check in checks for name in check.columns]
    kinds = {check.kind for check in checks}
    pool = prompts[:: max(1, len(prompts) // POOL)]
    known = [one.reference for one in prompts if one.reference.strip()]
    references = list(dict.fromkeys(known))
    columned = ([as_text(one.row.get(name)) for one in prompts] for name in columns)
    labels = [references, *(list(dict.fromkeys(values)) for values in columned)]
    every = [
        "\n".join(one) for one in labels if len(one) > 1 and are_few_labels(len(one), len(prompts))
    ]

    def junk_of(one: Prompt) -> dict[str, list[str]]:
        reference = one.reference
        texts = {
            "empty": [""],
            "prompt_copied": [str(one.row["prompt"])],
            "anything": [ANYTHING],
        }
        for name, value in CONSTANTS.items():
            texts[f"constant {name}"] = [
                f"def {one.row.get(entry, entry)}(*_, **__):\n    return {value}"
                for entry in entries
            ]
        if len(references) < 2:
            return texts | {"repeated": [FILLER * REPEATS]}
        others, item = _others(one, pool, columns), _first_only(reference)
        # The numbers of an answer may be beside what is asked for: those of others are changed,
        # too, and its own only where they are compared.
        values = [] if kinds & RUN else [*_own_values(one, columns), *others]
        has_condition = "sql" in kinds and WHERE.search(reference)
        is_number = NUMBER.fullmatch(reference.strip()) and float(reference)
        return texts | {
            "other_answer": [_written(other, written_as) for other in others],
            "repeated": ["\n".join([other] * REPEATS) for other in others],
            "wrong_values": [_written(t, written_as) for v in values if (t := changed(v))],
            "every_label": every,
            "repeated_item": [_written(item, written_as)] if item else [],
            "nothing_in_json": ["{}"] if isinstance(json_collection(reference), dict) else [],
            "no_condition": [_written(WHERE.split(reference)[0], written_as)]
            if has_condition
            else [],
            "no_rows": [_written(NO_ROWS, written_as)] if "sql" in kinds else [],
            "number_off": [_written(_off(reference), written_as)] if is_number else [],
            "sign_changed": [_written(_negated(reference), written_as)] if is_number else [],
        }

    cases: dict[str, Case] = {}
    for one in chosen:
        for name, texts in junk_of(one).items():
            cases.setdefault(name, []).extend((one, text) for text in texts)
    if len(references) > 1:
        common = Counter(known).most_common(1)[0][0]
        # Every few rows of a file may have the same label.
        drawn = random.Random(0).sample(prompts, min(len(prompts), 2 * ROWS))
        cases[MOST_COMMON] = [(one, _written(common, written_as)) for one in drawn]
    return {name: case for name, case in cases.items() if case}


def _one_value_changed(known: Sequence[Prompt], written_as: str) -> dict[str, Case]:
    """Return the references with one value changed, by its name.

    Values are the fields of JSON objects, or the numbers of a short line.
    """
    cases: dict[str, Case] = {}
    for one in known[:ROWS_OF_A_VALUE]:
        value = json_collection(one.reference)
        if isinstance(value, dict):
            texts = {
                name: json.dumps({**value, name: _changed_value(inner)}, ensure_ascii=False)
                for name, inner in value.items()
            }
        else:
            text = one.reference if value is None and _is_short(one.reference) else ""
            texts = {
                f"number {place}": text[: found.start()]
                + _changed_number(found)
                + text[found.end() :]
                for place, found in enumerate(NUMBER.finditer(text), 1)
            }
        for name, text in texts.items():
            cases.setdefault(name, []).append((one, _written(text, written_as)))
    return cases


def _no_texts(known: Sequence[Prompt]) -> set[str]:
    """Return the fields of JSON objects that hold anything but texts."""
    values = [json_collection(one.reference) for one in known[:ROWS_OF_A_VALUE]]
    return {
        name
        for value in values
        if isinstance(value, dict)
        for name, inner in value.items()
        if inner is not None and not isinstance(inner, str)
    }


def _is_short(reference: str) -> bool:
    return "\n" not in reference.strip() and len(reference.split()) <= SHORT


def _off(reference: str) -> str:
    """Return a number nearby that is not right.

    >>> _off("10"), _off("-2.5")
    ('13', '-5.5')
    """
    value = float(reference)
    wrong = value + math.copysign(max(OFF * abs(value), OFF_AT_LEAST), value)
    return f"{wrong:g}" if "." in reference else f"{wrong:.0f}"


def _negated(reference: str) -> str:
    text = reference.strip()
    return text[1:] if text.startswith("-") else f"-{text}"


def _others(one: Prompt, prompts: Sequence[Prompt], columns: Sequence[str]) -> list[str]:
    """Return answers to other rows that are not this row's, spread over the file.

    Rows with the same last number, or the same values of the columns that checks compare with, such
    as one label under two texts, are left out, unless all rows have the same.
    """
    own, as_number = normalise(one.reference), last_number(one.reference)
    wanted = _compared(one, columns)
    others, apart = dict[str, None](), dict[str, None]()
    for other in prompts:
        text = other.reference
        if not text.strip() or text in apart or normalise(text) == own:
            continue
        others[text] = None
        is_other = as_number is None or last_number(text) != as_number
        if is_other and _compared(other, columns) != wanted:
            apart[text] = None
    return _spread(one, list(apart or others))


def _compared(one: Prompt, columns: Sequence[str]) -> list[str]:
    return [normalise(as_text(one.row.get(name))) for name in columns]


def _own_values(one: Prompt, columns: Sequence[str]) -> list[str]:
    """Return the reference, if its values are what is compared."""
    compared = not columns or any(map(NUMBER.search, _compared(one, columns)))
    return [one.reference] if compared or json_collection(one.reference) is not None else []


def _spread(one: Prompt, others: Sequence[str]) -> list[str]:
    step = max(1, len(others) // CANDIDATES)
    start = one.line % step
    return [*others[start::step][:CANDIDATES]]


def _first_only(reference: str) -> str:
    """Return a list with its first item in all places; empty for what is no list of short items.

    >>> _first_only("Neon, Argon, Radon"), _first_only("No, it is not.")
    ('Neon, Neon, Neon', '')
    >>> _first_only('{"stops": ["Elm", "Oak", "Ash"]}')
    '{"stops": ["Elm", "Elm", "Elm"]}'
    """
    value = json_collection(reference)
    if value is not None:
        repeated = _repeated(value)
        return "" if repeated == value else json.dumps(repeated, ensure_ascii=False)
    items = reference.strip().split(", ")
    is_list = len(items) >= LIST and all(len(item.split()) <= LIST for item in items)
    return ", ".join(_repeated(items)) if is_list and len({*items}) > 1 else ""


def _repeated(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _repeated(inner) for name, inner in value.items()}
    return value[:1] * len(value) if isinstance(value, list) else value


def changed(reference: str) -> str:
    """Return an answer of the same form with other values; empty where no value is known.

    >>> changed("The answer is 4."), changed('{"a": 2, "b": true}'), changed("yes")
    ('The answer is 55.', '{"a": 33, "b": false}', '')
    """
    value = json_collection(reference)
    if value is not None:
        return json.dumps(_changed_value(value), ensure_ascii=False)
    return NUMBER.sub(_changed_number, reference) if NUMBER.search(reference) else ""


def _changed_number(found: re.Match[str]) -> str:
    """Return a number that no usual tolerance takes for the other."""
    text = found[0]
    value = 11 * abs(float(text)) + 11
    return f"{value:.0f}" if "." not in text else f"{value:g}"


def _changed_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _changed_value(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_changed_value(inner) for inner in value]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return 11 * abs(value) + 11
    if value is None:
        return "none"
    text = str(value)
    return NUMBER.sub(_changed_number, text) if NUMBER.search(text) else f"not {text}"


def _written(reference: str, written_as: str) -> str:
    return written_as.replace(PLACEHOLDER, reference)


def _require_references(found: Sequence[tuple[Prompt, Scores]]) -> None:
    wrong = [(one, scores) for one, scores in found if _total(scores) < RIGHT]
    least = number("grpo.references_right")
    if len(found) - len(wrong) >= least * len(found):
        return
    one, scores = wrong[0]
    sizes = {"wrong": len(wrong), "rows": len(found), "least": least}
    raise refusal("reward_rejects_references", **sizes, line=one.line, parts=scores.described)


def _require_told_apart(
    name: str, found: Sequence[tuple[Prompt, Scores]], right: dict[int, float]
) -> float:
    """Return by how much references score more than a kind of junk."""
    tried: dict[int, list[float]] = {}
    for one, scores in found:
        tried.setdefault(one.line, []).append(_total(scores))
    # Objects of two rows may share most of their values: there the least alike counts.
    is_shared = all(json_collection(one.reference) is not None for one, _ in found)
    of_row: Callable[[list[float]], float] = min if is_shared else fmean
    gap = fmean(right.get(line, 1.0) - of_row(totals) for line, totals in tried.items())
    accepted = _fraction(total for totals in tried.values() for total in totals)
    is_common = name == MOST_COMMON
    least = number("grpo.constant_gap" if is_common else "grpo.junk_gap")
    is_rare = is_common or accepted <= number("grpo.junk_accepted")
    if gap >= least - 1e-6 and is_rare:
        return gap
    total, one, scores = max(
        ((_total(scores), one, scores) for one, scores in found), key=lambda each: each[0]
    )
    fields = {"case": name, "accepted": accepted, "gap": gap, "line": one.line}
    fields |= {"least": least, "total": total, "parts": scores.described}
    raise refusal("reward_accepts_junk", **fields)


def _total(scores: Scores) -> float:
    """Return the reward; a verifier that broke is none."""
    return scores.total if scores.total is not None else 0.0


def _fraction(totals: Iterable[float]) -> float:
    """Return the fraction that scores 1."""
    values = list(totals)
    return sum(total >= RIGHT for total in values) / len(values)
