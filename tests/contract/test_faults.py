"""A plugin with a fault fails the check of that fault by its name, and the message names the plugin."""

import functools
import itertools
import textwrap
import uuid
from pathlib import Path
from typing import ClassVar
from unittest import SkipTest

import numpy as np
import pytest
import torch
from pydantic import ConfigDict, Field
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import bserkit.testing
from bserkit import (
    Backbone,
    BserkitError,
    ChannelTransform,
    Classifier,
    CorpusReader,
    CorpusTable,
    FittedFuser,
    FittedNormaliser,
    FittedPooler,
    Fuser,
    LearningPooler,
    Normaliser,
    Pooler,
    Segments,
    Utterance,
    audio_files,
)
from bserkit.plugins.builtin.corpora.manifest import Manifest
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.plugins.builtin.fusers import Mean
from bserkit.testing import CheckError, backbones, checks_of

#: What a module may keep from one fold to another.
SEEN: dict = {}


def check_named(name, thing, data=None):
    (check,) = [one for one in checks_of(thing, data) if one.name == name]
    return check


def fails(name, thing, said=None, data=None):
    """Expect the check of this name to fail, by a message of this pattern."""
    check = check_named(name, thing, data)
    with pytest.raises((CheckError, BserkitError), match=said):
        check()


class First(Pooler):
    """The first segment."""

    name = "first"
    scale: float = 1.0

    def pool(self, segments):
        return self.scale * segments[0]


# Every component.


class Unnamed(First):
    """Has a name that cannot be typed."""

    name = "The First"


class Undescribed(First):
    name = "undescribed"


class Changeable(First):
    """Can be changed."""

    model_config = ConfigDict(frozen=False)
    name = "changeable"


class Welcoming(First):
    """Takes any parameter."""

    model_config = ConfigDict(extra="allow")
    name = "welcoming"


class Private(First):
    """Holds what is no parameter."""

    name = "private"
    _held: list = []  # noqa: RUF012


class Listed(First):
    """Has a list for a parameter, which nobody can type."""

    name = "listed"
    sizes: list[int] = Field(default=[1, 2])
    chosen: bool = False


class Optional(First):
    """Has a default that is not None, and takes None."""

    name = "optional"
    size: int | None = 3


class Moody(First):
    """Is known by another name each time."""

    name = "moody"

    @property
    def parameters(self):
        return {"mood": uuid.uuid4().hex}


def local_class():
    class Local(First):
        """Is written inside a function."""

        name = "local"

    return Local()


RECIPES = {
    "has-a-name": Unnamed(),
    "says-what-it-is": Undescribed(),
    "round-trips-as-text": Listed(sizes=[1, 2, 3]),
    "round-trips-as-toml": Optional(size=None),
    "round-trips-by-pickle": local_class(),
    "has-a-stable-identity": Moody(),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_faulty_recipe_fails_its_check(name):
    fails(name, RECIPES[name])


@pytest.mark.parametrize("component", [Changeable(), Welcoming(), Private()], ids=lambda one: one.name)
def test_what_is_no_frozen_recipe_fails_its_check(component):
    fails("is-a-frozen-recipe", component, component.name)


# What a component makes, whatever its kind.


class Noisy(First):
    """Adds noise without a seed."""

    name = "noisy"

    def pool(self, segments):
        return segments[0] + np.random.default_rng().normal(size=segments.shape[1])


class Remembering(First):
    """Adds what it was given before."""

    name = "remembering"
    before: ClassVar[list] = [0.0]

    def pool(self, segments):
        self.before.append(float(segments.sum()))
        return segments[0] + self.before[-2]


class Sharing(ChannelTransform):
    """Works in memory that all threads share."""

    name = "sharing"
    outputs = ("left",)
    scratch: ClassVar[dict] = {}

    def transform(self, stereo):
        self.scratch["left"] = stereo[:1] * 2
        return self.scratch["left"].clone()


class Sorting(First):
    """Sorts what it was given."""

    name = "sorting"

    def pool(self, segments):
        segments.sort(axis=0)
        return segments[-1]


class Keeping(First):
    """Keeps what it computed in the recipe."""

    name = "keeping"

    @functools.cached_property
    def half(self):
        return self.scale / 2

    def pool(self, segments):
        return self.half * segments[0]


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("makes-the-same-twice", Noisy()),
        ("makes-the-same-twice", Remembering()),
        ("makes-the-same-in-threads", Sharing()),
        ("leaves-its-input", Sorting()),
        ("holds-no-state", Keeping()),
    ],
    ids=lambda one: one if isinstance(one, str) else one.name,
)
def test_a_fault_of_any_kind_fails_its_check(name, component):
    fails(name, component, component.name)


