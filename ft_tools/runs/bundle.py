"""A run for a machine that does not see this file system: what goes there, what comes back.

There it works on its own disk. A copy of its small files, of every whole checkpoint and of its
artifacts goes to storage that outlives the machine; a machine that takes over starts from it.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
from pathlib import Path
from typing import Any

import ft_tools
from ft_tools.publish import MANIFEST, append_line, new_folder, verify, write_file
from ft_tools.runs import directory
from ft_tools.runs.launchers.job import BUNDLE
from ft_tools.runs.launchers.options import Options
from ft_tools.runs.ranks import JOB_FILE, read_token

FETCHED = "fetched"
RECORDS = ("run.json", "request.json", "plan.json", JOB_FILE)
STATUS = "status.json"
EVENTS = "events.jsonl"
SMALL = (STATUS, EVENTS, "metrics.jsonl", "samples.jsonl", "report.json", "report.html",
         "run.lock.json", "micro_batch.json")  # fmt: skip
"""Files that are copied whole whenever they have changed."""
FOLDERS = ("checkpoints", "artifacts")
"""Folders of folders that count once they have a manifest."""
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "bitsandbytes",
            "pydantic", "psutil", "jinja2")  # fmt: skip
"""What a training worker imports, installed there in the versions of here."""
DEEPSPEED = "deepspeed"
LIGER = "liger-kernel"
"""Both are installed there only where the plan needs them; here they are not needed at all."""
NOTHING_IGNORED = ".skyignore"
"""Without it SkyPilot leaves out what the `.gitignore` of a repository around the workspace names,
data and weights often, or fails where that names `runs/`. Source: sky/data/storage_utils.py of
SkyPilot 0.14, get_excluded_files."""


def pack(run_dir: Path) -> Path:
    """Write what a machine elsewhere needs into `bundle/` of the run.

    Files that the plan names become files of the bundle, those of a model that is on this machine
    among them, whether it came from the Hub or not: they are what was confirmed. The name of a
    model that is not here stays a name, and is fetched there.

    Returns:
        The bundle.
    """
    final = run_dir / "bundle"
    shutil.rmtree(final, ignore_errors=True)
    with new_folder(final) as staging:
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
        text = "\n".join([*requirements(), *_needed_there(plan), ""])
        (staging / "requirements.txt").write_text(text, encoding="utf-8")
        (staging / NOTHING_IGNORED).touch()
    return final


def storage(options: Options, run_id: str) -> str:
    """Return the folder of a run in the storage that outlives machines."""
    return f"{str(getattr(options, 'storage', '')).rstrip('/')}/{run_id}"


def requirements() -> list[str]:
    """Return the packages and versions of here; a build's local part is left out.

    The wheel index there decides between torch for a GPU and for a CPU.
    """
    lines = []
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            lines.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
    return lines


def _needed_there(plan: dict[str, Any]) -> list[str]:
    """Return the packages that this plan's training imports, and others do not."""
    training = plan["training"]
    needed = [DEEPSPEED] if plan["place"]["sharding"] in {"zero2", "zero3"} else []
    needed += [LIGER] if training.get("use_liger_kernel") else []
    # Trackers have the names of their packages.
    return [*needed, *plan["model"].get("packages", []), *training.get("report_to", [])]


def unpack(packed: Path, kept: Path, run_dir: Path) -> None:
    """Make the run directory on the machine that will train it, from the bundle and what was kept.

    Args:
        packed: The bundle as it arrived.
        kept: Folder of the run in the storage that outlives machines.
        run_dir: The run on this machine's own disk.
    """
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in RECORDS:
        text = (packed / "run" / name).read_text(encoding="utf-8")
        write_file(run_dir / name, text.replace(BUNDLE, str(packed)))
    if (kept / JOB_FILE).exists() and read_token(kept) != read_token(run_dir):
        # An earlier submission's state: this one goes on from it, in its turn.
        (kept / "status.json").unlink(missing_ok=True)
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


class Kept:
    """The copy of a run in storage that outlives its machine."""

    def __init__(self, run_dir: Path, kept: Path) -> None:
        self._run_dir = run_dir
        self._kept = kept
        self._seen: dict[str, tuple[int, int]] = {}
        self._works = True
        kept.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run_dir / JOB_FILE, kept / JOB_FILE)

    def copy(self) -> bool:
        """Copy what is new; a checkpoint that is gone here goes there too, after its successor.

        Returns:
            False when the storage cannot be written: another call tries it again.
        """
        try:
            self._copy()
        except OSError as error:
            if self._works:
                why = error.strerror or type(error).__name__
                directory.note(self._run_dir, f"the storage cannot be written ({why})", "warning")
            self._works = False
            return False
        self._works = True
        return True

    def _copy(self) -> None:
        for folder in FOLDERS:
            for whole in _whole(self._run_dir / folder):
                self._copy_folder(whole, self._kept / folder / whole.name)
        for name in SMALL:
            if not (self._run_dir / name).exists():
                continue
            about = (self._run_dir / name).stat()
            stamp = (about.st_mtime_ns, about.st_size)
            if self._seen.get(name) != stamp:
                shutil.copyfile(self._run_dir / name, self._kept / name)
                self._seen[name] = stamp
        there = self._kept / "checkpoints"
        for old in list(there.iterdir()) if there.is_dir() else []:
            if not (self._run_dir / "checkpoints" / old.name).exists():
                shutil.rmtree(old, ignore_errors=True)

    def _copy_folder(self, whole: Path, there: Path) -> None:
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


def take_over(fetched: Path, run_dir: Path) -> None:
    """Put the fetched files of a run in their places here, with the paths of here.

    Events are added to those of here, which say what became of the job.
    """
    if read_token(fetched) != read_token(run_dir):
        return
    _add_events(fetched, run_dir)
    places = _places_there(fetched)
    for name in SMALL:
        if name == EVENTS:
            continue
        with contextlib.suppress(FileNotFoundError):
            # As bytes: what was cut off or damaged on the way is for its readers to find.
            data = (fetched / name).read_bytes()
            for place in places:
                data = data.replace(os.fsencode(place), os.fsencode(run_dir))
            write_file(run_dir / name, data)
    for whole in _whole(fetched / "artifacts"):
        final = run_dir / "artifacts" / whole.name
        if final.exists() or verify(whole):
            continue
        with new_folder(final) as staging:
            shutil.copytree(whole, staging, dirs_exist_ok=True)


def _add_events(fetched: Path, run_dir: Path) -> None:
    """Append the events that are not here yet; what happens there only grows."""
    known = set(directory.whole_lines(run_dir / EVENTS))
    for line in directory.whole_lines(fetched / EVENTS):
        if line not in known:
            append_line(run_dir / EVENTS, line.decode("utf-8", errors="replace"))


def _places_there(fetched: Path) -> set[str]:
    """Return the run's paths on the machines that trained it, out of those of its artifacts."""
    run_id = fetched.parent.name
    try:
        artifacts = json.loads((fetched / "status.json").read_bytes())["artifacts"]
        parts = [str(artifact["path"]).partition(f"/{run_id}/") for artifact in artifacts]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {f"{before}/{run_id}" for before, found, _ in parts if found}


def _whole(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if (path / MANIFEST).is_file()]


def _with_inputs(plan: dict[str, Any], inputs: Path) -> dict[str, Any]:
    """Copy the plan's files into the bundle, and name them there."""
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
        # Links are followed: a model of the Hub's cache is made of them.
        shutil.copytree(path, inputs / name)
    else:
        shutil.copyfile(path, inputs / name)
    return f"{BUNDLE}/inputs/{name}"
