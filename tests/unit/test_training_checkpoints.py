"""Which checkpoint a run goes on from."""

import json

import pytest

from ft_tools.publish import verify
from ft_tools.training import checkpoints


def write(folder, step, *, sealed=True, state_step=None):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "weights.safetensors").write_bytes(bytes([step]) * 4096)
    state = {"global_step": step if state_step is None else state_step}
    (path / "trainer_state.json").write_text(json.dumps(state))
    if sealed:
        checkpoints.publish(path)
    return path


def test_the_last_valid_one_is_found_and_what_comes_after_it_is_removed(tmp_path):
    good = write(tmp_path, 10)
    damaged = write(tmp_path, 20)
    half = write(tmp_path, 30, sealed=False)
    (damaged / "weights.safetensors").write_bytes(b"short")
    found, removed = checkpoints.last_valid(tmp_path)
    assert found == good
    assert len(removed) == 2
    assert not damaged.exists()
    assert not half.exists()


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete", "manifest", "state"])
def test_any_harm_is_seen(tmp_path, harm):
    path = write(tmp_path, 10, state_step=9 if harm == "state" else None)
    file = path / "weights.safetensors"
    if harm == "flip":
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    elif harm == "truncate":
        file.write_bytes(file.read_bytes()[:-1])
    elif harm == "delete":
        file.unlink()
    elif harm == "manifest":
        (path / "manifest.json").write_text("{")
    assert checkpoints.problems(path)
    assert checkpoints.last_valid(tmp_path)[0] is None
    assert not path.exists()


def test_rotation_keeps_the_last_two_the_best_and_what_is_unpublished(tmp_path):
    made = [write(tmp_path, step) for step in (1, 2, 3, 4)]
    unpublished = write(tmp_path, 5, sealed=False)
    checkpoints.rotate(tmp_path, keep=[made[0], None])
    left = checkpoints.all_of(tmp_path)
    assert left == [made[0], made[2], made[3], unpublished]
    assert all(verify(path) == [] for path in left[:-1])
