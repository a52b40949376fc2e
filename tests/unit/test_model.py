"""A fitted model: what cross-validation evaluated is what a folder holds, bit for bit; nothing else is loaded."""

import gc
import json
import pickle
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.base
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bserkit import BserkitError, Classifier, FittedFuser, UsageError, Views, speaker_groups
from bserkit.component import build
from bserkit.corpora.protocols import Fold
from bserkit.evaluation.cross_validation import evaluate
from bserkit.learning import model_files, state
from bserkit.learning.model import fit_model
from bserkit.learning.model_files import load_model, save_model
from bserkit.plugins.builtin.classifiers import LinearSvm, PartialLeastSquares, PcaSvm
from bserkit.plugins.builtin.fusers import Feature, Mean, TwoStage
from bserkit.plugins.registry import load_plugins
from bserkit.progress import Silent
from bserkit.schema import FUSION

TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}
FUSERS = [TwoStage(), Mean(), Feature()]
CLASSIFIERS = [
    LinearSvm(),
    LinearSvm(c="search", search="uar", class_weight="balanced"),
    LinearSvm(scale="none", decision="ovo"),
    PartialLeastSquares(components=3),
    PcaSvm(),
    PcaSvm(c="search", components=0.8),
    PcaSvm(components=5, decision="ovo"),
]
#: Those that search a cost fit hundreds of machines.
TRIED = [pytest.param(one, marks=[pytest.mark.slow] * (getattr(one, "c", 1) == "search")) for one in CLASSIFIERS]
BUILT_IN = load_plugins(outside=False)


def corpus(items=60, classes=3, size=90, dtype=np.float32):
    generator = np.random.default_rng(3)
    names = np.array([f"c{index}" for index in range(classes)])
    labels = names[np.arange(items) % classes]
    features = {}
    for channel in TRANSFORMS:
        features[channel] = generator.normal(size=(items, size)).astype(dtype)
        features[channel][:, :classes] += labels[:, None] == names
        # Zero in training but for rounding, and far beyond its limit in the last items.
        features[channel][:, -1] = 0
        features[channel][-5:, -1] = 40.0
    return Views(features, TRANSFORMS, tuple(names), labels, np.array([f"s{index // 12}" for index in range(items)]))


def training(views):
    return views.take(np.arange(48))


def held_out(views):
    return views.take(np.arange(48, 60))


def scored(model, views):
    return {**model.parts(views), FUSION: model.scores(views)}


def assert_equal_bits(one, other):
    assert list(one) == list(other)
    for part, scores in one.items():
        assert scores.tobytes() == other[part].tobytes(), part


def make(*own):
    """Return what makes components, those of this file too."""
    known = {(one.kind, one.name): one for one in own}

    def found(contract, spec):
        cls = known.get((contract.kind, spec.name))
        return build(cls, spec) if cls else BUILT_IN.make(contract, spec)

    return found


def round_trip(model, folder, *own):
    save_model(model, folder)
    return load_model(folder, make(*own))


