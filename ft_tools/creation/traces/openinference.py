"""OpenInference's conventions, as Phoenix and Arize export them: flattened attributes of spans."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, Sign, sign_of
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed, parsed_parts
from ft_tools.creation.traces.openai_chat import FAILED, tool_of
from ft_tools.creation.traces.spans import Span, nested

NAME = "openinference"
KIND = "openinference.span.kind"
VERDICTS = (("annotations", "annotation"), ("evaluations", "evaluation"))


def conversations(spans: Iterable[Span], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each span of kind LLM, with the verdicts on it and around it."""
    listed = list(spans)
    signs: dict[str, list[Sign]] = defaultdict(list)
    for span in listed:
        about = [f"span {one}" for one in span.links or [span.span]]
        session = nested(span.attributes, "session.id")
        for where, names in (
            ("", about),
            ("trace.", [f"trace {span.trace}"]),
            ("session.", [f"session {session}"]),
        ):
            for plural, one in VERDICTS:
                for verdict in parsed_parts(nested(span.attributes, f"{where}{plural}")):
                    for name in names:
                        signs[name] += _signs(verdict, one)
    for span in listed:
        kind = nested(span.attributes, KIND)
        made = _conversation(span) if kind == "LLM" else None
        if made is None:
            is_verdict = bool(span.links) or kind == "EVALUATOR"
            if not is_verdict:
                skipped[f"{NAME}.{kind}" if kind != "LLM" else f"{NAME}.LLM_without_messages"] += 1
            continue
        for name in (f"span {span.span}", f"trace {span.trace}", f"session {made.session}"):
            made.signs += signs.get(name, [])
        yield made


def _signs(verdict: Any, name: str) -> list[Sign]:
    held = verdict.get(name, verdict) if isinstance(verdict, Mapping) else {}
    keys = ("score", "label")
    return [sign for key in keys for sign in sign_of(held.get("name"), held.get(key))]


def _conversation(span: Span) -> Conversation | None:
    asked = messages_of(nested(span.attributes, "llm.input_messages"))
    outputs = parsed_parts(nested(span.attributes, "llm.output_messages"))
    if not asked and not outputs:
        return None
    answer = answer_of(outputs[0]) if outputs else []
    tools = parsed_parts(nested(span.attributes, "llm.tools"))
    schemas = [one.get("tool", one) if isinstance(one, Mapping) else one for one in tools]
    reason = nested(span.attributes, "llm.finish_reason")
    has_failed = span.has_failed or any(event.name == "exception" for event in span.events)
    return Conversation(
        NAME,
        span.row,
        [*asked, *answer],
        session=str(nested(span.attributes, "session.id") or ""),
        trace=span.trace,
        model=str(nested(span.attributes, "llm.model_name") or ""),
        date=span.date,
        tools=[
            tool_of(parsed(one.get("json_schema")) or one)
            for one in schemas
            if isinstance(one, Mapping)
        ],
        failed="error"
        if has_failed
        else str(reason)
        if reason in FAILED
        else ""
        if answer
        else "no_answer",
        ids=frozenset({span.trace, span.span}),
        is_answered=bool(answer),
    )
