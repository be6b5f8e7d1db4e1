"""What is measured of models beside answers: how well they predict texts, and general ability."""

import math
from collections.abc import Sequence
from functools import partial

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.results import Scores
from ft_tools.evaluation.worker.answering import ModelSystem, answer
from ft_tools.evaluation.worker.state import State
from ft_tools.evaluation.worker.writer import (
    Likelihood,
    Writer,
    in_batches,
    longest_first,
    whole_text,
)
from ft_tools.metrics.general import NEW_TOKENS, general_prompts, general_texts

LIKELIHOOD_BATCH = 8


def reference_likelihoods(state: State) -> dict[str, Scores]:
    """Measure how well each model of the short form predicts the references."""
    state.session.phase("measuring the references")
    rendering = state.plan.rendering
    render = state.render_for_all(rendering)
    writer = state.templated or list(state.writers.values())[-1]
    prompts = [render(example) for example in state.examples]
    texts = [
        (prompt, whole_text(writer, prompt, example, rendering))
        for prompt, example in zip(prompts, state.examples, strict=True)
    ]
    return in_shared_unit(state, texts)


def general_scores(state: State) -> dict[str, Scores]:
    """Measure what each model of the short form could do before: texts and a few questions."""
    state.session.phase("measuring general text")
    found = in_shared_unit(state, [("", text) for text in general_texts()], "general_")
    asked = general_prompts()
    questions = [
        HeldOut(line=i, messages=[{"role": "user", "content": one.prompt}])
        for i, one in enumerate(asked)
    ]
    render = state.render_for_all("chat")
    for name, writer in state.writers.items():
        state.session.phase(f"generating: general questions, {name}")
        opened = partial(ModelSystem, writer, render, NEW_TOKENS, state.plan.batch_size)
        answers = answer(state, "general", name, questions, opened)
        for one, answered in zip(asked, answers, strict=True):
            metric = "refusals" if one.kind == "refusal" else "general_questions"
            found[name].setdefault(metric, []).append(float(one.passes(answered.text)))
    return found


def in_shared_unit(
    state: State, texts: Sequence[tuple[str, str]], prefix: str = ""
) -> dict[str, Scores]:
    """Measure (prompt, whole text) pairs: per token, or per byte where the tokens differ."""
    vocabularies = [writer.vocabulary for writer in state.writers.values()]
    same = all(one is not None and one == vocabularies[0] for one in vocabularies)
    name = prefix + ("log_perplexity" if same else "bits_per_byte")
    return {
        side: {
            name: [
                one.nats / one.num_tokens if same else one.nats / one.num_bytes / math.log(2)
                for one in measure(state, writer, texts)
            ]
        }
        for side, writer in state.writers.items()
    }


def measure(state: State, writer: Writer, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
    """Measure (prompt, whole text) pairs in batches of similar length."""
    order = longest_first([whole for _, whole in texts])
    found: dict[int, Likelihood] = {}
    for batch, values, _ in in_batches(
        order, LIKELIHOOD_BATCH, lambda places: writer.likelihoods([texts[i] for i in places])
    ):
        found |= dict(zip(batch, values, strict=True))
        state.session.progress(len(found), len(texts))
        state.check_stop()
    return [found[i] for i in range(len(texts))]
