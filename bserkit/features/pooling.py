"""Poolers: an utterance's segment features become one vector of fixed length (paper, section II-C)."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from bserkit.component import Component

if TYPE_CHECKING:
    import numpy as np


class Pooler(Component):
    """Aggregates over the segments of an utterance."""

    kind = "pooler"

    @abstractmethod
    def pool(self, segments: np.ndarray) -> np.ndarray:
        """Turn ``(segment, feature)``, at least one segment, in time's order, into ``(feature',)``.

        It is given a copy of its own; what it returns must be finite, and of one length for all utterances.
        """
