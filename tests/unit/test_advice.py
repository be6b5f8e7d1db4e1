"""recommend_approach: facts right to the number, the ladder, evidence, and a short report."""

import json
import math
from itertools import combinations

import pytest

from ft_tools.advice.ladder import clause, table
from ft_tools.advice.request import ApproachRequest
from ft_tools.advice.tool import recommend_approach
from ft_tools.anti_patterns import rules
from ft_tools.concise import MAX_CHARS, concise
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.errors import BadInput, FineTuningError, NotFound, OutsideWorkspace
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.tools import TOOLS

RUN = "evaluate-00000000000000aa"
BASE = "meta-llama/Llama-3.1-8B"
LLAMA = f"{BASE}-Instruct"
PROBLEM = "Our support bot invents prices; should we fine-tune it on the handbook?"
TESTED = {"num_eval_rows": 60}
PROMPTED = TESTED | {"tried": ["prompting", "few_shot", "prompt_optimization"]}


def ask(**arguments):
    return recommend_approach(ApproachRequest(**arguments))


def state_of(report, rung):
    return next(each for each in report.ladder if each.rung == rung)


def blocked_in(report):
    return {each.rung for each in report.ladder if each.state == "blocked"}


def says(report, about):
    return " | ".join(each.says for each in report.facts if each.about == about)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# ------------------------------------------------------------------------------------- facts


def sorted_into(labels):
    rows = enumerate(labels)
    return [{"prompt": f"Please sort message {n}", "completion": label} for n, label in rows]


def test_labels_their_number_and_the_rarest_are_counted_by_field(workspace):
    write(workspace / "d.jsonl", sorted_into(["billing"] * 60 + ["parcels"] * 30 + ["back"] * 10))
    numbers = ask(dataset="d.jsonl").numbers

    assert (numbers["examples"], numbers["classes"], numbers["rarest_class"]) == (100, 3, 10)
    assert numbers["test_part_rows"] == 10
    reach = 1.959964 + 0.841621  # z of 97.5% and of 80%
    expected = reach * math.sqrt(0.2 / (10 + reach**2))
    assert numbers["detectable_difference"] == pytest.approx(expected, abs=0.001)

    answers = [{"team": ["a", "b", "c", "d"][n % 4], "urgent": n % 2 == 0} for n in range(80)]
    write(workspace / "j.jsonl", sorted_into(map(json.dumps, answers)))
    numbers = ask(dataset="j.jsonl").numbers
    assert (numbers["classes"], numbers["rarest_class"]) == (4, 20)


def test_a_prepared_file_is_measured_on_its_own_test_part_and_not_split_again(workspace):
    rows = [{"asked": f"Where is hall {n * n}?", "said": f"On floor {n}."} for n in range(60)]
    write(workspace / "d.jsonl", rows)
    mapping = {"prompt": "{asked}", "answer": ["said"]}
    request = PrepareRequest(path="d.jsonl", mapping=mapping, output_dir="out")
    confirm = prepare_dataset(request).mapping_hash
    counts = prepare_dataset(request.model_copy(update={"confirm": confirm})).counts
    report = ask(dataset="out/train.jsonl", model=LLAMA)

    assert report.numbers["eval_rows"] == report.numbers["test_rows"] == counts["test"]
    assert "test_part_rows" not in report.numbers
    (step,) = report.next_steps
    assert (step.tool, step.arguments["dataset"]) == ("evaluate", "out/test.jsonl")
    assert ask(dataset="out/train.jsonl").next_steps == []
    given = ask(dataset="out/train.jsonl", **TESTED)
    assert (given.numbers["eval_rows"], says(given, "conflict")) == (60, "")


def test_the_share_of_answers_that_add_facts_is_computed_and_blocks_training_them(workspace):
    new = [
        {"prompt": f"Who runs shop {n}?", "completion": f"Ms Quill{n} Vane{n * 7} since {1900 + n}"}
        for n in range(60)
    ]
    plain = [{"prompt": f"Repeat: item {n}", "completion": f"item {n}"} for n in range(20)]
    write(workspace / "d.jsonl", [*new, *plain])
    report = ask(dataset="d.jsonl")

    assert report.numbers["adds_facts"] == 0.75
    assert [each.id for each in report.blocked] == ["knowledge_injection"]
    assert state_of(report, "sft").state == "blocked"
    assert state_of(report, "sft_and_rag").state == "needs"


def test_errors_that_no_audit_removes_block_training(workspace):
    rows = [{"prompt": f"Who is {n}?", "completion": "I am {{name}}."} for n in range(30)]
    write(workspace / "d.jsonl", rows)
    assert "no_quality_filter" in [each.id for each in ask(dataset="d.jsonl").blocked]


