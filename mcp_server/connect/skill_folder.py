"""The skill where a client looks for skills: `connect` puts it there, `disconnect` removes it.

The folder has SKILL.md, the references and a manifest of them. A folder that differs from its
manifest is somebody's own, and is left as it is.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Literal

from ft_tools.publish import MANIFEST, new_folder, verify
from mcp_server.skill_files import SKILL, skill_files

State = Literal["absent", "current", "older", "not_ours"]
SHARED = ".agents"
"""A folder that several clients read, and that may be there for skills alone."""


def state(folder: Path) -> State:
    """Return what is at the place of the skill."""
    if not folder.is_symlink() and not folder.exists():
        return "absent"
    if folder.is_symlink() or not folder.is_dir() or verify(folder):
        return "not_ours"
    found = {path: (folder / path).read_bytes() for path in _paths(folder)}
    known = skill_files()
    if found == known:
        return "current"
    # An older version may have had other references; a file of another kind is not ours.
    is_ours = all(path == SKILL or path.startswith("references/") for path in found)
    return "older" if is_ours and SKILL in found else "not_ours"


def place(folder: Path) -> None:
    """Write this version of the skill, in place of an older one.

    Raises:
        FineTuningError: It cannot be written.
    """
    with new_folder(folder) as staging:
        for path, content in skill_files().items():
            (staging / path).parent.mkdir(parents=True, exist_ok=True)
            (staging / path).write_bytes(content)
        if folder.exists():
            shutil.rmtree(folder)


def remove(folder: Path) -> None:
    """Remove the skill, and the folders that were there for it alone."""
    shutil.rmtree(folder)
    with suppress(OSError):
        folder.parent.rmdir()
        if folder.parent.parent.name == SHARED:
            folder.parent.parent.rmdir()


def _paths(folder: Path) -> list[str]:
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return [p.relative_to(folder).as_posix() for p in files if p != folder / MANIFEST]
