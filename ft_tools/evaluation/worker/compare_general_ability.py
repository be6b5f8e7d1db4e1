"""What two models could do before: general text and a few questions, from our own small suite."""

from collections.abc import Sequence

from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.metrics.general_questions import NEW_TOKENS, general_prompts, general_texts
from ft_tools.evaluation.metrics.scoring import Scores, Settings, compare_scores
from ft_tools.evaluation.report import Comparison
from ft_tools.evaluation.systems.system import Answered
from ft_tools.evaluation.worker.answering import answer
from ft_tools.evaluation.worker.likelihoods import add_shared_unit, measure
from ft_tools.evaluation.worker.model_system import ModelSystem
from ft_tools.evaluation.worker.state import SIDES, State


def evaluate_general(state: State) -> list[Comparison]:
    """Compare what the models could do before: general text, and a few questions of each kind."""
    before, after = Scores(), Scores()
    settings = Settings(state.request.seed, state.request.smallest_effect_fraction)
    state.session.phase("measuring general text")
    texts = [("", text) for text in general_texts()]
    found = [measure(state, state.writer(side), texts) for side in SIDES]
    add_shared_unit(state, found, before, after)
    asked = general_prompts()
    questions = [
        HeldOut(line=i, messages=[{"role": "user", "content": one.prompt}])
        for i, one in enumerate(asked)
    ]
    for scores, side in zip((before, after), SIDES, strict=True):
        state.session.phase(f"generating: general questions, {side}")
        answers = _general_answers(state, side, questions)
        passed = [float(p.passes(a.text)) for p, a in zip(asked, answers, strict=True)]
        scores["general_questions"] = [
            value for value, p in zip(passed, asked, strict=True) if p.kind != "refusal"
        ]
        scores["refusals"] = [
            value for value, p in zip(passed, asked, strict=True) if p.kind == "refusal"
        ]
    rows = compare_scores(before, after, settings)
    return [
        row.model_copy(update={"metric": f"general_{row.metric}"})
        if row.metric in {"log_perplexity", "bits_per_byte"}
        else row
        for row in rows
    ]


def _general_answers(state: State, side: str, questions: Sequence[HeldOut]) -> list[Answered]:
    if state.plan.alone:
        side = "baseline"
    render = state.both.render
    system = ModelSystem(
        state.writer(side), lambda one: render(one, "chat"), NEW_TOKENS, state.plan.batch_size
    )
    return answer(state, "general", side, questions, system)
