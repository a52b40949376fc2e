"""An evaluation of folds: the same numbers whatever the order, the oracle beside them and not in them."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from bserkit import BserkitError, Classifier, Views
from bserkit.cli.console import show_results
from bserkit.corpora.protocols import Fold
from bserkit.corpora.speakers import speaker_groups
from bserkit.evaluation.cross_validation import evaluate
from bserkit.evaluation.numbers import fold_metrics, overall_metrics
from bserkit.evaluation.results import part_results
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.fusers import Feature, Mean, TwoStage
from bserkit.progress import Silent
from bserkit.schema import FUSION

TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}
FUSERS = [TwoStage(), Feature(), Mean()]


def corpus(seed=0, size=8):
    generator = np.random.default_rng(seed)
    labels = np.array([f"c{index % 3}" for index in range(60)])
    speakers = np.array([f"s{index // 12}" for index in range(60)])
    features = {}
    for channel in TRANSFORMS:
        features[channel] = generator.normal(size=(60, size)).astype(np.float32)
        features[channel][:, :3] += labels[:, None] == np.array(["c0", "c1", "c2"])
    return Views(features, TRANSFORMS, ("c0", "c1", "c2"), labels, speakers)


def folds(views):
    group_of = speaker_groups(views.speakers, 5)
    return [Fold(f"g{g}", np.flatnonzero(group_of != g), np.flatnonzero(group_of == g)) for g in range(5)]


def run(views, fuser, classifier=None):
    return evaluate(views, folds(views), fuser, classifier or LinearSvm(), Silent())


def test_the_oracle_changes_no_honest_number():
    honest, oracle = run(corpus(), TwoStage()), run(corpus(), TwoStage(tune="oracle"))
    for part, scores in honest.scores.items():
        np.testing.assert_array_equal(scores, oracle.scores[part])
    assert honest.oracle is None
    assert oracle.oracle_measures().accuracy >= oracle.measures().accuracy


def test_oracle_stages_are_measured_at_their_weights():
    views = corpus()
    result = run(views, TwoStage(tune="oracle"))
    weights = result.oracle.weights
    assert list(result.oracle.parts) == ["lr", "ms"]
    for part, channels in (("lr", ("left", "right")), ("ms", ("mid", "side"))):
        fused = sum(weights[channel] * result.scores[channel] for channel in channels)
        np.testing.assert_allclose(result.oracle.parts[part], fused)
        right = np.array(views.classes)[fused.argmax(axis=1)] == views.labels
        assert result.oracle_measures(part).accuracy == pytest.approx(right.mean())
        assert overall_metrics(result)[f"oracle_{part}/accuracy"] == pytest.approx(right.mean())
    fused = sum(weights[part] * scores for part, scores in result.oracle.parts.items())
    np.testing.assert_allclose(result.oracle.scores, fused)


@pytest.mark.parametrize("fuser", FUSERS, ids=lambda fuser: fuser.name)
def test_the_order_of_items_changes_no_decision(fuser):
    views = corpus()
    order = np.random.default_rng(1).permutation(60)
    straight, permuted = run(views, fuser), run(views.take(order), fuser)
    back = np.argsort(order)
    np.testing.assert_allclose(permuted.scores[FUSION][back], straight.scores[FUSION], atol=1e-4)
    np.testing.assert_array_equal(permuted.decisions()[back], straight.decisions())


def test_every_utterance_is_tested_once_in_its_fold():
    views = corpus()
    result = run(views, Mean())
    assert result.utterances.tolist() == list(range(60))
    assert result.fold_of.tolist() == speaker_groups(views.speakers, 5).tolist()


def test_numbers_are_the_same_twice():
    one, two = run(corpus(), TwoStage()), run(corpus(), TwoStage())
    for part, scores in one.scores.items():
        np.testing.assert_array_equal(scores, two.scores[part])


@pytest.mark.slow
@pytest.mark.parametrize("fuser", FUSERS)
def test_what_the_search_of_each_fold_chose_is_told(fuser):
    result = run(corpus(size=90), fuser, LinearSvm(c="search"))
    parts = [*TRANSFORMS, "lr", "ms", "fusion"] if fuser.name == "feature" else [*TRANSFORMS]
    for fold, outcome in enumerate(result.outcomes):
        assert list(outcome.choices) == parts
        logged = fold_metrics(result, fold)
        for part, choice in outcome.choices.items():
            assert logged[f"fold/chosen/c/{part}"] == choice["c"]
    rows = part_results(result)
    assert {(row.part, row.chosen) for row in rows if row.fold == "all"} == {(one, "") for one in result.scores}
    (chosen,) = (row.chosen for row in rows if (row.part, row.fold) == ("left", "g0"))
    assert chosen == f"c={result.outcomes[0].choices['left']['c']}"
    assert not any("chosen" in name for name in fold_metrics(run(corpus(), fuser), 0))


def test_choices_that_are_no_numbers_are_no_metrics():
    result = run(corpus(), Mean(), Searching(grid={"C": [1.0], "kernel": ["rbf"], "shrinking": [True]}))
    assert result.outcomes[0].choices["left"] == {"C": 1.0, "kernel": "rbf", "shrinking": True}
    chosen = {name: value for name, value in fold_metrics(result, 0).items() if "chosen" in name}
    assert chosen == {f"fold/chosen/C/{channel}": 1.0 for channel in TRANSFORMS}


def test_chosen_costs_are_printed_if_there_are_any():
    def shown(classifier):
        console = Console(width=300, record=True, file=io.StringIO())
        show_results(console, run(corpus(size=90), Mean(), classifier))
        return console.export_text()

    assert re.search(r"chosen by search[\s\S]* left c=\d", shown(LinearSvm(c="search")))
    assert "chosen by search" not in shown(LinearSvm())


@pytest.mark.slow
@pytest.mark.parametrize("fuser", FUSERS)
def test_without_speakers_the_cost_search_is_noted(fuser):
    views = corpus(size=90)
    nameless = replace(views, speakers=np.full(60, ""))
    result = evaluate(nameless, folds(views), fuser, LinearSvm(c="search"), Silent())
    assert any("random inner groups" in note and "all folds" in note for note in result.notes())


def test_fold_counts_without_speakers_are_noted():
    views = corpus()
    nameless = replace(views, speakers=np.full(60, ""))
    result = evaluate(nameless, folds(views), Mean(), Searching(grid={"C": [1.0]}), Silent())
    assert any("folds that may part a speaker's items, since 48 of 48" in note for note in result.notes())


def test_a_channel_of_equal_features_is_noted():
    views = corpus()
    views.features["side"][:] = 3.0
    assert run(views, Mean()).notes() == [
        "nothing can be learned from side: the features of all training items are equal (all folds)"
    ]


class Searching(Classifier):
    """A classifier whose search scikit-learn does."""

    name = "searching"
    grid: dict

    def make(self):
        return GridSearchCV(SVC(), self.grid, cv=3)


class Broken(Mean):
    """A fuser that fails by itself."""

    name = "broken"

    def fit(self, views, make_classifier):
        raise KeyError("left")


def test_a_failure_names_the_component_and_the_fold():
    views = corpus()
    views.features["left"][50, 0] = np.nan
    with pytest.raises(BserkitError, match=r"fold g0: classifier linear-svm: LinearSVM could not learn from 48 items"):
        run(views, Mean())
    with pytest.raises(BserkitError, match=r"fold g0: fusion broken: KeyError: 'left'"):
        run(corpus(), Broken())
