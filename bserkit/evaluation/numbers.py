"""The numbers of an evaluation by their names in MLflow."""

from __future__ import annotations

import hashlib
import re
from numbers import Real
from typing import TYPE_CHECKING

from bserkit.schema import CHANCE_UAR, FUSION, ORACLE, bounds_of, measure_of

if TYPE_CHECKING:
    from bserkit.evaluation.cross_validation import Evaluation


def overall_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return every number that is about all folds together, by its name in MLflow.

    The bounds are of the fusion's 95% intervals over speakers, with the fixed draws that
    ``bserkit.evaluation.statistics`` documents; with one speaker they are not numbers.
    """
    result = evaluation.measures()
    metrics = result.overall() | {CHANCE_UAR: 1 / len(evaluation.classes)}
    intervals = evaluation.intervals()
    for name in ("accuracy", "uar"):
        metrics |= dict(zip(bounds_of(name), (intervals[name].low, intervals[name].high), strict=True))
    metrics |= {f"class/{_legal(name)}/recall": recall for name, recall in result.recall.items()}
    for part in evaluation.scores:
        metrics |= {measure_of(name, part): value for name, value in evaluation.measures(part).overall().items()}
    by_fold = [evaluation.measures(fold=index) for index in range(len(evaluation.outcomes))]
    metrics["mean_fold_accuracy"] = sum(one.accuracy for one in by_fold) / len(by_fold)
    metrics["mean_fold_uar"] = sum(one.uar for one in by_fold) / len(by_fold)
    oracle = evaluation.oracle_measures()
    if oracle and evaluation.oracle:
        metrics |= {measure_of(name, oracle=True): value for name, value in oracle.overall().items()}
        metrics |= {f"{ORACLE}_weight/{name}": value for name, value in evaluation.oracle.weights.items()}
        for part in evaluation.oracle.parts:
            if fused := evaluation.oracle_measures(part):
                metrics |= {measure_of(name, part, oracle=True): value for name, value in fused.overall().items()}
        metrics |= {
            f"{ORACLE}_optimism_accuracy": oracle.accuracy - result.accuracy,
            f"{ORACLE}_optimism_uar": oracle.uar - result.uar,
        }
    return metrics


def fold_metrics(evaluation: Evaluation, fold: int) -> dict[str, float]:
    """Return every number that is about one fold, by its name in MLflow."""
    metrics = {f"fold/{name}": value for name, value in evaluation.measures(fold=fold).overall().items()}
    for part in evaluation.scores:
        if part != FUSION:
            metrics[f"fold/{part}/uar"] = evaluation.measures(part, fold).uar
    outcome = evaluation.outcomes[fold]
    metrics |= {
        f"fold/chosen/{name}/{part}": float(value)
        for part, choice in outcome.choices.items()
        for name, value in choice.items()
        if isinstance(value, Real) and not isinstance(value, bool)
    }
    return metrics | {f"fold/weight/{name}": value for name, value in outcome.weights.items()}


def _legal(label: str) -> str:
    """Spell a label as MLflow takes it in a metric's name; one that has to change is told apart by its digest."""
    plain = re.sub(r"[^\w\- :.]", "_", label)
    if plain == label and label.strip(". "):
        return label
    return f"{plain} {hashlib.sha256(label.encode()).hexdigest()[:6]}"
