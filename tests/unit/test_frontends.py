"""The log-mel frontend: frame and segment counts, deltas by hand, padding, normalisation (paper, section II-A)."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchaudio import functional as audio

from bserkit import Frontend, Segments
from bserkit.plugins.builtin import frontends
from bserkit.plugins.builtin.frontends import LogMel, Waveform, _interpolated, _resampled

RATE = 16000


def wave(seconds, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, int(seconds * RATE), generator=generator)


def frames_of(samples):
    return (samples - 512) // 160 + 1


def test_a_frame_is_a_hop_of_ten_milliseconds():
    assert LogMel().spectrogram(wave(1.0), RATE).shape == (1, 64, frames_of(RATE))


@pytest.mark.parametrize(("frames", "segments"), [(64, 1), (93, 1), (94, 2), (123, 2), (124, 3), (300, 8)])
def test_segments_shift_by_30_frames_and_drop_the_tail(frames, segments):
    samples = 512 + 160 * (frames - 1)
    planes, times = LogMel().segments(wave(samples / RATE), RATE)
    assert planes.shape == (1, segments, 3, 64, 64)
    assert times.shape == (segments, 2)


def test_default_segment_counts_are_those_of_the_paper():
    # 5,141 segments of 723 clips are 7.1 a clip; a clip of 2.5 s makes 7.
    assert LogMel().segments(wave(2.5), RATE).planes.shape[1] == 7


def test_times_are_the_seconds_that_a_segment_covers():
    times = LogMel().segments(wave(2.0), RATE).times
    assert times[0].tolist() == pytest.approx([0.0, 0.655])
    assert times[1].tolist() == pytest.approx([0.3, 0.955])


def test_short_utterances_are_padded_with_last_frame():
    frontend = LogMel(normalise="none")
    short = wave(0.3)
    planes = frontend.segments(short, RATE).planes
    assert planes.shape == (1, 1, 3, 64, 64)
    made = frontend.planes(frontend.spectrogram(short, RATE))
    frames = made.shape[-1]
    assert torch.equal(planes[0, 0, :, :, :frames], made[0])
    assert torch.equal(planes[0, 0, :, :, frames:], made[0, :, :, -1:].expand(-1, -1, 64 - frames))


def test_one_window_of_sound_is_enough_for_a_segment():
    planes = LogMel().segments(wave(0.025), RATE).planes
    assert planes.shape == (1, 1, 3, 64, 64)
    assert torch.isfinite(planes).all()


def test_deltas_are_regressions_with_repeated_ends():
    static = torch.tensor([1.0, 2.0, 4.0, 3.0, -5.0]).expand(1, 2, 5)

    def regression(values):
        padded = [values[0]] * 2 + values + [values[-1]] * 2
        return [(padded[t + 3] - padded[t + 1] + 2 * (padded[t + 4] - padded[t])) / 10 for t in range(len(values))]

    first = regression([1.0, 2.0, 4.0, 3.0, -5.0])
    planes = LogMel(normalise="none").planes(static)
    torch.testing.assert_close(planes[0, 1, 0], torch.tensor(first))
    torch.testing.assert_close(planes[0, 2, 1], torch.tensor(regression(first)))


def test_deltas_span_the_utterance_before_it_is_cut():
    frontend = LogMel(normalise="none")
    waveform = wave(1.5)
    planes = frontend.planes(frontend.spectrogram(waveform, RATE))
    second = frontend.segments(waveform, RATE).planes[0, 1]
    assert torch.equal(second, planes[0, :, :, 30:94])


def test_a_tone_peaks_in_the_mel_band_that_holds_it():
    time = torch.arange(RATE) / RATE
    mel = LogMel().spectrogram(torch.sin(2 * math.pi * 1000 * time).unsqueeze(0), RATE)[0].mean(dim=1)

    def to_mel(hertz):
        return 2595 * math.log10(1 + hertz / 700)

    edges = torch.linspace(to_mel(20), to_mel(8000), 66)
    nearest = (edges[1:-1] - to_mel(1000)).abs().argmin()
    assert mel.argmax() == nearest


def test_silence_has_the_log_of_the_offset_everywhere():
    mel = LogMel(log_offset=1e-3).spectrogram(torch.zeros(1, RATE), RATE)
    torch.testing.assert_close(mel, torch.full_like(mel, math.log(1e-3)))


def test_planes_are_scaled_per_utterance_and_channel():
    frontend = LogMel()
    both = torch.cat([wave(1.2, seed=1), 0.01 * wave(1.2, seed=2)])
    planes = frontend.planes(frontend.spectrogram(both, RATE))
    torch.testing.assert_close(planes.mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(planes.std(dim=(2, 3), correction=0), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_a_silent_channel_becomes_zero_not_noise():
    planes = LogMel().segments(torch.zeros(1, RATE), RATE).planes
    assert not planes.any()


RATES = (8000, 11025, 16000, 22050, 44100, 48000)


@settings(max_examples=12)
@given(st.integers(0, 2**16), st.integers(300, 20000), st.integers(2, 4), st.sampled_from(RATES))
def test_channels_together_are_bit_for_bit_those_alone(seed, samples, channels, rate):
    signal = 0.1 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))
    for frontend in (LogMel(), Waveform()):
        together = frontend.segments(signal, rate).planes
        for made, one in zip(together, signal, strict=True):
            assert torch.equal(made, frontend.segments(one[None], rate).planes[0])


@pytest.mark.parametrize("rate", RATES)
def test_channels_together_equal_each_alone_exactly(small_chunks, rate):
    signal = 0.1 * torch.randn(3, 2 * rate + 1, generator=torch.Generator().manual_seed(rate))
    for frontend in (LogMel(), Waveform()):
        together = frontend.segments(signal, rate).planes
        for made, one in zip(together, signal, strict=True):
            assert torch.equal(made, frontend.segments(one[None], rate).planes[0])


def test_where_a_signal_lies_in_memory_changes_no_bit():
    signal = wave(1.0)
    for shift in (1, 3, 8, 17):
        moved = torch.cat([torch.zeros(1, shift), signal], dim=1)[:, shift:]
        assert torch.equal(LogMel().segments(moved, 8000).planes, LogMel().segments(signal, 8000).planes)


def test_recordings_at_other_rates_are_resampled():
    time = torch.arange(48000) / 48000
    tone = torch.sin(2 * math.pi * 440 * time).unsqueeze(0)
    at_48, at_16 = LogMel().spectrogram(tone, 48000), LogMel().spectrogram(tone[:, ::3], RATE)
    assert at_48.shape == at_16.shape
    loud = at_16 > at_16.max() - 5
    torch.testing.assert_close(at_48[loud], at_16[loud], atol=0.05, rtol=0)


@pytest.mark.parametrize("wrong", [{"high_hz": 9000}, {"low_hz": 8000}, {"fft_size": 256}, {"shift_frames": 0}])
def test_settings_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValidationError):
        LogMel(**wrong)


OPTIONS = [
    {},
    {"normalise": "none", "delta_reach": 4},
    {"segment_frames": 20, "shift_frames": 33},
    {"hop_ms": 40.0, "shift_frames": 7},
    {"sample_rate": 22050, "window_ms": 20.0, "mels": 20},
]


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks so small that a short signal has many."""
    monkeypatch.setattr(frontends, "_CHUNK_FRAMES", 20)
    monkeypatch.setattr(frontends, "_CHUNK_SAMPLES", 7000)


