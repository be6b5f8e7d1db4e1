"""P3 and P4: a kill or an error at any system call leaves the old artifact or the new one."""

import itertools
import shutil

import pytest
from harness import ENDED, launch, report, run_dir_of, starts, until_state
from injection import call_points, durable_steps, inject, require_strace, spread
from programs import NEW, OLD, PARTS, change_status, publish_folder, replace_file
from sizes import sized

from ft_tools import publish
from ft_tools.runs.request import ResumeRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Status
from ft_tools.runs.tool import resume_run

ERRORS = ("ENOSPC", "EDQUOT", "EIO", "EROFS")


def prepare(folder):
    folder.mkdir()
    (folder / "file").write_bytes(OLD)
    directory.write_status(folder, Status(state="running", phase="zero"))


def visible(folder):
    return {p.name for p in folder.iterdir() if not p.name.startswith(publish.STAGING)}


def bad_file(folder):
    return (folder / "file").read_bytes() not in (OLD, NEW)


def bad_folder(folder):
    model = folder / "model"
    if not model.exists():
        return False
    whole = publish.verify(model) == []
    return not whole or len(list(model.glob("part-*"))) != PARTS


def bad_status(folder):
    return directory.read_status(folder).phase not in ("zero", "one", "two")


PROGRAMS = {"replace_file": bad_file, "publish_folder": bad_folder, "change_status": bad_status}
RETRIES = {
    "replace_file": replace_file,
    "publish_folder": publish_folder,
    "change_status": change_status,
}


def retry_is_bad(name, folder):
    """Do it again without a fault: it succeeds, or was published already."""
    try:
        RETRIES[name](folder)
    except publish.OutputExists:
        return not (folder / "model").exists()
    leftover = any(p.is_dir() for p in folder.glob(".tmp-*"))
    return leftover or PROGRAMS[name](folder)


def sweep(name, what, folder, found, is_bad):
    """Inject a fault at each point; returns the exit codes, and the points that went wrong."""
    codes, bad = [], []
    for point in found:
        prepare(folder)
        run = inject(name, folder, *point, what)
        codes.append(run.returncode)
        if is_bad(folder, run):
            bad.append((what, *point, run.returncode, run.stderr[-300:]))
        shutil.rmtree(folder)
    return codes, bad


@sized("kill points of a program")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_kill_at_any_call_leaves_the_old_or_the_new_and_a_retry_works(tmp_path, name, size):
    require_strace()

    def is_bad(folder, run):
        only_known = visible(folder) <= {"file", "status.json", "model"}
        return not only_known or PROGRAMS[name](folder) or retry_is_bad(name, folder)

    found = spread(call_points(name, prepare, tmp_path / "x"), size)
    codes, bad = sweep(name, "signal=SIGKILL", tmp_path / "x", found, is_bad)
    assert bad == []
    assert set(codes) == {-9}


@sized("error points of a program")
@pytest.mark.parametrize("name", PROGRAMS)
def test_an_error_at_any_call_is_named_and_leaves_the_old_or_the_new(tmp_path, name, size):
    require_strace()

    def is_bad(folder, run):
        if run.returncode not in (0, 75) or PROGRAMS[name](folder):
            return True
        if run.returncode == 75 and "run it again" not in run.stderr:
            return True
        return retry_is_bad(name, folder)

    found = call_points(name, prepare, tmp_path / "x")
    codes, bad = [], []
    for point, error in spread(list(itertools.product(found, ERRORS)), size):
        more_codes, more_bad = sweep(name, f"error={error}", tmp_path / "x", [point], is_bad)
        codes += more_codes
        bad += more_bad
    assert bad == []
    assert 75 in codes


@pytest.mark.parametrize(
    ("name", "what", "is_bad"),
    [
        ("replace_file_naively", "signal=SIGKILL", bad_file),
        ("publish_folder_naively", "signal=SIGKILL", bad_folder),
        ("replace_file_naively", "error=ENOSPC", bad_file),
    ],
)
def test_writing_in_place_would_not_pass_the_sweeps(tmp_path, name, what, is_bad):
    """The negative control: the same sweep over the naive way finds half-made artifacts."""
    require_strace()
    found = spread(call_points(name, prepare, tmp_path / "x"), 12)
    _, bad = sweep(name, what, tmp_path / "x", found, lambda folder, _: is_bad(folder))
    assert len(bad) >= 1


@pytest.mark.parametrize("name", ["replace_file", "publish_folder", "change_status"])
def test_every_name_is_published_after_its_content_is_durable(tmp_path, name):
    """P6: before a rename everything in it is fsynced, and its folder next."""
    require_strace()
    steps = durable_steps(name, prepare, tmp_path / "x")
    renames = [number for number, (step, _) in enumerate(steps) if step == "rename"]
    assert renames
    for number in renames:
        assert steps[number - 1][0] == "fsync"
        assert steps[number + 1] == ("fsync", steps[number][1].rpartition("/")[0])
    if name == "publish_folder":
        synced = [path.rpartition("/")[2] for step, path in steps[: renames[-1]] if step == "fsync"]
        assert synced[:PARTS] == [f"part-{part}" for part in reversed(range(PARTS))]
        # Then the manifest, and the staging folder that has all of their names.
        assert [name.startswith(".tmp-manifest") for name in synced[PARTS:]] == [True, False]
        assert synced[-1].startswith(".tmp-model")


def test_a_run_on_a_full_disk_says_so_and_goes_on_once_there_is_space(
    small_disk, runs_here, monkeypatch
):
    monkeypatch.setenv("FINE_TUNING_LLM_WORKSPACE", str(small_disk(80 * 1024)))
    run_id = launch("fill_disk", "steps:3")
    until_state(run_id, *ENDED)
    ended = report(run_id)
    assert (ended.state, ended.reason) == ("interrupted", "disk_full")
    assert ended.error.code == "disk_full"
    assert ended.resumable
    assert list((run_dir_of(run_id) / "artifacts").iterdir()) == []
    resume_run(ResumeRequest(run_id=run_id))
    assert until_state(run_id, *ENDED) == "succeeded"
    assert len(starts(run_id)) == 2
