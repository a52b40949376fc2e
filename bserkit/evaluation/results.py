"""What a run came to, as its tables: made of an evaluation, written to a run's files and read back from them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bserkit.corpora.protocols import absent_classes, speaker_overlap
from bserkit.errors import BserkitError, UsageError
from bserkit.evaluation.metrics import Measures, measure
from bserkit.evaluation.statistics import Interval, speaker_confusions, speaker_intervals
from bserkit.rows import column, read_rows, write_rows
from bserkit.schema import (
    CONFUSIONS,
    FOLD_SUMMARIES,
    FOLDS,
    FUSION,
    ORACLE,
    PREDICTIONS,
    RESULTS,
    SEARCH,
)
from bserkit.text import csv_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bserkit.corpora.protocols import Fold
    from bserkit.corpora.reading import Corpus
    from bserkit.evaluation.cross_validation import Evaluation

#: The files that every finished run has, the second under either name, and those that some have.
NEEDED = (PREDICTIONS, (FOLD_SUMMARIES, FOLDS))
WANTED = (RESULTS, SEARCH)
#: The columns of predictions.csv before a score for each class, and what older runs call them.
_PREDICTED = {"utterance": "item", "speaker": "", "fold": "", "part": "", "label": "", "predicted": "decided"}
_SCORE = "score_"


@dataclass(frozen=True)
class PartResult:
    """The measures of a part in a fold, or over all folds."""

    part: str = column("Channel, transform or `fusion`.")
    fold: str = column("The fold, or `all`.")
    utterances: int = column("How many were tested.", older="items")
    accuracy: float = column("The share of right predictions (WA).")
    uar: float = column("Unweighted average recall.")
    macro_f1: float = column("F1 averaged over the classes.")
    weight: float | None = column("The weight that the fold's fusion gave the part, if any.")
    chosen: str = column("What the fold's classifier chose by searching.", default="")


@dataclass(frozen=True)
class FoldSummary:
    """Who is in training and who in test, and what a reader must know of that."""

    fold: str = column("The fold.")
    train_utterances: int = column("How many are in training.", older="train_items")
    test_utterances: int = column("How many are tested.", older="test_items")
    speakers_in_training: tuple[str, ...] = column("Separated by `;`.", older="train_speakers")
    speakers_in_test: tuple[str, ...] = column("Likewise.", older="test_speakers")
    speakers_in_both: tuple[str, ...] = column("Likewise.", older="speakers_on_both_sides", default=())
    classes_not_in_training: tuple[str, ...] = column("Tested all the same.", older="absent_classes", default=())


@dataclass(frozen=True)
class Weighting:
    """One weighting that a fold, or the oracle, tried."""

    fold: str = column("The fold, or `oracle`.")
    stage: str = column("What is fused.")
    weights: Mapping[str, float] = column("The weight of PART.", begin="weight_")
    score: float = column("How well it did in the search.")
    chosen: bool = column("1 where it was chosen.")


@dataclass(frozen=True)
class ConfusionRow:
    """A row of a part's confusion matrix."""

    part: str = column("Channel, transform or `fusion`.")
    label: str = column("What is true.")
    predicted: Mapping[str, int] = column("How often CLASS was predicted.", begin="predicted_")


@dataclass(frozen=True)
class FoldMember:
    """One utterance in a fold."""

    utterance: str = column("By its name in the corpus.")
    fold: str = column("The fold.")
    part: str = column("`train` or `test`.")


@dataclass(frozen=True)
class LeftOut:
    """A recording that was left out."""

    utterance: str = column("By its name in the corpus.", older="item")
    reason: str = column("Why.")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one part of a run predicted for each test utterance, in the order of their names.

    Attributes:
        utterances: ``(utterance,)`` names; the arrays below follow them.
        speakers: ``(utterance,)`` who speaks; empty where nobody knows.
        folds: ``(utterance,)`` the fold that tested it.
        labels: ``(utterance,)`` what is true.
        predicted: ``(utterance,)`` what was predicted.
        scores: ``(utterance, class)``.
    """

    classes: tuple[str, ...]
    utterances: np.ndarray
    speakers: np.ndarray
    folds: np.ndarray
    labels: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray

    def columns(self, part: str) -> dict[str, Any]:
        """Return the columns of predictions.csv, the part's name in one of them."""
        return {
            "utterance": self.utterances,
            "speaker": self.speakers,
            "fold": self.folds,
            "part": np.full(len(self.utterances), part),
            "label": self.labels,
            "predicted": self.predicted,
            **{f"{_SCORE}{name}": scores for name, scores in zip(self.classes, self.scores.T, strict=True)},
        }

    def measures(self, where: np.ndarray | slice = slice(None)) -> Measures:
        """Measure all utterances, or some."""
        return measure(self.labels[where], self.predicted[where], self.classes)

    def by_speaker(self) -> tuple[list[str], np.ndarray]:
        """Return the speakers and their ``(speaker, class, class)`` confusions."""
        return speaker_confusions(self.speakers, self.labels, self.predicted, self.classes)

    def intervals(self) -> dict[str, Interval]:
        """Return accuracy, UAR and macro F1 with their 95% intervals over speakers."""
        return speaker_intervals(self.by_speaker()[1])


