"""Accuracy, UAR and macro F1 by hand."""

import numpy as np
import pytest

from bserkit.metrics import measure


def test_measures_of_a_small_confusion_by_hand():
    result = measure(np.array(list("aaaabbcc")), np.array(list("aaabbbac")), ["a", "b", "c"])
    assert result.accuracy == 6 / 8
    assert result.uar == pytest.approx((3 / 4 + 2 / 2 + 1 / 2) / 3)
    assert result.macro_f1 == pytest.approx((2 * 3 / (4 + 4) + 2 * 2 / (2 + 3) + 2 * 1 / (2 + 1)) / 3)
    assert result.confusion.tolist() == [[3, 1, 0], [0, 2, 0], [1, 0, 1]]


def test_a_class_that_does_not_occur_has_no_recall_and_no_share_in_the_average():
    result = measure(np.array(["a", "b"]), np.array(["a", "b"]), ["a", "b", "c"])
    assert result.uar == 1.0
    assert result.macro_f1 == 1.0
    assert np.isnan(result.recall["c"])


def test_deciding_for_a_class_that_does_not_occur_costs_f1_but_is_no_recall():
    result = measure(np.array(["a", "a"]), np.array(["a", "c"]), ["a", "b", "c"])
    assert result.uar == 0.5
    assert result.macro_f1 == pytest.approx((2 * 1 / (2 + 1) + 0) / 2)
