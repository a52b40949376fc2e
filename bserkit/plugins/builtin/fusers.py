"""Built-in fusers: two-stage score fusion, feature-level fusion and the plain mean (paper, section II-D, eqs. 8-10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal

import numpy as np
from pydantic import Field

from bserkit import (
    FittedFuser,
    Fuser,
    OracleFusion,
    Trial,
    Views,
    chosen,
    class_scores,
    fit_classifier,
    fit_joined,
    hookimpl,
    joined,
    measure,
    one_spelling,
    search_notes,
    speaker_groups,
    stratified_groups,
)

#: The exhaustive search's step is one tenth; whole tenths add up without rounding.
_TENTHS = 10
#: How many groups utterances are dealt to at random where a fuser does not say.
_RANDOM_GROUPS = 5


class _Searching(Fuser):
    """A fuser that has what parts the training utterances wherever something is searched on inner groups of them."""

    inner_by: Literal["speaker", "session", "random"] = Field(
        "speaker",
        description="what an inner search never parts; random: nothing, stratified by class, for unknown speakers",
    )
    seed: int = Field(0, description="of the groups of inner_by=random")

    def _kept_together(self, views: Views, groups: int = _RANDOM_GROUPS) -> np.ndarray:
        """Return ``(utterance,)`` names of what inner groups may not part."""
        if self.inner_by == "random":
            return stratified_groups(views.labels, groups, self.seed).astype(str)
        return views.sessions if self.inner_by == "session" else views.speakers

    def _fit_channels(self, views: Views, make_classifier: Callable[[], Any]) -> dict[str, Any]:
        """Fit a classifier a channel; one that searches does so on groups that keep the same together."""
        together = self._kept_together(views)
        return {
            channel: fit_classifier(make_classifier, features, views.labels, together)
            for channel, features in views.features.items()
        }

    def restore(self, state: Mapping[str, Any]) -> FittedFuser:
        """Return the fitted classifiers of the channels with their weights."""
        return _FittedScores(state["estimators"], state["weights"])

    def _notes(self, views: Views, group_of: np.ndarray) -> tuple[str, ...]:
        """Say that inner groups part speakers, or may do so, if they do."""
        named = one_spelling(views.speakers)
        pairs = {*zip(named.tolist(), group_of.tolist(), strict=True)}
        if self.inner_by == "speaker" or ("" not in named and len(pairs) == len(np.unique(named))):
            return ()
        how = "at random" if self.inner_by == "random" else f"by {self.inner_by}"
        return (
            f"inner folds {how}: the same speaker may be on both sides of an inner search; test utterances take no "
            "part in it",
        )


class TwoStage(_Searching):
    """Score fusion in two stages: the channels of each transform (eqs. 8, 9), then the transforms (eq. 10).

    The weights of a stage are those, of all in steps of 0.1 that sum to 1, that decide best; where several do, the one
    nearest to equal weights. They are searched on training utterances only: each inner group of training speakers is
    scored by classifiers that were fitted on the other groups. Where speakers are not known, ``inner_by`` says what the
    groups are made of instead.
    """

    name = "two-stage"
    tune: Literal["inner", "oracle"] = Field(
        "inner",
        description="oracle also searches on the test utterances, as the paper does, and reports that as oracle_*",
    )
    metric: Literal["accuracy", "uar"] = Field("accuracy", description="what the search maximises")
    inner_groups: int = Field(5, ge=2, description="groups of training utterances that the search is done on")

    def fit(self, views: Views, make_classifier: Callable[[], Any]) -> FittedFuser:
        """Fit a classifier a channel on all training utterances, and the weights on inner groups of them."""
        estimators = self._fit_channels(views, make_classifier)
        channels_of = views.channels_of()
        together = self._kept_together(views, self.inner_groups)
        group_of = speaker_groups(together, self.inner_groups)
        if obstacle := self._obstacle(views.labels, together, group_of):
            note = f"fusion weights were not searched but set equal: {obstacle}"
            return _FittedScores(estimators, _equal_weights(channels_of), notes=(note,))
        scores = {
            channel: self._out_of_group_scores(views, channel, group_of, make_classifier) for channel in views.features
        }
        weights, trials = self._search(scores, channels_of, views.labels, views.classes)
        return _FittedScores(estimators, weights, trials, self._notes(views, group_of))

    def _out_of_group_scores(
        self, views: Views, channel: str, group_of: np.ndarray, make_classifier: Callable[[], Any]
    ) -> np.ndarray:
        """Score each training utterance, ``(utterance, class)``, by a classifier fitted on the other inner groups."""
        alone = views.only(channel)
        scores = np.empty((len(views), len(views.classes)))
        for group in np.unique(group_of):
            inside = group_of == group
            # One channel at a time is copied.
            learned, held = alone.parted(~inside, inside)
            estimator = self._fit_channels(learned, make_classifier)[channel]
            scores[inside] = class_scores(estimator, held.features[channel], views.classes)
        return scores

    def _obstacle(self, labels: np.ndarray, together: np.ndarray, group_of: np.ndarray) -> str:
        """Say why no search can be done on these inner groups, if so."""
        if "" in together:
            others = " or ".join(one for one in ("session", "random") if one != self.inner_by)
            some = f"some training utterances name no {self.inner_by}"
            return f"{some}; two-stage:inner_by={others} searches all the same"
        if self.inner_by != "random" and (count := len(np.unique(one_spelling(together)))) < 3:
            return f"only {count} training {self.inner_by}s, and inner groups need three or more"
        if any(len(np.unique(labels[group_of != group])) < 2 for group in np.unique(group_of)):
            of = "training utterances" if self.inner_by == "random" else f"training {self.inner_by}s"
            return f"an inner group of {of} leaves a single class to learn from"
        return ""

    def oracle(
        self,
        scores: Mapping[str, np.ndarray],
        transforms: Mapping[str, str],
        labels: np.ndarray,
        classes: Sequence[str],
    ) -> OracleFusion | None:
        """Search the weights on the test utterances themselves, if ``tune=oracle``."""
        if self.tune != "oracle":
            return None
        channels_of: dict[str, list[str]] = {}
        for channel in scores:
            channels_of.setdefault(transforms[channel], []).append(channel)
        weights, trials = self._search(scores, channels_of, labels, classes)
        parts, fused = _fuse(scores, weights, channels_of)
        return OracleFusion(weights, fused, trials, parts)

    def _search(
        self,
        scores: Mapping[str, np.ndarray],
        channels_of: Mapping[str, Sequence[str]],
        labels: np.ndarray,
        classes: Sequence[str],
    ) -> tuple[dict[str, float], list[Trial]]:
        weights: dict[str, float] = {}
        trials: list[Trial] = []
        fused: dict[str, np.ndarray] = {}
        for transform, channels in channels_of.items():
            inputs = {channel: scores[channel] for channel in channels}
            fused[transform] = self._search_stage(transform, inputs, labels, classes, weights, trials)
        if len(fused) > 1:
            self._search_stage("fusion", fused, labels, classes, weights, trials)
        return weights, trials

    def _search_stage(
        self,
        stage: str,
        inputs: Mapping[str, np.ndarray],
        labels: np.ndarray,
        classes: Sequence[str],
        weights: dict[str, float],
        trials: list[Trial],
    ) -> np.ndarray:
        """Choose the weights of one stage, record them and every trial, and return the fused ``(utterance, class)``."""
        names = list(inputs)
        tried = list(weightings(len(names)))
        reached = [
            measure(labels, _decide(_weighted(inputs.values(), one), classes), classes).overall()[self.metric]
            for one in tried
        ]
        # The best; among equals the nearest to equal weights; among those the first.
        best = min(range(len(tried)), key=lambda index: (-reached[index], np.ptp(tried[index])))
        if len(names) > 1:
            weights |= dict(zip(names, tried[best], strict=True))
            trials += [
                Trial(stage, dict(zip(names, one, strict=True)), score, chosen=index == best)
                for index, (one, score) in enumerate(zip(tried, reached, strict=True))
            ]
        return _weighted(inputs.values(), tried[best])


class Mean(_Searching):
    """The plain mean of each transform's channels, then of the transforms: no weight to fit."""

    name = "mean"

    def fit(self, views: Views, make_classifier: Callable[[], Any]) -> FittedFuser:
        """Fit a classifier a channel."""
        estimators = self._fit_channels(views, make_classifier)
        notes = self._notes(views, speaker_groups(self._kept_together(views), _RANDOM_GROUPS))
        return _FittedScores(estimators, _equal_weights(views.channels_of()), notes=notes)