@pytest.fixture
def saved(tmp_path):
    save_model(fit_model(training(corpus()), Mean(), LinearSvm()), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("classifier", TRIED, ids=lambda one: one.spec)
@pytest.mark.parametrize("fuser", FUSERS, ids=lambda one: one.name)
def test_a_loaded_model_scores_bit_for_bit(tmp_path, fuser, classifier):
    views = corpus()
    model = fit_model(training(views), fuser, classifier)
    direct = fuser.fit(training(views), classifier.make)
    test = held_out(views).without_labels()
    before = {**direct.parts(test), FUSION: direct.scores(test)}
    assert_equal_bits(scored(model, test), before)
    loaded = round_trip(model, tmp_path / "model")
    assert_equal_bits(scored(loaded, test), before)
    assert loaded.predict(test).tolist() == model.predict(held_out(views)).tolist()
    for name in ("fuser", "classifier", "classes", "transforms", "sizes", "weights", "choices"):
        assert getattr(loaded, name) == getattr(model, name), name
    assert list(loaded.notes) == list(model.notes)
    save_model(loaded, tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.mark.parametrize("changed", [{"classes": 2}, {"dtype": np.float64}, {"size": 30}], ids=str)
@pytest.mark.parametrize("classifier", TRIED, ids=lambda one: one.spec)
def test_other_views_come_back_bit_for_bit_too(tmp_path, classifier, changed):
    views = corpus(**changed)
    model = fit_model(training(views), Mean(), classifier)
    loaded = round_trip(model, tmp_path / "model")
    assert_equal_bits(scored(loaded, held_out(views)), scored(model, held_out(views)))


def test_cross_validation_returns_the_models_it_scored(tmp_path):
    views = corpus()
    group_of = speaker_groups(views.speakers, 5)
    folds = [Fold(f"g{g}", np.flatnonzero(group_of != g), np.flatnonzero(group_of == g)) for g in range(5)]
    models = {}
    result = evaluate(views, folds, TwoStage(), LinearSvm(), Silent(), models.__setitem__)
    assert list(models) == [*range(5)]
    for index, outcome in enumerate(result.outcomes):
        model = round_trip(models[index], tmp_path / outcome.fold.name)
        rows = {part: scores[outcome.fold.test] for part, scores in result.scores.items()}
        assert_equal_bits(scored(model, views.take(outcome.fold.test)), rows)
        assert (model.weights, model.choices) == (outcome.weights, outcome.choices)
        assert model.predict(views.take(outcome.fold.test)).tolist() == result.decisions()[outcome.fold.test].tolist()


def test_cross_validation_holds_no_model_for_itself():
    views, kept = corpus(), []
    fold = Fold("one", np.arange(48), np.arange(48, 60))
    result = evaluate(views, [fold], Mean(), LinearSvm(), Silent(), lambda _, model: kept.append(weakref.ref(model)))
    gc.collect()
    assert result.outcomes
    assert [one() for one in kept] == [None]


def test_the_model_fixes_channel_and_class_order():
    views = corpus()
    model = fit_model(training(views), Feature(), LinearSvm())
    backwards = {channel: views.features[channel] for channel in reversed(TRANSFORMS)}
    other = replace(views, features=backwards, classes=("c2", "x", "c0"))
    assert_equal_bits(scored(model, other), scored(model, views))
    assert model.classes == ("c0", "c1", "c2")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"size": 8}, r"given were left of lr with 8 features, .*expected left of lr with 90 features"),
        ({"channels": ("left", "right")}, r"given were left of lr with 90 features, right of lr with 90 features; "),
        ({"transforms": {**TRANSFORMS, "mid": "mono"}}, r"mid of mono with 90 features"),
        ({"extra": True}, r"side of ms with 90 x 2 features"),
    ],
)
def test_views_that_do_not_fit_are_refused(given, told):
    model = fit_model(training(corpus()), Mean(), LinearSvm())
    views = corpus(size=given.get("size", 90))
    features = {channel: views.features[channel] for channel in given.get("channels", TRANSFORMS)}
    if "extra" in given:
        features["side"] = np.stack([features["side"]] * 2, axis=2)
    with pytest.raises(BserkitError, match=told):
        model.predict(replace(views, features=features, transforms=given.get("transforms", TRANSFORMS)))


def test_who_scores_can_write_to_nothing():
    class Greedy(Mean):
        name = "greedy"

        def fit(self, views, make_classifier):
            fitted = super().fit(views, make_classifier)
            views.transforms.clear()
            fitted.scores = lambda views: views.features["left"].__setitem__(0, 0)
            return fitted

    views = corpus()
    model = fit_model(views, Greedy(), LinearSvm())
    assert model.transforms == TRANSFORMS
    with pytest.raises(BserkitError, match=r"fusion greedy: ValueError: .*read-only"):
        model.scores(views)


def test_a_failure_to_score_names_the_component():
    views = corpus()
    model = fit_model(training(views), Mean(), LinearSvm())
    views.features["left"][50, 0] = np.nan
    with pytest.raises(BserkitError, match=r"^classifier linear-svm: LinearSVM could not score 60 items"):
        model.predict(views)


class Given(Classifier):
    """A classifier by what makes it."""

    name = "given"
    what: str

    def make(self):
        return ESTIMATORS[self.what]()


