"""Whether the packages of each extra are installed in versions that work together."""

import importlib.metadata
from collections.abc import Iterator

from ft_tools import installation
from ft_tools.doctor.report import Check, Purpose
from ft_tools.requirements import requirements

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
