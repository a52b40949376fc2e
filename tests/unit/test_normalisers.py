"""Normalisers by hand: what they learn in a fold, what becomes of unseen and unknown speakers, and what is kept."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from bserkit import BserkitError, ChannelView, FittedNormaliser, Normaliser, Views
from bserkit.component import build
from bserkit.corpora.protocols import Fold
from bserkit.evaluation.cross_validation import evaluate
from bserkit.learning.model import fit_model
from bserkit.learning.model_files import load_model, model_content, save_model
from bserkit.learning.normalising import fit_normaliser, normalise
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.fusers import Feature, Mean, TwoStage
from bserkit.plugins.builtin.normalisers import PrincipalComponents, Speaker
from bserkit.plugins.registry import load_plugins
from bserkit.progress import Silent

TRANSFORMS = {"left": "lr", "right": "lr"}
BUILT_IN = load_plugins(outside=False)
NORMALISERS = [
    Speaker(),
    Speaker(by="each"),
    Speaker(by="each", least=13),
    PrincipalComponents(),
    PrincipalComponents(components=3, scale="none"),
]
every_normaliser = pytest.mark.parametrize("normaliser", NORMALISERS, ids=lambda one: one.spec)


def view(values, speakers=None):
    values = np.array(values, dtype=np.float32).reshape(len(values), -1)
    speakers = np.array(speakers or ["s"] * len(values))
    return ChannelView(values, np.array([], dtype=str), speakers, np.full(len(values), ""))


def corpus(speakers=5, each=12):
    generator = np.random.default_rng(1)
    labels = np.array([f"c{index % 3}" for index in range(speakers * each)])
    names = np.array([f"s{index // each}" for index in range(speakers * each)])
    features = {}
    for channel in TRANSFORMS:
        features[channel] = generator.normal(size=(len(labels), 8)).astype(np.float32)
        features[channel][:, :3] += labels[:, None] == np.array(["c0", "c1", "c2"])
        # Speakers differ in where they are and in how far they reach.
        features[channel] *= 1 + np.arange(len(labels))[:, None] // each
        features[channel] += 10 * (np.arange(len(labels))[:, None] // each)
    return Views(features, TRANSFORMS, ("c0", "c1", "c2"), labels, names)


def training(views):
    return views.take(views.speakers != "s4")


def held_out(views):
    return views.take(views.speakers == "s4").without_labels()


def test_by_train_is_mean_0_deviation_1_of_training():
    fitted = Speaker().fit(view([[1.0, 7.0], [3.0, 7.0], [5.0, 7.0]], ["a", "a", "b"]))
    deviation = np.sqrt(8 / 3)
    made = fitted.apply(view([[1.0, 7.0], [4.0, 8.0]], ["c", "c"]))
    assert made == pytest.approx(np.array([[-2 / deviation, 0.0], [1 / deviation, 1.0]]))


def test_by_train_leaves_an_unseen_speaker_where_he_is():
    views = corpus()
    fitted, learned = fit_normaliser(Speaker(), training(views))
    made = normalise(fitted, held_out(views)).features["left"]
    assert learned.features["left"].mean() == pytest.approx(0, abs=1e-5)
    assert made.mean() > 1


def test_by_each_is_mean_0_deviation_1_of_each_speaker():
    fitted = Speaker(by="each", least=2).fit(view([[0.0], [9.0]]))
    made = fitted.apply(view([[1.0], [10.0], [3.0], [30.0]], ["a", "b", " A ", "b"]))
    assert made.ravel().tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_unknown_speakers_take_training_statistics():
    fitted = Speaker(by="each", least=2).fit(view([[0.0], [4.0]]))
    given = view([[2.0], [3.0], [5.0], [4.0]], ["", "", "rare", "s"])
    assert fitted.apply(given).ravel().tolist() == [0.0, 0.5, pytest.approx(np.sqrt(2)), 1.0]
    (note,) = fitted.notes(given)
    assert "fewer than 2 recordings, are standardised by all training utterances" in note
    assert fitted.notes(view([[1.0], [2.0]])) == ()
    assert Speaker().fit(given).notes(given) == ()


def test_a_run_notes_that_test_speakers_are_unknown():
    views = corpus()
    nameless = replace(views, speakers=np.where(views.speakers == "s4", "", views.speakers))
    fold = Fold("last", np.arange(48), np.arange(48, 60))
    chosen = Mean(), LinearSvm(), Silent()
    (note,) = evaluate(nameless, [fold], *chosen, normaliser=Speaker(by="each")).notes()
    assert note.startswith("utterances of unknown speakers, or of those with fewer than 5 recordings")
    assert evaluate(views, [fold], *chosen, normaliser=Speaker(by="each")).notes() == []


def test_nothing_lies_farther_out_than_training_can():
    fitted = Speaker().fit(view([[0.0], [1e-6], [0.0], [0.0]]))
    assert fitted.apply(view([[1e6]])).tolist() == [[2.0]]


def test_by_each_without_any_speaker_is_refused():
    nameless = replace(corpus(), speakers=np.full(60, ""))
    with pytest.raises(BserkitError, match=r"no training utterance names a speaker. Use speaker:by=train"):
        fit_model(nameless, Mean(), LinearSvm(), Speaker(by="each"))
    assert fit_model(nameless, Mean(), LinearSvm(), Speaker()).notes == ()


@pytest.mark.parametrize("scale", ["standard", "none"])
@pytest.mark.parametrize("items", [48, 6])
def test_pca_is_that_of_scikit_learn_but_for_signs(items, scale):
    values = training(corpus()).channel("left").values[:items].astype(np.float64)
    scaler = StandardScaler(with_std=scale == "standard").fit(values)
    expected = PCA(svd_solver="full").fit(scaler.transform(values))
    fitted = PrincipalComponents(components=99, scale=scale).fit(view(values))
    spanned = min(items - 1, 8)
    assert fitted.directions.shape == (8, spanned)
    np.testing.assert_allclose(np.abs(fitted.directions.T), np.abs(expected.components_[:spanned]), atol=1e-5)
    assert (fitted.directions[np.abs(fitted.directions).argmax(axis=0), range(spanned)] > 0).all()
    made = fitted.apply(view(values))
    np.testing.assert_allclose(made.T @ made, np.diag((made**2).sum(axis=0)), atol=1e-3 * (made**2).max())


def test_pca_keeps_the_share_that_was_asked_for():
    generator = np.random.default_rng(0)
    values = view(generator.normal(size=(400, 3)) * np.sqrt([90, 9, 1]))
    counts = {
        share: PrincipalComponents(share=share, scale="none").fit(values).chosen["components"]
        for share in (0.5, 0.95, 0.999, 1.0)
    }
    assert counts == {0.5: 1, 0.95: 2, 0.999: 3, 1.0: 3}
    assert PrincipalComponents(share=0.5, components=2, scale="none").fit(values).chosen == {"components": 2}


def test_pca_of_what_does_not_vary_is_one_zero():
    fitted = PrincipalComponents().fit(view(np.ones((5, 3))))
    assert fitted.apply(view(np.ones((2, 3)))).tolist() == [[0.0], [0.0]]


def test_what_a_normaliser_chose_is_beside_the_cost():
    model = fit_model(training(corpus()), Mean(), LinearSvm(c="search"), PrincipalComponents(components=2))
    assert {part: sorted(one) for part, one in model.choices.items()} == {
        one: ["c", "components"] for one in TRANSFORMS
    }
    assert model.choices["left"]["components"] == 2
    plain = fit_model(training(corpus()), Feature(), LinearSvm(), PrincipalComponents())
    assert {*plain.choices} == {"left", "right"}


@pytest.mark.parametrize("fuser", [TwoStage(), Feature(), Mean()], ids=lambda one: one.name)
@every_normaliser
def test_a_model_keeps_its_normaliser_bit_for_bit(tmp_path, normaliser, fuser):
    views = corpus()
    model = fit_model(training(views), fuser, LinearSvm(), normaliser)
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model", BUILT_IN.make)
    assert loaded.normaliser.recipe == normaliser
    assert loaded.scores(held_out(views)).tobytes() == model.scores(held_out(views)).tobytes()
    assert loaded.remarks(held_out(views)) == model.remarks(held_out(views))
    save_model(loaded, tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_a_model_normalises_what_it_is_given():
    views = corpus()
    model = fit_model(training(views), Mean(), LinearSvm(), Speaker(by="each"))
    fitted, learned = fit_normaliser(Speaker(by="each"), training(views))
    direct = Mean().fit(learned, LinearSvm().make)
    expected = direct.scores(normalise(fitted, held_out(views)))
    assert model.scores(held_out(views)).tolist() == expected.tolist()


def test_a_model_with_a_normaliser_has_its_own_format():
    plain, _ = model_content(fit_model(corpus(), Mean(), LinearSvm()))
    with_one, _ = model_content(fit_model(corpus(), Mean(), LinearSvm(), Speaker()))
    assert (plain["bserkit_model_format"], with_one["bserkit_model_format"]) == (1, 2)
    assert "normaliser" not in plain
    assert with_one["normaliser"]["parameters"] == {"by": "train", "least": 5}


def test_by_train_moves_no_svm_that_scales():
    views = corpus()
    plain, same = (fit_model(training(views), Mean(), LinearSvm(), one) for one in (None, Speaker()))
    np.testing.assert_allclose(same.scores(held_out(views)), plain.scores(held_out(views)), atol=1e-5)


class Recording(Normaliser):
    """Adds nothing, and keeps what it was given."""

    name = "recording"
    given: ClassVar[list] = []

    def fit(self, training):
        self.given.append(training)
        return _Kept(self.given)

    def restore(self, state):
        return _Kept([])


class _Kept(FittedNormaliser):
    def __init__(self, given):
        self.given = given

    def apply(self, view):
        self.given.append(view)
        return view.values * 1.0

    def state(self):
        return {}


def test_inner_searches_fit_a_normaliser_anew():
    views, normaliser = training(corpus()), Recording()
    normaliser.given.clear()
    fit_model(views, TwoStage(inner_groups=4), LinearSvm(), normaliser)
    fitted_on = [sorted(set(one.speakers.tolist())) for one in normaliser.given if len(one.labels)]
    everyone = ["s0", "s1", "s2", "s3"]
    inner = [[name for name in everyone if name != held] for held in everyone]
    assert fitted_on == [everyone] * 2 + inner * 2


def test_a_normaliser_can_write_to_nothing():
    normaliser = Recording()
    normaliser.given.clear()
    model = fit_model(training(corpus()), Mean(), LinearSvm(), normaliser)
    model.scores(corpus().take(slice(0, 12)))
    learned = [one for one in normaliser.given if len(one.labels)]
    assert len(learned) == 2
    for one in normaliser.given:
        assert not any(array.flags.writeable for array in (one.values, one.labels, one.speakers, one.sessions))


def made_by(method):
    class Odd(Normaliser):
        name = "odd"

        def fit(self, training):
            return type("Fitted", (_Kept,), {"apply": lambda _, view: method(view)})([])

        def restore(self, state):
            return _Kept([])

    return Odd()


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (lambda view: view.values[:1], r"made float32 \(1, 8\) of channel left of 48 utterances; expected finite"),
        (lambda view: view.values * np.inf, r"made float32 \(48, 8\) with 384 values that are not finite"),
        (lambda view: None, "made None of channel left"),
        (lambda view: view.values - view.values.mean(axis=0), "makes of an utterance alone something else than among"),
        (lambda view: view.values[:, : len(view)], "makes of an utterance alone something else than among"),
    ],
)
def test_what_a_normaliser_makes_is_checked(method, said):
    views = training(corpus())
    with pytest.raises(BserkitError, match=f"normaliser odd.*{said}"):
        fit_model(views, Mean(), LinearSvm(), made_by(method))


def test_a_normaliser_that_learns_nothing_is_told():
    class Empty(Recording):
        name = "empty"

        def fit(self, training):
            return None

    with pytest.raises(BserkitError, match="normaliser empty learned NoneType from channel left"):
        fit_model(corpus(), Mean(), LinearSvm(), Empty())


def test_a_model_whose_normaliser_is_gone_is_told(tmp_path):
    save_model(fit_model(corpus(), Mean(), LinearSvm(), Recording()), tmp_path / "model")
    with pytest.raises(BserkitError, match="There is no normaliser named 'recording'"):
        load_model(tmp_path / "model", BUILT_IN.make)

    class Lost(Recording):
        def restore(self, state):
            raise ValueError("nothing is left")

    known = {"recording": Lost}
    with pytest.raises(BserkitError, match=r"linear-svm and normaliser recording cannot be restored.*nothing is left"):
        load_model(
            tmp_path / "model",
            lambda contract, spec: (
                build(known[spec.name], spec) if spec.name in known else BUILT_IN.make(contract, spec)
            ),
        )
