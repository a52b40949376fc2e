"""The log-mel frontend: frame and segment counts, deltas by hand, padding, normalisation (paper, section II-A)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bserkit.builtin.frontends import LogMel

RATE = 16000


def wave(seconds, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, int(seconds * RATE), generator=generator)


def frames_of(samples):
    return (samples - 512) // 160 + 1


def test_a_frame_is_a_hop_of_ten_milliseconds():
    assert LogMel().spectrogram(wave(1.0), RATE).shape == (1, 64, frames_of(RATE))


@pytest.mark.parametrize(("frames", "segments"), [(64, 1), (93, 1), (94, 2), (123, 2), (124, 3), (300, 8)])
def test_segments_shift_by_thirty_frames_and_drop_the_tail(frames, segments):
    samples = 512 + 160 * (frames - 1)
    planes, times = LogMel().segments(wave(samples / RATE), RATE)
    assert planes.shape == (1, segments, 3, 64, 64)
    assert times.shape == (segments, 2)


def test_the_default_counts_are_those_of_the_paper_for_clips_of_its_length():
    # 5,141 segments of 723 clips are 7.1 a clip; a clip of 2.5 s makes 7.
    assert LogMel().segments(wave(2.5), RATE).planes.shape[1] == 7


def test_times_are_the_seconds_that_a_segment_covers():
    times = LogMel().segments(wave(2.0), RATE).times
    assert times[0].tolist() == pytest.approx([0.0, 0.655])
    assert times[1].tolist() == pytest.approx([0.3, 0.955])


def test_an_utterance_shorter_than_a_segment_is_filled_up_with_its_last_frame():
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


def test_deltas_are_regressions_over_five_frames_with_repeated_ends_and_delta_delta_is_theirs():
    static = torch.tensor([1.0, 2.0, 4.0, 3.0, -5.0]).expand(1, 2, 5)

    def regression(values):
        padded = [values[0]] * 2 + values + [values[-1]] * 2
        return [(padded[t + 3] - padded[t + 1] + 2 * (padded[t + 4] - padded[t])) / 10 for t in range(len(values))]

    first = regression([1.0, 2.0, 4.0, 3.0, -5.0])
    planes = LogMel(normalise="none").planes(static)
    torch.testing.assert_close(planes[0, 1, 0], torch.tensor(first))
    torch.testing.assert_close(planes[0, 2, 1], torch.tensor(regression(first)))


def test_deltas_span_the_whole_utterance_before_it_is_cut():
    frontend = LogMel(normalise="none")
    waveform = wave(1.5)
    planes = frontend.planes(frontend.spectrogram(waveform, RATE))
    second = frontend.segments(waveform, RATE).planes[0, 1]
    assert torch.equal(second, planes[0, :, :, 30:94])


def test_log_mel_power_of_a_tone_peaks_in_the_band_that_holds_it():
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


def test_each_plane_is_normalised_over_its_own_utterance_and_channel():
    frontend = LogMel()
    both = torch.cat([wave(1.2, seed=1), 0.01 * wave(1.2, seed=2)])
    planes = frontend.planes(frontend.spectrogram(both, RATE))
    torch.testing.assert_close(planes.mean(dim=(2, 3)), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(planes.std(dim=(2, 3), correction=0), torch.ones(2, 3), atol=1e-4, rtol=0)


def test_a_silent_channel_becomes_zero_rather_than_noise():
    planes = LogMel().segments(torch.zeros(1, RATE), RATE).planes
    assert not planes.any()


@settings(max_examples=10)
@given(st.integers(0, 2**16), st.floats(0.03, 2.0))
def test_a_channel_comes_out_as_it_would_alone(seed, seconds):
    both = wave(seconds, channels=2, seed=seed)
    together = LogMel().segments(both, RATE).planes
    torch.testing.assert_close(together[1:], LogMel().segments(both[1:], RATE).planes)


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
