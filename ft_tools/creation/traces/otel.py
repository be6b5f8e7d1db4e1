"""OpenTelemetry's conventions for generative AI: attributes, and events as they were up to 1.36."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, Sign, sign_of
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed, parsed_parts
from ft_tools.creation.traces.openai_chat import FAILED, tool_of
from ft_tools.creation.traces.spans import Span
from ft_tools.formats.example import Message
from ft_tools.formats.turns import first_of

NAME = "otel_genai"
DETAILS = "gen_ai.client.inference.operation.details"
EVALUATION = "gen_ai.evaluation.result"
OLD = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
CHOICE = "gen_ai.choice"
ASKED, ANSWERED = "gen_ai.input.messages", "gen_ai.output.messages"


def is_event(span: Span) -> bool:
    """Return whether it is an event of these conventions."""
    return span.name in OLD or span.name in {DETAILS, EVALUATION, CHOICE}


def conversations(spans: Iterable[Span], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each span of a model's call, with what its events say."""
    calls: dict[tuple[str, str], list[Span]] = defaultdict(list)
    evaluations = []
    for span in spans:
        if span.name == EVALUATION:
            evaluations.append(span)
        else:
            calls[span.trace, span.span].append(span)
    for about, held in calls.items():
        attributes = {k: v for span in held for k, v in span.attributes.items()}
        signs = [
            sign
            for one in evaluations
            if (one.trace, one.span) == about
            or (one.attributes.get("gen_ai.response.id") or "-")
            == attributes.get("gen_ai.response.id")
            for sign in signs_of(one.attributes)
        ]
        made = _conversation(held, attributes, signs)
        if made is None:
            operation = attributes.get("gen_ai.operation.name") or held[0].name
            skipped[f"{NAME}.{operation}"] += 1
        else:
            yield made


def signs_of(attributes: Mapping[str, Any]) -> list[Sign]:
    """Return the score and the label of an evaluation."""
    name = attributes.get("gen_ai.evaluation.name")
    keys = ("gen_ai.evaluation.score.value", "gen_ai.evaluation.score.label")
    return [sign for key in keys for sign in sign_of(name, attributes.get(key))]


def _conversation(
    held: list[Span], attributes: Mapping[str, Any], signs: list[Sign]
) -> Conversation | None:
    """Return what the spans and events of one call say; None if they hold no messages."""
    asked = messages_of(attributes.get(ASKED))
    outputs = [one for one in parsed_parts(parsed(attributes.get(ANSWERED))) if one]
    reasons = parsed_parts(parsed(attributes.get("gen_ai.response.finish_reasons")))
    if ASKED not in attributes:
        old = sorted((s for s in held if s.name in OLD), key=lambda s: s.date)
        asked = [m for span in old for m in _old(span)]
        choices = [_body(span) for span in held if span.name == CHOICE]
        outputs = [parsed(choice.get("message")) or choice for choice in choices]
        reasons += [choice.get("finish_reason") for choice in choices]
    if not asked and not outputs:
        return None
    instructions = attributes.get("gen_ai.system_instructions")
    if instructions:
        parts = parsed(instructions)
        asked = [*messages_of({"role": "system", "parts": parts}), *asked]
    reasons += [one.get("finish_reason") for one in outputs if isinstance(one, Mapping)]
    answer = answer_of(outputs[0]) if outputs else []
    tools = parsed(attributes.get("gen_ai.tool.definitions"))
    error = next(
        (str(s.attributes["error.type"]) for s in held if "error.type" in s.attributes), ""
    )
    cut = next((str(one) for one in reasons if one in FAILED), "")
    compacted = (
        "context_compacted"
        if any(m["role"] == "unreadable" and m["content"] == "compaction" for m in asked)
        else ""
    )
    span = held[0]
    return Conversation(
        NAME,
        span.row,
        [*asked, *answer],
        session=str(attributes.get("gen_ai.conversation.id") or ""),
        trace=span.trace,
        model=str(first_of(attributes, "gen_ai.response.model", "gen_ai.request.model") or ""),
        date=span.date,
        tools=[tool_of(one) for one in tools] if isinstance(tools, list) else [],
        failed=("error" if error or any(s.has_failed for s in held) else "")
        or cut
        or compacted
        or ("" if answer else "no_answer"),
        signs=signs,
        ids=frozenset({span.trace, span.span, str(attributes.get("gen_ai.response.id") or "")}),
        is_answered=bool(answer),
    )


def _body(span: Span) -> Mapping[str, Any]:
    """Return what an event of the older form says: its body, or its attributes."""
    body = parsed(span.body)
    return body if isinstance(body, Mapping) else span.attributes


def _old(span: Span) -> list[Message]:
    body = _body(span)
    role = first_of(body, "role") or OLD[span.name]
    content = parsed(body.get("content"))
    return messages_of({**body, "role": role, "content": content, "tool_call_id": body.get("id")})
