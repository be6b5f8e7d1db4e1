"""Let every system answer the held-out examples; answers are saved as they come."""

import json
import time
from collections.abc import Sequence
from typing import Any

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.metrics.schema import load_schema
from ft_tools.evaluation.systems.asking import asked_as, choose_shots, read_document, read_pool
from ft_tools.evaluation.systems.budget import Budget
from ft_tools.evaluation.systems.compared_models import ModelFiles
from ft_tools.evaluation.systems.endpoint import Client, EndpointSystem
from ft_tools.evaluation.systems.grammar import grammar_of
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.evaluation.systems.spec import SystemSpec
from ft_tools.evaluation.systems.system import Answered, System
from ft_tools.evaluation.worker.model_system import ModelSystem
from ft_tools.evaluation.worker.state import State
from ft_tools.evaluation.worker.writer import Writer
from ft_tools.publish import append_line

ROW_FIELDS = ("text", "num_tokens", "finished", "seconds", "prompt_tokens", "usd", "served_by")


def answer_held_out(state: State) -> dict[str, list[Answered]]:
    """Let each system answer each example; those with the same weights follow each other."""
    specs = {spec.name: spec for spec in state.request.all_systems()}
    shelf = Current(state)
    answers: dict[str, list[Answered]] = {}
    for plan in sorted(state.plan.systems, key=_weights_of):
        if specs[plan.name].baseline is None:
            # Simple ones take no time that is worth an event.
            state.session.phase(f"answering: {plan.name}")
        state.take_over(plan)
        answers[plan.name] = _answer_as(state, plan, specs[plan.name], shelf)
    shelf.clear()
    # In the order of the request, the reference first.
    return {plan.name: answers[plan.name] for plan in state.plan.systems}


def answer(
    state: State, name: str, side: str, questions: Sequence[HeldOut], system: System
) -> list[Answered]:
    """Ask what is missing of a set of questions, and return all answers in order.

    Raises:
        Stopped: It was asked to; what was under way is saved.
    """
    missing = [q for q in questions if (name, side, q.line) not in state.saved]
    begun, total = state.num_answered, state.num_to_answer
    # Said at once: what the system before it reported is not this one's progress.
    state.session.progress(begun, total)
    began = time.monotonic()
    batches = system.answer(missing, lambda: state.session.should_stop) if missing else ()
    for batch in batches:
        for i, answered in batch:
            row = {"set": name, "side": side, "line": missing[i].line, **answered.__dict__}
            append_line(state.session.run_dir / "outputs.jsonl", json.dumps(row))
            state.saved[name, side, missing[i].line] = row
        done = state.num_answered
        if done > begun:
            eta = (time.monotonic() - began) / (done - begun) * (total - done)
            state.session.progress(done, total, eta)
    state.check_stop()
    return [answered_of(state.saved[name, side, q.line]) for q in questions]


def answered_of(row: dict[str, Any]) -> Answered:
    """Return what a line of outputs.jsonl says."""
    return Answered(**{field: row[field] for field in ROW_FIELDS if field in row})


class Current:
    """The model that is asked now; a base below a loaded adapter is not loaded again."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._files: ModelFiles | None = None
        self._writer: Writer | None = None

    def writer(self, files: ModelFiles) -> Writer:
        """Return a writer for a model, loaded if it is not there."""
        from ft_tools.evaluation.worker.loaded_models import Shelf
        from ft_tools.evaluation.worker.tokenizer_writer import TokenizerWriter
        from ft_tools.evaluation.worker.transformers_generation import load, load_tokenizer

        if self._writer is not None and self._files is not None:
            if files.model_copy(update={"name": self._files.name}) == self._files:
                return self._writer
            below = files.adapter is None and files.load_from == self._files.load_from
            if below and isinstance(self._writer, TokenizerWriter):
                return self._writer.below(load_tokenizer(files))
            self.clear()
        self._files = files
        self._writer = load(files, Shelf(self._state.plan.loading))
        return self._writer

    def clear(self) -> None:
        """Free the weights."""
        if self._writer is None:
            return
        from ft_tools.models.worker.loading import free_memory

        close = getattr(self._writer, "close", None)
        if close is not None:
            close()
        self._files = self._writer = None
        free_memory()


def _weights_of(plan: SystemPlan) -> tuple[str, bool]:
    files = plan.model
    return (files.load_from, files.adapter is None) if files else ("", False)


def _answer_as(state: State, plan: SystemPlan, spec: SystemSpec, shelf: Current) -> list[Answered]:
    if state.plan.alone and plan.name == "tuned":
        return answer(state, "held_out", "baseline", state.examples, _Nobody())
    questions = _questions(state, spec)
    missing = any(("held_out", plan.name, q.line) not in state.saved for q in questions)
    system = _open(state, plan, spec, shelf) if missing else _Nobody()
    try:
        return answer(state, "held_out", plan.name, questions, system)
    finally:
        system.close()


def _open(state: State, plan: SystemPlan, spec: SystemSpec, shelf: Current) -> System:
    schema = None
    if spec.decoding.json_schema is not None:
        schema = load_schema(state.planned_file(plan, spec.decoding.json_schema))
    if spec.endpoint is not None:
        endpoint = spec.endpoint
        path = state.session.run_dir / "calls.jsonl"
        budget = Budget(path, spec.name, endpoint.max_calls, endpoint.max_usd)
        client = Client(endpoint, spec.price, budget)
        options = (plan.max_new_tokens, spec.decoding.temperature, schema)
        return EndpointSystem(client, endpoint, *options)
    if spec.baseline is not None:
        from ft_tools.evaluation.worker.baselines import SimpleSystem

        return SimpleSystem(spec.baseline, _pool(state, plan, spec))
    assert plan.model is not None
    pair = state.pair
    if pair is not None:
        writer, render = state.writer(spec.name), pair.render
    else:
        writer = shelf.writer(plan.model)
        render = writer.render
    rendering = state.plan.rendering
    return ModelSystem(
        writer,
        lambda example: render(example, rendering),
        plan.max_new_tokens,
        state.plan.batch_size,
        grammar_of(spec.decoding, schema, state.references),
    )


def _questions(state: State, spec: SystemSpec) -> list[HeldOut]:
    """Return the examples as a system is asked them."""
    if spec.baseline is not None:
        return state.examples
    plan = next(plan for plan in state.plan.systems if plan.name == spec.name)
    shots: list[list[HeldOut]] = [[]] * len(state.examples)
    if spec.examples is not None:
        from ft_tools.evaluation.worker.baselines import nearest

        shots = choose_shots(spec.examples, _pool(state, plan, spec), state.examples, nearest)
    document = ""
    if spec.document is not None:
        state.planned_file(plan, spec.document)
        document = read_document(spec)
    pairs = zip(state.examples, shots, strict=True)
    return [asked_as(spec, example, few, document) for example, few in pairs]


def _pool(state: State, plan: SystemPlan, spec: SystemSpec) -> list[HeldOut]:
    assert spec.examples is not None
    state.planned_file(plan, spec.examples.path)
    return read_pool(spec.examples, state.held_out_path, state.examples).examples


class _Nobody:
    """Stands where every answer is there already."""

    def answer(self, questions: Sequence[HeldOut], should_stop: object) -> Any:
        raise AssertionError(f"{len(questions)} questions are not answered")

    def close(self) -> None:
        """Do nothing."""
