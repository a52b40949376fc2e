"""Extraction: what a segment's features are depends on its audio and the recipe alone; each is computed once."""

from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

import bserkit.features.preparing
from bserkit import Backbone, BserkitError, ChannelTransform, UsageError, Utterance, store
from bserkit.corpora.audio import content_digest
from bserkit.corpora.protocols import Fold
from bserkit.experiments.networks import planned_networks
from bserkit.features.batches import BATCH_SEGMENTS, Network
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.finetuning import Sgd, trainings
from bserkit.features.preparing import prepared
from bserkit.features.training import train
from bserkit.plugins.builtin import frontends
from bserkit.plugins.builtin.backbones import Torchvision
from bserkit.plugins.builtin.channels import LeftRight, MidSide, Mono
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.progress import Silent
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

LENGTHS = (0.3, 1.0, 6.3, 0.05, 2.0, 3.3)


BOTH = (LeftRight(), MidSide())


def extraction(backbone=None, transforms=BOTH, precision="fp32"):
    backbone = backbone or Torchvision(arch="squeezenet1_1", weights="random")
    return Extraction(transforms, LogMel(), backbone, "cpu", precision)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    generator = np.random.default_rng(0)
    made = []
    for index, seconds in enumerate(LENGTHS):
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.1 * generator.normal(size=(int(16000 * seconds), 2)), 16000)
        made.append(Utterance(path, "a", "s"))
    return made


def features(utterances, what, root):
    store = FeatureStore(root)
    digests = [content_digest(utterance) for utterance in utterances]
    count = extract(pending(utterances, digests, what, store), Workspace(store))
    kept = {
        (utterance.path.name, channel): store.read_features(recipe, digest)
        for utterance, digest in zip(utterances, digests, strict=True)
        for channel, recipe in what.recipes().items()
    }
    return count, kept


