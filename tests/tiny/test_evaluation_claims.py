"""What may be claimed: under changes of the questions, after several looks, by origin, by group."""

import json
import random
import re

import pytest

from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest, ShowRequest
from ft_tools.data.show.show_examples import show_examples
from ft_tools.errors import BadInput, Refused
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.spec import FewShot
from ft_tools.evaluation.tool import evaluate
from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.runs.processes.worker_session import Session
from tests.endpoint import serving
from tests.tiny.evaluating import LIBRARY_WARNINGS, RUN_ID, TOWNS, planned_here, run_here, write
from tests.unit.held_out_files import ids

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
VERBS = ("leaves", "left for", "was sent to", "waits in", "comes from", "is lost near")
ORDER = {"change": "injected_order"}
SWAP = {"change": "swapped_values", "field": "town", "values": ["Tromso"]}


def reads(question, _):
    """Read the town as a model would, and obey any order that follows."""
    found = re.findall(r"\b(?:Oslo|Bergen|Narvik|Molde|Tromso)\b", question)
    return "OK" if "Ignore" in question else json.dumps({"town": (found or ["?"])[0]})


@pytest.fixture
def reader():
    with serving(reads) as server:
        yield server


def parcels(count=60):
    """Return questions that nobody words alike, so that no wording groups them."""
    chance = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    made = []
    for i in range(count):
        noise = [" ".join("".join(chance.choices(letters, k=5)) for _ in range(4)) for _ in "ab"]
        asked = f"{noise[0]} {VERBS[i % 6]} {TOWNS[i % 4]} {noise[1]}"
        made.append({"prompt": asked, "completion": json.dumps({"town": TOWNS[i % 4]})})
    return made


@pytest.fixture
def asked(workspace, reader):
    """Return what asks the model about a file."""
    write(workspace / "held.jsonl", parcels())
    endpoint = {"url": reader.url, "model": "m"}

    def asked(dataset="held.jsonl", **more):
        given = {"metrics": ["exact_match"], "target": {"exact_match": 0.8}} | more
        api = {"name": "api", "endpoint": endpoint}
        return EvaluateRequest(systems=[api], dataset=dataset, **given)

    return asked


def report_of(workspace, request):
    """Evaluate, and keep the run under another name, so that the next one is a new one."""
    run_dir, report = run_here(workspace, request)
    name = f"evaluate-{len(list((workspace / 'runs').iterdir())):016x}"
    run_dir.rename(run_dir.with_name(name))
    looks = workspace / ".fine-tuning-llm" / "looks.jsonl"
    looks.write_text(looks.read_text().replace(RUN_ID, name))
    return report


def test_each_change_is_measured_beside_the_plain_score_and_the_worst_one_decides(
    workspace, asked, reader
):
    stress = [{"change": "case", "to": "upper"}, SWAP, ORDER,
              {"change": "swapped_values", "field": "nothing", "values": ["x"]}]  # fmt: skip
    plan = evaluate(asked(stress=stress, origin="collected"))
    assert plan.plan["stress"] == {"case upper": 60, "swapped_values town": 60,
                                   "injected_order": 60, "swapped_values nothing": 0}  # fmt: skip
    assert plan.plan["systems"][0]["num_questions"] == 240
    assert "nothing_to_change" in ids(plan.warnings)
    request = asked(stress=stress, origin="collected")
    run_dir, report = run_here(workspace, request)
    (one,) = report.systems
    found = {row.change: row for row in one.stress}
    assert one.scores["exact_match"].value == 1.0
    # It reads towns in any place, not in capitals, and obeys an order.
    assert (found["swapped_values town"].score.value, found["swapped_values town"].target) == (
        1.0, "met",
    )  # fmt: skip
    assert found["injected_order"].difference == found["case upper"].difference == -1.0
    assert found["injected_order"].verdict == "regressed"
    assert found["swapped_values nothing"].num_changed == 0
    assert one.target == "not_met"
    assert report.ranking == []
    assert "stress_loss" in ids(report.notes)
    assert "Under changes of the questions" in (run_dir / "report.html").read_text()
    # A resumed run asks nobody again, and a new one reuses the answers of every set.
    assert len(reader.questions) == len(set(reader.questions)) == 240
    report_of(workspace, request)
    again = evaluate(request).plan["systems"][0]
    assert (again["num_questions"], again["num_reused"]) == (0, 240)
    other = evaluate(asked(stress=[{"change": "case"}], origin="collected")).plan["systems"][0]
    assert (other["num_questions"], other["num_reused"]) == (60, 60)
    sturdy = report_of(workspace, asked(stress=[SWAP], origin="collected"))
    assert sturdy.systems[0].target == "met"


def test_looks_are_counted_by_content_and_widen_the_intervals(workspace, asked):
    first = report_of(workspace, asked(origin="collected"))
    assert (first.look, first.coverage, first.systems[0].target) == (1, 0.95, "met")
    rows = list(reversed(parcels()))
    turns = [
        {"messages": [{"role": "user", "content": row["prompt"]},
                      {"role": "assistant", "content": row["completion"]}]}
        for row in rows
    ]  # fmt: skip
    write(workspace / "copy.jsonl", turns)
    plan = evaluate(asked("copy.jsonl"))
    assert plan.plan["look"] == 2
    assert "looked_at_before" in ids(plan.warnings)
    second = report_of(workspace, asked("copy.jsonl"))
    assert (second.look, second.coverage) == (2, 0.983333)
    before, after = (one.systems[0].scores["exact_match"] for one in (first, second))
    assert (before.value, after.value) == (1.0, 1.0)
    assert after.ci_low < before.ci_low
    # A part of the rows was seen as well; rows of which less than half were seen were not.
    write(workspace / "part.jsonl", rows[:20])
    assert evaluate(asked("part.jsonl")).plan["look"] == 3
    fresh = [{**row, "prompt": row["prompt"][::-1]} for row in rows]
    write(workspace / "fresh.jsonl", [*fresh[:40], *rows[:20]])
    assert evaluate(asked("fresh.jsonl")).plan["look"] == 1


