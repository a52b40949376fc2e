"""Classifiers: an utterance's vector becomes a score for each class (paper, section II-C)."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.component import Component
from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


class Classifier(Component):
    """Makes scikit-learn classifiers; whatever they fit, scalers included, they fit on what ``fit`` is given."""

    kind = "classifier"

    @abstractmethod
    def make(self) -> Any:
        """Return a fresh scikit-learn classifier with ``decision_function`` or ``predict_proba``.

        If its ``fit`` takes ``groups``, as ``GridSearchCV`` does, it is given the training items' speakers. It may have
        ``fit_joined``, which does all of what ``fit_joined`` of this module does at once, if that is quicker.
        """


def fit_classifier(make: Callable[[], Any], features: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> Any:
    """Fit a fresh classifier on ``(item, feature)`` and ``(item,)`` labels.

    Raises:
        BserkitError: the items hold fewer than two classes.
    """
    _check_classes(labels)
    estimator = make()
    return estimator.fit(features, labels, **_groups_for(estimator.fit, speakers))


def fit_joined(
    make: Callable[[], Any],
    features: Mapping[str, np.ndarray],
    joins: Iterable[tuple[str, ...]],
    labels: np.ndarray,
    speakers: np.ndarray,
) -> dict[tuple[str, ...], Any]:
    """Fit a fresh classifier on each join of channels: their ``(item, feature)`` columns one channel after another.

    Raises:
        BserkitError: the items hold fewer than two classes.
    """
    joins = list(dict.fromkeys(joins))
    if fit := getattr(make(), "fit_joined", None):
        _check_classes(labels)
        fitted: dict[tuple[str, ...], Any] = fit(features, joins, labels, **_groups_for(fit, speakers))
        return fitted
    return {join: fit_classifier(make, joined(features, join), labels, speakers) for join in joins}


def joined(features: Mapping[str, np.ndarray], channels: Sequence[str]) -> np.ndarray:
    """Return the ``(item, feature)`` columns of several channels, one channel after another."""
    if len(channels) == 1:
        return features[channels[0]]
    return np.concatenate([features[channel] for channel in channels], axis=1)


def _check_classes(labels: np.ndarray) -> None:
    if len(np.unique(labels)) < 2:
        raise BserkitError(
            f"A classifier needs two classes to learn from, but all {len(labels)} training items of a split are "
            f"labelled {labels[0] if len(labels) else 'nothing'!r}. Use fewer, larger speaker groups."
        )


def _groups_for(fit: Callable[..., Any], speakers: np.ndarray) -> dict[str, np.ndarray]:
    return {"groups": speakers} if "groups" in inspect.signature(fit).parameters else {}


def class_scores(estimator: Any, features: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return ``(item, class)`` scores, columns in the order of ``classes``, the largest being the decision.

    A class that was missing from training gets one less than the item's lowest score, so that it is never decided for
    and takes part in no sum with an infinite value.
    """
    if hasattr(estimator, "decision_function"):
        known = np.asarray(estimator.decision_function(features), dtype=np.float64)
        if known.ndim == 1:
            known = np.stack([-known, known], axis=1)
    else:
        known = np.asarray(estimator.predict_proba(features), dtype=np.float64)
    learned = [str(name) for name in estimator.classes_]
    if known.shape != (len(features), len(learned)):
        raise BserkitError(
            f"{type(estimator).__name__} scored {known.shape} for {len(features)} items and {len(learned)} classes; "
            "expected (item, class). An SVC needs decision_function_shape='ovr'."
        )
    scores = np.repeat(known.min(axis=1, keepdims=True) - 1.0, len(classes), axis=1)
    scores[:, [list(classes).index(name) for name in learned]] = known
    return scores
