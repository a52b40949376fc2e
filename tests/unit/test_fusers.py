"""Fusion against hand-computed numbers (paper, eqs. 8-10), and what the search may see."""

from dataclasses import replace

import numpy as np
import pytest

from bserkit import Views
from bserkit.plugins.builtin.fusers import Feature, Mean, TwoStage, weightings

CLASSES = ("a", "b")
TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}


class Given:
    """A classifier that scores an item by its first feature, and remembers what it was fitted on."""

    fitted: list = []  # noqa: RUF012

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        Given.fitted.append((X.copy(), y.copy()))
        return self

    def decision_function(self, X):
        return X[:, 0]


def views(features, labels, speakers=None, transforms=TRANSFORMS, sessions=()):
    count = len(labels)
    return Views(
        features={channel: np.asarray(values, dtype=float).reshape(count, -1) for channel, values in features.items()},
        transforms=transforms,
        classes=CLASSES,
        labels=np.array(list(labels)),
        speakers=np.array(speakers if speakers is not None else [f"s{index}" for index in range(count)]),
        sessions=np.array(sessions, dtype=str),
    )


def four(labels, speakers=None, **changed):
    right = [1.0 if label == "b" else -1.0 for label in labels]
    return views({channel: changed.get(channel, right) for channel in TRANSFORMS}, labels, speakers)


def test_weightings_are_all_tenths_that_sum_to_one():
    two = list(weightings(2))
    assert two == [(tenth / 10, (10 - tenth) / 10) for tenth in range(11)]
    assert all(sum(round(10 * part) for part in one) == 10 for one in weightings(3))


def test_two_stages_are_weighted_sums_by_hand():
    fitted = TwoStage().fit(four("abab"), Given)
    fitted.weights = {"left": 0.4, "right": 0.6, "mid": 0.7, "side": 0.3, "lr": 0.2, "ms": 0.8}
    items = views({"left": [1.0], "right": [-2.0], "mid": [3.0], "side": [0.5]}, ["a"])
    first = 0.4 * 1.0 + 0.6 * -2.0
    second = 0.7 * 3.0 + 0.3 * 0.5
    parts = fitted.parts(items.without_labels())
    assert list(parts) == ["left", "right", "mid", "side", "lr", "ms"]
    assert parts["lr"][0].tolist() == pytest.approx([-first, first])
    assert parts["ms"][0].tolist() == pytest.approx([-second, second])
    final = 0.2 * first + 0.8 * second
    assert fitted.scores(items.without_labels())[0].tolist() == pytest.approx([-final, final])


def test_an_always_wrong_channel_gets_a_low_weight():
    labels = "abababab"
    wrong = [-3.0 if label == "b" else 3.0 for label in labels]
    weights = TwoStage().fit(four(labels, right=wrong), Given).weights
    # left scores 1 and right 3 the other way: left decides from weight 0.8 on, and 0.8 is nearest to equal.
    assert (weights["left"], weights["right"]) == (0.8, 0.2)


def test_among_the_best_weights_the_most_equal_win():
    weights = TwoStage().fit(four("abababab"), Given).weights
    assert set(weights.values()) == {0.5}


def test_search_scores_only_utterances_not_fitted_on():
    labels = list("abababababab")
    speakers = [f"s{index // 2}" for index in range(12)]
    Given.fitted = []
    items = four(
        labels, speakers, left=np.arange(12.0), right=np.arange(12.0), mid=np.arange(12.0), side=np.arange(12.0)
    )
    TwoStage(inner_groups=3).fit(items, Given)
    inner = [set(X[:, 0].astype(int)) for X, _ in Given.fitted if len(X) < 12]
    assert len(inner) == 3 * 4
    for fitted_on in inner:
        heard = {speakers[index] for index in fitted_on}
        held_out = set(range(12)) - fitted_on
        assert heard.isdisjoint(speakers[index] for index in held_out)


