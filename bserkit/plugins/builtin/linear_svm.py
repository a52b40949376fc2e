"""The scikit-learn side of the built-in classifier; imported only when one is made, since it imports scikit-learn."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import combinations, takewhile
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.svm import SVC
from sklearn.utils import check_array
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from bserkit import speaker_groups, stratified_groups, unknown_speakers

#: The costs that a search compares, half a decade apart, and the inner speaker groups it compares them on.
SEARCHED_COSTS = (0.001, 0.00316, 0.01, 0.0316, 0.1, 0.316, 1.0, 3.16, 10.0, 31.6, 100.0)
SEARCH_GROUPS = 5
#: How many steps a machine of a search may take. Features that are not scaled can ask for any number at high costs.
SEARCH_STEPS = 1_000_000
#: How far from the optimum the solver may stop: near enough for the order of items to change no decision.
TOLERANCE = 1e-5
_DTYPES = (np.float32, np.float64)


class Restorable:
    """Gives as its state what ``fit`` learned, which ends in an underscore, as is scikit-learn's custom."""

    def state(self) -> dict[str, Any]:
        """Return every fitted attribute by name, or its own state."""
        learned = {name: value for name, value in vars(self).items() if name.endswith("_")}
        return {name: value.state() if isinstance(value, Restorable) else value for name, value in learned.items()}

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Return this estimator as it was fitted."""
        vars(self).update(state)
        return self


class LinearSVM(Restorable, ClassifierMixin, BaseEstimator):
    """Linear SVMs, one a class against the rest or one a pair of classes, fitted through one Gram matrix for all.

    Features are scaled to deviation 1 and divided by the square root of their number, so that ``c`` means the same for
    vectors of any size. Equal, up to rounding, to ``SVC(kernel="linear")`` on the same scaled features: fitted for each
    class against the rest, or, one against one, on all classes with ``decision_function_shape="ovr"``.

    No training item lies more deviations from the mean than the square root of their number, whatever the feature, so
    scaled items of others are limited to that. Otherwise a feature that is zero in training but for rounding could
    outweigh all others, and decisions would depend on how a processor rounds.

    A Gram matrix serves every class and every cost, and since it is a sum over features, that of several channels is
    the sum of theirs. It does not serve other training items: what features are scaled by is fitted on those alone, so
    every inner fold of a search has Gram matrices of its own.

    Args:
        c: cost of errors, or ``search`` for the best of ``SEARCHED_COSTS`` on inner speaker groups; of several that are
            equally good, the smallest. Costs at which the solver takes too many steps are left out. Where speakers are
            not known the groups are random ones of items.
        scale: ``standard`` or ``none``.
        search: what the best is: ``accuracy`` or ``uar``, over the items of all inner groups together.
        class_weight: ``balanced`` multiplies an item's cost by items / (classes x items of its class), of the classes
            that a machine tells apart: against the rest that is two. One against one it is those of all classes.
        decision: ``ovr``, one against the rest, or ``ovo``, one against one: a class scores the pairs that it wins, and
            by less than one half more or less how clearly it does.
    """

    def __init__(
        self,
        c: float | Literal["search"] = 1.0,
        scale: Literal["standard", "none"] = "standard",
        search: Literal["accuracy", "uar"] = "accuracy",
        class_weight: Literal["none", "balanced"] = "none",
        decision: Literal["ovr", "ovo"] = "ovr",
    ) -> None:
        self.c = c
        self.scale = scale
        self.search = search
        self.class_weight = class_weight
        self.decision = decision

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
        self.notes_: tuple[str, ...] = ()
        self.c_ = self._search(blocks, y, groups) if self.c == "search" else self.c
        self.chosen_ = {"c": self.c_} if self.c == "search" else {}
        duals, self.intercept_ = self._machines(_gram(blocks), y, [self.c_])[self.c_]
        unit = 1 / np.sqrt(self.n_features_in_)
        self.mean_ = np.concatenate([block.whole.mean for block in blocks])
        self.factor_ = np.concatenate([block.whole.factor * block.X.dtype.type(unit) for block in blocks])
        self.limit_ = self.factor_.dtype.type(unit * largest_deviation(len(y)) if self.scale == "standard" else np.inf)
        # (machine, feature): as the machines are linear, their weights are all that has to be kept.
        self.coef_ = np.concatenate([(duals * unit).astype(block.X.dtype) @ block.whole.values for block in blocks], 1)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Return the signed distances, ``(item, class)``, or ``(item,)`` for the second of two classes."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=_DTYPES, reset=False)
        values = np.clip((X - self.mean_) * self.factor_, -self.limit_, self.limit_)
        scores = self._by_class(values @ self.coef_.T + self.intercept_, len(self.classes_))
        return scores if len(self.classes_) > 2 else scores[:, 1]

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Return the class of the largest score of each item."""
        scores = self.decision_function(X)
        return self.classes_[scores.argmax(axis=1) if scores.ndim > 1 else (scores > 0).astype(int)]

    def _search(self, blocks: Sequence[_Block], y: np.ndarray, groups: np.ndarray | None) -> float:
        if groups is None:
            raise ValueError("c='search' needs groups=, the items' speakers, so that no speaker is on both sides")
        group_of = self._inner_groups(y, groups)
        right = {cost: np.zeros(len(self.classes_)) for cost in SEARCHED_COSTS}
        held_out = np.zeros(len(self.classes_))
        costs: tuple[float, ...] = SEARCHED_COSTS
        for group in np.unique(group_of):
            held, rest = group_of == group, group_of != group
            known = unique_labels(y[rest])
            if len(known) < 2:
                continue
            truth = y[held]
            held_out += [np.sum(truth == name) for name in self.classes_]
            gram = _gram(blocks, rest)
            machines = self._machines(gram[rest], y[rest], costs, SEARCH_STEPS)
            # What does not settle is not compared, and higher costs take longer still.
            costs = tuple(takewhile(lambda cost: cost in machines, costs))  # noqa: B023
            for cost, (duals, intercepts) in machines.items():
                scores = self._by_class(gram[held] @ duals.T + intercepts, len(known))
                hit = known[scores.argmax(axis=1)] == truth
                right[cost] += [np.sum(hit & (truth == name)) for name in self.classes_]
        if not costs:
            raise ValueError(
                f"c='search' can compare nothing, because even at c={SEARCHED_COSTS[0]} the solver does not settle in "
                f"{SEARCH_STEPS:,} steps. Scale the features (scale=standard)"
            )
        if costs != SEARCHED_COSTS:
            left = f"{SEARCHED_COSTS[len(costs)]:g}"
            self.notes_ += (f"costs from {left} on were not compared: at {left} the solver took too many steps",)
        if not held_out.any():
            raise ValueError(
                "c='search' can compare nothing, because without any one inner speaker group the training items are of "
                "one class. Give c a number, such as c=1"
            )
        there = held_out > 0
        if self.search == "uar":
            # Rounded, so that what is equal counts as equal.
            reached = {cost: round(float(np.mean(right[cost][there] / held_out[there])), 12) for cost in costs}
        else:
            reached = {cost: float(right[cost].sum()) for cost in costs}
        # Among equals the smallest cost: the most regular machine.
        return max(reached, key=lambda cost: (reached[cost], -cost))

    def _inner_groups(self, y: np.ndarray, groups: np.ndarray) -> np.ndarray:
        """Return ``(item,)`` inner groups: of speakers, or of items where speakers are not known."""
        if not (why := unknown_speakers(groups)):
            return speaker_groups(groups, SEARCH_GROUPS)
        self.notes_ += (f"c was searched on random inner groups, which may part a speaker's items: {why}",)
        return stratified_groups(y, SEARCH_GROUPS, seed=0)

    def _machines(
        self, gram: np.ndarray, y: np.ndarray, costs: Sequence[float], steps: int = -1
    ) -> dict[float, tuple[np.ndarray, np.ndarray]]:
        """Return, by cost, the ``(machine, item)`` dual weights and the ``(machine,)`` intercepts.

        Costs at which a machine does not settle in so many steps are left out.
        """
        classes = unique_labels(y)
        targets = [y] if self.decision == "ovo" else [y == name for name in classes]
        weights = None if self.class_weight == "none" else self.class_weight

        def fitted(cost: float, target: np.ndarray) -> SVC:
            machine = SVC(kernel="precomputed", C=cost, class_weight=weights, tol=TOLERANCE, cache_size=500)
            return machine.set_params(max_iter=steps).fit(gram, target)

        gram = np.ascontiguousarray(gram)
        # libsvm lets other threads work meanwhile.
        with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
            warnings.simplefilter("ignore", ConvergenceWarning)
            waiting = {cost: [pool.submit(fitted, cost, target) for target in targets] for cost in costs}
            made = {cost: [one.result() for one in machines] for cost, machines in waiting.items()}
        settled = {
            cost: [_duals(one) for one in machines]
            for cost, machines in made.items()
            if not any(one.fit_status_ for one in machines)
        }
        return {
            cost: (np.concatenate([duals for duals, _ in machines]), np.concatenate([one for _, one in machines]))
            for cost, machines in settled.items()
        }

    def _by_class(self, scores: np.ndarray, classes: int) -> np.ndarray:
        """Return ``(item, class)`` scores, given ``(item, machine)``."""
        if self.decision == "ovr":
            return scores
        if classes == 2:
            return np.column_stack([-scores, scores])
        pairs = [*combinations(range(classes), 2)]
        votes, confidence = np.zeros((2, len(scores), classes))
        for (first, second), lead in zip(pairs, scores.T, strict=True):
            votes[:, first] += lead >= 0
            votes[:, second] += lead < 0
            confidence[:, first] += lead
            confidence[:, second] -= lead
        # As SVC's decision_function_shape="ovr" breaks the ties of votes.
        return votes + confidence / (3 * (np.abs(confidence) + 1))


