"""P4, P5 and P18 for what is shipped: full disks, flipped bits, hostile models."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
from collections import Counter

import pytest
import torch
from transformers import AutoModelForCausalLM

from ft_tools import publish
from ft_tools.errors import FineTuningError
from ft_tools.models import safetensors_headers
from ft_tools.models.placement import Placement
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping.worker import merging
from ft_tools.shipping.worker.proof import HeldOut, Proof
from tests.tiny.measuring_gguf import write_adapter, write_gguf

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
]


def sized(plain, full):
    marks = pytest.mark.faults
    return pytest.mark.parametrize(
        "size", [plain, pytest.param(full, marks=marks)], ids=["plain", "full"]
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory, tiny_model):
    """Make a base, and an adapter with a manifest."""
    folder = tmp_path_factory.mktemp("parts")
    shutil.copytree(tiny_model, folder / "base")
    with publish.new_folder(folder / "adapter") as staging:
        write_adapter(folder / "base", staging, "base")
    return folder


@sized(5, 60)
def test_a_disk_of_any_size_holds_a_whole_artifact_or_none(parts, tmp_path, size, record_property):
    place = tmp_path / "disk"
    place.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(argv, capture_output=True).returncode:
        pytest.skip("tmpfs may not be mounted here")
    write_gguf(tmp_path / "source.gguf", vocabulary=4096)
    for name in ("base", "adapter"):
        (tmp_path / name).symlink_to(parts / name)
    sizes = [str(16 + 7 * 1024 * i // (size - 1) // 4 * 4) for i in range(size)]
    argv = [sys.executable, "-m", "tests.tiny.shipping_steps", str(tmp_path), str(place), *sizes]
    found = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    record_property("disks", {name: dict(Counter(row["ends"])) for name, row in found.items()})
    for name, row in found.items():
        assert row["bad"] == [], (name, row)
        assert set(row["ends"]) == {0, 75}, (name, row)


def flip(path, dice):
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    place = dice.randrange(len(data) * 8)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)


@sized(30, 1000)
def test_a_flipped_bit_in_an_adapter_or_an_export_is_found_before_use(
    parts, workspace, size, record_property
):
    shutil.copytree(parts / "base", workspace / "base")
    shutil.copytree(parts / "adapter", workspace / "adapter")
    with publish.new_folder(workspace / "export") as staging:
        merging.copy_whole(parts / "base", staging)
    held = safetensors_headers.survey(workspace / "base")
    config = json.loads((workspace / "base" / "config.json").read_bytes())
    victims = [p for f in ("adapter", "export") for p in (workspace / f).iterdir()]
    dice, missed = random.Random(3), []
    for _ in range(size):
        victim = dice.choice(victims)
        good = victim.read_bytes()
        flip(victim, dice)
        try:
            if victim.parent.name == "adapter":
                adapters.inspect(victim.parent, held, config)
                missed.append(victim.name)
            elif not publish.verify(victim.parent):
                missed.append(victim.name)
        except FineTuningError:
            pass
        victim.write_bytes(good)
    record_property("bit flips", {"trials": size, "missed": missed})
    # A flipped letter in the manifest's own layout may leave what it says as it was.
    assert [name for name in missed if name != publish.MANIFEST] == []
    adapters.inspect(workspace / "adapter", held, config)


class _Evil:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return (os.system, (f"touch {self.canary}",))


def test_nothing_that_a_model_brings_along_is_executed(parts, workspace, monkeypatch):
    """Pickles, code that configs name, and files outside the folder, in one loadable model."""
    canary = workspace / "executed"
    secret = workspace / "secret.txt"
    secret.write_text("the secret of this machine")
    base, adapter, into = workspace / "base", workspace / "adapter", workspace / "into"
    shutil.copytree(parts / "base", base)
    shutil.copytree(parts / "adapter", adapter)
    (adapter / publish.MANIFEST).unlink()
    code = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\nclass Model: pass\n"
    for folder in (base, adapter):
        for name in ("modeling_evil.py", "tokenization_evil.py", "evil.py", "setup.py"):
            (folder / name).write_text(code)
        for name in ("pytorch_model.bin", "optimizer.pt", "training_args.bin", "rng_state.pth"):
            (folder / name).write_bytes(pickle.dumps(_Evil(canary)))
    remote = {"auto_map": {
        "AutoConfig": "modeling_evil.Model", "AutoModelForCausalLM": "modeling_evil.Model",
        "AutoTokenizer": ["tokenization_evil.Model", "tokenization_evil.Model"],
    }}  # fmt: skip
    outside = {"vocab_file": str(secret), "tokenizer_file": "../secret.txt"}
    change(base / "config.json", remote)
    change(base / "tokenizer_config.json", remote | outside)
    mapping = {"base_model_class": "Model", "parent_library": "evil"}
    change(adapter / "adapter_config.json", {"auto_mapping": mapping})
    monkeypatch.chdir(base)
    held = safetensors_headers.survey(base)
    config = json.loads((base / "config.json").read_bytes())
    assert adapters.inspect(adapter, held, config).route == "shards"
    into.mkdir()
    merging.merge_by_shards(base, adapter, into, lambda: None)
    merging.copy_small_files(base, adapter, into)
    tokenizer = merging.tokenizer_of(into)
    text = HeldOut("given", [tokenizer("Hello world, this is a text.").input_ids], [], [])
    proof = Proof(tokenizer, text, workspace / "rows.f32", len(tokenizer))
    proof.fill(AutoModelForCausalLM.from_pretrained(into, dtype=torch.float32).eval())
    adapted = merging.adapted(base, adapter, Placement("cpu", "float32", 0))
    assert proof.check_merge(adapted, "float32", "base").passed
    tokenizer.save_pretrained(workspace / "saved")
    assert not canary.exists()
    written = [*into.iterdir(), *(workspace / "saved").iterdir()]
    assert not [p for p in written if p.suffix in {".py", ".bin", ".pt", ".pth"}]
    assert not [p for p in written if b"the secret" in p.read_bytes()]


def change(path, fields):
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


def test_the_canary_of_these_tests_sings(tmp_path):
    """The negative control: the pickle that is planted does run where pickles are loaded."""
    pickle.loads(pickle.dumps(_Evil(tmp_path / "executed")))
    assert (tmp_path / "executed").exists()
