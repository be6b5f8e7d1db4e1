"""The search by meaning keeps what the plain definition keeps, with the real MiniLM."""

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from ft_tools.data.audit import Methods, perform
from ft_tools.data.request import AuditRequest
from ft_tools.data.worker import search_by_meaning
from ft_tools.data.worker.minilm import MiniLM
from ft_tools.data.worker.search_by_meaning import Semantic, semantic
from ft_tools.similarity.minilm import find_minilm
from tests.unit.test_data_neighbours import plain_loop

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


def rows():
    """Return pairs of which some are the same, some near, some near in one field only."""
    return [
        (ask.format(thing), answer.format(thing))
        for ask in ASKED
        for answer in ANSWERED
        for thing in THINGS
    ]


@pytest.fixture(scope="module")
def plain():
    model = SentenceTransformer(str(find_minilm()), device="cpu")

    def encode(texts):
        return model.encode(list(texts), batch_size=256, normalize_embeddings=True)

    return encode


@pytest.fixture(scope="module")
def expected(plain):
    """Give what the plain loop finds in `rows`, and the vectors of both fields."""
    fields = [plain(texts) for texts in zip(*rows(), strict=True)]
    return plain_loop(fields, 0.95), fields


def test_vectors_are_those_of_the_library(plain):
    texts = ["", "A word", "many words " * 300, "Grüße aus 東京", "  spaces  and\nlines ", *THINGS]
    model = semantic(find_minilm(), lambda _: None, lambda *_: None).model
    store, numbers = model.store(texts)
    vectors = model.encode(store, np.arange(len(store)), exactly=True)[numbers]
    assert np.abs(vectors - plain(texts)).max() < 1e-5


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_kept_examples_are_those_of_the_plain_loop(workspace, expected, mode):
    made = rows()
    lines = (json.dumps({"prompt": ask, "completion": answer}) + "\n" for ask, answer in made)
    (workspace / "data.jsonl").write_text("".join(lines), encoding="utf-8")
    kept, fields = expected
    found_by = semantic(find_minilm(), lambda _: None, lambda *_: None)
    found = {}

    def find(scanned, request):
        near = found_by.find(scanned, request)
        found.update({row: twin for row, (twin, _) in scanned.ledger.original.items()})
        return near

    perform(
        AuditRequest(path="data.jsonl", semantic_mode=mode),
        Methods(find_near=find, with_pairs=False),
    )
    assert set(found) == set(kept)
    assert 20 < len(found) < len(made) - 20
    close = [min(float(f[row] @ f[twin]) for f in fields) for row, twin in found.items()]
    assert min(close) > 0.95


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


@pytest.mark.parametrize(
    ("off", "said"), [(0.02, "within 0.004"), (0.045, "within 0.008"), (0.07, "")]
)
def test_vectors_that_are_off_by_more_make_more_exact_and_remove_the_same(
    workspace, expected, off, said
):
    made = rows()
    lines = (json.dumps({"prompt": ask, "completion": answer}) + "\n" for ask, answer in made)
    (workspace / "data.jsonl").write_text("".join(lines), encoding="utf-8")
    found_by = Semantic(Blurred(off), lambda _: None, lambda *_: None)
    found = {}

    def find(scanned, request):
        near = found_by.find(scanned, request)
        found.update(scanned.ledger.original)
        return near

    report = perform(
        AuditRequest(path="data.jsonl", semantic_mode="exact"),
        Methods(find_near=find, with_pairs=False),
    )
    assert set(found) == set(expected[0])
    notes = [note for note in report.assumptions if "bfloat16" in note]
    assert [said in note for note in notes] == ([True] if said else []), notes


