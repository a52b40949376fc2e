"""Normalisers: vectors are changed by what was learned of those of the training utterances, anew in each fold."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bserkit.component import Component
from bserkit.errors import BserkitError
from bserkit.features.contracts import asked, normalised
from bserkit.features.learned import Learned

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bserkit.features.learned import ChannelView
    from bserkit.learning.views import Views

#: How far, of the largest value, an utterance alone may come out from what it is among others: rounding, no more.
_ROUNDING = 1e-3


class FittedNormaliser(ABC):
    """What a normaliser learned from one channel of the training utterances of a fold.

    Attributes:
        chosen: what it chose by them, such as a number of components; numbers are logged by fold.
    """

    chosen: Mapping[str, Any] = {}

    @abstractmethod
    def apply(self, view: ChannelView) -> np.ndarray:
        """Turn ``(item, feature)`` vectors, without labels, into ``(item, feature')`` of finite numbers."""

    @abstractmethod
    def state(self) -> Mapping[str, Any]:
        """Return all that ``apply`` needs, by name, from which ``Normaliser.restore`` makes the same again.

        None, text, numbers, arrays of numbers or text, and lists and dictionaries of these.
        """

    def notes(self, view: ChannelView) -> Sequence[str]:
        """Say what a reader must know of how these items are normalised."""
        return ()


class Normaliser(Component):
    """Learns from the vectors of the training utterances of a fold, channel by channel, how to change any vector."""

    kind = "normaliser"

    @abstractmethod
    def fit(self, training: ChannelView) -> FittedNormaliser:
        """Fit on the ``(item, feature)`` vectors of one channel, with labels and speakers.

        It is fitted once more on each part of the training utterances that a search of fusion weights learns from, so
        that what the search scores took no part. A search within a classifier, such as that of a cost, goes on among
        vectors that were normalised together.
        """

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> FittedNormaliser:
        """Return what was fitted, given its ``state()``, in which tuples have become lists."""

    def uses_unlabelled(self) -> bool:
        """Say whether what becomes of an utterance depends on the other ones, unlabelled, that are given with it.

        The numbers of a run that does are marked as such wherever they are shown. One that says no is held to it.
        """
        return False


#: What a normaliser learned in a fold.
LearnedNormaliser: TypeAlias = Learned[Normaliser, FittedNormaliser]


@dataclass(frozen=True)
class Unnormalised:
    """Training views before they were normalised, so that a part of them can be normalised by itself."""

    views: Views
    normaliser: Normaliser

    def take(self, rows: np.ndarray | slice) -> Unnormalised:
        """Return those of some of the items."""
        return replace(self, views=self.views.take(rows))

    def only(self, channel: str) -> Unnormalised:
        """Return those of one channel."""
        return replace(self, views=self.views.only(channel))

    def parted(self, learn: np.ndarray, score: np.ndarray) -> tuple[Views, Views]:
        """Return views normalised by what the items of ``learn`` alone are like: those to learn from, and to score."""
        fitted, learned = fit_normaliser(self.normaliser, self.views.take(learn))
        return learned, normalise(fitted, self.views.take(score).without_labels())


def fit_normaliser(normaliser: Normaliser, training: Views) -> tuple[LearnedNormaliser, Views]:
    """Return what is fitted on each channel of training items, and these items normalised.

    Raises:
        BserkitError: the normaliser makes something else than vectors.
    """
    fitted = {}
    for channel in training.features:
        with asked(normaliser, f"what it learns from channel {channel}"):
            fitted[channel] = normaliser.fit(training.channel(channel))
        if not isinstance(fitted[channel], FittedNormaliser):
            raise BserkitError(
                f"normaliser {normaliser.name} learned {type(fitted[channel]).__name__} from channel {channel}; "
                "expected a FittedNormaliser."
            )
    learned = Learned(normaliser, fitted)
    made = normalise(learned, training)
    return learned, replace(made, labels=training.labels, origin=Unnormalised(training, normaliser))


def normalise(learned: LearnedNormaliser, views: Views) -> Views:
    """Return the same items, without labels, with vectors as they are normalised by what was learned.

    Raises:
        BserkitError: the normaliser makes something else than vectors, or makes of an utterance alone something else
            than among others, without saying that it uses them.
    """
    views = views.without_labels()
    features = {
        channel: _applied(learned.recipe, learned.by_channel[channel], views, channel) for channel in views.features
    }
    return replace(views, features=features)


def notes_of(learned: LearnedNormaliser | None, views: Views) -> list[str]:
    """Return what a reader must know of how these items are normalised, each once."""
    unlabelled, fitted = views.without_labels(), learned.by_channel if learned else {}
    every = (note for channel, one in fitted.items() for note in one.notes(unlabelled.channel(channel)))
    return list(dict.fromkeys(every))


def _applied(normaliser: Normaliser, fitted: FittedNormaliser, views: Views, channel: str) -> np.ndarray:
    def made_of(some: Views) -> np.ndarray:
        where = f"channel {channel} of {len(some)} utterances"
        with asked(normaliser, f"the vectors of {where}"):
            made = fitted.apply(some.channel(channel))
        return normalised(normaliser, made, len(some), where)

    vectors = made_of(views)
    if len(views) > 1 and not normaliser.uses_unlabelled():
        (alone,) = made_of(views.take(slice(-1, None)))
        if alone.shape != vectors[-1].shape or np.abs(alone - vectors[-1]).max() > _ROUNDING * np.abs(vectors).max():
            raise BserkitError(
                f"normaliser {normaliser.name} makes of an utterance alone something else than among others, so that "
                "its numbers depend on unlabelled test recordings. Its author must say so: uses_unlabelled() returns "
                "True."
            )
    return vectors