class Feature(_Searching):
    """Feature-level fusion: the channels' vectors one after another, then one classifier (paper, Table 7)."""

    name = "feature"

    def fit(self, views: Views, make_classifier: Callable[[], Any]) -> FittedFuser:
        """Fit a classifier on all channels, and one on each channel and transform for comparison."""
        groups: dict[str, tuple[str, ...]] = {channel: (channel,) for channel in views.features}
        groups |= {transform: tuple(channels) for transform, channels in views.channels_of().items()}
        joins = (*groups.values(), tuple(views.features))
        together = self._kept_together(views)
        estimators = fit_joined(make_classifier, views.features, joins, views.labels, together)
        return _FittedFeatures(estimators, groups, self._notes(views, speaker_groups(together, _RANDOM_GROUPS)))

    def restore(self, state: Mapping[str, Any]) -> FittedFuser:
        """Return the fitted classifiers of the joined channels."""
        estimators = {tuple(join): estimator for join, estimator in state["estimators"]}
        return _FittedFeatures(estimators, {part: tuple(join) for part, join in state["groups"].items()})


class _FittedScores(FittedFuser):
    def __init__(
        self,
        estimators: Mapping[str, Any],
        weights: Mapping[str, float],
        trials: Sequence[Trial] = (),
        notes: Sequence[str] = (),
    ) -> None:
        self.estimators, self.weights, self.trials = estimators, weights, trials
        self.notes, self.choices = _searched(estimators, notes)

    def scores(self, views: Views) -> np.ndarray:
        return _fuse(self._by_channel(views), self.weights, views.channels_of())[1]

    def parts(self, views: Views) -> dict[str, np.ndarray]:
        by_channel = self._by_channel(views)
        return by_channel | _fuse(by_channel, self.weights, views.channels_of())[0]

    def state(self) -> dict[str, Any]:
        return {"estimators": self.estimators, "weights": self.weights}

    def _by_channel(self, views: Views) -> dict[str, np.ndarray]:
        return {
            channel: class_scores(estimator, views.features[channel], views.classes)
            for channel, estimator in self.estimators.items()
        }


