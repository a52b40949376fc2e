"""The scikit-learn side of the built-in classifier; imported only when one is made, since it imports scikit-learn."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.svm import SVC
from sklearn.utils import check_array
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from bserkit import speaker_groups

#: The costs that a search compares, and the inner speaker groups it compares them on.
SEARCHED_COSTS = (0.01, 0.1, 1.0, 10.0)
SEARCH_GROUPS = 5
#: How far from the optimum the solver may stop: near enough for the order of items to change no decision.
TOLERANCE = 1e-5
_DTYPES = (np.float32, np.float64)


class LinearSVM(ClassifierMixin, BaseEstimator):
    """One linear SVM a class against the rest, fitted through one Gram matrix that all of them share.

    Features are scaled to deviation 1 and divided by the square root of their number, so that ``c`` means the same for
    vectors of any size. Equal, up to rounding, to ``SVC(kernel="linear")`` for each class on the same scaled features.

    A Gram matrix serves every class and every cost, and since it is a sum over features, that of several channels is
    the sum of theirs. It does not serve other training items: what features are scaled by is fitted on those alone, so
    every inner fold of a search has Gram matrices of its own.

    Args:
        c: cost of errors, or ``search`` to pick the most accurate of ``SEARCHED_COSTS`` on inner speaker groups.
        scale: ``standard`` or ``none``.
    """

    def __init__(self, c: float | Literal["search"] = 1.0, scale: Literal["standard", "none"] = "standard") -> None:
        self.c = c
        self.scale = scale

    def fit(self, X: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None) -> LinearSVM:
        """Fit ``(item, feature)`` and ``(item,)`` labels; a search needs ``groups``, the items' speakers."""
        X, y = validate_data(self, X, y, dtype=_DTYPES)
        return self._learn([_Block(X, self.scale)], y, groups)

    def fit_joined(
        self,
        blocks: Mapping[str, np.ndarray],
        joins: Iterable[tuple[str, ...]],
        y: np.ndarray,
        groups: np.ndarray | None = None,
    ) -> dict[tuple[str, ...], LinearSVM]:
        """Fit a machine like this one on each join of blocks: ``(item, feature)`` columns one block after another."""
        known = {name: _Block(check_array(X, dtype=_DTYPES), self.scale) for name, X in blocks.items()}
        return {join: clone(self)._learn([known[name] for name in join], y, groups) for join in joins}

    def _learn(self, blocks: Sequence[_Block], y: np.ndarray, groups: np.ndarray | None) -> LinearSVM:
        self.classes_ = unique_labels(y)
        if len(self.classes_) < 2:
            raise ValueError(f"Classifier can't train when only one class is present: {self.classes_[0]!r}")
        self.n_features_in_ = sum(block.X.shape[1] for block in blocks)
        self.c_ = self._search(blocks, y, groups) if self.c == "search" else self.c
        machines = _one_against_rest(_gram(blocks), y, self.classes_, [self.c_])[self.c_]
        duals = np.stack([weights for weights, _ in machines])
        unit = 1 / np.sqrt(self.n_features_in_)
        self.mean_ = np.concatenate([block.whole.mean for block in blocks])
        self.factor_ = np.concatenate([block.whole.factor * block.X.dtype.type(unit) for block in blocks])
        # (class, feature): as the machines are linear, their weights are all that has to be kept.
        self.coef_ = np.concatenate([(duals * unit).astype(block.X.dtype) @ block.whole.values for block in blocks], 1)
        self.intercept_ = np.array([intercept for _, intercept in machines])
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the signed distances, ``(item, class)``, or ``(item,)`` for the second of two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        scores = ((X - self.mean_) * self.factor_) @ self.coef_.T + self.intercept_
        return scores if len(self.classes_) > 2 else scores[:, 1]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of the largest score of each item."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)]

    def _search(self, blocks: Sequence[_Block], y: np.ndarray, groups: np.ndarray | None) -> float:
        if groups is None:
            raise ValueError("c='search' needs groups=, the items' speakers, so that no speaker is on both sides")
        group_of = speaker_groups(groups, SEARCH_GROUPS)
        right = dict.fromkeys(SEARCHED_COSTS, 0)
        for group in np.unique(group_of):
            held, rest = group_of == group, group_of != group
            known = unique_labels(y[rest])
            if not held.any() or len(known) < 2:
                continue
            gram = _gram(blocks, rest)
            for cost, machines in _one_against_rest(gram[rest], y[rest], known, SEARCHED_COSTS).items():
                scores = np.stack([gram[held] @ weights + intercept for weights, intercept in machines], axis=1)
                right[cost] += int((known[scores.argmax(axis=1)] == y[held]).sum())
        # Among equals the smallest cost: the most regular machine.
        return max(right, key=lambda cost: (right[cost], -cost))


