"""What TRL and Axolotl would do with the rows of a file as they are, by their documented rules.

Every rule here was read in the named version; a trainer's reason is a constant of this file.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ft_tools.data.report import Survival
from ft_tools.formats.example import Example
from ft_tools.formats.formats import ANSWERS, LISTS, PROMPTS

STOPPED = "stopped_by_the_other_rows"
# Rows that end `datasets.load_dataset`, with which both read files. Seen with datasets 5.2.
ENDS_LOADING = frozenset({"unreadable_line", "not_utf8", "invalid_unicode"})
SPOKEN = frozenset({"system", "user", "assistant", "tool"})
SPOKEN_IN = frozenset({*PROMPTS, *ANSWERS, *LISTS, "chosen", "rejected"}) - {"context"}
READ_ALIKE = ("prompt", "completion", "chosen", "rejected", "messages")
"""Columns that TRL reads all of one kind, texts or turns."""


def _trl(example: Example, row: Mapping[str, Any]) -> str | None:
    """TRL reads messages, text, prompt+completion, chosen+rejected; roles stay as spelt."""
    if not {*example.roles} <= SPOKEN | {"developer"}:
        return "role_names_not_mapped"
    if example.format == "prompt_only":
        return "no_answer"
    return None if _trl_reads(example, row) else "columns_not_read"


def _trl_reads(example: Example, row: Mapping[str, Any]) -> bool:
    """Return whether TRL reads the columns, all of one kind, for what they are.

    `from` and `value` are known in `conversations` only, roles everywhere else; a prompt without a
    completion is an error, whatever else is there. Seen with TRL 1.16.
    """
    spells_from = "from" in example.turn_keys
    if len({isinstance(row[name], list) for name in READ_ALIKE if name in row}) > 1:
        return False
    if example.task == "dpo":
        by_itself = example.format not in {"alpaca_preference", "sharegpt_preference"}
        return "chosen" in row and "rejected" in row and by_itself and not spells_from
    if example.task == "kto":
        return all(name in row for name in ("prompt", "completion", "label")) and not spells_from
    if "prompt" in row:
        return "completion" in row and not spells_from
    if isinstance(row.get("messages"), list):
        return not spells_from
    return spells_from if isinstance(row.get("conversations"), list) else "text" in row


def _axolotl(example: Example, row: Mapping[str, Any]) -> str | None:
    """Axolotl maps these role names only.

    A prompt with a completion, or a marked answer, is text: what it does with turns is no chat.

    Source: axolotl 0.19.0, prompt_strategies/
    """
    known = SPOKEN if example.task == "dpo" else SPOKEN | {"human", "gpt"}
    if example.format in {"prompt_completion", "kto"} and any(
        isinstance(row[name], list) for name in SPOKEN_IN.intersection(row)
    ):
        return "columns_not_read"
    if not {*example.roles} <= known:
        return "role_names_not_mapped"
    unread = example.format in {"unknown", "prompt_only", "openai_preference"}
    unread = unread or (example.format == "alpaca" and "output" not in row)
    return "columns_not_read" if unread else None


Rule = Callable[[Example, Mapping[str, Any]], str | None]
TRAINERS: dict[str, tuple[str, Rule]] = {
    "TRL 1.16": ("https://huggingface.co/docs/trl/dataset_formats", _trl),
    "Axolotl 0.19.0": (
        "https://docs.axolotl.ai/docs/dataset-formats/conversation.html",
        _axolotl,
    ),
}


class TrainerCounts:
    """Counts the examples that each trainer would train on, and why not the others."""

    def __init__(self) -> None:
        self._outcomes: Counter[tuple[str | None, ...]] = Counter()

    def add(
        self, example: Example, row: Any, *, broken: bool, tokens: tuple[int, int], max_length: int
    ) -> None:
        """Count an example.

        Args:
            example: As it was read.
            row: What it was read of.
            broken: Whether something is wrong with its structure.
            tokens: Of all of it, and of its last answer.
            max_length: Tokens after which an example is cut off or dropped.
        """
        whole, answer = tokens
        is_cut = whole - answer >= max_length and bool(example.prompt_and_answer()[0])
        by_length = {
            "TRL 1.16": "answer_cut_off" if is_cut else None,
            "Axolotl 0.19.0": "longer_than_sequence_len_dropped" if whole > max_length else None,
        }
        columns = row if isinstance(row, Mapping) else {}
        self._outcomes[
            tuple(
                "broken_structure" if broken else rule(example, columns) or by_length[name]
                for name, (_, rule) in TRAINERS.items()
            )
        ] += 1

    def survival(self, unread: Mapping[str, int]) -> list[Survival]:
        """Return what each trainer makes of the rows.

        Where one row stops a trainer, it trains on none, and the sound rows are counted as stopped.

        Args:
            unread: Rows that are no examples, by finding.
        """
        reports = []
        for at, (trainer, (source, _)) in enumerate(TRAINERS.items()):
            lost: Counter[str] = Counter(unread)
            for outcome, count in self._outcomes.items():
                lost[outcome[at] or ""] += count
            trained = lost.pop("", 0)
            if trained and ENDS_LOADING & lost.keys():
                lost[STOPPED], trained = trained, 0
            reports.append(
                Survival(trainer=trainer, trained=trained, not_trained=dict(lost), source=source)
            )
        return reports
