"""Statistics of a classification in which speakers, not utterances, were drawn.

The utterances of a speaker resemble one another, so a thousand utterances of six speakers are nearer to six
observations than to a thousand. Intervals here draw speakers, tests flip the signs of speakers, and where there are too
few of them that is said in words. The one test over utterances, McNemar's, is kept because it is what papers report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bserkit.corpora.speakers import one_spelling
from bserkit.evaluation.metrics import confuse, overall_of

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How often speakers are drawn for an interval, and signs where not all can be tried.
RESAMPLES = 2000
#: The seed of those draws. It is no run's seed, so that equal predictions have equal intervals whatever made them.
SEED = 0
#: The share of intervals that are meant to hold the true value.
LEVEL = 0.95
#: Below so many speakers, percentile intervals are known to be too narrow (Cameron, Gelbach and Miller 2008).
FEW_SPEAKERS = 10
#: Up to so many sign patterns are all tried: 12 speakers.
_EXHAUSTIVE = 4096


@dataclass(frozen=True)
class Interval:
    """A number and the bounds of its 95% interval, which are not numbers where there is one speaker only.

    >>> str(Interval(0.5, 0.25, 0.75)), str(Interval(0.5, float("nan"), float("nan")))
    ('0.500 [0.250, 0.750]', '0.500')
    >>> format(Interval(0.1, -0.05, 0.25), "+.2f")
    '+0.10 [-0.05, +0.25]'
    """

    value: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        form = form or ".3f"
        bounds = "" if np.isnan(self.low) else f" [{self.low:{form}}, {self.high:{form}}]"
        return f"{self.value:{form}}{bounds}"

    def __str__(self) -> str:
        return format(self)


@dataclass(frozen=True)
class McNemar:
    """Utterances that only one of two got right.

    Attributes:
        b: how many only the first got right.
        c: how many only the second got right.
        p: two-sided, exact.
    """

    b: int
    c: int
    p: float


@dataclass(frozen=True)
class Chance:
    """What is reached without listening.

    Attributes:
        uar: UAR of guessing, each class as often as any other; also of always deciding for one class.
        accuracy: accuracy of always deciding for the most frequent class.
        majority: the most frequent class.
    """

    uar: float
    accuracy: float
    majority: str


def speaker_confusions(
    speakers: np.ndarray, labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]
) -> tuple[list[str], np.ndarray]:
    """Return the speakers by name and ``(speaker, class, class)`` counts of ``(utterance,)`` labels and decisions.

    Names that ``same_name`` takes for one are one speaker.

    >>> names, counts = speaker_confusions(*(np.array(list(word)) for word in ("aab", "xyx", "xxx")), "xy")
    >>> names, counts.tolist()
    (['a', 'b'], [[[1, 0], [1, 0]], [[1, 0], [0, 0]]])
    """
    speakers = one_spelling(speakers)
    names = sorted(set(speakers.tolist()))
    counts = [confuse(labels[speakers == name], predicted[speakers == name], classes) for name in names]
    return names, np.stack(counts)


def speaker_intervals(confusions: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> dict[str, Interval]:
    """Return accuracy, UAR and macro F1 of ``(speaker, class, class)`` counts with their 95% bootstrap intervals.

    As many speakers as there are get drawn with replacement, and all utterances of a speaker come along as often as it
    was
    drawn: the cluster bootstrap (Davison and Hinkley 1997, section 3.8; Field and Welsh 2007). The bounds are the 2.5th
    and 97.5th percentile over the draws. A class that no drawn speaker has is left out of that draw's averages.
    """
    values = overall_of(confusions.sum(axis=0))
    drawn = overall_of(_draws(confusions, resamples, seed))
    return {name: _interval(values[name], drawn[name], len(confusions)) for name in values}


def difference_intervals(
    confusions: np.ndarray, others: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """Return by how much accuracy, UAR and macro F1 of the first exceed the second, with 95% bootstrap intervals.

    Both are ``(speaker, class, class)`` counts of the same utterances, and the same speakers are drawn for both: two
    intervals may overlap although their difference is sure.
    """
    values, other_values = overall_of(confusions.sum(axis=0)), overall_of(others.sum(axis=0))
    drawn, other_drawn = (overall_of(_draws(counts, resamples, seed)) for counts in (confusions, others))
    return {
        name: _interval(values[name] - other_values[name], drawn[name] - other_drawn[name], len(confusions))
        for name in values
    }


def _draws(confusions: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return ``(resample, class, class)`` counts: how often each speaker was drawn, times its counts."""
    speakers = len(confusions)
    times = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1 / speakers), size=resamples)
    return np.tensordot(times, confusions, axes=1)


