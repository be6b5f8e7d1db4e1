"""Check the structure of one example: who speaks, in which order, and whether anything is said."""

from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.loss_marks import is_trained
from ft_tools.formats.readers.json_rows import SURROGATE


def structure(example: Example) -> list[str]:
    """Check turns, roles and order."""
    found = list(example.problems)
    turns = (*example.messages, *example.chosen, *example.rejected)
    text = "\n".join([example.text or "", *map(content_of, turns)])
    if not text.isascii() and SURROGATE.search(text):
        # JSON in a cell may hold one; a row that holds one itself has been refused.
        found.append("invalid_unicode")
    if example.text is not None:
        return found if example.text.strip() else [*found, "empty_answer"]
    if not {"unknown_role", "wrong_type", "python_turns"}.isdisjoint(found):
        # Who speaks is not known, so what follows from it is not said either.
        return found
    found += _turn_order(example)
    if example.task == "sft":
        found += _answers(example.messages)
    else:
        found += _sides(example)
    return found


def _turn_order(example: Example) -> list[str]:
    """System may come first only; then user and assistant alternate, tools follow a call."""
    found: list[str] = []
    before = ""
    for at, message in enumerate(example.messages):
        role = message["role"]
        if role == "system":
            if at > 0:
                found.append("role_order")
            continue
        if role == before and role != "tool" and not message.get("tool_calls"):
            found.append("role_order")
        if role == "assistant" and before == "":
            found.append("role_order")
        if role == "tool" and before not in {"assistant", "tool"}:
            found.append("role_order")
        before = role
    return found


def _answers(messages: list[Message]) -> list[str]:
    found: list[str] = []
    answers = [m for m in messages if m["role"] == "assistant"]
    if not any(map(is_trained, answers)):
        return ["missing_assistant"]
    asked = [m for m in messages if m["role"] == "user"]
    if asked and not str(asked[0]["content"]).strip():
        found.append("empty_prompt")
    if messages[-1]["role"] != "assistant":
        found.append("ends_with_user")
    last = answers[-1]
    if not content_of(last).strip():
        found.append("empty_answer")
    for message in messages:
        if message is not last and not content_of(message).strip():
            first_ask = bool(asked) and message is asked[0]
            if not first_ask and message["role"] != "tool":
                found.append("empty_turn")
    return found


def _sides(example: Example) -> list[str]:
    found: list[str] = []
    sides = [example.chosen] if example.task == "kto" else [example.chosen, example.rejected]
    if any(not "".join(map(content_of, side)).strip() for side in sides):
        found.append("empty_answer")
    if not any(m["role"] == "user" and content_of(m).strip() for m in example.messages):
        found.append("empty_prompt")
    if example.messages and example.messages[-1]["role"] == "assistant":
        found.append("role_order")
    if example.task == "kto":
        if example.chosen and example.chosen[-1]["role"] != "assistant":
            found.append("missing_assistant")
        return found if isinstance(example.label, bool) else [*found, "wrong_type"]
    chosen, rejected = ("".join(map(content_of, side)).strip() for side in sides)
    if chosen == rejected:
        found.append("identical_pair")
    elif chosen and rejected and (rejected.startswith(chosen) or chosen.startswith(rejected)):
        found.append("chosen_begins_rejected")
    return found
