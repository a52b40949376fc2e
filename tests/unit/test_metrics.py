"""Accuracy, UAR and macro F1 by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score

from bserkit.evaluation.metrics import measure


def test_measures_of_a_small_confusion_by_hand():
    result = measure(np.array(list("aaaabbcc")), np.array(list("aaabbbac")), ["a", "b", "c"])
    assert result.accuracy == 6 / 8
    assert result.uar == pytest.approx((3 / 4 + 2 / 2 + 1 / 2) / 3)
    assert result.macro_f1 == pytest.approx((2 * 3 / (4 + 4) + 2 * 2 / (2 + 3) + 2 * 1 / (2 + 1)) / 3)
    assert result.confusion.tolist() == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_absent_classes_have_no_recall_and_no_weight():
    result = measure(np.array(["a", "b"]), np.array(["a", "b"]), ["a", "b", "c"])
    assert result.uar == 1.0
    assert result.macro_f1 == 1.0
    assert np.isnan(result.recall["c"])


def test_predicting_absent_classes_costs_f1_not_recall():
    result = measure(np.array(["a", "a"]), np.array(["a", "c"]), ["a", "b", "c"])
    assert result.uar == 0.5
    assert result.macro_f1 == pytest.approx((2 * 1 / (2 + 1) + 0) / 2)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=30))
def test_measures_equal_those_of_scikit_learn(pairs):
    labels, decided = (np.array(side) for side in zip(*pairs, strict=True))
    result = measure(labels, decided, list("abc"))
    shared = {"labels": list("abc"), "average": None, "zero_division": np.nan}
    assert result.accuracy == pytest.approx(accuracy_score(labels, decided))
    assert result.uar == pytest.approx(np.nanmean(recall_score(labels, decided, **shared)))
    assert result.macro_f1 == pytest.approx(np.nanmean(f1_score(labels, decided, **shared)))
    np.testing.assert_array_equal(result.confusion, confusion_matrix(labels, decided, labels=list("abc")))
