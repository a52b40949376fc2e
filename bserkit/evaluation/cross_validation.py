"""Cross-validation: in each fold a model is fitted on the training utterances and scores the test utterances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.errors import BserkitError
from bserkit.evaluation.metrics import Measures, measure
from bserkit.evaluation.statistics import Interval, speaker_confusions, speaker_intervals
from bserkit.features.contracts import asked
from bserkit.learning.fusion import OracleFusion, Trial
from bserkit.learning.model import fit_model
from bserkit.schema import FUSION

if TYPE_CHECKING:
    from bserkit.corpora.protocols import Fold
    from bserkit.learning.classifiers import Classifier
    from bserkit.learning.fusion import Fuser
    from bserkit.learning.model import FittedModel
    from bserkit.learning.normalising import Normaliser
    from bserkit.learning.views import FeatureSource
    from bserkit.progress import Reporter


@dataclass(frozen=True)
class FoldOutcome:
    """What was learned in one fold: see ``FittedModel`` and ``FittedFuser``."""

    fold: Fold
    weights: Mapping[str, float]
    trials: Sequence[Trial]
    notes: Sequence[str]
    choices: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """The scores of every test utterance, each made by a model that never saw its speaker.

    Attributes:
        utterances: indices of the test utterances; all arrays below follow them.
        labels: ``(utterance,)`` what is true.
        speakers: ``(utterance,)`` who speaks.
        fold_of: ``(utterance,)`` which fold tested it.
        scores: ``(utterance, class)`` by part: each channel, each transform and, last, the fusion.
        outcomes: one a fold.
        oracle: fusion tuned on the test utterances themselves, if asked for; never the result.
    """

    classes: tuple[str, ...]
    utterances: np.ndarray
    labels: np.ndarray
    speakers: np.ndarray
    fold_of: np.ndarray
    scores: Mapping[str, np.ndarray]
    outcomes: Sequence[FoldOutcome]
    oracle: OracleFusion | None

    def decisions(self, part: str = FUSION) -> np.ndarray:
        """Return the ``(utterance,)`` predicted classes of a part."""
        return np.asarray(self.classes)[self.scores[part].argmax(axis=1)]

    def measures(self, part: str = FUSION, fold: int | None = None) -> Measures:
        """Measure a part over all test utterances, or those of one fold."""
        chosen = np.ones(len(self.utterances), dtype=bool) if fold is None else self.fold_of == fold
        return measure(self.labels[chosen], self.decisions(part)[chosen], self.classes)

    def intervals(self, part: str = FUSION) -> dict[str, Interval]:
        """Return accuracy, UAR and macro F1 of a part with their 95% intervals over speakers."""
        _, confusions = speaker_confusions(self.speakers, self.labels, self.decisions(part), self.classes)
        return speaker_intervals(confusions)

    def oracle_measures(self, part: str = FUSION) -> Measures | None:
        """Measure the oracle fusion, or a transform as it is fused in it, if there is one."""
        if self.oracle is None:
            return None
        scores = self.oracle.scores if part == FUSION else self.oracle.parts[part]
        return measure(self.labels, np.asarray(self.classes)[scores.argmax(axis=1)], self.classes)

    def notes(self) -> list[str]:
        """Return each note once, with the folds that it is about."""
        folds_of: dict[str, list[str]] = {}
        for outcome in self.outcomes:
            for note in outcome.notes:
                folds_of.setdefault(note, []).append(outcome.fold.name)
        every = len(self.outcomes)
        return [
            f"{note} ({'all folds' if len(names) == every else ', '.join(names)})" for note, names in folds_of.items()
        ]


def evaluate(
    source: FeatureSource,
    folds: Sequence[Fold],
    fuser: Fuser,
    classifier: Classifier,
    reporter: Reporter,
    keep: Callable[[int, FittedModel], object] = lambda fold, model: None,
    normaliser: Normaliser | None = None,
) -> Evaluation:
    """Fit on each fold's training utterances alone, and score its test utterances, whose labels the fuser is never
    given.

    Args:
        source: gives the views of all utterances; each fold its own where networks are fine-tuned in it.
        keep: is given each fold's number, from 0, and its model, once it was scored. No other holds it: the principal
            components of one model alone can take a hundred megabytes.
        normaliser: fitted on the training items too, if there is one.
    """
    parts: dict[str, list[np.ndarray]] = {}
    outcomes = []
    with reporter.stage("Learning and evaluating", len(folds), "folds") as advance:
        for index, fold in enumerate(folds):
            seen = source.views(index)
            try:
                fitted = fit_model(seen.take(fold.train), fuser, classifier, normaliser)
                test = seen.take(fold.test)
                # Last, so that no part can stand for the fusion.
                scored = {**fitted.parts(test), FUSION: fitted.scores(test)}
            except BserkitError as error:
                raise BserkitError(f"fold {fold.name}: {error}") from error
            for part, scores in scored.items():
                parts.setdefault(part, []).append(scores)
            notes = tuple(dict.fromkeys([*fitted.notes, *fitted.remarks(test)]))
            outcomes.append(FoldOutcome(fold, fitted.weights, fitted.fitted.trials, notes, fitted.choices))
            keep(index, fitted)
            advance(1)
    order = np.argsort(np.concatenate([fold.test for fold in folds]), kind="stable")
    items = np.concatenate([fold.test for fold in folds])[order]
    fold_of = np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds])[order]
    every = {part: np.concatenate(pieces)[order] for part, pieces in parts.items()}
    # Only features differ from fold to fold.
    labels = seen.labels[items]
    by_channel = {channel: every[channel].copy() for channel in seen.features if channel in every}
    with asked(fuser, "the oracle's decision"):
        oracle = fuser.oracle(by_channel, dict(seen.transforms), labels.copy(), seen.classes)
    return Evaluation(seen.classes, items, labels, seen.speakers[items], fold_of, every, outcomes, oracle)
