"""OpenTelemetry's conventions for generative AI: attributes, and events as they were up to 1.36."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, Node, Signs, call_of, text_at
from ft_tools.creation.traces.messages import answer_of, items_of, messages_of, object_of, parsed
from ft_tools.creation.traces.openai_chat import tools_of
from ft_tools.creation.traces.spans import Span
from ft_tools.formats.example import Message

NAME = "otel_genai"
EVALUATION = "gen_ai.evaluation"
OLD = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
CHOICE = "gen_ai.choice"
ASKED, ANSWERED = "gen_ai.input.messages", "gen_ai.output.messages"
RESPONSE = "gen_ai.response.id"
SESSION = ("gen_ai.conversation.id", "session.id")


def nodes(spans: Iterable[Span], signs: Signs) -> Iterator[Node]:
    """Yield each span, with the call of a model that it and its events say; add evaluations."""
    parts: dict[str, list[Span]] = defaultdict(list)
    evaluations = []
    for span in spans:
        if span.name == f"{EVALUATION}.result":
            evaluations.append(span)
        else:
            parts[f"{span.trace} {span.id}"].append(span)
    found = [_node(held) for held in parts.values()]
    judged = {node.parent for node in found} | {node.id for node in found if node.call}
    for span in evaluations:
        held = span.attributes
        # A span of its own that evaluates is about the one that it stands in.
        about = span.id if span.id in judged else span.parent
        scores = [held.get(f"{EVALUATION}.score.{key}") for key in ("value", "label")]
        name = held.get(f"{EVALUATION}.name")
        signs.add(text_at(held, RESPONSE) or about or text_at(held, *SESSION), name, *scores)
    yield from found


def _node(parts: list[Span]) -> Node:
    """Return what a span, its events and its log records say."""
    span = next((one for one in parts if not one.name.startswith("gen_ai.")), parts[0])
    held = {name: value for one in parts for name, value in one.attributes.items()}
    failed = "error" if "error.type" in held or any(one.has_failed for one in parts) else ""
    kind = f"{NAME}.{text_at(held, 'gen_ai.operation.name') or span.name}"
    return Node(span.id, span.parent, failed, kind, _call(span, parts, held, failed))


def _call(
    span: Span, parts: list[Span], held: Mapping[str, Any], failed: str
) -> Conversation | None:
    """Return what a call of a model was asked and answered; None if nothing says so."""
    asked, outputs = messages_of(held.get(ASKED)), items_of(held.get(ANSWERED))
    reasons = items_of(held.get("gen_ai.response.finish_reasons"))
    if ASKED not in held:
        old = sorted((one for one in parts if one.name in OLD), key=lambda one: one.date)
        asked = [message for one in old for message in _old(one)]
        choices = [_body(one) for one in parts if one.name == CHOICE]
        outputs = [parsed(choice.get("message")) or choice for choice in choices]
        reasons = [*reasons, *(choice.get("finish_reason") for choice in choices)]
    if not asked and not outputs:
        return None
    instructions = parsed(held.get("gen_ai.system_instructions"))
    system = messages_of({"role": "system", "parts": instructions}) if instructions else []
    return call_of(
        NAME,
        span.row,
        [*system, *asked],
        answer_of(outputs[0]) if outputs else [],
        failed=failed,
        reasons=[*reasons, *(text_at(one, "finish_reason") for one in outputs)],
        session=text_at(held, *SESSION),
        trace=span.trace,
        id=text_at(held, RESPONSE),
        model=text_at(held, "gen_ai.response.model", "gen_ai.request.model"),
        date=span.date,
        tools=tools_of({"tools": held.get("gen_ai.tool.definitions")}),
    )


def _body(span: Span) -> Mapping[str, Any]:
    """Return what an event of the older form says: its body, or its attributes."""
    return object_of(span.body) or span.attributes


def _old(span: Span) -> list[Message]:
    """Read a message of the older form; the id of a tool's message is that of the call."""
    body = _body(span)
    role = body.get("role") or OLD[span.name]
    parts = parsed(body.get("content"))
    content = parts if isinstance(parts, list) else body.get("content")
    return messages_of({**body, "role": role, "content": content, "tool_call_id": body.get("id")})
