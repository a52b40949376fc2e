"""Nothing of a test item reaches what is learned; each check is shown to fail where the code is made to leak.

There are two ways for a test item to leak, by its features and by its label, and a check for each. The leaks are those
that published code has: a scaler fitted on all items, fusion weights searched on test items, a cost chosen on them.
"""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from bserkit import Views
from bserkit.corpora.protocols import Fold
from bserkit.evaluation.cross_validation import evaluate
from bserkit.learning.model_files import model_content
from bserkit.learning.pooled import fit_pooler
from bserkit.plugins.builtin.classifiers import LinearSvm, PartialLeastSquares, PcaSvm
from bserkit.plugins.builtin.codebooks import Vlad
from bserkit.plugins.builtin.fusers import Feature, Mean, TwoStage
from bserkit.plugins.builtin.linear_svm import SEARCHED_COSTS, LinearSVM, _Block, _Scaled
from bserkit.plugins.builtin.normalisers import PrincipalComponents, Speaker
from bserkit.progress import Silent
from bserkit.testing import sample_views
from bserkit.testing.leaks import (
    features_of_a_test_item_move_others,
    folds_of,
    labels_of_test_items_move_something,
    learned,
    marked_item,
    with_a_loud_item,
)

MONO = {"mono": "mono"}
FUSERS = [TwoStage(), Feature(), Mean()]
SEARCHING = [LinearSvm(c="search"), PcaSvm(c="search")]
#: What the checks of single components leave out, which try a fuser with linear-svm and a classifier with the mean.
PAIRS = [
    *((fuser, one) for fuser in (TwoStage(), Feature()) for one in (PartialLeastSquares(components=3), PcaSvm())),
    *((Mean(), one) for one in SEARCHING),
]
#: Normalisers by which a test utterance moves nothing but itself, and those by which it moves others of its fold too.
ALONE, TOGETHER = [Speaker(), PrincipalComponents(components=3)], [Speaker(by="each")]

every_fuser = pytest.mark.parametrize("fuser", FUSERS, ids=lambda one: one.name)
every_normaliser = pytest.mark.parametrize("normaliser", [*ALONE, *TOGETHER], ids=lambda one: one.spec)
every_pair = pytest.mark.parametrize(("fuser", "classifier"), PAIRS, ids=lambda one: one.spec)


def first_fold(views):
    return folds_of(views)[0]


@every_pair
def test_test_features_move_only_their_own_scores(fuser, classifier):
    assert not features_of_a_test_item_move_others(sample_views(), fuser, classifier)


@every_pair
def test_labels_of_test_items_move_nothing(fuser, classifier):
    assert not labels_of_test_items_move_something(sample_views(), fuser, classifier)


@pytest.fixture
def kept(monkeypatch):
    """Make the code keep hold of all items when it takes those of a fold: what every leak below begins with."""
    everything = []
    take = Views.take

    def keep(views, rows):
        if len(views) == 60:
            everything.append(views)
        return take(views, rows)

    monkeypatch.setattr(Views, "take", keep)
    return everything


@every_fuser
def test_a_scaler_fitted_on_all_items_is_noticed(fuser, kept, monkeypatch):
    def by_all(block, rest):
        scaler = StandardScaler().fit(kept[-1].features["mono"])
        return _Scaled(scaler.mean_, 1 / scaler.scale_, scaler.transform(block.X))

    views = sample_views(transforms=MONO)
    assert not features_of_a_test_item_move_others(views, fuser, LinearSvm())
    monkeypatch.setattr(_Block, "_scaled", by_all)
    assert features_of_a_test_item_move_others(views, fuser, LinearSvm())


def test_a_model_that_keeps_a_test_item_is_noticed(kept, monkeypatch):
    fit = LinearSVM.fit

    def keep(estimator, X, y):
        fitted = fit(estimator, X, y)
        fitted.example_ = kept[-1].features["left"][marked_item(first_fold(kept[-1]))].copy()
        return fitted

    assert not features_of_a_test_item_move_others(sample_views(), Mean(), LinearSvm())
    monkeypatch.setattr(LinearSVM, "fit", keep)
    assert features_of_a_test_item_move_others(sample_views(), Mean(), LinearSvm())


def test_fusion_weights_tuned_on_test_data_are_noticed(kept, monkeypatch):
    fit = TwoStage.fit

    def peek(fuser, views, make_classifier):
        fitted = fit(fuser, views, make_classifier)
        test = kept[-1].take(first_fold(kept[-1]).test)
        scores = {name: part for name, part in fitted.parts(test.without_labels()).items() if name in test.features}
        fitted.weights = TwoStage(tune="oracle").oracle(scores, test.transforms, test.labels, test.classes).weights
        return fitted

    assert not labels_of_test_items_move_something(sample_views(), TwoStage(), LinearSvm())
    monkeypatch.setattr(TwoStage, "fit", peek)
    assert labels_of_test_items_move_something(sample_views(), TwoStage(), LinearSvm())


