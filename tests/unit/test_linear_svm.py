"""The linear SVM through one Gram matrix equals scikit-learn's own computation."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bserkit import (
    BserkitError,
    UsageError,
    class_scores,
    fit_classifier,
    fit_joined,
    joined,
    speaker_groups,
    stratified_groups,
)
from bserkit.component import Spec, build
from bserkit.plugins.builtin.classifiers import LinearSvm, PcaSvm
from bserkit.plugins.builtin.linear_svm import SEARCHED_COSTS, TOLERANCE, LinearSVM


def data(items=60, size=40, classes=3, seed=0):
    generator = np.random.default_rng(seed)
    y = np.array([f"c{index % classes}" for index in range(items)])
    X = generator.normal(size=(items, size)) * generator.uniform(0.1, 30, size=size) + generator.normal(size=size)
    X[:, :classes] += 2 * (y[:, None] == [f"c{index}" for index in range(classes)])
    return X, y, np.array([f"s{index // 10}" for index in range(items)])


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
def test_scores_equal_one_svc_per_class_on_scaled_data(cost):
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


def scaled(train, test):
    """Scale as the machine says that it does: by the training items, and by the root of the number of features."""
    scaler, size = StandardScaler().fit(train), np.sqrt(train.shape[1])
    return scaler.transform(train) / size, scaler.transform(test) / size


def uneven(seed=0, classes=4):
    """Draw items of which some classes have few."""
    X, y, speakers = data(items=120, classes=classes, seed=seed)
    rows = np.flatnonzero((y != "c0") | (np.arange(120) % 3 == 0))
    return X[rows], y[rows], speakers[rows]


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("weight", ["none", "balanced"])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_one_against_one_equals_svc(classes, weight, cost):
    X, y, _ = uneven(classes=classes)
    given, asked = scaled(X[:70], X[70:])
    expected = SVC(kernel="linear", C=cost, tol=TOLERANCE, class_weight=None if weight == "none" else weight)
    expected.fit(given, y[:70])
    machine = LinearSVM(cost, class_weight=weight, decision="ovo").fit(X[:70], y[:70])
    np.testing.assert_allclose(machine.decision_function(X[70:]), expected.decision_function(asked), atol=1e-8)
    expected.set_params(break_ties=classes > 2)
    assert machine.predict(X[70:]).tolist() == expected.predict(asked).tolist()


@pytest.mark.parametrize("cost", [0.01, 1.0, 100.0])
def test_balanced_machines_equal_balanced_svcs(cost):
    X, y, _ = uneven()
    given, asked = scaled(X[:70], X[70:])
    balanced = OneVsRestClassifier(SVC(kernel="linear", C=cost, tol=TOLERANCE, class_weight="balanced"))
    expected = balanced.fit(given, y[:70]).decision_function(asked)
    machine = LinearSVM(cost, class_weight="balanced").fit(X[:70], y[:70])
    np.testing.assert_allclose(machine.decision_function(X[70:]), expected, atol=1e-8)
    assert np.abs(LinearSVM(cost).fit(X[:70], y[:70]).decision_function(X[70:]) - expected).max() > 1e-3


def test_single_precision_changes_scores_by_rounding():
    X, y, _ = data()
    double, single = LinearSVM().fit(X, y), LinearSVM().fit(X.astype(np.float32), y)
    np.testing.assert_allclose(single.decision_function(X.astype(np.float32)), double.decision_function(X), atol=2e-3)


def test_a_feature_constant_in_training_has_no_weight():
    X, y, _ = data()
    X = np.column_stack([X, np.full(len(X), 7.3)]).astype(np.float32)
    machine = LinearSVM().fit(X, y)
    before = machine.decision_function(X)
    assert np.isfinite(before).all()
    np.testing.assert_allclose(machine.coef_[:, -1], 0, atol=1e-6)


def test_what_is_rounding_in_training_decides_nothing():
    X, y, speakers = data()
    X = np.column_stack([X, np.zeros(len(X))]).astype(np.float32)
    # Zero in training, but for one value that another processor may round otherwise.
    X[3, -1], X[45:, -1] = 1e-8, 1e-3
    other = X.copy()
    other[3, -1] = 3e-8
    for c in (1.0, "search"):
        one, two = (LinearSVM(c).fit(each[:45], y[:45], speakers[:45]) for each in (X, other))
        np.testing.assert_allclose(one.decision_function(X[45:]), two.decision_function(other[45:]), atol=1e-4)
        assert one.c_ == two.c_


def test_an_item_far_outside_of_training_is_limited():
    X, y, _ = data()
    machine = LinearSVM().fit(X, y)
    far, near = X[:1].copy(), X[:1].copy()
    far[0, 5], near[0, 5] = 1e6, X[:, 5].mean() + np.sqrt(len(X)) * X[:, 5].std()
    np.testing.assert_allclose(machine.decision_function(far), machine.decision_function(near), atol=1e-8)
    unscaled = LinearSVM(scale="none").fit(X, y)
    assert np.abs(unscaled.decision_function(far) - unscaled.decision_function(near)).max() > 1


def test_scores_do_not_depend_on_feature_units():
    X, y, _ = data()
    other = X * np.linspace(1, 1000, X.shape[1]) + 5
    np.testing.assert_allclose(
        LinearSVM().fit(other, y).decision_function(other), LinearSVM().fit(X, y).decision_function(X), atol=1e-6
    )


def test_two_classes_have_one_score_as_in_scikit_learn():
    X, y, _ = data(classes=2)
    machine = LinearSVM().fit(X, y)
    assert machine.decision_function(X).shape == (len(X),)
    scores = class_scores(machine, X, ("c0", "c1"))
    assert (scores[:, 0] == -scores[:, 1]).all()
    assert machine.predict(X).tolist() == [("c0", "c1")[column] for column in scores.argmax(axis=1)]


def test_search_equals_a_leave_one_speaker_out_loop():
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


@pytest.mark.parametrize("decision", ["ovr", "ovo"])
@pytest.mark.parametrize("weight", ["none", "balanced"])
@pytest.mark.parametrize("goal", ["accuracy", "uar"])
def test_the_search_equals_scikit_learns_own(goal, weight, decision):
    X, y, speakers = uneven(seed=3)
    svc = SVC(kernel="linear", tol=TOLERANCE, class_weight=None if weight == "none" else weight, break_ties=True)
    name = "svc__C"
    if decision == "ovr":
        svc = OneVsRestClassifier(svc.set_params(break_ties=False))
        name = "onevsrestclassifier__estimator__C"
    search = make_pipeline(StandardScaler(), svc)
    reached = {}
    for cost in SEARCHED_COSTS:
        search.set_params(**{name: cost / X.shape[1]})
        decided = cross_val_predict(search, X, y, cv=PredefinedSplit(speaker_groups(speakers, 5)))
        reached[cost] = (accuracy_score if goal == "accuracy" else balanced_accuracy_score)(y, decided)
    best = min(cost for cost in SEARCHED_COSTS if np.isclose(reached[cost], max(reached.values()), atol=1e-12))
    found = LinearSVM("search", search=goal, class_weight=weight, decision=decision).fit(X, y, speakers)
    assert (found.c_, found.chosen_) == (best, {"c": best})


def test_accuracy_and_uar_are_different_goals():
    X, y, speakers = data(items=120, classes=2, size=30, seed=2)
    rows = np.flatnonzero((y != "c0") | (np.arange(120) % 6 == 0))
    X[:, :2] /= 3
    found = [LinearSVM("search", search=goal).fit(X[rows], y[rows], speakers[rows]).c_ for goal in ("accuracy", "uar")]
    # Accuracy is content with a machine that always decides for the frequent class.
    assert found == [0.001, 31.6]


def test_of_equally_good_costs_the_smallest_is_chosen():
    y = np.array(["a", "b"] * 12)
    X = np.where(y == "a", 5.0, -5.0)[:, None]
    assert LinearSVM("search").fit(X, y, np.repeat(["s1", "s2", "s3"], 8)).c_ == SEARCHED_COSTS[0]


@pytest.mark.parametrize(
    ("speakers", "told"), [([""], "60 training utterances name no speaker"), (["s"], "one training speaker")]
)
def test_without_speakers_random_groups_are_searched(speakers, told):
    X, y, _ = data(seed=5)
    machine = LinearSVM("search").fit(X, y, np.array(speakers * 60))
    assert told in machine.notes_[0]
    assert machine.c_ == LinearSVM("search").fit(X, y, stratified_groups(y, 5, seed=0).astype(str)).c_
    assert LinearSVM("search").fit(X, y, data()[2]).notes_ == ()


def test_search_groups_leaving_one_class_are_refused():
    y = np.array(["a"] * 10 + ["b"] * 10)
    with pytest.raises(BserkitError, match=r"LinearSVM could not learn.*can compare nothing.*c=1"):
        fit_classifier(LinearSvm(c="search").make, np.arange(20.0)[:, None], y, np.repeat(["s1", "s2"], 10))


def test_costs_that_take_too_many_steps_are_left_out(monkeypatch):
    X, y, speakers = data()
    assert LinearSVM("search").fit(X, y, speakers).notes_ == ()
    monkeypatch.setattr("bserkit.plugins.builtin.linear_svm.SEARCH_STEPS", 200)
    assert "were not compared" in LinearSVM("search").fit(X, y, speakers).notes_[0]
    monkeypatch.setattr("bserkit.plugins.builtin.linear_svm.SEARCH_STEPS", 20)
    with pytest.raises(ValueError, match="scale=standard"):
        LinearSVM("search").fit(X, y, speakers)


@pytest.mark.parametrize("component", [LinearSvm, PcaSvm])
@pytest.mark.parametrize("cost", ["0", "-1", "inf", "nan", "seek"])
def test_costs_that_mean_nothing_are_refused(component, cost):
    with pytest.raises(UsageError, match=f"c={cost}"):
        build(component, Spec(component.name, {"c": cost}))


@pytest.mark.parametrize("component", [LinearSvm, PcaSvm])
def test_every_parameter_reaches_the_machine(component):
    made = component(c="search", search="uar", class_weight="balanced", decision="ovo").make()
    X, y, speakers = uneven(seed=3)
    fitted = made.fit(X, y, speakers)
    machine = getattr(fitted, "svm_", fitted)
    assert (machine.c, machine.search, machine.class_weight, machine.decision) == ("search", "uar", "balanced", "ovo")
    assert fitted.chosen_ == {"c": machine.c_}


def test_a_search_without_speakers_is_refused():
    X, y, _ = data()
    with pytest.raises(ValueError, match="groups"):
        LinearSVM(c="search").fit(X, y)


def test_search_gets_the_training_speakers():
    X, y, speakers = data()
    assert fit_classifier(LinearSvm(c="search").make, X, y, speakers).c_ in SEARCHED_COSTS


def test_it_clones_as_scikit_learn_expects():
    machine = clone(LinearSVM(c=3.0, scale="none"))
    assert (machine.c, machine.scale) == (3.0, "none")


@pytest.mark.parametrize("cost", [1.0, "search"])
@pytest.mark.parametrize(("scale", "decision"), [("standard", "ovr"), ("none", "ovr"), ("standard", "ovo")])
def test_joined_blocks_equal_training_on_their_columns(cost, scale, decision):
    X, y, speakers = data(size=60)
    X = X / (30 if scale == "none" else 1)
    blocks = {"left": X[:, :10], "right": X[:, 10:15], "side": X[:, 15:]}
    joins = [("left",), ("left", "side"), ("left", "right", "side")]
    machine = LinearSVM(c=cost, scale=scale, decision=decision)
    fitted = fit_joined(lambda: machine, blocks, joins, y, speakers)
    assert list(fitted) == joins
    for join, together in fitted.items():
        columns = joined(blocks, join)
        alone = clone(machine).fit(columns, y, speakers)
        assert together.c_ == alone.c_
        np.testing.assert_allclose(together.decision_function(columns), alone.decision_function(columns), atol=1e-9)


def test_other_classifiers_are_fit_on_joined_columns():
    X, y, speakers = data()
    blocks = {"left": X[:, :10], "right": X[:, 10:]}
    (fitted,) = fit_joined(lambda: SVC(kernel="linear"), blocks, [("right", "left")] * 2, y, speakers).values()
    columns = np.column_stack([X[:, 10:], X[:, :10]])
    expected = SVC(kernel="linear").fit(columns, y).decision_function(columns)
    np.testing.assert_allclose(fitted.decision_function(columns), expected)
