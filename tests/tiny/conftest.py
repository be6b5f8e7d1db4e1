"""A tiny real model, and runs of it, for the tests that train."""

import atexit
import gc
import shutil

import llama_cpp._utils
import pytest
import torch

from benchmarks.small_models import byte_level, fast, untrained_llama
from ft_tools import workspace as workspace_module
from tests.tiny.evaluating import TOWNS, writer_of
from tests.tiny.measuring_gguf import require_converter, require_smollm2

# Nothing looks for garbage at the end, so these would be reported as left open.
atexit.register(llama_cpp._utils.outnull_file.close)
atexit.register(llama_cpp._utils.errnull_file.close)


@pytest.fixture(scope="session", autouse=True)
def _quiet_machine():
    """Keep the workers that these tests start to one thread each, and off the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module", autouse=True)
def _live_long():
    """Look no more for garbage in what the files before this one made the libraries import."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread():
    """Compute on one thread in this process: threads of small products wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Give a folder with a Llama of a million random parameters and a byte-level BPE tokenizer.

    Its end-of-turn token is its end-of-sequence and its padding token, as in SmolLM2. Read only:
    `tiny_model_in` copies it into the test's workspace.
    """
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    make_tokenizer().save_pretrained(folder)
    untrained_llama().save_pretrained(folder)
    return folder


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


@pytest.fixture(scope="session")
def converter_script():
    """Have llama.cpp's converter."""
    return require_converter()


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory):
    """Have the demo model; its folder."""
    return require_smollm2(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def shared_workspace(tmp_path_factory, tiny_model):
    """Give a module's tests one workspace with the tiny model, for runs that they only read."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(tiny_model, folder / "tiny-llama")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(workspace_module.VARIABLE, str(folder))
        yield folder


@pytest.fixture
def tiny_model_in(workspace, tiny_model):
    """Copy the tiny model into the test's workspace; its name as a model argument."""
    shutil.copytree(tiny_model, workspace / "tiny-llama")
    return "tiny-llama"


def make_tokenizer():
    """Train a small tokenizer on a text of our own."""
    return fast(byte_level(corpus()))


def corpus():
    """Return a few hundred sentences of our own for the tokenizer to learn pieces from."""
    subjects = ["The parcel", "My order", "Your invoice", "The red bicycle", "A customer"]
    verbs = ["arrived late", "is broken", "was paid twice", "needs a refund", "asked politely"]
    ends = ["on Monday.", "again!", "this morning?", "in the small town.", "with number 4711."]
    chat = ["user", "assistant", "system", "You answer in one word.", '{"category": "delivery"}']
    return [f"{s} {v} {e}" for s in subjects for v in verbs for e in ends] + chat * 20
