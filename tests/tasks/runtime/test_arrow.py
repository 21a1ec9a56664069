"""Vectors go into columns of lists and come back the same."""

import numpy as np
import pyarrow as pa
import pytest

from tasks.runtime.arrow import constants, to_array, to_lists
from tests.bank import unit_vectors


def test_vectors_come_back_as_they_were():
    vectors = unit_vectors(5, 7)
    lists = to_lists(vectors)
    assert lists.type == pa.list_(pa.float32()) and lists.to_pylist() == vectors.tolist()
    assert np.array_equal(to_array(lists), vectors)


def test_a_column_of_several_chunks_and_a_slice_of_it_are_read():
    vectors = unit_vectors(6, 3)
    column = pa.chunked_array([to_lists(vectors[:2]), to_lists(vectors[2:])])
    assert np.array_equal(to_array(column), vectors)
    assert np.array_equal(to_array(column.slice(1, 4)), vectors[1:5])
    assert np.array_equal(to_array(to_lists(vectors).slice(3)), vectors[3:])


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0, 0)])
def test_empty_vectors_are_lists_too(shape):
    lists = to_lists(np.empty(shape, np.float32))
    assert lists.to_pylist() == [[]] * shape[0]


def test_a_column_without_rows_has_no_vectors():
    assert to_array(pa.chunked_array([], pa.list_(pa.float32()))).shape == (0, 0)


def test_lists_of_different_lengths_are_a_mistake():
    with pytest.raises(ValueError, match="3 numbers cannot be 2 lists"):
        to_array(pa.array([[1.0, 2.0], [3.0]], pa.list_(pa.float32())))


def test_constants_repeat_each_value():
    assert constants(2, model="clip", steps=0) == {"model": ["clip", "clip"], "steps": [0, 0]}
