"""What components return is checked by the core; what they are given is lent; the kept features heal and never lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from bserkit import (
    Backbone,
    BserkitError,
    ChannelTransform,
    FittedFuser,
    Frontend,
    Fuser,
    Pooler,
    Segments,
    UsageError,
    Utterance,
    Views,
)
from bserkit.corpora.audio import content_digest
from bserkit.corpora.checking import Checked, look_at
from bserkit.corpora.protocols import Fold
from bserkit.corpora.reading import Corpus
from bserkit.evaluation.cross_validation import evaluate
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.learning.pooled import pool_features
from bserkit.plugins.builtin.channels import LeftRight, Mono
from bserkit.plugins.builtin.classifiers import LinearSvm, PartialLeastSquares, PcaSvm
from bserkit.plugins.builtin.frontends import LogMel, Waveform
from bserkit.plugins.builtin.fusers import Mean, TwoStage
from bserkit.plugins.builtin.poolers import BlockMax, GlobalAverage
from bserkit.progress import Silent
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace


class Bands(Backbone):
    """No network: the mean of each band of each plane, or what ``made`` says instead."""

    name = "bands"
    made: str = "right"
    size: int = 192

    def weights_digest(self):
        return None if self.made == "no digest" else " " if self.made == "blank digest" else "none"

    def feature_size(self):
        return self.size

    def load(self, device):
        made = self.made
        if made == "no network":
            return lambda planes: planes

        class Network(torch.nn.Module):
            def forward(self, planes):
                features = planes.mean(-1).flatten(1)
                if made == "in place":
                    planes.zero_()
                if made == "dropout":
                    return torch.nn.functional.dropout(features, 0.5, self.training)
                if made == "nan":
                    features[0, 0] = torch.nan
                if made == "raises":
                    raise ZeroDivisionError("by zero")
                return {"whole numbers": features.long(), "tuple": (features,)}.get(made, features)

        return Network().train()


class Talker:
    """A reporter that remembers what was said, and the stages."""

    def __init__(self):
        self.said, self.stages = [], []

    def say(self, text):
        self.said.append(text)

    def stage(self, name, total, unit):
        self.stages.append((name, total))
        return Silent().stage(name, total, unit)


BANDS = Bands()


@pytest.fixture
def utterances(tmp_path):
    made = []
    for speaker in range(3):
        for label in range(2):
            generator = np.random.default_rng((speaker, label))
            path = tmp_path / f"{speaker}-{label}.wav"
            soundfile.write(path, 0.1 * generator.normal(size=(16000 + 8000 * label, 2)), 16000)
            made.append(Utterance(path, "ab"[label], f"s{speaker}"))
    return made


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def extraction(transforms=None, frontend=None, backbone=BANDS):
    return Extraction(transforms or (LeftRight(),), frontend or LogMel(), backbone, "cpu", "fp32")


def run(utterances, what, store, pooler=None, reporter=None):
    """Extract and pool as a run does, and return the pooled features by channel."""
    digests = tuple(content_digest(one) for one in utterances)
    checked = Checked(Corpus(utterances[0].path.parent, None, tuple(utterances), ()), digests, (), ())
    reporter = reporter or Silent()
    extract(pending(utterances, digests, what, store), Workspace(store, reporter))
    return pool_features(checked, what, pooler or GlobalAverage(), Workspace(store, reporter))


class Centred(ChannelTransform):
    """Writes into what it is given."""

    name = "centred"
    outputs = ("quiet", "quieter")
    pointwise = True

    def transform(self, stereo):
        stereo *= 0.01
        return stereo


@pytest.mark.parametrize("transforms", [(Centred(), LeftRight()), (LeftRight(), Centred())])
def test_a_transform_in_place_changes_no_other(utterances, tmp_path, transforms):
    alone = run(utterances, extraction(), FeatureStore(tmp_path / "alone"))
    beside = run(utterances, extraction(transforms), FeatureStore(tmp_path / "beside"))
    for channel in ("left", "right"):
        np.testing.assert_array_equal(beside.features[channel], alone.features[channel])


def test_a_network_in_place_changes_no_other_channel(utterances, tmp_path):
    right = run(utterances, extraction(), FeatureStore(tmp_path / "right")).features
    made = run(utterances, extraction(backbone=Bands(made="in place")), FeatureStore(tmp_path / "in-place")).features
    for channel, values in right.items():
        np.testing.assert_array_equal(made[channel], values)


class Sorting(Pooler):
    """Sorts what it is given."""

    name = "sorting"

    def pool(self, segments):
        segments.sort(axis=0)
        return segments[-1]


def test_a_pooler_may_change_what_it_is_given(utterances, store):
    run(utterances, extraction(), store, Sorting())
    straight = run(utterances, extraction(), store, BlockMax(blocks=1, deltas=False, magnitude=False))
    made = run(utterances, extraction(), store, Sorting())
    np.testing.assert_array_equal(made.features["left"], straight.features["left"])


def test_a_network_computes_in_evaluation_mode(utterances, tmp_path):
    right = run(utterances, extraction(), FeatureStore(tmp_path / "right")).features["left"]
    made = run(utterances, extraction(backbone=Bands(made="dropout")), FeatureStore(tmp_path / "other")).features
    np.testing.assert_array_equal(made["left"], right)


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        (Bands(made="no digest"), r"weights_digest\(\) None; expected text"),
        (Bands(made="blank digest"), r"weights_digest\(\) ' '; expected text"),
        (Bands(made="no network"), "expected a torch.nn.Module"),
        (Bands(size=0), r"feature_size\(\) 0"),
        (Bands(size=5), r"made float32 \(64, 192\) of channel left of .*0-0\.wav; expected .*\(64, 5\)"),
        (Bands(made="whole numbers"), r"made int64 .*0-0\.wav; expected"),
        (Bands(made="tuple"), r"made tuple of float32 .*0-0\.wav; expected"),
        (Bands(made="nan"), r"not numbers of channel \w+ of .*\.wav"),
    ],
    ids=lambda one: "" if isinstance(one, str) else one.spec,
)
def test_what_a_backbone_gives_is_checked(utterances, store, backbone, said):
    with pytest.raises(BserkitError, match=said):
        run(utterances, extraction(backbone=backbone), store)
    assert not list(store.root.rglob("0-0*"))


class FrameVectors(Backbone):
    """Reads waveforms and gives a vector a frame."""

    name = "frame-vectors"
    reads = "waveform"
    sample_rate: int = 16000

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 4

    def load(self, device):
        class Frames(torch.nn.Module):
            def forward(self, waveform):
                return waveform[0, :444].reshape(111, 4)

        return Frames()


def test_a_vector_a_frame_of_a_waveform_is_refused(utterances, store):
    what = extraction(frontend=Waveform(), backbone=FrameVectors())
    with pytest.raises(
        BserkitError, match=r"made float32 \(111, 4\) of channel left of .*0-0\.wav; expected .*\(1, 4\)"
    ):
        run(utterances, what, store)
    assert not list(store.root.rglob("*.safetensors"))


class Odd(ChannelTransform):
    name = "odd"
    outputs = ("odd",)
    made: str = "rows"

    def transform(self, stereo):
        if self.made == "raises":
            raise KeyError("no such channel")
        return {
            "rows": stereo,
            "numbers": stereo[:1].long(),
            "nan": stereo[:1] * torch.nan,
            "array": stereo[:1].numpy(),
            "nothing": None,
        }[self.made]


@pytest.mark.parametrize("made", ["rows", "numbers", "nan", "array", "nothing"])
def test_what_a_transform_gives_is_checked(utterances, store, made):
    with pytest.raises(BserkitError, match=r"channels odd made .*0-0\.wav; expected finite \(channel, time\) = \(1, "):
        run(utterances, extraction((Odd(made=made),)), store)


class Cut(Frontend):
    name = "cut"
    made: str = "right"

    def fits(self, made, channels):
        """Would have switched the check off."""
        return True

    def segments(self, waveform, sample_rate):
        planes, times = LogMel().segments(waveform, sample_rate)
        return {
            "right": Segments(planes, times),
            "two planes": Segments(planes[:, :, :2], times),
            "fewer times": Segments(planes, times[1:]),
            "starts alone": Segments(planes, times[:, 0]),
            "nan": Segments(planes * torch.nan, times),
            "nan times": Segments(planes, times * torch.nan),
            "negative": Segments(planes, times - 1),
            "backwards": Segments(planes, times.flip(0)),
            "ends first": Segments(planes, times.flip(1)),
            "whole numbers": Segments(planes.long(), times),
            "no segment": Segments(planes[:, :0], times[:0]),
            "planes alone": planes,
            "nothing": None,
        }[self.made]


@pytest.mark.parametrize(
    "made",
    [
        *("two planes", "fewer times", "starts alone", "nan", "nan times", "negative", "backwards", "ends first"),
        *("whole numbers", "no segment", "planes alone", "nothing"),
    ],
)
def test_what_a_frontend_gives_is_checked(utterances, store, made):
    assert run(utterances, extraction(frontend=Cut()), store)
    with pytest.raises(BserkitError, match=r"frontend cut made .*0-0\.wav; expected "):
        run(utterances, extraction(frontend=Cut(made=made)), store)


class Pools(Pooler):
    name = "pools"
    made: str = "nan"

    def pool(self, segments):
        mean = segments.mean(0)
        if self.made == "raises":
            raise ZeroDivisionError("division by zero")
        if self.made == "length":
            return segments.ravel()
        with np.errstate(all="ignore"):
            return {
                "nan": mean * np.nan,
                "inf": mean + np.inf,
                "huge": mean.astype(np.float64) * 1e300,
                "matrix": np.stack([mean, mean]),
                "empty": mean[:0],
                "text": np.array(["a"]),
                "list": mean.tolist(),
                "nothing": None,
            }[self.made]


@pytest.mark.parametrize("made", ["nan", "inf", "huge", "matrix", "empty", "text", "list", "nothing"])
def test_what_a_pooler_gives_is_checked(utterances, store, made):
    said = r"pooler pools made .* of channel left of 0-0\.wav; expected one \(feature,\) of finite numbers"
    with pytest.raises(BserkitError, match=said):
        run(utterances, extraction(), store, Pools(made=made))


def test_varying_pooler_length_names_both_recordings(utterances, store):
    with pytest.raises(BserkitError, match=r"pooler pools made \d+ numbers .*0-0\.wav and \d+ of 0-1\.wav"):
        run(utterances, extraction(), store, Pools(made="length"))


@pytest.mark.parametrize(
    ("what", "pooler", "named"),
    [
        (extraction(), Pools(made="raises"), "pooler pools, asked for one vector of channel left of 0-0.wav"),
        (extraction((Odd(made="raises"),)), GlobalAverage(), "channels odd, asked for the channels of "),
        (extraction(backbone=Bands(made="raises")), GlobalAverage(), "backbone bands, asked for features of "),
    ],
    ids=["pooler", "channels", "backbone"],
)
def test_what_a_component_raises_names_it(utterances, store, what, pooler, named):
    with pytest.raises((ZeroDivisionError, KeyError)) as caught:
        run(utterances, what, store, pooler)
    assert named in caught.value.__notes__[0]
    assert "0-0.wav" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("one", ("fusion",)),
        ("one", ("lr", "rl")),
        ("one", ("one", "two")),
        ("fusion", ("one",)),
        ("one", ("a/b",)),
        ("one", ("",)),
        ("one", ("two", "two")),
        ("one", ("left",)),
    ],
)
def test_parts_of_a_result_have_names_of_their_own(name, outputs):
    given_name, given_outputs = name, outputs

    class Named(ChannelTransform):
        name = given_name
        outputs = given_outputs

        def transform(self, stereo):
            return stereo

    with pytest.raises(UsageError, match=r"Channels "):
        extraction((LeftRight(), Named())).transform_of()
    assert extraction((Mono(),)).transform_of() == {"mono": "mono"}


class Greedy(Fuser):
    """Decides by the mean, and writes into all that it is given."""

    name = "greedy"
    made: str = "right"

    def fit(self, views, make_classifier):
        fitted = Mean().fit(views, make_classifier)
        made = self.made
        views.transforms.clear()

        class Fitted(FittedFuser):
            def scores(self, views):
                scores = fitted.scores(views)
                return {"right": scores, "nan": scores * np.nan, "list": scores.tolist()}[made]

            def parts(self, views):
                return fitted.parts(views)

        return Fitted()

    def oracle(self, scores, transforms, labels, classes):
        for values in scores.values():
            values[:] = 0
        labels[:] = classes[0]


def folds(views):
    return [Fold(s, np.flatnonzero(views.speakers != s), np.flatnonzero(views.speakers == s)) for s in ("s0", "s1")]


def test_a_fuser_changes_nothing_for_others(utterances, store):
    views = run(utterances, extraction(), store)
    honest = evaluate(views, folds(views), Mean(), LinearSvm(), Silent())
    greedy = evaluate(views, folds(views), Greedy(), LinearSvm(), Silent())
    for part, scores in honest.scores.items():
        np.testing.assert_array_equal(greedy.scores[part], scores)
    assert greedy.labels.tolist() == honest.labels.tolist()


@pytest.mark.parametrize("made", ["nan", "list"])
def test_what_a_fuser_gives_is_checked(utterances, store, made):
    views = run(utterances, extraction(), store)
    with pytest.raises(
        BserkitError, match=r"fold s0: fusion greedy made .* of fusion; expected finite \(item, class\)"
    ):
        evaluate(views, folds(views), Greedy(made=made), LinearSvm(), Silent())


def test_views_of_a_fold_cannot_be_written_to(utterances, store):
    views = run(utterances, extraction(), store).take(np.arange(3))
    for values in (*views.features.values(), views.labels, views.speakers):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = values[1]


CLASSIFIERS = {
    "forest": lambda: RandomForestClassifier(5, random_state=0),
    "boosting": lambda: HistGradientBoostingClassifier(max_iter=2),
    "svc": lambda: SVC(kernel="rbf"),
    "linear": lambda: LinearSVC(),
    "logistic": lambda: LogisticRegression(),
    "neighbours": lambda: KNeighborsClassifier(1),
    "discriminant": lambda: LinearDiscriminantAnalysis(),
    "perceptron": lambda: MLPClassifier(4, max_iter=500, tol=1.0, random_state=0),
    "scaled": lambda: make_pipeline(StandardScaler(), PCA(2), SVC()),
    "linear-svm": LinearSvm(c="search").make,
    "pls": PartialLeastSquares().make,
    "pca-svm": PcaSvm().make,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_learn_from_what_is_lent(name):
    generator = np.random.default_rng(0)
    speakers = np.repeat([f"s{number}" for number in range(6)], 10)
    labels = np.tile(["a", "b"], 30)
    values = generator.normal(size=(60, 8)).astype(np.float32) + (labels == "a")[:, None]
    views = Views({"mono": values}, {"mono": "mono"}, ("a", "b"), labels, speakers)
    train, test = views.take(np.arange(40)), views.take(np.arange(40, 60))
    lent = Mean().fit(train, CLASSIFIERS[name]).scores(test)
    own = Views({"mono": values[:40].copy()}, {"mono": "mono"}, ("a", "b"), labels[:40].copy(), speakers[:40].copy())
    np.testing.assert_array_equal(lent, Mean().fit(own, CLASSIFIERS[name]).scores(test))


def test_a_classifier_in_place_changes_no_other(utterances, store):
    views = run(utterances, extraction(), store)

    class Scaling(LinearSvm):
        name = "scaling"
        copy_it: bool = True

        def make(self):
            return make_pipeline(StandardScaler(copy=self.copy_it), SVC())

    straight, in_place = (
        evaluate(views, folds(views), TwoStage(), Scaling(copy_it=copy_it), Silent()) for copy_it in (True, False)
    )
    for part, scores in straight.scores.items():
        np.testing.assert_array_equal(in_place.scores[part], scores)


class Meddler(Frontend):
    """Writes another recording over the one that is being read, as another program might meanwhile."""

    name = "meddler"
    path: str

    def segments(self, waveform, sample_rate):
        generator = np.random.default_rng(9)
        soundfile.write(self.path, 0.1 * generator.normal(size=(waveform.shape[1], 2)), sample_rate)
        return LogMel().segments(waveform, sample_rate)


@pytest.mark.parametrize("changed", ["before", "during", "replaced", "gone"])
def test_a_recording_changed_after_check_is_not_kept(utterances, store, changed):
    one = utterances[3]
    digests = [content_digest(each) for each in utterances]
    frontend = Meddler(path=str(one.path)) if changed == "during" else LogMel()
    what = extraction(frontend=frontend)
    work = pending(utterances, digests, what, store)
    if changed == "before":
        soundfile.write(one.path, 0.1 * np.random.default_rng(9).normal(size=(24000, 2)), 16000)
    elif changed == "replaced":
        utterances[0].path.replace(one.path)
    elif changed == "gone":
        one.path.unlink()
    with pytest.raises(BserkitError, match=r"-\d\.wav"):
        extract(work, Workspace(store))
    assert not list(store.root.rglob(f"{digests[3]}.safetensors"))


def test_facts_of_a_changing_recording_are_not_kept(utterances, store, monkeypatch):
    import bserkit.corpora.checking

    real = bserkit.corpora.checking.inspect_audio

    def meddled(utterance):
        soundfile.write(utterance.path, np.zeros((16000, 2)), 16000)
        return real(utterance)

    monkeypatch.setattr(bserkit.corpora.checking, "inspect_audio", meddled)
    corpus = Corpus(utterances[0].path.parent, None, tuple(utterances), ())
    with pytest.raises(BserkitError, match="changed while the run was under way"):
        look_at(corpus, Workspace(store))
    assert not list(store.root.rglob("*.json"))


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 8]) + content[-2:]


def cut(content):
    return content[:100]


def zero(content):
    return content[:-4096] + bytes(4096)


@pytest.mark.parametrize("damage", [flip, cut, zero, lambda content: b""], ids=["flip", "cut", "zero", "empty"])
@pytest.mark.parametrize("many", [1, 99], ids=["one", "all"])
def test_damaged_features_heal_in_one_run(utterances, store, damage, many):
    first = run(utterances, extraction(), store)
    paths = sorted(store.root.rglob("*.safetensors"))[:many]
    for path in paths:
        path.write_bytes(damage(path.read_bytes()))
    talker = Talker()
    again = run(utterances, extraction(), store, reporter=talker)
    for channel, values in first.features.items():
        np.testing.assert_array_equal(again.features[channel], values)
    told = [said for said in talker.said if "damaged" in said]
    assert len(told) == 1
    assert f"{len(paths)} file" in told[0]
    assert [name for name, _ in talker.stages] == ["Pooling", "Extracting features"]
    quiet = Talker()
    run(utterances, extraction(), store, reporter=quiet)
    assert not quiet.said
    assert [name for name, _ in quiet.stages] == ["Pooling"]


def test_swapped_features_heal_in_one_run(utterances, store):
    first = run(utterances, extraction(), store)
    one, other = sorted(store.root.rglob("*.safetensors"))[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    again = run(utterances, extraction(), store)
    for channel, values in first.features.items():
        np.testing.assert_array_equal(again.features[channel], values)


def test_features_that_do_not_stay_are_an_error(utterances, store, monkeypatch):
    what = extraction()
    monkeypatch.setattr(FeatureStore, "read_features", lambda *_: None)
    with pytest.raises(BserkitError, match=r"do not stay in the store .* --cache DIR"):
        run(utterances, what, store)


@pytest.mark.parametrize("content", [b"{}", b"[]", b"", b'{"facts": {}}'])
def test_damaged_facts_heal_in_one_run(utterances, store, content):
    corpus = Corpus(utterances[0].path.parent, None, tuple(utterances), ())
    first = look_at(corpus, Workspace(store))
    for path in store.root.rglob("*.json"):
        path.write_bytes(content)
    talker = Talker()
    assert look_at(corpus, Workspace(store, talker)) == first
    assert [said for said in talker.said if f"{len(utterances)} files" in said] == talker.said
    assert look_at(corpus, Workspace(store)) == first


def test_weights_that_change_while_loaded_are_refused(utterances, store, tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"one")

    class Filed(Bands):
        name = "filed"

        def weights_digest(self):
            return path.read_text()

        def load(self, device):
            path.write_bytes(b"two")
            return super().load(device)

    with pytest.raises(BserkitError, match=r"weights of backbone filed .*changed while they were loaded"):
        run(utterances, replace(extraction(), backbone=Filed()), store)