@pytest.mark.parametrize(
    ("row", "known"),
    [
        ({"prompt": "Q {n}?", "chosen": "Yes {n}, gladly.", "rejected": "No {n}."}, {"pairs": 40}),
        ({"prompt": "Q {n}?", "completion": "Yes {n}.", "label": True}, {"marks": 40}),
        ({"text": "The tower of day {n} stands. " * 20}, {"examples": 0}),
        ({"id": "{n}", "subject": "words {n}", "queue": "x"}, {}),
    ],
)
def test_rows_are_counted_as_what_they_train(workspace, row, known):
    rows = [
        {key: value.format(n=n) if isinstance(value, str) else value for key, value in row.items()}
        for n in range(40)
    ]
    write(workspace / "d.jsonl", rows)
    report = ask(dataset="d.jsonl")

    counted = report.numbers.keys() & {"examples", "pairs", "marks"}
    assert {name: report.numbers[name] for name in counted} == known
    if known == {"examples": 0}:
        assert report.numbers["corpus_tokens"] == pytest.approx(40 * 20 * 7, rel=0.3)
    if not known:
        assert "40 rows, none an example" in says(report, "dataset")
        assert report.next_steps[0].tool == "prepare_dataset"


def test_a_dataset_that_cannot_be_read_is_said_and_one_that_is_not_there_is_an_error(workspace):
    (workspace / "d.jsonl").write_bytes(b"\x00\x01\x02" * 99)

    assert "not read" in says(ask(dataset="d.jsonl"), "dataset")
    with pytest.raises(NotFound):
        ask(dataset="other.jsonl")
    with pytest.raises(OutsideWorkspace):
        ask(dataset="/etc/passwd")


def test_documents_are_counted_and_what_they_cost_is_arithmetic(workspace):
    (workspace / "handbook").mkdir()
    text = "The parcel desk opens at nine and closes at five. " * 800
    (workspace / "handbook" / "a.md").write_text(text)
    (workspace / "handbook" / "b.md").write_text(text)
    report = ask(documents="handbook", calls_per_day=900, price_per_million_tokens=3.0)

    tokens = report.numbers["corpus_tokens"]
    assert tokens == pytest.approx(2 * len(text) / 4, rel=0.05)
    # Calls come more often than the cache expires: one write a day, the rest is read.
    cached = tokens * 30 * (899 * 0.1 + 1.25)
    full = tokens * 30 * 900
    assert report.numbers["long_context_tokens_per_month"] == full
    assert report.numbers["long_context_tokens_per_month_cached"] == pytest.approx(cached)
    assert report.numbers["rag_tokens_per_month"] == 2000 * 30 * 900
    both = f"long_context {full * 3 / 1e6:,.2f} ({cached * 3 / 1e6:,.2f} if cached), rag 162.00"
    assert both in says(report, "cost")


@pytest.mark.parametrize(("gpu", "fits"), [("RTX 4090", ["yes", "yes"]), ("T4", ["no", "yes"])])
def test_what_a_gpu_trains_is_what_estimate_vram_says(gpu, fits):
    report, spec = ask(model=LLAMA, gpu=gpu), TOOLS["estimate_vram"]
    estimates = [
        spec.function(spec.request(model=LLAMA, gpu=gpu, method=method, seq_len=1024))
        for method in ("lora", "qlora")
    ]

    assert [each.fits for each in estimates] == fits
    assert [report.numbers["lora_gib"], report.numbers["qlora_gib"]] == [
        each.peak_allocated_gib for each in estimates
    ]
    assert "licence: Llama 3.1" in says(report, "model")


def test_a_model_or_gpu_that_nobody_knows_does_not_stop_the_advice():
    report = ask(model="org/unheard-of", gpu="RTX 9999")

    assert "memory is unknown" in says(report, "model")
    assert report.approach


# ------------------------------------------------------------------------------ evaluations


def system(name, target, score=0.7, **changed):
    given = {"name": name, "kind": "endpoint", "target": target}
    return given | {"scores": {"exact_match": {"value": score}}} | changed


def write_run(workspace, report, kind="evaluate"):
    run = workspace / "runs" / RUN.replace("evaluate", kind)
    run.mkdir(parents=True)
    info = {"run_id": run.name, "kind": kind, "created_at": 0.0, "version": "0"}
    (run / "run.json").write_text(json.dumps(info))
    if report is not None:
        (run / "report.json").write_text(json.dumps(report))
    return run.name


def evaluated(*systems, num_rows=120, ranking=(), **changed):
    given = {"tuned": "", "baseline": "", "summary": [], "num_examples": num_rows}
    ranked = [{"name": name, "versus_best": "best"} for name in ranking]
    given |= {"systems": list(systems), "ranking": ranked, "main_metric": "exact_match"}
    return EvaluationReport(**given | changed).model_dump(mode="json")


