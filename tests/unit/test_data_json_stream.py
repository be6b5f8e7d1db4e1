"""JSON that is not JSON: every value is read or is a finding, and reading always ends."""

import io
from itertools import islice

import pytest

from ft_tools.formats.json_stream import read_values


@pytest.mark.parametrize("text", [b"[}", b"[}}}}]", b'[{"a": 1}, } {"a": 2}]', b'[{"a": 1}}, 2]'])
def test_a_stray_bracket_in_an_array_is_one_unreadable_value(text):
    rows = list(islice(read_values(io.BytesIO(text)), len(text) + 1))
    assert len(rows) <= len(text)
    assert "unreadable_line" in {row.problem for row in rows}


@pytest.mark.parametrize("text", [b"}", b"]]]", b'{"a": 1} ] } {"a": 2}', b", {}"])
def test_a_stray_bracket_between_values_is_one_unreadable_value(text):
    rows = list(islice(read_values(io.BytesIO(text)), len(text) + 1))
    assert len(rows) <= len(text)
    assert "unreadable_line" in {row.problem for row in rows}


def test_the_values_around_a_stray_bracket_are_read():
    rows = list(read_values(io.BytesIO(b'{"a": 1} ] } {"a": 2}')))
    assert [row.value for row in rows if row.problem is None] == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("text", [b'[{"a": 1}', b'[{"a": 1},', b'[{"a": 1},\n', b'[{"a": 1}, {"a"'])
def test_an_array_that_is_cut_off_has_one_row_that_is_missing(text):
    rows = list(read_values(io.BytesIO(text)))
    assert [(row.number, row.problem) for row in rows] == [(1, None), (2, "unreadable_line")]
    whole = list(read_values(io.BytesIO(b'[{"a": 1}] ')))
    assert [row.problem for row in whole] == [None]
