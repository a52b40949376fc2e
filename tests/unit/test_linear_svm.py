"""The linear SVM through one Gram matrix equals scikit-learn's own computation."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bserkit import class_scores, fit_classifier, fit_joined, joined
from bserkit.builtin.classifiers import LinearSvm
from bserkit.builtin.linear_svm import SEARCHED_COSTS, TOLERANCE, LinearSVM


def data(items=60, size=40, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    y = np.array([f"c{index % classes}" for index in range(items)])
    X = generator.normal(size=(items, size)) * generator.uniform(0.1, 30, size=size) + generator.normal(size=size)
    X[:, :classes] += 2 * (y[:, None] == [f"c{index}" for index in range(classes)])
    return X, y, np.array([f"s{index // 10}" for index in range(items)])


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
def test_scores_equal_one_svc_a_class_on_standardised_features(cost):
    X, y, _ = data()
    train, test = slice(0, 45), slice(45, None)
    scaler = StandardScaler().fit(X[train])
    size = np.sqrt(X.shape[1])
    expected = np.stack(
        [
            SVC(kernel="linear", C=cost, tol=TOLERANCE)
            .fit(scaler.transform(X[train]) / size, y[train] == name)
            .decision_function(scaler.transform(X[test]) / size)
            for name in ("c0", "c1", "c2")
        ],
        axis=1,
    )
    machine = LinearSVM(c=cost).fit(X[train], y[train])
    np.testing.assert_allclose(machine.decision_function(X[test]), expected, atol=1e-8)
    assert machine.predict(X[test]).tolist() == [f"c{index}" for index in expected.argmax(axis=1)]


def test_half_as_precise_features_change_scores_by_rounding_only():
    X, y, _ = data()
    double, single = LinearSVM().fit(X, y), LinearSVM().fit(X.astype(np.float32), y)
    np.testing.assert_allclose(single.decision_function(X.astype(np.float32)), double.decision_function(X), atol=2e-3)


def test_a_feature_that_is_constant_in_training_has_no_say():
    X, y, _ = data()
    X = np.column_stack([X, np.full(len(X), 7.3)]).astype(np.float32)
    machine = LinearSVM().fit(X, y)
    before = machine.decision_function(X)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(machine.coef_[:, -1], 0, atol=1e-6)


def test_scaling_leaves_scores_alone_whatever_the_units_of_a_feature():
    X, y, _ = data()
    other = X * np.linspace(1, 1000, X.shape[1]) + 5
    np.testing.assert_allclose(
        LinearSVM().fit(other, y).decision_function(other), LinearSVM().fit(X, y).decision_function(X), atol=1e-6
    )


def test_two_classes_have_one_score_as_scikit_learn_does():
    X, y, _ = data(classes=2)
    machine = LinearSVM().fit(X, y)
    assert machine.decision_function(X).shape == (len(X),)
    scores = class_scores(machine, X, ("c0", "c1"))
    assert (scores[:, 0] == -scores[:, 1]).all()
    assert machine.predict(X).tolist() == [("c0", "c1")[column] for column in scores.argmax(axis=1)]


def test_the_search_equals_a_loop_over_leave_one_speaker_out():
    X, y, _ = data(items=60, seed=5)
    speakers = np.array([f"s{index // 15}" for index in range(60)])
    right = {
        cost: sum(
            int((LinearSVM(c=cost).fit(X[speakers != one], y[speakers != one]).predict(X[speakers == one])
                 == y[speakers == one]).sum())
            for one in np.unique(speakers)
        )
        for cost in SEARCHED_COSTS
    }  # fmt: skip
    best = max(right.values())
    expected = min(cost for cost, count in right.items() if count == best)
    assert LinearSVM(c="search").fit(X, y, groups=speakers).c_ == expected


def test_a_search_without_speakers_is_refused():
    X, y, _ = data()
    with pytest.raises(ValueError, match="groups"):
        LinearSVM(c="search").fit(X, y)


def test_the_component_hands_its_training_speakers_to_a_search():
    X, y, speakers = data()
    assert fit_classifier(LinearSvm(c="search").make, X, y, speakers).c_ in SEARCHED_COSTS


def test_it_clones_as_scikit_learn_expects():
    machine = clone(LinearSVM(c=3.0, scale="none"))
    assert (machine.c, machine.scale) == (3.0, "none")


@pytest.mark.parametrize("cost", [1.0, "search"])
@pytest.mark.parametrize("scale", ["standard", "none"])
def test_joined_blocks_are_learned_as_their_columns_one_after_another(cost, scale):
    X, y, speakers = data(size=60)
    blocks = {"left": X[:, :10], "right": X[:, 10:15], "side": X[:, 15:]}
    joins = [("left",), ("left", "side"), ("left", "right", "side")]
    machine = LinearSVM(c=cost, scale=scale)
    fitted = fit_joined(lambda: machine, blocks, joins, y, speakers)
    assert list(fitted) == joins
    for join, together in fitted.items():
        columns = joined(blocks, join)
        alone = clone(machine).fit(columns, y, speakers)
        assert together.c_ == alone.c_
        np.testing.assert_allclose(together.decision_function(columns), alone.decision_function(columns), atol=1e-9)


def test_any_other_classifier_is_fitted_on_joined_columns():
    X, y, speakers = data()
    blocks = {"left": X[:, :10], "right": X[:, 10:]}
    (fitted,) = fit_joined(lambda: SVC(kernel="linear"), blocks, [("right", "left")] * 2, y, speakers).values()
    columns = np.column_stack([X[:, 10:], X[:, :10]])
    expected = SVC(kernel="linear").fit(columns, y).decision_function(columns)
    np.testing.assert_allclose(fitted.decision_function(columns), expected)
