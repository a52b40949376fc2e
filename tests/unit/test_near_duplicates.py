"""Recordings are alike where they hold the same sound, not where they sound the same."""

import numpy as np
import pytest
from scipy.signal import butter, resample_poly, sosfilt

from bserkit.corpora.audit.near_duplicates import Fingerprinting, fingerprint, near_duplicates

RATE = 16000
TIME = np.arange(2 * RATE) / RATE


def voice(seed, seconds=3.0):
    """Sound that changes all the time, as speech does: partials that glide and swell."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    sound = 0.001 * generator.normal(size=len(time))
    for _ in range(12):
        frequency = generator.uniform(300, 3000) * (1 + 0.3 * np.sin(2 * np.pi * generator.uniform(1, 6) * time))
        loudness = np.maximum(0, np.sin(2 * np.pi * generator.uniform(0.5, 5) * time + generator.uniform(0, 6)))
        sound += 0.03 * loudness * np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    return sound


def take(seed, falls_hz):
    """The same vowel sung again: formants, swell and fall are shared, jitter, phases and noise are not."""
    generator = np.random.default_rng(seed)
    pitch = 180 - falls_hz * TIME / 2 + 2 * np.interp(TIME, np.linspace(0, 2, 8), generator.normal(size=8))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros_like(TIME)
    for harmonic in range(1, 16):
        loudness = sum(np.exp(-(((180 * harmonic - formant) / 450) ** 2)) for formant in (600, 1800))
        sound += loudness * np.cos(harmonic * phase + generator.uniform(0, 6))
    sound = np.pad(sound * np.sin(np.pi * TIME / 2), (3200 + generator.integers(800), 8000))
    return sound + 0.03 * np.std(sound) * generator.normal(size=len(sound))


#: What stands after speech in many recordings of one microphone, ``(time,)``.
TAILS = {
    "silence": np.zeros_like(TIME),
    "offset": np.where(TIME < 1, 0, -1 / 32767),
    "quiet hum": 1.4 / 32767 * np.sin(2 * np.pi * 50 * TIME),
    "hum": sum(0.003 / harmonic * np.sin(2 * np.pi * 50 * harmonic * TIME) for harmonic in range(1, 40)),
    "steps": np.round(1.2 * np.sin(2 * np.pi * TIME)) / 32767,
}


def prints(sounds, rate=RATE):
    return [fingerprint(sound[None], rate) for sound in sounds]


def pairs(found):
    return [(one.first, one.second) for one in found]


@pytest.mark.parametrize("tail", TAILS)
def test_what_is_common_but_quiet_is_no_near_duplicate(tail):
    bursts = (0.2 * np.random.default_rng(seed).normal(size=RATE) * np.hanning(RATE) for seed in range(12))
    recordings = [np.round(32767 * np.concatenate([burst, TAILS[tail]])) / 32767 for burst in bursts]
    assert near_duplicates(prints(recordings)) == []


@pytest.mark.parametrize("falls_hz", [0, 10, 40])
def test_another_take_is_no_near_duplicate(falls_hz):
    assert near_duplicates(prints([take(seed, falls_hz) for seed in range(12)])) == []


def test_different_sounds_are_not_alike():
    assert near_duplicates(prints([voice(seed) for seed in range(12)])) == []


def noisy(sound):
    return sound + 0.1 * np.std(sound) * np.random.default_rng(9).normal(size=len(sound))


@pytest.mark.parametrize(
    "change",
    [
        lambda sound: sound[93:],
        lambda sound: 0.03 * sound,
        lambda sound: -sound[5000:40000],
        lambda sound: np.round(sound * 127) / 127,
        lambda sound: sosfilt(butter(6, 3400, fs=RATE, output="sos"), sound),
        lambda sound: noisy(sound[1234:]),
        lambda sound: np.concatenate([voice(77), sound, np.zeros(RATE)]),
    ],
    ids=["half a hop later", "quieter", "cut and inverted", "8 bits", "low pass", "noise", "between other sound"],
)
def test_a_changed_copy_is_found(change):
    found = near_duplicates(prints([voice(5), voice(6), change(voice(5))]))
    assert pairs(found) == [(0, 2)]
    assert found[0].share > 0.8


def test_a_sound_is_like_its_own_cut_at_another_rate():
    whole = voice(5)
    (found,) = near_duplicates([*prints([whole]), *prints([whole[8000:40000:2]], RATE // 2)])
    assert found.share > 0.8


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 44100, 48000])
def test_a_fingerprint_is_the_same_in_blocks(rate):
    samples = np.stack([voice(3), voice(4)])
    whole, making = fingerprint(samples, rate), Fingerprinting(rate)
    for start in range(0, samples.shape[1], 1000):
        making.add(samples[:, start : start + 1000])
    made = making.finish()
    assert len(made) == len(whole) > 0
    assert (made.words == whole.words).mean() > 0.99
    assert (made.signs == whole.signs).mean() > 0.99


def test_blocks_are_resampled_as_the_whole_is():
    # A frame's time must not drift: the copy at another rate, in blocks of odd sizes, is the same from end to end.
    whole = voice(8, seconds=20.0)
    making = Fingerprinting(44100)
    there = resample_poly(whole, 441, 160)
    for start in range(0, len(there), 7777):
        making.add(there[None, start : start + 7777])
    (found,) = near_duplicates([*prints([whole]), making.finish()])
    assert found.share > 0.99


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.38])
def test_short_sounds_have_no_near_duplicate(seconds):
    assert near_duplicates(prints([voice(1, seconds)] * 2)) == []
    assert near_duplicates([]) == []
