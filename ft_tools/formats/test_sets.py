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

TRAINING_PART = "train.jsonl"
READ_BYTES = 2**20
"""Of two training files, in which equal rows are looked for."""
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
    digest = hashlib.blake2b(array("Q", known).tobytes(), digest_size=8).hexdigest()
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
        "hashes": _packed(known),
    }
    if places != _places_in(path):
        write_file(path, json.dumps(entry))
    _forget_others(path, str(place))
    return len(known)


def _forget_others(entry: Path, place: str) -> None:
    """Take a file out of the other test sets that it held before."""
    for other in entry.parent.glob("*.json"):
        places = _places_in(other)
        if other == entry or place not in places:
            continue
        left = [one for one in places if one != place]
        if left:
            write_file(other, json.dumps(json.loads(other.read_text("utf-8")) | {"paths": left}))
        else:
            other.unlink(missing_ok=True)


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
        return list(map(str, json.loads(entry.read_text("utf-8"))["paths"]))
    return []


def known_test_rows(*, with_gone: bool = False) -> TestRows:
    """Return what the workspace remembers; files that cannot be read are left out.

    Args:
        with_gone: Whether to count test sets whose files are all gone, or were moved.
    """
    root = workspace.roots()[0]
    folder = root / FOLDER
    if not folder.is_dir():
        return TestRows({})
    stamped = [(str(path), path.stat().st_mtime_ns) for path in sorted(folder.glob("*.json"))]
    return _loaded(
        tuple(
            one for one in stamped if with_gone or any((root / at).exists() for at in _places(*one))
        )
    )


@lru_cache(maxsize=1_000)
def _places(entry: str, changed_ns: int) -> list[str]:
    """Return where a test set is; `changed_ns` has it read again."""
    return _places_in(Path(entry))


@lru_cache(maxsize=2)
def _loaded(files: tuple[tuple[str, int], ...]) -> TestRows:
    known: dict[int, str] = {}
    for path, _ in files:
        try:
            hashes = json.loads(Path(path).read_text(encoding="utf-8"))["hashes"]
            known |= dict.fromkeys(_unpacked(hashes), Path(path).name)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    known.pop(0, None)
    return TestRows(known)


def are_test_rows(rows: Iterable[Numbered]) -> bool:
    """Return whether most of the first rows are of a test set of the workspace."""
    known = known_test_rows(with_gone=True)
    first = islice(rows, LOOKED_AT) if known else ()
    found = [normalise(line, row) in known for line, row in first]
    return bool(found) and sum(found) > MOSTLY * len(found)


def earlier_looks(asked: frozenset[int], run_id: str = "") -> int:
    """Return how many evaluations of the workspace saw at least half of these rows.

    Args:
        asked: Of `asked_by`.
        run_id: The evaluation that asks, which is no look before itself.
    """
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
