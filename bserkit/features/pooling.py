"""Poolers: an utterance's segment features become one vector of fixed length (paper, section II-C)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bserkit.component import Component
from bserkit.errors import BserkitError

if TYPE_CHECKING:
    import numpy as np

    from bserkit.features.learned import ChannelView


class Pooler(Component):
    """Aggregates over the segments of an utterance, or over its frames where the backbone makes a vector of each."""

    kind = "pooler"

    @abstractmethod
    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Turn ``(segment, feature)``, at least one segment or frame, in time's order, into ``(feature',)``.

        It is given a copy of its own; what it returns must be finite, and of one length for all utterances.
        """


class FittedPooler(ABC):
    """What a pooler learned from one channel of the training utterances of a fold."""

    @abstractmethod
    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Turn ``(segment, feature)`` into ``(feature',)``, as ``Pooler.pool`` does."""

    @abstractmethod
    def state(self) -> Mapping[str, Any]:
        """Return all that ``pool`` needs, by name, from which ``LearningPooler.restore`` makes the same again.

        None, text, numbers, arrays of numbers or text, and lists and dictionaries of these.
        """


class LearningPooler(Pooler):
    """A pooler that first learns from the segments of the training utterances, in each fold and channel anew.

    Utterances are then pooled anew in each fold. What is searched inside a fold is searched on what a pooler makes that
    has seen all of the fold's training utterances.
    """

    @abstractmethod
    def fit(self, training: ChannelView) -> FittedPooler:
        """Fit on one channel: ``training.values`` holds the ``(segment, feature)`` of each training utterance."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> FittedPooler:
        """Return what was fitted, given its ``state()``, in which tuples have become lists."""

    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Raise ``BserkitError``: there is nothing to pool by before ``fit``."""
        raise BserkitError(
            f"pooler {self.name} learns from the training utterances of a fold before it pools; here is no fold. "
            "Choose one that does not, such as block-max."
        )
