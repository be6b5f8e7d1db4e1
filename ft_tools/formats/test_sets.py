"""Which rows are test rows, by their content, and how often they were looked at.

A row is known by what it asks; where a test set asks the same again and again, by question and
answer. Only hashes are kept, in a hidden folder of the workspace: one file per test set, so that no
run trains on its rows, and a line per evaluation. Each evaluation that reports is a look: whoever
changes a model after each look and reports the best one has to widen its interval for all that the
looks told, which are k scores and k - 1 choices, so that each interval may miss 0.05 / (2 k - 1) of
the time (Bonferroni). With 0.05 / k the best of ten models, each made from the best before it, is
covered in 92 of 100 cases only.
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
from itertools import islice
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.formats.example import Example, content_of
from ft_tools.formats.formats import normalise
from ft_tools.publish import append_line, private_folder, write_file

HIDDEN = Path(".fine-tuning-llm")
FOLDER, LOOKS = HIDDEN / "test-rows", HIDDEN / "looks.jsonl"
PLAIN_NAME = re.compile(r"[\w.-]{1,60}(?:/[\w.-]{1,60})?")
TO_FORGET = f"delete its file in {FOLDER}, which names it, if it is no test set any more"
SEEN = 0.5
"""Part of the rows that an earlier evaluation has to have seen to count as a look at them."""
MOST_LOOKS = 10
"""Looks after which the report asks for fresh rows. Judgement: the 11th interval is 1.55 times as
wide as the first."""
LOOKED_AT, MOSTLY = 200, 0.5
"""Rows that tell whether a file is a test part, and the part of them that are test rows: a file
from which a test part was drawn has fewer. Judgement."""
Numbered = tuple[int, Any]
"""A row with its line."""
MAX_SAME = 3
"""Rows with one question above which the question says too little to know a row by."""


def keys_of(example: Example) -> tuple[int, int]:
    """Return hashes of what an example asks, and of that with its answer; blanks and case aside."""
    asked, answered = example.prompt_and_answer()
    question = " ".join(content_of(m) for m in asked if m["role"] != "system")
    answer = " ".join(map(content_of, answered))
    return (_hash(question) if question.strip() else 0), _hash(f"{question}\x1e{answer}")


def asked_by(rows: Iterable[Numbered]) -> frozenset[int]:
    """Return hashes of what rows ask, whatever their order and the names of their fields."""
    keys = (keys_of(normalise(line, row)) for line, row in rows)
    return frozenset(question or both for question, both in keys)


def remember(file: Path, keys: Iterable[tuple[int, int]]) -> int:
    """Write down the rows of a test set; return how many different ones there are."""
    root = workspace.roots()[0]
    rows = list(keys)
    asked = Counter(question for question, _ in rows)
    known = sorted(
        {question if question and asked[question] <= MAX_SAME else both for question, both in rows}
    )
    digest = hashlib.blake2b(array("Q", known).tobytes(), digest_size=8).hexdigest()
    own = root / FOLDER / f"{digest}.json"
    own.parent.mkdir(parents=True, exist_ok=True)
    place = str(file.relative_to(root) if file.is_relative_to(root) else file)
    # The same rows prepared again under another mapping are the same test set in another file.
    places = list(dict.fromkeys([*_read(own).get("paths", []), place]))
    entry: dict[str, Any] = {
        "name": "/".join(Path(places[0]).parts[-2:]),
        "paths": places,
        "num_rows": len(known),
        "hashes": _packed(known),
    }
    if places != _read(own).get("paths"):
        write_file(own, json.dumps(entry))
    for other in own.parent.glob("*.json"):
        entry = _read(other)
        if other == own or place not in entry.get("paths", []):
            continue
        # The file held these rows before.
        if left := [one for one in entry["paths"] if one != place]:
            write_file(other, json.dumps(entry | {"paths": left}))
        else:
            other.unlink(missing_ok=True)
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
    name = _read(workspace.roots()[0] / FOLDER / file).get("name")
    return name if isinstance(name, str) and PLAIN_NAME.fullmatch(name) else "a test set"


def _read(entry: Path) -> dict[str, Any]:
    """Return a remembered test set; empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return _parsed(entry, entry.stat().st_mtime_ns)
    return {}


@lru_cache(maxsize=1_000)
def _parsed(entry: Path, changed_ns: int) -> dict[str, Any]:
    """Parse the file of a test set; `changed_ns` has it read again."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(entry.read_text("utf-8"))
        if isinstance(found, dict) and isinstance(found.get("paths"), list):
            return found
    return {}


def known_test_rows(*, with_gone: bool = False) -> TestRows:
    """Return what the workspace remembers; files that cannot be read are left out."""
    root = workspace.roots()[0]
    known: dict[int, str] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        entry = _read(path)
        if with_gone or any((root / str(place)).exists() for place in entry.get("paths", [])):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                known |= dict.fromkeys(_unpacked(entry["hashes"]), path.name)
    known.pop(0, None)
    return TestRows(known)


def are_test_rows(rows: Iterable[Numbered]) -> bool:
    """Return whether most of the first rows are of a test set of the workspace."""
    known = known_test_rows(with_gone=True)
    first = islice(rows, LOOKED_AT) if known else ()
    found = [normalise(line, row) in known for line, row in first]
    return bool(found) and sum(found) > MOSTLY * len(found)


def earlier_looks(asked: frozenset[int], run_id: str = "") -> int:
    """Return how many evaluations of the workspace saw at least half of these rows."""
    path, seen = workspace.roots()[0] / LOOKS, set[str]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        # A torn line is of a process that was killed.
        with contextlib.suppress(ValueError, LookupError, TypeError):
            look = json.loads(line)
            shared = asked.intersection(_unpacked(look["asked"]))
            if look["run"] != run_id and len(shared) >= SEEN * len(asked):
                seen.add(look["run"])
    return len(seen)


def remember_look(asked: frozenset[int], run_id: str) -> None:
    """Write down that an evaluation reported on these rows."""
    path = workspace.roots()[0] / LOOKS
    private_folder(path.parent)
    append_line(path, json.dumps({"run": run_id, "asked": _packed(sorted(asked))}))


def _packed(hashes: list[int]) -> str:
    return b64encode(array("Q", hashes).tobytes()).decode()


def _unpacked(text: str) -> "array[int]":
    packed = b64decode(text)
    return array("Q", packed[: len(packed) // 8 * 8])


def _hash(text: str) -> int:
    plain = " ".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(plain, digest_size=8).digest(), "little") or 1