def _duals(machine: SVC) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``(machine, item)`` dual weights and ``(machine,)`` intercepts of a fitted SVC, a machine a pair.

    Of two classes a score above zero is for the second, of more it is for the first of the pair, as in scikit-learn.
    """
    classes = len(machine.classes_)
    pairs = [*combinations(range(classes), 2)]
    duals = np.zeros((len(pairs), machine.shape_fit_[0]))
    # libsvm keeps the weights of a class's support vectors against each other class, in the order of classes.
    class_of = np.repeat(np.arange(classes), machine.n_support_)
    for (first, second), row in zip(pairs, duals, strict=True):
        for own, other in ((first, second), (second, first)):
            row[machine.support_[class_of == own]] = machine.dual_coef_[other - (other > own), class_of == own]
    return duals, machine.intercept_.copy()


def largest_deviation(items: int) -> float:
    """Return how many deviations from the mean no training item can lie beyond, whatever the feature."""
    return float(np.sqrt(items))


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
        limit = largest_deviation(len(X))
        if not rest.all():
            np.clip(values, -limit, limit, out=values)
        return _Scaled(mean, factor, values)


def _gram(blocks: Sequence[_Block], rest: np.ndarray | None = None) -> np.ndarray:
    """Return the blocks' common ``(item, rest item)`` Gram matrix; without ``rest`` of all items."""
    rest = np.ones(len(blocks[0].X), dtype=bool) if rest is None else rest
    return sum(block.gram(rest) for block in blocks) / sum(block.X.shape[1] for block in blocks)
