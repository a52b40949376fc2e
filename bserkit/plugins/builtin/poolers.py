"""Built-in poolers: block-based temporal pooling and the global baselines (paper, section II-C, eqs. 3-7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from pydantic import Field

from bserkit import Pooler, hookimpl

#: Values of an utterance's features that are worked on at a time.
_HELD_VALUES = 1 << 20


def regression_deltas(segments: np.ndarray, reach: int = 2) -> np.ndarray:
    """Return the first-order regression coefficients along time: ``(segment, feature)`` in, the same out.

    The slope of a straight line fitted through ``2 * reach + 1`` neighbours; the first and last segments are repeated
    beyond the ends. One segment alone has slope zero.

    >>> regression_deltas(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]]))[2]
    array([1.])
    """
    padded = np.pad(segments, ((reach, reach), (0, 0)), mode="edge")
    count = len(segments)
    rises = (
        step * (padded[reach + step : reach + step + count] - padded[reach - step : reach - step + count])
        for step in range(1, reach + 1)
    )
    return np.asarray(sum(rises) / (2 * sum(step * step for step in range(1, reach + 1))), dtype=segments.dtype)


def block_bounds(segments: int, blocks: int) -> list[tuple[int, int]]:
    """Cut a number of segments into successive blocks whose sizes differ by one at most.

    With fewer segments than blocks, segments serve several neighbouring blocks, so that no block is empty.

    >>> block_bounds(5, 2), block_bounds(1, 2)
    ([(0, 2), (2, 5)], [(0, 1), (0, 1)])
    """
    starts = [index * segments // blocks for index in range(blocks)]
    ends = [(index + 1) * segments // blocks for index in range(blocks)]
    return [(start, max(start + 1, end)) for start, end in zip(starts, ends, strict=True)]


class _GlobalPooler(Pooler):
    """One value a feature over the whole utterance."""

    magnitude: bool = Field(False, description="pool absolute values")
    _reduce: ClassVar[Callable[..., np.ndarray]]

    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Turn ``(segment, feature)`` into ``(feature,)``."""
        return type(self)._reduce(np.abs(segments) if self.magnitude else segments, axis=0)


class _BlockPooler(Pooler):
    """One value a feature, its slope included, for each of several successive blocks (eqs. 3-5)."""

    blocks: int = Field(2, ge=1, description="the paper's l: how many successive blocks")
    pyramid: bool = Field(False, description="all levels of 1, 2, ... blocks instead of the last alone")
    magnitude: bool = Field(True, description="pool absolute values, as eqs. 6 and 7 are written")
    deltas: bool = Field(True, description="pool the first-order regression along the segments too (eq. 3)")
    _reduce: ClassVar[Callable[..., np.ndarray]]

    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Turn ``(segment, feature)`` into ``(feature',)``: the blocks of X, then the blocks of its regression."""
        # Some features at a time, so that an hour of speech takes little more memory than its features; at least two,
        # since numpy sums a single column in another order.
        parts = max(1, min(segments.size // _HELD_VALUES, segments.shape[1] // 2))
        return np.concatenate([self._pooled(part) for part in np.array_split(segments, parts, axis=1)], axis=1).ravel()

    def _pooled(self, segments: np.ndarray) -> np.ndarray:
        """Return ``(block, feature)``, the blocks of X above those of its regression."""
        sequences = [segments, regression_deltas(segments)] if self.deltas else [segments]
        levels = range(1, self.blocks + 1) if self.pyramid else [self.blocks]
        bounds = [bound for level in levels for bound in block_bounds(len(segments), level)]
        return np.stack(
            [
                type(self)._reduce(sequence[start:end], axis=0)
                for sequence in (np.abs(one) if self.magnitude else one for one in sequences)
                for start, end in bounds
            ]
        )


class BlockMax(_BlockPooler):
    """The largest value in each block: the paper's pooling."""

    name = "block-max"
    _reduce = np.max


class BlockAverage(_BlockPooler):
    """The mean value in each block."""

    name = "block-avg"
    _reduce = np.mean


class GlobalMax(_GlobalPooler):
    """The largest value over all segments: a baseline of the paper."""

    name = "global-max"
    _reduce = np.max


class GlobalAverage(_GlobalPooler):
    """The mean value over all segments: a baseline of the paper."""

    name = "global-avg"
    _reduce = np.mean


@hookimpl
def bserkit_poolers() -> list[type[Pooler]]:
    """Return the built-in poolers."""
    return [BlockMax, BlockAverage, GlobalMax, GlobalAverage]
