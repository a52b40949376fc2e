"""What a recording is measured to be does not depend on how it is read, nor its memory on how long it is."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from bserkit import Utterance
from bserkit.corpora.audit import measuring
from bserkit.corpora.audit.measuring import Delay, measure

RATE = 16000


def noise(seed, seconds):
    return 0.1 * np.random.default_rng(seed).normal(size=int(seconds * RATE))


def written(path, samples):
    soundfile.write(path, np.asarray(samples).T, RATE, "FLOAT")
    return Utterance(path, "calm", "s0")


@pytest.mark.parametrize("late", [-20, -3, 0, 1, 16])
@pytest.mark.parametrize("seconds", [0.1, 2.0])
def test_delay_is_the_lag_of_the_right_channel(late, seconds):
    sound = noise(2, seconds)
    samples = np.stack([sound, np.roll(sound, late)])
    found = Delay(samples.shape[1])
    found.add(samples)
    assert found.seconds(RATE) == late / RATE


def test_levels_and_delay_are_those_of_the_whole(tmp_path):
    sound = noise(3, 20.0)
    found = measure(written(tmp_path / "a.wav", [sound, 0.5 * np.roll(sound, 8)]))
    energy = float((sound**2).sum())
    assert found["level_db"] == pytest.approx(10 * np.log10(1.25 * energy / (2 * len(sound))), abs=1e-3)
    assert found["right_to_left_db"] == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    assert found["delay_ms"] == 0.5


def test_a_silent_channel_has_no_delay(tmp_path):
    sound = noise(3, 1.0)
    assert np.isnan(measure(written(tmp_path / "a.wav", [sound, 0 * sound]))["delay_ms"])


def test_a_long_recording_is_measured_in_blocks(tmp_path, monkeypatch):
    utterance = written(tmp_path / "a.wav", [noise(4, 20.0), noise(5, 20.0)])
    whole = measure(utterance)
    monkeypatch.setattr(measuring, "_BLOCK", 8192)
    parts = measure(utterance)
    assert parts["digest"] == whole["digest"]
    assert parts["delay_ms"] == whole["delay_ms"]
    for name in ("level_db", "side_to_mid_db", "right_to_left_db"):
        assert parts[name] == pytest.approx(whole[name])


def test_the_digest_is_of_the_samples_of_each_channel(tmp_path):
    left, right = noise(6, 1.0), noise(7, 1.0)
    digests = {
        measure(written(tmp_path / f"{index}.wav", samples))["digest"]
        for index, samples in enumerate([(left, right), (right, left), (left, left)])
    }
    assert len(digests) == 3


def test_measuring_memory_does_not_grow_with_length(tmp_path):
    def peak(seconds):
        samples = np.tile(noise(8, 10.0), (2, seconds // 10))
        utterance = written(tmp_path / f"{seconds}.wav", samples)
        del samples
        tracemalloc.start()
        measure(utterance)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)
    # The signs of the wave alone grow, by 8 kB a second; the samples would by 128 kB.
    assert peak(130) < peak(10) + 120 * 20_000
