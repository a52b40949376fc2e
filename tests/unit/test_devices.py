"""What a GPU computes is what a processor computes: the same checks on each; those on a GPU wait for one."""

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from bserkit import Backbone, Utterance
from bserkit.corpora.audio import content_digest
from bserkit.corpora.protocols import Fold
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.finetuning import Sgd, trainings
from bserkit.features.training import train
from bserkit.plugins.builtin.channels import LeftRight
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU here")
DEVICES = ["cpu", pytest.param("cuda:0", marks=needs_gpu)]


class Small(Backbone):
    """A network of a convolution, batch normalisation and a linear layer, without any draw at random."""

    name = "small"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 16

    def load(self, device):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [torch.nn.Conv2d(3, 8, 5, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU()]
            layers += [torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(128, 16), torch.nn.ReLU()]
            return torch.nn.Sequential(*layers).to(device).eval()


@pytest.fixture
def utterances(tmp_path):
    made = []
    for number in range(6):
        noise = np.random.default_rng(number).normal(0, 0.1, (24000, 2))
        tone = 0.3 * np.sin(np.arange(24000) * (0.05 + 0.05 * (number % 2)))[:, None]
        soundfile.write(tmp_path / f"{number}.wav", tone + noise, 16000)
        made.append(Utterance(tmp_path / f"{number}.wav", "ab"[number % 2], f"speaker{number // 2}"))
    return made


def extraction(device, precision="fp32"):
    return Extraction((LeftRight(),), LogMel(), Small(), device, precision)


def features(utterances, way, folder):
    store, digests = FeatureStore(folder), [content_digest(one) for one in utterances]
    extract(pending(utterances, digests, way, store), Workspace(store))
    kept = [store.read_features(recipe, digest)[0] for recipe in way.recipes().values() for digest in digests]
    return np.concatenate(kept).astype(np.float64)


def training(utterances, device, precision="fp32", **recipe):
    digests, fold = [content_digest(one) for one in utterances], Fold("rest", np.arange(6), np.arange(0))
    way = extraction(device, precision)
    return trainings(Sgd(epochs=3, lr=0.05, **recipe), way, utterances, digests, [fold])[0]


def losses(trained):
    return [one["train/loss"] for one in trained.curves]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_point_where_those_of_a_processor_in_fp32_do(utterances, tmp_path, device, precision):
    exact = features(utterances, extraction("cpu"), tmp_path / "exact")
    found = features(utterances, extraction(device, precision), tmp_path / "found")
    lengths = np.linalg.norm(exact, axis=1) * np.linalg.norm(found, axis=1)
    assert ((exact * found).sum(axis=1) / lengths).min() > 0.999


@pytest.mark.parametrize("device", DEVICES)
def test_a_broken_off_training_ends_as_a_whole_one(utterances, tmp_path, device):
    def stop(epoch, _):
        if epoch == 2:
            raise KeyboardInterrupt

    whole = train(training(utterances, device), FeatureStore(tmp_path / "whole"), lambda *_: None)
    store = FeatureStore(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train(training(utterances, device), store, stop)
    resumed = train(training(utterances, device), store, lambda *_: None)
    # Bit by bit on a processor; on a GPU sums are taken in no fixed order.
    tolerance = 0 if device == "cpu" else 1e-3
    assert losses(resumed) == pytest.approx(losses(whole), rel=tolerance, abs=0)
    left, right = load_file(resumed.weights), load_file(whole.weights)
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 0.01), ("bf16", 0.1)])
def test_a_network_learns_alike_on_every_device(utterances, tmp_path, device, precision, tolerance):
    exact = train(training(utterances, "cpu", dropout=0.0), FeatureStore(tmp_path / "exact"), lambda *_: None)
    one = training(utterances, device, precision, dropout=0.0)
    found = train(one, FeatureStore(tmp_path / "found"), lambda *_: None)
    assert losses(found) == pytest.approx(losses(exact), rel=tolerance)
    assert losses(found)[-1] < losses(found)[0]
