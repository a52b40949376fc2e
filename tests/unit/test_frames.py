"""A backbone may make a vector a frame; waveforms of like length go through together, and none changes another."""

import numpy as np
import pytest
import soundfile
import torch

from bserkit import Backbone, BserkitError, Frontend, Segments, UsageError, Utterance
from bserkit.corpora.audio import content_digest
from bserkit.corpora.checking import Checked
from bserkit.corpora.reading import Corpus
from bserkit.features import batches
from bserkit.features.batches import padded_length
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.features.finetuning import Sgd
from bserkit.features.training import check_trainable
from bserkit.learning.pooled import pool_features
from bserkit.plugins.builtin.channels import LeftRight, Mono
from bserkit.plugins.builtin.frontends import LogMel, Waveform
from bserkit.plugins.builtin.poolers import BlockMax
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

WINDOW, HOP = 400, 320
LENGTHS = (0.25, 0.1, 0.25, 0.31, 0.1, 0.25, 1.3, 0.3)


class Strided(Backbone):
    """One convolution and one matrix over a waveform, as a network of speech begins: a vector every 20 ms."""

    name = "strided"
    reads = "waveform"
    batching = "equal"
    sample_rate: int = 16000
    seed: int = 0

    def weights_digest(self):
        return f"seed {self.seed}"

    def feature_size(self):
        return 8

    def frame_bounds(self, length):
        starts = HOP * np.arange((length - WINDOW) // HOP + 1)
        return np.stack([starts, starts + WINDOW], axis=1)

    def load(self, device):
        return Convolved(self.seed)


class Convolved(torch.nn.Module):
    """Notes the shapes of what it is given."""

    def __init__(self, seed):
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.register_buffer("kernels", torch.randn(32, 1, WINDOW, generator=drawn))
        self.register_buffer("mixture", torch.randn(32, 8, generator=drawn))
        self.shapes = []

    def forward(self, waveform):
        self.shapes.append(tuple(waveform.shape))
        filtered = torch.nn.functional.conv1d(waveform[:, None], self.kernels, stride=HOP)
        return filtered.relu().transpose(1, 2) @ self.mixture


class Masked(Strided):
    """The same, and what it makes of a frame depends on all of its waveform: on its mean."""

    name = "masked"
    batching = "masked"

    def load(self, device):
        class Levelled(Convolved):
            def forward(self, waveform, mask):
                mean = (waveform * mask).sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True)
                return super().forward((waveform + 10 * mean) * mask)

        return Levelled(self.seed)


class Single(Strided):
    """The same, one at a time."""

    name = "single"
    batching = "one"


class Pieces(Frontend):
    """Cuts half a second every quarter of one."""

    name = "pieces"
    makes = "waveform"
    shift: int = 4000

    def segments(self, waveform, sample_rate):
        cut = waveform.unfold(1, 8000, self.shift)
        starts = torch.arange(cut.shape[1], dtype=torch.float64) * self.shift / sample_rate
        return Segments(cut, torch.stack([starts, starts + 0.5], dim=1))


class Columns(Backbone):
    """Reads planes, and gives a vector of every eight columns."""

    name = "columns"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 64

    def frame_bounds(self, length):
        return np.arange(0, length, 8)[:, None] + [[0, 8]]

    def load(self, device):
        class Means(torch.nn.Module):
            def forward(self, planes):
                return planes[:, 0].unfold(2, 8, 8).mean(-1).transpose(1, 2)

        return Means()


def recorded(folder, lengths=LENGTHS):
    made = []
    for number, seconds in enumerate(lengths):
        path = folder / f"{number}.wav"
        sound = 0.1 * np.random.default_rng(number).normal(0.01, 1, (round(16000 * seconds), 2))
        soundfile.write(path, sound, 16000, "FLOAT")
        made.append(Utterance(path, "ab"[number % 2], f"s{number}"))
    return made


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return recorded(tmp_path_factory.mktemp("speech"))


def way(backbone, frontend=None, transforms=None):
    return Extraction(transforms or (LeftRight(),), frontend or Waveform(), backbone, "cpu", "fp32")


