"""Let every system answer the held-out examples; answers are saved as they come."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ft_tools.endpoints.budget import Budget
from ft_tools.endpoints.client import Client, schema_option
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.systems.asking import asked_as, choose_shots, read_document, read_pool
from ft_tools.evaluation.systems.grammar import grammar_of
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.systems.system import Answer, Batch, EndpointSystem, Stop, System
from ft_tools.evaluation.worker.state import State
from ft_tools.evaluation.worker.writer import Writer, in_batches, longest_first
from ft_tools.metrics.schema import load_schema

ROW_FIELDS = ("text", "num_tokens", "finished", "seconds", "prompt_tokens", "usd", "served_by")


@dataclass(frozen=True)
class ModelSystem:
    """Answers with a model that is loaded here: prompts are rendered, then continued in batches."""

    writer: Writer
    render: Callable[[HeldOut], str]
    max_new_tokens: int
    batch_size: int
    grammar: str | None = None

    def answer(self, questions: Sequence[HeldOut], should_stop: Stop) -> Iterator[Batch]:
        """Yield the answers batch by batch; seconds are a batch's, divided by its size."""
        places: dict[str, list[int]] = {}
        for i, question in enumerate(questions):
            # Equal prompts are answered once.
            places.setdefault(self.render(question), []).append(i)
        prompts = list(places)

        def ask(batch: list[int]) -> list[Answer]:
            texts = [prompts[i] for i in batch]
            return self.writer.generate(texts, self.max_new_tokens, self.grammar)

        for batch, answers, seconds in in_batches(longest_first(prompts), self.batch_size, ask):
            num = sum(len(places[prompts[i]]) for i in batch)
            found = []
            for i, answer in zip(batch, answers, strict=True):
                read = len(self.writer.encode(prompts[i]))
                whole = replace(answer, seconds=round(seconds / num, 6), prompt_tokens=read)
                found += [(place, whole) for place in places[prompts[i]]]
            yield found
            if should_stop():
                return

    def close(self) -> None:
        """Leave the weights to whoever loaded them."""


def answer_all(state: State) -> dict[str, dict[str, list[Answer]]]:
    """Let each system answer each set of questions; those with the same weights follow each other.

    Returns:
        Set -> system -> answers, the systems in the order of the request.
    """
    specs = {spec.name: spec for spec in state.request.all_systems()}
    answers: dict[tuple[str, str], list[Answer]] = {}
    for plan in sorted(state.plan.systems, key=_weights_of):
        spec = specs[plan.name]
        if spec.baseline is None:
            # Simple ones take no time that is worth an event.
            state.session.phase(f"answering: {plan.name}")
        state.take_over(plan)
        opened = partial(_open, state, plan, spec)
        for kind, examples in state.sets.items():
            questions = _questions(state, plan, spec, examples)
            answers[kind, plan.name] = answer(state, kind, plan.name, questions, opened)
    names = [plan.name for plan in state.plan.systems]
    return {kind: {name: answers[kind, name] for name in names} for kind in state.sets}


def answer(
    state: State, kind: str, side: str, questions: Sequence[HeldOut], opened: Callable[[], System]
) -> list[Answer]:
    """Ask what is missing of a set of questions, and return all answers in order.

    Raises:
        Stopped: It was requested; what was in flight is saved.
    """
    missing = [q for q in questions if (kind, side, q.line) not in state.saved]
    total = state.num_to_answer
    # Reported at once: what the system before it reported is not this one's progress.
    state.session.progress(state.num_answered, total)
    if missing:
        system = opened()
        try:
            for batch in system.answer(missing, lambda: state.session.should_stop):
                for i, answered in batch:
                    state.keep(kind, side, missing[i].line, answered.__dict__)
                state.session.progress(state.num_answered, total)
        finally:
            system.close()
    state.check_stop()
    rows = [state.saved[kind, side, question.line] for question in questions]
    return [Answer(**{field: row[field] for field in ROW_FIELDS if field in row}) for row in rows]


def _weights_of(plan: SystemPlan) -> tuple[str, bool]:
    files = plan.model
    return (files.load_from, files.adapter is None) if files else ("", False)


def _open(state: State, plan: SystemPlan, spec: SystemSpec) -> System:
    schema = None
    if spec.decoding.json_schema is not None:
        schema = load_schema(state.planned_file(plan, spec.decoding.json_schema))
    if spec.endpoint is not None:
        endpoint = spec.endpoint
        path = state.session.run_dir / "calls.jsonl"
        budget = Budget(path, spec.name, endpoint.max_calls, endpoint.max_usd)
        options = {"temperature": spec.decoding.temperature}
        if schema is not None:
            options |= schema_option(endpoint.response_format, schema)
        client = Client(endpoint, spec.price, budget)
        return EndpointSystem(client, plan.max_new_tokens, options)
    if spec.baseline is not None:
        from ft_tools.evaluation.worker.baselines import SimpleSystem

        return SimpleSystem(spec.baseline, _pool(state, plan, spec))
    assert plan.model is not None and state.models is not None  # noqa: PT018
    rendering = state.plan.rendering
    writer = state.models.writer(plan.model)
    render = (
        state.render_for_all(rendering)
        if state.weights
        else lambda example: writer.render(example, rendering)
    )
    grammar = grammar_of(spec.decoding, schema, state.references)
    return ModelSystem(writer, render, plan.max_new_tokens, state.plan.batch_size, grammar)


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
        found = read_pool(spec.examples, state.held_out_path, state.examples)
        state.pools[path] = found.examples
    return state.pools[path]
