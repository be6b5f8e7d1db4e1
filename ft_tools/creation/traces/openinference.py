"""OpenInference's conventions, as Phoenix and Arize export them: flattened attributes of spans."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import (
    Conversation,
    Node,
    Sign,
    call_of,
    calls_in,
    sign_of,
    text_at,
)
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed_parts
from ft_tools.creation.traces.openai_chat import tools_of
from ft_tools.creation.traces.spans import Span, nested

NAME = "openinference"
KIND = "openinference.span.kind"


def conversations(spans: Iterable[Span], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each span of kind LLM, with the verdicts on it and around it."""
    signs: dict[str, list[Sign]] = defaultdict(list)
    nodes = []
    raised = set()
    for span in spans:
        if span.is_event:
            raised |= {span.id} if span.name == "exception" else set()
            continue
        session = str(nested(span.attributes, "session.id") or "")
        # A verdict that comes later is a span of its own, which links to what it is about.
        about = span.links or (span.id,)
        for where, names in (("", about), ("trace.", [span.trace]), ("session.", [session])):
            for sign in _signs(span.attributes, where):
                for name in names:
                    signs[name].append(sign)
        kind = nested(span.attributes, KIND)
        call = _call(span, session) if kind == "LLM" else None
        nodes.append(Node(span.id, span.parent, span.has_failed, f"{NAME}.{kind}", call))
    nodes = [node._replace(has_failed=node.has_failed or node.id in raised) for node in nodes]
    yield from calls_in(nodes, signs, skipped)


def _signs(attributes: Mapping[str, Any], where: str) -> Iterator[Sign]:
    for name in ("annotation", "evaluation"):
        for verdict in parsed_parts(nested(attributes, f"{where}{name}s")):
            held = verdict.get(name, verdict)
            for key in ("score", "label"):
                yield from sign_of(held.get("name"), held.get(key))


def _call(span: Span, session: str) -> Conversation | None:
    asked, outputs, tools = (
        parsed_parts(nested(span.attributes, f"llm.{name}"))
        for name in ("input_messages", "output_messages", "tools")
    )
    if not asked and not outputs:
        return None
    schemas = [one.get("tool", one) for one in tools]
    return call_of(
        NAME,
        span.row,
        messages_of(asked),
        answer_of(outputs[0]) if outputs else [],
        has_failed=span.has_failed,
        reasons=[nested(span.attributes, "llm.finish_reason")],
        session=session,
        trace=span.trace,
        model=text_at(span.attributes, "llm.model_name"),
        date=span.date,
        tools=tools_of({"tools": [one.get("json_schema", one) for one in schemas]}),
    )
