"""Poolers: what must hold of them, those that learn included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.features.contracts import pooled
from bserkit.features.learned import ChannelView
from bserkit.features.pooling import LearningPooler, Pooler
from bserkit.learning.state import pack, unpack
from bserkit.testing.behaviour import Kind
from bserkit.testing.expecting import expect, expect_same
from bserkit.testing.fresh import fresh
from bserkit.testing.samples import sample_segments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bserkit.features.pooling import FittedPooler

_SEGMENTS = (1, 2, 3, 7, 200)
_FEATURES = (2, 12)


def makes_a_vector_of_one_length(pooler: Pooler) -> None:
    """Of any number of segments it makes one finite ``(feature,)``, as long as of any other number."""
    for features in _FEATURES:
        fitted = _fitted(pooler, features=features)
        lengths = {}
        for segments in _SEGMENTS:
            where = f"{segments} x {features} features"
            lengths[segments] = len(pooled(pooler, sample_segments(0, segments, features), where, fitted))
        expect(
            len(set(lengths.values())) == 1,
            f"pooler {pooler.name} makes vectors of several lengths: by number of segments {lengths}; expected one.",
        )


def makes_a_vector_of_silence(pooler: Pooler) -> None:
    """Of segments that are all zero, or all alike, it makes finite numbers too."""
    fitted = _fitted(pooler)
    pooled(pooler, 0 * sample_segments(), "segments of zeros", fitted)
    pooled(pooler, sample_segments(segments=1).repeat(5, axis=0), "equal segments", fitted)


def restores_what_it_learned(pooler: LearningPooler) -> None:
    """``restore`` makes of a saved ``state`` what pools bit for bit as what was fitted."""
    fitted = pooler.fit(_training())
    state, arrays = pack(dict(fitted.state()), lambda: None)
    restored = pooler.restore(unpack(state, arrays, lambda: None))
    expect_same(
        [fitted.pool(one) for one in _segments(1)],
        [restored.pool(one) for one in _segments(1)],
        f"pooler {pooler.name} pools differently after it was saved and restored. Let state() return all that pooling "
        "needs, and restore() use all of it.",
    )


def ignores_earlier_folds(pooler: LearningPooler) -> None:
    """What it learns in a fold is what it would learn had there been no fold before."""
    here, anew = fresh(pooler), fresh(pooler)
    here.fit(_training(seed=2))
    expect_same(
        [here.fit(_training()).pool(one) for one in _segments(1)],
        [anew.fit(_training()).pool(one) for one in _segments(1)],
        f"pooler {pooler.name} pools differently after another fold. It must keep nothing from one fold to another, "
        "such as a cache in its module or class.",
    )


def _training(seed: int = 0, features: int = 12) -> ChannelView:
    """Return twelve training utterances of three speakers and two classes."""
    values = [sample_segments(100 * seed + index, 3 + index, features) for index in range(12)]
    labels, speakers = (np.array([f"{name}{index % of}" for index in range(12)]) for name, of in (("c", 2), ("s", 3)))
    return ChannelView(values, labels, speakers, np.full(12, ""))


def _fitted(pooler: Pooler, seed: int = 0, features: int = 12) -> FittedPooler | None:
    return pooler.fit(_training(seed, features)) if isinstance(pooler, LearningPooler) else None


def _segments(seed: int) -> list[np.ndarray]:
    return [sample_segments(seed, segments) for segments in _SEGMENTS]


def _given(pooler: Pooler, seed: int) -> tuple[Any, list[np.ndarray]]:
    return _training(seed) if isinstance(pooler, LearningPooler) else None, _segments(seed)


def _made(pooler: Pooler, given: tuple[Any, list[np.ndarray]]) -> list[np.ndarray]:
    training, segments = given
    fitted = pooler.fit(training) if isinstance(pooler, LearningPooler) else pooler
    return [fitted.pool(one) for one in segments]


def _checks(pooler: Pooler) -> Iterator[Callable[[Any], None]]:
    yield makes_a_vector_of_one_length
    yield makes_a_vector_of_silence
    if isinstance(pooler, LearningPooler):
        yield restores_what_it_learned
        yield ignores_earlier_folds


KIND = Kind(Pooler, _given, _made, _checks, threads=lambda pooler: not isinstance(pooler, LearningPooler))
