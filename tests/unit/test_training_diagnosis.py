"""Each finding on the curves that call for it, and silence on those that do not."""

import json

import pytest

from ft_tools.errors import BadData, BadInput
from ft_tools.runs.state.records import Status
from ft_tools.training.diagnosis import Setup, diagnose, health_of, next_steps, setup_of
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft
from ft_tools.training.train_further import continued
from ft_tools.workspace import runs_dir
from tests.made_runs import made_run
from tests.unit.launches import sft

USUAL = Setup(learning_rate=1e-3, usual_rate=1e-3, epochs=3, steps=120)
HIGH = Setup(learning_rate=1e-2, usual_rate=1e-3, epochs=3, steps=120)
LOW = Setup(learning_rate=1e-4, usual_rate=1e-3, epochs=3, steps=120)
LABELS = Setup(learning_rate=1e-3, usual_rate=1e-3, epochs=3, steps=120, num_labels=6)
FEW = Setup(learning_rate=1e-3, usual_rate=1e-3, epochs=1, steps=40)


def curves(train, evals, accuracies=None):
    """Make metric rows of 100 training losses and ten evaluations, from a few points of each."""
    rows = []
    for step in range(100):
        at = step / 99 * (len(train) - 1)
        low = int(at)
        high = min(low + 1, len(train) - 1)
        rows.append(
            {"step": step + 1.0, "loss": train[low] + (at - low) * (train[high] - train[low])}
        )
        if step % 10 == 9:
            i = step // 10 * len(evals) // 10
            row = {"step": step + 1.0, "eval_loss": evals[i]}
            if accuracies:
                row["eval_mean_token_accuracy"] = accuracies[i]
            rows.append(row)
    return rows


FALLING = [2.0, 1.5, 1.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.42, 0.35]
BETTER = [0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.83, 0.85, 0.87, 0.9]
WORSE = [0.8, 0.7, 0.6, 0.55, 0.5, 0.45, 0.43, 0.45, 0.5, 0.52]
FLAT = [2.0, 1.2, 0.6, 0.4, 0.31, 0.3, 0.3, 0.3, 0.3, 0.3]


@pytest.mark.parametrize(
    ("name", "rows", "setup"),
    [
        ("still_learning", curves([3, 1, 0.4], FALLING), USUAL),
        ("too_few_steps", curves([3, 1, 0.4], FALLING), FEW),
        ("still_learning", curves([3, 1, 0.4], FALLING, BETTER), USUAL),
        ("rate_too_low", curves([3, 2.5, 2], FALLING), LOW),
        ("rate_too_high", curves([3, 0.5, 2.5], [2.0, 1, 2, 3, 3, 3, 3, 3, 3, 3]), USUAL),
        ("rate_too_high", curves([3, 2.2, 2.2], [2.3] * 10), HIGH),
        ("memorising", curves([3, 0.5, 0.01], [2, 1, 0.6, 0.7, 0.8, 0.9, 1, 1, 1, 1]), USUAL),
        ("noise", curves([3, 0.4, 0.39, 0.38], [0.5] + [0.4] * 9, [0.8] * 10), LABELS),
        ("noise", curves([3, 0.6, 0.45, 0.4, 0.2], WORSE), LABELS),
        ("memorising", curves([3, 0.6, 0.45, 0.4, 0.2], WORSE), USUAL),
        ("nothing_to_learn", curves([0.02, 0.01, 0.01], [0.01] * 10), USUAL),
    ],
)
def test_a_sick_run_is_named_and_its_evidence_has_numbers(name, rows, setup):
    (found,) = diagnose(rows, setup)
    assert found.id == name
    assert any(character.isdigit() for character in found.observed)


@pytest.mark.parametrize(
    ("rows", "setup"),
    [
        (
            curves([3, 0.1, 0.01], [1, 0.5, 0.1, 0.01, 0.005, 0.004, 0.003, 0.002, 0.001, 2e-4]),
            USUAL,
        ),
        (
            curves([3, 0.1, 1e-5], [0.2, 0.01, 1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 5e-4, 6e-4, 7e-4]),
            USUAL,
        ),
        (curves([3, 1, 0.4], FALLING, [0.9] * 10), USUAL),
        (curves([3, 0.5, 0.2], FLAT, [0.5, 0.8, 0.9, 0.95] + [0.99] * 6), USUAL),
        ([], USUAL),
    ],
)
def test_a_run_whose_answers_are_right_or_whose_curves_ended_is_left_alone(rows, setup):
    assert diagnose(rows, setup) == []


