"""LangSmith's runs: calls of models in LangChain's, OpenAI's or Anthropic's spelling."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow, Sign, sign_of
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed
from ft_tools.creation.traces.openai_chat import SESSIONS, failure_of, tools_of
from ft_tools.formats.turns import first_of

NAME = "langsmith"
CUT = {"max_tokens": "length", "MAX_TOKENS": "length", "SAFETY": "content_filter"}


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a run."""
    return "run_type" in row


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each run of a model; feedback on a root run is the trace's."""
    listed = list(rows)
    signs: dict[str, list[Sign]] = defaultdict(list)
    for row in listed:
        value = row.value
        is_root = first_of(value, "parent_run_id") in (None, "")
        about = "trace_id" if is_root and value.get("trace_id") else "id"
        signs[str(value.get(about))] += _signs(parsed(value.get("feedback_stats")))
    for row in listed:
        made = _conversation(row) if row.value["run_type"] == "llm" else None
        if made is None:
            kind = row.value["run_type"]
            skipped[f"{NAME}.{kind}{'_without_messages' if kind == 'llm' else ''}"] += 1
            continue
        made.signs = [sign for name in {*made.ids, made.trace} for sign in signs.get(name, [])]
        yield made


def _signs(stats: Any) -> list[Sign]:
    """Return the mean of a number, and each value of a category."""
    found: list[Sign] = []
    for name, held in stats.items() if isinstance(stats, Mapping) else []:
        if isinstance(held, Mapping):
            values = parsed(held.get("values"))
            labels = [*values] if isinstance(values, Mapping) and held.get("avg") is None else []
            found += [s for v in labels or [held.get("avg")] for s in sign_of(name, v)]
    return found


def _conversation(row: LogRow) -> Conversation | None:
    value = row.value
    inputs, outputs, extra = (
        parsed(value.get(name)) or {} for name in ("inputs", "outputs", "extra")
    )
    turns = parsed(inputs.get("messages")) if isinstance(inputs, Mapping) else None
    if isinstance(turns, list) and turns and isinstance(turns[0], list):
        turns = turns[0]  # A batch of one.
    asked = messages_of(turns)
    if isinstance(inputs, Mapping) and isinstance(inputs.get("system"), str | list):
        asked = [*messages_of({"role": "system", "content": inputs["system"]}), *asked]
    if not asked:
        return None
    choice, said = _answer(outputs)
    answer = answer_of(said) if said else []
    metadata = extra.get("metadata") or {}
    invoked = extra.get("invocation_params") or {}
    about = first_of(choice, "generation_info") or {}
    held = first_of(said, "kwargs", "data") or said if isinstance(said, Mapping) else {}
    told = held.get("response_metadata") or {}
    reason = first_of(choice, "finish_reason") or first_of(
        {**told, **about, **held}, "finish_reason", "stop_reason"
    )
    cut = failure_of({"finish_reason": CUT.get(str(reason), reason)}, held)
    has_failed = bool(value.get("error")) or value.get("status") not in (None, "", "success")
    model = metadata.get("ls_model_name") or first_of(invoked, "model", "model_name")
    return Conversation(
        NAME,
        row,
        [*asked, *answer],
        session=str(next((metadata[name] for name in SESSIONS if metadata.get(name)), "")),
        trace=str(value.get("trace_id") or ""),
        model=str(model or first_of(held, "model") or ""),
        date=str(value.get("start_time") or ""),
        tools=tools_of(invoked) or tools_of(inputs),
        failed="error" if has_failed else cut or ("" if answer else "no_answer"),
        ids=frozenset({str(value.get("id"))}),
        is_answered=bool(answer),
    )


def _answer(outputs: Any) -> tuple[Mapping[str, Any], Any]:
    """Return what is said of an answer, and the answer, in whichever shape it is."""
    if not isinstance(outputs, Mapping):
        return {}, outputs
    for name in ("generations", "choices", "messages"):
        first = parsed(outputs.get(name))
        while isinstance(first, list) and first:
            first = first[-1] if name == "messages" else first[0]
        if isinstance(first, Mapping):
            return first, first if name == "messages" else first_of(first, "message", "text")
    return outputs, first_of(outputs, "output", "message") or (
        outputs if "content" in outputs else None
    )
