"""The gate lets every pair through that reaches it, and draws fairly from those below."""

import numpy as np

from ft_tools.data import gate
from ft_tools.data.gate import Drawn, Gate, has_neighbour, linked
from tests.unit.test_data_neighbours import clustered


def scores_of(vectors):
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -1)
    return scores


def test_the_gate_marks_every_row_with_a_neighbour_and_no_other(monkeypatch):
    monkeypatch.setattr(gate, "BLOCK_ROWS", 64)
    monkeypatch.setattr(gate, "COLUMNS", 100)
    rows = clustered(3, count=300)
    expected = scores_of(rows).max(axis=1) >= 0.9
    assert 10 < expected.sum() < 300
    assert (has_neighbour(rows, Gate(0.9)) == expected).all()
    assert (has_neighbour(rows, Gate(0.9, drawn=(Drawn(0.8, 0.9, 5),))) == expected).all()


def test_the_inverted_file_misses_few_and_invents_none(monkeypatch):
    rows = clustered(4, count=2000, size=32)
    exact = has_neighbour(rows, Gate(0.9))
    monkeypatch.setattr(gate, "CELL_ROWS", 100)
    found = has_neighbour(rows, Gate(0.9))
    assert not (found & ~exact).any()
    assert found.sum() >= 0.98 * exact.sum()
    assert exact.sum() > 100


def test_the_pairs_drawn_are_of_their_band_and_all_of_it_are_counted():
    rows = clustered(3)
    below = Drawn(0.4, 0.9, 40)
    has_neighbour(rows, Gate(0.9, drawn=(below,)))
    scores = np.triu(scores_of(rows))
    wanted = (scores >= 0.4) & (scores < 0.9)
    assert len(set(map(tuple, below.pairs.tolist()))) == 40
    assert all(wanted[a, b] for a, b in below.pairs)
    assert below.num_pairs == wanted.sum() > 1000


def test_a_crowded_block_stands_for_all_its_pairs(monkeypatch):
    monkeypatch.setattr(gate, "BLOCK_ROWS", 100)
    monkeypatch.setattr(gate, "COLUMNS", 100)
    monkeypatch.setattr(gate, "DRAWN_A_BLOCK", 500)
    numbers = np.random.default_rng(0)
    crowd = numbers.normal(scale=0.02, size=(100, 16)) + np.eye(16)[0]
    others = clustered(3, count=200)
    rows = np.concatenate([crowd, others]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    crowd_and_others = Drawn(0.7, 2.0, 400)
    has_neighbour(rows, Gate(0.9, drawn=(crowd_and_others,)))
    drawn = crowd_and_others
    crowded = (drawn.pairs < 100).all(axis=1).mean()
    scores = np.triu(scores_of(rows))
    assert drawn.num_pairs == (scores >= 0.7).sum()
    expected = (scores[:100, :100] >= 0.7).sum() / drawn.num_pairs
    assert abs(crowded - expected) < 0.1
    assert expected > 0.4


def test_rows_that_a_chain_of_near_pairs_connects_have_the_same_first_row(monkeypatch):
    monkeypatch.setattr(gate, "BLOCK_ROWS", 64)
    monkeypatch.setattr(gate, "COLUMNS", 100)
    rows = clustered(3)
    near = scores_of(rows) >= 0.9
    expected = np.arange(len(rows))
    while True:
        lowest = np.where(near, expected[None, :], len(rows)).min(axis=1)
        new = np.minimum(expected, lowest)
        if (new == expected).all():
            break
        expected = new
    assert (linked(rows, Gate(0.9)) == expected).all()
    assert 50 < len(set(expected.tolist())) < len(rows) - 50
