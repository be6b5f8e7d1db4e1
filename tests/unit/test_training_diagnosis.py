"""Each finding on the curves that call for it, and silence on those that do not."""

from dataclasses import replace

import pytest

from ft_tools.errors import BadData, BadInput
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.runs.launchers.placement import Place
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo, Status
from ft_tools.training.diagnosis import Setup, diagnose, health_of, setup_of
from ft_tools.training.next_steps import next_steps
from ft_tools.training.plan import SftPlan, plan_sft
from ft_tools.training.request import SftRequest
from ft_tools.training.token_counts import Counts, DataReport, Lengths
from ft_tools.training.train_further import continued
from ft_tools.workspace import runs_dir
from tests.unit.test_training_launch import files, sft

__all__ = ["files"]

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
        ("too_few_steps", curves([3, 1, 0.4], FALLING, [0.9] * 10), FEW),
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
        (curves([3, 0.4, 0.2], FLAT), USUAL),
        (curves([3, 1], [1.0, 0.9]), USUAL),
        ([], USUAL),
    ],
)
def test_a_run_whose_answers_are_right_or_whose_curves_ended_is_left_alone(rows, setup):
    assert diagnose(rows, setup) == []


def test_a_loss_above_that_of_guessing_is_no_noise_in_the_labels():
    rows = curves([7, 4.7, 4.7, 4.7], [6.0, 5.2, 4.9] + [4.75] * 7)
    assert [one.id for one in diagnose(rows, replace(LABELS, num_labels=36))] == []
    (found,) = diagnose(rows, replace(LABELS, num_labels=200))
    assert (found.id, "within 5% of its best, 4.75" in found.observed) == ("noise", True)


@pytest.mark.parametrize("validation", [None, "held_out.jsonl"])
def test_a_model_that_knows_the_answers_is_measured_on_rows_that_there_are(files, validation):
    asked = sft(validation=validation, training={"max_steps": 4})
    plan = plan_sft(asked)
    found = diagnose(curves([0.02, 0.01, 0.01], [0.01] * 10), USUAL)
    (step,) = next_steps(found, plan, asked.model_dump(), "sft-0123456789abcdef")
    assert step.tool == "evaluate"
    asked = EvaluateRequest(**step.arguments)
    assert asked.model == plan.model.name
    assert asked.dataset == (plan.validation or plan.dataset).path


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


def few(evals, losses=12):
    """Make metric rows of a run with an evaluation after every six losses or fewer."""
    rows = [{"step": step + 1.0, "loss": 3 - step / 6} for step in range(losses)]
    each = losses // len(evals)
    return rows + [{"step": each * (i + 1.0), "eval_loss": v} for i, v in enumerate(evals)]


SHORT = Setup(learning_rate=1e-3, usual_rate=1e-3, epochs=2, steps=12)


@pytest.mark.parametrize(
    ("evals", "losses", "continues"),
    [
        ([2.0, 1.2], 12, True),
        ([2.0, 1.5, 1.2], 3, True),
        ([2.0, 1.99], 12, False),
        ([1.2, 2.0], 12, False),
        ([1.5], 12, False),
    ],
)
def test_a_run_with_few_evaluations_is_told_what_they_show(files, evals, losses, continues):
    (found,) = diagnose(few(evals, losses), SHORT)
    assert (found.id, found.continues) == ("too_few_evaluations", continues)
    assert all(f"{value:.3g} at step" in found.observed for value in evals)
    assert ("still falling" in found.observed) == continues
    asked = sft(validation="held_out.jsonl", training={"eval_strategy": "epoch", "max_steps": 12})
    plan = plan_sft(asked)
    (step,) = next_steps([found], plan, asked.model_dump(), "sft-0123456789abcdef")
    training = SftRequest(**step.arguments).training
    if continues:
        assert step.arguments["from_run"] == "sft-0123456789abcdef"
        assert training == {"num_train_epochs": 2, "eval_strategy": "steps"}
    else:
        assert training == {"max_steps": 12}