class Means(ClassifierMixin, BaseEstimator):
    """Nearest mean, by a user."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.means_ = np.stack([X[y == name].mean(axis=0) for name in self.classes_])
        return self

    def decision_function(self, X):
        return -((X[:, None] - self.means_) ** 2).sum(axis=2)


class SavedMeans(Means):
    """One that says how it is saved."""

    def state(self):
        return {"classes": self.classes_, "means": [*self.means_], "nothing": None, "far": float("inf")}

    def restore(self, state):
        assert (state["nothing"], state["far"]) == (None, np.inf)
        self.classes_, self.means_ = state["classes"], np.stack(state["means"])
        return self


ESTIMATORS = {
    "logistic": LogisticRegression,
    "forest": lambda: RandomForestClassifier(5, random_state=0),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=2),
    "neighbours": lambda: KNeighborsClassifier(3),
    "pipeline": lambda: make_pipeline(StandardScaler(), SVC()),
    "search": lambda: make_pipeline(StandardScaler(), GridSearchCV(SVC(), {"C": [1, 10]}, cv=3)),
    "own": SavedMeans,
    "foreign": Means,
    "hidden": lambda: make_pipeline(StandardScaler(), Means()),
    "unable": lambda: make_pipeline(Rounding(), LogisticRegression()),
}


class Rounding(StandardScaler):
    """It has a function that nobody else could find."""

    def fit(self, X, y=None):
        self.round_ = lambda values: np.round(values, 3)
        return super().fit(X, y)


@pytest.mark.parametrize("fuser", [Mean(), Feature()], ids=lambda one: one.name)
@pytest.mark.parametrize("what", ["logistic", "forest", "boosting", "neighbours", "pipeline", "search", "own"])
def test_others_classifiers_are_saved_without_pickle(tmp_path, monkeypatch, what, fuser):
    views = corpus()
    model = fit_model(training(views), fuser, Given(what=what))
    before = scored(model, held_out(views))
    for name in ("load", "loads", "dump", "dumps"):
        monkeypatch.setattr(pickle, name, None)
    loaded = round_trip(model, tmp_path / "model", Given)
    assert_equal_bits(scored(loaded, held_out(views)), before)
    assert loaded.choices == model.choices


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (
            "foreign",
            r"estimators\.left, a Means, .* no model may hold: .*Means\. .*needs state\(\) and restore\(\)",
        ),
        ("hidden", r"estimators\.left, a Pipeline, .* holds types that no model may hold: .*Means\."),
        ("unable", r"estimators\.left, a Pipeline, .*needs state\(\) and restore\(\)"),
    ],
)
def test_a_users_class_is_refused_with_the_way_out(tmp_path, what, told):
    model = fit_model(training(corpus()), Mean(), Given(what=what))
    with pytest.raises(BserkitError, match=r"A model of fusion mean and classifier given cannot be saved: " + told):
        save_model(model, tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_a_file_cannot_name_a_class_to_load(tmp_path, monkeypatch):
    model = fit_model(training(corpus()), Mean(), Given(what="foreign"))
    with monkeypatch.context() as patch:
        patch.setattr(state, "_TRUSTED", {f"{Means.__module__}.Means"})
        save_model(model, tmp_path / "model")
    with pytest.raises(BserkitError, match=r"cannot be restored: estimators\.left holds types that no model may hold"):
        load_model(tmp_path / "model", make(Given))


def test_another_scikit_learn_is_refused(tmp_path, monkeypatch):
    model = fit_model(training(corpus()), Mean(), Given(what="logistic"))
    with monkeypatch.context() as patch:
        patch.setattr(sklearn.base, "__version__", "1.2.3")
        save_model(model, tmp_path / "model")
    with pytest.raises(BserkitError, match=r"LogisticRegression, was fitted by scikit-learn 1\.2\.3"):
        load_model(tmp_path / "model", make(Given))


class Bare(Mean):
    """A fuser that cannot be saved."""

    name = "bare"

    def fit(self, views, make_classifier):
        fitted = super().fit(views, make_classifier)

        class Fitted(FittedFuser):
            def scores(self, views):
                return fitted.scores(views)

        return Fitted()


class Forgetful(Mean):
    """A fuser that fails to restore."""

    name = "forgetful"

    def restore(self, state):
        return state["channels"]


def test_a_fuser_without_state_is_refused(tmp_path):
    model = fit_model(training(corpus()), Bare(), LinearSvm())
    with pytest.raises(BserkitError, match=r"fusion bare .* cannot be saved: Fitted has no state\(\)"):
        save_model(model, tmp_path / "model")


def test_a_fuser_that_fails_to_restore_is_named(tmp_path):
    model = fit_model(training(corpus()), Forgetful(), LinearSvm())
    with pytest.raises(BserkitError, match=r"fusion forgetful .* cannot be restored: KeyError: 'channels'"):
        round_trip(model, tmp_path / "model", Forgetful)


def test_a_plugin_that_is_not_there_is_named(tmp_path):
    save_model(fit_model(training(corpus()), Forgetful(), LinearSvm()), tmp_path / "model")
    with pytest.raises(UsageError, match="There is no fusion named 'forgetful'"):
        load_model(tmp_path / "model", make())


@pytest.mark.parametrize(
    "value",
    [{"a": object()}, {"a": {1: 2}}, {"a": {"$array": "b"}}, {"a": np.array([None])}, {"a": 1j}],
    ids=["an object", "a number as key", "a key of ours", "an array of objects", "a complex number"],
)
def test_what_cannot_be_kept_is_refused(value):
    with pytest.raises(BserkitError, match=r"^a (is an? |has the key )"):
        state.pack(value, LinearSvm().make)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_keep_their_type_and_memory_order(order):
    given = {
        "array": np.asarray(np.arange(6.0).reshape(2, 3), dtype=">f4", order=order),
        "text": np.array(["ä", "bc"]),
        "scalar": np.float32("inf"),
        "empty": np.zeros((0, 2), dtype=np.int16),
        "one": np.str_("x"),
    }
    packed, arrays = state.pack(given, LinearSvm().make)
    found = state.unpack(json.loads(json.dumps(packed, allow_nan=False)), arrays, LinearSvm().make)
    for name, value in given.items():
        assert type(found[name]) is type(value)
        assert found[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found[name], value)
    assert found["array"].flags.f_contiguous == (order == "F")


def test_a_changed_byte_of_the_arrays_is_noticed(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BserkitError, match=r"model is damaged: its files have the digest \w{64}, expected was \w{64}"):
        load_model(saved, make())


def test_a_changed_word_is_noticed(saved):
    path = saved / "model.json"
    path.write_text(path.read_text().replace('"lr": 0.5', '"lr": 0.6'))
    with pytest.raises(BserkitError, match="is damaged"):
        load_model(saved, make())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"bserkit_model_format": 3}', r"is of format 3; this version of bserkit reads formats 1 and 2"),
        ('{"format": "tfjs"}', r"is no model's: it names no format"),
        ("[1]", r"is no model's"),
        ('{"bserkit_mod', r"is damaged or no model's: it is not JSON"),
        ("\udc80", r"is damaged or no model's: it is not JSON"),
    ],
)
def test_words_of_something_else_are_refused(saved, content, told):
    (saved / "model.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(BserkitError, match=told):
        load_model(saved, make())


def test_a_folder_without_a_model_says_what_it_holds(saved, tmp_path):
    with pytest.raises(BserkitError, match=r"Expected model\.json and model\.safetensors; found model\."):
        load_model(tmp_path, make())
    (saved / "model.safetensors").unlink()
    with pytest.raises(BserkitError, match=r"; found model\.json\."):
        load_model(saved, make())
    with pytest.raises(BserkitError, match=r"; found no such folder\."):
        load_model(tmp_path / "nowhere", make())


def test_a_model_is_saved_into_no_folder_that_is_used(saved):
    before = sorted(path.name for path in saved.iterdir())
    with pytest.raises(BserkitError, match=r"is there already; a model is saved into a new or an empty folder"):
        save_model(fit_model(training(corpus()), Mean(), LinearSvm()), saved)
    assert sorted(path.name for path in saved.iterdir()) == before


def test_an_empty_folder_takes_a_model(tmp_path):
    (tmp_path / "model").mkdir()
    assert round_trip(fit_model(training(corpus()), Mean(), LinearSvm()), tmp_path / "model").classes


@pytest.mark.parametrize("at", ["model.safetensors", "model.json", "folder"])
def test_a_save_that_is_broken_off_leaves_nothing(tmp_path, monkeypatch, at):
    whole, replace = model_files.write_whole, Path.replace

    def write(path, content, lasting):
        if path.name == at:
            raise KeyboardInterrupt
        whole(path, content, lasting)

    def rename(path, target):
        if at == "folder" and path.is_dir():
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(model_files, "write_whole", write)
    monkeypatch.setattr(Path, "replace", rename)
    with pytest.raises(KeyboardInterrupt):
        save_model(fit_model(training(corpus()), Mean(), LinearSvm()), tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BserkitError, match=r"cannot be written to .*file.model: Not a directory"):
        save_model(fit_model(training(corpus()), Mean(), LinearSvm()), tmp_path / "file" / "model")
