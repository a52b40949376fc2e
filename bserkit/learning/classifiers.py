"""Classifiers: an utterance's vector becomes a score for each class (paper, section II-C)."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.component import Component
from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


class Classifier(Component):
    """Makes scikit-learn classifiers; whatever they fit, scalers included, they fit on what ``fit`` is given."""

    kind = "classifier"

    @abstractmethod
    def make(self) -> Any:
        """Return a fresh scikit-learn classifier with ``decision_function`` or ``predict_proba``.

        The training items' speakers reach every search inside it, such as a ``GridSearchCV`` in a ``Pipeline``: they
        are the ``groups`` of its ``cv``, and of every ``fit`` that takes ``groups``. A ``cv`` that is a whole number,
        or None for five, becomes as many stratified folds of speakers, at most one a speaker; a splitter that takes no
        groups, such as ``KFold``, is refused. Where speakers are not known, a whole number means scikit-learn's own
        folds of items, and a note of the run says so.

        What a search chose, its ``best_params_`` or the ``chosen_`` of any other estimator, is logged by fold, and the
        sentences of its ``notes_`` become notes of the run. It may have ``fit_joined``, which does all of what
        ``fit_joined`` of this module does at once, if that is quicker.

        A fitted estimator of scikit-learn's own, such as a ``Pipeline`` of these, can be saved as it is. Any other
        needs two methods: ``state()`` returns all that scoring needs as a dictionary of None, text, numbers, arrays of
        numbers or text, and lists and dictionaries of these; ``restore(state)``, called on what ``make`` returned,
        returns the same fitted estimator again. Tuples become lists on the way.
        """


class ClassifierError(BserkitError):
    """A classifier could not learn or score."""


def fit_classifier(make: Callable[[], Any], features: np.ndarray, labels: np.ndarray, speakers: np.ndarray) -> Any:
    """Fit a fresh classifier on ``(item, feature)`` and ``(item,)`` labels; see ``Classifier.make`` for the speakers.

    Raises:
        ClassifierError: the items hold fewer than two classes, or the classifier failed.
    """
    from bserkit.learning.routing import fit

    _check_classes(labels)
    estimator = make()
    with _told(estimator, "learn from", features):
        fitted = fit(estimator, features, labels, speakers)
    _check_search(fitted)
    return fitted


def fit_joined(
    make: Callable[[], Any],
    features: Mapping[str, np.ndarray],
    joins: Iterable[tuple[str, ...]],
    labels: np.ndarray,
    speakers: np.ndarray,
) -> dict[tuple[str, ...], Any]:
    """Fit a fresh classifier on each join of channels: their ``(item, feature)`` columns one channel after another.

    Raises:
        ClassifierError: the items hold fewer than two classes, or the classifier failed.
    """
    joins = list(dict.fromkeys(joins))
    estimator = make()
    if fit := getattr(estimator, "fit_joined", None):
        _check_classes(labels)
        groups = {"groups": speakers} if "groups" in inspect.signature(fit).parameters else {}
        with _told(estimator, "learn from", *features.values()):
            fitted: dict[tuple[str, ...], Any] = fit(features, joins, labels, **groups)
        return fitted
    return {join: fit_classifier(make, joined(features, join), labels, speakers) for join in joins}


def joined(features: Mapping[str, np.ndarray], channels: Sequence[str]) -> np.ndarray:
    """Return the ``(item, feature)`` columns of several channels, one channel after another."""
    if len(channels) == 1:
        return features[channels[0]]
    return np.concatenate([features[channel] for channel in channels], axis=1)


def _check_classes(labels: np.ndarray) -> None:
    if len(np.unique(labels)) < 2:
        raise ClassifierError(
            f"A classifier needs two classes to learn from, but all {len(labels)} training items of a split are "
            f"labelled {labels[0] if len(labels) else 'nothing'!r}. Use fewer, larger speaker groups."
        )


def _check_search(estimator: Any) -> None:
    """Refuse the choice of a search that could compare nothing: scikit-learn then takes the first of what it tried."""
    for one in (estimator, *getattr(estimator, "named_steps", {}).values()):
        if np.isnan(getattr(one, "best_score_", 0.0)):
            raise ClassifierError(
                f"{type(one).__name__} could compare nothing: in some of its folds of training items every candidate "
                "failed, as where a fold leaves one class to learn from. Use fewer folds, or fix the parameters."
            )


def chosen(estimator: Any) -> dict[str, Any]:
    """Return what a fitted classifier chose by searching: its ``chosen_`` or ``best_params_``, those inside it too.

    >>> from types import SimpleNamespace
    >>> chosen(SimpleNamespace(best_params_={"svc__C": 10})), chosen(SimpleNamespace())
    ({'svc__C': 10}, {})
    """
    found = dict(getattr(estimator, "chosen_", getattr(estimator, "best_params_", {})))
    for one in (getattr(estimator, "best_estimator_", None), *getattr(estimator, "named_steps", {}).values()):
        found |= chosen(one) if one is not None else {}
    return found


def search_notes(estimator: Any) -> list[str]:
    """Return what a reader must know of how a fitted classifier searched: its ``notes_``, and of those inside it.

    >>> from types import SimpleNamespace
    >>> search_notes(SimpleNamespace(notes_=["few speakers"])), search_notes(None)
    (['few speakers'], [])
    """
    inside = [getattr(estimator, "best_estimator_", None), *getattr(estimator, "named_steps", {}).values()]
    own = [
        *getattr(estimator, "notes_", ()),
        *(note for one in inside if one is not None for note in search_notes(one)),
    ]
    return list(dict.fromkeys(own))


@contextmanager
def _told(estimator: Any, what: str, *features: np.ndarray) -> Iterator[None]:
    """Tell a failure of a classifier in one paragraph, with what may be wrong with its features."""
    try:
        yield
    except BserkitError as error:
        raise ClassifierError(str(error)) from error
    except Exception as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [""]
        said = (lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}").rstrip(".")
        finite = np.logical_and.reduce([np.isfinite(one).all(axis=1) for one in features])
        odd = "" if finite.all() else f" {(~finite).sum()} of the items have features that are NaN or infinite."
        size = f"{len(finite)} items of {sum(one.shape[1] for one in features)} features"
        name = type(estimator).__name__
        raise ClassifierError(f"{name} could not {what} {size}: {type(error).__name__}: {said}.{odd}") from error


def class_scores(estimator: Any, features: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return ``(item, class)`` scores, columns in the order of ``classes``, the largest being the decision.

    A class that was missing from training gets one less than the item's lowest score, so that it is never decided for
    and takes part in no sum with an infinite value.

    Raises:
        ClassifierError: the classifier failed, or what it made is not such scores.
    """
    with _told(estimator, "score", features):
        if hasattr(estimator, "decision_function"):
            known = np.asarray(estimator.decision_function(features), dtype=np.float64)
            if known.ndim == 1:
                known = np.stack([-known, known], axis=1)
        else:
            known = np.asarray(estimator.predict_proba(features), dtype=np.float64)
    learned = [str(name) for name in estimator.classes_]
    if known.shape != (len(features), len(learned)):
        raise ClassifierError(
            f"{type(estimator).__name__} scored {known.shape} for {len(features)} items and {len(learned)} classes; "
            "expected (item, class). An SVC needs decision_function_shape='ovr'."
        )
    scores = np.repeat(known.min(axis=1, keepdims=True) - 1.0, len(classes), axis=1)
    scores[:, [list(classes).index(name) for name in learned]] = known
    return scores
