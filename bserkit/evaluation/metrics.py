"""Measures of a classification: accuracy (WA), unweighted average recall (UAR) and macro F1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Measures:
    """How well utterances were classified.

    Attributes:
        accuracy: the share of utterances predicted rightly (WA).
        uar: recall averaged over the classes that occur among the utterances.
        macro_f1: F1 averaged over the classes that occur among the utterances or the decisions.
        recall: recall by class; not a number where the class does not occur.
        confusion: ``(class, class)`` counts, rows what is true, columns what was predicted.
    """

    accuracy: float
    uar: float
    macro_f1: float
    recall: dict[str, float]
    confusion: np.ndarray

    def overall(self) -> dict[str, float]:
        """Return the three numbers under the names that MLflow shows."""
        return {"accuracy": self.accuracy, "uar": self.uar, "macro_f1": self.macro_f1}


def measure(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Measures:
    """Compare ``(utterance,)`` class names with ``(utterance,)`` decisions; at least one utterance.

    >>> round(measure(np.array(["a", "a", "a", "b"]), np.array(["a", "a", "b", "b"]), ["a", "b", "c"]).uar, 4)
    0.8333
    """
    confusion = confuse(labels, predicted, classes)
    overall = overall_of(confusion)
    return Measures(
        accuracy=float(overall["accuracy"]),
        uar=float(overall["uar"]),
        macro_f1=float(overall["macro_f1"]),
        recall=dict(zip(classes, _recall(confusion).tolist(), strict=True)),
        confusion=confusion,
    )


def confuse(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Count ``(class, class)`` pairs of what is true (rows) and what was predicted (columns)."""
    column = {name: index for index, name in enumerate(classes)}
    pairs = [column[name] for name in labels], [column[name] for name in predicted]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, pairs, 1)
    return confusion


def overall_of(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy, UAR and macro F1, each ``(...)``, of ``(..., class, class)`` counts with at least one utterance
    each.

    >>> {name: value.round(4).item() for name, value in overall_of(np.array([[2, 1], [0, 1]])).items()}
    {'accuracy': 0.75, 'uar': 0.8333, 'macro_f1': 0.7333}
    """
    right, true, chosen = _right(confusion), confusion.sum(axis=-1), confusion.sum(axis=-2)
    return {
        "accuracy": right.sum(axis=-1) / true.sum(axis=-1),
        "uar": np.nanmean(_recall(confusion), axis=-1),
        "macro_f1": np.nanmean(_ratio(2 * right, true + chosen), axis=-1),
    }


def _recall(confusion: np.ndarray) -> np.ndarray:
    return _ratio(_right(confusion), confusion.sum(axis=-1))


def _right(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; not a number where there is nothing to divide by."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
