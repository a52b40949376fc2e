"""Pooling against hand-computed numbers (paper, eqs. 3-7) and properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bserkit.plugins.builtin import poolers
from bserkit.plugins.builtin.poolers import (
    BlockAverage,
    BlockMax,
    GlobalAverage,
    GlobalMax,
    block_bounds,
    regression_deltas,
)

# One feature over five segments.
RISE = np.array([[1.0], [2.0], [4.0], [3.0], [-5.0]])
# By hand, ends repeated: (1 (x[t+1] - x[t-1]) + 2 (x[t+2] - x[t-2])) / 10
RISE_DELTAS = [
    ((2 - 1) + 2 * (4 - 1)) / 10,
    ((4 - 1) + 2 * (3 - 1)) / 10,
    ((3 - 2) + 2 * (-5 - 1)) / 10,
    ((-5 - 4) + 2 * (-5 - 2)) / 10,
    ((-5 - 3) + 2 * (-5 - 4)) / 10,
]

segments = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3, width=32)
)


def test_deltas_are_the_regression_over_five_segments():
    np.testing.assert_allclose(regression_deltas(RISE)[:, 0], RISE_DELTAS)


def test_block_max_holds_blocks_of_x_then_of_deltas():
    expected = [2.0, 5.0, max(map(abs, RISE_DELTAS[:2])), max(map(abs, RISE_DELTAS[2:]))]
    np.testing.assert_allclose(BlockMax().pool(RISE), expected)


def test_block_max_without_magnitude_keeps_the_sign():
    pooled = BlockMax(magnitude=False, deltas=False).pool(np.array([[-3.0], [-1.0]]))
    np.testing.assert_allclose(pooled, [-3.0, -1.0])


def test_block_average_is_each_blocks_mean_magnitude():
    expected = [1.5, 4.0, np.mean(np.abs(RISE_DELTAS[:2])), np.mean(np.abs(RISE_DELTAS[2:]))]
    np.testing.assert_allclose(BlockAverage().pool(RISE), expected)


def test_a_pyramid_holds_all_levels_up_to_blocks():
    pooled = BlockMax(pyramid=True, deltas=False).pool(RISE)
    np.testing.assert_allclose(pooled, [5.0, 2.0, 5.0])


def test_global_pooling_uses_no_deltas_or_magnitude():
    np.testing.assert_allclose(GlobalMax().pool(RISE), [4.0])
    np.testing.assert_allclose(GlobalAverage().pool(RISE), [1.0])


def test_vector_order_is_x_then_deltas_block_by_block():
    two = np.array([[1.0, 10.0], [2.0, 20.0]])
    np.testing.assert_allclose(BlockMax().pool(two)[:4], [1.0, 10.0, 2.0, 20.0])


@pytest.mark.parametrize(
    ("count", "blocks", "expected"),
    [
        (4, 2, [(0, 2), (2, 4)]),
        (5, 2, [(0, 2), (2, 5)]),
        (7, 3, [(0, 2), (2, 4), (4, 7)]),
        (1, 2, [(0, 1), (0, 1)]),
        (2, 3, [(0, 1), (0, 1), (1, 2)]),
    ],
)
def test_blocks_are_in_order_and_never_empty(count, blocks, expected):
    assert block_bounds(count, blocks) == expected


@given(st.integers(1, 50), st.integers(1, 50))
def test_blocks_cover_every_segment_once_if_enough(count, blocks):
    bounds = block_bounds(count, blocks)
    assert all(start < end for start, end in bounds)
    if count >= blocks:
        assert [index for start, end in bounds for index in range(start, end)] == list(range(count))
        sizes = [end - start for start, end in bounds]
        assert max(sizes) - min(sizes) <= 1


@given(segments)
def test_one_block_without_deltas_is_global_pooling(x):
    np.testing.assert_array_equal(BlockMax(blocks=1, deltas=False).pool(x), GlobalMax(magnitude=True).pool(x))
    np.testing.assert_array_equal(BlockAverage(blocks=1, deltas=False).pool(x), GlobalAverage(magnitude=True).pool(x))


@given(segments)
def test_the_largest_block_is_the_global_maximum(x):
    blocks = BlockMax(blocks=2, deltas=False).pool(x).reshape(2, -1)
    np.testing.assert_array_equal(blocks.max(axis=0), GlobalMax(magnitude=True).pool(x))


@given(segments)
def test_a_standing_feature_has_no_slope(x):
    still = np.repeat(x[:1], 6, axis=0)
    assert not regression_deltas(still).any()


@given(segments, st.integers(1, 6), st.booleans())
def test_vector_length_ignores_the_number_of_segments(x, blocks, pyramid):
    levels = blocks * (blocks + 1) // 2 if pyramid else blocks
    assert BlockMax(blocks=blocks, pyramid=pyramid).pool(x).shape == (2 * levels * x.shape[1],)


@pytest.mark.parametrize("pooler", [BlockMax(pyramid=True), BlockAverage(blocks=3)], ids=lambda one: one.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pooling_features_in_parts_changes_no_bit(pooler, dtype, monkeypatch):
    long = np.random.default_rng(0).normal(size=(301, 97)).astype(dtype)
    whole = pooler.pool(long)
    for held in (1, 301, 3010, 20000):
        monkeypatch.setattr(poolers, "_HELD_VALUES", held)
        np.testing.assert_array_equal(pooler.pool(long), whole)