def test_what_missed_the_target_is_done_and_what_was_measured_is_told(workspace):
    systems = [system("plain", "not_met", 0.41), system("shown", "not_met", 0.5, has_examples=True)]
    run = write_run(workspace, evaluated(*systems))
    report = ask(evaluations=[run], num_examples=800)

    assert [state_of(report, rung).state for rung in ("prompting", "few_shot")] == ["done"] * 2
    assert report.numbers["eval_rows"] == 120
    assert "exact_match: plain 0.41, shown 0.5; no system meets" in says(report, "evaluations")
    assert report.approach == "prompt_optimization"


def test_the_cheapest_system_that_meets_the_target_is_kept_whatever_was_claimed(workspace):
    systems = [system("large", "met"), system("tf_idf", "met", kind="tf_idf")]
    run = write_run(workspace, evaluated(*systems, ranking=["tf_idf", "large"]))
    report = ask(evaluations=[run], considering=["sft"], num_examples=900, target_met=False)

    assert report.approach == "do_nothing"
    assert "cheapest that meets the target: tf_idf" in says(report, "evaluations")
    assert state_of(report, "sft").why.startswith("after do_nothing")
    assert says(report, "conflict") == "target: missed was given, met was measured"


@pytest.mark.parametrize(
    ("kind", "report", "said"),
    [
        ("sft", {}, "kind"),
        ("evaluate", None, "no report yet"),
        ("evaluate", {"tuned": 1}, "damaged"),
    ],
)
def test_a_run_that_is_no_finished_evaluation_is_refused(workspace, kind, report, said):
    with pytest.raises(BadInput, match=said):
        ask(evaluations=[write_run(workspace, report, kind)])
    with pytest.raises(FineTuningError):
        ask(evaluations=["evaluate-00000000000000bb"])


# ------------------------------------------------------------------------------- the ladder


def test_every_rung_is_a_row_that_names_only_what_is_there():
    rungs = [row.id for row in table().rungs]
    assert len(rungs) == len(set(rungs)) == 20
    for at, row in enumerate(table().rungs):
        assert set(row.after) <= set(rungs[:at]), row.id
        assert all(rules()[name].when for name in row.blocked_by)
        for each in map(clause, row.needs):
            assert each.shown
            assert each.fact in table().questions or each.sign == "<=", each.fact


def test_nothing_known_begins_with_a_test_and_presumes_no_count():
    report = ask()

    assert report.approach == "build_eval_first"
    assert (report.numbers, report.blocked) == ({}, [])
    assert {state_of(report, name).state for name in ("sft", "dpo", "kto")} == {"needs"}
    assert report.questions[0].field == "num_eval_rows"


FACTUAL = {"corpus_tokens": 10**5, "num_examples": 2000, "purpose": "facts"}
WITH_PASSAGES = ["prompting", "few_shot", "rag", "long_context"]
FIRST = [
    ({"target_met": True}, "do_nothing"),
    ({"considering": ["sft", "check_setup"]}, "check_setup"),
    ({"teacher": "openai", "product_use": "sold"}, "clear_terms"),
    ({"teacher": "other"}, "clear_terms"),
    ({"teacher": "deepseek"}, "build_eval_first"),
    ({"num_eval_rows": 20}, "build_eval_first"),
    (TESTED, "prompting"),
    (TESTED | {"tried": ["prompting"], "num_examples": 12}, "few_shot"),
    (
        TESTED | {"tried": ["prompting"], "considering": ["constrained_decoding"]},
        "constrained_decoding",
    ),
    (TESTED | {"tried": ["prompting", "few_shot"], "num_examples": 40}, "prompt_optimization"),
    (PROMPTED | {"corpus_tokens": 40_000}, "long_context"),
    (PROMPTED | {"corpus_tokens": 40_000, "calls_per_day": 100_000}, "rag"),
    (PROMPTED | {"corpus_tokens": 4_000_000}, "rag"),
    (PROMPTED | {"considering": ["tool_lookup"]}, "tool_lookup"),
    (PROMPTED | {"num_examples": 400, "num_classes": 5}, "small_model_fine_tuning"),
    (PROMPTED | {"num_examples": 60, "num_classes": 5}, "sft"),
    (PROMPTED | {"num_examples": 800}, "sft"),
    (PROMPTED | {"num_examples": 800, "purpose": "facts"}, "collect_data_first"),
    (PROMPTED | {"num_examples": 12}, "collect_data_first"),
    (PROMPTED | {"num_examples": 900, "target_met": True}, "do_nothing"),
    (
        PROMPTED
        | {"num_examples": 900, "target_met": True, "purpose": "lower_cost"}
        | {"considering": ["distillation"]},
        "distillation",
    ),
    (PROMPTED | {"num_pairs": 4000}, "dpo"),
    (PROMPTED | {"num_marks": 4000}, "kto"),
    (PROMPTED | {"success_fraction": 0.3}, "rl_verifiable_reward"),
    (PROMPTED | {"success_fraction": 0.0}, "collect_data_first"),
    (TESTED | FACTUAL | {"tried": WITH_PASSAGES}, "prompt_optimization"),
    (TESTED | FACTUAL | {"tried": [*WITH_PASSAGES, "prompt_optimization"]}, "sft_and_rag"),
    (
        TESTED
        | {"considering": ["continued_pretraining"], "corpus_tokens": 10**9, "model": BASE}
        | {"tried": ["prompting", "rag"]},
        "continued_pretraining",
    ),
]


