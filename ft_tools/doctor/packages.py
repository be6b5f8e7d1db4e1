"""Whether the packages of each extra are installed in versions that work together."""

import importlib.metadata
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ft_tools import installation
from ft_tools.doctor.report import Check, Purpose

EXTRAS: tuple[Purpose, ...] = ("data", "train", "eval", "gguf")


def checks() -> Iterator[Check]:
    """Yield a check for the core and for each extra."""
    yield _check("core packages", "", "advice")
    for extra in EXTRAS:
        yield _check(f"extra {extra}", extra, extra)


def _check(name: str, extra: str, purpose: Purpose) -> Check:
    missing, wrong, found = [], [], []
    for requirement in sorted(requirements(extra), key=lambda each: each.name):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    if not missing and not wrong:
        return Check(name=name, state="ok", found=", ".join(found), needed_for=[purpose])
    said = [f"not installed: {', '.join(missing)}"] if missing else []
    said += [f"wrong version: {', '.join(wrong)}"] if wrong else []
    return Check(
        name=name,
        state="broken" if wrong else "missing",
        found="; ".join(said),
        fix=installation.add_extras(*filter(None, [extra])),
        needed_for=[purpose],
    )


def requirements(extra: str) -> list[Requirement]:
    """Return what an extra needs beyond the core; of "" what the core needs."""
    found: list[Requirement] = []
    for text in _declared():
        requirement = Requirement(text)
        marker = requirement.marker
        alone = marker is None or marker.evaluate({"extra": ""})
        if not (alone if not extra else not alone and marker and marker.evaluate({"extra": extra})):
            continue
        if canonicalize_name(requirement.name) == installation.NAME:
            for other in sorted(requirement.extras):
                found += requirements(other)
        else:
            found.append(requirement)
    return found


def _declared() -> list[str]:
    """Return the requirements as installed metadata has them; without any, those of the folder."""
    try:
        return importlib.metadata.requires(installation.NAME) or []
    except importlib.metadata.PackageNotFoundError:
        file = Path(__file__).parents[2] / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"].items()
        return [
            *project["dependencies"],
            *(f"{text} ; extra == '{extra}'" for extra, texts in extras for text in texts),
        ]
