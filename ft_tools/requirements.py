"""What this package and its extras require, as it declares it."""

import importlib.metadata
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ft_tools import installation


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
        file = Path(__file__).parents[1] / "pyproject.toml"
        project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
        extras = project["optional-dependencies"].items()
        return [
            *project["dependencies"],
            *(f"{text} ; extra == '{extra}'" for extra, texts in extras for text in texts),
        ]