@pytest.mark.parametrize(("arguments", "first"), FIRST)
def test_the_first_rung_is_the_first_that_no_fact_excludes(arguments, first):
    report = ask(**arguments)

    assert report.approach == first
    assert state_of(report, first).state == "possible"
    assert [each.rung for each in report.ladder] == [row.id for row in table().rungs]
    assert all(each.why for each in report.ladder if each.state in {"blocked", "needs"})
    held = {rung for each in report.blocked for rung in each.rungs}
    assert {each.rung for each in report.ladder if each.state == "possible"} & held == set()


FACTS = {
    "purpose": "facts",
    "teacher": "anthropic",
    "model": BASE,
    "knowledge_changes": "daily",
    "success_fraction": 0.0,
    "num_examples": 5000,
    "num_pairs": 5000,
    "num_marks": 5000,
    "num_eval_rows": 500,
    "num_classes": 4,
    "corpus_tokens": 300_000,
    "calls_per_day": 100_000,
    "target_met": False,
}


def test_more_facts_never_open_a_blocked_rung_and_leave_something_to_do():
    """Over all pairs of facts: what one alone blocks, the other leaves blocked."""
    alone = {name: blocked_in(ask(**{name: value})) for name, value in FACTS.items()}
    assert sum(map(bool, alone.values())) >= 5
    for one, other in combinations(FACTS, 2):
        blocked = blocked_in(ask(**{name: FACTS[name] for name in (one, other)}))
        assert alone[one] | alone[other] <= blocked, (one, other)
    assert ask(**FACTS).approach == "clear_terms"


# ------------------------------------------------------------------------------- the report


def test_what_is_considered_is_answered_and_decides_which_questions_are_asked_first():
    report = ask(considering=["rl_verifiable_reward"], **TESTED)

    assert "rl_verifiable_reward: needs" in report.summary
    assert [each.field for each in report.questions] == ["success_fraction", "evaluations"]
    assert says(report, "evaluations") == "60 held-out rows detect a difference of 0.15"
    assert report.numbers["detectable_difference"] == 0.152


def test_a_test_of_any_size_is_enough_to_go_on_and_changing_records_may_be_read(workspace):
    run = write_run(workspace, evaluated(system("prompt", "not_met"), num_rows=20))
    assert ask(evaluations=[run]).approach != "build_eval_first"
    changing = PROMPTED | {"num_examples": 800, "knowledge_changes": "daily"}
    assert ask(**changing).approach == "sft"
    assert "moving_target" in says(ask(**changing), "conflict")
    assert "sft" in blocked_in(ask(**changing, purpose="facts"))


@pytest.mark.parametrize(
    ("considering", "file"),
    [(["rag"], "knowledge"), (["dpo"], "preferences_and_rl"), ([], "knowledge")],
)
def test_evidence_is_searched_for_the_problem_and_for_what_is_considered(considering, file):
    report = ask(problem=PROBLEM, considering=considering)
    found = report.evidence

    # Words of the problem decide nothing.
    assert report.approach == "build_eval_first"
    assert 1 <= len(found) <= 5
    assert all(each.source and each.grade for each in found)
    assert any(each.section.startswith(f"evidence/{file}#") for each in found)


def test_a_concise_report_has_the_first_rung_and_what_is_considered():
    request = ApproachRequest(problem=PROBLEM, considering=["sft", "rag", "dpo", "distillation"])
    shown = concise(recommend_approach(request), "recommend_approach", request)
    assert {row["rung"] for row in shown["ladder"]} == {shown["approach"], *request.considering}
    assert len(json.dumps(shown)) <= MAX_CHARS + 50


def test_the_next_step_is_a_call_that_the_tool_accepts(workspace):
    rows = [{"prompt": f"Say {n} words", "completion": "word " * (n + 1)} for n in range(99)]
    write(workspace / "d.jsonl", rows)
    for arguments in ({}, TESTED, PROMPTED, PROMPTED | {"target_met": True}):
        for step in ask(dataset="d.jsonl", model=LLAMA, **arguments).next_steps:
            TOOLS[step.tool].request.model_validate(step.arguments)
    (step,) = ask(dataset="d.jsonl", model=LLAMA, **PROMPTED).next_steps
    assert step.tool == "suggest_lora_config"
