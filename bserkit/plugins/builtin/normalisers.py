"""Built-in normalisers: features to one scale, over training or each speaker's own recordings; principal components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from bserkit import BserkitError, ChannelView, FittedNormaliser, Normaliser, hookimpl, one_spelling


class Speaker(Normaliser):
    """Each feature to mean 0 and deviation 1: over the training utterances, or over each speaker's own recordings.

    ``by=train`` has one mean and deviation a feature, those of all training utterances. So an unseen speaker stays as
    far from the training speakers as they are: nothing is known of one whose recordings take no part. ``linear-svm``,
    ``pls`` and ``pca-svm`` scale so themselves.

    ``by=each`` standardises the recordings of each speaker that are given together by their own mean and deviation,
    without their labels, those of test speakers too. Who has fewer than ``least`` of them, or is not known, is
    standardised as by ``by=train``.
    """

    name = "speaker"
    by: Literal["train", "each"] = Field(
        "train",
        description="standardise by all training utterances, or each speaker by that speaker's own recordings, "
        "unlabelled test recordings included",
    )
    least: int = Field(
        5, ge=2, description="of by=each: recordings of a speaker, with fewer of which the training utterances serve"
    )

    def uses_unlabelled(self) -> bool:
        """Say that a speaker's recordings are standardised together, where they are."""
        return self.by == "each"

    def fit(self, training: ChannelView) -> FittedNormaliser:
        """Fit mean and deviation of all training utterances; of their speakers nothing is kept."""
        if self.by == "each" and not any(training.speakers):
            raise BserkitError(
                f"normaliser {self.spec} standardises each speaker's own recordings, but no training utterance names a "
                "speaker. Use speaker:by=train, or give every recording a speaker."
            )
        return _FittedSpeaker(self, _Scale.of(training.values))

    def restore(self, state: Mapping[str, Any]) -> FittedNormaliser:
        """Return what was fitted on the training utterances."""
        return _FittedSpeaker(self, _Scale(**state))


class _Scale(NamedTuple):
    """``(feature,)`` mean and deviation of so many items, 1 where a feature is constant."""

    mean: np.ndarray
    deviation: np.ndarray
    items: int

    @classmethod
    def of(cls, values: Any) -> _Scale:
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(values)
        return cls(scaler.mean_, scaler.scale_, len(values))

    def apply(self, values: Any) -> np.ndarray:
        """Standardise ``(item, feature)``; none comes to lie farther out than one of the items that it is of can."""
        limit = np.sqrt(self.items)
        return np.clip((values - self.mean) / self.deviation, -limit, limit)


class _FittedSpeaker(FittedNormaliser):
    def __init__(self, recipe: Speaker, scale: _Scale) -> None:
        self.recipe, self.scale = recipe, scale

    def apply(self, view: ChannelView) -> np.ndarray:
        made = self.scale.apply(view.values)
        for own in self._speakers(view.speakers):
            values = np.asarray(view.values)[own]
            made[own] = _Scale.of(values).apply(values)
        return made

    def state(self) -> dict[str, Any]:
        return self.scale._asdict()

    def notes(self, view: ChannelView) -> Sequence[str]:
        if self.recipe.by == "train" or sum(map(np.sum, self._speakers(view.speakers))) == len(view):
            return ()
        return (
            f"utterances of unknown speakers, or of those with fewer than {self.recipe.least} recordings, are "
            "standardised by all training utterances instead",
        )

    def _speakers(self, speakers: np.ndarray) -> list[np.ndarray]:
        """Return an ``(item,)`` mask for each speaker who is standardised by recordings of that speaker's own."""
        if self.recipe.by == "train":
            return []
        named = one_spelling(speakers)
        masks = [named == name for name in np.unique(named) if name]
        return [mask for mask in masks if mask.sum() >= self.recipe.least]


class PrincipalComponents(Normaliser):
    """Vectors in the directions in which the training utterances vary most, the longest first.

    Equal up to rounding to scikit-learn's ``PCA``, less its signs: the largest weight of each direction is positive.
    Components keep their lengths. A classifier that scales its features, as ``linear-svm`` does, takes all of them to
    the same length, the smallest too; ``linear-svm:scale=none`` does not.
    """

    name = "pca"
    share: float = Field(0.95, gt=0, le=1, description="share of the training utterances' variance to keep")
    components: int | None = Field(
        None, ge=1, description="how many to keep, whatever their share; at most as many as the training items span"
    )
    scale: Literal["standard", "none"] = Field(
        "standard", description="first each feature to mean 0 and deviation 1 over the training utterances, or mean 0"
    )

    def fit(self, training: ChannelView) -> FittedNormaliser:
        """Fit the scale of ``(item, feature)`` and the directions of what is scaled."""
        from bserkit.plugins.builtin.projections import principal_directions

        scale = _Scale.of(training.values)
        if self.scale == "none":
            scale = scale._replace(deviation=np.ones_like(scale.mean))
        directions, lengths = principal_directions((training.values - scale.mean) / scale.deviation)
        kept = np.cumsum(lengths**2)
        count = self.components or 1 + int(np.searchsorted(kept, self.share * kept[-1] * (1 - 1e-9)))
        directions = directions[:, :count]
        largest = np.abs(directions).argmax(axis=0)
        signs = np.where(directions[largest, range(directions.shape[1])] < 0, -1, 1)
        return _FittedComponents(scale, (directions * signs).astype(np.float32), self.scale == "standard")

    def restore(self, state: Mapping[str, Any]) -> FittedNormaliser:
        """Return the fitted scale and directions."""
        return _FittedComponents(_Scale(**state["scale"]), state["directions"], self.scale == "standard")


class _FittedComponents(FittedNormaliser):
    def __init__(self, scale: _Scale, directions: np.ndarray, limited: bool) -> None:
        self.scale, self.directions, self.limited = scale, directions, limited
        self.chosen = {"components": directions.shape[1]}

    def apply(self, view: ChannelView) -> np.ndarray:
        scaled = self.scale.apply(view.values) if self.limited else view.values - self.scale.mean
        return np.asarray(scaled.astype(np.float32) @ self.directions)

    def state(self) -> dict[str, Any]:
        return {"scale": self.scale._asdict(), "directions": self.directions}


@hookimpl
def bserkit_normalisers() -> list[type[Normaliser]]:
    """Return the built-in normalisers."""
    return [Speaker, PrincipalComponents]
