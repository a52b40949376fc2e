"""Scores from any scikit-learn classifier, in the corpus's order of classes."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from bserkit import BserkitError, class_scores, fit_classifier

X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
SPEAKERS = np.array(["s"] * 6)


def test_columns_follow_the_corpus_and_not_the_classifier():
    labels = np.array(["c", "c", "a", "a", "b", "b"])
    estimator = fit_classifier(lambda: KNeighborsClassifier(1), X, labels, SPEAKERS)
    scores = class_scores(estimator, X, ("b", "c", "a"))
    assert [("b", "c", "a")[column] for column in scores.argmax(axis=1)] == labels.tolist()


def test_a_class_that_was_missing_from_training_is_never_decided_for():
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