@dataclass(frozen=True)
class Results:
    """The tables of a run.

    Attributes:
        predictions: by part: each channel, each transform and, last, the fusion; all of the same utterances.
        folds: in the protocol's order.
        parts: each part in each fold and over all folds; none of some older runs.
        search: what the fusion tried, if it searched.
    """

    predictions: Mapping[str, Predictions]
    folds: Sequence[FoldSummary]
    parts: Sequence[PartResult]
    search: Sequence[Weighting]

    @property
    def fusion(self) -> Predictions:
        """What all channels together predicted."""
        return self.predictions[FUSION]

    @property
    def weights(self) -> dict[str, dict[str, float]]:
        """By fold, the fusion's weight of each channel and transform, where it has such."""
        found: dict[str, dict[str, float]] = {}
        for one in self.parts:
            if one.weight is not None:
                found.setdefault(one.fold, {})[one.part] = one.weight
        return found

    def files(self) -> dict[str, str]:
        """Write them, by the names of the files."""
        found = {
            RESULTS: write_rows(PartResult, self.parts),
            PREDICTIONS: _write_predictions(self.predictions),
            CONFUSIONS: write_rows(ConfusionRow, self.confusions()),
        }
        return found | ({SEARCH: write_rows(Weighting, self.search)} if self.search else {})

    def confusions(self) -> list[ConfusionRow]:
        """Return the confusion matrices of all parts."""
        return [
            ConfusionRow(part, label, dict(zip(one.classes, counts, strict=True)))
            for part, one in self.predictions.items()
            for label, counts in zip(one.classes, one.measures().confusion.tolist(), strict=True)
        ]


def results_of(evaluation: Evaluation, corpus: Corpus, folds: Sequence[FoldSummary]) -> Results:
    """Make the tables of an evaluation."""
    return Results(
        predictions={part: _predictions_of(evaluation, corpus, part) for part in evaluation.scores},
        folds=folds,
        parts=part_results(evaluation),
        search=_search_of(evaluation),
    )


def read_results(files: Mapping[str, bytes], who: str) -> Results:
    """Read the tables of a run from those of its files that are ``NEEDED`` and ``WANTED``.

    Args:
        who: the run, as an error names it.

    Raises:
        BserkitError: a file is not what a run writes.
        UsageError: no fusion predicted anything.
    """
    folds = next(files[name] for name in (FOLD_SUMMARIES, FOLDS) if name in files)
    try:
        found = Results(
            predictions=_read_predictions(files[PREDICTIONS].decode()),
            folds=read_rows(FoldSummary, folds.decode()),
            parts=read_rows(PartResult, files[RESULTS].decode()) if RESULTS in files else [],
            search=read_rows(Weighting, files[SEARCH].decode()) if SEARCH in files else [],
        )
    except (BserkitError, ValueError, IndexError, csv.Error) as error:
        raise BserkitError(f"The files of run {who} cannot be read. {error}") from error
    if FUSION not in found.predictions:
        raise UsageError(f"Run {who} has no part {FUSION!r} in {PREDICTIONS}: it is no run of this kind.")
    return found


def part_results(evaluation: Evaluation) -> list[PartResult]:
    """Return the measures of each part in each fold, and over all folds."""
    return [one for part in evaluation.scores for one in _parts_of(evaluation, part)]


def fold_summaries(corpus: Corpus, folds: Sequence[Fold]) -> list[FoldSummary]:
    """Return who is in training and who in test, fold by fold."""
    overlap, absent = speaker_overlap(corpus, folds), absent_classes(corpus, folds)

    def speakers(indices: Any) -> tuple[str, ...]:
        return tuple(sorted({corpus.utterances[index].speaker or "unknown" for index in indices}))

    return [
        FoldSummary(
            fold.name,
            len(fold.train),
            len(fold.test),
            speakers(fold.train),
            speakers(fold.test),
            tuple(overlap.get(fold.name, ())),
            tuple(absent.get(fold.name, ())),
        )
        for fold in folds
    ]


def fold_members(corpus: Corpus, folds: Sequence[Fold]) -> list[FoldMember]:
    """Return one row a fold and utterance in it, as ``--protocol folds:path=`` reads them."""
    names = corpus.items
    return [
        FoldMember(names[index], fold.name, part)
        for fold in folds
        for part, side in (("train", fold.train), ("test", fold.test))
        for index in side
    ]


