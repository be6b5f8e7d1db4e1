"""Count the rows of a file that TRL and Axolotl would train on as they are.

The rules were read in the named versions. The columns that an example is made of are those of
`ft_tools/formats/formats.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ft_tools.data.report import Survival
from ft_tools.formats.example import Example
from ft_tools.formats.formats import BESIDE, columns_read
from ft_tools.formats.turns import SPEAKER, as_turns, first_of

Row = Mapping[str, Any]
Turns = Sequence[Any]
STOPPED = "stopped_by_the_other_rows"
ENDS_LOADING = frozenset({"unreadable_line", "not_utf8", "invalid_unicode"})
"""Rows that end `datasets.load_dataset`, with which both read files. Seen with datasets 5.2."""
ROLES = frozenset({"system", "user", "assistant", "tool"})
TRL_ROLES, AXOLOTL_ROLES = ROLES | {"developer"}, ROLES | {"human", "gpt"}
READ_ALIKE = ("prompt", "completion", "chosen", "rejected", "messages")
"""Columns that TRL reads all of one kind, texts or turns."""


def _trl(example: Example, row: Row, turns: Turns) -> str | None:
    """Return why TRL does not read a row as it should; it keeps role names as they are spelled."""
    if not {_speaker(turn) for turn in turns} <= TRL_ROLES:
        return "role_names_not_mapped"
    if example.format == "prompt_only":
        return "no_answer"
    spells_from = bool(turns) and isinstance(turns[0], Mapping) and "from" in turns[0]
    return None if _trl_reads(example, row, spells_from) else "columns_not_read"


def _trl_reads(example: Example, row: Row, spells_from: bool) -> bool:
    """Return whether TRL reads the columns for what they are.

    `from` and `value` are known in `conversations` only, roles everywhere else; a prompt without a
    completion is an error, whatever else is there.
    """
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


def _axolotl(example: Example, row: Row, turns: Turns) -> str | None:
    """Return why Axolotl does not read a row as it should: it maps a few role names.

    A prompt with a completion, or a marked answer, is text: what it does with turns is no chat.
    """
    if turns and example.format in {"prompt_completion", "kto"}:
        return "columns_not_read"
    known = ROLES if example.task == "dpo" else AXOLOTL_ROLES
    if not {_speaker(turn) for turn in turns} <= known:
        return "role_names_not_mapped"
    is_unread = example.format in {"unknown", "prompt_only", "openai_preference"}
    is_unread = is_unread or (example.format == "alpaca" and "output" not in row)
    return "columns_not_read" if is_unread else None


def _turns(example: Example, row: Row) -> Iterator[Any]:
    for name in columns_read(row, example.format).difference(BESIDE):
        turns = as_turns(row.get(name))
        yield from turns if isinstance(turns, list) else ()


def _speaker(turn: Any) -> str:
    """Return a role as the file spells it; empty where no trainer can know who speaks."""
    role = first_of(turn, *SPEAKER) if isinstance(turn, Mapping) else None
    return role if isinstance(role, str) else ""


TRAINERS: dict[str, tuple[str, Callable[[Example, Row, Turns], str | None]]] = {
    "TRL 1.16": ("https://huggingface.co/docs/trl/dataset_formats", _trl),
    "Axolotl 0.19.0": (
        "https://docs.axolotl.ai/docs/dataset-formats/conversation.html",
        _axolotl,
    ),
}


class TrainerCounts:
    """Counts the rows that each trainer would train on, and why not the others."""

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in TRAINERS}

    def add_unread(self, why: str) -> None:
        """Count a row that is no example."""
        for counts in self._counts.values():
            counts[why] += 1

    def add(self, example: Example, row: Any, *, broken: bool, too_long: tuple[str, str]) -> None:
        """Count an example, and what its length costs it in TRL and in Axolotl, if anything."""
        columns = row if isinstance(row, Mapping) else {}
        turns = list(_turns(example, columns))
        for (name, (_, rule)), by_length in zip(TRAINERS.items(), too_long, strict=True):
            why = "broken_structure" if broken else rule(example, columns, turns) or by_length
            self._counts[name][why] += 1

    def survival(self) -> list[Survival]:
        """Return what each trainer makes of the rows; one that stops it leaves it with none."""
        reports = []
        for name, counts in self._counts.items():
            lost, trained = {why: count for why, count in counts.items() if why}, counts[""]
            if trained and ENDS_LOADING & lost.keys():
                lost[STOPPED], trained = trained, 0
            source, _ = TRAINERS[name]
            reports.append(Survival(trainer=name, trained=trained, not_trained=lost, source=source))
        return reports