class _Scaled(NamedTuple):
    """``(item, feature)`` values less the mean and times the factor of each feature."""

    mean: np.ndarray
    factor: np.ndarray
    values: np.ndarray


class _Block:
    """``(item, feature)`` of one channel, and its Gram matrices, each computed once."""

    def __init__(self, X: np.ndarray, scale: str) -> None:
        self.X, self.scale = X, scale
        self._grams: dict[bytes, np.ndarray] = {}

    @cached_property
    def whole(self) -> _Scaled:
        """All items, scaled by all."""
        return self._scaled(np.ones(len(self.X), dtype=bool))

    def gram(self, rest: np.ndarray) -> np.ndarray:
        """Return ``(item, rest item)`` products of features that are scaled by the rest items alone."""
        if (key := rest.tobytes()) not in self._grams:
            values = self.whole.values if rest.all() else self._scaled(rest).values
            # Of one matrix with itself half the products are enough, and numpy sees to it.
            product = values @ (values if rest.all() else values[rest]).T
            self._grams[key] = np.asarray(product, dtype=np.float64, order="C")
        return self._grams[key]

    def _scaled(self, rest: np.ndarray) -> _Scaled:
        X = self.X if rest.all() else self.X[rest]
        if self.scale == "none":
            return _Scaled(np.zeros_like(X[0]), np.ones_like(X[0]), self.X)
        mean = X.mean(axis=0)
        values = self.X - mean
        inside = values if rest.all() else values[rest]
        deviation = np.sqrt(np.einsum("if,if->f", inside, inside) / len(X))
        # A feature that is constant in training tells nothing: its deviation is left at 1.
        size = np.maximum(X.max(axis=0), -X.min(axis=0))
        factor = 1 / np.where(deviation <= 10 * np.finfo(X.dtype).eps * size, 1, deviation)
        values *= factor
        return _Scaled(mean, factor, values)


def _gram(blocks: Sequence[_Block], rest: np.ndarray | None = None) -> np.ndarray:
    """Return the blocks' common ``(item, rest item)`` Gram matrix; without ``rest`` of all items."""
    rest = np.ones(len(blocks[0].X), dtype=bool) if rest is None else rest
    return sum(block.gram(rest) for block in blocks) / sum(block.X.shape[1] for block in blocks)


def _one_against_rest(
    gram: np.ndarray, y: np.ndarray, classes: np.ndarray, costs: Sequence[float]
) -> dict[float, list[tuple[np.ndarray, float]]]:
    """Return, by cost, each class's ``(item,)`` dual weights and intercept."""

    def machine(cost: float, name: str) -> tuple[np.ndarray, float]:
        fitted = SVC(kernel="precomputed", C=cost, tol=TOLERANCE, cache_size=500).fit(gram, y == name)
        weights = np.zeros(len(y), dtype=np.float64)
        weights[fitted.support_] = fitted.dual_coef_[0]
        return weights, float(fitted.intercept_[0])

    gram = np.ascontiguousarray(gram)
    # libsvm lets other threads work meanwhile.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {cost: [pool.submit(machine, cost, name) for name in classes] for cost in costs}
        return {cost: [one.result() for one in machines] for cost, machines in waiting.items()}
