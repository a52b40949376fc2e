"""The record of an evaluation: its numbers and tables as plain rows, ready to be printed, logged or read elsewhere."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

from bserkit.corpora.protocols import absent_classes, speaker_overlap
from bserkit.features.channels import FUSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bserkit.corpora.protocols import Fold
    from bserkit.corpora.reading import Corpus
    from bserkit.evaluation.cross_validation import Evaluation

ORACLE = "oracle"
#: Who is learned from and who evaluated, fold by fold: where a run keeps it, and where older runs do.
FOLDS = ("folds_summary.csv", "folds.csv")


class SearchPoint(NamedTuple):
    """One weighting of two inputs that a fold, or the oracle, tried: the weight of the first, and how well it did."""

    fold: str
    weight: float
    score: float
    chosen: bool


def overall_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return every number that is about all folds together, by its name in MLflow.

    ``uar_low`` and ``uar_high``, and those of accuracy, are the fusion's 95% interval over speakers, with the fixed
    draws that ``bserkit.evaluation.statistics`` documents; with one speaker they are not numbers.
    """
    result = evaluation.measures()
    metrics = result.overall() | {"chance_uar": 1 / len(evaluation.classes)}
    intervals = evaluation.intervals()
    for name in ("accuracy", "uar"):
        metrics |= {f"{name}_low": intervals[name].low, f"{name}_high": intervals[name].high}
    metrics |= {f"class/{_legal(name)}/recall": recall for name, recall in result.recall.items()}
    for part in evaluation.scores:
        if part != FUSION:
            metrics |= {f"{part}/{name}": value for name, value in evaluation.measures(part).overall().items()}
    by_fold = [evaluation.measures(fold=index) for index in range(len(evaluation.outcomes))]
    metrics["mean_fold_accuracy"] = sum(one.accuracy for one in by_fold) / len(by_fold)
    metrics["mean_fold_uar"] = sum(one.uar for one in by_fold) / len(by_fold)
    oracle = evaluation.oracle_measures()
    if oracle and evaluation.oracle:
        metrics |= {f"{ORACLE}_{name}": value for name, value in oracle.overall().items()}
        metrics |= {f"{ORACLE}_weight/{name}": value for name, value in evaluation.oracle.weights.items()}
        for part in evaluation.oracle.parts:
            if fused := evaluation.oracle_measures(part):
                metrics |= {f"{ORACLE}_{part}/{name}": value for name, value in fused.overall().items()}
        metrics |= {
            f"{ORACLE}_optimism_accuracy": oracle.accuracy - result.accuracy,
            f"{ORACLE}_optimism_uar": oracle.uar - result.uar,
        }
    return metrics


def _legal(label: str) -> str:
    """Spell a label as MLflow takes it in a metric's name; one that has to change is told apart by its digest."""
    plain = re.sub(r"[^\w\- :.]", "_", label)
    if plain == label and label.strip(". "):
        return label
    return f"{plain} {hashlib.sha256(label.encode()).hexdigest()[:6]}"


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


def choice_text(choice: Mapping[str, Any]) -> str:
    """Spell what a classifier chose by searching.

    >>> choice_text({"svc__C": 0.1, "svc__kernel": "rbf"})
    'svc__C=0.1, svc__kernel=rbf'
    """
    return ", ".join(f"{name}={value}" for name, value in choice.items())


