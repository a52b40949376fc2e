"""Scores from any scikit-learn classifier, in the corpus's order of classes."""

from functools import partial

import numpy as np
import pytest
from sklearn import get_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier, StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    KFold,
    LeaveOneGroupOut,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from bserkit import BserkitError, chosen, class_scores, fit_classifier
from bserkit.plugins.builtin.linear_svm import LinearSVM

X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
SPEAKERS = np.array(["s"] * 6)


def test_score_columns_follow_the_corpus_class_order():
    labels = np.array(["c", "c", "a", "a", "b", "b"])
    estimator = fit_classifier(lambda: KNeighborsClassifier(1), X, labels, SPEAKERS)
    scores = class_scores(estimator, X, ("b", "c", "a"))
    assert [("b", "c", "a")[column] for column in scores.argmax(axis=1)] == labels.tolist()


def test_a_class_absent_in_training_is_not_predicted():
    estimator = fit_classifier(lambda: KNeighborsClassifier(1), X, np.array(list("aaaccc")), SPEAKERS)
    scores = class_scores(estimator, X, ("a", "b", "c"))
    assert np.isfinite(scores).all()
    assert (scores[:, 1] < scores[:, [0, 2]].min(axis=1)).all()


def test_one_class_alone_cannot_be_learned():
    with pytest.raises(BserkitError, match="two classes"):
        fit_classifier(KNeighborsClassifier, X, np.array(["a"] * 6), SPEAKERS)


def test_scores_of_pairs_of_classes_are_refused():
    labels = np.array(list("aabbccdd"))
    estimator = SVC(decision_function_shape="ovo").fit(np.arange(8.0).reshape(-1, 1), labels)
    with pytest.raises(BserkitError, match="ovr"):
        class_scores(estimator, X, ("a", "b", "c", "d"))


def drawn(items=60, size=8):
    """Draw items of three classes and six speakers."""
    generator = np.random.default_rng(0)
    y = np.array([f"c{index % 3}" for index in range(items)])
    features = generator.normal(size=(items, size)) + (y[:, None] == [f"c{index % 3}" for index in range(size)])
    return features, y, np.array([f"s{index // 10}" for index in range(items)])


class Recorded(ClassifierMixin, BaseEstimator):
    """A classifier that remembers, for all its copies, which items it learned from."""

    learned: list = []  # noqa: RUF012

    def __init__(self, share=1.0):
        self.share = share

    def fit(self, X, y):
        Recorded.learned.append(X[:, 0].astype(int))
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        second = 0.5 + self.share * (0.4 - 0.8 * X[:, 1])
        return np.column_stack([1 - second, second])

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class Around(Recorded):
    """A classifier around another one, which passes nothing on."""

    def __init__(self, inner=None):
        self.inner = inner

    def fit(self, X, y):
        self.inner.fit(X, y)


GRID = {"share": [0.5, 1.0]}


