"""The blocked search removes what the plain loop removes."""

import numpy as np
import pytest

from ft_tools.data import neighbours


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def plain_loop(fields, threshold):
    """Keep a row if no kept row before it is near: the definition, one pair at a time."""
    kept, twins = [], {}
    for row in range(len(fields[0])):
        for other in kept:
            if min(float(field[row] @ field[other]) for field in fields) > threshold:
                twins[row] = other
                break
        else:
            kept.append(row)
    return twins


def clustered(seed, count=700, size=16):
    """Return rows of which many are near one another, some only in chains."""
    numbers = np.random.default_rng(seed)
    centres = numbers.normal(size=(count // 5, size))
    return unit(
        centres[numbers.integers(0, len(centres), count)]
        + 0.18 * numbers.normal(size=(count, size))
    )


@pytest.mark.parametrize("num_fields", [1, 2])
@pytest.mark.parametrize("block_rows", [1, 64, 4096])
def test_the_blocked_search_names_the_same_twins_as_the_plain_loop(
    monkeypatch, num_fields, block_rows
):
    monkeypatch.setattr(neighbours, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(neighbours, "COLUMNS", 100)
    fields = [clustered(seed) for seed in range(num_fields)]
    fields = [fields[0], fields[0][:, ::-1].copy()][:num_fields]
    expected = plain_loop(fields, 0.9)
    found = neighbours.find_twins(fields, 0.9)
    assert {row: kept for row, (kept, _) in found.of.items()} == expected
    assert len(expected) > 50


def test_a_row_that_is_near_a_removed_row_only_stays():
    angles = np.radians([0, 15, 30])
    fields = [unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))]
    found = neighbours.find_twins(fields, np.cos(np.radians(20)))
    assert set(found.of) == {1}


def test_the_gate_marks_every_row_with_a_neighbour_and_no_other():
    rows = clustered(3, count=300)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -1)
    expected = scores.max(axis=1) >= 0.9
    assert 10 < expected.sum() < 300
    assert (neighbours.has_neighbour([rows], 0.9) == expected).all()


def test_the_inverted_file_misses_few_and_invents_none(monkeypatch):
    rows = clustered(4, count=2000, size=32)
    exact = neighbours.has_neighbour([rows], 0.9)
    monkeypatch.setattr(neighbours, "IVF_ROWS", 100)
    found = neighbours.has_neighbour([rows], 0.9)
    assert not (found & ~exact).any()
    assert found.sum() >= 0.98 * exact.sum()
    assert exact.sum() > 100


def test_the_best_match_is_the_highest_cosine():
    rows, questions = clustered(5, count=50), clustered(6, count=7)
    found = neighbours.best_match(rows, questions)
    assert np.allclose(found, (rows @ questions.T).max(axis=1), atol=1e-6)