def _interval(value: np.ndarray, drawn: np.ndarray, speakers: int) -> Interval:
    if speakers < 2:
        # One speaker drawn again and again never differs: that is no certainty.
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(value), float(low), float(high))


def mcnemar(right: np.ndarray, other_right: np.ndarray) -> McNemar:
    """Compare two classifiers by the utterances that only one of them got right, given ``(utterance,)`` whether each
    was.

    Where both are equally good, such an utterance is as likely the one's as the other's, so their number is binomial
    with one half (McNemar 1947; Dietterich 1998 for classifiers). It takes utterances for independent, which those of a
    speaker are not: its p is too small where one classifier suits some speakers better.

    >>> mcnemar(np.array([True, True, True, False]), np.array([True, False, False, False]))
    McNemar(b=2, c=0, p=0.5)
    """
    from scipy.stats import binomtest

    b, c = int((right & ~other_right).sum()), int((other_right & ~right).sum())
    return McNemar(b, c, float(binomtest(b, b + c).pvalue) if b + c else 1.0)


def sign_flip_p(differences: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> float:
    """Return the two-sided p of ``(speaker,)`` differences between two classifiers having a mean of zero.

    Where both are equally good, each speaker's difference could as well have had the other sign (Fisher 1935, section
    21). Up to 12 speakers all sign patterns are tried; beyond, ``resamples`` random ones, the observed one counted
    among them so that p is never zero (Phipson and Smyth 2010).

    >>> sign_flip_p(np.array([0.1, 0.2, 0.3]))
    0.25
    """
    speakers = len(differences)
    exhaustive = 2**speakers <= _EXHAUSTIVE
    if exhaustive:
        flipped = np.arange(2**speakers)[:, None] >> np.arange(speakers) & 1
    else:
        flipped = np.random.default_rng(seed).integers(0, 2, size=(resamples, speakers))
    # Sums that differ by rounding alone are the same sum.
    extreme = int((np.abs((1 - 2 * flipped) @ differences) >= abs(differences.sum()) - 1e-9).sum())
    return extreme / len(flipped) if exhaustive else (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for being several, in their order (Holm 1979): all are right at once with the stated error.

    >>> [round(p, 4) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def chance(labels: np.ndarray, classes: Sequence[str]) -> Chance:
    """Return what is reached on ``(utterance,)`` labels without listening."""
    counts = [int((labels == name).sum()) for name in classes]
    return Chance(1 / len(classes), max(counts) / len(labels), classes[counts.index(max(counts))])


def nobody(speakers: Sequence[str]) -> bool:
    """Say whether none of these speakers, by name, is known: then nothing can be said over speakers."""
    return list(speakers) == [""]


def over_speakers(speakers: Sequence[str]) -> str:
    """Say for a table's title whether its numbers have intervals.

    >>> over_speakers(["ann", "bob"]), over_speakers([""])
    (', with 95% intervals over speakers', '')
    """
    return "" if nobody(speakers) else ", with 95% intervals over speakers"


def interval_warning(speakers: Sequence[str]) -> str:
    """Say in words that so few speakers make no interval to rely on; nothing is said of 10 or more.

    >>> interval_warning(["ann"])
    'There is only one speaker: nothing can be said about others.'
    """
    if nobody(speakers):
        return (
            "No utterance names its speaker: there are no intervals over speakers, and intervals over utterances, "
            "which would take those of one speaker for independent, are not given."
        )
    unknown = "Utterances without a speaker's name count as one speaker. " if "" in speakers else ""
    if len(speakers) == 1:
        return f"{unknown}There is only one speaker: nothing can be said about others."
    if len(speakers) < FEW_SPEAKERS:
        return (
            f"{unknown}There are only {len(speakers)} speakers: an interval from fewer than {FEW_SPEAKERS} is rough "
            "and usually too narrow. Do not take it for more than a hint."
        )
    return unknown.rstrip()


def power_warning(speakers: int, comparisons: int = 1) -> str:
    """Say in words that no difference, however large, can reach 0.05 with so few speakers; otherwise say nothing.

    Of 2**speakers sign patterns the observed one and its opposite are always as extreme as the observed one.
    """
    smallest = 2 / 2**speakers
    corrected = min(1.0, comparisons * smallest)
    if corrected <= 0.05:
        return ""
    noun = "speaker" if speakers == 1 else "speakers"
    times = f" ({corrected:.3g} corrected for {comparisons} comparisons)" if comparisons > 1 else ""
    return (
        f"With {speakers} {noun} the smallest p that a permutation test can give is 2/2^{speakers} = {smallest:.3g}"
        f"{times}: it cannot fall below 0.05, whatever the runs do. Its silence is no sign that runs are equal."
    )
