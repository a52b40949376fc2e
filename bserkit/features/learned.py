"""What a component that learns inside a fold is given, and what becomes of it: one channel, and a fit for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from bserkit.component import Component

_Recipe = TypeVar("_Recipe", bound=Component)
_Fitted = TypeVar("_Fitted")


@dataclass(frozen=True)
class ChannelView:
    """The same utterances in one channel.

    Attributes:
        values: of each utterance its ``(feature,)`` vector, all of them one array ``(item, feature)``; for a pooler its
            ``(segment, feature)``, read anew whenever it is asked for, so that not all are in memory at once.
        labels: ``(item,)`` class names; empty where utterances are to be scored.
        speakers, sessions: ``(item,)`` names, empty where nobody knows.
    """

    values: Sequence[np.ndarray] | np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    sessions: np.ndarray

    def __len__(self) -> int:
        """Count the utterances."""
        return len(self.speakers)


@dataclass(frozen=True, eq=False)
class Learned(Generic[_Recipe, _Fitted]):
    """What a component learned from the training utterances of a fold.

    Attributes:
        recipe: the component.
        by_channel: what was fitted on each channel.
    """

    recipe: _Recipe
    by_channel: Mapping[str, _Fitted]