@every_fuser
def test_a_cost_chosen_on_test_items_is_noticed(fuser, kept, monkeypatch):
    def on_test(_, blocks, y, groups):
        test = kept[-1].take(first_fold(kept[-1]).test)
        machines = [LinearSVM(cost).fit(blocks[0].X, y) for cost in SEARCHED_COSTS]
        right = [(machine.predict(test.features["mono"]) == test.labels).mean() for machine in machines]
        return SEARCHED_COSTS[int(np.argmax(right))]

    views = sample_views(transforms=MONO)
    assert not labels_of_test_items_move_something(views, fuser, LinearSvm(c="search"))
    monkeypatch.setattr(LinearSVM, "_search", on_test)
    assert labels_of_test_items_move_something(views, fuser, LinearSvm(c="search"))


@every_fuser
@every_normaliser
def test_labels_of_test_items_move_no_normaliser(fuser, normaliser):
    assert not labels_of_test_items_move_something(sample_views(), fuser, LinearSvm(), normaliser)


@every_fuser
@pytest.mark.parametrize("normaliser", ALONE, ids=lambda one: one.spec)
def test_normaliser_lets_test_item_move_no_other(fuser, normaliser):
    assert not features_of_a_test_item_move_others(sample_views(), fuser, LinearSvm(), normaliser)


@every_fuser
@pytest.mark.parametrize("normaliser", TOGETHER, ids=lambda one: one.spec)
def test_unlabelled_test_items_move_nothing_learned(fuser, normaliser):
    views = sample_views()
    # As if two spoke in the fold: of the one whose features stay nothing may move either.
    views = replace(views, speakers=np.where(np.arange(60) < 6, "s0b", views.speakers))
    fold = Fold("first", np.arange(12, 60), np.arange(12))
    others = np.flatnonzero(views.speakers[fold.test] == "s0b")
    quiet, loud = ({}, {})
    scored = []
    for one, kept in ((views, quiet), (with_a_loud_item(views, 7), loud)):
        result = evaluate(one, [fold], fuser, LinearSvm(), Silent(), kept.__setitem__, normaliser)
        scored.append({part: scores.tolist() for part, scores in result.scores.items()})
    assert model_content(quiet[0]) == model_content(loud[0])
    for part, before in scored[0].items():
        after = scored[1][part]
        assert [before[row] for row in others] == [after[row] for row in others]
        # The others of the same speaker do move: that is what the outputs of such a run warn of.
        assert before[-2] != after[-2]


@pytest.mark.parametrize("normaliser", ALONE, ids=lambda one: one.spec)
def test_normaliser_fitted_on_all_items_is_noticed(normaliser, kept, monkeypatch):
    fit = type(normaliser).fit
    assert not features_of_a_test_item_move_others(sample_views(), Mean(), LinearSvm(scale="none"), normaliser)
    monkeypatch.setattr(type(normaliser), "fit", lambda own, _: fit(own, kept[-1].channel("left")))
    assert features_of_a_test_item_move_others(sample_views(), Mean(), LinearSvm(scale="none"), normaliser)


def test_normaliser_learning_from_test_is_noticed(kept, monkeypatch):
    fit = Speaker.fit

    def by_labels(own, training):
        test = kept[-1].take(first_fold(kept[-1]).test)
        chosen = test.take(test.labels == "c0").channel("left")
        return fit(own, chosen)

    assert not labels_of_test_items_move_something(sample_views(), Mean(), LinearSvm(scale="none"), Speaker())
    monkeypatch.setattr(Speaker, "fit", by_labels)
    assert labels_of_test_items_move_something(sample_views(), Mean(), LinearSvm(scale="none"), Speaker())


def test_sound_of_test_utterances_moves_no_pooler(spoken):
    before = model_content(spoken.learned(Vlad(centres=2))[1])
    digests = spoken.checked.digests
    for index in spoken.fold.test:
        spoken.record(index, seed=7)
    assert spoken.checked.digests != digests
    assert model_content(spoken.learned(Vlad(centres=2))[1]) == before
    # That of a training utterance does.
    spoken.record(spoken.fold.train[0], seed=8)
    assert model_content(spoken.learned(Vlad(centres=2))[1]) != before


def test_labels_of_test_utterances_move_no_pooler(spoken):
    before, model = spoken.learned(Vlad(centres=2))
    for index in spoken.fold.test:
        spoken.relabel(index)
    after, same = spoken.learned(Vlad(centres=2))
    assert (before.labels != after.labels).all()
    assert model_content(same) == model_content(model)
    assert after.scores["fusion"].tolist() == before.scores["fusion"].tolist()


def test_a_pooler_fitted_on_all_utterances_is_noticed(spoken, monkeypatch):
    def everything(checked, extractions, pooler, train, workspace):
        return fit_pooler(checked, extractions, pooler, np.arange(len(checked.digests)), workspace)

    monkeypatch.setattr("bserkit.experiments.features.fit_pooler", everything)
    before = model_content(spoken.learned(Vlad(centres=2))[1])
    spoken.record(spoken.fold.test[0], seed=7)
    assert model_content(spoken.learned(Vlad(centres=2))[1]) != before


def test_fusers_see_test_utterances_without_labels():
    handed_over = []

    class Peeking(Mean):
        name = "peeking"

        def fit(self, views, make_classifier):
            fitted = super().fit(views, make_classifier)
            seen = fitted.scores

            def scores(test):
                handed_over.append(test.labels)
                return seen(test)

            fitted.scores = scores
            return fitted

    views = sample_views()
    learned(views, [first_fold(views)], Peeking(), LinearSvm())
    assert [len(labels) for labels in handed_over] == [0]
