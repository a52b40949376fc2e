"""Statistics against closed forms, published examples and other implementations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test
from sklearn.dummy import DummyClassifier
from sklearn.metrics import accuracy_score, f1_score, recall_score

from bserkit.evaluation.metrics import overall_of
from bserkit.evaluation.statistics import (
    chance,
    difference_intervals,
    holm,
    interval_warning,
    mcnemar,
    power_warning,
    sign_flip_p,
    speaker_confusions,
    speaker_intervals,
)


def decided_rightly(right):
    """Return (speaker, class, class) counts of one class and its opposite from (speaker, item) what was right."""
    counts = np.zeros((len(right), 2, 2), dtype=int)
    counts[:, 0, 0], counts[:, 0, 1] = right.sum(axis=1), (~right).sum(axis=1)
    return counts


def width(interval):
    return interval.high - interval.low


def discordant(b, c):
    """Return what two classifiers got right where only the first is right b times and only the second c times."""
    one = np.array([True] * b + [False] * c + [True, True, False])
    other = np.array([False] * b + [True] * c + [True, True, False])
    return one, other


def test_speaker_measures_equal_scikit_learn():
    generator = np.random.default_rng(0)
    labels, decided = generator.choice(list("xyz"), (2, 60))
    speakers = generator.choice(["ann", "bob", "cat"], 60)
    names, counts = speaker_confusions(speakers, labels, decided, "xyz")
    assert names == ["ann", "bob", "cat"]
    measured = overall_of(counts)
    for row, name in enumerate(names):
        own = labels[speakers == name], decided[speakers == name]
        assert measured["accuracy"][row] == pytest.approx(accuracy_score(*own))
        assert measured["uar"][row] == pytest.approx(recall_score(*own, average="macro"))
        assert measured["macro_f1"][row] == pytest.approx(f1_score(*own, average="macro"))


def test_with_one_utterance_each_bounds_are_binomial():
    right = np.arange(50)[:, None] < 35
    interval = speaker_intervals(decided_rightly(right), resamples=20_000)["accuracy"]
    assert interval.value == 0.7
    expected = binom.ppf([0.025, 0.975], 50, 0.7) / 50
    assert [interval.low, interval.high] == pytest.approx(expected, abs=1 / 50)


def test_three_speakers_bounds_are_worst_and_best():
    # All three draws fall on one speaker in one of 27 draws, 3.7%: more than the 2.5% that a bound leaves out.
    right = np.array([[True] * 9 + [False], [True] * 5 + [False] * 5, [True] * 2 + [False] * 8])
    interval = speaker_intervals(decided_rightly(right), resamples=20_000)["accuracy"]
    assert (interval.value, interval.low, interval.high) == pytest.approx((16 / 30, 0.2, 0.9))


def test_all_items_of_a_drawn_speaker_come_along():
    right = np.repeat(np.arange(10) < 6, 25).reshape(10, 25)
    clustered = speaker_intervals(decided_rightly(right))["accuracy"]
    naive = speaker_intervals(decided_rightly(right.reshape(-1, 1)))["accuracy"]
    assert clustered.value == naive.value == 0.6
    assert width(clustered) == pytest.approx(math.sqrt(25) * width(naive), rel=0.15)


def test_a_speaker_with_more_items_weighs_more():
    counts = np.array([[[30, 0], [0, 0]], [[0, 1], [0, 0]]])
    interval = speaker_intervals(counts)["accuracy"]
    assert (interval.value, interval.low, interval.high) == pytest.approx((30 / 31, 0, 1))


def test_equal_speakers_give_an_interval_of_no_width():
    interval = speaker_intervals(np.tile([[3, 1], [2, 2]], (12, 1, 1)))["uar"]
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.625, 0.625, 0.625))


def covered(draw, resamples=400, times=200):
    """Return how often the interval over speakers and the one over items hold the true accuracy, 0.7."""
    generator = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(times):
        right = draw(generator)
        for kind, counts in enumerate((right, right.reshape(-1, 1))):
            interval = speaker_intervals(decided_rightly(counts), resamples)["accuracy"]
            held[kind] += interval.low <= 0.7 <= interval.high
    return held / times


def test_intervals_cover_the_truth_if_independent():
    over_speakers, over_items = covered(lambda generator: generator.random((30, 4)) < 0.7)
    assert 0.90 <= over_speakers <= 0.98
    assert 0.90 <= over_items <= 0.98


def test_utterance_intervals_are_too_narrow_by_speaker():
    over_speakers, over_items = covered(
        lambda generator: generator.random((30, 20)) < generator.beta(3.5, 1.5, (30, 1))
    )
    assert 0.88 <= over_speakers <= 0.98
    assert over_items < 0.75


def test_a_class_no_drawn_speaker_has_is_left_out():
    interval = speaker_intervals(np.array([[[5, 0], [0, 0]], [[0, 0], [5, 0]]]))["uar"]
    assert (interval.value, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_one_speaker_has_no_interval():
    interval = speaker_intervals(np.array([[[3, 1], [2, 2]]]))["uar"]
    assert interval.value == 0.625
    assert np.isnan([interval.low, interval.high]).all()
    assert str(interval) == "0.625"


def test_one_speaker_spelt_two_ways_is_drawn_as_one():
    names, counts = speaker_confusions(*(np.array(one) for one in (["s1", "S1", "b"], list("xyx"), list("xxx"))), "xy")
    assert names == ["S1", "b"]
    assert counts.sum(axis=(1, 2)).tolist() == [2, 1]


def test_the_seed_alone_decides_the_draws():
    counts = np.random.default_rng(0).integers(1, 9, (12, 3, 3))
    assert speaker_intervals(counts, seed=1) == speaker_intervals(counts, seed=1)
    assert speaker_intervals(counts, seed=1) != speaker_intervals(counts, seed=2)


def test_a_difference_is_of_the_same_drawn_speakers():
    worse = np.repeat(np.arange(4, 14), 20).reshape(10, 20) > np.arange(20)
    better = np.repeat(np.arange(5, 15), 20).reshape(10, 20) > np.arange(20)
    one, other = decided_rightly(better), decided_rightly(worse)
    assert speaker_intervals(one)["accuracy"].low < speaker_intervals(other)["accuracy"].high
    difference = difference_intervals(one, other)["accuracy"]
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.05, 0.05, 0.05))
    assert difference_intervals(other, one)["accuracy"].value == pytest.approx(-0.05)


def test_mcnemar_equals_a_published_exact_test():
    # Agresti 1990, p. 350: of 1600 voters 150 ceased to approve and 86 began to; R's exact2x2 prints p = 3.716e-05.
    result = mcnemar(*discordant(150, 86))
    assert (result.b, result.c) == (150, 86)
    assert result.p == pytest.approx(3.716e-05, abs=5e-09)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_p_is_twice_the_smaller_binomial_tail(b, c):
    tail = sum(math.comb(b + c, heads) for heads in range(min(b, c) + 1))
    assert mcnemar(*discordant(b, c)).p == pytest.approx(min(1, 2 * tail / 2 ** (b + c)))


@pytest.mark.parametrize("speakers", range(1, 13))
def test_differences_of_one_sign_have_the_smallest_p(speakers):
    differences = np.linspace(0.1, 0.5, speakers)
    assert sign_flip_p(differences) == sign_flip_p(-differences) == 2 / 2**speakers


def test_all_sign_patterns_are_tried_as_scipy_does():
    for seed in range(5):
        differences = np.random.default_rng(seed).normal(0.3, 1, 9)
        expected = permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
        )
        assert sign_flip_p(differences) == pytest.approx(expected.pvalue)


def test_random_signs_agree_with_fisher_on_maize():
    # Fisher 1935, section 21: 863 of 2**15 patterns are as extreme on either side.
    maize = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])
    assert sign_flip_p(maize, resamples=100_000) == pytest.approx(2 * 863 / 2**15, abs=0.003)
    assert sign_flip_p(maize, seed=1) == sign_flip_p(maize, seed=1) != sign_flip_p(maize, seed=2)


def test_no_random_p_is_zero():
    assert sign_flip_p(np.ones(40), resamples=500) == 1 / 501


@pytest.mark.parametrize("differences", [[0.0, 0.0, 0.0], [0.1, 0.2, -0.3], [0.0] * 20])
def test_no_difference_has_a_p_of_one(differences):
    assert sign_flip_p(np.array(differences)) == 1


def test_holm_equals_a_published_example_in_order():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_order_and_stays_below_bonferroni(p_values):
    corrected = holm(p_values)
    for index, (p, own) in enumerate(zip(p_values, corrected, strict=True)):
        assert p <= own <= min(1, len(p_values) * p)
        assert all(own <= corrected[other] for other in range(len(p_values)) if p_values[index] < p_values[other])


def test_chance_is_that_of_scikit_learns_dummies():
    labels = np.array(list("aabbbbc"))
    dummy = DummyClassifier(strategy="most_frequent").fit(labels[:, None], labels)
    found = chance(labels, ["a", "b", "c"])
    assert found.majority == "b"
    assert found.accuracy == pytest.approx(dummy.score(labels[:, None], labels))
    assert found.uar == pytest.approx(recall_score(labels, dummy.predict(labels[:, None]), average="macro"))


@pytest.mark.parametrize(
    ("count", "said"),
    [(1, "nothing can be said about others"), (2, "only 2 speakers"), (9, "only 9 speakers"), (10, "")],
)
def test_fewer_than_ten_speakers_give_a_warning(count, said):
    warning = interval_warning([f"speaker {index}" for index in range(count)])
    assert said in warning
    assert bool(said) == bool(warning)


def test_nameless_utterances_count_as_one_speaker():
    assert interval_warning(["", *map(str, range(12))]) == "Utterances without a speaker's name count as one speaker."


@pytest.mark.parametrize(
    ("speakers", "comparisons", "said"),
    [(4, 1, "2/2^4 = 0.125"), (5, 1, "2/2^5 = 0.0625"), (6, 1, ""), (6, 3, "0.0938 corrected for 3"), (10, 6, "")],
)
def test_too_few_speakers_for_significance_are_noted(speakers, comparisons, said):
    warning = power_warning(speakers, comparisons)
    assert said in warning
    assert bool(said) == bool(warning)
