"""The scikit-learn side of the built-in classifier; imported only when one is made, since it imports scikit-learn."""

from __future__ import annotations

from typing import Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.svm import SVC
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from bserkit import speaker_groups

#: The costs that a search compares, and the inner speaker groups it compares them on.
SEARCHED_COSTS = (0.01, 0.1, 1.0, 10.0)
SEARCH_GROUPS = 5
#: How far from the optimum the solver may stop: near enough for the order of items to change no decision.
TOLERANCE = 1e-5


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One linear SVM a class against the rest, fitted through one Gram matrix that all of them share.

    Features are scaled to deviation 1 and divided by the square root of their number, so that ``c`` means the same for
    vectors of any size. Equal, up to rounding, to ``SVC(kernel="linear")`` for each class on the same scaled features.

    Args:
        c: cost of errors, or ``search`` to pick the most accurate of ``SEARCHED_COSTS`` on inner speaker groups.
        scale: ``standard`` or ``none``.
    """

    def __init__(self, c: float | Literal["search"] = 1.0, scale: Literal["standard", "none"] = "standard") -> None:
        self.c = c
        self.scale = scale

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LinearSVM:
        """Fit ``(item, feature)`` and ``(item,)`` labels; a search needs ``groups``, the items' speakers."""
        X, y = validate_data(self, X, y, dtype=[np.float32, np.float64])
        self.classes_ = unique_labels(y)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        self.c_ = self._search(X, y, groups) if self.c == "search" else self.c
        self.mean_, self.factor_ = self._scaling(X)
        scaled = (X - self.mean_) * self.factor_
        machines = _one_against_rest(scaled @ scaled.T, y, self.classes_, [self.c_])[self.c_]
        # (class, feature): as the machines are linear, their weights are all that has to be kept.
        self.coef_ = np.stack([weights @ scaled for weights, _ in machines])
        self.intercept_ = np.array([intercept for _, intercept in machines])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the signed distances, ``(item, class)``, or ``(item,)`` for the second of two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float32, np.float64], reset=False)
        scores = ((X - self.mean_) * self.factor_) @ self.coef_.T + self.intercept_
        return scores if len(self.classes_) > 2 else scores[:, 1]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of the largest score of each item."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)]

    def _scaling(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = np.sqrt(X.dtype.type(X.shape[1]))
        if self.scale == "none":
            return np.zeros_like(X[0]), np.full_like(X[0], 1 / size)
        deviation = X.std(axis=0)
        # A feature that is constant in training tells nothing: its deviation is left at 1.
        constant = deviation <= 10 * np.finfo(X.dtype).eps * np.abs(X).max(axis=0)
        return X.mean(axis=0), 1 / (np.where(constant, 1, deviation) * size)

    def _search(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None) -> float:
        if groups is None:
            raise ValueError("c='search' needs groups=, the items' speakers, so that no speaker is on both sides")
        group_of = speaker_groups(groups, SEARCH_GROUPS)
        right = dict.fromkeys(SEARCHED_COSTS, 0)
        for group in np.unique(group_of):
            held, rest = group_of == group, group_of != group
            known = unique_labels(y[rest])
            if not held.any() or len(known) < 2:
                continue
            mean, factor = self._scaling(X[rest])
            scaled = (X - mean) * factor
            gram = scaled @ scaled[rest].T
            for cost, machines in _one_against_rest(gram[rest], y[rest], known, SEARCHED_COSTS).items():
                scores = np.stack([gram[held] @ weights + intercept for weights, intercept in machines], axis=1)
                right[cost] += int((known[scores.argmax(axis=1)] == y[held]).sum())
        # Among equals the smallest cost: the most regular machine.
        return max(right, key=lambda cost: (right[cost], -cost))


def _one_against_rest(
    gram: np.ndarray, y: np.ndarray, classes: np.ndarray, costs: tuple[float, ...] | list[float]
) -> dict[float, list[tuple[np.ndarray, float]]]:
    """Return, by cost, each class's ``(item,)`` dual weights and intercept."""
    gram = np.asarray(gram, dtype=np.float64, order="C")
    machines: dict[float, list[tuple[np.ndarray, float]]] = {}
    for cost in costs:
        machines[cost] = []
        for name in classes:
            machine = SVC(kernel="precomputed", C=cost, tol=TOLERANCE, cache_size=500).fit(gram, y == name)
            weights = np.zeros(len(y), dtype=np.float64)
            weights[machine.support_] = machine.dual_coef_[0]
            machines[cost].append((weights, float(machine.intercept_[0])))
    return machines
