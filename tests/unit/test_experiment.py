"""Nothing of a test speaker reaches training: shown by checks that fail for an evaluation that leaks."""

from dataclasses import replace

import numpy as np
import pytest

from bserkit import Views
from bserkit.builtin.classifiers import LinearSvm
from bserkit.builtin.fusers import Feature, Mean, TwoStage
from bserkit.experiment import FUSION, evaluate
from bserkit.progress import Silent
from bserkit.protocol import Fold
from bserkit.record import overall_metrics
from bserkit.speakers import speaker_groups

TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}
FUSERS = [TwoStage(), Feature(), Mean()]


def corpus(seed=0):
    generator = np.random.default_rng(seed)
    labels = np.array([f"c{index % 3}" for index in range(60)])
    speakers = np.array([f"s{index // 12}" for index in range(60)])
    features = {}
    for channel in TRANSFORMS:
        features[channel] = generator.normal(size=(60, 8)).astype(np.float32)
        features[channel][:, :3] += labels[:, None] == np.array(["c0", "c1", "c2"])
    return Views(features, TRANSFORMS, ("c0", "c1", "c2"), labels, speakers)


def folds(views):
    group_of = speaker_groups(views.speakers, 5)
    return [Fold(f"g{g}", np.flatnonzero(group_of != g), np.flatnonzero(group_of == g)) for g in range(5)]


def run(views, fuser, classifier=None):
    return evaluate(views, folds(views), fuser, classifier or LinearSvm(), Silent())


def changed_by_a_test_item(evaluate_views, fuser):
    """Say which items' scores change when one item becomes enormous, among those evaluated in the same fold."""
    views = corpus()
    loud = {channel: values.copy() for channel, values in views.features.items()}
    for values in loud.values():
        values[7] = 1e4
    before = evaluate_views(views, fuser).scores[FUSION]
    after = evaluate_views(replace(views, features=loud), fuser).scores[FUSION]
    same_fold = views.speakers == views.speakers[7]
    others = same_fold & (np.arange(60) != 7)
    return bool((before[others] != after[others]).any())


def leaky(views, fuser):
    """Scale by all items, test speakers included, as so much published code does."""
    scaled = {channel: (values - values.mean(0)) / values.std(0) for channel, values in views.features.items()}
    return run(replace(views, features=scaled), fuser)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_no_test_item_moves_the_scores_of_another(fuser):
    assert not changed_by_a_test_item(run, fuser)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_a_scaler_fitted_on_all_items_would_be_caught(fuser):
    assert changed_by_a_test_item(leaky, fuser)


@pytest.mark.parametrize("classifier", [LinearSvm(), LinearSvm(c="search")], ids=["fixed c", "searched c"])
@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_labels_of_test_items_move_nothing(fuser, classifier):
    views = corpus()
    (fold, *_) = folds(views)
    wrong = views.labels.copy()
    wrong[fold.test] = "c0"
    honest = evaluate(views, [fold], fuser, classifier, Silent())
    blind = evaluate(replace(views, labels=wrong), [fold], fuser, classifier, Silent())
    np.testing.assert_array_equal(honest.scores[FUSION], blind.scores[FUSION])
    assert honest.outcomes[0].weights == blind.outcomes[0].weights


def test_a_fuser_that_searches_on_test_labels_finds_none():
    class Peeking(TwoStage):
        name = "peeking"

        def fit(self, views, make_classifier):
            fitted = super().fit(views, make_classifier)
            seen = fitted.scores

            def scores(test):
                assert len(test.labels) == 0
                return seen(test)

            fitted.scores = scores
            return fitted

    run(corpus(), Peeking())


def test_the_oracle_changes_no_honest_number():
    honest, oracle = run(corpus(), TwoStage()), run(corpus(), TwoStage(tune="oracle"))
    for part, scores in honest.scores.items():
        np.testing.assert_array_equal(scores, oracle.scores[part])
    assert honest.oracle is None
    assert oracle.oracle_measures().accuracy >= oracle.measures().accuracy


def test_each_stage_of_the_oracle_is_measured_at_the_weights_that_it_found():
    views = corpus()
    result = run(views, TwoStage(tune="oracle"))
    weights = result.oracle.weights
    assert list(result.oracle.parts) == ["lr", "ms"]
    for part, channels in (("lr", ("left", "right")), ("ms", ("mid", "side"))):
        fused = sum(weights[channel] * result.scores[channel] for channel in channels)
        np.testing.assert_allclose(result.oracle.parts[part], fused)
        right = np.array(views.classes)[fused.argmax(axis=1)] == views.labels
        assert result.oracle_measures(part).accuracy == pytest.approx(right.mean())
        assert overall_metrics(result)[f"oracle_{part}/accuracy"] == pytest.approx(right.mean())
    fused = sum(weights[part] * scores for part, scores in result.oracle.parts.items())
    np.testing.assert_allclose(result.oracle.scores, fused)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_the_order_of_items_changes_no_decision(fuser):
    views = corpus()
    order = np.random.default_rng(1).permutation(60)
    straight, permuted = run(views, fuser), run(views.take(order), fuser)
    back = np.argsort(order)
    np.testing.assert_allclose(permuted.scores[FUSION][back], straight.scores[FUSION], atol=1e-4)
    np.testing.assert_array_equal(permuted.decisions()[back], straight.decisions())


def test_every_item_is_evaluated_once_by_the_fold_that_left_its_speaker_out():
    views = corpus()
    result = run(views, Mean())
    assert result.items.tolist() == list(range(60))
    assert result.fold_of.tolist() == speaker_groups(views.speakers, 5).tolist()


def test_numbers_are_the_same_twice():
    one, two = run(corpus(), TwoStage()), run(corpus(), TwoStage())
    for part, scores in one.scores.items():
        np.testing.assert_array_equal(scores, two.scores[part])
