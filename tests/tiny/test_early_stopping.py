"""What ends a run before its last step."""

from types import SimpleNamespace

import pytest
from transformers import (
    EarlyStoppingCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ft_tools.training.worker.callbacks import EarlyStopping, early_stopping


@pytest.mark.parametrize(
    ("task", "answer", "chosen"),
    [
        ("sft", 12.0, EarlyStopping),
        ("sft", 300.0, EarlyStoppingCallback),
        ("sft", None, EarlyStoppingCallback),
        ("dpo", 12.0, EarlyStoppingCallback),
    ],
)
def test_a_loss_says_that_all_is_learnt_of_short_answers_only(task, answer, chosen):
    stopping = early_stopping(SimpleNamespace(task=task, answer_tokens=answer), 3)
    assert type(stopping) is chosen
    assert stopping.early_stopping_patience == 3


@pytest.mark.parametrize(
    ("losses", "stops"),
    [((1e-3, 9e-4, 8e-4), True), ((3e-3, 2e-3, 1.1e-3), False), ((0.5, 0.6, 0.6, 0.6), True)],
)
def test_evaluations_at_which_all_is_learnt_or_that_are_no_better_end_a_run(
    tmp_path, losses, stops
):
    chosen_by = {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, **chosen_by)
    state, control = TrainerState(), TrainerControl()
    stopping = EarlyStopping(3, learnt=0.001)
    for loss in losses:
        assert not control.should_training_stop
        stopping.on_evaluate(arguments, state, control, {"eval_loss": loss})
        state.best_metric = min(loss, state.best_metric or loss)
    assert control.should_training_stop == stops


def test_a_resumed_run_stops_by_the_patience_and_the_learnt_loss_of_its_checkpoint():
    stopping = EarlyStopping(3, learnt=0.001)
    stopping.early_stopping_patience_counter = 2
    again = EarlyStopping.from_state(stopping.state())
    assert (again.early_stopping_patience, again.learnt) == (3, 0.001)
    assert again.early_stopping_patience_counter == 2
