"""Let every system answer the held-out examples; answers are saved as they come."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ft_tools.endpoints.budget import Budget
from ft_tools.endpoints.client import Client, Question, question_for, schema_option
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.results import Scores
from ft_tools.evaluation.systems.answers import GENERAL, Answer, Batch
from ft_tools.evaluation.systems.asking import asked_as, choose_shots, read_document, read_pool
from ft_tools.evaluation.systems.grammar import grammar_of
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.worker.state import State
from ft_tools.evaluation.worker.writer import ask_model
from ft_tools.metrics.general import NEW_TOKENS, general_prompts
from ft_tools.metrics.schema import load_schema
from ft_tools.metrics.text import without_thought


def answer_all(state: State) -> dict[str, dict[str, list[Answer]]]:
    """Let each system answer each set of questions; those with the same weights follow each other.

    Returns:
        Set -> system -> answers, the systems in the order of the request.
    """
    answers: dict[tuple[str, str], list[Answer]] = {}
    by_weights = sorted(
        state.plan.systems,
        key=lambda one: (one.model.load_from, not one.model.adapter) if one.model else ("", False),
    )
    for plan in by_weights:
        spec = state.specs[plan.name]
        if spec.baseline is None:
            # Simple ones take no time that is worth an event.
            state.session.phase(f"answering: {plan.name}")
        state.take_over(plan)
        for kind, examples in state.sets.items():
            questions = _questions(state, plan, spec, examples)
            ask = partial(_ask, state, plan, spec)
            answers[kind, plan.name] = state.answered(kind, plan.name, questions, ask)
    names = [plan.name for plan in state.plan.systems]
    return {kind: {name: answers[kind, name] for name in names} for kind in state.sets}


def general_scores(state: State) -> dict[str, Scores]:
    """Ask each model of the short form what any model should still be able to answer."""
    asked = general_prompts()
    questions = [
        HeldOut(line=i, messages=[{"role": "user", "content": one.prompt}])
        for i, one in enumerate(asked)
    ]
    found: dict[str, Scores] = {}
    for name, files in state.weights.items():
        state.session.phase(f"answering: general questions, {name}")
        assert state.models is not None
        write, render = state.models.writer(files), state.render(files, "chat")
        size, stop = state.plan.batch_size, state.should_stop
        ask = partial(ask_model, write, render, NEW_TOKENS, size, should_stop=stop)
        own: Scores = {"general_questions": [], "refusals": []}
        for one, answer in zip(asked, state.answered(GENERAL, name, questions, ask), strict=True):
            metric = "refusals" if one.kind == "refusal" else "general_questions"
            own[metric].append(float(one.passes(without_thought(answer.text))))
        found[name] = own
    return found


def ask_endpoint(
    client: Client, asked: Sequence[Question], *, should_stop: Callable[[], bool]
) -> Generator[Batch]:
    """Yield the answers of an endpoint as they arrive; raises what `Client.ask_all` raises."""
    try:
        for replies in client.ask_all(asked, should_stop):
            yield [
                (
                    i,
                    Answer(
                        text=reply.text.strip(),
                        num_tokens=reply.completion_tokens,
                        finished=reply.finished,
                        seconds=reply.seconds,
                        prompt_tokens=reply.prompt_tokens,
                        served_by=reply.served_by,
                    ),
                )
                for i, reply in replies
            ]
    finally:
        client.close()


def _ask(
    state: State, plan: SystemPlan, spec: SystemSpec, questions: Sequence[HeldOut]
) -> Generator[Batch]:
    """Ask a system of the request."""
    decoding, endpoint, most = spec.decoding, spec.endpoint, plan.max_new_tokens
    schema = None
    if decoding.json_schema is not None:
        schema = load_schema(state.planned_file(plan, decoding.json_schema))
    if spec.baseline is not None:
        from ft_tools.evaluation.worker.baselines import ask_simple

        return ask_simple(spec.baseline, _pool(state, plan, spec), questions)
    if endpoint is not None:
        path = state.session.run_dir / "calls.jsonl"
        budget = Budget(path, spec.name, endpoint.max_calls, endpoint.max_usd)
        options: dict[str, Any] = {"temperature": decoding.temperature}
        if schema is not None:
            options |= schema_option(endpoint.response_format, schema)
        asked = [question_for(endpoint, one.messages, most, **options) for one in questions]
        client = Client(endpoint, spec.price, budget)
        return ask_endpoint(client, asked, should_stop=state.should_stop)
    assert plan.model is not None and state.models is not None  # noqa: PT018
    return ask_model(
        state.models.writer(plan.model),
        state.render(plan.model, state.plan.rendering),
        most,
        state.plan.batch_size,
        questions,
        should_stop=state.should_stop,
        grammar=grammar_of(decoding, schema, state.references),
    )


def _questions(
    state: State, plan: SystemPlan, spec: SystemSpec, examples: list[HeldOut]
) -> list[HeldOut]:
    """Return the examples as a system is asked them."""
    if spec.baseline is not None:
        return examples
    shots: list[list[HeldOut]] = [[]] * len(examples)
    if spec.examples is not None and examples:
        from ft_tools.evaluation.worker.baselines import nearest

        shots = choose_shots(spec.examples, _pool(state, plan, spec), examples, nearest)
    document = ""
    if spec.document is not None:
        state.planned_file(plan, spec.document)
        document = read_document(spec)
    pairs = zip(examples, shots, strict=True)
    return [asked_as(spec, example, few, document) for example, few in pairs]


def _pool(state: State, plan: SystemPlan, spec: SystemSpec) -> list[HeldOut]:
    assert spec.examples is not None
    path = spec.examples.path
    if path not in state.pools:
        state.planned_file(plan, path)
        found = read_pool(spec.examples, Path(state.plan.dataset), state.examples)
        state.pools[path] = found.examples
    return state.pools[path]
