"""An evaluation of folds: the same numbers whatever the order, the oracle beside them and not in them."""

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