def test_prompts_in_the_loss_are_named_whatever_the_curves_say():
    unmasked = Setup(1e-3, 1e-3, 3, 120, is_masked=False)
    found = diagnose(curves([3, 0.1, 0.01], [0.001] * 10), unmasked)
    assert [one.id for one in found] == ["masked_wrongly"]
    assert [signal.signal for signal in health_of(found)] == ["masked_wrongly"]


def test_the_next_call_has_the_changed_arguments_and_the_files_that_were_used(files):
    given = {"learning_rate": 1e-5, "num_train_epochs": 3}
    asked = sft(validation="held_out.jsonl", training=given)
    plan = plan_sft(asked)
    setup = setup_of(plan)
    assert (setup.learning_rate, setup.epochs) == (1e-5, 3.0)
    low = diagnose(curves([3, 2.5, 2], FALLING), setup)
    (step,) = next_steps(low, plan, asked.model_dump(), "sft-0123456789abcdef")
    assert step.tool == "launch_sft"
    assert SftRequest(**step.arguments).training == {
        "learning_rate": setup.usual_rate, "num_train_epochs": 3
    }  # fmt: skip
    assert step.arguments["validation"] == plan.validation.path
    on_mlx = asked.model_dump() | {"engine": "mlx"}
    (step,) = next_steps(low, plan, on_mlx, "sft-0123456789abcdef")
    assert SftRequest(**step.arguments).engine == "mlx"
    more = diagnose(curves([3, 1, 0.4], FALLING), USUAL)
    (step,) = next_steps(more, plan, asked.model_dump(), "sft-0123456789abcdef")
    assert step.arguments == {
        "from_run": "sft-0123456789abcdef", "training": {"num_train_epochs": 3}
    }  # fmt: skip


# --- from_run -------------------------------------------------------------------------------------


def finished(files, state="succeeded", **changed):
    """Write a run as a launch leaves it."""
    asked = sft(validation="held_out.jsonl", **changed)
    files = {"request": asked, "plan": plan_sft(asked)}
    return made_run("sft-0123456789abcdef", Status(state=state), files=files).name


def test_a_run_is_trained_further_with_its_own_files_and_a_schedule_that_starts_anew(files):
    given = {"num_train_epochs": 2, "learning_rate": 4e-4, "weight_decay": 0.1}
    run = finished(files, training=given | {"eval_steps": 6, "save_steps": 12})
    more = continued(SftRequest(from_run=run))
    assert (more.model, more.from_run) == (run, None)
    assert more.dataset == str(files / "train.jsonl")
    assert more.validation == str(files / "held_out.jsonl")
    # Half of the peak: where a cosine over both runs is after the first.
    assert more.training == {"num_train_epochs": 2, "learning_rate": 2e-4, "weight_decay": 0.1}


def test_what_is_asked_for_holds_when_a_run_is_trained_further(files):
    run = finished(files, training={"num_train_epochs": 2, "learning_rate": 4e-4})
    more = continued(SftRequest(from_run=run, training={"num_train_epochs": 4}))
    assert more.training == {"num_train_epochs": 4, "learning_rate": 3e-4}
    own = {"learning_rate": 1e-5, "num_train_epochs": 1}
    assert continued(SftRequest(from_run=run, training=own)).training == own


def test_a_run_of_mlx_is_not_trained_further_on_another_machine(files):
    run = finished(files, training={"num_train_epochs": 2})
    path = runs_dir() / run / "request.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"engine": "mlx"}))
    elsewhere = SftRequest(from_run=run, backend_options={"gpu": "RTX 4090"})
    with pytest.raises(BadInput, match='engine="mlx"'):
        launch_sft(elsewhere)


def test_only_a_finished_sft_run_is_trained_further(files):
    run = finished(files, state="failed", training={"num_train_epochs": 2})
    with pytest.raises(BadInput, match="in state failed, and only a run that succeeded"):
        continued(SftRequest(from_run=run))


@pytest.mark.parametrize("name", ["plan", "request"])
@pytest.mark.parametrize("text", ["{}", "[]", '{"training": 5, "dataset": 5, "validation": 5}'])
def test_a_run_with_a_damaged_plan_or_request_is_not_trained_further(files, name, text):
    run = finished(files, training={"num_train_epochs": 2})
    (runs_dir() / run / f"{name}.json").write_text(text)
    with pytest.raises(BadData, match="pass it as `model` with a dataset"):
        continued(SftRequest(from_run=run))