# Channels.


class Channels(ChannelTransform):
    """Makes what ``made`` says."""

    name = "channels"
    outputs = ("left",)
    made: str = "right"

    def transform(self, stereo):
        left = stereo[:1]
        return {
            "rows": stereo,
            "whole numbers": left.long(),
            "loudness": left / stereo.std(),
            "nothing": None,
            "right": left,
        }[self.made]


class Fusion(Channels):
    """Names a channel as the final decision is."""

    outputs = ("fusion",)


class Pointwise(Channels):
    """Says that it is pointwise, and takes the mean of the whole."""

    pointwise = True

    def transform(self, stereo):
        return stereo[:1] - stereo[:1].mean()


@pytest.mark.parametrize("made", ["rows", "whole numbers", "loudness", "nothing"])
def test_wrong_channels_fail_their_check(made):
    fails("makes-a-row-for-each-output", Channels(made=made), "channels channels made")


def test_wrong_names_and_blocks_fail_their_checks():
    fails("names-its-channels", Fusion())
    fails("is-pointwise-as-it-says", Pointwise(), "Leave pointwise out")


# Frontends.


class Cut(LogMel):
    """Makes what ``made`` says."""

    name = "cut"
    made: str = "right"

    def segments(self, waveform, sample_rate):
        planes, times = super().segments(waveform, sample_rate)
        if self.made == "quiet":
            planes = planes / planes.abs().amax()
        if self.made == "together":
            planes = planes - planes.mean()
        if self.made == "frames":
            times = times * 100
        if self.made == "shape" and sample_rate > 16000:
            planes = planes[..., :-1]
        return Segments(planes, times)

    def stream(self, blocks, sample_rate):
        for made in super().stream(blocks, sample_rate):
            yield Segments(made.planes + (self.made == "stream"), made.times)

    def spectrogram(self, waveform, sample_rate):
        made = super().spectrogram(waveform, sample_rate)
        return made[0] if self.made == "picture" else made


FRONTENDS = {
    "shape": "makes-segments-at-any-rate-and-length",
    "frames": "makes-segments-at-any-rate-and-length",
    "quiet": "makes-segments-of-silence",
    "together": "treats-each-channel-alone",
    "stream": "streams-the-same-segments",
    "picture": "makes-a-picture-or-none",
}


@pytest.mark.parametrize("made", FRONTENDS)
def test_a_faulty_frontend_fails_its_check(made):
    fails(FRONTENDS[made], Cut(made=made), "frontend cut")
    check_named(FRONTENDS[made], Cut())()


def test_a_frontend_of_an_unknown_output_fails():
    class Odd(Cut):
        makes = "pictures"

    fails("makes-segments-at-any-rate-and-length", Odd(), "says that it makes 'pictures'")


# Backbones.


