"""An audit as a run, with the real MiniLM: the worker finds what only meaning shows."""

import json
import subprocess
import sys
import time

import pytest
from transformers import AutoTokenizer

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.similarity.minilm import find_minilm

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.skipif(find_minilm() is None, reason="all-MiniLM-L6-v2 is not on this machine"),
]

QUESTIONS = [
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Who wrote the play Hamlet?", "Hamlet was written by William Shakespeare."),
    ("At what temperature does water boil?", "Water boils at 100 degrees Celsius."),
    ("Which planet is the largest?", "Jupiter is the largest planet."),
    ("What do bees make?", "Bees make honey."),
    ("How long is a marathon?", "A marathon is 42.195 kilometres long."),
    ("What colour is an emerald?", "An emerald is green."),
    ("Which metal is liquid at room temperature?", "Mercury is liquid at room temperature."),
    ("How many strings has a violin?", "A violin has four strings."),
]
SAME_MEANING = ("How many legs does a spider have got?", "A spider has got eight legs.")


def follow(run_id):
    for _ in range(1200):
        report = get_run(RunRequest(run_id=run_id))
        if report.state in ENDED:
            return report
        time.sleep(0.1)
    raise AssertionError(f"{run_id} did not end in two minutes")


def write(path, pairs):
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_semantic_audit_is_a_run_that_removes_what_words_alone_would_keep(workspace):
    write(workspace / "data.jsonl", [*QUESTIONS, SAME_MEANING])
    at_once = audit_dataset(AuditRequest(path="data.jsonl"))
    assert at_once.duplicates.num_near == 0
    (workspace / "benchmark.jsonl").write_text('{"question": "Which planet is the biggest one?"}\n')
    request = AuditRequest(
        path="data.jsonl",
        near_duplicates="semantic",
        output_dir="clean",
        benchmark_paths=["benchmark.jsonl"],
    )
    started = audit_dataset(request)
    assert started.verdict == "pending"
    run = follow(started.run_id)
    assert run.state == "succeeded", run.error
    assert run.result["duplicates"]["num_near"] == 1
    removed = [
        json.loads(line)
        for line in (workspace / "clean" / "removed.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [(row["row"], row["reason"], row.get("kept_row")) for row in removed] == [
        (5, "benchmark_semantic", None),
        (11, "near_duplicate", 1),
    ]
    assert removed[1]["score"] > 0.95
    assert run.report_html is not None


def test_with_a_model_tokens_are_counted_and_what_its_template_lacks_is_said(
    workspace, tiny_model_in
):
    write(workspace / "data.jsonl", [*QUESTIONS, ("Say it all.", "word " * 400)])
    request = AuditRequest(
        path="data.jsonl", model=tiny_model_in, near_duplicates="lexical", max_length=200
    )
    run = follow(audit_dataset(request).run_id)
    assert run.state == "succeeded", run.error
    tokens = run.result["tokens"]
    assert tokens["method"] == "counted with the model's tokenizer and chat template"
    tokenizer = AutoTokenizer.from_pretrained(workspace / tiny_model_in)
    lengths = sorted(
        len(
            tokenizer.apply_chat_template(
                [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}],
                return_dict=False,
            )
        )
        for ask, answer in [*QUESTIONS, ("Say it all.", "word " * 400)]
    )
    assert (tokens["p50"], tokens["max"]) == (lengths[5], lengths[-1])
    assert (tokens["num_truncated"], tokens["num_without_answer"]) == (1, 0)


def test_a_worker_that_searches_by_words_loads_no_embedding_model():
    program = (
        "import sys, ft_tools.data.worker.audit; print('sentence_transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
