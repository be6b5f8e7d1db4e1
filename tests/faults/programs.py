"""Small programs that the tests kill or let fail at each system call: `programs.py NAME FOLDER`.

The first ones import only `ft_tools.publish`, so that a trial takes a tenth of a second. Calls
count from the look at MARKER on. Exit codes: 0 done, 75 the disk refused, else a bug.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from ft_tools import publish
from ft_tools.errors import FineTuningError

MARKER = "/faults-begin-here"
PARTS = 3
OLD, NEW = b"old" * 100, b"new" * 200


def replace_file(folder: Path) -> None:
    publish.write_file(folder / "file", NEW)


def publish_folder(folder: Path) -> None:
    with publish.new_folder(folder / "model") as staging:
        for part in range(PARTS):
            (staging / f"part-{part}").write_bytes(NEW)


def replace_file_naively(folder: Path) -> None:
    with (folder / "file").open("wb") as stream:
        stream.write(NEW)


def publish_folder_naively(folder: Path) -> None:
    (folder / "model").mkdir()
    for part in range(PARTS):
        (folder / "model" / f"part-{part}").write_bytes(NEW)
    publish.seal(folder / "model")


def change_status(folder: Path) -> None:
    # Imported here only: pydantic would double the time of every other trial.
    from ft_tools.runs.state import directory
    from ft_tools.runs.state.records import Status

    _build(Status(state="queued"))
    os.access(MARKER, os.F_OK)
    for phase in ("one", "two"):
        directory.write_status(folder, Status(state="running", phase=phase))


def start_run(folder: Path) -> None:
    from harness import Moves, launch

    from ft_tools.runs.state.records import RunInfo, Status

    for record in (
        Status(state="queued"),
        RunInfo(run_id="x", kind="sft", created_at=0.0),
        Moves(moves=[]),
    ):
        _build(record)
    os.environ["FINE_TUNING_LLM_WORKSPACE"] = str(folder)
    os.access(MARKER, os.F_OK)
    launch("steps:1", request_id="swept")


def _build(record) -> None:
    """Have pydantic build a model before calls count: it reads all over site-packages for that."""
    type(record).model_validate_json(record.model_dump_json())


PROGRAMS = {
    program.__name__: program
    for program in (
        replace_file,
        publish_folder,
        replace_file_naively,
        publish_folder_naively,
        change_status,
        start_run,
    )
}

if __name__ == "__main__":
    os.umask(0o022)
    if sys.argv[1] not in ("change_status", "start_run"):
        os.access(MARKER, os.F_OK)
    try:
        PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
    except FineTuningError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)
