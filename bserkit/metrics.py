"""Measures of a classification: accuracy (WA), unweighted average recall (UAR) and macro F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Measures:
    """How well items were classified.

    Attributes:
        accuracy: the share of items decided rightly (WA).
        uar: recall averaged over the classes that occur among the items.
        macro_f1: F1 averaged over the classes that occur among the items or the decisions.
        recall: recall by class; not a number where the class does not occur.
        confusion: ``(class, class)`` counts, rows what is true, columns what was decided.
    """

    accuracy: float
    uar: float
    macro_f1: float
    recall: dict[str, float]
    confusion: np.ndarray

    def overall(self) -> dict[str, float]:
        """Return the three numbers under the names that MLflow shows."""
        return {"accuracy": self.accuracy, "uar": self.uar, "macro_f1": self.macro_f1}


def measure(labels: np.ndarray, decided: np.ndarray, classes: Sequence[str]) -> Measures:
    """Compare ``(item,)`` class names with ``(item,)`` decisions; at least one item.

    >>> measure(np.array(["a", "a", "a", "b"]), np.array(["a", "a", "b", "b"]), ["a", "b", "c"]).uar.round(4).item()
    0.8333
    """
    column = {name: index for index, name in enumerate(classes)}
    pairs = [column[name] for name in labels], [column[name] for name in decided]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, pairs, 1)
    right, true, chosen = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    unknown = np.full(len(classes), np.nan)
    recall = np.divide(right, true, out=unknown.copy(), where=true > 0)
    f1 = np.divide(2 * right, true + chosen, out=unknown.copy(), where=true + chosen > 0)
    return Measures(
        accuracy=float(right.sum() / true.sum()),
        uar=float(np.nanmean(recall)),
        macro_f1=float(np.nanmean(f1)),
        recall=dict(zip(classes, recall.tolist(), strict=True)),
        confusion=confusion,
    )
