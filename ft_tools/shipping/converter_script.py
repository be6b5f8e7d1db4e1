"""llama.cpp's own converter: found where the user has it, or fetched once into the cache.

Neither the gguf package nor the wheel of llama-cpp-python has it; the source distribution of
llama-cpp-python has llama.cpp in it, at the commit the installed library was built from. Of it only
the converter is kept, and never anything that was not asked for.
"""

import ast
import importlib.metadata
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ft_tools import workspace
from ft_tools.errors import BadData, MissingExtra, OutputExists
from ft_tools.publish import new_folder, verify
from ft_tools.shipping.findings import refusal

VARIABLE = "LLAMA_CPP_DIR"
SCRIPT = "convert_hf_to_gguf.py"
DISTRIBUTION = "llama-cpp-python"
INSIDE = ("vendor", "llama.cpp")
KEPT = ([SCRIPT], ["LICENSE"], ["conversion"], ["gguf-py"])
# Of 0.3.36: 76.6 MB are fetched, 2.1 MB are kept.
DOWNLOAD_BYTES = 80 * 2**20
PIP_SECONDS = 600


def version() -> str:
    """Return the version of the installed llama-cpp-python.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise MissingExtra("gguf", "llama_cpp") from None


def origin() -> str:
    """Return where the converter will come from, for a plan."""
    return VARIABLE if _named() else f"source distribution of {DISTRIBUTION} {version()}"


def is_here() -> bool:
    """Return whether the converter needs no fetching."""
    return bool(_named()) or (cached() / SCRIPT).is_file()


def cached() -> Path:
    """Return the folder of the cached converter."""
    return workspace.cache_dir() / "llama.cpp" / version()


def script() -> Path:
    """Return the converter, fetched if need be.

    Raises:
        NotFound: LLAMA_CPP_DIR has none.
        BadData: The cached copy was changed.
        Missing: It has to be fetched, and pip cannot.
    """
    if named := _named():
        if not (named / SCRIPT).is_file():
            raise refusal("no_converter", variable=VARIABLE, script=SCRIPT)
        return named / SCRIPT
    folder = cached()
    if not (folder / SCRIPT).is_file():
        fetch(folder)
    if wrong := verify(folder):
        raise BadData(folder, f"the converter was changed ({wrong[0]})", "delete that folder")
    return folder / SCRIPT


def why_not(config: Mapping[str, Any]) -> str:
    """Return why the converter does not carry a model, as far as that can be told before it runs.

    Returns:
        The reason; empty where it carries it, or is not on this machine yet.
    """
    known, classes = _architectures(_named() or cached()), config.get("architectures") or []
    if known and classes and known.isdisjoint(classes):
        return "it has no entry for its class"
    return ""


def fetch(folder: Path) -> None:
    """Fetch the source distribution and keep the converter.

    Raises:
        Missing: pip is not there, or cannot get it.
        BadData: The archive is not what it should be.
    """
    wanted, why = f"{DISTRIBUTION}=={version()}", "pip fetched no archive"
    with tempfile.TemporaryDirectory(prefix="fine-tuning-llm-") as where:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        argv += [DISTRIBUTION, "--disable-pip-version-check", "--dest", where, wanted]
        try:
            subprocess.run(argv, stdout=sys.stderr, timeout=PIP_SECONDS, check=True)
        except subprocess.SubprocessError as error:
            ended = getattr(error, "returncode", f"a timeout of {PIP_SECONDS} s")
            why = f"pip ended with {ended}"
        archives = sorted(Path(where).glob("*.tar.gz"))
        if not archives:
            raise refusal("converter_not_fetched", wanted=wanted, why=why, variable=VARIABLE)
        keep(archives[0], folder)


def keep(archive: Path, folder: Path) -> None:
    """Take the converter out of a source distribution: regular files below the wanted names.

    Raises:
        BadData: There is no converter in it.
    """
    try:
        with new_folder(folder) as staging, tarfile.open(archive, "r:gz") as bundle:
            for member in bundle:
                _, *parts = PurePosixPath(member.name).parts
                below = parts[len(INSIDE) :]
                is_wanted = tuple(parts[: len(INSIDE)]) == INSIDE and below[:1] in KEPT
                if is_wanted and member.isfile() and ".." not in below:
                    kept = member.replace(name="/".join(below), deep=False)
                    bundle.extract(kept, staging, filter="data")
            if not (staging / SCRIPT).is_file():
                raise BadData(archive.name, f"has no {SCRIPT}", f"set {VARIABLE}")
    except OutputExists:
        # Another run has just kept it.
        if not (folder / SCRIPT).is_file():
            raise


def _named() -> Path | None:
    """Return the user's own checkout of llama.cpp."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def _architectures(folder: Path) -> frozenset[str]:
    """Return the classes of text models that a converter has; none where it is not here."""
    try:
        tree = ast.parse((folder / "conversion" / "__init__.py").read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return frozenset()
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "TEXT_MODEL_MAP":
            return frozenset(ast.literal_eval(node.value) if node.value else ())
    return frozenset()
