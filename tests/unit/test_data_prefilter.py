"""The gate lets every pair through that reaches it, and draws fairly from those that fail."""

import numpy as np

from ft_tools.data.repeats import prefilter
from ft_tools.data.repeats.prefilter import (
    Drawn,
    Prefilter,
    Sample,
    has_neighbour,
    linked,
)
from tests.unit.test_data_neighbours import clustered


def plain_nearest(rows, centres, count):
    scores = rows @ centres.T
    top = np.argpartition(scores, -count, axis=1)[:, -count:]
    order = np.argsort(np.take_along_axis(scores, top, axis=1), axis=1)[:, ::-1]
    return np.take_along_axis(top, order, axis=1)


def scores_of(vectors):
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -1)
    return scores


def marked(rows, gate):
    """Return which rows have a neighbour; every row has a label of its own."""
    found, unlike = has_neighbour(rows, gate, np.arange(len(rows)))
    assert (found == unlike).all()
    return found


def sampling(lowest, size):
    return Sample(lowest, Drawn(size), Drawn(size))


def test_the_gate_marks_every_row_with_a_neighbour_and_no_other(monkeypatch):
    monkeypatch.setattr(prefilter, "BLOCK_ROWS", 64)
    monkeypatch.setattr(prefilter, "COLUMNS", 100)
    rows = clustered(3, count=300)
    expected = scores_of(rows).max(axis=1) >= 0.9
    assert 10 < expected.sum() < 300
    assert (marked(rows, Prefilter(0.9)) == expected).all()
    assert (marked(rows, Prefilter(0.9, sample=sampling(0.8, 5))) == expected).all()


def test_a_pair_also_has_to_pass_the_second_test_and_labels_tell_who_is_unlike(monkeypatch):
    monkeypatch.setattr(prefilter, "BLOCK_ROWS", 64)
    monkeypatch.setattr(prefilter, "COLUMNS", 100)
    monkeypatch.setattr(prefilter, "DENSE", 1.0)
    rows, labels = clustered(3, count=300), np.arange(300) % 3
    pairs = scores_of(rows) >= 0.9
    pairs &= (np.arange(300)[:, None] + np.arange(300)) % 2 == 0
    sample = sampling(0.8, 5)
    found, unlike = has_neighbour(
        rows, Prefilter(0.9, agrees=lambda a, b, _: (a + b) % 2 == 0, sample=sample), labels
    )
    assert (found == pairs.any(axis=1)).all()
    assert (unlike == (pairs & (labels[:, None] != labels)).any(axis=1)).all()
    assert 10 < unlike.sum() < found.sum() < 300
    assert sample.passed.num_pairs == np.triu(pairs).sum()
    near = np.triu(scores_of(rows) >= 0.8)
    assert sample.failed.num_pairs == (near & ~pairs).sum()


def test_the_inverted_file_misses_few_and_invents_none(monkeypatch):
    rows = clustered(4, count=2000, size=32)
    exact = marked(rows, Prefilter(0.9))
    monkeypatch.setattr(prefilter, "CELL_ROWS", 100)
    sample = sampling(0.8, 5)
    found = marked(rows, Prefilter(0.9, sample=sample, nearest=plain_nearest))
    assert not (found & ~exact).any()
    assert found.sum() >= 0.99 * exact.sum()
    assert (marked(rows, Prefilter(0.9)) == exact).all(), "no index where it was not asked for"
    assert exact.sum() > 100
    assert 0.99 <= sample.index_recall <= 1


def test_the_index_asks_as_many_cells_as_it_needs_and_says_what_it_misses(monkeypatch):
    rows = clustered(4, count=2000, size=32)
    monkeypatch.setattr(prefilter, "CELL_ROWS", 100)
    every = (np.triu(scores_of(rows)) >= 0.5).sum()
    found = {}
    for probes in (1, 100):
        monkeypatch.setattr(prefilter, "PROBES", probes)
        monkeypatch.setattr(prefilter, "ASKED_ROWS", 2000)
        pairs = set()
        sample = sampling(0.5, 5)
        prefilter._visit(
            rows,
            Prefilter(0.5, sample=sample, nearest=plain_nearest),
            lambda a, b, p=pairs: p.update(map(frozenset, zip(a, b, strict=True))),
        )
        found[probes] = len(pairs) / every
        assert abs(sample.index_recall - found[probes]) < 0.01
    assert found[1] < 0.9
    assert found[100] >= prefilter.INDEX_RECALL


def test_the_pairs_drawn_are_of_their_band_and_all_of_it_are_counted():
    rows = clustered(3)
    sample = sampling(0.4, 40)
    marked(rows, Prefilter(0.9, sample=sample))
    below = sample.failed
    scores = np.triu(scores_of(rows))
    wanted = (scores >= 0.4) & (scores < 0.9)
    assert len(set(map(tuple, below.pairs.tolist()))) == 40
    assert all(wanted[a, b] for a, b in below.pairs)
    assert below.num_pairs == wanted.sum() > 1000


def test_a_crowded_block_stands_for_all_its_pairs(monkeypatch):
    monkeypatch.setattr(prefilter, "BLOCK_ROWS", 100)
    monkeypatch.setattr(prefilter, "COLUMNS", 100)
    monkeypatch.setattr(prefilter, "DRAWN_A_BLOCK", 500)
    numbers = np.random.default_rng(0)
    crowd = numbers.normal(scale=0.02, size=(100, 16)) + np.eye(16)[0]
    others = clustered(3, count=200)
    rows = np.concatenate([crowd, others]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    sample = sampling(0.7, 400)
    marked(rows, Prefilter(0.7, sample=sample))
    drawn = sample.passed
    crowded = (drawn.pairs < 100).all(axis=1).mean()
    scores = np.triu(scores_of(rows))
    assert drawn.num_pairs == (scores >= 0.7).sum()
    expected = (scores[:100, :100] >= 0.7).sum() / drawn.num_pairs
    assert abs(crowded - expected) < 0.1
    assert expected > 0.4


def test_rows_that_a_chain_of_near_pairs_connects_have_the_same_first_row(monkeypatch):
    monkeypatch.setattr(prefilter, "BLOCK_ROWS", 64)
    monkeypatch.setattr(prefilter, "COLUMNS", 100)
    rows = clustered(3)
    near = scores_of(rows) >= 0.9
    expected = np.arange(len(rows))
    while True:
        lowest = np.where(near, expected[None, :], len(rows)).min(axis=1)
        new = np.minimum(expected, lowest)
        if (new == expected).all():
            break
        expected = new
    assert (linked(rows, Prefilter(0.9)) == expected).all()
    assert 50 < len(set(expected.tolist())) < len(rows) - 50