def test_all_trials_are_kept_and_the_best_is_chosen():
    labels = "abababab"
    wrong = [-3.0 if label == "b" else 3.0 for label in labels]
    trials = TwoStage().fit(four(labels, right=wrong), Given).trials
    assert [trial.stage for trial in trials] == ["lr"] * 11 + ["ms"] * 11 + ["fusion"] * 11
    for stage in ("lr", "ms", "fusion"):
        scores = [trial.score for trial in trials if trial.stage == stage]
        (chosen,) = [trial for trial in trials if trial.stage == stage and trial.chosen]
        assert chosen.score == max(scores)


@pytest.mark.parametrize("speakers", [["s1", "s2", "s1", "s2"], ["", "", "", ""], ["s1", "s2", "s3", "s3"]])
def test_weights_are_equal_where_no_search_is_possible(speakers):
    fitted = TwoStage().fit(four("aabb", speakers), Given)
    assert set(fitted.weights.values()) == {0.5}
    assert "set equal" in fitted.notes[0]
    assert not fitted.trials


#: Twelve items of nobody in particular whose right channel is always wrong, so that a search weighs left more.
NOBODY = {"speakers": [""] * 12, "labels": "ab" * 6}
WRONG_RIGHT = [3.0, -3.0] * 6


def nobody(**given):
    items = four(NOBODY["labels"], NOBODY["speakers"], right=WRONG_RIGHT)
    return replace(items, **{name: np.array(values) for name, values in given.items()})


def test_without_speakers_the_note_names_other_groups():
    (note,) = TwoStage().fit(nobody(), Given).notes
    assert "some training utterances name no speaker" in note
    assert "inner_by=session or random" in note


@pytest.mark.parametrize(("by", "how"), [("random", "at random"), ("session", "by session")])
def test_without_speakers_other_groups_are_searched(by, how):
    items = nobody(sessions=[f"day {index // 3}" for index in range(12)])
    fitted = TwoStage(inner_by=by).fit(items, Given)
    assert (fitted.weights["left"], fitted.weights["right"]) == (0.8, 0.2)
    assert len(fitted.trials) == 33
    (note,) = fitted.notes
    assert note.startswith(f"inner folds {how}: the same speaker may be on both sides")
    assert "test utterances take no part" in note


def test_sessions_that_part_no_speaker_leave_no_note():
    sessions = [f"day {index // 3}" for index in range(12)]
    items = nobody(sessions=sessions, speakers=[f"of {one}" for one in sessions])
    assert not TwoStage(inner_by="session").fit(items, Given).notes


def test_inner_groups_by_session_never_part_a_session():
    sessions = [f"day {index // 3}" for index in range(12)]
    Given.fitted = []
    ones = {channel: np.arange(12.0) for channel in TRANSFORMS}
    items = replace(four("ab" * 6, [""] * 12, **ones), sessions=np.array(sessions))
    TwoStage(inner_by="session").fit(items, Given)
    inner = [set(X[:, 0].astype(int)) for X, _ in Given.fitted if len(X) < 12]
    assert len(inner) == 4 * 4
    for fitted_on in inner:
        assert {sessions[index] for index in fitted_on}.isdisjoint(
            sessions[index] for index in set(range(12)) - fitted_on
        )


def test_no_search_by_session_where_none_is_named():
    fitted = TwoStage(inner_by="session").fit(nobody(), Given)
    assert set(fitted.weights.values()) == {0.5}
    assert "name no session; two-stage:inner_by=random searches" in fitted.notes[0]


def test_random_inner_groups_follow_the_seed_alone():
    generator = np.random.default_rng(0)
    items = four("ab" * 30, [""] * 60, **{channel: generator.normal(size=60) for channel in TRANSFORMS})
    trials = [TwoStage(inner_by="random", seed=seed).fit(items, Given).trials for seed in (1, 1)]
    assert trials[0] == trials[1]