def pieces_of(signal, seed):
    """Cut a signal into blocks of all sizes, one sample among them."""
    generator = torch.Generator().manual_seed(seed)
    bounds = torch.randint(1, signal.shape[1], (7,), generator=generator).sort().values.tolist()
    bounds = sorted({0, *bounds, bounds[0] + 1, signal.shape[1]})
    return [signal[:, start:end] for start, end in itertools.pairwise(bounds)]


def streamed(frontend, signal, rate, seed):
    made = list(frontend.stream(lambda: iter(pieces_of(signal, seed)), rate))
    return Segments(torch.cat([one.planes for one in made], dim=1), torch.cat([one.times for one in made])), len(made)


@pytest.mark.parametrize(
    ("options", "rate"), [(OPTIONS[0], 8000), (OPTIONS[0], 48000), *itertools.product(OPTIONS, (16000, 44100))], ids=str
)
def test_streamed_segments_equal_the_whole_exactly(small_chunks, options, rate):
    frontend = LogMel(**options)
    for seed, seconds in enumerate((0.011, 0.4, 2.7181)):
        signal = 0.1 * torch.randn(2, int(seconds * rate) | 1, generator=torch.Generator().manual_seed(seed))
        whole = frontend.segments(signal, rate)
        blocks, pieces = streamed(frontend, signal, rate, seed)
        assert torch.equal(blocks.planes, whole.planes)
        assert torch.equal(blocks.times, whole.times)
        assert pieces > 1 or whole.planes.shape[1] < 4


