"""Models of the Hub: what is fetched, what is kept, and the refusal of each failure."""

import json
import socket
from pathlib import Path

import pytest

from ft_tools.errors import BadInput, GatedModel, HubUnavailable, UnknownName
from ft_tools.lora.request import LoraRequest
from ft_tools.models import hub
from ft_tools.models.hub import OFFLINE_VARIABLES, PACKAGED
from ft_tools.models.resolve import pinned, resolve_model, tokenizer_files
from ft_tools.models.shape_of_model import shape_of
from ft_tools.training.model_plan import source_of
from ft_tools.training.suggestion import suggest_lora_config
from tests.hub import COMMIT, CONFIG, LATER, serving

RESOLVED = "/someone/new-model/resolve/main/config.json"


@pytest.fixture
def standin(workspace, monkeypatch):
    """Give a Hub on loopback that this process asks, and a cache of its own."""
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def an_hour_later(monkeypatch):
    now = hub.time.time()
    monkeypatch.setattr(hub.time, "time", lambda: now + hub.FRESH_SECONDS)


def test_a_suggestion_fetches_the_tokenizer_by_which_a_launch_counts(standin, workspace):
    rows = [{"prompt": f"Where is {i}?", "completion": f"In {i}."} for i in range(30)]
    (workspace / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suggest_lora_config(LoraRequest(model="someone/new-model", dataset="d.jsonl"))
    assert any(path.endswith(f"/{COMMIT}/tokenizer.json") for path in standin.asked)


def test_one_small_file_answers_for_a_model_that_no_table_has(standin, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert [shape_of("someone/new-model").hidden_size for _ in range(2)] == [64, 64]
    assert {path.replace(COMMIT, "main") for path in standin.asked} == {RESOLVED}
    assert set(standin.tokens) == {"Bearer hf_secret"}


def test_a_plan_keeps_its_commit_for_an_hour_and_then_follows_main(standin, monkeypatch):
    first = pinned(resolve_model("someone/new-model"))
    assert (Path(first.files) / "tokenizer.json").read_bytes() == b"{}"
    standin.commit = LATER
    num_asked = len(standin.asked)
    assert pinned(resolve_model("someone/new-model")) == first
    assert len(standin.asked) == num_asked
    an_hour_later(monkeypatch)
    assert pinned(resolve_model("someone/new-model")).revision == LATER


@pytest.mark.parametrize(
    ("name", "error", "cure"),
    [
        ("gated", GatedModel, "accept its licence"),
        ("bad-token", GatedModel, "correct HF_TOKEN"),
        ("private", UnknownName, "hf auth login"),
        ("missing", UnknownName, "check the spelling"),
        ("no-config", BadInput, "adapter or GGUF"),
        ("limited", HubUnavailable, "in 30 seconds"),
        ("broken", HubUnavailable, "HTTP 503"),
        ("no-commit", BadInput, "HF_ENDPOINT"),
        ("huge", BadInput, "128 MiB"),
    ],
)
def test_every_refusal_has_its_own_cure(standin, name, error, cure):
    with pytest.raises(error, match=cure):
        shape_of(f"someone/{name}")
    assert hub.cached(f"someone/{name}") == []


def test_a_hub_that_nobody_serves_is_unreachable(standin, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(HubUnavailable, match=r"cannot be reached.*nearest: "):
            shape_of("someone/new-model")


@pytest.mark.parametrize("name", ["half", "changing"])
def test_a_hub_that_stops_answering_half_way_is_unavailable(standin, name):
    with pytest.raises(HubUnavailable):
        pinned(resolve_model(f"someone/{name}"))


def test_a_cache_that_cannot_be_written_is_named(standin, workspace, monkeypatch):
    (workspace / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(workspace / "file" / "hf"))
    with pytest.raises(HubUnavailable, match="HF_HOME"):
        shape_of("someone/new-model")


@pytest.mark.parametrize("variable", OFFLINE_VARIABLES)
def test_offline_nothing_connects_and_what_was_kept_still_answers(standin, monkeypatch, variable):
    kept = pinned(resolve_model("someone/new-model"))
    num_asked = len(standin.asked)
    monkeypatch.setenv(variable, "1")
    an_hour_later(monkeypatch)
    assert pinned(resolve_model("someone/new-model")) == kept
    with pytest.raises(HubUnavailable, match=f"{variable} forbids.*hf download"):
        shape_of("someone/other")
    with pytest.raises(HubUnavailable, match="unset it, or run `fine-tuning-llm demo"):
        hub.snapshot(PACKAGED)
    assert len(standin.asked) == num_asked


def test_what_was_kept_answers_while_the_hub_cannot(standin, monkeypatch):
    kept = pinned(resolve_model("someone/new-model"))
    an_hour_later(monkeypatch)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert pinned(resolve_model("someone/new-model")) == kept


def test_the_catalog_and_the_hubs_own_cache_answer_without_the_hub(standin, workspace):
    folder = workspace / "hf" / "hub" / "models--someone--cached" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_text("{}")
    assert shape_of("meta-llama/Llama-3.1-8B").num_layers == 32
    assert shape_of("someone/cached").hidden_size == 64
    assert tokenizer_files("someone/cached") == str(folder)
    assert standin.asked == []
    assert (Path(tokenizer_files("someone/new-model")) / "tokenizer.json").is_file()


def test_a_plan_names_the_commit_and_does_without_where_the_hub_is_silent(standin, monkeypatch):
    assert source_of("someone/new-model").revision == COMMIT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert source_of("someone/other").revision is None
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(GatedModel):
        source_of("someone/gated")
