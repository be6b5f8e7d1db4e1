"""LangSmith's runs: calls of models in LangChain's, OpenAI's or Anthropic's spelling."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import (
    NOT_FINISHED,
    Conversation,
    LogRow,
    Node,
    Signs,
    call_of,
    text_at,
)
from ft_tools.creation.traces.messages import answer_of, items_of, messages_of, object_of, parsed
from ft_tools.creation.traces.openai_chat import SESSIONS, tools_of
from ft_tools.formats.turns import first_of

NAME = "langsmith"
ENDS = {"": "", "success": "", "pending": NOT_FINISHED}
"""Status of a run -> the sign that it failed; all others are errors."""
MODELS = ("ls_model_name", "model_name", "model")
REASONS = ("finish_reason", "stop_reason")


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a run."""
    return "run_type" in row


def nodes(rows: Iterable[LogRow], signs: Signs) -> Iterator[Node]:
    """Yield each run, with the call of a run of a model; add the feedback on it."""
    for row in rows:
        value, kind, own = row.value, text_at(row.value, "run_type"), text_at(row.value, "id")
        for name, held in object_of(value.get("feedback_stats")).items():
            # Of a number there is the mean, of a category each value.
            mean = object_of(held).get("avg")
            labels = object_of(object_of(held).get("values"))
            signs.add(own, name, *(labels if mean is None else [mean]))
        failed = "error" if value.get("error") else ENDS.get(text_at(value, "status"), "error")
        call = _call(row) if kind == "llm" else None
        yield Node(own, text_at(value, "parent_run_id"), failed, f"{NAME}.{kind}", call)


def _call(row: LogRow) -> Conversation | None:
    value = row.value
    inputs, outputs, extra = (object_of(value.get(name)) for name in ("inputs", "outputs", "extra"))
    turns = items_of(inputs.get("messages"))
    # A batch holds one list of messages.
    asked = messages_of(turns[0] if turns and isinstance(turns[0], list) else turns)
    if not asked:
        return None
    system = inputs.get("system")
    metadata, invoked = extra.get("metadata"), object_of(extra.get("invocation_params"))
    named = (metadata, invoked, object_of(outputs.get("llm_output")))
    choice, said = _answer(outputs)
    held = object_of(first_of(object_of(said), "kwargs", "data") or said)
    about = (held, choice, choice.get("generation_info"), held.get("response_metadata"))
    return call_of(
        NAME,
        row,
        [*(messages_of({"role": "system", "content": system}) if system else []), *asked],
        answer_of(said),
        reasons=[text_at(one, *REASONS) for one in about],
        session=text_at(metadata, *SESSIONS),
        trace=text_at(value, "trace_id"),
        model=next(
            filter(None, (text_at(o, *MODELS) for o in (*named, *about, outputs, inputs))), ""
        ),
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
    inner = first_of(outputs, "output", "message")
    return outputs, inner or (outputs if "content" in outputs else None)
