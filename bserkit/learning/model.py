"""A fitted model: what a fuser and its classifiers learned, and the views that it can score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.errors import BserkitError
from bserkit.features.contracts import class_scores_of
from bserkit.learning.classifiers import ClassifierError
from bserkit.learning.normalising import fit_normaliser, normalise, notes_of
from bserkit.schema import FUSION

if TYPE_CHECKING:
    from bserkit.features.learned import Learned
    from bserkit.features.pooling import FittedPooler, LearningPooler
    from bserkit.learning.classifiers import Classifier
    from bserkit.learning.fusion import FittedFuser, Fuser
    from bserkit.learning.normalising import LearnedNormaliser, Normaliser
    from bserkit.learning.views import Views


@dataclass(frozen=True, eq=False)
class FittedModel:
    """What was learned from training items: made by ``fit_model``, kept by ``save_model``.

    Attributes:
        fuser, classifier: the recipes that it was fitted by.
        fitted: what the fuser learned.
        classes: in the order of the columns of all scores.
        transforms: the transform that each channel came from, in the order of the channels.
        sizes: how many features each channel has.
        weights, notes, choices: see ``FittedFuser``; a note may also be of the training items.
        normaliser: what changes the vectors first, if anything does.
        pooler: what made the vectors, where that was learned; what is to be scored must be pooled by the same.
    """

    fuser: Fuser
    classifier: Classifier
    fitted: FittedFuser
    classes: tuple[str, ...]
    transforms: Mapping[str, str]
    sizes: Mapping[str, int]
    weights: Mapping[str, float]
    notes: Sequence[str]
    choices: Mapping[str, Mapping[str, Any]]
    normaliser: LearnedNormaliser | None = None
    pooler: Learned[LearningPooler, FittedPooler] | None = None

    def scores(self, views: Views) -> np.ndarray:
        """Score items, labelled or not: ``(item, class)``, the largest being the prediction.

        Raises:
            BserkitError: the views are not of the channels and features that the model learned from, or a component
                failed.
        """
        lent = self._lent(views)
        with _told(self.fuser, self.classifier):
            scores = self.fitted.scores(lent)
        return self._checked(scores, views, FUSION)

    def parts(self, views: Views) -> dict[str, np.ndarray]:
        """Score the same items by single channels and transforms, each ``(item, class)``, where that has a meaning.

        Raises:
            BserkitError: as of ``scores``.
        """
        lent = self._lent(views)
        with _told(self.fuser, self.classifier):
            parts = dict(self.fitted.parts(lent))
        return {part: self._checked(scores, views, part) for part, scores in parts.items()}

    def predict(self, views: Views) -> np.ndarray:
        """Return the ``(item,)`` predicted classes; raises as ``scores`` does."""
        return np.asarray(self.classes)[self.scores(views).argmax(axis=1)]

    def remarks(self, views: Views) -> list[str]:
        """Return what a reader must know of how these items are scored; raises as ``scores`` does."""
        return notes_of(self.normaliser, self._ordered(views))

    def _checked(self, scores: Any, views: Views, part: str) -> np.ndarray:
        return class_scores_of(self.fuser, scores, (len(views), len(self.classes)), part)

    def _lent(self, views: Views) -> Views:
        """Return the views as they are handed over: normalised, and not to be written to."""
        ordered = self._ordered(views)
        return normalise(self.normaliser, ordered).take(slice(None)) if self.normaliser else ordered

    def _ordered(self, views: Views) -> Views:
        """Return the views without labels, in the model's order."""
        given = {channel: (views.transforms[channel], *values.shape[1:]) for channel, values in views.features.items()}
        expected = {channel: (transform, self.sizes[channel]) for channel, transform in self.transforms.items()}
        if given != expected:
            raise BserkitError(
                f"The views do not fit the model: given were {_described(given)}; expected {_described(expected)}. "
                "Make them with the channels, frontend, backbone and pooler that the model was fitted with."
            )
        if views.pooler is not self.pooler:
            raise BserkitError(
                "The views were pooled by something else than what the model learned in its fold. Pool them by the "
                "model's own: pool_features(checked, extraction, model.pooler, workspace)."
            )
        features = {channel: views.features[channel] for channel in self.transforms}
        ordered = replace(views, features=features, transforms=self.transforms, classes=self.classes)
        return ordered.without_labels().take(slice(None))


def fit_model(views: Views, fuser: Fuser, classifier: Classifier, normaliser: Normaliser | None = None) -> FittedModel:
    """Fit on training items: the normaliser on their vectors, the fuser on what it makes of them.

    Raises:
        BserkitError: the fuser, the classifier or the normaliser failed; the message names it.
    """
    training = views.take(slice(None))
    normalises, learned = fit_normaliser(normaliser, training) if normaliser else (None, training)
    with _told(fuser, classifier):
        fitted = fuser.fit(learned.take(slice(None)), classifier.make)
    return FittedModel(
        fuser=fuser,
        classifier=classifier,
        fitted=fitted,
        classes=tuple(views.classes),
        transforms={channel: views.transforms[channel] for channel in views.features},
        sizes={channel: values.shape[1] for channel, values in views.features.items()},
        weights=fitted.weights,
        notes=(*fitted.notes, *_flat_channels(views), *notes_of(normalises, training)),
        choices=_choices(fitted, normalises),
        normaliser=normalises,
        pooler=views.pooler,
    )


def _choices(fitted: FittedFuser, normalises: LearnedNormaliser | None) -> dict[str, Mapping[str, Any]]:
    """Return by part what was chosen: by a channel's normaliser, then by classifiers."""
    own = normalises.by_channel if normalises else {}
    made = {channel: dict(one.chosen) for channel, one in own.items() if one.chosen}
    return made | {part: made.get(part, {}) | dict(one) for part, one in fitted.choices.items()}


@contextmanager
def _told(fuser: Fuser, classifier: Classifier) -> Iterator[None]:
    """Say of a failure which component it is of."""
    try:
        yield
    except ClassifierError as error:
        raise ClassifierError(f"classifier {classifier.name}: {error}") from error
    except BserkitError as error:
        raise BserkitError(f"fusion {fuser.name}: {error}") from error
    except Exception as error:
        said = f"fusion {fuser.name}: {type(error).__name__}: {error}"
        raise BserkitError(f"{said}\nThe same command with -v before it shows where: bserkit -v ...") from error


def _described(channels: Mapping[str, tuple[Any, ...]]) -> str:
    return ", ".join(
        f"{channel} of {transform} with {' x '.join(map(str, sizes))} features"
        for channel, (transform, *sizes) in channels.items()
    )


def _flat_channels(training: Views) -> list[str]:
    flat = [channel for channel, values in training.features.items() if (values == values[:1]).all()]
    note = f"nothing can be learned from {', '.join(flat)}: the features of all training items are equal"
    return [note] if flat else []