def test_blocks_of_every_size_give_the_same_bits(small_chunks):
    signal, frontend = wave(0.6), LogMel(segment_frames=10, shift_frames=4)
    whole = frontend.segments(signal, RATE).planes
    for size in (1, 159, 160, 161, 511, 513, 3199, 3200, 9599):
        made = list(frontend.stream(lambda size=size: signal.split(size, dim=1), RATE))
        assert torch.equal(torch.cat([one.planes for one in made], dim=1), whole)


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("normalise", ["utterance", "none"])
def test_chunks_change_no_more_than_the_last_digit(small_chunks, rate, normalise):
    signal = 0.1 * torch.randn(2, 3 * rate + 1, generator=torch.Generator().manual_seed(0))
    frontend = LogMel(normalise=normalise)
    planes = audio.resample(signal, rate, RATE) if rate != RATE else signal
    power = audio.spectrogram(planes, 0, torch.hamming_window(400), 512, 160, 400, 2.0, False, center=False)
    mel = torch.log(audio.melscale_fbanks(257, 20, 8000, 64, RATE).T @ power + 1e-6)
    delta = audio.compute_deltas(mel)
    planes = torch.stack([mel, delta, audio.compute_deltas(delta)], dim=1)
    if normalise == "utterance":
        deviation, mean = torch.std_mean(planes, dim=(2, 3), keepdim=True, correction=0)
        planes = (planes - mean) / deviation
    expected = planes.unfold(-1, 64, 30).permute(0, 3, 1, 2, 4)
    torch.testing.assert_close(frontend.segments(signal, rate).planes, expected, atol=1e-4, rtol=1e-4)


def test_a_frontend_without_streaming_gets_the_whole():
    class Whole(Frontend):
        name = "whole"

        def segments(self, waveform, sample_rate):
            return Segments(waveform[:, None, None, None], torch.tensor([[0.0, waveform.shape[1] / sample_rate]]))

    signal = wave(0.1, channels=2)
    (made,) = Whole().stream(lambda: iter(signal.split(100, dim=1)), RATE)
    assert torch.equal(made.planes[:, 0, 0, 0], signal)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_segments_are_made_where_the_waveform_is():
    signal = wave(1.0, channels=2)
    made = LogMel().segments(signal.cuda(), RATE).planes
    assert made.is_cuda
    torch.testing.assert_close(made.cpu(), LogMel().segments(signal, RATE).planes, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("rates", [(44100, 16000), (8000, 16000), (96000, 22050), (11025, 16000)])
def test_the_filter_without_a_table_is_torchaudios(rates):
    common = math.gcd(*rates)
    waveform = torch.randn(1, 3000, generator=torch.Generator().manual_seed(0))
    made = _interpolated(waveform, rates[0] // common, rates[1] // common)
    expected = audio.resample(waveform.double(), *rates)
    assert made.shape == expected.shape
    torch.testing.assert_close(made.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rate", [16001, 44099, 15999, 191999])
def test_rates_with_little_in_common_take_no_longer(rate):
    time = torch.arange(rate, dtype=torch.float64) / rate
    tone = torch.sin(2 * torch.pi * 1000 * time).float()[None]
    made = Waveform().segments(tone, rate).planes[0, 0]
    wanted = torch.sin(2 * torch.pi * 1000 * torch.arange(16000, dtype=torch.float64) / 16000).float()
    assert made.shape == wanted.shape
    torch.testing.assert_close(made[200:-200], wanted[200:-200], atol=2e-3, rtol=0)
    # In blocks as at once, bit for bit.
    assert torch.equal(
        *(torch.cat(list(_resampled(blocks, rate, 16000)), -1) for blocks in ([tone], tone.split(999, 1)))
    )
