"""Normalisers, classifiers and fusers: what must hold of what is fitted in each fold."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from unittest import SkipTest

import numpy as np

from bserkit.errors import BserkitError
from bserkit.learning.classifiers import Classifier, class_scores, fit_classifier
from bserkit.learning.fusion import Fuser
from bserkit.learning.model import fit_model
from bserkit.learning.model_files import load_model, save_model
from bserkit.learning.normalising import Normaliser
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.fusers import Mean
from bserkit.testing.behaviour import Kind
from bserkit.testing.expecting import expect, expect_near, expect_same
from bserkit.testing.leaks import (
    features_of_a_test_item_move_others,
    folds_of,
    labels_of_test_items_move_something,
    order_of_folds_moves_something,
)
from bserkit.testing.samples import sample_views

if TYPE_CHECKING:
    from bserkit.component import Component
    from bserkit.features.learned import ChannelView
    from bserkit.learning.model import FittedModel
    from bserkit.learning.views import Views

#: What scores may differ by where other items are scored beside them, as a share of the largest score.
_COMPANY_SHARE = 1e-5
#: What has to do with one channel at a time.
_ALONE = (Classifier, Normaliser)
#: Channels by the transforms that they come from: one alone, as these are tried on, two of one, and of two.
_FEW = ({"mono": "mono"}, {"left": "lr", "right": "lr"}, {"left": "lr", "right": "lr", "side": "ms"})


def makes_a_fresh_one(classifier: Classifier) -> None:
    """``make`` returns another classifier at each call, none of them fitted."""
    first, other = classifier.make(), classifier.make()
    expect(
        first is not other,
        f"classifier {classifier.name} made one classifier twice, so that folds would share it; make a fresh one.",
    )
    expect(
        not hasattr(first, "classes_"),
        f"classifier {classifier.name} made a classifier that is fitted already; nothing is fitted before a fold.",
    )


def scores_every_class(learner: Component) -> None:
    """It scores items finitely, ``(item, class)``, of one channel as of several."""
    for transforms in _FEW[: 1 if isinstance(learner, _ALONE) else None]:
        views = sample_views(zlib.crc32(b"scores every class"), transforms)
        fold = folds_of(views)[0]
        model = _fit(learner, views.take(fold.train))
        model.scores(views.take(fold.test))
        model.parts(views.take(fold.test))


def learns_something(learner: Component) -> None:
    """It predicts items that it learned from better than chance."""
    views = _views(learner, learns_something)
    right = float((_fit(learner, views).predict(views) == views.labels).mean())
    chance = 1 / len(views.classes)
    expect(
        right > 1.2 * chance,
        f"{learner.kind} {learner.name} predicts {right:.2f} of the items that it learned from rightly; chance is "
        f"{chance:.2f}. Columns of scores follow the order of classes, the largest being the prediction.",
    )


def takes_a_silent_channel(learner: Component) -> None:
    """A channel whose features are all alike, such as a silent Side, leaves scores finite."""
    views = _views(learner, takes_a_silent_channel)
    name, features = list(views.features.items())[-1]
    silent = replace(views, features={**views.features, name: np.zeros_like(features)})
    fold = folds_of(silent)[0]
    _fit(learner, silent.take(fold.train)).scores(silent.take(fold.test))


def never_predicts_an_absent_class(learner: Component) -> None:
    """A class that is missing from training has scores, and is never predicted."""
    views = _views(learner, never_predicts_an_absent_class)
    absent = views.classes[1]
    model = _fit(learner, views.take(np.flatnonzero(views.labels != absent)))
    expect(
        absent not in model.predict(views),
        f"{learner.kind} {learner.name} predicts a class that was missing from training. Score with "
        "bserkit.class_scores, or give it less than the lowest score.",
    )


def scores_each_item_alone(learner: Component) -> None:
    """An item's scores are the same whichever other items are scored with it, and in which order."""
    views = _views(learner, scores_each_item_alone)
    fold = folds_of(views)[0]
    model = _fit(learner, views.take(fold.train))
    whole = model.scores(views.take(fold.test))
    said = f"{learner.kind} {learner.name} scores an item differently {{}}. What is scored may move nothing."
    backwards = model.scores(views.take(fold.test[::-1]))[::-1]
    expect_near(whole, backwards, said.format("in another order"), _COMPANY_SHARE)
    alone = np.concatenate([model.scores(views.take(fold.test[row : row + 1])) for row in range(5)])
    expect_near(whole[:5], alone, said.format("alone than beside others"), _COMPANY_SHARE)


