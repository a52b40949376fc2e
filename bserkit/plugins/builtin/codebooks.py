"""A built-in pooler that learns: segments are told by how they differ from the nearest centre of a codebook."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from bserkit import BserkitError, ChannelView, FittedPooler, LearningPooler, hookimpl

#: Of the values that were added up, how much of a sum may be rounding.
_ROUNDING = 1e-9


class Vlad(LearningPooler):
    """By how much the segments that are nearest to each of several centres differ from it, added up.

    A vector of locally aggregated descriptors (Jegou et al., "Aggregating local descriptors into a compact image
    representation", CVPR 2010, section 3). The centres are those of k-means on segments of the training utterances, as
    many of each, drawn at random: at most ``sample`` are held in memory, but one of each utterance.
    """

    name = "vlad"
    centres: int = Field(8, ge=1, description="how many; the vector has as many times the features of a segment")
    sample: int = Field(10_000, ge=1, description="training segments that the centres are learned from, at most")
    root: bool = Field(
        True, description="the root of each sum, with its sign, so that no few of them outweigh the rest"
    )
    unit: bool = Field(True, description="vectors of length 1, whatever the number of segments")
    seed: int = Field(0, description="of the segments that are drawn, and of where the centres begin")

    def fit(self, training: ChannelView) -> FittedPooler:
        """Fit the centres."""
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        generator = np.random.default_rng(self.seed)
        of_each = max(1, self.sample // len(training))
        drawn = np.concatenate([_some(segments, of_each, generator) for segments in training.values])
        if len(drawn) < self.centres:
            raise BserkitError(
                f"pooler {self.spec} needs a training segment for each of its {self.centres} centres, but was given "
                f"{len(drawn)} of {len(training)} utterances. Ask for fewer centres, or for a larger sample."
            )
        # With several threads, in which order they add up decides the last bits.
        with warnings.catch_warnings(), threadpool_limits(1):
            # Where segments are alike some centres coincide: to all but one of these nothing is nearest.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(self.centres, n_init=1, random_state=self.seed).fit(drawn)
        # k-means moves and rounds what it is given; a feature that is always zero has to stay zero.
        centres = found.cluster_centers_.astype(np.float64)
        for index in np.unique(found.labels_):
            centres[index] = drawn[found.labels_ == index].mean(axis=0, dtype=np.float64)
        return _FittedVlad(self, centres)

    def restore(self, state: Mapping[str, Any]) -> FittedPooler:
        """Return the fitted centres."""
        return _FittedVlad(self, state["centres"])


class _FittedVlad(FittedPooler):
    def __init__(self, recipe: Vlad, centres: np.ndarray) -> None:
        self.recipe, self.centres = recipe, centres

    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Turn ``(segment, feature)`` into ``(feature',)``: one centre's features after the other's."""
        # Of the squared distance what is the same for all centres is left out.
        centres = self.centres.astype(np.float32)
        nearest = (np.sum(centres**2, axis=1) - 2 * segments @ centres.T).argmin(axis=1)
        made = np.concatenate(
            [_differences(segments[nearest == index], centre) for index, centre in enumerate(self.centres)]
        )
        if self.recipe.root:
            made = np.sign(made) * np.sqrt(np.abs(made))
        length = np.linalg.norm(made)
        return np.asarray(made / length) if self.recipe.unit and length > 0 else made

    def state(self) -> dict[str, Any]:
        return {"centres": self.centres}


def _differences(segments: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return ``(feature,)`` sums of the segments' differences from a centre; what is rounding alone is zero."""
    sums, whole = (np.sum(one, axis=0, dtype=np.float64) for one in (segments, np.abs(segments)))
    made = sums - len(segments) * centre
    # The root would make much of it, and whoever scales features everything.
    return np.where(np.abs(made) > _ROUNDING * (whole + len(segments) * np.abs(centre)), made, 0.0)


def _some(segments: np.ndarray, most: int, generator: np.random.Generator) -> np.ndarray:
    """Return at most so many of the segments, drawn at random, as an array of their own."""
    return segments[np.sort(generator.permutation(len(segments))[:most])]


@hookimpl
def bserkit_poolers() -> list[type[LearningPooler]]:
    """Return the built-in poolers that learn."""
    return [Vlad]
