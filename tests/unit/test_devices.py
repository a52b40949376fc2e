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
from bserkit.features.training import _ReplayedSteps, train
from bserkit.plugins.builtin.channels import LeftRight
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU here")
DEVICES = ["cpu", pytest.param("cuda:0", marks=needs_gpu)]


class Small(Backbone):
    """A network of a convolution, batch normalisation and a linear layer, without any draw at random."""

    name = "small"
    replayable = True

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


class Unrecorded(Small):
    """The same network, computed operation by operation."""

    name = "unrecorded"
    replayable = False


class Looking(Small):
    """The same network, which says that it can be replayed but looks at what it computes."""

    name = "looking"

    def load(self, device):
        network = super().load(device)
        network.register_forward_hook(lambda _, __, made: made if made.sum().item() < 1e9 else None)
        return network


@pytest.fixture
def utterances(tmp_path):
    made = []
    for number in range(6):
        noise = np.random.default_rng(number).normal(0, 0.1, (24000, 2))
        tone = 0.3 * np.sin(np.arange(24000) * (0.05 + 0.05 * (number % 2)))[:, None]
        soundfile.write(tmp_path / f"{number}.wav", tone + noise, 16000)
        made.append(Utterance(tmp_path / f"{number}.wav", "ab"[number % 2], f"speaker{number // 2}"))
    return made


def extraction(device, precision="fp32", backbone=None):
    return Extraction((LeftRight(),), LogMel(), backbone or Small(), device, precision)


def features(utterances, way, folder):
    store, digests = FeatureStore(folder), [content_digest(one) for one in utterances]
    extract(pending(utterances, digests, way, store), Workspace(store))
    kept = [store.read_features(recipe, digest)[0] for recipe in way.recipes().values() for digest in digests]
    return np.concatenate(kept).astype(np.float64)


def training(utterances, device, precision="fp32", backbone=None, batch=5, **recipe):
    """Eighteen segments in four batches of two sizes, so that a GPU records and replays steps."""
    digests, fold = [content_digest(one) for one in utterances], Fold("rest", np.arange(6), np.arange(0))
    way = extraction(device, precision, backbone)
    return trainings(Sgd(epochs=3, lr=0.05, batch=batch, **recipe), way, utterances, digests, [fold])[0]


@pytest.fixture
def recorded(monkeypatch):
    """The sizes of batches whose step was recorded."""
    sizes, original = [], _ReplayedSteps._record
    monkeypatch.setattr(
        _ReplayedSteps, "_record", lambda steps, *batch: sizes.append(len(batch[1])) or original(steps, *batch)
    )
    return sizes


def losses(trained):
    return [one["train/loss"] for one in trained.curves]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_agree_in_direction_with_cpu_fp32(utterances, tmp_path, device, precision):
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
    exact = train(training(utterances, "cpu", dropout=0.0, batch=30), FeatureStore(tmp_path / "exact"), lambda *_: None)
    one = training(utterances, device, precision, dropout=0.0, batch=30)
    found = train(one, FeatureStore(tmp_path / "found"), lambda *_: None)
    assert losses(found) == pytest.approx(losses(exact), rel=tolerance)
    assert losses(found)[-1] < losses(found)[0]


@needs_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-3), ("bf16", 0.03)])
def test_replayed_steps_learn_alike_cuda(utterances, tmp_path, recorded, precision, tolerance):
    # With dropout: it draws the same numbers.
    kept = {}
    for backbone in (Unrecorded(), Small()):
        store = FeatureStore(tmp_path / backbone.name)
        kept[backbone.name] = train(training(utterances, "cuda:0", precision, backbone), store, lambda *_: None)
        assert recorded == ([] if backbone.name == "unrecorded" else [5, 4])
    assert losses(kept["small"]) == pytest.approx(losses(kept["unrecorded"]), rel=tolerance)


@needs_gpu
def test_a_network_that_looks_is_not_recorded_cuda(utterances, tmp_path, recorded):
    found = [
        train(training(utterances, "cuda:0", backbone=one), FeatureStore(tmp_path / one.name), lambda *_: None)
        for one in (Unrecorded(), Looking())
    ]
    assert recorded == []
    assert losses(found[1]) == pytest.approx(losses(found[0]), rel=1e-3)


@needs_gpu
def test_segments_that_do_not_fit_learn_alike_cuda(utterances, tmp_path, recorded, monkeypatch):
    near = train(training(utterances, "cuda:0"), FeatureStore(tmp_path / "near"), lambda *_: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 0))
    far = train(training(utterances, "cuda:0"), FeatureStore(tmp_path / "far"), lambda *_: None)
    assert recorded == [5, 4, 5, 4]
    assert losses(far) == pytest.approx(losses(near), rel=1e-3)
