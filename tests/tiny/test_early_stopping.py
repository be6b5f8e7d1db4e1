"""What ends a run before its last step."""

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from ft_tools.training.worker.callbacks import EarlyStopping


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
    stopping = EarlyStopping(early_stopping_patience=3)
    for loss in losses:
        assert not control.should_training_stop
        stopping.on_evaluate(arguments, state, control, {"eval_loss": loss})
        state.best_metric = min(loss, state.best_metric or loss)
    assert control.should_training_stop == stops
