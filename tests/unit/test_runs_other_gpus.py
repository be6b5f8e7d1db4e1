"""GPUs of AMD and Intel: named and sized in a warning, never taken for a machine without one."""

import json

import pytest

from ft_tools.runs.hardware import devices, other_gpus

AMD = {
    "card0": {"Card Series": "AMD Instinct MI300X", "VRAM Total Memory (B)": "206141652992"},
    "card1": {"Card series": "AMD Instinct MI300X", "VRAM Total Memory (B)": "206141652992"},
    "system": {"Driver version": "6.8.5"},
}
INTEL = {"device_list": [{"device_id": 0, "device_name": "Intel(R) Data Center GPU Max 1550"}]}


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that puts a program on PATH, beside no other."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(devices.FILES_VARIABLE, str(tmp_path / "root"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def put(name, answer):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{answer}'\n")
        program.chmod(0o700)

    return put


def amd_files(tmp_path):
    (tmp_path / "root" / "dev").mkdir(parents=True)
    (tmp_path / "root" / "dev" / "kfd").touch()


def test_amd_gpus_are_named_and_sized(machine, tmp_path):
    amd_files(tmp_path)
    machine("rocm-smi", json.dumps(AMD))
    said = other_gpus.unused_gpu()
    assert said.count("AMD Instinct MI300X (192 GiB)") == 2
    assert said.endswith("ROCm is not supported, so the CPU is used")


@pytest.mark.parametrize("answer", ["no JSON", "[]", "{}", None])
def test_an_amd_gpu_without_a_program_that_names_it_is_found_all_the_same(
    machine, tmp_path, answer
):
    amd_files(tmp_path)
    if answer is not None:
        machine("rocm-smi", answer)
    assert "shows an AMD GPU; ROCm is not supported" in other_gpus.unused_gpu()


def test_intel_gpus_are_named(machine):
    machine("xpu-smi", json.dumps(INTEL))
    said = other_gpus.unused_gpu()
    assert said.startswith("xpu-smi shows Intel(R) Data Center GPU Max 1550; Intel GPUs are not")


def test_a_machine_without_any_is_said_nothing_of(machine, monkeypatch, tmp_path):
    assert other_gpus.unused_gpu() == ""
    amd_files(tmp_path)
    # Who hides every GPU asked for the CPU.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert other_gpus.unused_gpu() == ""