@pytest.mark.parametrize("gated", [False, True])
def test_no_validation_prompt_is_near_a_training_prompt(workspace, plain, monkeypatch, gated):
    # Answers are shorter, so the search encodes them all, and the prompts of near ones only.
    made = [
        (f"{ask} Take your time, and be precise.", f"{at}") for at, (ask, _) in enumerate(rows())
    ]
    lines = (json.dumps({"prompt": ask, "completion": answer}) + "\n" for ask, answer in made)
    (workspace / "data.jsonl").write_text("".join(lines), encoding="utf-8")
    monkeypatch.setattr(search_by_meaning, "FITTED_ROWS", 10 if gated else 2000)
    found_by = semantic(find_minilm(), lambda _: None, lambda *_: None)
    request = AuditRequest(
        path="data.jsonl", semantic_mode="exact", output_dir="out", validation_fraction=0.3
    )
    perform(request, Methods(find_near=found_by.find, with_pairs=False))
    sides = [
        [json.loads(line)["messages"][0]["content"] for line in file.read_text().splitlines()]
        for file in (workspace / "out" / "train.jsonl", workspace / "out" / "validation.jsonl")
    ]
    assert min(map(len, sides)) >= 20
    train, validation = map(plain, sides)
    assert (train @ validation.T).max() < 0.95


PREFERRED = ("It has four strings.", "It is made of wood and has four strings that are bowed.")
LIKED = "A violin has four strings and is played with a bow."


