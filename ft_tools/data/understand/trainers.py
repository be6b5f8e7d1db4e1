"""What each trainer would do with the file as it is, from the trainers' documented rules.

Every rule here was read in the named version; a trainer's reason is a constant of this file.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ft_tools.data.report import Survival
from ft_tools.formats.detect_format import ANSWERS, LISTS, PROMPTS
from ft_tools.formats.example import Example
from ft_tools.formats.turns import ROLES

FOLDED = "*"
"""Behind a role that is known but for its case or blanks."""
STOPPED = "stopped_by_the_other_rows"
# Rows that end `datasets.load_dataset`, with which all of them read files. Seen with datasets 5.2.
ENDS_LOADING = frozenset({"unreadable_line", "not_utf8", "invalid_unicode"})
KNOWN_KEYS = {"role", "content", "from", "value"}


class Traits(NamedTuple):
    """What decides whether a trainer takes an example."""

    format: str
    task: str
    roles: frozenset[str]
    columns: frozenset[str]
    broken: bool
    """Something is wrong with its structure."""
    two_keys: bool
    """Each turn has exactly a role and a content."""
    pairs_up: bool
    """Turns alternate user/assistant (or observation/function) and end with an answer."""
    listed: frozenset[str]
    """Columns that hold a list; what else they hold is a text, or one turn."""
    spells_from: bool
    """Turns are of `from` and `value`."""
    single_turns: bool
    """Preferences: each side is one message."""
    too_long: bool
    without_answer: bool
    """The answer begins behind max_length."""


COLUMNS = frozenset(
    {*LISTS, "prompt", "completion", "text", "instruction", "input", "output", "chosen", "rejected"}
    | {"label"}
)


SPOKEN_IN = {*PROMPTS, *ANSWERS, "chosen", "rejected"} - {"context"}
_SEEN = COLUMNS | SPOKEN_IN


def traits_of(
    example: Example, row: Any, *, broken: bool, tokens: tuple[int, int], max_length: int
) -> Traits:
    """Reduce an example to what the trainers look at."""
    total, answer = tokens
    asked, _ = example.prompt_and_answer()
    turns = [m["role"] for m in example.messages if m["role"] != "system"]
    if example.format == "openai_messages":
        # What several tools return is one turn to LLaMA-Factory, in this format only.
        turns = [role for role, before in zip(turns, ["", *turns], strict=False)
                 if (role, before) != ("tool", "tool")]  # fmt: skip
    expected = [("user", "tool"), ("assistant",)]
    alternates = all(role in expected[at % 2] for at, role in enumerate(turns))
    odd = example.task != "sft"
    return Traits(
        format=example.format,
        task=example.task,
        roles=frozenset(map(_spelling, example.roles)),
        columns=COLUMNS.intersection(row) if isinstance(row, Mapping) else frozenset(),
        broken=broken,
        two_keys=len(example.turn_keys) == 2 and set(example.turn_keys) <= KNOWN_KEYS,
        pairs_up=alternates and len(turns) % 2 == int(odd),
        listed=_SEEN.intersection(
            [name for name, value in row.items() if isinstance(value, list)]
            if isinstance(row, Mapping)
            else ()
        ),
        spells_from="from" in example.turn_keys,
        single_turns=len(example.chosen) <= 1 and len(example.rejected) <= 1,
        too_long=total > max_length,
        without_answer=total - answer >= max_length and bool(asked),
    )


def _spelling(role: str) -> str:
    """Keep a known spelling, mark one that differs in case or blanks, and name the rest other.

    A hostile file must not make a trait of each of its spellings.
    """
    if role in ROLES:
        return role
    folded = role.strip().lower()
    return folded + FOLDED if folded in ROLES else "other"


def survival(counts: "Counter[Traits]", unread: Mapping[str, int]) -> list[Survival]:
    """Return what each trainer makes of the rows.

    Where one row stops a trainer, it trains on none, and the sound rows are counted as stopped.

    Args:
        counts: The examples.
        unread: Rows that are none, by finding.
    """
    reports = []
    for trainer, (source, rule, stops) in TRAINERS.items():
        lost: Counter[str] = Counter(unread)
        trained = 0
        for traits, count in counts.items():
            why = rule(traits)
            if traits.broken and why not in stops:
                why = "broken_structure"
            if why:
                lost[why] += count
            else:
                trained += count
        if trained and (stops | ENDS_LOADING) & lost.keys():
            lost[STOPPED], trained = trained, 0
        reports.append(
            Survival(trainer=trainer, trained=trained, not_trained=dict(lost), source=source)
        )
    return reports


def _trl(traits: Traits) -> str | None:
    """TRL reads messages, text, prompt+completion, chosen+rejected; roles stay as spelt."""
    if not traits.roles <= SPOKEN | {"developer"}:
        return "role_names_not_mapped"
    if traits.format == "prompt_only":
        return "no_answer"
    if not _trl_reads(traits):
        return "columns_not_read"
    return "answer_cut_off" if traits.without_answer else None


def _trl_reads(traits: Traits) -> bool:
    """Return whether TRL reads the columns, all of one kind, for what they are.

    `from` and `value` are known in `conversations` only, roles everywhere else; a prompt without a
    completion is an error, whatever else is there. Seen with TRL 1.16.
    """
    columns, listed = traits.columns, traits.listed
    spoken = columns & {"prompt", "completion", "chosen", "rejected", "messages"}
    if spoken & listed and spoken - listed:
        return False
    if traits.task == "dpo":
        by_itself = traits.format not in {"alpaca_preference", "sharegpt_preference"}
        return {"chosen", "rejected"} <= columns and by_itself and not traits.spells_from
    if traits.task == "kto":
        return {"prompt", "completion", "label"} <= columns and not traits.spells_from
    if "prompt" in columns:
        return "completion" in columns and not traits.spells_from
    if "messages" in listed:
        return not traits.spells_from
    if "conversations" in listed:
        return traits.spells_from
    return "text" in columns


def _axolotl(traits: Traits) -> str | None:
    """Axolotl maps these role names only, and drops what is longer than sequence_len.

    A prompt with a completion, or a marked answer, is text: what it does with turns is no chat.

    Source: axolotl 0.19.0, prompt_strategies/
    """
    known = SPOKEN if traits.task == "dpo" else SPOKEN | {"human", "gpt"}
    if traits.format in {"prompt_completion", "kto"} and traits.listed & (SPOKEN_IN | {*LISTS}):
        return "columns_not_read"
    if not traits.roles <= known:
        return "role_names_not_mapped"
    if traits.format == "alpaca":
        if "output" not in traits.columns:
            return "columns_not_read"
    elif traits.format in {"unknown", "prompt_only", "openai_preference"}:
        return "columns_not_read"
    return "longer_than_sequence_len_dropped" if traits.too_long else None


def _llama_factory(traits: Traits) -> str | None:
    """LLaMA-Factory wants five tags in strict turns; overlong rows are cut in proportion.

    A prompt and an answer of it are texts, a side is a text or one turn: lists are in no converter.

    Source: llamafactory 0.9.5, data/converter.py
    """
    if traits.format == "sharegpt":
        if not traits.roles <= {"human", "gpt", "observation", "function_call", "system"}:
            return "role_names_not_mapped"
        return None if traits.pairs_up else "turns_do_not_alternate"
    if traits.format == "openai_messages":
        return None if traits.pairs_up else "turns_do_not_alternate"
    if traits.listed & SPOKEN_IN and traits.format not in {"alpaca", "text"}:
        return "columns_not_read"
    if traits.format in {"sharegpt_preference", "alpaca_preference"}:
        return None if traits.pairs_up and traits.single_turns else "turns_do_not_alternate"
    if traits.format == "kto" and not {"messages", "conversations"} & traits.columns:
        return None if "label" in traits.columns else "columns_not_read"
    if traits.format in {"preference_implicit", "openai_preference", "prompt_only", "unknown"}:
        return "columns_not_read"
    return None


def _unsloth(traits: Traits) -> str | None:
    """Unsloth standardises `conversations` of two keys and known roles; else TRL's rules hold."""
    if "conversations" in traits.columns and traits.format in {"sharegpt", "openai_messages"}:
        known = {"system", "user", "human", "assistant", "gpt", "input", "output"}
        if not {role.removesuffix(FOLDED) for role in traits.roles} <= known:
            return "role_names_not_known"
        if not traits.two_keys:
            return "turns_with_other_keys"
        return "answer_cut_off" if traits.without_answer else None
    return _trl(traits)


SPOKEN = frozenset({"system", "user", "assistant", "tool"})
# Name and version -> (where its rules are said, its rule for a row, what stops it altogether).
TRAINERS: dict[str, tuple[str, Callable[[Traits], str | None], frozenset[str]]] = {
    "TRL 1.16": ("https://huggingface.co/docs/trl/dataset_formats", _trl, frozenset()),
    "Axolotl 0.19.0": (
        "https://docs.axolotl.ai/docs/dataset-formats/conversation.html",
        _axolotl,
        frozenset(),
    ),
    "LLaMA-Factory 0.9.5": (
        "https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md",
        _llama_factory,
        frozenset(),
    ),
    "Unsloth 2026.10.9": (
        "https://docs.unsloth.ai/basics/chat-templates",
        _unsloth,
        frozenset({"role_names_not_known", "turns_with_other_keys"}),
    ),
}