@pytest.mark.parametrize(
    ("evals", "fewer"), [([2, 1, 0.6] + [0.5] * 5 + [0.5, 0.499], False), (WORSE, True)]
)
def test_what_memorises_trains_for_less_only_where_an_earlier_checkpoint_is_better(evals, fewer):
    (found,) = diagnose(curves([3, 0.3, 0.01, 0.01], evals), USUAL)
    assert found.id == "memorising"
    assert ("num_train_epochs" in found.training, "learning_rate" in found.training) == (
        fewer,
        True,
    )
    assert ("would not help" in found.advice) is not fewer


@pytest.mark.parametrize(
    ("longest", "tool", "length"), [(100, "launch_sft", 128), (300, "audit_dataset", 64)]
)
def test_rows_that_were_cut_have_a_next_call(files, longest, tool, length):
    """The model of these files has 256 positions."""
    asked = sft(validation="held_out.jsonl", training={"max_length": 64, "num_train_epochs": 3})
    plan = plan_sft(asked)
    data = DataReport(
        num_examples=30, num_sequences=30, num_truncated=3, num_dropped=0, num_tokens=900,
        num_trained_tokens=300,
    )  # fmt: skip
    lengths = Lengths(mean_tokens=30, mean_answer_tokens=9, longest_tokens=longest, padding=0)
    counts = Counts(data=data, num_rows=30, num_counted=30, lengths=lengths)
    cut = plan.model_copy(update={"counts": counts})
    (step,) = next_steps([], cut, asked.model_dump(), "sft-0123456789abcdef")
    assert step.tool == tool
    assert (step.arguments.get("training") or step.arguments)["max_length"] == length
    assert next_steps([], plan, asked.model_dump(), "sft-0123456789abcdef") == []


# --- from_run -------------------------------------------------------------------------------------


def finished(files, state="succeeded", **changed):
    """Write a run as a launch leaves it."""
    asked = sft(validation="held_out.jsonl", **changed)
    run_dir = runs_dir() / "sft-0123456789abcdef"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=1.0)
    texts = {"run": info, "request": asked, "plan": plan_sft(asked)}
    for name, record in texts.items():
        (run_dir / f"{name}.json").write_text(record.model_dump_json())
    directory.write_status(run_dir, Status(state=state))
    return run_dir.name


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


def test_only_a_finished_sft_run_is_trained_further(files):
    run = finished(files, state="failed", training={"num_train_epochs": 2})
    with pytest.raises(BadInput, match="in state failed, and only a run that succeeded"):
        continued(SftRequest(from_run=run))


def test_the_epochs_of_a_run_are_those_of_its_packs_and_processes(files):
    batch = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1}
    run = finished(files, training=batch | {"max_steps": 30})
    plan = SftPlan.model_validate_json((runs_dir() / run / "plan.json").read_text())
    assert (plan.epochs, setup_of(plan).epochs) == (2, 2)
    data = DataReport(**dict.fromkeys(DataReport.model_fields, 30))
    lengths = Lengths(mean_tokens=9, mean_answer_tokens=5, longest_tokens=9, padding=0)
    counts = Counts(data=data, num_rows=20, num_counted=30, lengths=lengths)
    packed = plan.model_copy(update={"counts": counts, "place": Place(processes=2)})
    assert (packed.epochs, setup_of(packed).epochs) == (6, 6)
    (runs_dir() / run / "plan.json").write_text(packed.model_dump_json())
    assert continued(SftRequest(from_run=run)).training["num_train_epochs"] == 6


@pytest.mark.parametrize("name", ["plan", "request"])
@pytest.mark.parametrize("text", ["{}", "[]", '{"training": 5, "dataset": 5, "validation": 5}'])
def test_a_run_with_a_damaged_plan_or_request_is_not_trained_further(files, name, text):
    run = finished(files, training={"num_train_epochs": 2})
    (runs_dir() / run / f"{name}.json").write_text(text)
    with pytest.raises(BadData, match="pass it as `model` with a dataset"):
        continued(SftRequest(from_run=run))
