"""Partial least squares and principal components give scikit-learn's own numbers, fitted on what ``fit`` gets alone."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from bserkit import BserkitError, UsageError, class_scores, fit_classifier
from bserkit.component import Spec, build
from bserkit.plugins.builtin.classifiers import PartialLeastSquares, PcaSvm
from bserkit.plugins.builtin.linear_svm import SEARCHED_COSTS, LinearSVM
from bserkit.plugins.builtin.projections import PLS, PcaSVM, principal_directions

MACHINES = [PLS(), PcaSVM()]


def data(items=60, size=90, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    y = np.array([f"c{index % classes}" for index in range(items)])
    X = generator.normal(size=(items, size)) * generator.uniform(0.1, 30, size=size) + generator.normal(size=size)
    X[:, :classes] += 2 * (y[:, None] == [f"c{index}" for index in range(classes)])
    return X, y, np.array([f"s{index // 10}" for index in range(items)])


@pytest.mark.parametrize("size", [12, 90], ids=["fewer features than items", "more features than items"])
@pytest.mark.parametrize("components", [1, 3, 8])
def test_pls_equals_scikit_learn_on_one_column_a_class(size, components):
    X, y, _ = data(size=size)
    train, test = slice(0, 45), slice(45, None)
    columns = (y[train, None] == ["c0", "c1", "c2"]).astype(float)
    expected = PLSRegression(components, tol=1e-12, max_iter=100_000).fit(X[train], columns).predict(X[test])
    machine = PLS(components).fit(X[train], y[train])
    np.testing.assert_allclose(machine.decision_function(X[test]), expected, atol=1e-5)
    assert machine.predict(X[test]).tolist() == [f"c{index}" for index in expected.argmax(axis=1)]


@pytest.mark.parametrize("components", [5, 0.8])
def test_pca_svm_equals_scikit_learn_pca_and_svm(components):
    X, y, _ = data()
    train, test = slice(0, 45), slice(45, None)
    scaler = StandardScaler().fit(X[train])
    pca = PCA(components, svd_solver="full").fit(scaler.transform(X[train]))
    weight = np.sqrt(pca.n_components_ / X.shape[1])
    svm = LinearSVM(scale="none").fit(pca.transform(scaler.transform(X[train])) * weight, y[train])
    expected = svm.decision_function(pca.transform(scaler.transform(X[test])) * weight)
    machine = PcaSVM(components).fit(X[train], y[train])
    assert machine.components_ == pca.n_components_
    np.testing.assert_allclose(machine.decision_function(X[test]), expected, atol=1e-6)


def test_pca_svm_with_all_components_is_the_linear_svm():
    X, y, _ = data()
    every = PcaSVM(1000).fit(X[:45], y[:45])
    assert every.components_ == 44
    np.testing.assert_allclose(
        every.decision_function(X[:45]), LinearSVM().fit(X[:45], y[:45]).decision_function(X[:45]), atol=1e-4
    )


@pytest.mark.parametrize("shape", [(7, 30), (30, 7)])
def test_principal_directions_equal_those_of_the_svd(shape):
    centred = np.random.default_rng(0).normal(size=shape)
    centred -= centred.mean(axis=0)
    directions, lengths = principal_directions(centred)
    _, expected, rows = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(lengths, expected[: len(lengths)], atol=1e-10)
    np.testing.assert_allclose(np.abs(np.sum(directions * rows[: len(lengths)].T, axis=0)), 1, atol=1e-10)


@pytest.mark.parametrize("machine", [PLS(500), PcaSVM(500)], ids=["pls", "pca-svm"])
def test_too_many_components_mean_all_that_there_are(machine):
    X, y, _ = data(items=12, size=40)
    fitted = machine.fit(X, y)
    assert fitted.components_ == 11
    assert fitted.predict(X).tolist() == y.tolist()
    few = clone(machine).fit(X[:, :2], y)
    assert few.components_ == 2


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_what_is_scored_moves_nothing_that_was_fitted(machine):
    X, y, _ = data()
    fitted = clone(machine).fit(X[:45], y[:45])
    alone = np.concatenate([fitted.decision_function(row[None]) for row in X[45:]])
    loud = X[45:].copy()
    loud[0] = 1e6
    together = fitted.decision_function(loud)
    np.testing.assert_allclose(together[1:], alone[1:], atol=1e-9)
    # Such an item among those fitted on moves the scores of others: the check can fail.
    leaked = clone(machine).fit(np.concatenate([X[:45], loud]), np.concatenate([y[:45], y[45:]]))
    assert np.abs(leaked.decision_function(X[46:]) - alone[1:]).max() > 0.05


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_a_class_absent_in_training_is_not_predicted(machine):
    X, y, _ = data()
    rows = y != "c1"
    scores = class_scores(clone(machine).fit(X[rows], y[rows]), X, ("c0", "c1", "c2"))
    assert np.isfinite(scores).all()
    assert not (scores.argmax(axis=1) == 1).any()


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_two_classes_have_one_score_as_in_scikit_learn(machine):
    X, y, _ = data(classes=2)
    fitted = clone(machine).fit(X, y)
    assert fitted.decision_function(X).shape == (len(X),)
    scores = class_scores(fitted, X, ("c0", "c1"))
    assert fitted.predict(X).tolist() == [("c0", "c1")[column] for column in scores.argmax(axis=1)]
    assert np.mean(fitted.predict(X) == y) > 0.8


@pytest.mark.parametrize("make", [PartialLeastSquares().make, PcaSvm().make], ids=["pls", "pca-svm"])
def test_one_class_alone_is_refused(make):
    X, y, speakers = data()
    with pytest.raises(BserkitError, match="two classes"):
        fit_classifier(make, X, np.full(len(y), "c0"), speakers)


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_the_order_and_units_of_features_have_no_say(machine):
    X, y, _ = data()
    before = clone(machine).fit(X, y).decision_function(X)
    other = X[:, ::-1] * np.linspace(1, 1000, X.shape[1]) + 5
    np.testing.assert_allclose(clone(machine).fit(other, y).decision_function(other), before, atol=1e-4)


def test_pls_ignores_a_feature_constant_in_training():
    X, y, _ = data()
    wider = np.column_stack([X, np.full(len(X), 7.3)])
    narrow = PLS().fit(X, y).decision_function(X)
    np.testing.assert_allclose(PLS().fit(wider, y).decision_function(wider), narrow, atol=1e-6)


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_what_is_far_outside_of_training_is_limited(machine):
    X, y, _ = data()
    fitted = clone(machine).fit(X[:45], y[:45])
    far, near = X[45:46].copy(), X[45:46].copy()
    far[0, 5], near[0, 5] = 1e6, X[:45, 5].mean() + np.sqrt(45) * X[:45, 5].std()
    np.testing.assert_allclose(fitted.decision_function(far), fitted.decision_function(near), atol=1e-9)


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_constant_features_give_equal_finite_scores(machine):
    _, y, _ = data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = clone(machine).fit(np.ones((60, 5)), y).decision_function(np.ones((4, 5)))
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("machine", MACHINES, ids=["pls", "pca-svm"])
def test_scores_repeat_and_nearly_in_single_precision(machine):
    X, y, _ = data()
    one, two = clone(machine).fit(X, y).decision_function(X), clone(machine).fit(X, y).decision_function(X)
    np.testing.assert_array_equal(one, two)
    single = clone(machine).fit(X.astype(np.float32), y).decision_function(X.astype(np.float32))
    np.testing.assert_allclose(single, one, atol=2e-3)


def test_search_gets_the_training_speakers():
    X, y, speakers = data()
    assert fit_classifier(PcaSvm(c="search").make, X, y, speakers).svm_.c_ in SEARCHED_COSTS


@pytest.mark.parametrize(
    ("component", "value"), [(PartialLeastSquares, "0"), (PcaSvm, "0"), (PcaSvm, "2.5"), (PcaSvm, "-1")]
)
def test_meaningless_component_counts_are_refused(component, value):
    with pytest.raises(UsageError, match=f"components={value}"):
        build(component, Spec(component.name, {"components": value}))
