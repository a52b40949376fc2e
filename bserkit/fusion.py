"""Fusers: the channels' features become one decision (paper, section II-D)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.component import Component

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: The name of the final decision beside those of channels and transforms.
FUSION = "fusion"


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
    """

    features: Mapping[str, np.ndarray]
    transforms: Mapping[str, str]
    classes: tuple[str, ...]
    labels: np.ndarray
    speakers: np.ndarray
    sessions: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))

    def __post_init__(self) -> None:
        """Fill in sessions where none are given."""
        if len(self.sessions) != len(self.speakers):
            object.__setattr__(self, "sessions", np.full(len(self.speakers), ""))

    def __len__(self) -> int:
        """Count the items."""
        return len(self.speakers)

    def take(self, rows: np.ndarray) -> Views:
        """Return the views of some of the items, by index; nothing in them can be written to."""
        features = {channel: _lent(values[rows]) for channel, values in self.features.items()}
        labels = _lent(self.labels[rows] if len(self.labels) else self.labels)
        speakers, sessions = _lent(self.speakers[rows]), _lent(self.sessions[rows])
        transforms = dict(self.transforms)
        return replace(
            self, features=features, transforms=transforms, labels=labels, speakers=speakers, sessions=sessions
        )

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


@dataclass(frozen=True)
class Trial:
    """One weighting that a search tried: how much of each input, and how well it did on the items searched on."""

    stage: str
    weights: Mapping[str, float]
    score: float
    chosen: bool


class FittedFuser(ABC):
    """What a fuser learned from training items.

    Attributes:
        weights: the weight of each channel and transform, where the fuser has such.
        trials: every weighting that was tried while fitting.
        notes: what a reader must know, such as a search that the data could not carry.
        choices: by channel, transform or ``fusion``, what its classifier chose by searching: see ``chosen``.
    """

    weights: Mapping[str, float] = {}
    trials: Sequence[Trial] = ()
    notes: Sequence[str] = ()
    choices: Mapping[str, Mapping[str, Any]] = {}

    @abstractmethod
    def scores(self, views: Views) -> np.ndarray:
        """Score unlabelled items: ``(item, class)``, the largest being the decision."""

    def parts(self, views: Views) -> dict[str, np.ndarray]:
        """Score the same items by single channels and transforms, each ``(item, class)``, where that has a meaning."""
        return {}


@dataclass(frozen=True)
class OracleFusion:
    """A fusion whose weights were searched on the evaluated items themselves: optimistic, and said to be so.

    Attributes:
        parts: ``(item, class)`` scores of each transform, where such are fused.
    """

    weights: Mapping[str, float]
    scores: np.ndarray
    trials: Sequence[Trial] = field(default=())
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)


class Fuser(Component):
    """Learns from the training items of one fold how to decide on others."""

    kind = "fusion"

    @abstractmethod
    def fit(self, views: Views, make_classifier: Callable[[], Any]) -> FittedFuser:
        """Fit on training items; ``make_classifier`` returns a fresh scikit-learn classifier at each call."""

    def oracle(
        self,
        scores: Mapping[str, np.ndarray],
        transforms: Mapping[str, str],
        labels: np.ndarray,
        classes: Sequence[str],
    ) -> OracleFusion | None:
        """Search on the evaluated items, given each channel's ``(item, class)`` test scores, if asked to.

        The result is reported beside the honest one under names that begin with ``oracle_``, never in its place.
        """
        return None
