"""The scikit-learn side of ``pls`` and ``pca-svm``; imported only when one is made, since it imports scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cross_decomposition import PLSRegression
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from bserkit.plugins.builtin.linear_svm import LinearSVM, Restorable, largest_deviation

#: When the search for a latent direction has settled: near enough for the order of items to change no decision.
_TOLERANCE = 1e-12
_ITERATIONS = 5000


class PLS(Restorable, ClassifierMixin, BaseEstimator):
    """Partial least squares regression from standardised features to one column a class, 1 for its items and else 0.

    Equal, up to rounding, to scikit-learn's ``PLSRegression`` on the same features and columns, both scaled to
    deviation 1 over the training items. It is computed in the coordinates of the training items' principal directions,
    of which there are no more than items, because the regression does not depend on the coordinates.

    Args:
        components: latent directions; at most as many as the training items span.
    """

    def __init__(self, components: int = 10) -> None:
        self.components = components

    def fit(self, X: np.ndarray, y: np.ndarray) -> PLS:
        """Fit ``(item, feature)`` and ``(item,)`` labels."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_ = _two_or_more_classes(y)
        self.scaler_ = _Scaler().fit(X)
        directions, lengths = principal_directions(scaled := self.scaler_.transform(X))
        columns = (y[:, None] == self.classes_).astype(np.float64)
        deviations = columns.std(axis=0, ddof=1)
        self.components_ = min(self.components, len(lengths))
        # (class, feature): as the regression is linear, its weights are all that has to be kept.
        self.coef_, self.intercept_ = np.zeros((len(self.classes_), X.shape[1])), columns.mean(axis=0)
        if lengths[0] > 0:
            regression = PLSRegression(self.components_, scale=False, tol=_TOLERANCE, max_iter=_ITERATIONS)
            with warnings.catch_warnings():
                # Where two directions are as good as each other the iteration does not settle between them.
                warnings.simplefilter("ignore", ConvergenceWarning)
                regression.fit(scaled @ directions, columns / deviations)
            self.coef_ = (regression.coef_ * deviations[:, None]) @ directions.T
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the regressed columns, ``(item, class)``, or ``(item,)`` the second's lead of two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        scores = self.scaler_.transform(X) @ self.coef_.T + self.intercept_
        return scores if len(self.classes_) > 2 else scores[:, 1] - scores[:, 0]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of the largest score of each item."""
        return _decided(self.decision_function(X), self.classes_)

    def restore(self, state: Mapping[str, Any]) -> PLS:
        """Return this regression as it was fitted."""
        return super().restore({**state, "scaler_": _Scaler().restore(state["scaler_"])})


class PcaSVM(Restorable, ClassifierMixin, BaseEstimator):
    """Standardised features, their principal components, then the linear SVM.

    Components keep their lengths, so with all of them this is the linear SVM without them, and ``c`` means the same.
    A search of ``c`` compares costs on the components of all training items.

    Args:
        components: below 1 the share of the variance to keep, from 1 on how many; at most as many as there are.
        c, search, class_weight, decision: as of ``LinearSVM``.
    """

    def __init__(
        self,
        components: float = 0.99,
        c: float | Literal["search"] = 1.0,
        search: Literal["accuracy", "uar"] = "accuracy",
        class_weight: Literal["none", "balanced"] = "none",
        decision: Literal["ovr", "ovo"] = "ovr",
    ) -> None:
        self.components = components
        self.c = c
        self.search = search
        self.class_weight = class_weight
        self.decision = decision

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> PcaSVM:
        """Fit ``(item, feature)`` and ``(item,)`` labels; a search needs ``groups``, the items' speakers."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_ = _two_or_more_classes(y)
        self.scaler_ = _Scaler().fit(X)
        directions, lengths = principal_directions(scaled := self.scaler_.transform(X))
        variances = lengths**2
        if self.components < 1:
            count = int(np.searchsorted(np.cumsum(variances), self.components * variances.sum())) + 1
        else:
            count = int(self.components)
        self.components_ = min(count, len(lengths))
        # The SVM divides by the root of the number of its features; here that of the original ones is meant.
        self.directions_ = directions[:, : self.components_] * np.sqrt(self.components_ / X.shape[1])
        self.svm_ = self._svm().fit(scaled @ self.directions_, y, groups)
        self.chosen_, self.notes_ = self.svm_.chosen_, self.svm_.notes_
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the signed distances, ``(item, class)``, or ``(item,)`` for the second of two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        return self.svm_.decision_function(self.scaler_.transform(X) @ self.directions_)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of the largest score of each item."""
        return _decided(self.decision_function(X), self.classes_)

    def restore(self, state: Mapping[str, Any]) -> PcaSVM:
        """Return this SVM as it was fitted."""
        parts = {"scaler_": _Scaler().restore(state["scaler_"]), "svm_": self._svm().restore(state["svm_"])}
        return super().restore({**state, **parts})

    def _svm(self) -> LinearSVM:
        return LinearSVM(self.c, "none", self.search, self.class_weight, self.decision)


class _Scaler(Restorable, StandardScaler):
    """Scales to deviation 1 over the training items, and limits others to what those can have: see ``LinearSVM``."""

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Return scaled ``(item, feature)``, limited."""
        limit = largest_deviation(int(self.n_samples_seen_))
        return np.clip(super().transform(X), -limit, limit)


def principal_directions(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the orthonormal ``(feature, component)`` directions that centred ``(item, feature)`` spans, the longest
    first, and the ``(component,)`` length of the items along each.

    They are those of the singular value decomposition, through the smaller of its two Gram matrices. Where nothing
    varies there is one component of length zero.
    """
    wide = np.asarray(centred, dtype=np.float64)
    more_features = wide.shape[1] > wide.shape[0]
    values, vectors = eigh(wide @ wide.T if more_features else wide.T @ wide)
    spanned = values > max(wide.shape) * np.finfo(np.float64).eps * max(values[-1], 1e-30)
    spanned[-1] = True
    values, vectors = values[spanned][::-1], vectors[:, spanned][:, ::-1]
    lengths = np.sqrt(np.maximum(values, 0))
    return (wide.T @ vectors) / np.where(lengths > 0, lengths, 1) if more_features else vectors, lengths


def _two_or_more_classes(y: np.ndarray) -> np.ndarray:
    classes = unique_labels(y)
    if len(classes) < 2:
        raise ValueError(f"Classifier can't train when only one class is present: {classes[0]!r}")
    return classes


def _decided(scores: np.ndarray, classes: np.ndarray) -> np.ndarray:
    return classes[scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)]
