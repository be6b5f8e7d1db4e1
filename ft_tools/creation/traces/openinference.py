"""OpenInference's conventions, as Phoenix and Arize export them: flattened attributes of spans."""

from collections.abc import Iterable, Iterator
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, Node, Signs, call_of, text_at
from ft_tools.creation.traces.messages import answer_of, items_of, messages_of, objects_of
from ft_tools.creation.traces.openai_chat import tools_of
from ft_tools.creation.traces.spans import Span, nested

NAME = "openinference"
KIND = "openinference.span.kind"


def nodes(spans: Iterable[Span], signs: Signs) -> Iterator[Node]:
    """Yield each span, with the call of one of kind LLM; add the verdicts on it and around it."""
    listed = list(spans)
    raised = {one.id for one in listed if one.is_event and one.name == "exception"}
    for span in (one for one in listed if not one.is_event):
        session, kind = (str(nested(span.attributes, n) or "") for n in ("session.id", KIND))
        # A verdict that comes later is a span of its own, which links to what it is about.
        for about in span.links or (span.id,):
            _add_signs(signs, span, "", about)
        _add_signs(signs, span, "trace.", span.trace)
        _add_signs(signs, span, "session.", session)
        call = _call(span, session) if kind == "LLM" else None
        failed = "error" if span.has_failed or span.id in raised else ""
        yield Node(span.id, span.parent, failed, f"{NAME}.{kind}", call)


def _add_signs(signs: Signs, span: Span, where: str, about: str) -> None:
    for name in ("annotation", "evaluation"):
        for one in objects_of(nested(span.attributes, f"{where}{name}s")):
            for held in objects_of(one.get(name, one)):
                said = (held.get("score"), held.get("label"))
                signs.add(about, held.get("name"), *said, source=held.get("annotator_kind"))


def _call(span: Span, session: str) -> Conversation | None:
    def held(name: str) -> list[Any]:
        return items_of(nested(span.attributes, f"llm.{name}"))

    asked, outputs = held("input_messages"), held("output_messages")
    if not asked and not outputs:
        return None
    tools = [tool for one in objects_of(held("tools")) for tool in objects_of(one.get("tool", one))]
    return call_of(
        NAME,
        span.row,
        messages_of(asked),
        answer_of(outputs[0]) if outputs else [],
        reasons=held("finish_reason"),
        session=session,
        trace=span.trace,
        model=text_at(span.attributes, "llm.model_name"),
        date=span.date,
        tools=tools_of({"tools": [one.get("json_schema", one) for one in tools]}),
    )