def ignores_test_items(learner: Component) -> None:
    """The features of a test item move nothing but its own scores."""
    expect(
        not features_of_a_test_item_move_others(_views(learner, ignores_test_items), *_together(learner)),
        f"{learner.kind} {learner.name} learned from the features of a test item, or lets it move the scores of "
        "others. Fit on what fit() is given, and nothing when scoring.",
    )


def ignores_test_labels(learner: Component) -> None:
    """The labels of test items move nothing in their fold, though other folds learned from them before."""
    expect(
        not labels_of_test_items_move_something(_views(learner, ignores_test_labels), *_together(learner)),
        f"{learner.kind} {learner.name} knows the labels of test items: other labels give other scores. It must keep "
        "nothing from one fold to another, such as a cache in its module or class.",
    )


def ignores_the_order_of_folds(learner: Component) -> None:
    """Folds from the last to the first give the same scores."""
    expect(
        not order_of_folds_moves_something(_views(learner, ignores_the_order_of_folds), *_together(learner)),
        f"{learner.kind} {learner.name} scores differently where folds come in another order. It must keep nothing "
        "from one fold to another, such as a cache in its module or class, or the state of a random generator.",
    )


def round_trips_as_a_model(learner: Component) -> None:
    """A model of it that was saved and loaded gives the same scores bit for bit, where it can be saved."""
    views = _views(learner, round_trips_as_a_model)
    fold = folds_of(views)[0]
    model = _fit(learner, views.take(fold.train))
    of: dict[str, Any] = {one.kind: one for one in _together(learner) if one}
    with tempfile.TemporaryDirectory() as folder:
        try:
            save_model(model, Path(folder) / "model")
        except BserkitError as error:
            raise SkipTest(str(error)) from None
        loaded = load_model(Path(folder) / "model", lambda contract, _: of[contract.kind])
        test = views.take(fold.test)
        expect_same(
            model.scores(test),
            loaded.scores(test),
            f"A model of {learner.kind} {learner.name} scores differently after it was saved and loaded. Let state() "
            "return all that scoring needs, and restore() use all of it.",
        )


def _together(learner: Component) -> tuple[Fuser, Classifier, Normaliser | None]:
    """Return the fuser, the classifier and the normaliser that are tried together: it, and built-in ones."""
    if isinstance(learner, Normaliser):
        return Mean(), LinearSvm(scale="none"), learner
    return (learner, LinearSvm(), None) if isinstance(learner, Fuser) else (Mean(), cast("Classifier", learner), None)


def _fit(learner: Component, views: Views) -> FittedModel:
    return fit_model(views, *_together(learner))


def _views(learner: Component, check: Callable[..., object]) -> Views:
    """Return a check's own items: what kept something of another check's has seen none of these."""
    return _given(learner, zlib.crc32(check.__name__.encode()))


def _given(learner: Component, seed: int) -> Views:
    return sample_views(seed, _FEW[0]) if isinstance(learner, _ALONE) else sample_views(seed)


def _scored_by_classifier(classifier: Classifier, given: Views) -> np.ndarray:
    """Fit on each channel of views that can be written to, and score them."""
    return np.stack(
        [
            class_scores(fit_classifier(classifier.make, values, given.labels, given.speakers), values, given.classes)
            for values in given.features.values()
        ]
    )


def _normalised(normaliser: Normaliser, given: ChannelView) -> np.ndarray:
    """Fit on the vectors of a channel that can be written to, and change them."""
    return normaliser.fit(given).apply(replace(given, labels=given.labels[:0]))


def _channel(normaliser: Normaliser, seed: int) -> ChannelView:
    view = sample_views(seed, _FEW[0]).channel("mono")
    return replace(view, values=np.array(view.values))


def _scored_by_fuser(fuser: Fuser, given: Views) -> Any:
    """Fit on views that can be written to, and score them."""
    fitted = fuser.fit(given, LinearSvm().make)
    unlabelled = given.without_labels()
    return fitted.scores(unlabelled), dict(fitted.parts(unlabelled))


def _checks(learner: Component) -> Iterator[Callable[[Any], None]]:
    if isinstance(learner, Classifier):
        yield makes_a_fresh_one
    yield scores_every_class
    yield learns_something
    yield takes_a_silent_channel
    yield never_predicts_an_absent_class
    if not (isinstance(learner, Normaliser) and learner.uses_unlabelled()):
        yield scores_each_item_alone
    yield ignores_test_items
    yield ignores_test_labels
    yield ignores_the_order_of_folds
    yield round_trips_as_a_model


KINDS = (
    Kind(Normaliser, _channel, _normalised, _checks, threads=lambda _: False),
    Kind(Classifier, _given, _scored_by_classifier, _checks, threads=lambda _: False),
    Kind(Fuser, _given, _scored_by_fuser, _checks, threads=lambda _: False),
)
