"""What ends a run before its last step."""

import json
from types import SimpleNamespace

import pytest
from transformers import (
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ft_tools.training.worker.callbacks import early_stopping


def of_plan(task="sft", answer_tokens=12.0):
    return early_stopping(SimpleNamespace(task=task, answer_tokens=answer_tokens), 3)


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
    stopping = of_plan()
    for loss in losses:
        assert not control.should_training_stop
        stopping.on_evaluate(arguments, state, control, {"eval_loss": loss})
        state.best_metric = min(loss, state.best_metric or loss)
    assert control.should_training_stop == stops


def test_a_resumed_run_stops_by_the_patience_and_the_learnt_loss_of_its_checkpoint():
    stopping = of_plan()
    stopping.early_stopping_patience_counter = 2
    again = type(of_plan()).from_state(json.loads(json.dumps(stopping.state())))
    assert again.early_stopping_patience == 3
    again.check_metric_value(None, TrainerState(best_metric=0.5), None, 0.0009)
    assert again.early_stopping_patience_counter == 3