def learned_from(make, speakers):
    """Fit on items whose first feature is their number, and return what each inner fit learned from."""
    Recorded.learned = []
    labels = np.array(["a", "b"] * (len(speakers) // 2))
    features = np.column_stack([np.arange(len(speakers)), labels == "a"]).astype(float)
    fit_classifier(make, features, labels, np.asarray(speakers))
    inner = [items for items in Recorded.learned if len(set(items)) < len(speakers)]
    assert inner
    return inner


def mixed(inner, speakers):
    """Say of each inner fit whether it left out some items of a speaker that it learned from."""
    everyone = np.asarray(speakers)
    return [bool(set(everyone[items]) & set(np.delete(everyone, items))) for items in inner]


SIX = [f"s{index // 2 % 6}" for index in range(36)]

SEARCHES = {
    "grid": lambda cv: GridSearchCV(Recorded(), GRID, cv=cv),
    "random": lambda cv: RandomizedSearchCV(Recorded(), GRID, n_iter=2, cv=cv, random_state=0),
    "halving": lambda cv: HalvingGridSearchCV(Recorded(), GRID, cv=cv, max_resources=36, min_resources=36),
    "pipeline around": lambda cv: make_pipeline(FunctionTransformer(), GridSearchCV(Recorded(), GRID, cv=cv)),
    "pipeline inside": lambda cv: GridSearchCV(
        make_pipeline(FunctionTransformer(), Recorded()), {"recorded__share": [0.5, 1.0]}, cv=cv
    ),
    "search in a search": lambda cv: GridSearchCV(
        GridSearchCV(Recorded(), GRID, cv=cv), {"estimator__share": [1.0]}, cv=cv
    ),
    "one against the rest": lambda cv: OneVsRestClassifier(GridSearchCV(Recorded(), GRID, cv=cv)),
    "calibrated": lambda cv: CalibratedClassifierCV(Recorded(), cv=cv),
    "calibrated search": lambda cv: CalibratedClassifierCV(GridSearchCV(Recorded(), GRID, cv=cv), cv=cv),
    "stacking": lambda cv: StackingClassifier([("one", Recorded())], DummyClassifier(), cv=cv),
    "stacked searches": lambda cv: make_pipeline(
        FunctionTransformer(),
        StackingClassifier(
            [("one", GridSearchCV(Recorded(), GRID, cv=cv)), ("two", Recorded())], DummyClassifier(), cv=cv
        ),
    ),
    "threshold": lambda cv: TunedThresholdClassifierCV(Recorded(), cv=cv),
}  # fmt: skip


@pytest.mark.parametrize("cv", [3, None, GroupKFold(3), StratifiedGroupKFold(2), LeaveOneGroupOut()], ids=repr)
@pytest.mark.parametrize("name", SEARCHES)
def test_no_inner_fold_parts_a_speaker(name, cv):
    assert not any(mixed(learned_from(lambda: SEARCHES[name](cv), SIX), SIX))


def test_what_is_checked_above_is_seen_to_fail():
    inner = [np.arange(20), np.arange(36)]
    assert mixed(inner, SIX) == [True, False]


def test_a_search_in_a_bag_gets_the_bags_speakers():
    Recorded.learned = []
    labels = np.array(["a", "b"] * 18)
    numbers = np.column_stack([np.arange(36), labels == "a"]).astype(float)
    make = lambda: BaggingClassifier(GridSearchCV(Recorded(), GRID, cv=3), n_estimators=2, random_state=0)  # noqa: E731
    fit_classifier(make, numbers, labels, np.array(SIX))
    # The last of the 7 fits of each bag is on all of the bag.
    for *inner, bag in (Recorded.learned[:7], Recorded.learned[7:]):
        for items in inner:
            assert {SIX[item] for item in items}.isdisjoint(SIX[item] for item in set(bag) - set(items))


@pytest.mark.parametrize("search", [GridSearchCV, partial(HalvingGridSearchCV, random_state=0)])
def test_a_number_of_folds_means_folds_of_speakers(search):
    X, y, speakers = drawn()
    ours = fit_classifier(lambda: search(SVC(), {"C": [0.01, 1, 100]}, cv=3), X, y, speakers)
    theirs = search(SVC(), {"C": [0.01, 1, 100]}, cv=StratifiedGroupKFold(3)).fit(X, y, groups=speakers)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_array_equal(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_folds_are_at_most_as_many_as_speakers():
    inner = learned_from(lambda: GridSearchCV(Recorded(), GRID, cv=10), SIX)
    assert [len(items) for items in inner] == [30] * 12


def test_a_search_in_a_pipeline_reaches_the_linear_svm():
    X, y, speakers = drawn()
    piped = fit_classifier(lambda: make_pipeline(StandardScaler(), LinearSVM(c="search")), X, y, speakers)
    alone = fit_classifier(lambda: LinearSVM(c="search"), StandardScaler().fit_transform(X), y, speakers)
    assert piped[-1].c_ == alone.c_


@pytest.mark.parametrize(
    "cv", [KFold(3), StratifiedKFold(3), [([0, 1, 2, 3], [4, 5])]], ids=["k", "stratified", "list"]
)
def test_a_splitter_without_speakers_is_refused(cv):
    with pytest.raises(BserkitError, match=r"GridSearchCV has .* takes no groups[\s\S]*GroupKFold"):
        learned_from(lambda: make_pipeline(GridSearchCV(Recorded(), GRID, cv=cv)), SIX)


def test_stacking_out_of_the_speakers_reach_is_refused():
    stacked = StackingClassifier([("one", Recorded())], cv=3)
    with pytest.raises(BserkitError, match="StackingClassifier inside OneVsRestClassifier"):
        learned_from(lambda: OneVsRestClassifier(stacked), SIX)


def test_an_estimator_that_routes_nothing_is_told_of():
    with pytest.raises(BserkitError, match="does not pass on the speakers"):
        learned_from(lambda: Around(GridSearchCV(Recorded(), GRID, cv=3)), SIX)


@pytest.mark.parametrize("speakers", [[""] * 36, ["s"] * 36, [*SIX[:-1], ""]], ids=["none", "one", "some"])
def test_without_speakers_a_whole_number_splits_items(speakers):
    make = lambda: GridSearchCV(Recorded(), GRID, cv=3)  # noqa: E731
    assert all(mixed(learned_from(make, speakers), SIX))
    with pytest.raises(BserkitError, match=r"GroupKFold.*splits by speaker, but"):
        learned_from(lambda: GridSearchCV(Recorded(), GRID, cv=GroupKFold(3)), speakers)


def test_routing_is_left_as_it_was():
    learned_from(lambda: GridSearchCV(Recorded(), GRID, cv=3), SIX)
    assert not get_config()["enable_metadata_routing"]


def test_a_nested_search_result_is_found():
    X, y, speakers = drawn()
    grid = {"svc__C": [1.0]}
    make = lambda: make_pipeline(StandardScaler(), GridSearchCV(make_pipeline(SVC()), grid, cv=3))  # noqa: E731
    assert chosen(fit_classifier(make, X, y, speakers)) == {"svc__C": 1.0}
    assert chosen(fit_classifier(SVC, X, y, speakers)) == {}


def test_a_failed_fit_or_score_names_the_classifier():
    bad = X.copy()
    bad[2] = np.nan
    with pytest.raises(
        BserkitError, match=r"SVC could not learn from 6 items of 1 features: ValueError.*1 of the items"
    ):
        fit_classifier(SVC, bad, np.array(list("aabbcc")), SPEAKERS)
    fitted = fit_classifier(SVC, X, np.array(list("aabbcc")), SPEAKERS)
    with pytest.raises(BserkitError, match=r"SVC could not score 6 items"):
        class_scores(fitted, bad, ("a", "b", "c"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("speakers", "message"),
    [("111222", "All the 4 fits failed.*got 1 class"), ("111223", "could compare nothing")],
    ids=["every fold fails", "one fold fails"],
)
def test_a_search_that_compared_nothing_is_refused(speakers, message):
    make = lambda: GridSearchCV(SVC(), {"C": [1, 2]}, cv=LeaveOneGroupOut())  # noqa: E731
    with pytest.raises(BserkitError, match=message):
        fit_classifier(make, X, np.array(list("aaabbb")), np.array(list(speakers)))
