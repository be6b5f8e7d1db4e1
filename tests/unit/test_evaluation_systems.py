"""Systems: how they are named, asked, planned, scored and ranked."""

import json

import pytest

from ft_tools.errors import BadData, BadInput
from ft_tools.evaluation.held_out import HeldOut, read_held_out
from ft_tools.evaluation.plan import make_plan
from ft_tools.evaluation.report import Score, SystemResult
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import Measured, Settings
from ft_tools.evaluation.systems.asking import asked_as, choose_shots, read_pool
from ft_tools.evaluation.systems.models import find_models
from ft_tools.evaluation.systems.spec import FewShot, SystemSpec
from ft_tools.evaluation.worker.baselines import ask_simple
from tests.unit.held_out_files import chat, write

TEAMS = {"refund": "billing", "login": "accounts", "crash": "engineering"}


def mails(count, start=0):
    """Return mails whose team is in one word, and whose urgency is in another."""
    rows = []
    for i in range(start, start + count):
        word = list(TEAMS)[i % 3]
        urgent = i % 2 == 0
        text = f"Mail {i}: my {word} does not work, {'please hurry' if urgent else 'no rush'}."
        rows.append(chat(text, json.dumps({"team": TEAMS[word], "urgent": urgent})))
    return rows


@pytest.fixture
def files(workspace):
    write(workspace / "train.jsonl", mails(60))
    write(workspace / "held.jsonl", mails(30, start=100))
    return workspace


def simple(kind, name=None):
    return {"name": name or kind, "baseline": kind, "examples": {"path": "train.jsonl"}}


def asked(*systems, **more):
    return EvaluateRequest(systems=list(systems), dataset="held.jsonl", **more)


def plan_of(request):
    return make_plan(request, find_models(request))


def test_system_text_document_examples_and_template_make_one_conversation():
    spec = SystemSpec(name="a", model="m", system="Sort.", template="Mail: {question}\nTeam:")
    shot = HeldOut(line=1, messages=[{"role": "user", "content": "Q0"}], reference="A0")
    example = HeldOut(
        line=7,
        messages=[
            {"role": "system", "content": "old"},
            {"role": "user", "content": "Q {question}"},
        ],
        reference="A",
    )
    made = asked_as(spec, example, [shot], "THE DOCUMENT").messages
    assert made == [
        {"role": "system", "content": "Sort.\n\nTHE DOCUMENT"},
        {"role": "user", "content": "Mail: Q0\nTeam:"},
        {"role": "assistant", "content": "A0"},
        {"role": "user", "content": "Mail: Q {question}\nTeam:"},
    ]
    spec = SystemSpec(name="a", model="m", passages="context")
    turns = [{"role": "user", "content": "Who?"}]
    example = HeldOut(line=4, messages=turns, reference="x", row={"context": "Ada wrote it."})
    (turn,) = asked_as(spec, example).messages
    assert turn["content"] == "Ada wrote it.\n\nWho?"
    with pytest.raises(BadData, match=r"the dataset:5: has no text in the passage field 'context'"):
        asked_as(spec, HeldOut(line=5, messages=turns, reference="x"))


def test_few_shot_examples_never_come_from_the_held_out_file(files):
    held = read_held_out(files / "held.jsonl")
    with pytest.raises(BadInput, match="is the held-out file"):
        read_pool(FewShot(path="held.jsonl"), files / "held.jsonl", held)
    (files / "copy.jsonl").write_bytes((files / "held.jsonl").read_bytes())
    with pytest.raises(BadInput, match="is the held-out file"):
        read_pool(FewShot(path="copy.jsonl"), files / "held.jsonl", held)
    write(files / "mixed.jsonl", [*mails(3, start=100), *mails(5)])
    pool = read_pool(FewShot(path="mixed.jsonl"), files / "held.jsonl", held)
    assert (len(pool.examples), pool.num_removed) == (5, 3)


