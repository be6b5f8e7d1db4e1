"""Publishing: whole or not at all, private, durable, and honest about the disk."""

import json
import os
import stat
import threading

import pytest

from ft_tools import publish
from ft_tools.errors import BadInput, OutputExists


def mode(path):
    return stat.S_IMODE(path.lstat().st_mode)


def leftovers(folder):
    return [path.name for path in folder.rglob("*") if path.name.startswith(publish.STAGING)]


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_files_and_folders_are_private_whatever_the_umask(tmp_path, umask):
    publish.write_file(tmp_path / "file", "x")
    publish.append_line(tmp_path / "lines", "x")
    with publish.new_folder(tmp_path / "deep" / "folder") as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "weights").write_bytes(b"w")
        assert mode(staging) == 0o700
    folders = [tmp_path / "deep", tmp_path / "deep/folder", tmp_path / "deep/folder/inner"]
    files = ["file", "lines", "deep/folder/inner/weights", "deep/folder/manifest.json"]
    assert {mode(path) for path in folders} == {0o700}
    assert {mode(tmp_path / name) for name in files} == {0o600}


def test_lines_of_many_writers_stay_whole_and_none_is_lost(tmp_path):
    path = tmp_path / "events.jsonl"

    def write(writer):
        for number in range(200):
            publish.append_line(path, json.dumps({"writer": writer, "number": number}))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [json.loads(line) for line in path.read_bytes().split(b"\n") if line]
    assert {(row["writer"], row["number"]) for row in rows} == {
        (writer, number) for writer in range(8) for number in range(200)
    }


@pytest.mark.parametrize("taken", ["file", "folder", "link"])
def test_a_taken_name_is_refused_and_stays_as_it_was(tmp_path, taken):
    final = tmp_path / "model"
    if taken == "file":
        final.write_text("theirs")
    elif taken == "folder":
        final.mkdir()
        (final / "theirs").write_text("x")
    else:
        final.symlink_to(tmp_path / "elsewhere")
    before = final.lstat().st_ino
    with pytest.raises(OutputExists, match="name a new folder"), publish.new_folder(final):
        pass
    assert final.lstat().st_ino == before
    assert leftovers(tmp_path) == []


def test_a_link_inside_a_folder_is_refused_and_its_target_keeps_its_mode(tmp_path):
    target = tmp_path / "target"
    target.write_text("x")
    target.chmod(0o644)
    with (
        pytest.raises(BadInput, match="symbolic link"),
        publish.new_folder(tmp_path / "model") as staging,
    ):
        (staging / "link").symlink_to(target)
    assert mode(target) == 0o644
    assert not (tmp_path / "model").exists()


def test_the_manifest_finds_every_change(tmp_path):
    folder = tmp_path / "model"
    with publish.new_folder(folder) as staging:
        (staging / "inner").mkdir()
        (staging / "inner" / "a").write_bytes(b"aaaa")
        (staging / "b").write_bytes(b"bbbb")
    assert publish.verify(folder) == []
    (folder / "b").write_bytes(b"bbbX")
    (folder / "inner" / "a").unlink()
    assert sorted(publish.verify(folder)) == [
        "b has changed since it was written",
        "inner/a is missing or unreadable",
    ]


def test_a_manifest_cannot_make_verify_read_outside_its_folder(tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "model").mkdir()
    entry = {"bytes": 1, "sha256": publish.sha256(tmp_path / "secret")}
    manifest = {"files": {"../secret": entry}}
    (tmp_path / "model" / publish.MANIFEST).write_text(json.dumps(manifest))
    assert publish.verify(tmp_path / "model") == ["'../secret' is outside the folder"]


def test_dead_staging_folders_are_swept_and_living_ones_stay(tmp_path):
    (tmp_path / ".tmp-model-dead").mkdir()
    (tmp_path / ".tmp-model-dead" / "weights").write_bytes(b"w")
    (tmp_path / "mine").mkdir()
    with publish.new_folder(tmp_path / "model") as staging:
        assert not (tmp_path / ".tmp-model-dead").exists()
        assert publish.sweep(tmp_path) == 0
        assert staging.is_dir()
    assert sorted(os.listdir(tmp_path)) == ["mine", "model"]