def result_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one row a part and fold, and one a part over all folds."""
    rows = []
    for part in evaluation.scores:
        for fold, outcome in enumerate(evaluation.outcomes):
            rows.append(_result_row(part, outcome.fold.name, len(outcome.fold.test), evaluation, fold))
        rows.append(_result_row(part, "all", len(evaluation.items), evaluation, None))
    return rows


def _result_row(part: str, fold_name: str, items: int, evaluation: Evaluation, fold: int | None) -> dict[str, Any]:
    outcome = evaluation.outcomes[fold] if fold is not None else None
    return {
        "part": part,
        "fold": fold_name,
        "items": items,
        **evaluation.measures(part, fold).overall(),
        "weight": outcome.weights.get(part, "") if outcome else "",
        "chosen": choice_text(outcome.choices.get(part, {})) if outcome else "",
    }


def prediction_rows(evaluation: Evaluation, corpus: Corpus) -> list[dict[str, Any]]:
    """Return one row an evaluated item and part: what was true, what was decided and every score."""
    names = corpus.items
    rows = []
    for part, scores in evaluation.scores.items():
        decided = evaluation.decisions(part)
        for row, item in enumerate(evaluation.items):
            rows.append(
                {
                    "utterance": names[item],
                    "speaker": corpus.utterances[item].speaker,
                    "fold": evaluation.outcomes[evaluation.fold_of[row]].fold.name,
                    "part": part,
                    "label": evaluation.labels[row],
                    "decided": decided[row],
                    **{
                        f"score_{name}": f"{score:.6g}"
                        for name, score in zip(evaluation.classes, scores[row], strict=True)
                    },
                }
            )
    return rows


def confusion_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one row a part and true class, with a count for each decided class."""
    return [
        {"part": part, "label": label, **dict(zip(evaluation.classes, counts, strict=True))}
        for part in evaluation.scores
        for label, counts in zip(evaluation.classes, evaluation.measures(part).confusion.tolist(), strict=True)
    ]


def search_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Return one row for every weighting that a fold, or the oracle, tried."""
    searched = [(outcome.fold.name, outcome.trials) for outcome in evaluation.outcomes]
    searched += [(ORACLE, evaluation.oracle.trials)] if evaluation.oracle else []
    return [
        {
            "fold": fold,
            "stage": trial.stage,
            **{f"weight_{name}": weight for name, weight in trial.weights.items()},
            "score": trial.score,
            "chosen": int(trial.chosen),
        }
        for fold, trials in searched
        for trial in trials
    ]


def search_curves(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[SearchPoint]]:
    """Return, for each stage with two inputs, one point a trial, given the rows of ``search_rows`` or of their file.

    >>> search_curves([{"fold": "ann", "stage": "lr", "weight_left": "0.4", "weight_right": "0.6", "score": "0.5",
    ...                 "chosen": "1"}])
    {'left, the rest right': [SearchPoint(fold='ann', weight=0.4, score=0.5, chosen=True)]}
    """
    curves: dict[str, list[SearchPoint]] = {}
    for row in rows:
        given = {name: value for name, value in row.items() if name.startswith("weight_") and value != ""}
        if len(given) == 2:
            first, second = (name.removeprefix("weight_") for name in given)
            point = SearchPoint(
                row["fold"], float(given[f"weight_{first}"]), float(row["score"]), bool(int(row["chosen"]))
            )
            curves.setdefault(f"{first}, the rest {second}", []).append(point)
    return curves


def mean_scores(points: Iterable[SearchPoint]) -> list[tuple[float, float]]:
    """Return each weight with its mean score over the folds; what the oracle tried is left out."""
    scores: dict[float, list[float]] = {}
    for point in points:
        if point.fold != ORACLE:
            scores.setdefault(point.weight, []).append(point.score)
    return [(weight, sum(own) / len(own)) for weight, own in sorted(scores.items())]


def folds_text(corpus: Corpus, folds: Sequence[Fold]) -> str:
    """Write folds as the csv file that ``--protocol folds:path=`` reads: one row a fold and utterance in it."""
    names = corpus.items
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("utterance", "fold", "part"))
    for fold in folds:
        for part, side in (("train", fold.train), ("test", fold.test)):
            writer.writerows((names[index], fold.name, part) for index in side)
    return buffer.getvalue()


def fold_rows(corpus: Corpus, folds: Sequence[Fold]) -> list[dict[str, Any]]:
    """Return who is learned from and who is evaluated, fold by fold, and what a reader must know of that."""
    overlap, absent = speaker_overlap(corpus, folds), absent_classes(corpus, folds)

    def speakers(indices: Any) -> str:
        return " ".join(sorted({corpus.utterances[index].speaker or "unknown" for index in indices}))

    return [
        {
            "fold": fold.name,
            "train_items": len(fold.train),
            "test_items": len(fold.test),
            "train_speakers": speakers(fold.train),
            "test_speakers": speakers(fold.test),
            "speakers_on_both_sides": " ".join(overlap.get(fold.name, ())),
            "absent_classes": " ".join(absent.get(fold.name, ())),
        }
        for fold in folds
    ]