def test_the_nearest_example_is_shown_last_and_random_ones_follow_their_seed():
    pool = [HeldOut(line=i, messages=[{"role": "user", "content": f"p{i}"}]) for i in range(6)]
    held = [HeldOut(line=9, messages=[{"role": "user", "content": "q"}])]

    def nearest(questions, texts, count):
        assert (questions, texts) == (["q"], [f"p{i}" for i in range(6)])
        return [[4, 1, 2][:count]]

    shots = choose_shots(FewShot(path="-", num=2), pool, held, nearest)
    assert [one.line for one in shots[0]] == [1, 4]
    drawn = [
        choose_shots(FewShot(path="-", num=3, choose="random", seed=seed), pool, held, nearest)
        for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def answers_of(kind, workspace):
    pool = read_held_out(workspace / "train.jsonl")
    held = read_held_out(workspace / "held.jsonl")
    batches = list(ask_simple(kind, pool, held))
    answers = dict(pair for batch in batches for pair in batch)
    return [answers[i].text for i in range(len(held))], [one.reference for one in held]


def test_tf_idf_learns_each_field_and_the_majority_does_not(files):
    texts, references = answers_of("tf_idf", files)
    assert texts == references
    texts, references = answers_of("majority", files)
    assert len(set(texts)) == 1
    assert sum(json.loads(texts[0])["team"] in one for one in references) == 10
    free = [chat(f"Question {i}?", f"A long answer of its own, number {i}.") for i in range(30)]
    write(files / "train.jsonl", free)
    with pytest.raises(BadInput, match=r"30 answers of 'train.jsonl' have 30 different values"):
        plan_of(asked(simple("majority"), simple("tf_idf")))


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ({"exact_match": 90}, "exact_match=90 is outside 0 to 1; write 90% as 0.9"),
        ({"macro_f1": 0.9}, "'macro_f1' is not measured; possible: exact_match"),
        ({"rouge": 0.9}, "'rouge' is not measured; possible: exact_match, json_valid"),
    ],
)
def test_a_target_is_a_fraction_of_what_each_example_has(files, target, problem):
    with pytest.raises(BadInput, match=problem):
        plan_of(asked(simple("majority"), simple("tf_idf"), target=target))


def test_an_exact_match_as_the_target_of_labels_is_their_accuracy(files):
    """The help's own example was refused where answers are labels."""
    labels = [chat(f"Mail {i}: my {word} broke.", TEAMS[word])
              for i, word in enumerate(list(TEAMS) * 20)]  # fmt: skip
    write(files / "train.jsonl", labels[:30])
    write(files / "held.jsonl", labels[30:])
    systems = simple("majority"), simple("tf_idf")
    assert plan_of(asked(*systems, target={"exact_match": 0.9})).target == {"accuracy": 0.9}
    both = asked(*systems, target={"exact_match": 0.9}, metrics=["auto", "exact_match"])
    assert plan_of(both).target == {"exact_match": 0.9}


def result(name, usd, target="met", seconds=1.0):
    return SystemResult(
        name=name, kind="model", usd_per_1000_calls=usd, target=target, seconds_mean=seconds,
        scores={"exact_match": Score(value=0.5)},
    )  # fmt: skip


def test_the_ranking_is_by_cost_among_those_that_meet_the_target():
    right = {"a": 95, "b": 94, "c": 0}
    values = {k: {"exact_match": [1.0] * n + [0.0] * (100 - n)} for k, n in right.items()}

    def claims(target):
        return Measured([], Settings(0, 0.1), target, scores=values)

    results = [result("a", 9.0), result("b", 1.0), result("c", 0.0, "not_met")]
    ranked = claims({"exact_match": 0.9}).ranking(results)
    assert [one.name for one in ranked] == ["b", "a"]
    assert [one.versus_best for one in ranked] == ["not_distinguishable", "best"]
    assert ranked[0].ci_low < -0.01 < ranked[0].ci_high
    unpriced = [result("a", 0.1, seconds=2.0), result("b", None, seconds=1.0)]
    by_time = claims({"exact_match": 0.9}).ranking(unpriced)
    assert [one.name for one in by_time] == ["b", "a"]
    everyone = claims({}).ranking(results)
    assert (everyone[0].name, everyone[0].versus_best) == ("c", "worse")