def choice_text(choice: Mapping[str, Any]) -> str:
    """Spell what a classifier chose by searching.

    >>> choice_text({"svc__C": 0.1, "svc__kernel": "rbf"})
    'svc__C=0.1, svc__kernel=rbf'
    """
    return ", ".join(f"{name}={value}" for name, value in choice.items())


class SearchPoint(NamedTuple):
    """One weighting of two inputs that a fold, or the oracle, tried: the weight of the first, and how well it did."""

    fold: str
    weight: float
    score: float
    chosen: bool


def search_curves(search: Iterable[Weighting]) -> dict[str, list[SearchPoint]]:
    """Return, for each stage with two inputs, one point a trial.

    >>> search_curves([Weighting("ann", "lr", {"left": 0.4, "right": 0.6}, 0.5, True)])
    {'left, the rest right': [SearchPoint(fold='ann', weight=0.4, score=0.5, chosen=True)]}
    """
    curves: dict[str, list[SearchPoint]] = {}
    for one in search:
        if len(one.weights) == 2:
            first, second = one.weights
            point = SearchPoint(one.fold, one.weights[first], one.score, one.chosen)
            curves.setdefault(f"{first}, the rest {second}", []).append(point)
    return curves


def mean_scores(points: Iterable[SearchPoint]) -> list[tuple[float, float]]:
    """Return each weight with its mean score over the folds; what the oracle tried is left out."""
    scores: dict[float, list[float]] = {}
    for point in points:
        if point.fold != ORACLE:
            scores.setdefault(point.weight, []).append(point.score)
    return [(weight, sum(own) / len(own)) for weight, own in sorted(scores.items())]


def _predictions_of(evaluation: Evaluation, corpus: Corpus, part: str) -> Predictions:
    names = np.array(corpus.items)[evaluation.utterances]
    order = np.argsort(names, kind="stable")
    folds = np.array([outcome.fold.name for outcome in evaluation.outcomes])[evaluation.fold_of]
    return Predictions(
        classes=tuple(evaluation.classes),
        utterances=names[order],
        speakers=evaluation.speakers[order],
        folds=folds[order],
        labels=evaluation.labels[order],
        predicted=evaluation.decisions(part)[order],
        scores=evaluation.scores[part][order],
    )


def _parts_of(evaluation: Evaluation, part: str) -> list[PartResult]:
    """Return a part's measures in each fold, and over all folds."""
    made = []
    for fold, outcome in enumerate(evaluation.outcomes):
        one, chosen = evaluation.measures(part, fold), choice_text(outcome.choices.get(part, {}))
        numbers = one.accuracy, one.uar, one.macro_f1, outcome.weights.get(part)
        made.append(PartResult(part, outcome.fold.name, len(outcome.fold.test), *numbers, chosen))
    whole = evaluation.measures(part)
    return [*made, PartResult(part, "all", len(evaluation.utterances), whole.accuracy, whole.uar, whole.macro_f1, None)]


def _search_of(evaluation: Evaluation) -> list[Weighting]:
    searched = [(outcome.fold.name, outcome.trials) for outcome in evaluation.outcomes]
    searched += [(ORACLE, evaluation.oracle.trials)] if evaluation.oracle else []
    return [
        Weighting(fold, one.stage, dict(one.weights), one.score, one.chosen) for fold, made in searched for one in made
    ]


def _write_predictions(predictions: Mapping[str, Predictions]) -> str:
    lines: list[Sequence[object]] = [list(predictions[FUSION].columns(FUSION))]
    for part, one in predictions.items():
        columns = (values.tolist() for values in one.columns(part).values())
        lines += [
            [f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row] for row in zip(*columns, strict=True)
        ]
    return csv_lines(lines)


def _read_predictions(text: str) -> dict[str, Predictions]:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    if missing := [name for name, older in _PREDICTED.items() if not {name, older} & {*header}]:
        raise BserkitError(f"{PREDICTIONS} has no column {missing[0]!r}, but {', '.join(header)}.")
    places = {name: header.index(name if name in header else older) for name, older in _PREDICTED.items()}
    scores = [place for place, name in enumerate(header) if name.startswith(_SCORE)]
    of_part: dict[str, list[list[str]]] = {}
    for row in reader:
        of_part.setdefault(row[places["part"]], []).append(row)
    found = {}
    for part, rows in of_part.items():
        rows.sort(key=lambda row: row[places["utterance"]])
        utterances, speakers, folds, _, labels, predicted = (
            np.array([row[place] for row in rows]) for place in places.values()
        )
        classes = tuple(header[place].removeprefix(_SCORE) for place in scores)
        numbers = np.array([[float(row[place]) for place in scores] for row in rows])
        found[part] = Predictions(classes, utterances, speakers, folds, labels, predicted, numbers)
    return {part: found[part] for part in sorted(found, key=lambda part: part == FUSION)}