class Net(Backbone):
    """A linear layer, or what ``made`` says instead."""

    name = "net"
    made: str = "right"
    seed: int = 0
    loads: ClassVar[itertools.count] = itertools.count()

    def weights_digest(self):
        return {"no digest": "", "digests": uuid.uuid4().hex}.get(self.made, "none")

    def recipe(self):
        return {"made": self.made} if self.made == "recipe" else self.parameters

    def feature_size(self):
        return 9 if self.made == "size" else 8

    def with_weights(self, path):
        return self if self.made == "untuned" else super().with_weights(path)

    def load(self, device):
        made = self.made

        class Network(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = torch.nn.Linear(192, 8)
                self.drop = torch.nn.Dropout(0.5)

            def forward(self, planes):
                features = self.layer(planes.mean(-1).flatten(1))
                if made == "company":
                    return features - features.mean(0)
                if made == "order":
                    return features + torch.arange(len(features))[:, None]
                if made == "silence":
                    return features / planes.flatten(1).std(1)[:, None]
                if made == "in place":
                    planes.zero_()
                if made == "gpu":
                    return features + next(Net.loads)
                return {"detached": features.detach(), "tuple": (features,)}.get(made, self.drop(features))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(uuid.uuid4().int % 1000 if made == "unseeded" else self.seed)
            network = Network()
        return network.train(made == "training")


BACKBONES = {
    "no digest": "names-its-weights",
    "digests": "names-its-weights",
    "recipe": "names-what-changes-features",
    "training": "loads-in-evaluation-mode",
    "size": "makes-the-feature-of-each-segment",
    "tuple": "makes-the-feature-of-each-segment",
    "silence": "makes-the-feature-of-silence",
    "company": "ignores-other-segments",
    "order": "ignores-the-order-of-segments",
    "detached": "can-be-differentiated",
    "untuned": "restores-fine-tuned-weights",
    "unseeded": "makes-the-same-twice",
    "in place": "leaves-its-input",
}


@pytest.mark.parametrize("made", BACKBONES)
def test_a_faulty_backbone_fails_its_check(made):
    fails(BACKBONES[made], Net(made=made), "backbone net")
    check_named(BACKBONES[made], Net())()


def test_other_numbers_of_a_gpu_fail_their_check(monkeypatch):
    # A processor by another name stands for the GPU.
    monkeypatch.setattr(backbones, "gpu", lambda: "cpu:0")
    name = "computes-the-same-on-a-gpu"
    fails(name, Net(made="gpu"), "on cpu:0 than on cpu")
    check_named(name, Net())()
    monkeypatch.setattr(backbones, "gpu", str)
    with pytest.raises(SkipTest):
        check_named(name, Net())()


class Speech(Backbone):
    """A vector every 10 ms of a waveform, less the mean of the whole, or what ``made`` says instead."""

    name = "speech"
    reads = "waveform"
    batching = "masked"
    sample_rate: int = 16000
    made: str = "right"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 160

    def frame_bounds(self, length):
        starts = 160 * np.arange(length // 160) + (length % 7 if self.made == "bounds" else 0)
        return np.stack([starts, starts + 160 - 7], axis=1)

    def load(self, device):
        made = self.made

        class Network(torch.nn.Module):
            def forward(self, waveform, mask):
                share = mask.float() if made != "filled" else torch.ones_like(waveform)
                waveform = waveform - 10 * (waveform * share).abs().sum(1, keepdim=True) / share.sum(1, keepdim=True)
                if made == "company":
                    waveform = waveform - waveform.mean()
                return waveform[:, : 160 * (waveform.shape[1] // 160)].unflatten(1, (-1, 160))

        return Network().eval()


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ("bounds", "has-frames-of-longer-segments-too"),
        ("filled", "ignores-filling"),
        ("company", "ignores-other-segments"),
    ],
)
def test_a_faulty_speech_backbone_fails_its_check(made, name):
    fails(name, Speech(made=made), "backbone speech")
    check_named(name, Speech())()


# Poolers.


class Pools(First):
    """Makes what ``made`` says."""

    name = "pools"
    made: str = "right"

    def pool(self, segments):
        if self.made == "spread":
            with np.errstate(invalid="ignore", divide="ignore"):
                return segments[0] / segments.std(axis=0)
        return {"length": segments.ravel(), "list": segments[0].tolist()}.get(self.made, segments[0])


@pytest.mark.parametrize(
    ("made", "name"),
    [
        ("length", "makes-a-vector-of-one-length"),
        ("list", "makes-a-vector-of-one-length"),
        ("spread", "makes-a-vector-of-silence"),
    ],
)
def test_a_faulty_pooler_fails_its_check(made, name):
    fails(name, Pools(made=made), "pooler pools")


class Learning(LearningPooler):
    """Less the mean of all training segments, with a fault."""

    name = "learning"
    made: str = "right"

    def fit(self, training):
        mean = np.concatenate(list(training.values)).mean(axis=0)
        return FittedFirst(SEEN.setdefault("first", mean) if self.made == "first" else mean)

    def restore(self, state):
        return FittedFirst(state["mean"] + (self.made == "unsaved"))


class FittedFirst(FittedPooler):
    def __init__(self, mean):
        self.mean = mean

    def pool(self, segments):
        return segments[0] - self.mean

    def state(self):
        return {"mean": self.mean}


@pytest.mark.parametrize(
    ("made", "name"), [("unsaved", "restores-what-it-learned"), ("first", "ignores-earlier-folds")]
)
def test_a_faulty_learning_pooler_fails_its_check(made, name):
    fails(name, Learning(made=made), "pooler learning")
    check_named(name, Learning())()


# Classifiers.

ONE = LogisticRegression()


class Wrapped(ClassifierMixin, BaseEstimator):
    """A logistic regression with a fault."""

    def __init__(self, made="right"):
        self.made = made

    def fit(self, X, y):
        if self.made == "strict" and (X.std(axis=0) == 0).all():
            raise ValueError("a feature that says nothing")
        if self.made == "writing":
            X -= X.mean(axis=0)
        self.inner_ = LogisticRegression().fit(X, y)
        self.classes_ = self.inner_.classes_
        for features, label in zip(X, y, strict=True):
            if self.made == "labels":
                SEEN[features.tobytes()] = label
            if self.made == "first labels":
                SEEN.setdefault(features.tobytes(), label)
        return self

    def predict_proba(self, X):
        if self.made == "batch":
            X = X - X.mean(axis=0)
        scores = self.inner_.predict_proba(X)
        if self.made == "backwards":
            return -scores
        if self.made == "pairs":
            return np.hstack([scores, scores])
        for row, features in enumerate(X):
            if features.tobytes() in SEEN and "labels" in self.made:
                scores[row] = self.classes_ == SEEN[features.tobytes()]
        return scores

    def state(self):
        return {"classes": self.classes_, "inner": self.inner_}

    def restore(self, state):
        self.classes_, self.inner_ = state["classes"], state["inner"]
        if self.made == "unsaved":
            self.inner_.intercept_ = self.inner_.intercept_ + 1
            self.inner_.coef_ = 2 * self.inner_.coef_
        return self


class Learns(Classifier):
    """A logistic regression with a fault."""

    name = "learns"
    made: str = "right"

    def make(self):
        return ONE if self.made == "one" else Wrapped(self.made)


CLASSIFIERS = {
    "one": "makes-a-fresh-one",
    "pairs": "scores-every-class",
    "backwards": "learns-something",
    "strict": "takes-a-silent-channel",
    "batch": "scores-each-item-alone",
    "labels": "ignores-test-labels",
    "first labels": "ignores-the-order-of-folds",
    "unsaved": "round-trips-as-a-model",
    "writing": "leaves-its-input",
}


@pytest.mark.parametrize("made", CLASSIFIERS)
def test_a_faulty_classifier_fails_its_check(made):
    SEEN.clear()
    fails(CLASSIFIERS[made], Learns(made=made), "learns")
    check_named(CLASSIFIERS[made], Learns())()


def test_scaling_by_test_items_fails_its_check():
    fails("ignores-test-items", Learns(made="batch"), "features of a test item")
    check_named("ignores-test-items", Learns())()


def test_a_cache_that_was_filled_before_is_found_too():
    for _ in range(2):
        fails("ignores-test-labels", Learns(made="labels"), "labels of test items")


def test_what_cannot_be_saved_is_skipped():
    class Unsaved(Learns):
        def make(self):
            return make_pipeline(Wrapped())

    with pytest.raises(SkipTest, match="cannot be saved"):
        check_named("round-trips-as-a-model", Unsaved())()


# Normalisers.


class Normalises(Normaliser):
    """Less the mean of the training utterances, with a fault."""

    name = "normalises"
    made: str = "right"

    def fit(self, training):
        if self.made == "writing":
            training.values[:] = 0
        SEEN.setdefault("mean", training.values.mean(axis=0))
        return FittedMean(self.made, SEEN["mean"] if self.made == "first mean" else training.values.mean(axis=0))

    def restore(self, state):
        return FittedMean(self.made, state["mean"] + (self.made == "unsaved"))


class FittedMean(FittedNormaliser):
    def __init__(self, made, mean):
        self.made, self.mean = made, mean

    def apply(self, view):
        values = view.values - (view.values.mean(axis=0) if self.made == "batch" else self.mean)
        return values.tolist() if self.made == "list" else values

    def state(self):
        return {"mean": self.mean}


NORMALISERS = {
    "list": "scores-every-class",
    "batch": "scores-each-item-alone",
    "first mean": "ignores-the-order-of-folds",
    "unsaved": "round-trips-as-a-model",
    "writing": "leaves-its-input",
}


@pytest.mark.parametrize("made", NORMALISERS)
def test_a_faulty_normaliser_fails_its_check(made):
    SEEN.clear()
    fails(NORMALISERS[made], Normalises(made=made), "normalises")
    SEEN.clear()
    check_named(NORMALISERS[made], Normalises())()


# Fusers.


class Fuses(Fuser):
    """The mean of the channels, with a fault."""

    name = "fuses"
    made: str = "right"

    def fit(self, views, make_classifier):
        made = self.made
        fitted = Mean().fit(views, make_classifier)
        if made == "writing":
            views.features["left"][:] = 0

        class Fitted(FittedFuser):
            def scores(self, views):
                scores = fitted.scores(views)
                if made == "absent":
                    scores[:, 1] = scores.max(axis=1) + 1
                return {"list": scores.tolist(), "some": scores[:, :2], "others": scores - scores.mean(axis=0)}.get(
                    made, scores
                )

            def parts(self, views):
                return {"left": fitted.scores(views)[:1]} if made == "parts" else {}

        return Fitted()


FUSERS = {
    "list": "scores-every-class",
    "some": "scores-every-class",
    "parts": "scores-every-class",
    "absent": "never-predicts-an-absent-class",
    "others": "scores-each-item-alone",
    "writing": "leaves-its-input",
}


@pytest.mark.parametrize("made", FUSERS)
def test_a_faulty_fuser_fails_its_check(made):
    fails(FUSERS[made], Fuses(made=made), "fuses")
    check_named(FUSERS[made], Fuses())()


# Readers of corpora.


class Claiming(CorpusReader):
    """Claims every folder, and finds an utterance in each."""

    name = "claiming"

    def recognises(self, root):
        return True

    def read(self, root):
        return CorpusTable([Utterance(root / "one.wav", "joy", "ann")])


class Reads(Manifest):
    """Reads a manifest with a fault."""

    name = "reads"
    made: str = "right"
    times: ClassVar[itertools.count] = itertools.count()

    def matches(self, root):
        return (5, 3) if self.made == "counts" else (0, 0)

    def read(self, root):
        table = super().read(root)
        if self.made == "writes":
            (root.parent / "index.txt").write_text("read")
        if self.made == "unlabelled":
            return CorpusTable([Utterance(one, "", "ann") for one in audio_files(root.parent)])
        some = next(self.times) if self.made == "twice" else 0
        return CorpusTable(table.utterances[some:])


READERS = {
    "twice": "reads-the-same-twice",
    "unlabelled": "names-labels-and-speakers",
    "writes": "writes-nothing-into-a-corpus",
    "counts": "counts-what-it-reads",
}


def test_a_reader_that_claims_everything_fails():
    fails("claims-no-folder-of-others", Claiming(), "corpus claiming recognises an empty folder")
    fails("refuses-what-it-cannot-read", Claiming(), "found 1 utterances in an empty folder")


@pytest.mark.parametrize("made", READERS)
def test_a_faulty_reader_fails_its_check(made, tmp_path):
    data = bserkit.testing.sample_corpus(tmp_path)
    fails(READERS[made], Reads(made=made), "reads", data)
    (tmp_path / "index.txt").unlink(missing_ok=True)
    check_named(READERS[made], Reads(), data)()


# Plugins.

POOLER = """
from bserkit import Pooler, hookimpl

class Mine(Pooler):
    '''The first segment.'''
    name = "mine"
    scale: float = 1.0

    def pool(self, segments):
        return self.scale * segments[0]

@hookimpl
def bserkit_poolers():
    return [Mine]
"""
FORGOTTEN = """
class Forgotten(Mine):
    '''No hook returns it.'''
    name = "forgotten"

class _Base(Mine):
    name = "base"
"""
SLOW = """
import time
begun = time.process_time()
while time.process_time() - begun < 0.7:
    pass
"""
PLUGINS = {
    "loads": (POOLER.replace("Pooler, hookimpl", "Poler, hookimpl"), "cannot import name 'Poler'"),
    "brings-a-component": ("x = 1", "brings no component"),
    "returns-every-class": (POOLER + FORGOTTEN, r"no hook returns: \S+\.Forgotten \(forgotten\)\."),
    "claims-no-name-of-others": (POOLER.replace('"mine"', '"block-max"'), "claimed by built-in .* and plugin"),
    "imports-nothing-heavy": ("import scipy\n" + POOLER, r"imports scipy at .*plugin\.py:1 as soon"),
    "imports-quickly": (SLOW + POOLER, r"takes 0\.[78]\d s to import"),
    "has-one-identity-everywhere": (
        "import time\n" + POOLER.replace("float = 1.0", "float = time.time()"),
        "In another process pooler mine",
    ),
    "can-be-made": (POOLER.replace("float = 1.0", "float"), "parameter 'scale' is required"),
}


def plugin(folder, text):
    path = folder / "plugin.py"
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize("name", PLUGINS)
def test_a_faulty_plugin_fails_its_check(name, tmp_path):
    text, said = PLUGINS[name]
    fails(name, plugin(tmp_path, text), said)


def test_a_plugin_without_fault_passes_every_check(tmp_path):
    for check in checks_of(plugin(tmp_path, POOLER.replace("float = 1.0", "float = 1.0  # unscaled"))):
        check()


def test_a_parameter_is_tried_by_its_first_example(tmp_path):
    text = POOLER.replace("float = 1.0", "float = Field(examples=[2.0])").replace(
        "from bserkit", "from pydantic import Field\nfrom bserkit", 1
    )
    subjects = {check.subject for check in checks_of(plugin(tmp_path, text))}
    assert "pooler mine:scale=2.0" in subjects


def test_a_check_says_its_rule_and_its_subject():
    check = check_named("makes-the-same-twice", First(scale=2.0))
    assert str(check) == "pooler first:scale=2.0: makes-the-same-twice"
    assert check.rule.startswith("Two calls give the same bits")


def test_a_class_is_checked_as_it_is_by_default():
    assert {check.subject for check in checks_of(First)} == {"pooler first"}


def test_every_check_has_a_planted_fault():
    planted = {
        *(*RECIPES, *FRONTENDS.values(), *BACKBONES.values(), *CLASSIFIERS.values(), *FUSERS.values(), *PLUGINS),
        *READERS.values(),
    }
    written = Path(__file__).read_text(encoding="utf-8")
    things = [First(), Learning(), Channels(), Pointwise(), Cut(), Net(), Speech(), Learns(), Fuses(), Manifest()]
    names = {check.name for thing in things for check in checks_of(thing, Path())}
    assert [name for name in names - planted if f'"{name}"' not in written] == []
