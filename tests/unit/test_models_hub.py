"""Models of the Hub: what is fetched, what is kept, and the cure of every refusal."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ft_tools.errors import BadInput, FineTuningError, GatedModel, HubUnavailable, UnknownName
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.tool import suggest_lora_config
from ft_tools.models import hub, hub_requests
from ft_tools.models.hub_requests import OFFLINE_VARIABLES
from ft_tools.models.obtain import PACKAGED
from ft_tools.models.resolve import hub_home, pinned, resolve_model, tokenizer_files
from ft_tools.models.shape_of_model import shape_of
from ft_tools.training.model_plan import source_of
from tests.hub import COMMIT, CONFIG, LATER, serving


@pytest.fixture
def standin(workspace, monkeypatch):
    """Give a Hub on loopback that this process asks, and a cache of its own."""
    for name in OFFLINE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "cache"))
    monkeypatch.setenv("HF_HOME", str(workspace / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def later(monkeypatch, seconds=2 * hub.FRESH_SECONDS):
    now = hub.time.time()
    monkeypatch.setattr(hub.time, "time", lambda: now + seconds)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "~/.cache/huggingface"),
        ({"XDG_CACHE_HOME": "/caches"}, "/caches/huggingface"),
        ({"XDG_CACHE_HOME": "/caches", "HF_HOME": "~/hub"}, "~/hub"),
    ],
)
def test_the_hubs_own_folder_is_where_its_library_looks(monkeypatch, given, expected):
    for name in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    home = Path(expected).expanduser()
    probe = "import huggingface_hub.constants as c; print(c.HF_HOME)"
    theirs = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert Path(theirs.stdout.strip()) == home == hub_home()


def test_a_suggestion_fetches_the_tokenizer_by_which_a_launch_counts(standin, workspace):
    rows = [{"prompt": f"Where is {i}?", "completion": f"In {i}."} for i in range(30)]
    (workspace / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suggest_lora_config(LoraRequest(model="someone/new-model", dataset="d.jsonl"))
    assert any(path.endswith(f"/{COMMIT}/tokenizer.json") for path in standin.asked)


def test_one_small_file_answers_for_a_model_that_no_table_has(standin):
    assert shape_of("someone/new-model").hidden_size == 64
    assert standin.asked == ["/someone/new-model/resolve/main/config.json"]


def test_within_an_hour_the_hub_is_not_asked_again(standin):
    shape_of("someone/new-model")
    shape_of("someone/new-model")
    assert len(standin.asked) == 1


def test_a_file_that_the_hub_keeps_elsewhere_on_its_own_host_is_followed(standin):
    assert shape_of("someone/moved-inside").hidden_size == 64
    assert standin.asked[1] == "/api/stored/at/there/config.json"


def test_a_plan_keeps_its_commit_when_main_moves(standin, monkeypatch):
    planned = pinned(resolve_model("someone/new-model"))
    standin.commit = LATER
    later(monkeypatch)
    assert pinned(resolve_model("someone/new-model")).revision == LATER
    assert hub.describe("someone/new-model", planned.revision).commit == COMMIT
    assert hub.kept("someone/new-model", COMMIT).folder.name == COMMIT


def test_the_tokenizer_is_fetched_with_the_plan_and_absent_files_are_asked_once(standin):
    first = pinned(resolve_model("someone/new-model"))
    assert (hub.Path(first.files) / "tokenizer.json").read_bytes() == b"{}"
    num_asked = len(standin.asked)
    pinned(resolve_model("someone/new-model"))
    assert len(standin.asked) == num_asked


@pytest.mark.parametrize(
    ("name", "error", "cure"),
    [
        ("gated", GatedModel, "accept its licence"),
        ("bad-token", GatedModel, "correct HF_TOKEN"),
        ("private", UnknownName, "hf auth login"),
        ("missing", UnknownName, "check the spelling"),
        ("no-config", BadInput, "adapter or GGUF"),
        ("renamed", BadInput, "pass model='someone/new-name'"),
        ("limited", HubUnavailable, "in 30 seconds"),
        ("broken", HubUnavailable, "HTTP 503"),
        ("elsewhere", BadInput, "another host"),
        ("circle", BadInput, "circle"),
        ("huge", BadInput, "larger than 1 MiB"),
        ("huge-unsaid", BadInput, "larger than 1 MiB"),
        ("wrong-hash", BadInput, "hash"),
        ("no-json", BadInput, "not JSON"),
        ("no-commit", BadInput, "no commit"),
    ],
)
def test_every_refusal_has_its_own_cure_and_keeps_nothing(standin, name, error, cure):
    with pytest.raises(error, match=cure):
        shape_of(f"someone/{name}")
    assert hub.kept(f"someone/{name}") is None


def test_a_hub_that_does_not_answer_is_given_up_after_seconds(standin, monkeypatch):
    monkeypatch.setattr(hub, "CONFIG_SECONDS", 0.3)
    with pytest.raises(HubUnavailable, match="did not answer"):
        shape_of("someone/slow")


def test_a_hub_that_nobody_serves_is_unreachable(standin, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(HubUnavailable, match=r"cannot be reached.*nearest: "):
            shape_of("someone/new-model")


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": "/etc/passwd"},
        {"text_config": {"tokenizer_file": "../../secret"}},
        {"auto_map": {"AutoConfig": "~/code.py"}},
        {"model_type": "..\\..\\x"},
    ],
)
def test_a_config_that_names_a_path_is_refused(standin, config):
    standin.configs["someone/paths"] = CONFIG | config
    with pytest.raises(BadInput, match="names a file path"):
        shape_of("someone/paths")
    assert hub.kept("someone/paths") is None


@pytest.mark.parametrize("variable", OFFLINE_VARIABLES)
def test_offline_nothing_connects_and_what_was_kept_still_answers(standin, monkeypatch, variable):
    shape_of("someone/new-model")
    monkeypatch.setenv(variable, "1")
    later(monkeypatch)
    assert shape_of("someone/new-model").hidden_size == 64
    with pytest.raises(HubUnavailable, match=f"{variable} forbids.*hf download"):
        shape_of("someone/other")
    with pytest.raises(
        HubUnavailable, match="unset it, or run `fine-tuning-llm demo --only-model`"
    ):
        hub_requests.get(PACKAGED, "config.json", "main")
    assert len(standin.asked) == 1


def test_what_was_kept_answers_while_the_hub_cannot(standin, monkeypatch):
    shape_of("someone/new-model")
    later(monkeypatch)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert shape_of("someone/new-model").hidden_size == 64


def test_the_token_is_sent_to_the_hub(standin, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    shape_of("someone/new-model")
    assert standin.tokens == ["Bearer hf_secret"]


def test_an_unknown_name_is_told_the_three_nearest(standin):
    with pytest.raises(UnknownName) as error:
        shape_of("meta-llama/missing")
    assert str(error.value).split("nearest: ")[1].count(", ") == 2


def test_the_catalog_answers_without_the_hub(standin):
    assert shape_of("meta-llama/Llama-3.1-8B").num_layers == 32
    assert standin.asked == []


def test_a_config_in_the_hubs_own_cache_answers_without_the_hub(standin, workspace):
    folder = workspace / "hf" / "hub" / "models--someone--cached" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    assert shape_of("someone/cached").hidden_size == 64
    assert standin.asked == []


@pytest.mark.parametrize("name", ["a/..", "../b", "a/b/c", "a/b?x", "a b/c"])
def test_only_an_id_is_asked_for(standin, name):
    with pytest.raises(FineTuningError):
        shape_of(name)
    assert standin.asked == []


def test_a_tokenizer_is_found_in_the_hubs_own_cache_and_else_fetched(standin, workspace):
    fetched = tokenizer_files("someone/new-model")
    assert (hub.Path(fetched) / "tokenizer.json").is_file()
    num_asked = len(standin.asked)
    folder = workspace / "hf" / "hub" / "models--someone--cached" / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    assert tokenizer_files("someone/cached") == str(folder)
    assert len(standin.asked) == num_asked


def test_a_plan_names_the_commit_and_does_without_where_the_hub_is_silent(standin, monkeypatch):
    assert source_of("someone/new-model").revision == COMMIT
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert source_of("someone/other").revision is None
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(GatedModel):
        source_of("someone/gated")
