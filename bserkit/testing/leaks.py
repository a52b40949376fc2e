"""Leaks: whether anything of a test item reaches what is learned, or the scores of others.

There are three ways: by its features, by its label, and by what is kept from one fold to another. Folds are evaluated
by the code that evaluates every run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.corpora.protocols import Fold
from bserkit.corpora.speakers import speaker_groups
from bserkit.errors import BserkitError
from bserkit.evaluation.cross_validation import evaluate
from bserkit.progress import Silent
from bserkit.testing.expecting import same
from bserkit.testing.fresh import fresh

if TYPE_CHECKING:
    from bserkit.learning.classifiers import Classifier
    from bserkit.learning.fusion import Fuser
    from bserkit.learning.model import FittedModel
    from bserkit.learning.normalising import Normaliser
    from bserkit.learning.views import Views


@dataclass(frozen=True)
class Learned:
    """What came of an evaluation.

    Attributes:
        scores: by part ``(item, class)`` of the items of interest.
        models: by fold, the trials and, where it can be saved, the model.
    """

    scores: Mapping[str, np.ndarray]
    models: Mapping[str, Any]


def folds_of(views: Views, groups: int = 3) -> list[Fold]:
    """Return one fold for each group of speakers."""
    group_of = speaker_groups(views.speakers, groups)
    return [
        Fold(f"group{group + 1}", np.flatnonzero(group_of != group), np.flatnonzero(group_of == group))
        for group in range(group_of.max() + 1)
    ]


def marked_item(fold: Fold) -> int:
    """Return the test item of a fold that is made enormous."""
    return int(fold.test[len(fold.test) // 2])


def with_a_loud_item(views: Views, item: int) -> Views:
    """Return the views with every feature of one item enormous."""
    features = {channel: values.copy() for channel, values in views.features.items()}
    for values in features.values():
        values[item] = 1e4
    return replace(views, features=features)


def learned(
    views: Views,
    folds: Sequence[Fold],
    fuser: Fuser,
    classifier: Classifier,
    normaliser: Normaliser | None = None,
    rows: np.ndarray | None = None,
) -> Learned:
    """Evaluate folds, one after another, by the code of every run, with components that have kept nothing so far.

    Args:
        rows: the items of interest; by default all that are tested.
    """
    models: dict[str, Any] = {}
    fuser, classifier, normaliser = fresh(fuser), fresh(classifier), normaliser and fresh(normaliser)

    def keep(fold: int, model: FittedModel) -> None:
        models[folds[fold].name] = _content(model)

    result = evaluate(views, folds, fuser, classifier, Silent(), keep, normaliser)
    chosen = np.isin(result.utterances, result.utterances if rows is None else rows)
    trials = {one.fold.name: [(trial.stage, dict(trial.weights)) for trial in one.trials] for one in result.outcomes}
    return Learned(
        scores={part: scores[chosen] for part, scores in result.scores.items()},
        models={name: (trials[name], content) for name, content in models.items()},
    )


def features_of_a_test_item_move_others(
    views: Views, fuser: Fuser, classifier: Classifier, normaliser: Normaliser | None = None
) -> bool:
    """Make one test item enormous; say whether that moves another's scores, or anything that was learned.

    By a normaliser that says that it uses unlabelled recordings the scores of others may move, what was learned not.
    """
    fold = folds_of(views)[0]
    loud = marked_item(fold)
    before, after = (
        learned(one, [fold], fuser, classifier, normaliser, fold.test[fold.test != loud])
        for one in (views, with_a_loud_item(views, loud))
    )
    if normaliser and normaliser.uses_unlabelled():
        return before.models != after.models
    return _differ(before, after)


def labels_of_test_items_move_something(
    views: Views, fuser: Fuser, classifier: Classifier, normaliser: Normaliser | None = None
) -> bool:
    """Exchange the labels of a fold's test items; say whether that moves its scores, or what it learned.

    Another fold, which comes before it, learns from these items with these labels, and may.
    """
    folds = folds_of(views)
    for order in (folds[:2], folds[1::-1]):
        last = order[-1]
        labels = views.labels.copy()
        labels[last.test] = np.roll(labels[last.test], 1)
        before, after = (
            learned(given, order, fuser, classifier, normaliser, last.test)
            for given in (views, replace(views, labels=labels))
        )
        if not same(before.scores, after.scores) or before.models[last.name] != after.models[last.name]:
            return True
    return False


def order_of_folds_moves_something(
    views: Views, fuser: Fuser, classifier: Classifier, normaliser: Normaliser | None = None
) -> bool:
    """Evaluate the folds from the last to the first; say whether that moves any score, or anything that was learned."""
    folds = folds_of(views)
    return _differ(*(learned(views, order, fuser, classifier, normaliser) for order in (folds, folds[::-1])))


def _content(model: FittedModel) -> Any:
    """Return what was learned as plain values; nothing where it cannot be saved, and is known by its scores alone."""
    try:
        before = model.normaliser.by_channel if model.normaliser else {}
        return _plain(model.fitted.state()), _plain({name: one.state() for name, one in before.items()})
    except BserkitError:
        return None


def _plain(state: Any) -> Any:
    if isinstance(state, np.ndarray):
        return state.dtype.str, state.shape, state.tobytes()
    if isinstance(state, Mapping):
        return {name: _plain(value) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return [_plain(value) for value in state]
    if callable(getattr(state, "state", None)):
        return _plain(state.state())
    return None if hasattr(state, "fit") else state


def _differ(one: Learned, other: Learned) -> bool:
    return not same(one.scores, other.scores) or one.models != other.models
