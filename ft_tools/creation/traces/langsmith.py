"""LangSmith's runs: calls of models in LangChain's, OpenAI's or Anthropic's spelling."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import (
    Conversation,
    LogRow,
    Node,
    Sign,
    call_of,
    calls_in,
    sign_of,
    text_at,
)
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed
from ft_tools.creation.traces.openai_chat import SESSIONS, tools_of
from ft_tools.formats.turns import first_of

NAME = "langsmith"
REASONS = ("finish_reason", "stop_reason")


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a run."""
    return "run_type" in row


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each run of a model, with the feedback on what it is part of."""
    signs: dict[str, list[Sign]] = defaultdict(list)
    nodes = []
    for row in rows:
        value, kind = row.value, text_at(row.value, "run_type")
        own = text_at(value, "id")
        signs[own] += _signs(parsed(value.get("feedback_stats")))
        has_failed = bool(value.get("error")) or text_at(value, "status") not in {"", "success"}
        call = _call(row, has_failed=has_failed) if kind == "llm" else None
        parent = text_at(value, "parent_run_id")
        nodes.append(Node(own, parent, has_failed, f"{NAME}.{kind}", call))
    yield from calls_in(nodes, signs, skipped)


def _signs(stats: Any) -> Iterator[Sign]:
    """Yield the mean of a number, and each value of a category."""
    for name, held in stats.items() if isinstance(stats, Mapping) else []:
        values = parsed(held.get("values"))
        labels = [*values] if isinstance(values, Mapping) and held.get("avg") is None else []
        for value in labels or [held.get("avg")]:
            yield from sign_of(name, value)


def _call(row: LogRow, *, has_failed: bool) -> Conversation | None:
    value = row.value
    inputs, outputs, extra = (
        found if isinstance(found := parsed(value.get(name)), Mapping) else {}
        for name in ("inputs", "outputs", "extra")
    )
    turns = parsed(inputs.get("messages"))
    # A batch holds one list of messages.
    asked = messages_of(turns[0] if turns and isinstance(turns[0], list) else turns)
    if not asked:
        return None
    system = inputs.get("system")
    metadata, invoked = extra.get("metadata"), extra.get("invocation_params") or {}
    choice, said = _answer(outputs)
    held = (first_of(said, "kwargs", "data") or said) if isinstance(said, Mapping) else {}
    about = (held, choice, choice.get("generation_info"), held.get("response_metadata"))
    return call_of(
        NAME,
        row,
        [*(messages_of({"role": "system", "content": system}) if system else []), *asked],
        answer_of(said),
        has_failed=has_failed,
        reasons=[text_at(one, *REASONS) for one in about],
        session=text_at(metadata, *SESSIONS),
        trace=text_at(value, "trace_id"),
        model=text_at(metadata, "ls_model_name") or text_at(invoked, "model", "model_name"),
        date=text_at(value, "start_time"),
        tools=tools_of(invoked) or tools_of(inputs),
    )


def _answer(outputs: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """Return what is said of an answer, and the answer, in whichever shape it is."""
    for name, at in (("generations", 0), ("choices", 0), ("messages", -1)):
        found = parsed(outputs.get(name))
        while isinstance(found, list) and found:
            found = found[at]
        if isinstance(found, Mapping):
            return found, first_of(found, "message", "text") if at == 0 else found
    return outputs, first_of(outputs, "output", "message") or (
        outputs if "content" in outputs else None
    )