def removed_by_meaning(workspace, rows, validation=()):
    """Return the lines that go as near-duplicates or leaks, and what is said of the search."""
    for name, part in (("data", rows), ("validation", validation)):
        lines = (json.dumps(row) + "\n" for row in part)
        (workspace / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    found_by = semantic(find_minilm(), lambda _: None, lambda *_: None)
    request = AuditRequest(
        path="data.jsonl",
        semantic_mode="exact",
        response_format="detailed",
        validation_path="validation.jsonl" if validation else None,
    )
    report = perform(request, Methods(find_near=found_by.find, with_pairs=False))
    found = {finding.id: finding.lines for finding in report.findings}
    lines = [found.get(name, []) for name in ("near_duplicate", "validation_leak")]
    return lines, " ".join(report.assumptions)


def pair(rejected, prompt="How many strings has a violin?"):
    return {"prompt": prompt, "chosen": LIKED, "rejected": rejected}


def test_pairs_are_near_only_with_near_rejected_answers_and_leak_with_any(workspace):
    one, other = "Nobody knows that, I am sorry.", "Trumpets have three valves."
    near = "How many strings has a violin got?"
    rows = [pair(one), pair(other, near), pair("Nobody knows that, I'm sorry.", near)]
    assert removed_by_meaning(workspace, rows)[0] == [[3], []]
    assert removed_by_meaning(workspace, rows[1:], [pair(one)])[0] == [[], [1, 2]]


def test_marked_answers_are_near_only_with_the_same_mark_and_leak_with_any(workspace):
    asked = ("How many strings has a violin?", "How many strings has a violin got?")
    rows = [
        {"prompt": asked[at > 0], "completion": LIKED, "label": label}
        for at, label in enumerate((True, False, True))
    ]
    assert removed_by_meaning(workspace, rows)[0] == [[3], []]
    assert removed_by_meaning(workspace, rows[1:], rows[:1])[0] == [[], [1, 2]]


def test_what_begins_alike_behind_what_minilm_reads_is_compared_by_its_words(workspace):
    begins = " ".join(
        f"The {thing} is listed under number {at}." for at in range(8) for thing in THINGS
    )
    numbers = np.random.default_rng(0)
    ends = [" ".join(map(str, numbers.integers(1000, 9999, 400))) for _ in range(2)]
    rows = [
        {"prompt": f"{begins} {end}", "completion": "It is the violin."}
        for end in (ends[0], ends[1], f"{ends[0]} Thanks.")
    ]
    lines, said = removed_by_meaning(workspace, rows)
    assert lines == [[3], []]
    assert "3 texts are longer than the 256 tokens" in said
    assert "1 examples begin as others do, and stay" in said
    short = [row | {"prompt": row["prompt"][-20:]} for row in rows]
    assert "256 tokens" not in removed_by_meaning(workspace, short)[1]


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_a_paraphrase_is_found_wherever_in_a_conversation_and_stays_in_validation(workspace, mode):
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
    for name, part in (("data", rows), ("validation", validation)):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (workspace / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (workspace / "b.jsonl").write_text('{"question": "A violin has how many strings?"}\n')
    found_by = semantic(find_minilm(), lambda _: None, lambda *_: None)
    request = AuditRequest(
        path="data.jsonl",
        semantic_mode=mode,
        validation_path="validation.jsonl",
        benchmark_paths=["b.jsonl"],
    )
    report = perform(request, Methods(find_near=found_by.find, with_pairs=False))
    found = {f.in_validation: (f.lines, f.removed) for f in report.findings if "bench" in f.id}
    assert found == {None: ([1, 2], True), True: ([1], False)}


def test_a_program_in_another_language_and_a_question_without_its_passage_are_found(workspace):
    passage = "The keeper of the harbour wrote down what every winter did to its walls. " * 4
    task = (
        'def long_words(sentence, least):\n    """ Return the words of a sentence that have at '
        "least a given number of letters.\n    >>> long_words('the harbour wall', 5)\n    "
        '[\'harbour\']\n    """\n'
    )
    solution = "    return [word for word in sentence.split() if len(word) >= least]\n"
    benchmarks = [
        {"prompt": task, "entry_point": "long_words", "canonical_solution": solution},
        {"question": f"{passage}\nWhich storm destroyed the northern wall?", "choices": ["a", "b"]},
    ]
    script = (
        "```javascript\n/* Gives back those words in a sentence whose number of letters is not "
        "below a given one.\n   example: filterWords('the harbour wall', 5) is ['harbour'] */\n"
        "function filterWords(text, minimum) {\n  const kept = [];\n  for (const word of "
        "text.split(' ')) {\n    if (word.length >= minimum) kept.push(word);\n  }\n"
        "  return kept;\n}\n```"
    )
    other = "```javascript\n// Draws a red circle on the page\nfunction draw(p) {\n  p.c();\n}\n```"
    rows = [
        {"prompt": "Help me in JavaScript.", "completion": script},
        {"prompt": "What storm was it that broke the northern wall?", "completion": "The first."},
        {"prompt": "Draw something.", "completion": other},
        {"prompt": "What does the keeper write?", "completion": "A book."},
    ]
    for name, part in (("b", benchmarks), ("data", rows)):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (workspace / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    found_by = semantic(find_minilm(), lambda _: None, lambda *_: None)
    request = AuditRequest(path="data.jsonl", benchmark_paths=["b.jsonl"])
    report = perform(request, Methods(find_near=found_by.find, with_pairs=False))
    assert {f.id: f.lines for f in report.findings}["benchmark_semantic"] == [1, 2]
    assert "1 a question without its passage or choices, 1 a program" in " ".join(
        report.assumptions
    )


def test_a_program_for_a_task_that_many_have_is_no_copy_of_the_question_that_asks_for_it(workspace):
    task = (
        'def count_vowels(text):\n    """ Return how many vowels a text has.\n'
        '    >>> count_vowels(\'harbour\')\n    3\n    """\n'
    )
    solution = "    return sum(letter in 'aeiou' for letter in text)\n"
    benchmark = {"prompt": task, "entry_point": "count_vowels", "canonical_solution": solution}
    answer = (
        "def count_vowels(string):\n    vowels = 'aeiouAEIOU'\n    count = 0\n"
        "    for char in string:\n        if char in vowels:\n            count += 1\n"
        "    return count\n\nprint(count_vowels('hello'))"
    )
    rows = [{"prompt": "Help me in Python.", "completion": answer}]
    rows.append({"prompt": "What does the keeper write?", "completion": "A book."})
    for name, part in (("b", [benchmark]), ("data", rows)):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (workspace / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    found_by = semantic(find_minilm(), lambda _: None, lambda *_: None)
    request = AuditRequest(path="data.jsonl", benchmark_paths=["b.jsonl"])
    report = perform(request, Methods(find_near=found_by.find, with_pairs=False))
    assert not [f for f in report.findings if f.id == "benchmark_semantic"]
