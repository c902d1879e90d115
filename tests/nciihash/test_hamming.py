import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nciihash.errors import InvalidSignal
from nciihash.hamming import distances


@st.composite
def packed_pairs(draw):
    width = draw(st.sampled_from([1, 8, 16, 32]))
    rows = st.integers(0, 20)
    return tuple(draw(hnp.arrays(np.uint8, (draw(rows), width))) for _ in range(2))


@given(packed_pairs())
def test_distances_count_differing_bits(pair):
    queries, bank = pair
    found = distances(queries, bank)
    assert found.dtype == np.uint16
    assert found.shape == (len(queries), len(bank))
    numbers = [[int.from_bytes(row.tobytes()) for row in array] for array in pair]
    expected = [[(q ^ b).bit_count() for b in numbers[1]] for q in numbers[0]]
    assert found.tolist() == expected


@given(packed_pairs())
def test_distances_are_a_metric(pair):
    queries, bank = pair
    assert (distances(queries, bank) == distances(bank, queries).T).all()
    assert not np.diagonal(distances(queries, queries)).any()


@pytest.mark.parametrize(
    ("queries", "bank"),
    [
        (np.zeros((2, 32), np.uint8), np.zeros((2, 8), np.uint8)),
        (np.zeros((2, 32), np.uint8), np.zeros(32, np.uint8)),
        (np.zeros((2, 32), np.int64), np.zeros((2, 32), np.uint8)),
        (np.zeros((2, 32)), np.zeros((2, 32), np.uint8)),
    ],
)
def test_arrays_of_other_shapes_and_types_are_refused(queries, bank):
    for pair in ((queries, bank), (bank, queries)):
        with pytest.raises(InvalidSignal):
            distances(*pair)
