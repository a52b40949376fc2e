"""Waveforms go through whole or cut, and openSMILE's functionals of them are exactly those of the opensmile package."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from bserkit import Backbone, BserkitError, Frontend, Segments, UsageError, Utterance
from bserkit.corpora.audio import content_digest
from bserkit.experiments.settings import read_config, resolve
from bserkit.features import preparing
from bserkit.features.extraction import Extraction, extract, pending
from bserkit.plugins.builtin import frontends
from bserkit.plugins.builtin.channels import LeftRight, MidSide, Mono
from bserkit.plugins.builtin.frontends import LogMel, Waveform
from bserkit.plugins.builtin.opensmile import OpenSmile
from bserkit.plugins.builtin.poolers import BlockAverage, BlockMax, GlobalAverage, GlobalMax
from bserkit.plugins.registry import load_plugins
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

PLUGINS = load_plugins(outside=False)
EXAMPLES = Path(__file__).parents[2] / "examples"
LENGTHS = (1.0, 0.4, 2.3)


class Loudness(Backbone):
    """The mean, the deviation and the length of a waveform."""

    name = "loudness"
    reads = "waveform"
    sample_rate: int = 16000

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 3

    def load(self, device):
        class Moments(torch.nn.Module):
            def forward(self, waveform):
                assert waveform.shape[0] == 1
                length = torch.tensor([waveform.shape[1]], dtype=waveform.dtype)
                return torch.stack([waveform.mean(1), waveform.std(1), length], dim=1)

        return Moments().eval()


@pytest.fixture
def smile():
    opensmile = pytest.importorskip("opensmile")
    return lambda name: opensmile.Smile(opensmile.FeatureSet[name], opensmile.FeatureLevel.Functionals)


def sound(seconds, seed=0, rate=16000, level=0.2):
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    tone = np.sign(np.sin(2 * np.pi * 140 * time)) * (1 + 0.3 * np.sin(2 * np.pi * 3 * time))
    return level * np.stack([tone, 0.6 * np.roll(tone, 5)], axis=1) + generator.normal(0, 0.01, (len(time), 2))


def recorded(folder, samples, name="a.wav", rate=16000):
    soundfile.write(folder / name, samples, rate, "FLOAT")
    return Utterance(folder / name, "calm", "ann")


def features(utterances, extraction, store):
    digests = [content_digest(utterance) for utterance in utterances]
    extract(pending(utterances, digests, extraction, store), Workspace(store))
    return [
        {channel: store.read_features(recipe, digest) for channel, recipe in extraction.recipes().items()}
        for digest in digests
    ]


def resolved(**values):
    return resolve({"device": "cpu", "data": "nowhere", "corpus": "emovo"} | values, PLUGINS)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_waveform_is_one_segment_resampled_like_logmel(rate):
    waveform = torch.randn(2, rate, generator=torch.Generator().manual_seed(0))
    made = Waveform().segments(waveform, rate)
    assert made.planes.shape == (2, 1, 16000)
    assert made.times.tolist() == [[0.0, 1.0]]
    assert torch.equal(made.planes[1:], Waveform().segments(waveform[1:], rate).planes)
    at_once = LogMel(sample_rate=16000).spectrogram(waveform, rate)
    assert torch.equal(at_once, LogMel().spectrogram(made.planes[:, 0], 16000))


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize(("segment", "shift"), [(0.5, 0.0), (0.5, 0.2), (0.3, 0.3), (3.0, 1.0)])
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0, 1.234, 2.9])
def test_a_cut_waveform_is_covered_to_its_end(monkeypatch, rate, segment, shift, seconds):
    monkeypatch.setattr(frontends, "_CHUNK_SAMPLES", 6000)
    waveform = torch.randn(2, round(seconds * rate), generator=torch.Generator().manual_seed(0))
    whole = Waveform().segments(waveform, rate).planes[:, 0]
    cutting = Waveform(segment_seconds=segment, shift_seconds=shift)
    made, times = cutting.segments(waveform, rate)
    length, step, total = round(16000 * segment), round(16000 * (shift or segment)), whole.shape[1]
    starts = list(range(0, total - length + 1, step))
    if not starts or starts[-1] + length < total:
        starts.append(max(0, total - length))
    length = min(length, total)
    assert times.tolist() == [[start / 16000, (start + length) / 16000] for start in starts]
    assert torch.equal(made, torch.stack([whole[:, start : start + length] for start in starts], dim=1))
    for size in (999, 7000):
        streamed = list(cutting.stream(lambda size=size: waveform.split(size, dim=1), rate))
        assert torch.equal(torch.cat([one.planes for one in streamed], dim=1), made)
        assert torch.equal(torch.cat([one.times for one in streamed]), times)


@pytest.mark.parametrize("values", [{"segment_seconds": 1, "shift_seconds": 1.5}, {"segment_seconds": 1e-6}])
def test_a_cut_that_leaves_samples_out_is_refused(values):
    with pytest.raises(ValueError, match=r"a segment of \d+ samples every \d+ samples; expected from 1"):
        Waveform(**values)


def test_a_long_waveform_is_cut_as_it_is_read(tmp_path, monkeypatch):
    seen, held, original = [], [], frontends._windows

    class Watched(Loudness):
        name = "watched"
        batching = "equal"

        def load(self, device):
            class Moments(torch.nn.Module):
                def forward(self, waveform):
                    seen.append(tuple(waveform.shape))
                    return torch.stack([waveform.mean(1), waveform.std(1), waveform.amax(1)], dim=1)

            return Moments()

    def windows(*given):
        for window, before in original(*given):
            held.append(window.shape[-1])
            yield window, before

    monkeypatch.setattr(frontends, "_windows", windows)
    monkeypatch.setattr(frontends, "_CHUNK_SAMPLES", 8000)
    monkeypatch.setattr(preparing, "_WHOLE_FRAMES", 20000)
    monkeypatch.setattr(preparing, "_BLOCK_FRAMES", 4000)
    what = Extraction((Mono(),), Waveform(segment_seconds=0.25), Watched(), "cpu", "fp32")
    (kept,) = features([recorded(tmp_path, sound(30))], what, FeatureStore(tmp_path / "store"))
    assert len(kept["mono"][0]) == 120
    assert max(held) <= 8000 + 4000
    assert set(seen) == {(8, 4000)}


def test_any_length_and_channel_is_computed_one_by_one(tmp_path):
    utterances = [recorded(tmp_path, sound(s, seed), f"{seed}.wav") for seed, s in enumerate(LENGTHS)]
    kept = features(
        utterances,
        Extraction((LeftRight(), MidSide()), Waveform(), Loudness(), "cpu", "fp32"),
        FeatureStore(tmp_path / "store"),
    )
    for utterance, of, seconds in zip(utterances, kept, LENGTHS, strict=True):
        left, right = soundfile.read(utterance.path, dtype="float32")[0].T
        for channel, wave in {"left": left, "right": right, "mid": left + right, "side": left - right}.items():
            made, times = of[channel]
            assert times.tolist() == [[0.0, seconds]]
            np.testing.assert_allclose(made, [[wave.mean(), wave.std(ddof=1), len(wave)]], rtol=1e-4, atol=1e-6)


def test_a_concurrent_backbone_gives_features_in_order(tmp_path, monkeypatch):
    class Slow(Loudness):
        """Each of two waits for the other."""

        name = "slow"
        concurrent = True

        def load(self, device):
            made, both = super().load(device), threading.Barrier(2, timeout=20)
            made.register_forward_pre_hook(lambda *_: [both.wait()].clear())
            return made

    monkeypatch.setattr("os.cpu_count", lambda: 2)
    utterances = [recorded(tmp_path, sound(s, seed), f"{seed}.wav") for seed, s in enumerate((1.0, 0.4, 2.3, 0.7))]
    lengths = [
        of["mono"][0][0, 2]
        for of in features(
            utterances,
            Extraction((Mono(),), Waveform(), Slow(), "cpu", "fp32"),
            FeatureStore(tmp_path / "store"),
        )
    ]
    assert lengths == [16000, 6400, 36800, 11200]


def test_a_frontend_that_breaks_its_promise_is_refused(tmp_path):
    class Cut(Frontend):
        name = "cut"
        makes = "waveform"

        def segments(self, waveform, sample_rate):
            pieces = waveform.unfold(1, 1000, 1000)
            return Segments(pieces[:, :1], torch.zeros(pieces.shape[1], 2))

    with pytest.raises(
        BserkitError,
        match=r"frontend cut made waveform \(1, 1, 1000\) and times \(16, 2\) .* expected \(channel, segment, time\)",
    ):
        features(
            [recorded(tmp_path, sound(1))],
            Extraction((Mono(),), Cut(), Loudness(), "cpu", "fp32"),
            FeatureStore(tmp_path),
        )


def test_waveform_backbones_bring_their_other_stages():
    found = resolved(backbone="opensmile:sample_rate=8000")
    assert (found.extraction.frontend.spec, found.pooler.spec) == ("waveform:sample_rate=8000", "global-avg")
    assert found.extraction.precision == "fp32"
    assert resolved(backbone="opensmile", pooler="block-max").pooler.spec == "block-max"
    assert resolved(backbone="alexnet:weights=random").extraction.frontend.spec == "logmel"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"backbone": "opensmile", "frontend": "logmel"},
            "logmel makes planes, .*opensmile reads waveform.*--frontend waveform",
        ),
        (
            {"backbone": "alexnet", "frontend": "waveform"},
            "waveform makes waveform.*alexnet reads planes.*--backbone opensmile",
        ),
        ({"backbone": "opensmile", "frontend": "waveform:sample_rate=8000"}, "8000 Hz, .* reads one of 16000 Hz"),
        ({"backbone": "opensmile", "precision": "bf16"}, "reads waveforms: fp32"),
        ({"backbone": "opensmile", "finetune": "sgd"}, "--finetune learns from segments of equal length"),
    ],
    ids=["planes for waveform", "waveform for planes", "rate", "precision", "finetune"],
)
def test_unfit_stages_for_waveforms_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        resolved(**values)


@pytest.mark.parametrize("pooler", [BlockMax(), BlockAverage(), GlobalMax(), GlobalAverage()], ids=lambda one: one.name)
def test_one_segment_pools_to_itself_and_slope_zero(pooler):
    alone = np.array([[3.0, -2.0, 0.5]], dtype=np.float32)
    made = pooler.pool(alone)
    if isinstance(pooler, GlobalAverage | GlobalMax):
        assert made.tolist() == alone[0].tolist()
    else:
        assert made.tolist() == [3, 2, 0.5] * 2 + [0] * 6


@pytest.mark.parametrize(("name", "rate"), [("eGeMAPSv02", 16000), ("ComParE_2016", 16000), ("eGeMAPSv02", 48000)])
def test_stored_functionals_equal_those_of_opensmile(tmp_path, smile, name, rate):
    utterance = recorded(tmp_path, sound(1.3, rate=rate), rate=rate)
    backbone = OpenSmile(features=name)
    extraction = Extraction((Mono(), MidSide()), Waveform(), backbone, "cpu", "fp32")
    (kept,) = features([utterance], extraction, FeatureStore(tmp_path / "store"))
    stereo = torch.from_numpy(soundfile.read(utterance.path, dtype="float32")[0].T.copy())
    for channel, wave in {"mono": stereo.mean(0), "mid": stereo[0] + stereo[1], "side": stereo[0] - stereo[1]}.items():
        signal = Waveform().segments(wave[None], rate).planes[0, 0].numpy()
        expected = smile(name).process_signal(signal, 16000).to_numpy()
        assert expected.shape == (1, backbone.feature_size())
        np.testing.assert_array_equal(kept[channel][0], expected)


def test_a_silent_side_has_its_own_values_of_silence(tmp_path, smile):
    samples = sound(1.0)
    samples[:, 1] = samples[:, 0]
    extraction = Extraction((MidSide(),), Waveform(), OpenSmile(), "cpu", "fp32")
    (kept,) = features([recorded(tmp_path, samples)], extraction, FeatureStore(tmp_path / "store"))
    silence = smile("eGeMAPSv02").process_signal(np.zeros(16000, np.float32), 16000).to_numpy()
    assert np.isfinite(silence).all()
    np.testing.assert_array_equal(kept["side"][0], silence)


def test_opensmile_refuses_short_recordings_by_name(tmp_path, smile):
    extraction = Extraction((Mono(),), Waveform(), OpenSmile(), "cpu", "fp32")
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(BserkitError, match=r"channel mono of .*short\.wav.* 30 ms; it needs about 60"):
        features([recorded(tmp_path, sound(0.03), "short.wav")], extraction, store)
    (kept,) = features([recorded(tmp_path, sound(0.06), "enough.wav")], extraction, store)
    assert np.isfinite(kept["mono"][0]).all()


def test_samples_beyond_full_scale_are_limited(tmp_path, smile):
    samples = np.clip(sound(1.0, level=0.4), -1, 1)
    samples[5000:5010] = 1.2
    extraction = Extraction((Mono(),), Waveform(), OpenSmile(), "cpu", "fp32")
    (kept,) = features([recorded(tmp_path, samples)], extraction, FeatureStore(tmp_path / "store"))
    signal = np.minimum(samples.astype(np.float32).mean(axis=1), np.float32(1 - 2**-15))
    expected = smile("eGeMAPSv02").process_signal(signal, 16000).to_numpy()
    np.testing.assert_array_equal(kept["mono"][0], expected)


def test_too_loud_a_mid_is_refused_unless_gain_is_set(tmp_path, smile):
    utterance, store = recorded(tmp_path, sound(1.0, level=0.7), "loud.wav"), FeatureStore(tmp_path / "store")
    loud = Extraction((MidSide(),), Waveform(), OpenSmile(), "cpu", "fp32")
    with pytest.raises(BserkitError, match=r"channel mid of .*loud\.wav.*beyond full scale.*opensmile:gain=0\.5"):
        features([utterance], loud, store)
    (kept,) = features([utterance], Extraction((MidSide(),), Waveform(), OpenSmile(gain=0.5), "cpu", "fp32"), store)
    left, right = soundfile.read(utterance.path, dtype="float32")[0].T
    expected = smile("eGeMAPSv02").process_signal((left + right) / 2, 16000).to_numpy()
    np.testing.assert_array_equal(kept["mid"][0], expected)


def test_weights_are_named_by_version_and_config(smile):
    from importlib.metadata import version

    assert OpenSmile().weights_digest().startswith(f"opensmile {version('opensmile')}, ")
    assert len(OpenSmile().weights_digest().split()[-1]) == 64


def test_without_opensmile_the_error_names_the_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for ask in (OpenSmile().weights_digest, lambda: OpenSmile().load("cpu")):
        with pytest.raises(BserkitError, match=r"pip install 'bserkit\[opensmile\]'.*non-commercial"):
            ask()


def test_components_state_the_non_commercial_licence(cli):
    listed = cli("components", "backbone").stdout
    assert "openSMILE" in listed
    assert "non-commercial and research use only" in listed


def test_a_run_by_the_shipped_reference_configuration(run_cli, corpus, rows, lab, read_run, feature_cache, smile):
    run = run_cli("run", corpus / "manifest.csv", "--config", EXAMPLES / "opensmile-egemaps.toml", cwd=lab)
    assert run.returncode == 0, run.stderr
    params = dict(read_run(lab, run).params)
    assert (params["frontend"], params["pooler"], params["precision"]) == ("waveform", "global-avg", "fp32")
    assert params["backbone.weights_digest"] == OpenSmile().weights_digest()
    store, recipe = FeatureStore(feature_cache), Extraction((Mono(),), Waveform(), OpenSmile(), "cpu", "fp32").recipes()
    for path in [corpus / name for name, _, _ in rows[::12]]:
        kept, _ = store.read_features(recipe["mono"], content_digest(Utterance(path, "", "")))
        samples, rate = soundfile.read(path, dtype="float32")
        signal = torch.from_numpy(samples.T.copy()).mean(0).numpy()
        np.testing.assert_array_equal(kept, smile("eGeMAPSv02").process_signal(signal, rate).to_numpy())


@pytest.mark.parametrize("name", ["opensmile-egemaps", "opensmile-compare"])
def test_the_shipped_reference_configurations_resolve(name):
    found = resolved(**read_config(EXAMPLES / f"{name}.toml"))
    assert found.classifier.spec == "linear-svm:c=search"
    assert found.extraction.backbone.features.lower().startswith(name.rpartition("-")[2])
