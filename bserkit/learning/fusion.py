"""Fusers: the channels' features become one decision (paper, section II-D)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.component import Component
from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bserkit.learning.views import Views


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

    def state(self) -> Mapping[str, Any]:
        """Return all that ``scores`` and ``parts`` need, by name, from which ``Fuser.restore`` makes the same again.

        It may hold None, text, numbers, arrays of numbers or text, fitted classifiers, and lists and dictionaries of
        these. How a classifier is kept is its own affair: see ``Classifier.make``.

        Raises:
            BserkitError: the fuser's author offers no way to save it.
        """
        raise BserkitError(f"{type(self).__name__} has no state(), so that it cannot be saved; its author can add one.")


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

    def restore(self, state: Mapping[str, Any]) -> FittedFuser:
        """Return what was fitted, given its ``state()``, in which tuples have become lists.

        Its weights, notes and choices are kept beside it and need not be restored.

        Raises:
            BserkitError: the fuser's author offers no way to load it.
        """
        raise BserkitError(
            f"{type(self).__name__} has no restore(), so that it cannot be loaded; its author can add one."
        )

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