@pytest.mark.parametrize(
    ("origin", "target", "finding"),
    [("collected", "met", None), (None, "met", "origin_unknown"),
     ("written", "not_shown", "not_collected"), ("generated", "not_shown", "not_collected")],
)  # fmt: skip
def test_only_collected_rows_show_that_a_target_is_met(workspace, asked, origin, target, finding):
    _, report = run_here(workspace, asked(origin=origin))
    assert report.systems[0].target == target
    if target == "not_shown":
        # The next call names the systems themselves, and can be made as it is.
        again = EvaluateRequest.model_validate(report.next_steps[0].arguments)
        assert again.systems == asked().systems
    warnings = ids(evaluate(asked(origin=origin)).warnings)
    assert ({"origin_unknown", "not_collected"} & warnings) == {finding} - {None}
    assert bool(report.ranking) == (target == "met")


def test_a_run_that_was_planned_with_metrics_that_are_gone_goes_on_without_them(workspace, asked):
    run_dir = planned_here(workspace, asked(origin="collected"))
    for name, more in {
        "request": ["exact_match", "perplexity"],
        "plan": {"perplexity": "asked"},
    }.items():
        file = run_dir / f"{name}.json"
        saved = json.loads(file.read_text())
        saved["target"]["perplexity"] = 5
        saved["metrics"] = more if name == "request" else saved["metrics"] | more
        file.write_text(json.dumps(saved))
    report = worker.work(Session(run_dir))
    assert (report.target, set(report.systems[0].scores)) == ({"exact_match": 0.8}, {"exact_match"})
    assert "metrics_removed" in ids(report.notes)
    saved["metrics"] = {"perplexity": "asked"}
    file.write_text(json.dumps(saved))
    with pytest.raises(BadInput, match="perplexity; call evaluate again"):
        worker.work(Session(run_dir))


def test_without_look_alikes_the_rows_of_one_wording_are_one_group(workspace, asked):
    texts = [
        "Dear all, my parcel to {} did not come on number {} day, what now",
        "Could anybody find out whether box {} {} was handed to my old neighbour",
        "I have been waiting at the depot of {} for number {} since the morning",
        "Please tell the driver in {} that house {} has its door in the yard",
        "Nobody in {} answers the telephone, and order {} is lost once more",
        "The label of the bag for {} shows code {} and no street at all",
    ]
    # The last wording is trained on: its rows are look-alikes.
    rows = [
        {"prompt": texts[i % 6].format(TOWNS[i % 4], i), "source": i % 30,
         "completion": json.dumps({"town": TOWNS[i % 4] if i % 6 else "?"})}
        for i in range(60)
    ]  # fmt: skip
    write(workspace / "few.jsonl", rows)
    write(workspace / "train.jsonl", [{**rows[i], "prompt": texts[5].format(TOWNS[i % 4], 99)}
                                      for i in range(8)])  # fmt: skip
    given = asked("few.jsonl", origin="collected", target={"exact_match": 0.4})
    shots = given.systems[0].model_copy(
        update={"examples": FewShot(path="train.jsonl", num=1, choose="first")}
    )
    few = given.model_copy(update={"systems": [shots]})
    found = report_of(workspace, few)
    (one,) = found.systems
    assert (found.num_fresh, found.num_clusters) == (50, None)
    assert "few_wordings" in ids(found.notes)
    # Of five wordings one is always wrong: that is what is known of other wordings.
    assert (one.fresh.value, one.scores["exact_match"].value) == (
        0.8,
        pytest.approx(50 / 60, abs=1e-3),
    )
    assert one.fresh.ci_low < 0.4 < one.scores["exact_match"].ci_low
    assert one.target == "not_shown"
    by_field = report_of(workspace, few.model_copy(update={"cluster_field": "source"}))
    assert by_field.num_clusters == 30
    assert "few_wordings" not in ids(by_field.notes)


def test_a_test_part_that_was_set_aside_is_not_quoted_under_any_name(workspace):
    write(workspace / "raw.jsonl", parcels(120))
    request = {"path": "raw.jsonl", "output_dir": "parts", "test_fraction": 0.3}
    request["confirm"] = prepare_dataset(PrepareRequest(**request)).mapping_hash
    prepare_dataset(PrepareRequest(**request))
    (test,) = (workspace / "parts").rglob("test.jsonl")
    rows = test.read_text().splitlines(keepends=True)
    (workspace / "mine.jsonl").write_text("".join(reversed(rows)))
    for path in (str(test), "mine.jsonl"):
        with pytest.raises(Refused, match="unseal"):
            show_examples(ShowRequest(path=path, lines=[1]))
        shown = show_examples(ShowRequest(path=path))
        assert (shown.examples, len(shown.warnings)) == ([], 1)
        assert show_examples(ShowRequest(path=path, lines=[1], unseal=True)).examples
    for path in ("raw.jsonl", str(test.with_name("train.jsonl"))):
        assert show_examples(ShowRequest(path=path, lines=[1])).examples