class _FittedFeatures(FittedFuser):
    def __init__(
        self,
        estimators: Mapping[tuple[str, ...], Any],
        groups: Mapping[str, tuple[str, ...]],
        notes: Sequence[str] = (),
    ) -> None:
        self.estimators, self.groups = estimators, groups
        joins = {**groups, "fusion": max(estimators, key=len)}
        self.notes, self.choices = _searched({part: estimators[channels] for part, channels in joins.items()}, notes)

    def scores(self, views: Views) -> np.ndarray:
        return self._score(views, tuple(views.features))

    def parts(self, views: Views) -> dict[str, np.ndarray]:
        return {name: self._score(views, channels) for name, channels in self.groups.items()}

    def state(self) -> dict[str, Any]:
        return {"estimators": [*self.estimators.items()], "groups": self.groups}

    def _score(self, views: Views, channels: tuple[str, ...]) -> np.ndarray:
        return class_scores(self.estimators[channels], joined(views.features, channels), views.classes)


def _searched(estimators: Mapping[str, Any], notes: Sequence[str]) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    """Return the notes with those of the classifiers' searches, and by part what these chose."""
    said = [*notes, *(note for estimator in estimators.values() for note in search_notes(estimator))]
    choices = {part: chose for part, estimator in estimators.items() if (chose := chosen(estimator))}
    return tuple(dict.fromkeys(said)), choices


def weightings(inputs: int) -> Iterable[tuple[float, ...]]:
    """Yield every weighting of so many inputs, in tenths that sum to 1.

    >>> list(weightings(1)), len(list(weightings(2))), len(list(weightings(3)))
    ([(1.0,)], 11, 66)
    """
    for tenths in product(range(_TENTHS + 1), repeat=inputs - 1):
        if sum(tenths) <= _TENTHS:
            yield tuple(part / _TENTHS for part in (*tenths, _TENTHS - sum(tenths)))


def _equal_weights(channels_of: Mapping[str, Sequence[str]]) -> dict[str, float]:
    stages = [*channels_of.values(), list(channels_of)]
    return {name: 1 / len(stage) for stage in stages if len(stage) > 1 for name in stage}


def _weighted(scores: Iterable[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    return np.sum([weight * score for weight, score in zip(weights, scores, strict=True)], axis=0)


def _fuse(
    scores: Mapping[str, np.ndarray], weights: Mapping[str, float], channels_of: Mapping[str, Sequence[str]]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return each transform's fused ``(utterance, class)`` scores and those of all; what stands alone weighs 1."""
    transforms = {
        transform: _weighted([scores[channel] for channel in channels], [weights.get(one, 1.0) for one in channels])
        for transform, channels in channels_of.items()
    }
    return transforms, _weighted(transforms.values(), [weights.get(transform, 1.0) for transform in transforms])


def _decide(scores: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return np.asarray(classes)[scores.argmax(axis=1)]


@hookimpl
def bserkit_fusers() -> list[type[Fuser]]:
    """Return the built-in fusers."""
    return [TwoStage, Feature, Mean]