class Searching:
    """A classifier that remembers the groups it may not part."""

    groups: list = []  # noqa: RUF012

    def fit(self, X, y, groups):
        self.classes_ = np.unique(y)
        Searching.groups.append((y.tolist(), groups.tolist()))
        return self

    def decision_function(self, X):
        return X[:, 0]


@pytest.mark.parametrize("fuser", [TwoStage, Mean, Feature])
def test_searching_classifiers_get_same_inner_groups(fuser):
    items = nobody(sessions=[f"day {index // 3}" for index in range(12)])
    Searching.groups = []
    fuser(inner_by="session").fit(items, Searching)
    assert all(set(groups) <= set(items.sessions) for _, groups in Searching.groups)
    Searching.groups = []
    notes = fuser(inner_by="random").fit(items, Searching).notes
    assert notes[0].startswith("inner folds at random")
    for labels, groups in Searching.groups:
        of_a, of_b = ([group for label, group in zip(labels, groups, strict=True) if label == one] for one in "ab")
        assert len(set(groups)) == 5
        assert max(map(of_a.count, of_a)) - min(map(of_a.count, of_a)) <= 1
        assert max(map(of_b.count, of_b)) - min(map(of_b.count, of_b)) <= 1


def test_the_oracle_is_silent_unless_asked_for():
    items = four("abab")
    scores = {channel: np.hstack([-values, values]) for channel, values in items.features.items()}
    assert TwoStage().oracle(scores, TRANSFORMS, items.labels, CLASSES) is None


def test_the_oracle_finds_the_best_test_weights():
    labels = "abab"
    wrong = [-3.0 if label == "b" else 3.0 for label in labels]
    items = four(labels, right=wrong, side=wrong)
    scores = {channel: np.hstack([-values, values]) for channel, values in items.features.items()}
    oracle = TwoStage(tune="oracle").oracle(scores, TRANSFORMS, items.labels, CLASSES)
    assert oracle.weights["left"] == 0.8
    assert oracle.weights["mid"] == 0.8
    assert [CLASSES[column] for column in oracle.scores.argmax(axis=1)] == list(labels)


def test_uar_is_searched_for_where_it_is_the_metric():
    # right is right about every a and no b, left about every b and half of a.
    labels = ["a"] * 18 + ["b"] * 2
    left = [-1.0, 1.0] * 9 + [1.0] * 2
    right = [-1.0] * 20
    items = four(labels, left=left, right=right)
    assert TwoStage(metric="accuracy").fit(items, Given).weights["left"] <= 0.5
    assert TwoStage(metric="uar").fit(items, Given).weights["left"] > 0.5


def test_the_mean_weighs_channels_and_transforms_alike():
    fitted = Mean().fit(four("abab"), Given)
    items = views({"left": [1.0], "right": [3.0], "mid": [5.0], "side": [-1.0]}, ["a"])
    assert fitted.scores(items.without_labels())[0].tolist() == pytest.approx([-2.0, 2.0])


def test_feature_fusion_fits_on_concatenated_features():
    Given.fitted = []
    items = views(
        {"left": [[1, 2]] * 4, "right": [[3, 4]] * 4, "mid": [[5, 6]] * 4, "side": [[7, 8]] * 4}, list("abab")
    )
    fitted = Feature().fit(items, Given)
    assert [X.shape[1] for X, _ in Given.fitted] == [2, 2, 2, 2, 4, 4, 8]
    assert Given.fitted[-1][0][0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(fitted.parts(items.without_labels())) == ["left", "right", "mid", "side", "lr", "ms"]


@pytest.mark.parametrize("fuser", [TwoStage(), Mean(), Feature()])
def test_a_single_channel_is_its_own_fusion(fuser):
    items = views({"mono": [-1.0, 1.0, -1.0, 1.0]}, list("abab"), transforms={"mono": "mono"})
    fitted = fuser.fit(items, Given)
    parts = fitted.parts(items.without_labels())
    np.testing.assert_array_equal(parts["mono"], fitted.scores(items.without_labels()))
