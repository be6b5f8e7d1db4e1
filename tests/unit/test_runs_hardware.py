"""Which GPUs a machine shows: nvidia-smi, device files, parts of cards, memory."""

import pytest

from ft_tools.errors import BadInput, Missing
from ft_tools.runs.hardware import devices
from ft_tools.runs.hardware.devices import find_cards, find_device

T4 = "0, GPU-1a, NVIDIA T4, 15360, 0, 7.5, 535.54.03, [N/A]"
A100 = "1, GPU-2bc, NVIDIA A100-SXM4-80GB, 81920, 0, 8.0, 535.54.03, Disabled"
SECOND = "2, GPU-3d, NVIDIA A100-SXM4-80GB, 81920, 4096, 8.0, 535.54.03, Disabled"
DIVIDED = "0, GPU-9f, NVIDIA A100-SXM4-40GB, 40960, 0, 8.0, 535.54.03, Enabled"
PARTS = """GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-9f)
  MIG 3g.20gb     Device  0: (UUID: MIG-aa)
  MIG 1g.5gb      Device  1: (UUID: MIG-bb)"""


@pytest.fixture
def no_smi(tmp_path, monkeypatch):
    """Hide nvidia-smi and every device file."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv(devices.FILES_VARIABLE, str(tmp_path / "root"))
    return tmp_path / "root"


def made_device_file(root, path):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).touch()


def test_a_card_is_found_by_its_driver(smi):
    smi(T4)
    card = find_device()
    assert (card.name, card.memory_gib, card.precision) == ("cuda", 15.0, "float16")
    assert (card.cards, card.capability) == (["GPU-1a"], 7.5)
    assert find_device("cpu").name == "cpu"
    smi(A100)
    assert find_device().precision == "bfloat16"
    smi("0, GPU-1a, NVIDIA GB10, [N/A], [N/A], 12.1, 580.1, [N/A]")
    assert find_device().memory_gib == find_device("cpu").memory_gib
    smi()
    assert find_device().name == "cpu"


def test_of_different_cards_those_with_the_most_memory_are_taken_while_they_are_enough(smi):
    smi(T4, A100, SECOND)
    assert find_device().cards == ["GPU-2bc", "GPU-3d"]
    assert find_device(processes=2).memory_gib == 80.0
    three = find_device(processes=3)
    assert (three.cards, three.memory_gib) == (["GPU-1a", "GPU-2bc", "GPU-3d"], 15.0)
    assert three.precision == "float16"
    with pytest.raises(BadInput, match="has 3 visible GPUs"):
        find_device(processes=4)


@pytest.mark.parametrize(
    ("shown", "uuids"),
    [
        (None, ["GPU-1a", "GPU-2bc"]),
        ("1", ["GPU-2bc"]),
        ("1,0", ["GPU-2bc", "GPU-1a"]),
        ("GPU-2b", ["GPU-2bc"]),
        ("0,7,1", ["GPU-1a"]),
        ("MIG-9", []),
        ("", []),
        ("-1", []),
    ],
)
def test_the_cards_are_those_that_cuda_shows_in_its_order(smi, monkeypatch, shown, uuids):
    smi(T4, A100)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert [card.uuid for card in find_cards()] == uuids


def test_a_divided_card_is_its_parts_with_their_own_memory(smi, monkeypatch):
    smi(DIVIDED, parts=PARTS)
    assert [(c.uuid, c.memory_gib) for c in find_cards()] == [("MIG-aa", 19.0), ("MIG-bb", 4.8)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-bb")
    assert find_device().memory_gib == 4.8
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(BadInput, match="parts of a GPU"):
        find_device(processes=2)
    # The negative control: the same card undivided is whole.
    smi(DIVIDED.replace("Enabled", "Disabled"), parts=PARTS)
    assert [(c.uuid, c.memory_gib) for c in find_cards()] == [("GPU-9f", 40.0)]


@pytest.mark.parametrize("file", ["dev/nvidia0", "dev/dxg", "dev/nvhost-gpu"])
def test_a_gpu_that_nothing_can_ask_is_never_the_cpu_in_silence(no_smi, file):
    assert find_device().name == "cpu"
    made_device_file(no_smi, file)
    with pytest.raises(Missing, match=r'NVIDIA_DRIVER_CAPABILITIES.*device="cpu"'):
        find_device()
    assert find_device("cpu").name == "cpu"


@pytest.mark.parametrize("trouble", [{"code": 9}, {"before": "sleep 5"}])
def test_an_nvidia_smi_that_fails_or_hangs_is_no_machine_without_gpus(
    smi, tmp_path, monkeypatch, trouble
):
    monkeypatch.setattr(devices, "DRIVER_SECONDS", 0.5)
    smi(T4, **trouble)
    assert find_device().name == "cpu"
    made_device_file(tmp_path / "root", "dev/nvidia0")
    with pytest.raises(Missing, match="nvidia-smi does not answer"):
        find_device()
