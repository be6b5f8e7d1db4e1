"""create_dataset through a batch interface: one batch, read by its id, never sent twice."""

import json

import pytest

from ft_tools.creation.worker import batches
from ft_tools.endpoints.client import EndpointUnavailable
from tests.creating import read, run_here, write
from tests.endpoint import PRICE, Endpoint, serving


class Provider(Endpoint):
    """Files and batches; a batch has ended when it is asked for the second time."""

    def __init__(self, *, loses_first_answer=False):
        super().__init__(None)
        self.loses_answer = loses_first_answer
        self.files, self.batches, self.polled = {}, [], set()

    def answer(self, path, content):
        path = path.removeprefix("/v1/")
        if path == "files":
            at = f"in{len(self.files)}"
            lines = [line for line in content.splitlines() if line.startswith(b'{"custom_id"')]
            self.files[at] = [json.loads(line) for line in lines]
            return {"id": at}
        if content:
            made = json.loads(content) | {"id": f"batch{len(self.batches)}"}
            self.batches.append(made | {"status": "in_progress"})
            loses, self.loses_answer = self.loses_answer, False
            return 500 if loses else made
        if path.startswith("batches?"):
            return {"data": self.batches}
        if path.startswith("files/"):
            return "\n".join(map(json.dumps, self.files[path.split("/")[1]])).encode()
        (batch,) = (one for one in self.batches if one["id"] == path.split("/")[1])
        if batch["id"] in self.polled:
            asked = self.files[batch["input_file_id"]]
            out, failed = f"out-{batch['id']}", f"failed-{batch['id']}"
            self.files[out] = [answered(one) for one in asked if not is_bad(one)]
            self.files[failed] = [refused(one) for one in asked if is_bad(one)]
            batch |= {"status": "completed", "output_file_id": out, "error_file_id": failed}
        self.polled.add(batch["id"])
        return batch


def is_bad(line):
    return line["body"]["messages"][-1]["content"] == "Say 3."


def answered(line):
    said = {"content": f"Here is {line['body']['messages'][-1]['content']}"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    body = {"model": "m", "choices": [{"message": said, "finish_reason": "stop"}], "usage": usage}
    return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}


def refused(line):
    return {"custom_id": line["custom_id"], "response": {"status_code": 400, "body": {}}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batches, "POLL_SECONDS", 0.01)


def asking(provider, **more):
    endpoint = {"url": provider.url, "model": "big"}
    return {
        "source": "prompts.jsonl",
        "kind": "answers",
        "teacher": {"endpoint": endpoint, "price": PRICE, "decoding": {"max_new_tokens": 50}},
        "output_dir": "made",
        "provider": "open_licence",
        "pilot_rows": 0,
        "validation_fraction": 0,
        "batch": True,
    } | more


def test_a_batch_whose_submission_got_no_answer_is_found_by_its_name_and_not_sent_again(workspace):
    write(workspace / "prompts.jsonl", [{"prompt": f"Say {n}."} for n in range(8)])
    with serving(Provider(loses_first_answer=True)) as provider:
        with pytest.raises(EndpointUnavailable):
            run_here(workspace, **asking(provider))
        _, report = run_here(workspace, **asking(provider))
    assert len(provider.batches) == 1
    assert report.dropped == {"http_400": 1}
    assert report.num_kept == len(read(workspace / "made" / "train.jsonl")) == 7
    assert report.num_calls == 8
    assert report.usd == pytest.approx(7 * (10 * 1e-3 + 5 * 2e-3))


def test_a_batch_holds_no_more_than_the_budget_pays_for(workspace):
    write(workspace / "prompts.jsonl", [{"prompt": f"Say {n}."} for n in range(10, 30)])
    with serving(Provider()) as provider:
        _, report = run_here(workspace, **asking(provider, budget_usd=0.8))
    sizes = [len(provider.files[one["input_file_id"]]) for one in provider.batches]
    assert len(sizes) > 1
    assert report.num_kept == sum(sizes) == 20 - report.dropped.get("budget_used_up", 0)
    assert report.usd == pytest.approx(0.02 * sum(sizes))
    assert report.usd <= 0.8
