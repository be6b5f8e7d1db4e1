"""Who speaks in exported chats and tickets, and which lists of objects are conversations."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ft_tools.formats.columns import cells_of
from ft_tools.formats.turns import ROLES, is_conversation

CUSTOMERS = (
    "client visitor caller guest member requester end-user end_user enduser contact lead kunde "
    "kundin cliente klant клиент 客户 顧客"
)
STAFF = (
    "agent support operator staff employee advisor adviser rep representative helpdesk admin "
    "teammate berater beraterin mitarbeiter agente conseiller оператор 客服 オペレーター"
)
SPEAKERS = dict.fromkeys(CUSTOMERS.split(), "user") | dict.fromkeys(STAFF.split(), "assistant")
"""Who speaks in exported chats and tickets, besides the names that training formats use."""
MACHINES = {"system", "bot", "automation", "automated", "workflow", "trigger"}
"""Who writes into a conversation of people without being one: notices, forms, first replies."""
SPEAKS = {"role", "from", "speaker", "author", "sender"}
"""Words in the names of columns that say who speaks."""
SAYS = {"text", "body", "content", "message", "value"}
"""Words in the names of columns that hold what is said."""
HOLDS_TOGETHER = {"conversation", "thread", "ticket", "session", "dialog", "dialogue", "case"}
INTERNAL = {"internal", "is_internal", "private", "is_private"}
PUBLIC = {"public", "is_public"}
"""Names of columns that say whether only the staff sees a turn."""

NOTES = {"note", "private_note", "internal_note"}
"""What the kind of such a turn is called."""
KINDS = {"type", "part_type", "message_type", "kind"}
INCOMING = {"incoming", "inbound"}
"""Names of columns that are true where the customer speaks."""
OF_INCOMING: dict[str, Literal["user", "assistant"]] = {"true": "user", "false": "assistant"}


def role_of(speaker: str) -> str | None:
    """Return the role of a speaker; None if the name is not known.

    >>> role_of("Customer"), role_of("agent"), role_of("Ms Keller")
    ('user', 'assistant', None)
    """
    name = speaker.strip().casefold()
    return ROLES.get(name) or SPEAKERS.get(name)


def left_out_among(speakers: Sequence[str]) -> list[str]:
    """Return the speakers that are machines where people answer; a bot alone is who answers.

    >>> left_out_among(["customer", "agent", "System"]), left_out_among(["user", "bot"])
    (['System'], [])
    """
    names = {name: name.strip().casefold() for name in speakers}
    answered_by_people = not set(STAFF.split()).isdisjoint(names.values())
    return sorted(name for name in speakers if answered_by_people and names[name] in MACHINES)


def is_internal(turn: Mapping[str, Any]) -> bool:
    """Tell whether a turn is flagged as one that only the staff sees, such as a note.

    >>> is_internal({"internal": True}), is_internal({"public": "false"}), is_internal({})
    (True, True, False)
    >>> is_internal({"part_type": "note"})
    True
    """
    told = (INTERNAL, {"true"}), (PUBLIC, {"false"}), (KINDS, NOTES)
    return any(
        str(turn[name]).casefold() in values
        for names, values in told
        for name in names & turn.keys()
    )


def are_turns(items: Sequence[Any]) -> bool:
    """Tell whether the items of a list are what people said in one conversation.

    >>> are_turns([{"author_type": "customer", "body": "Hi"}]), are_turns([{"role": "agent"}])
    (True, False)
    """
    return is_conversation(list(items)) or any(
        isinstance(item, Mapping) and _is_said(item) for item in items
    )


def _is_said(item: Mapping[str, Any]) -> bool:
    cells = [(words_of(name), value) for name, value in cells_of(item)]
    speaks = any(SPEAKS & words and role_of(str(value)) for words, value in cells)
    speaks = speaks or any(isinstance(item.get(name), bool) for name in INCOMING)
    says = any(SAYS & words and isinstance(value, str) for words, value in cells)
    return speaks and says and not any(HOLDS_TOGETHER & words for words, _ in cells)


def words_of(name: str) -> set[str]:
    """Return the words of a column's name, an object's among them."""
    return set(re.split(r"[-_ .]", name.casefold()))