def test_every_utterance_has_its_segments_in_order(utterances, tmp_path):
    count, kept = features(utterances, extraction(), tmp_path)
    assert {channel for _, channel in kept} == {"left", "right", "mid", "side"}
    expected = {f"{index}.wav": max(1, (int(16000 * s) - 512) // 160 // 30 - 1) for index, s in enumerate(LENGTHS)}
    frontend = LogMel()
    for (name, _), (made, times) in kept.items():
        seconds = LENGTHS[int(name[0])]
        segments = len(frontend.segments(torch.zeros(1, int(16000 * seconds)), 16000).times)
        assert made.shape == (segments, 512)
        assert (np.diff(times[:, 0]) > 0).all()
        assert segments >= expected[name]
    assert count == sum(len(made) for made, _ in kept.values())
    assert count > BATCH_SEGMENTS["cpu"] * 2


@pytest.mark.slow
def test_the_order_and_company_of_files_changes_no_bit(utterances, tmp_path):
    _, straight = features(utterances, extraction(), tmp_path / "straight")
    _, backwards = features(utterances[::-1], extraction(), tmp_path / "backwards")
    for index, utterance in enumerate(utterances):
        _, alone = features([utterance], extraction(), tmp_path / f"alone{index}")
        for key, (made, _) in alone.items():
            np.testing.assert_array_equal(made, straight[key][0])
            np.testing.assert_array_equal(made, backwards[key][0])


def test_a_channel_does_not_depend_on_the_others_asked(utterances, tmp_path):
    _, four = features(utterances[:2], extraction(), tmp_path / "four")
    _, two = features(utterances[:2], extraction(transforms=(MidSide(),)), tmp_path / "two")
    for key, (made, _) in two.items():
        np.testing.assert_array_equal(made, four[key][0])


@pytest.fixture
def several_threads(monkeypatch):
    """Utterances are prepared by several threads, as for a GPU."""
    monkeypatch.setattr(bserkit.features.preparing, "_PREPARING", {"cpu": 3})


@pytest.mark.parametrize("blocks", [False, True], ids=["whole", "in blocks"])
def test_several_threads_prepare_what_one_does(utterances, request, blocks):
    if blocks:
        request.getfixturevalue("small_blocks")
        request.getfixturevalue("small_chunks")
    wanted = {content_digest(one): (one, ["left", "right", "mid", "side"]) for one in utterances * 2}
    alone, own = list(prepared(wanted, extraction())), torch.get_num_threads()
    assert not blocks or len(alone) > 2 * 4 * len(utterances)
    request.getfixturevalue("several_threads")
    beside = list(prepared(wanted, extraction()))
    assert torch.get_num_threads() == own
    for ours, theirs in zip(alone, beside, strict=True):
        assert (ours.digest, ours.channel, ours.last) == (theirs.digest, theirs.channel, theirs.last)
        assert torch.equal(ours.segments.planes, theirs.segments.planes)
        assert torch.equal(ours.segments.times, theirs.segments.times)


def test_work_broken_off_sets_torchs_threads_back(utterances, several_threads):
    own = torch.get_num_threads()
    pieces = prepared({content_digest(one): (one, ["left", "right"]) for one in utterances}, extraction())
    next(pieces)
    pieces.close()
    assert torch.get_num_threads() == own


def test_a_network_one_batch_behind_gives_the_same(utterances, tmp_path, monkeypatch, several_threads):
    original, networks = Network.__init__, []

    def behind(network, way):
        original(network, way)
        network.behind = 1
        networks.append(network)

    count, straight = features(utterances, extraction(), tmp_path / "straight")
    monkeypatch.setattr(Network, "__init__", behind)
    again, late = features(utterances, extraction(), tmp_path / "late")
    assert networks
    assert again == count
    for key, (made, times) in straight.items():
        np.testing.assert_array_equal(late[key][0], made)
        np.testing.assert_array_equal(late[key][1], times)


class Joint(LogMel):
    """Takes from each channel what all channels share, as no frontend should."""

    name = "joint"

    def segments(self, waveform, sample_rate):
        return super().segments(waveform - waveform.mean(dim=0) / 2, sample_rate)

    def stream(self, blocks, sample_rate):
        return super().stream(lambda: (block - block.mean(dim=0) / 2 for block in blocks()), sample_rate)


@pytest.mark.parametrize("long", [False, True], ids=["whole", "in blocks"])
def test_no_frontend_lets_a_channel_change_another(tmp_path, monkeypatch, long):
    if long:
        monkeypatch.setattr("bserkit.features.preparing._WHOLE_FRAMES", 4096)
        monkeypatch.setattr("bserkit.features.preparing._BLOCK_FRAMES", 4096)
    path = tmp_path / "a.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, (16001, 2)), 8000)
    utterance = [Utterance(path, "a", "s")]
    for frontend in (LogMel(), Joint()):
        ways = [replace(extraction(transforms=transforms), frontend=frontend) for transforms in (BOTH, (MidSide(),))]
        (_, four), (_, two) = (
            features(utterance, way, tmp_path / way.frontend.name / str(i)) for i, way in enumerate(ways)
        )
        assert len(two) == 2
        for key, (made, times) in two.items():
            np.testing.assert_array_equal(made, four[key][0])
            np.testing.assert_array_equal(times, four[key][1])


def test_features_equal_those_of_the_obvious_loop(utterances, tmp_path):
    what = extraction()
    _, kept = features(utterances[:3], what, tmp_path)
    network = what.backbone.load("cpu")
    for utterance in utterances[:3]:
        samples, rate = soundfile.read(utterance.path, dtype="float32")
        left, right = torch.from_numpy(samples.T.copy())
        for channel, wave in {"left": left, "right": right, "mid": left + right, "side": left - right}.items():
            planes = what.frontend.segments(wave.unsqueeze(0), rate).planes[0]
            with torch.inference_mode():
                expected = network(planes)
            np.testing.assert_allclose(kept[utterance.path.name, channel][0], expected, atol=1e-4, rtol=1e-3)


def test_only_missing_features_are_computed(utterances, tmp_path):
    first, _ = features(utterances, extraction(transforms=(LeftRight(),)), tmp_path)
    again, _ = features(utterances, extraction(transforms=(LeftRight(),)), tmp_path)
    more, _ = features(utterances, extraction(), tmp_path)
    assert (again, more) == (0, first)


def test_parameter_weight_or_precision_change_the_key(utterances, tmp_path):
    recipes = [
        extraction().recipes()["left"],
        extraction(Torchvision(arch="squeezenet1_1", weights="random", seed=1)).recipes()["left"],
        extraction(Torchvision(arch="squeezenet1_1", weights="random", picture="clip")).recipes()["left"],
        extraction(precision="bf16").recipes()["left"],
        extraction().recipes()["right"],
    ]
    store = FeatureStore(tmp_path)
    assert len({store.features_path(recipe, "00") for recipe in recipes}) == len(recipes)


class Heard(Silent):
    """Keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.mark.parametrize(
    ("fastest", "precision", "named"),
    [("bf16", "fp32", "--precision bf16"), ("fp16", "fp32", "--precision fp16"), ("fp32", "fp32", ""),
     ("bf16", "bf16", "")],
)  # fmt: skip
def test_what_is_faster_is_said_where_work_is_done(utterances, tmp_path, monkeypatch, fastest, precision, named):
    monkeypatch.setattr("bserkit.features.extraction.fastest_precision", lambda device: fastest)
    way, store, heard = extraction(transforms=(Mono(),), precision=precision), FeatureStore(tmp_path), Heard()
    digests = [content_digest(utterances[0])]
    for _ in range(2):
        extract(pending(utterances[:1], digests, way, store), Workspace(store, heard))
    # Once: the second time nothing is computed.
    assert len(heard.said) == bool(named)
    assert all(named in one and "same numbers everywhere" in one for one in heard.said)


FOLDS = [Fold("rest", np.arange(2), np.arange(0))]


def two_classes(utterances):
    items = [replace(one, label=label) for one, label in zip(utterances, "ab", strict=False)]
    return SimpleNamespace(corpus=SimpleNamespace(utterances=items), digests=[content_digest(one) for one in items])


def test_what_is_faster_is_said_where_a_network_learns(utterances, tmp_path, monkeypatch):
    monkeypatch.setattr("bserkit.features.extraction.fastest_precision", lambda device: "bf16")
    heard, store, way = Heard(), FeatureStore(tmp_path), extraction(transforms=(Mono(),))
    for _ in range(2):
        planned_networks(Sgd(epochs=1), "any", way, two_classes(utterances), FOLDS, Workspace(store, heard))(
            MagicMock()
        )
    # Once: the second time the network is there.
    assert sum("--precision bf16" in one for one in heard.said) == 1


@pytest.mark.parametrize("kind", ["frozen", "tuned"])
def test_no_network_computes_in_tf32(utterances, tmp_path, kind):
    torch.backends.cudnn.conv.fp32_precision = torch.backends.cuda.matmul.fp32_precision = "tf32"
    if kind == "frozen":
        features(utterances[:1], extraction(transforms=(Mono(),)), tmp_path)
    else:
        checked = two_classes(utterances)
        (learned,) = trainings(
            Sgd(epochs=1), extraction(transforms=(Mono(),)), checked.corpus.utterances, checked.digests, FOLDS
        )
        train(learned, FeatureStore(tmp_path), lambda *_: None)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_bf16_features_agree_with_fp32_at_half_size(utterances, tmp_path):
    _, whole = features(utterances[1:2], extraction(), tmp_path)
    _, half = features(utterances[1:2], extraction(precision="bf16"), tmp_path)
    for key, (made, _) in half.items():
        exact = whole[key][0]
        assert (made.dtype, exact.dtype) == (np.float16, np.float32)
        norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(made.astype(float), axis=1)
        assert ((exact * made.astype(float)).sum(axis=1) / norms > 0.999).all()


@given(st.floats(2.0**-14, 60000.0))
def test_half_precision_holds_ordinary_bf16_values(value):
    computed = torch.tensor(value).to(torch.bfloat16).float()
    assert computed.to(torch.float16).float() == computed


class Odd(Backbone):
    name = "odd"
    output: str = "nan"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 4

    def load(self, device):
        value = float("nan") if self.output == "nan" else 1e6

        class Constant(torch.nn.Module):
            def forward(self, planes):
                return torch.full((len(planes), 1 if self.training else 4), value)

        return Constant().eval()


def test_values_that_are_not_numbers_are_refused(utterances, tmp_path):
    with pytest.raises(BserkitError, match="not numbers"):
        features(utterances[:1], extraction(Odd()), tmp_path)


def test_values_beyond_half_precision_are_kept_whole(utterances, tmp_path):
    _, kept = features(utterances[:1], extraction(Odd(output="large"), precision="bf16"), tmp_path)
    assert all((made == 1e6).all() for made, _ in kept.values())


def test_two_transforms_may_not_share_a_channel_name():
    class Other(Mono):
        name = "other"

    with pytest.raises(UsageError, match="both make a channel 'mono'"):
        extraction(transforms=(Mono(), Other())).transform_of()


class Heights(Backbone):
    """No network: the mean of each band of each plane."""

    name = "heights"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 192

    def load(self, device):
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((64, 1)), torch.nn.Flatten())


@pytest.fixture
def small_blocks(monkeypatch):
    """Sound is read 0.1 s at a time, and features gather on disk from the first kB on."""
    for size in ("_WHOLE_FRAMES", "_BLOCK_FRAMES"):
        monkeypatch.setattr(bserkit.features.preparing, size, 1601)
    monkeypatch.setattr(store, "_HELD_BYTES", 1000)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(frontends, "_CHUNK_FRAMES", 40)


def test_a_long_utterance_comes_out_the_same_in_blocks(utterances, tmp_path, small_chunks, request):
    _, whole = features(utterances, extraction(Heights()), tmp_path / "whole")
    request.getfixturevalue("small_blocks")
    _, blocks = features(utterances, extraction(Heights()), tmp_path / "blocks")
    for key, (made, times) in whole.items():
        np.testing.assert_array_equal(blocks[key][0], made)
        np.testing.assert_array_equal(blocks[key][1], times)


class Blend(ChannelTransform):
    """Each moment is blended with what came before it."""

    name = "blend"
    outputs = ("blend",)

    def transform(self, stereo):
        assert stereo.shape[1] in {16000, int(6.3 * 16000)}
        return stereo.mean(dim=0, keepdim=True).cumsum(dim=1)


def test_non_local_transforms_get_the_whole_utterance(utterances, tmp_path, small_blocks):
    what = extraction(Heights(), (Blend(), MidSide()))
    count, kept = features(utterances[1:3], what, tmp_path)
    assert count == sum(len(made) for made, _ in kept.values()) > 0


def test_a_frontend_gets_long_utterances_in_blocks(utterances, tmp_path, small_blocks, monkeypatch):
    seen = []
    original = frontends._resampled

    def watched(blocks, *rates):
        for block in original(blocks, *rates):
            seen.append(block.shape[1])
            yield block

    monkeypatch.setattr(frontends, "_resampled", watched)
    features(utterances[2:3], extraction(Heights()), tmp_path)
    # Each of four channels by itself; normalising reads it twice.
    assert max(seen) == 1601
    assert sum(seen) == 4 * 2 * int(6.3 * 16000)


def test_a_failed_extraction_leaves_no_spilled_files(utterances, tmp_path, small_blocks):
    with pytest.raises(BserkitError, match="not numbers"):
        features(utterances[2:3], extraction(Odd()), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_is_told_while_features_gather(utterances, tmp_path, small_blocks, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.Rows, "add", full)
    with pytest.raises(BserkitError, match=r"No space left on device\. Make room"):
        features(utterances[:1], extraction(Heights()), tmp_path)


def test_a_frontend_that_makes_no_segment_is_an_error(utterances, tmp_path, small_blocks):
    class Mute(LogMel):
        name = "mute"

        def stream(self, blocks, sample_rate):
            return iter(())

    what = replace(extraction(Heights()), frontend=Mute())
    with pytest.raises(BserkitError, match=r"frontend mute made no segment of .*1\.wav"):
        features(utterances[1:2], what, tmp_path)
