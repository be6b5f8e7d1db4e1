"""The blocked search removes what the plain loop removes."""

import numpy as np
import pytest

from ft_tools.data.repeats import near_by_meaning


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
    monkeypatch.setattr(near_by_meaning, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(near_by_meaning, "COLUMNS", 100)
    fields = [clustered(seed) for seed in range(num_fields)]
    fields = [fields[0], fields[0][:, ::-1].copy()][:num_fields]
    expected = plain_loop(fields, 0.9)
    found = near_by_meaning.find_matches(fields, 0.9)
    assert {row: kept for row, (kept, _) in found.of.items()} == expected
    assert len(expected) > 50


def test_a_row_that_is_near_a_removed_row_only_stays():
    angles = np.radians([0, 15, 30])
    fields = [unit(np.stack([np.cos(angles), np.sin(angles)], axis=1))]
    found = near_by_meaning.find_matches(fields, np.cos(np.radians(20)))
    assert set(found.of) == {1}


def blurred(fields, error):
    """Return vectors that are off by a little, as another number type makes them."""
    numbers = np.random.default_rng(9)
    return [unit(f + numbers.normal(scale=error, size=f.shape)) for f in fields]


@pytest.mark.parametrize("num_fields", [1, 2])
def test_blurred_vectors_remove_the_same_rows_once_close_pairs_are_made_exact(num_fields):
    exact = [clustered(seed, count=1500) for seed in (7, 8)][:num_fields]
    exact = [exact[0], exact[0][:, ::-1].copy()][:num_fields]
    fields = blurred(exact, 0.004)
    sharpened = []

    def sharpen(at, rows):
        sharpened.extend((at, row) for row in rows.tolist())
        fields[at][rows] = exact[at][rows]

    expected = set(plain_loop(exact, 0.9))
    naive = set(near_by_meaning.find_matches([f.copy() for f in fields], 0.9).of)
    blur = near_by_meaning.Rounding(0.02, sharpen)
    found = set(near_by_meaning.find_matches(fields, 0.9, rounding=blur).of)
    assert found == expected
    assert naive != expected, "the blur has to matter"
    assert 0 < len(set(sharpened)) < num_fields * len(exact[0])
    assert 0 < blur.worst < 0.02


def test_the_best_match_is_the_highest_cosine():
    rows, questions = clustered(5, count=50), clustered(6, count=7)
    found = near_by_meaning.best_match(rows, questions)
    assert np.allclose(found, (rows @ questions.T).max(axis=1), atol=1e-6)
