"""Built-in numbers are pinned: a change of any of them is deliberate, and has a line under "Numbers" in CHANGELOG.md.

``BSERKIT_GOLDEN=write pytest tests/golden`` writes the files anew.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bserkit.corpora.audio import read_stereo
from bserkit.corpora.checking import check_corpus
from bserkit.corpora.demo import demo_corpus
from bserkit.corpora.protocols import LeaveOneSpeakerOut, split
from bserkit.corpora.reading import read_corpus
from bserkit.evaluation.cross_validation import evaluate
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.learned import ChannelView
from bserkit.learning.pooled import pool_features
from bserkit.learning.views import Views
from bserkit.plugins.builtin.backbones import AlexNet, Torchvision
from bserkit.plugins.builtin.channels import LeftRight, MidSide
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.codebooks import Vlad
from bserkit.plugins.builtin.corpora import Manifest
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.plugins.builtin.fusers import Feature, Mean, TwoStage
from bserkit.plugins.builtin.normalisers import PrincipalComponents, Speaker
from bserkit.plugins.builtin.poolers import BlockAverage, BlockMax, GlobalAverage, GlobalMax
from bserkit.progress import Silent
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

GOLDEN = Path(__file__).parent
NORMALISERS = [Speaker(), Speaker(by="each"), PrincipalComponents(), PrincipalComponents(components=2, scale="none")]


def pin(name, values, tolerance):
    """Compare with the golden file; ``tolerance`` is what another processor may differ by."""
    path = GOLDEN / f"{name}.json"
    if os.environ.get("BSERKIT_GOLDEN") == "write":
        path.write_text(
            json.dumps({key: np.round(value, 6).tolist() for key, value in values.items()}, indent=1) + "\n"
        )
    expected = json.loads(path.read_text())
    assert values.keys() == expected.keys()
    for key, value in values.items():
        np.testing.assert_allclose(value, expected[key], atol=tolerance, rtol=tolerance, err_msg=key)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return read_corpus(demo_corpus(tmp_path_factory.mktemp("demo")), Manifest())


@pytest.fixture(scope="module")
def planes(corpus):
    samples, rate = read_stereo(corpus.utterances[0])
    return LogMel().segments(MidSide().transform(torch.from_numpy(samples)), rate).planes


def test_demonstration_corpus(corpus):
    levels = {}
    for utterance in corpus.utterances[::24]:
        samples, _ = read_stereo(utterance)
        mid, side = samples[0] + samples[1], samples[0] - samples[1]
        levels[utterance.item(corpus.root.parent)] = [
            samples.shape[1],
            np.sqrt(np.mean(mid**2)),
            np.sqrt(np.mean(side**2)),
        ]
    pin("demo", levels, 1e-4)


def test_logmel(planes):
    values = {f"{plane}": planes[0, 0, index, ::16, ::16] for index, plane in enumerate(("static", "delta", "delta2"))}
    pin("logmel", {key: value.numpy() for key, value in values.items()}, 1e-3)


@pytest.mark.parametrize(
    "backbone",
    [
        AlexNet(weights="random"),
        AlexNet(weights="random", layer="fc6", relu="before", picture="clip", seed=1),
        Torchvision(arch="squeezenet1_1", weights="random"),
    ],
    ids=["alexnet", "alexnet-fc6-clip", "squeezenet"],
)
def test_backbones(backbone, planes, request):
    with torch.inference_mode():
        features = backbone.load("cpu")(planes[1, :2]).numpy()
    pin(f"backbone-{request.node.callspec.id}", {"first": features[:, :12], "mean": features.mean(axis=1)}, 1e-3)


def test_poolers():
    generator = np.random.default_rng(0)
    segments = generator.normal(size=(5, 3)).astype(np.float32)
    poolers = [BlockMax(), BlockMax(blocks=3, pyramid=True), BlockAverage(), GlobalMax(), GlobalAverage()]
    pin("poolers", {pooler.spec: pooler.pool(segments) for pooler in poolers}, 1e-6)


def test_normalisers():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(24, 4)) @ generator.normal(size=(4, 6)) + generator.normal(size=(24, 6)) / 10
    speakers = np.repeat(["a", "b", "c"], 8)
    views = Views({"left": values.astype(np.float32)}, {"left": "lr"}, ("x", "y"), np.tile(["x", "y"], 12), speakers)
    training, test = (
        views.take(slice(0, 16)).channel("left"),
        views.without_labels().take(slice(16, 24)).channel("left"),
    )
    pin("normalisers", {one.spec: one.fit(training).apply(test) for one in NORMALISERS}, 1e-5)


def test_vlad():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(8, 9, 3)).astype(np.float32) + 4 * generator.integers(0, 3, (8, 9, 1))
    names = np.full(8, "")
    training = ChannelView(values[:6], names[:6], names[:6], names[:6])
    recipes = [Vlad(centres=3), Vlad(centres=2, sample=20, root=False, unit=False, seed=1)]
    pin("vlad", {one.spec: one.fit(training).pool(values[7]) for one in recipes}, 1e-5)


@pytest.mark.slow
def test_results_of_the_demonstration_corpus(corpus, tmp_path):
    store, silent = FeatureStore(tmp_path), Silent()
    extraction = Extraction(
        (LeftRight(), MidSide()), LogMel(), Torchvision(arch="squeezenet1_1", weights="random"), "cpu", "fp32"
    )
    checked = check_corpus(corpus, extraction.needs_stereo, "refuse", "refuse", Workspace(store))
    extract(pending(checked.corpus.utterances, checked.digests, extraction, store), Workspace(store))
    folds = split(LeaveOneSpeakerOut(), checked.corpus)
    views = pool_features(checked, extraction, BlockMax(), Workspace(store))
    values = {}
    for fuser in (TwoStage(), Feature(), Mean()):
        result = evaluate(views, folds, fuser, LinearSvm(), silent)
        values |= {f"{fuser.name} {part}": result.scores[part][::16] for part in result.scores}
        values[f"{fuser.name} uar"] = result.measures().uar
        values |= {
            f"{fuser.name} {one.fold.name} {name}": weight
            for one in result.outcomes
            for name, weight in one.weights.items()
        }
    pin("results", values, 5e-3)