def features(utterances, what, folder):
    """Return what is kept, by file and channel, and the shapes that the network was given."""
    store = FeatureStore(folder)
    digests = [content_digest(one) for one in utterances]
    work = pending(utterances, digests, what, store)
    count = extract(work, Workspace(store))
    kept = {
        (utterance.path.name, channel): store.read_features(recipe, digest)
        for utterance, digest in zip(utterances, digests, strict=True)
        for channel, recipe in what.recipes().items()
    }
    assert count == sum(len(made) for made, _ in kept.values())
    assert all(len(made) == len(times) for made, times in kept.values())
    return kept, getattr(work.network.module, "shapes", [])


def wave_of(utterance, channel=0):
    return torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0].T.copy())[channel : channel + 1]


@pytest.mark.parametrize("backbone", [Single(), Strided(), Masked()], ids=lambda one: one.name)
def test_each_frame_is_kept_with_its_times(utterances, tmp_path, backbone):
    kept, _ = features(utterances, way(backbone), tmp_path)
    for utterance in utterances:
        for channel, name in enumerate(("left", "right")):
            made, times = kept[utterance.path.name, name]
            wave = wave_of(utterance, channel)
            given = (wave, torch.ones_like(wave, dtype=torch.bool))[: 1 + (backbone.batching == "masked")]
            np.testing.assert_allclose(made, backbone.load("cpu")(*given)[0], rtol=1e-4, atol=1e-4)
            starts = 0.02 * np.arange((wave.shape[1] - WINDOW) // HOP + 1)
            np.testing.assert_allclose(times, np.stack([starts, starts + 0.025], axis=1), atol=1e-12)


@pytest.mark.parametrize("backbone", [Strided(), Masked()], ids=lambda one: one.name)
@pytest.mark.parametrize("frontend", [Waveform(), Pieces()], ids=lambda one: one.name)
def test_no_bit_depends_on_what_comes_along(tmp_path, backbone, frontend):
    utterances = recorded(tmp_path, (*LENGTHS, 2.0) if frontend.name == "waveform" else (0.6, 1.3, 0.5, 2.1))
    together, shapes = features(utterances, way(backbone, frontend), tmp_path / "together")
    backwards, _ = features(utterances[::-1], way(backbone, frontend), tmp_path / "backwards")
    assert max(rows for rows, _ in shapes) > 2
    for utterance in utterances:
        alone, _ = features([utterance], way(backbone, frontend), tmp_path / utterance.path.stem)
        for key, (made, times) in alone.items():
            for other in (together, backwards):
                np.testing.assert_array_equal(other[key][0], made)
                np.testing.assert_array_equal(other[key][1], times)


def test_waveforms_of_one_length_go_together(utterances, tmp_path):
    _, shapes = features(utterances, way(Strided()), tmp_path)
    # 2 channels of 3 of 0.25 s, 2 of 0.1 s, and one each of 0.31, 1.3 and 0.3 s; 2**15 samples at a time.
    assert sorted(shapes) == [(1, 20800), (1, 20800), (6, 4800), (6, 4960), (8, 4000), (20, 1600)]


def test_waveforms_of_like_length_go_together_by_mask(utterances, tmp_path):
    _, shapes = features(utterances, way(Masked()), tmp_path)
    # 0.31 and 0.3 s are both filled up to 5120 samples.
    assert sorted(shapes) == [(1, 20800), (1, 20800), (6, 5120), (8, 4096), (19, 1664)]


@pytest.mark.parametrize("length", [1, 7, 16, 17, 1000, 15999, 16000, 16001, 57_600_000])
def test_filling_up_adds_an_eighth_at_most(length):
    padded = padded_length(length)
    assert length <= padded <= length * 9 / 8
    assert padded_length(padded) == padded


def test_a_rare_length_does_not_hold_up_the_others(tmp_path, monkeypatch):
    begun, filling = [], []
    original = batches._Line._start

    def watched(line, shape):
        filling.append(len(line._filling))
        begun.append(shape)
        original(line, shape)

    monkeypatch.setattr(batches._Line, "_start", watched)
    monkeypatch.setattr(batches, "_PATIENCE", 3)
    lengths = [0.1, *(0.2 + 0.01 * number for number in range(12)), *[0.1] * 3]
    features(recorded(tmp_path, lengths), way(Strided(), transforms=(Mono(),)), tmp_path / "store")
    # The first goes before it is full, when the fifth length begins; those that are left go at the end.
    assert begun[0] == (20, 1600)
    assert len(begun) == 14
    assert max(filling) == 4


def test_frames_of_cut_segments_come_by_time(tmp_path):
    (utterance,) = recorded(tmp_path, [1.1])
    kept, shapes = features([utterance], way(Strided(), Pieces()), tmp_path / "store")
    assert set(shapes) == {(4, 8000)}
    made, times = kept["0.wav", "left"]
    starts = np.concatenate([first + 0.02 * np.arange(24) for first in (0, 0.25, 0.5)])
    wave = wave_of(utterance)
    expected = torch.cat([Convolved(0)(wave[:, first : first + 8000])[0] for first in (0, 4000, 8000)])
    # Segments overlap by half.
    order = np.argsort(starts, kind="stable")
    assert (np.diff(order) != 1).any()
    np.testing.assert_allclose(times, np.stack([starts, starts + 0.025], axis=1)[order], atol=1e-12)
    np.testing.assert_allclose(made, expected[order], rtol=1e-4, atol=1e-4)


def test_columns_of_planes_have_their_share_of_time(tmp_path):
    (utterance,) = recorded(tmp_path, [1.3])
    kept, _ = features([utterance], way(Columns(), LogMel()), tmp_path / "store")
    planes, of_segments = LogMel().segments(wave_of(utterance), 16000)
    made, times = kept["0.wav", "left"]
    assert made.shape == (8 * planes.shape[1], 64)
    expected = planes[0, :, 0].unflatten(2, (8, 8)).mean(-1).transpose(1, 2).flatten(0, 1)
    starts = (of_segments[:, :1] + 0.655 / 8 * torch.arange(8)).flatten().numpy()
    order = np.argsort(starts, kind="stable")
    np.testing.assert_allclose(made, expected[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(times, np.stack([starts, starts + 0.655 / 8], axis=1)[order], atol=1e-12)


def test_block_max_pools_frames(utterances, tmp_path):
    digests = tuple(content_digest(one) for one in utterances)
    checked = Checked(Corpus(utterances[0].path.parent, None, tuple(utterances), ()), digests, (), ())
    what, store = way(Strided()), FeatureStore(tmp_path)
    views = pool_features(checked, what, BlockMax(), Workspace(store))
    for row, digest in enumerate(digests):
        frames, _ = store.read_features(what.recipes()["left"], digest)
        np.testing.assert_array_equal(views.features["left"][row], BlockMax().pool(frames))
    assert views.features["left"].shape == (len(utterances), 32)


@pytest.mark.parametrize("mode", ["layer_norm", "group_norm"])
def test_a_wav2vec2_is_such_a_network(utterances, tmp_path, mode):
    from torchaudio.models import wav2vec2_model

    layers = [(8, 10, 5), *[(8, 3, 2)] * 4, *[(8, 2, 2)] * 2]

    class Wav2Vec2(Strided):
        name = "wav2vec2"
        # Group normalisation looks at the filling too.
        batching = "masked" if mode == "layer_norm" else "equal"

        def feature_size(self):
            return 16

        def load(self, device):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                whole = wav2vec2_model(
                    extractor_mode=mode,
                    extractor_conv_layer_config=layers,
                    extractor_conv_bias=True,
                    encoder_embed_dim=16,
                    encoder_projection_dropout=0.0,
                    encoder_pos_conv_kernel=16,
                    encoder_pos_conv_groups=4,
                    encoder_num_layers=2,
                    encoder_num_heads=2,
                    encoder_attention_dropout=0.0,
                    encoder_ff_interm_features=32,
                    encoder_ff_interm_dropout=0.0,
                    encoder_dropout=0.0,
                    encoder_layer_norm_first=mode == "layer_norm",
                    encoder_layer_drop=0.0,
                    aux_num_out=None,
                )

            class Hidden(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.whole, self.shapes = whole, []

                def forward(self, waveform, mask=None):
                    self.shapes.append(tuple(waveform.shape))
                    return self.whole(waveform, None if mask is None else mask.sum(dim=1))[0]

            return Hidden().eval()

    kept, shapes = features(utterances, way(Wav2Vec2()), tmp_path)
    assert len(shapes) < 2 * len(utterances)
    network = Wav2Vec2().load("cpu")
    for utterance in utterances:
        with torch.inference_mode():
            alone = network(wave_of(utterance))[0]
        np.testing.assert_allclose(kept[utterance.path.name, "left"][0], alone, rtol=1e-4, atol=1e-5)


class Wrong(Strided):
    """Says one thing and makes another."""

    name = "wrong"
    what: str

    def frame_bounds(self, length):
        bounds = super().frame_bounds(length)
        return {
            "list": bounds.tolist(),
            "starts": bounds[:, 0],
            "backwards": bounds[::-1],
            "ends first": bounds[:, ::-1],
            "negative": bounds - 1,
            "beyond": bounds + HOP,
            "nan": bounds * np.nan,
            "too short": bounds[:0],
            "more": np.repeat(bounds, 2, axis=0),
            "none": None,
        }.get(self.what, bounds)

    def load(self, device):
        network = super().load(device)
        if self.what == "not numbers":
            network.mixture[0] = torch.nan
        if self.what == "refuses":
            network.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(BserkitError("it is too loud.")))
        return network


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            "list",
            r" has frame_bounds\(4000\) list of list of 0, 400, .* for channel left of .*0\.wav; expected \(frame, 2\)",
        ),
        ("starts", r" has frame_bounds\(4000\) int64 \(12,\) for channel left of .*0\.wav; expected \(frame, 2\)"),
        ("backwards", r" for channel left of .*0\.wav; expected each frame's start"),
        ("ends first", r" for channel left of .*0\.wav; expected each frame's start"),
        ("negative", r" for channel left of .*0\.wav; expected each frame's start"),
        ("nan", r" float64 \(12, 2\) with 24 values .* for channel left of .*0\.wav; expected each frame's start"),
        ("beyond", r" expected ends within the segment, but one is 4240\."),
        ("too short", r" int64 \(0, 2\) for channel left of .*0\.wav: it is too short .* Leave it out\."),
        ("more", r" made float32 \(8, 12, 8\) .*0\.wav; expected \(segment, frame, feature\) = \(8, 24, 8\), as frame"),
        ("none", r" made float32 \(8, 12, 8\) .*0\.wav; expected \(segment, feature\) = \(8, 8\), as feature_size"),
        ("not numbers", r" made values that are not numbers of channel left of .*0\.wav"),
        ("refuses", r", channel left of .*0\.wav and others: it is too loud\."),
    ],
)
def test_what_a_backbone_says_of_frames_is_checked(utterances, tmp_path, what, said):
    with pytest.raises(BserkitError, match=r"^backbone wrong.*" + said):
        features(utterances[:3:2], way(Wrong(what=what)), tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_fewer_frames_of_what_is_filled_up_are_refused(utterances, tmp_path):
    class Shrinking(Masked):
        name = "shrinking"

        def frame_bounds(self, length):
            bounds = super().frame_bounds(length)
            return bounds if length % 1024 else bounds[:3]

        def load(self, device):
            network = super().load(device)
            network.register_forward_hook(lambda _, __, made: made[:, :3])
            return network

    with pytest.raises(BserkitError, match=r"shrinking has frame_bounds\(\) of 12 frames for .*0\.wav, but of 3 once"):
        features(utterances[:1], way(Shrinking()), tmp_path)


def test_frames_cannot_be_fine_tuned():
    with pytest.raises(UsageError, match=r"--finetune learns from one vector a segment, but backbone columns makes"):
        check_trainable(Sgd(), Columns())
