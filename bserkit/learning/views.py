"""Views: the same items seen through several channels, one vector each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bserkit.features.learned import ChannelView

if TYPE_CHECKING:
    from bserkit.features.learned import Learned
    from bserkit.features.pooling import FittedPooler, LearningPooler


class FeatureSource(Protocol):
    """Gives the views of all items, fold by fold."""

    def views(self, fold: int) -> Views:
        """Return the views that the fold of this number, from 0, learns from and is tested on."""


class Origin(Protocol):
    """What views were made of by something that was fitted on all of their items."""

    def take(self, rows: np.ndarray | slice) -> Origin:
        """Return what the views of some of the items were made of."""

    def only(self, channel: str) -> Origin:
        """Return what one channel was made of."""

    def parted(self, learn: np.ndarray, score: np.ndarray) -> tuple[Views, Views]:
        """See ``Views.parted``."""


@dataclass(frozen=True)
class Views:
    """The same items seen through several channels.

    Attributes:
        features: ``(item, feature)`` by channel.
        transforms: the channel transform that each channel came from, in the channels' order.
        classes: every class of the corpus, in the order of the columns of all scores.
        labels: ``(item,)`` class names; empty where items are to be scored, so that no fuser can read them.
        speakers: ``(item,)`` speaker names, empty where nobody knows.
        sessions: ``(item,)`` names of recording sessions, empty where the corpus has none.
        origin: what the features were made of, where that was fitted on these items; no affair of a fuser's.
        pooler: what made vectors of segments, where that was learned from the training items of a fold.
    """

    features: Mapping[str, np.ndarray]
    transforms: Mapping[str, str]
    classes: tuple[str, ...]
    labels: np.ndarray
    speakers: np.ndarray
    sessions: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))
    origin: Origin | None = None
    pooler: Learned[LearningPooler, FittedPooler] | None = None

    def __post_init__(self) -> None:
        """Fill in sessions where none are given."""
        if len(self.sessions) != len(self.speakers):
            object.__setattr__(self, "sessions", np.full(len(self.speakers), ""))

    def __len__(self) -> int:
        """Count the items."""
        return len(self.speakers)

    def views(self, fold: int) -> Views:
        """Return themselves: they are the same in every fold."""
        return self

    def take(self, rows: np.ndarray | slice) -> Views:
        """Return the views of some of the items, by index; nothing in them can be written to."""
        features = {channel: _lent(values[rows]) for channel, values in self.features.items()}
        labels = _lent(self.labels[rows] if len(self.labels) else self.labels)
        speakers, sessions = _lent(self.speakers[rows]), _lent(self.sessions[rows])
        return replace(
            self,
            features=features,
            transforms=dict(self.transforms),
            labels=labels,
            speakers=speakers,
            sessions=sessions,
            origin=self.origin and self.origin.take(rows),
        )

    def parted(self, learn: np.ndarray, score: np.ndarray) -> tuple[Views, Views]:
        """Return what an inner search learns from and what it scores, without labels, by index or mask.

        A normaliser that was fitted on all of these items is fitted anew on the former alone. A pooler is not.
        """
        if self.origin:
            return self.origin.parted(learn, score)
        return self.take(learn), self.take(score).without_labels()

    def only(self, channel: str) -> Views:
        """Return the views of one channel."""
        return replace(
            self,
            features={channel: self.features[channel]},
            transforms={channel: self.transforms[channel]},
            origin=self.origin and self.origin.only(channel),
        )

    def channel(self, name: str) -> ChannelView:
        """Return one channel; nothing in it can be written to."""
        lent = self.take(slice(None))
        return ChannelView(lent.features[name], lent.labels, lent.speakers, lent.sessions)

    def without_labels(self) -> Views:
        """Return the views as they are handed over for scoring."""
        return replace(self, labels=self.labels[:0])

    def channels_of(self) -> dict[str, list[str]]:
        """Return the channels of each transform."""
        grouped: dict[str, list[str]] = {}
        for channel in self.features:
            grouped.setdefault(self.transforms[channel], []).append(channel)
        return grouped


def _lent(values: np.ndarray) -> np.ndarray:
    """Return the same values, which the holder of what is returned cannot write to."""
    lent = values.view()
    lent.flags.writeable = False
    return lent
