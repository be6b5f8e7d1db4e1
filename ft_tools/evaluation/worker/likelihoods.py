"""How well each of two models predicts texts, in a unit that both share."""

import math
from collections.abc import Sequence

from ft_tools.evaluation.metrics.scoring import Scores
from ft_tools.evaluation.worker.state import SIDES, State
from ft_tools.evaluation.worker.writer import Likelihood, Writer, whole_text
from ft_tools.runs.processes.out_of_memory import is_out_of_memory

LIKELIHOOD_BATCH = 8


def add_likelihoods(state: State, before: Scores, after: Scores) -> None:
    """Measure how well each model predicts the references, in units both share."""
    state.session.phase("measuring the references")
    texts = []
    for example in state.examples:
        prompt = state.both.render(example, state.plan.rendering)
        writer = state.both.tuned if state.both.tuned.template else state.both.baseline
        texts.append((prompt, whole_text(writer, prompt, example, state.plan.rendering)))
    found = [measure(state, state.writer(side), texts) for side in SIDES]
    add_shared_unit(state, found, before, after)


def add_shared_unit(
    state: State, found: list[list[Likelihood]], before: Scores, after: Scores
) -> None:
    """Put likelihoods into the scores: per token, or per byte where the tokens differ."""
    same = state.both.same_tokens()
    name = "log_perplexity" if same else "bits_per_byte"
    for scores, side in zip((before, after), found, strict=True):
        scores[name] = [
            one.nats / one.num_tokens if same else one.nats / one.num_bytes / math.log(2)
            for one in side
        ]


def measure(state: State, writer: Writer, texts: Sequence[tuple[str, str]]) -> list[Likelihood]:
    """Measure (prompt, whole text) pairs in batches of similar length."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i][1]))
    found: dict[int, Likelihood] = {}
    size = LIKELIHOOD_BATCH
    while len(found) < len(order):
        batch = order[len(found) : len(found) + size]
        values = None
        try:
            values = writer.likelihoods([texts[i] for i in batch])
        except Exception as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
        if values is None:
            # Longest first: what fits now fits to the end.
            size = len(batch) // 2
            from ft_tools.models.worker.loading import free_memory

            free_memory()
            continue
        found |= dict(zip(batch, values, strict=True))
        state.session.progress(len(found), len(texts))
        state.check_stop()
    return [found[i] for i in range(len(texts))]
