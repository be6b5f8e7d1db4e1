"""The search by meaning keeps what the plain definition keeps, with the real MiniLM."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.request import AuditRequest
from ft_tools.data.worker.near_by_meaning import ByMeaning
from ft_tools.similarity.minilm import find_minilm
from ft_tools.similarity.worker.minilm import MiniLM

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.skipif(find_minilm() is None, reason="all-MiniLM-L6-v2 is not on this machine"),
]

THINGS = ("violin", "comet", "glacier", "bakery", "lighthouse", "tractor", "volcano", "library")
ASKED = (
    "What is a {}?",
    "what is a {}",
    "What is a {}, please?",
    "Please explain to me what a {} is and where I find one.",
    "How old can a {} get before it has to be replaced?",
)
ANSWERED = (
    "A {} is something that many people know from their childhood.",
    "A {} is something which many people know from their childhood.",
    "That depends on the {}, on the weather, and on who looks after it every day of the year.",
)
# Some pairs are the same, some near, some near in one part only.
PAIRS = [
    (ask.format(thing), answer.format(thing))
    for ask in ASKED
    for answer in ANSWERED
    for thing in THINGS
]
LIKED = "A violin has four strings and is played with a bow."


@pytest.fixture(scope="module")
def search():
    return ByMeaning(find_minilm(), lambda _: None, lambda *_: None)


@pytest.fixture(scope="module")
def plain():
    model = SentenceTransformer(str(find_minilm()), device="cpu")
    return lambda texts: model.encode(list(texts), normalize_embeddings=True)


@pytest.fixture(scope="module")
def expected(plain):
    """Return what comparing row by row removes: a row near an earlier one that stays."""
    asked, answered = (vectors @ vectors.T for vectors in map(plain, zip(*PAIRS, strict=True)))
    near, kept = np.minimum(asked, answered) > 0.95, []
    for row in range(len(PAIRS)):
        if not near[row, kept].any():
            kept.append(row)
    return set(range(len(PAIRS))) - set(kept), near


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def audit(workspace, search, rows, validation=(), benchmark=()):
    """Return the report, and the row that stays for each one that goes."""
    named = {"path": rows, "validation_path": validation, "benchmark_paths": benchmark}
    for name, part in named.items():
        write(workspace / f"{name}.jsonl", part)
    found = {}

    def find(scanned, request):
        near = search.find(scanned, request)
        found.update({row: twin for row, (twin, _) in scanned.ledger.original.items()})
        return near

    request = AuditRequest(
        path="path.jsonl",
        validation_path="validation_path.jsonl" if validation else None,
        benchmark_paths=["benchmark_paths.jsonl"] if benchmark else [],
        response_format="detailed",
    )
    return perform(request, Methods(find_near=find)), found


def lines(report, *names):
    found = {(f.id, f.in_validation): f.rows for f in report.findings}
    return [found.get((name, None), []) for name in names]


def test_vectors_are_those_of_the_library(plain, search):
    texts = ["", "A word", "many words " * 300, "Grüße aus 東京", "  spaces  and\nlines ", *THINGS]
    store, numbers = search.model.store(texts)
    vectors = search.model.encode(store, np.arange(len(store)), exactly=True)[numbers]
    assert np.abs(vectors - plain(texts)).max() < 1e-5


class Blurred(MiniLM):
    """MiniLM whose quick vectors are off by a vector of this length, as another processor's may."""

    def __init__(self, off):
        super().__init__(find_minilm(), lambda *_: None)
        self._quick, self._off = self.network, off

    def encode(self, store, numbers, *, exactly=False):
        vectors = super().encode(store, numbers, exactly=exactly)
        if exactly or not self.margin:
            return vectors
        noise = np.random.default_rng(0).normal(size=(len(store), vectors.shape[1]))[numbers]
        noise *= self._off / np.linalg.norm(noise, axis=1, keepdims=True)
        vectors = (vectors + noise).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("off", [None, 0.02, 0.07])
def test_what_goes_is_what_goes_row_by_row_however_far_quick_vectors_are_off(
    workspace, expected, off
):
    search = ByMeaning(find_minilm(), lambda _: None, lambda *_: None)
    if off is not None:
        search.model = Blurred(off)
    rows = [{"prompt": ask, "completion": answer} for ask, answer in PAIRS]
    _, found = audit(workspace, search, rows)
    gone, near = expected
    assert set(found) == gone
    assert 20 < len(gone) < len(PAIRS) - 20
    assert all(near[row, twin] for row, twin in found.items())


def pair(rejected, prompt="How many strings has a violin?"):
    return {"prompt": prompt, "chosen": LIKED, "rejected": rejected}


NEAR = "How many strings has a violin got?"
BY_PAIRS = [
    pair("Nobody knows that, I am sorry."),
    pair("Trumpets have three valves.", NEAR),
    pair("Nobody knows that, I'm sorry.", NEAR),
]
BY_MARKS = [
    {"prompt": NEAR if at else BY_PAIRS[0]["prompt"], "completion": LIKED, "label": label}
    for at, label in enumerate((True, False, True))
]


@pytest.mark.parametrize("rows", [BY_PAIRS, BY_MARKS])
def test_pairs_and_marks_are_near_only_with_the_same_other_side_and_leak_with_any(
    workspace, search, rows
):
    names = "near_duplicate", "validation_leak"
    assert lines(audit(workspace, search, rows)[0], *names) == [[3], []]
    assert lines(audit(workspace, search, rows[1:], rows[:1])[0], *names) == [[], [1, 2]]


def test_what_differs_behind_what_minilm_reads_stays(workspace, search):
    begins = " ".join(
        f"The {thing} is listed under number {at}." for at in range(8) for thing in THINGS
    )
    numbers = np.random.default_rng(0)
    ends = [" ".join(map(str, numbers.integers(1000, 9999, 400))) for _ in range(2)]
    rows = [
        {"prompt": f"{begins} {end}", "completion": "It is the violin."}
        for end in (ends[0], ends[1], f"{ends[0]} Thanks.")
    ]
    report, found = audit(workspace, search, rows)
    assert found == {2: 0}
    assert any("3 texts are longer than the 256 tokens" in one for one in report.assumptions)


def test_a_paraphrase_is_found_wherever_it_is_said_and_stays_in_validation(workspace, search):
    """The whole conversation is not near the question; one turn of it is."""
    asked = "How many strings has a violin got?"
    other = ("Where can I park my tractor in winter?", "In a barn, if there is one near the farm.")
    talks = [(asked, LIKED, *other), (*other, asked, LIKED), other]
    rows = [
        {"messages": [{"role": ("user", "assistant")[at % 2], "content": text}
                      for at, text in enumerate(talk)]}
        for talk in talks
    ]  # fmt: skip
    validation = [{"prompt": "How many strings does a violin have?", "completion": "Four."}]
    benchmark = [{"question": "A violin has how many strings?"}]
    report, _ = audit(workspace, search, rows, validation, benchmark)
    found = {f.in_validation: (f.rows, f.removed) for f in report.findings if "bench" in f.id}
    assert found == {None: ([1, 2], True), True: ([1], False)}
