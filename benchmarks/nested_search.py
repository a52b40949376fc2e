"""How much faster is a nested search through Gram matrices than through scikit-learn's own classes?

    python benchmarks/nested_search.py [--items 588 --speakers 6 --channels 4 --features 16384] [--json FILE]

One outer fold of --classifier linear-svm:c=search --fusion two-stage: the cost is searched on inner speaker groups,
channel by channel, and the fusion's weights on classifiers of inner groups whose costs are searched again. Features are
drawn at random, of the size that EMOVO's have under AlexNet and block-max.

The plain way is GridSearchCV of StandardScaler and SVC(kernel="linear") over the same costs and groups. It is timed on
the one search on all training items of one channel, and scaled: by the channels, and by the searches outside each inner
group, each by its number of items squared. That SVC decides between pairs of classes, which is quicker than one class
against the rest; that both find the same cost and decide alike is checked against the latter, on fewer features.
"""

from __future__ import annotations

import time

import numpy as np
from figures import Figure, parser, report
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from bserkit import Views, speaker_groups
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.fusers import TwoStage
from bserkit.plugins.builtin.linear_svm import SEARCH_GROUPS, SEARCHED_COSTS, TOLERANCE, LinearSVM

TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}
CLASSES = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")


def drawn(items: int, speakers: int, channels: int, features: int) -> Views:
    """Draw features that tell the classes apart a little, and speakers more."""
    generator = np.random.default_rng(0)
    number = np.arange(items) % len(CLASSES)
    speaker = np.arange(items) * speakers // items
    of_class, of_speaker = generator.normal(size=(2, max(len(CLASSES), speakers), features)).astype(np.float32)
    values = {
        channel: np.maximum(
            generator.normal(size=(items, features)).astype(np.float32)
            + 0.06 * of_class[number] + 0.3 * of_speaker[speaker],
            0,
        )
        for channel in list(TRANSFORMS)[:channels]
    }  # fmt: skip
    labels = np.asarray(CLASSES)[number]
    return Views(values, TRANSFORMS, CLASSES, labels, np.array([f"s{one}" for one in speaker]))


def plain(features: np.ndarray, labels: np.ndarray, groups: np.ndarray, machine: object, name: str) -> GridSearchCV:
    """Search the cost as scikit-learn's users do; costs per feature are what the package divides features for."""
    grid = {name: [cost / features.shape[1] for cost in SEARCHED_COSTS]}
    folds = PredefinedSplit(speaker_groups(groups, SEARCH_GROUPS))
    search = GridSearchCV(make_pipeline(StandardScaler(), machine), grid, cv=folds, scoring=_count_right)
    # libsvm multiplies vector by vector; threads for each of those cost it more than they give.
    with threadpool_limits(1):
        return search.fit(features, labels)


def _count_right(estimator: object, X: np.ndarray, y: np.ndarray) -> int:
    # Items right, not the mean over folds of shares, so that folds of unequal size count as in the package.
    return int((estimator.predict(X) == y).sum())


def check(views: Views) -> str:
    """Compare costs and decisions with scikit-learn's own, in every outer fold."""
    (features,) = views.features.values()
    chosen, decisions = [], 0
    for speaker in np.unique(views.speakers):
        train, test = views.speakers != speaker, views.speakers == speaker
        given = features[train], views.labels[train], views.speakers[train]
        ours = LinearSVM(c="search").fit(*given)
        theirs = plain(
            *given, OneVsRestClassifier(SVC(kernel="linear", tol=TOLERANCE)), "onevsrestclassifier__estimator__C"
        )
        cost = theirs.best_params_["onevsrestclassifier__estimator__C"] * features.shape[1]
        assert np.isclose(cost, ours.c_), f"without {speaker}: scikit-learn chose C={cost:g}, bserkit {ours.c_:g}"
        assert (theirs.predict(features[test]) == ours.predict(features[test])).all(), f"{speaker} is decided otherwise"
        chosen.append(f"{ours.c_:g}")
        decisions += int(test.sum())
    return (
        f"both chose C = {', '.join(chosen)} in the folds of a smaller draw, and all {decisions} decisions are the same"
    )


def main() -> None:
    """Measure both on the same features."""
    options = parser(__doc__)
    for name, default in (("items", 588), ("speakers", 6), ("channels", 4), ("features", 16384)):
        options.add_argument(f"--{name}", type=int, default=default)
    given = options.parse_args()
    alike = check(drawn(210, 5, 1, 512))
    views = drawn(given.items, given.speakers, given.channels, given.features)
    train = views.take(np.flatnonzero(views.speakers != views.speakers[0]))

    began = time.perf_counter()
    TwoStage().fit(train, LinearSvm(c="search").make)
    ours = time.perf_counter() - began
    began = time.perf_counter()
    features = next(iter(train.features.values()))
    plain(features, train.labels, train.speakers, SVC(kernel="linear", tol=TOLERANCE), "svc__C")
    one = time.perf_counter() - began

    group_of = speaker_groups(train.speakers, TwoStage().inner_groups)
    searches = 1 + sum(np.mean(group_of != group) ** 2 for group in np.unique(group_of))
    whole = one * len(train.features) * searches
    figures = {
        "nested search, times plain scikit-learn": Figure(whole / ours, "times", "higher", 20.0),
        "nested search, one outer fold": Figure(ours, "s", "lower"),
        "nested search, one outer fold, plain (scaled)": Figure(whole, "s", "lower"),
    }
    scaled = f"plain scikit-learn was timed on one search of {len(train)} items, {one:.1f} s, and scaled by "
    scaled += f"{len(train.features)} channels x {searches:.2f}"
    report("nested_search", figures, given.json, [scaled, alike])


if __name__ == "__main__":
    main()
