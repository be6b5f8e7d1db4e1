"""What the verdict of an audit promises: enough rows, a held-out part, answers that agree."""

from pathlib import Path

import pytest

from ft_tools.data.request import AuditRequest, ShowRequest
from ft_tools.data.show.show_examples import show_examples
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadInput, Refused
from ft_tools.formats.test_sets import FOLDER
from ft_tools.similarity import minilm
from tests.unit.jsonl import write


def row(at, answer=None):
    return {
        "prompt": f"Where is parcel {at}?",
        "completion": answer or f"At the gate {at} of ours.",
    }


def reasons(report):
    return [reason.id for reason in report.reasons]


@pytest.mark.parametrize(("count", "verdict"), [(49, "not_ready"), (50, "ready")])
def test_a_handful_of_rows_is_not_ready_for_any_goal(workspace, count, verdict):
    write(workspace / "d.jsonl", map(row, range(count)))
    report = audit_dataset(AuditRequest(path="d.jsonl"))
    assert report.verdict == verdict
    assert not any(step.tool.startswith("launch") for step in report.next_steps)
    if verdict == "not_ready":
        assert reasons(report) == ["too_few_for_any_goal"]
        assert report.next_steps[0].tool == "recommend_approach"


GROUPS = [row(1, "North."), row(1, "South."), row(1, "North."), row(2, "East."), row(2, "West.")]


@pytest.mark.parametrize("rule", ["keep", "majority", "drop"])
def test_contradicting_answers_are_grouped_and_removed_by_a_rule(workspace, rule):
    write(workspace / "d.jsonl", [*GROUPS, *map(row, range(10, 90))])
    request = AuditRequest(path="d.jsonl", contradictions=rule, near_duplicates="off")
    report = audit_dataset(request)
    # An exact copy has gone before, and votes all the same.
    kept = {"keep": 4, "majority": 1, "drop": 0}[rule]
    assert report.num_usable == 80 + kept
    assert report.duplicates.num_conflicting_groups == 2
    assert report.duplicates.conflicting_groups == [[1, 2], [4, 5]]
    assert ("contradictions" in reasons(report)) == (rule == "keep")
    if rule == "keep":
        (step,) = [s for s in report.next_steps if s.tool == "audit_dataset"]
        assert step.arguments["contradictions"] == "majority"
        share = next(r.observed for r in report.reasons if r.id == "contradictions")
        assert share == next(f.fraction for f in report.findings if f.id == "conflicting_targets")
    else:
        (finding,) = [f for f in report.findings if f.id == "conflicting_targets"]
        assert (finding.removed, finding.count) == (True, report.removed_by[finding.id])


def test_a_test_set_whose_file_is_gone_or_holds_other_rows_no_longer_counts(workspace):
    def set_aside(rows):
        write(workspace / "test.jsonl", map(row, rows))
        audit_dataset(AuditRequest(path="test.jsonl", purpose="test"))

    set_aside(range(60))
    write(workspace / "d.jsonl", map(row, range(50, 130)))
    assert audit_dataset(AuditRequest(path="d.jsonl")).removed_by == {"test_row": 10}
    set_aside(range(57, 80))
    assert audit_dataset(AuditRequest(path="d.jsonl")).removed_by == {"test_row": 23}
    (workspace / "test.jsonl").rename(workspace / "moved.jsonl")
    assert audit_dataset(AuditRequest(path="d.jsonl")).removed_by == {}
    # What was moved is no less a test set for whoever reads it.
    with pytest.raises(Refused, match=r"moved\.jsonl is a test part"):
        show_examples(ShowRequest(path="moved.jsonl", lines=[1]))


def test_rows_of_a_test_file_are_refused_as_training_data_by_content(workspace):
    write(workspace / "test.jsonl", map(row, range(60)))
    report = audit_dataset(AuditRequest(path="test.jsonl", purpose="test"))
    assert report.verdict == "ready"
    (step,) = report.next_steps
    assert (step.tool, step.arguments) == ("evaluate", {"dataset": "test.jsonl"})
    again = [{"messages": [{"role": "user", "content": f"  where is PARCEL {n}?"},
                           {"role": "assistant", "content": f"Gate {n}, as it was."}]}
             for n in range(58, 130)]  # fmt: skip
    write(workspace / "other.jsonl", again)
    train = audit_dataset(AuditRequest(path="other.jsonl"))
    (finding,) = [f for f in train.findings if f.id == "test_row"]
    assert (finding.severity, finding.rows) == ("error", [1, 2])
    assert train.removed_by == {"test_row": 2}
    (note,) = [one for one in train.assumptions if "test" in one]
    (entry,) = (workspace / FOLDER).iterdir()
    assert note.startswith("2 rows are among those of test.jsonl, which ")
    assert str(FOLDER / entry.name) in note
    entry.unlink()
    assert audit_dataset(AuditRequest(path="other.jsonl")).removed_by == {}


@pytest.mark.parametrize("purpose", ["validation", "test"])
def test_no_training_files_are_written_of_rows_that_are_held_out(workspace, purpose):
    write(workspace / "v.jsonl", map(row, range(12)))
    with pytest.raises(BadInput, match=f"purpose='{purpose}' keeps these rows out of training"):
        audit_dataset(AuditRequest(path="v.jsonl", purpose=purpose, output_dir="out"))
    assert not (workspace / "out").exists()


def test_auto_keeps_to_a_time_that_only_an_explicit_search_by_meaning_may_exceed(monkeypatch):
    monkeypatch.setattr(minilm, "find_minilm", lambda: Path("model"))
    for size, asked, found in (
        (minilm.AUTO_BYTES, "auto", True),
        (minilm.AUTO_BYTES + 1, "auto", False),
        (minilm.AUTO_BYTES + 1, "semantic", True),
        (1, "lexical", False),
        (1, "off", False),
    ):
        assert (minilm.minilm_for(asked, size) is not None) == found


def test_a_model_whose_tokenizer_cannot_be_had_is_audited_without_it_as_a_launch_is_planned(
    workspace, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(workspace / "hub"))
    (workspace / "rows.jsonl").write_text('{"text": "a parcel"}\n')
    report = audit_dataset(AuditRequest(path="rows.jsonl", model="Qwen/Qwen3-8B"))
    assert report.num_examples == 1
    assert report.assumptions[0].startswith("tokens are estimated from characters")
    assert "HF_HUB_OFFLINE" in report.assumptions[0]
    (workspace / "bare").mkdir()
    (workspace / "bare" / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BadInput, match="leave `model` out"):
        audit_dataset(AuditRequest(path="rows.jsonl", model="bare"))
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize(("num_copies", "asks"), [(60, False), (61, True)])
def test_more_than_half_gone_is_asked_about_and_half_is_not(workspace, num_copies, asks):
    write(workspace / "d.jsonl", map(row, [*range(60), *[0] * num_copies]))
    report = audit_dataset(AuditRequest(path="d.jsonl", output_dir="out", near_duplicates="off"))
    assert report.num_usable == 60
    assert (report.outputs is None, report.verdict == "not_ready") == (asks, asks)
    assert (workspace / "out").exists() != asks
