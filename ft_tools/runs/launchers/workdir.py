"""A run on a machine that does not see this file system: what goes there, what comes back.

SkyPilot syncs a working directory: this package, the plan and its files. The job works on its own
disk; its small files, every complete checkpoint and its artifacts are copied to a bucket that
outlives the machine, and a replacement machine continues from there.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import ft_tools
from ft_tools.publish import MANIFEST, append_line, new_folder, verify, whole_lines, write_file
from ft_tools.requirements import requirements as declared
from ft_tools.runs.state import directory
from ft_tools.runs.state.directory import JOB, read_token

FOLDER = "workdir"
RUNS_THERE = "/tmp/fine-tuning-llm/runs"
HERE = "@WORKDIR@"
"""In the plan: the working directory, wherever it is synced to."""
STATUS = "status.json"
EVENTS = "events.jsonl"
RECORDS = ("run.json", "request.json", "plan.json", JOB)
SMALL = (STATUS, EVENTS, "metrics.jsonl", "samples.jsonl", "report.json", "report.html",
         "run.lock.json", "micro_batch.json", "log.txt")  # fmt: skip
"""Files that are copied whole whenever they have changed."""
FOLDERS = ("checkpoints", "artifacts")
"""Folders of folders that count once they have a manifest."""


def pack(run_dir: Path) -> None:
    """Write the working directory: the package, the plan, and the files that it names.

    A model that is on this machine goes along, whether it came from the Hub or not: exactly what
    was confirmed is trained. The name of one that is not here is fetched there.
    """
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)
    with new_folder(run_dir / FOLDER) as staging:
        inputs = staging / "inputs"
        inputs.mkdir()
        plan = _with_inputs(json.loads((run_dir / "plan.json").read_bytes()), inputs)
        (staging / "run").mkdir()
        for name in (*RECORDS, STATUS):
            shutil.copyfile(run_dir / name, staging / "run" / name)
        (staging / "run" / "plan.json").write_text(json.dumps(plan, indent=1), encoding="utf-8")
        source = Path(ft_tools.__file__).parent
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, staging / "code" / "ft_tools", ignore=skipped)
        (staging / "requirements.txt").write_text("\n".join(requirements(plan)), encoding="utf-8")
        # Without it SkyPilot skips what a .gitignore around the workspace names, often data and
        # weights. Source: sky/data/storage_utils.py of SkyPilot 0.14, get_excluded_files.
        (staging / ".skyignore").touch()


def requirements(plan: dict[str, Any]) -> list[str]:
    """Return what training imports, in the versions of here, and what this plan needs besides.

    A build's local part is left out: the wheel index there decides between GPU and CPU.
    """
    lines = []
    for one in (*declared(""), *declared("train")):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{one.name}=={importlib.metadata.version(one.name).partition('+')[0]}")
    lines += ["liger-kernel"] if plan["training"].get("use_liger_kernel") else []
    # Trackers have the names of their packages.
    return [*lines, *plan["training"].get("report_to", [])]


def unpack(packed: Path, kept: Path, run_dir: Path) -> None:
    """Make the run directory on the machine that will train it.

    Args:
        packed: The working directory as it arrived.
        kept: Folder of the run in the storage that outlives machines.
        run_dir: The run on this machine's own disk.
    """
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in RECORDS:
        text = (packed / "run" / name).read_text(encoding="utf-8")
        write_file(run_dir / name, text.replace(HERE, str(packed)))
    if (kept / JOB).exists() and read_token(kept) != read_token(run_dir):
        # The state of an earlier submission; this one continues from its files.
        (kept / STATUS).unlink(missing_ok=True)
    for name in SMALL:
        if (kept / name).is_file() and not (run_dir / name).exists():
            shutil.copyfile(kept / name, run_dir / name)
    for folder in FOLDERS:
        for whole in _whole(kept / folder):
            if not (run_dir / folder / whole.name).exists():
                shutil.copytree(whole, run_dir / folder / whole.name)
    if not (run_dir / STATUS).exists():
        # The first start of this submission: which attempt it is, and why the one before ended.
        shutil.copyfile(packed / "run" / STATUS, run_dir / STATUS)


def keep(run_dir: Path, kept: Path) -> bool:
    """Copy what is new to the storage, and remove checkpoints there that are gone here.

    Returns:
        False when the storage cannot be written: another call tries it again.
    """
    try:
        for folder in FOLDERS:
            for whole in _whole(run_dir / folder):
                _keep_folder(whole, kept / folder / whole.name)
        kept.mkdir(parents=True, exist_ok=True)
        for name in (JOB, *SMALL):
            with contextlib.suppress(FileNotFoundError):
                now, copy = (run_dir / name).stat(), kept / name
                is_new = not copy.exists() or copy.stat().st_mtime < now.st_mtime
                if is_new or copy.stat().st_size != now.st_size:
                    shutil.copyfile(run_dir / name, copy)
    except OSError as error:
        why = f"the storage cannot be written ({error.strerror or type(error).__name__})"
        if not any(why in event.message for event in directory.read_events(run_dir)):
            directory.note(run_dir, why, "warning")
        return False
    checkpoints = kept / "checkpoints"
    for old in list(checkpoints.iterdir()) if checkpoints.is_dir() else []:
        if not (run_dir / "checkpoints" / old.name).exists():
            shutil.rmtree(old, ignore_errors=True)
    return True


def take_over(fetched: Path, run_dir: Path) -> None:
    """Put the fetched files of a run in their places here, with the paths of here.

    Events are added to those of here, which report what became of the job.
    """
    if read_token(fetched) != read_token(run_dir):
        return
    known = set(whole_lines(run_dir / EVENTS))
    for line in whole_lines(fetched / EVENTS):
        if line not in known:
            append_line(run_dir / EVENTS, line.decode("utf-8", errors="replace"))
    there = os.fsencode(f"{RUNS_THERE}/{run_dir.name}")
    for name in SMALL:
        if name != EVENTS and (fetched / name).is_file():
            # As bytes: what was damaged on the way is for its readers to find.
            data = (fetched / name).read_bytes()
            write_file(run_dir / name, data.replace(there, os.fsencode(run_dir)))
    for whole in _whole(fetched / "artifacts"):
        final = run_dir / "artifacts" / whole.name
        if not final.exists() and not verify(whole):
            with new_folder(final) as staging:
                shutil.copytree(whole, staging, dirs_exist_ok=True)


def _keep_folder(whole: Path, there: Path) -> None:
    if (there / MANIFEST).is_file():
        return
    shutil.rmtree(there, ignore_errors=True)
    try:
        shutil.copytree(whole, there, ignore=shutil.ignore_patterns(MANIFEST))
        shutil.copyfile(whole / MANIFEST, there / MANIFEST)
    except OSError:
        # Removed here meanwhile: then it is not needed there either.
        if (whole / MANIFEST).exists():
            raise


def _whole(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if (path / MANIFEST).is_file()]


def _with_inputs(plan: dict[str, Any], inputs: Path) -> dict[str, Any]:
    """Copy the plan's files into the working directory, and name them there."""
    for part in ("dataset", "validation"):
        if plan.get(part):
            plan[part]["path"] = _carry(Path(plan[part]["path"]), inputs, f"{part}.jsonl")
    model = plan["model"]
    for field in ("load_from", "adapter"):
        if model.get(field) and Path(model[field]).is_absolute():
            model[field] = _carry(Path(model[field]), inputs, field)
    template = plan["training"].get("chat_template_path")
    if template:
        plan["training"]["chat_template_path"] = _carry(Path(template), inputs, "template.jinja")
    return plan


def _carry(path: Path, inputs: Path, name: str) -> str:
    if path.is_dir():
        # Links are followed: a model of the Hub's cache is made of them, and SkyPilot's file_mounts
        # leave them out. Source: sky/data/storage.py, `aws s3 sync --no-follow-symlinks`.
        shutil.copytree(path, inputs / name)
    else:
        shutil.copyfile(path, inputs / name)
    return f"{HERE}/inputs/{name}"
