"""Remember the rows of test sets by their content, so that no run of the workspace trains on them.

A row is known by what it asks; where a test set asks the same again and again, by question and
answer. Only hashes are kept, in a hidden folder of the workspace, one file per test set.
"""

import contextlib
import hashlib
import json
import re
from array import array
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ft_tools import workspace
from ft_tools.formats.example import Example, content_of
from ft_tools.publish import write_file

TRAINING_PART = "train.jsonl"
READ_BYTES = 2**20
"""Of two training files, in which equal rows are looked for."""
FOLDER = Path(".fine-tuning-llm") / "test-rows"
PLAIN_NAME = re.compile(r"[\w.-]{1,60}(?:/[\w.-]{1,60})?")
TO_FORGET = f"delete its file in {FOLDER}, which names it, if it is no test set any more"
MAX_SAME = 3
"""Rows with one question above which the question says too little to know a row by."""


def keys_of(example: Example) -> tuple[int, int]:
    """Return hashes of what an example asks, and of that with its answer; blanks and case aside."""
    asked, answered = example.prompt_and_answer()
    question = " ".join(content_of(m) for m in asked if m["role"] != "system")
    answer = " ".join(map(content_of, answered))
    return (_hash(question) if question.strip() else 0), _hash(f"{question}\x1e{answer}")


def remember(file: Path, keys: Iterable[tuple[int, int]]) -> int:
    """Write down the rows of a test set; return how many different ones there are.

    Args:
        file: The test set, below the workspace.
        keys: Of each row.
    """
    root = workspace.roots()[0]
    rows = list(keys)
    asked = Counter(question for question, _ in rows)
    known = sorted(
        {question if question and asked[question] <= MAX_SAME else both for question, both in rows}
    )
    packed = array("Q", known).tobytes()
    digest = hashlib.blake2b(packed, digest_size=8).hexdigest()
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{digest}.json"
    place = file.relative_to(root) if file.is_relative_to(root) else file
    # The same rows prepared again under another mapping are the same test set in another file.
    places = list(dict.fromkeys([*_places_in(path), str(place)]))
    entry = {
        "name": "/".join(Path(places[0]).parts[-2:]),
        "paths": places,
        "num_rows": len(known),
        "hashes": b64encode(packed).decode(),
    }
    if places != _places_in(path):
        write_file(path, json.dumps(entry))
    return len(known)


class TestRows:
    """The rows of every test set of the workspace."""

    __test__ = False

    def __init__(self, known: Mapping[int, str]) -> None:
        self._known = known

    def __bool__(self) -> bool:
        return bool(self._known)

    def __contains__(self, example: Example) -> bool:
        return self.set_of(example) is not None

    def set_of(self, example: Example) -> str | None:
        """Return the name of the file that remembers an example's test set; None if none does."""
        if not self._known:
            return None
        return next((self._known[key] for key in keys_of(example) if key in self._known), None)


def name_of(file: str) -> str:
    """Return what a remembered test set is called, if that is a plain name."""
    try:
        name = json.loads((workspace.roots()[0] / FOLDER / file).read_text("utf-8"))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return "a test set"
    return name if isinstance(name, str) and PLAIN_NAME.fullmatch(name) else "a test set"


def remembered_for(training: Path) -> Path | None:
    """Return a remembered test set that was set aside from the rows of a training file.

    The training part of the same preparation lies beside it; an audit keeps rows as they are.
    """
    root = workspace.roots()[0]
    with contextlib.suppress(OSError):
        rows = _first_rows(training)
        for entry in sorted((root / FOLDER).glob("*.json")):
            for path in (root / place for place in _places_in(entry)):
                beside = path.with_name(TRAINING_PART)
                if path.is_file() and beside.is_file() and rows & _first_rows(beside):
                    return path
    return None


def _first_rows(path: Path) -> set[bytes]:
    with path.open("rb") as stream:
        return {row for row in stream.read(READ_BYTES).splitlines() if row}


def _places_in(entry: Path) -> list[str]:
    """Return where a remembered test set is, in the workspace; empty where nothing says so."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # Before there were paths there was a name, which often is one.
        known = json.loads(entry.read_text("utf-8"))
        return [str(place) for place in known.get("paths") or [known["name"]]]
    return []


def known_test_rows() -> TestRows:
    """Return what the workspace remembers; files that cannot be read are left out."""
    folder = workspace.roots()[0] / FOLDER
    if not folder.is_dir():
        return TestRows({})
    files = sorted(folder.glob("*.json"))
    return _loaded(tuple((str(path), path.stat().st_mtime_ns) for path in files))


@lru_cache(maxsize=2)
def _loaded(files: tuple[tuple[str, int], ...]) -> TestRows:
    known: dict[int, str] = {}
    for path, _ in files:
        try:
            packed = b64decode(json.loads(Path(path).read_text(encoding="utf-8"))["hashes"])
            known |= dict.fromkeys(array("Q", packed[: len(packed) // 8 * 8]), Path(path).name)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    known.pop(0, None)
    return TestRows(known)


def _hash(text: str) -> int:
    plain = " ".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little") or 1
