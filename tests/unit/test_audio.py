import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from bserkit import Utterance
from bserkit.corpora import audio
from bserkit.corpora.audio import AudioFacts, BadAudioError, content_digest, inspect_audio, read_stereo

RATE = 16000


def noise(frames=1600, channels=2, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels)).astype(np.float32)


def recording(folder, samples, name="a.wav", subtype="FLOAT", rate=RATE, **stretch):
    path = folder / name
    soundfile.write(path, samples, rate, subtype=subtype)
    return Utterance(path, "joy", "s1", **stretch)


def test_stereo_is_read_as_left_above_right(tmp_path):
    samples = noise()
    stereo, rate = read_stereo(recording(tmp_path, samples))
    assert rate == RATE
    assert stereo.dtype == np.float32
    assert stereo.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(stereo, samples.T)


def test_a_good_stereo_recording_has_no_problem(tmp_path):
    samples = noise(1600)
    facts = inspect_audio(recording(tmp_path, samples))
    assert facts.as_dict() == {
        "channels": 2, "sample_rate": RATE, "seconds": 0.1, "equal": False, "clipped": 0.0, "problem": "",
        "lowest": tuple(samples.min(axis=0).tolist()), "highest": tuple(samples.max(axis=0).tolist()),
    }  # fmt: skip
    assert facts.peaks == tuple(np.abs(samples).max(axis=0).tolist())
    assert facts.stereo


def test_mono_becomes_two_equal_rows_and_is_not_stereo(tmp_path):
    samples = noise(channels=1)
    utterance = recording(tmp_path, samples)
    facts = inspect_audio(utterance)
    assert (facts.channels, facts.stereo, facts.problem) == (1, False, "")
    stereo, _ = read_stereo(utterance)
    np.testing.assert_array_equal(stereo, np.stack([samples[:, 0], samples[:, 0]]))


def test_equal_channels_are_not_stereo(tmp_path):
    facts = inspect_audio(recording(tmp_path, np.repeat(noise(channels=1), 2, axis=1)))
    assert (facts.channels, facts.equal, facts.stereo, facts.problem) == (2, True, False, "")


@pytest.mark.parametrize("frame", [0, 800, 1599])
def test_one_differing_sample_makes_a_recording_stereo(tmp_path, frame):
    samples = np.repeat(noise(channels=1), 2, axis=1)
    samples[frame, 1] += 2**-10
    assert inspect_audio(recording(tmp_path, samples)).stereo


@pytest.mark.parametrize(("channel", "name"), [(0, "left"), (1, "right")])
@pytest.mark.parametrize(
    "silence",
    [lambda size: 0, lambda size: 0.25, lambda size: noise(size)[:, 0] * 2**-14, lambda size: noise(size)[:, 0] / 400],
    ids=["zeros", "offset", "last bit", "52 dB below"],
)
def test_a_channel_that_recorded_nothing_is_not_stereo(tmp_path, channel, name, silence):
    samples = noise()
    samples[:, channel] = silence(len(samples))
    facts = inspect_audio(recording(tmp_path, samples, subtype="PCM_16"))
    assert (facts.silent, facts.stereo, facts.problem) == (name, False, "")


def test_a_channel_40_db_below_the_other_is_stereo(tmp_path):
    facts = inspect_audio(recording(tmp_path, noise() * [1, 0.01]))
    assert (facts.silent, facts.stereo) == ("", True)


def test_facts_kept_by_another_version_are_not_used(tmp_path):
    kept = inspect_audio(recording(tmp_path, noise())).as_dict()
    assert AudioFacts.usable(kept)
    assert AudioFacts.from_dict(json.loads(json.dumps(kept))).as_dict() == kept
    for other in (kept | {"level": 1.0}, {key: kept[key] for key in kept if key != "lowest"}, {}):
        assert not AudioFacts.usable(other)


def test_what_could_not_be_decoded_is_tried_again(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"a letter" * 100)
    assert not AudioFacts.usable(inspect_audio(Utterance(path, "joy", "s1")).as_dict())


def test_samples_beyond_any_sound_are_a_problem(tmp_path):
    facts = inspect_audio(recording(tmp_path, noise() * np.float32(1e30)))
    assert facts.problem == "its samples reach 5e+29, where 1 is full scale"
    assert not inspect_audio(recording(tmp_path, noise() * np.float32(32768))).problem


def test_a_rate_too_slow_for_speech_is_a_problem(tmp_path):
    assert inspect_audio(recording(tmp_path, noise(), rate=1)).problem.startswith("its sample rate is 1 Hz; at least")
    assert not inspect_audio(recording(tmp_path, noise(), rate=4000)).problem


@pytest.mark.parametrize(("value", "problem"), [(0, "it is silent"), (-0.3, "it holds the same value")])
def test_a_recording_of_one_value_is_a_problem(tmp_path, value, problem):
    found = inspect_audio(recording(tmp_path, np.full((1600, 2), value, np.float32)))
    assert found.problem == f"{problem} throughout"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 1])
def test_a_value_that_is_not_a_number_is_a_problem(tmp_path, value, channel):
    samples = noise()
    samples[700, channel] = value
    assert inspect_audio(recording(tmp_path, samples)).problem == "it holds values that are not numbers"


@pytest.mark.parametrize("channels", [3, 6])
def test_more_than_two_channels_are_a_problem(tmp_path, channels):
    utterance = recording(tmp_path, noise(channels=channels))
    problem = f"it has {channels} channels; two are expected, such as --microphones 1,2 chooses"
    assert inspect_audio(utterance).problem == problem
    with pytest.raises(BadAudioError, match=rf"a\.wav: {problem}"):
        read_stereo(utterance)


@pytest.mark.parametrize("microphones", [(1, 2), (3, 1), (6, 6)])
def test_two_microphones_of_six_are_left_and_right(tmp_path, microphones):
    samples = noise(channels=6) * [1, 0.9, 0.8, 0.7, 0.6, 0.5]
    utterance = replace(recording(tmp_path, samples), microphones=microphones)
    chosen = samples[:, [number - 1 for number in microphones]].astype(np.float32)
    np.testing.assert_array_equal(read_stereo(utterance)[0], chosen.T)
    same = recording(tmp_path, chosen, "two.wav")
    assert inspect_audio(utterance) == inspect_audio(same)
    assert inspect_audio(utterance).equal == (microphones == (6, 6))


def test_a_microphone_that_is_not_there_is_a_problem(tmp_path):
    utterance = replace(recording(tmp_path, noise(channels=4)), microphones=(1, 5))
    assert inspect_audio(utterance).problem == "it has 4 channels, but microphones 1,5 were chosen"


def test_each_choice_of_microphones_has_its_own_digest(tmp_path):
    utterance = recording(tmp_path, noise(channels=3))
    chosen = [None, (1, 2), (2, 1), (1, 3)]
    assert len({content_digest(replace(utterance, microphones=one)) for one in chosen}) == 4


@pytest.mark.parametrize("frames", [0, 1, 399])
def test_a_recording_below_one_window_is_a_problem(tmp_path, frames):
    facts = inspect_audio(recording(tmp_path, noise(frames)))
    assert facts.problem == f"it has {frames} samples, less than 25 ms"
    assert not inspect_audio(recording(tmp_path, noise(400))).problem


def test_one_sample_can_be_read_but_none_cannot(tmp_path):
    assert read_stereo(recording(tmp_path, noise(1)))[0].shape == (2, 1)
    with pytest.raises(BadAudioError, match="it has 0 samples in 2 channels"):
        read_stereo(recording(tmp_path, noise(0)))


@pytest.mark.parametrize("content", [b"", b"RIFF", b"this is a letter, not a recording" * 100])
def test_a_file_that_is_no_recording_cannot_be_decoded(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    utterance = Utterance(path, "joy", "s1")
    facts = inspect_audio(utterance)
    assert facts.problem.startswith("it cannot be decoded (")
    assert (facts.channels, facts.seconds, facts.stereo) == (0, 0.0, False)
    with pytest.raises(BadAudioError, match=r"a\.wav: it cannot be decoded"):
        read_stereo(utterance)


def test_a_file_that_is_not_there_is_a_problem(tmp_path):
    utterance = Utterance(tmp_path / "none.wav", "joy", "s1")
    assert "cannot be decoded" in inspect_audio(utterance).problem
    with pytest.raises(BadAudioError, match=r"it cannot be read \(No such file or directory\)"):
        content_digest(utterance)
    with pytest.raises(BadAudioError, match=r"none\.wav: it cannot be decoded"):
        read_stereo(utterance)


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "PCM_16"), ("a.flac", "PCM_16")])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_recording_that_was_cut_off_is_a_problem(tmp_path, name, subtype, kept):
    utterance = recording(tmp_path, noise(16000), name, subtype)
    content = utterance.path.read_bytes()
    utterance.path.write_bytes(content[: int(kept * len(content))])
    assert inspect_audio(utterance).problem


def test_a_wav_of_unstated_length_is_no_problem(tmp_path):
    samples = noise()
    body = samples.astype("<f4").tobytes()
    header = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 2**32 - 1, b"WAVE", b"fmt ", 16, 3, 2, RATE, RATE * 8, 8, 32)
    path = tmp_path / "a.wav"
    path.write_bytes(header + struct.pack("<4sI", b"data", 2**32 - 1) + body)
    utterance = Utterance(path, "joy", "s1")
    assert not inspect_audio(utterance).problem
    np.testing.assert_array_equal(read_stereo(utterance)[0], samples.T)


def test_a_damaged_flac_cannot_be_decoded(tmp_path):
    utterance = recording(tmp_path, noise(16000), "a.flac", "PCM_16")
    content = bytearray(utterance.path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 500] = bytes(500)
    utterance.path.write_bytes(content)
    assert inspect_audio(utterance).problem.startswith("it cannot be decoded (")
    with pytest.raises(BadAudioError, match="it cannot be decoded"):
        read_stereo(utterance)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [(0.0, None, 0, 1600), (0.05, None, 800, 1600), (0.0, 0.05, 0, 800), (0.025, 0.075, 400, 1200)],
)
def test_a_stretch_is_read_from_its_start_to_its_end(tmp_path, start, end, first, last):
    samples = noise()
    utterance = recording(tmp_path, samples, start=start, end=end)
    np.testing.assert_array_equal(read_stereo(utterance)[0], samples[first:last].T)
    assert inspect_audio(utterance).seconds == (last - first) / RATE


def test_only_the_stretch_is_looked_at(tmp_path):
    samples = noise()
    samples[:800] = 0
    samples[800:, 1] = samples[800:, 0]
    samples[1599, 0] = np.nan
    assert inspect_audio(recording(tmp_path, samples, end=0.05)).problem == "it is silent throughout"
    middle = inspect_audio(recording(tmp_path, samples, start=0.05, end=0.09))
    assert (middle.equal, middle.problem) == (True, "")
    assert inspect_audio(recording(tmp_path, samples, start=0.05)).problem == "it holds values that are not numbers"


def test_a_stretch_just_past_the_end_is_cut_to_it(tmp_path):
    utterance = recording(tmp_path, noise(1600), start=0.05, end=0.15)
    assert inspect_audio(utterance).seconds == 0.05
    assert read_stereo(utterance)[0].shape == (2, 800)


@pytest.mark.parametrize(
    ("stretch", "reason"),
    [
        ({"start": 0.1}, "it starts at 0.1 s but the file ends at 0.1 s"),
        ({"start": 7.0, "end": 8.0}, "it starts at 7 s but the file ends at 0.1 s"),
        ({"end": 0.3}, "it ends at 0.3 s but the file does at 0.1 s"),
    ],
)
def test_a_stretch_beyond_the_file_is_a_named_problem(tmp_path, stretch, reason):
    utterance = recording(tmp_path, noise(1600), **stretch)
    assert inspect_audio(utterance).problem == reason
    with pytest.raises(BadAudioError, match=rf"a\.wav: {reason}"):
        read_stereo(utterance)


def test_a_stretch_below_one_window_is_a_problem(tmp_path):
    utterance = recording(tmp_path, noise(1600), start=0.05, end=0.06)
    assert inspect_audio(utterance).problem == "it has 160 samples, less than 25 ms"


def test_a_stretch_ending_before_its_start_is_empty(tmp_path):
    utterance = recording(tmp_path, noise(1600), start=0.05, end=0.02)
    assert inspect_audio(utterance).problem
    with pytest.raises(BadAudioError):
        read_stereo(utterance)


@pytest.mark.parametrize(("subtype", "clipped"), [("FLOAT", 6), ("PCM_16", 6), ("PCM_24", 6)])
def test_clipped_share_counts_samples_at_full_scale(tmp_path, subtype, clipped):
    samples = noise(1600)
    samples[10:13, 0] = 1.0
    samples[20:23, 1] = -1.0
    assert inspect_audio(recording(tmp_path, samples, subtype=subtype)).clipped == clipped / 3200


@settings(max_examples=25)
@given(
    block=st.integers(1, 900), frames=st.integers(0, 900), fault=st.integers(0, 899), value=st.sampled_from([0, np.nan])
)
def test_facts_do_not_depend_on_block_size(tmp_path_factory, block, frames, fault, value):
    samples = np.repeat(noise(frames, channels=1), 2, axis=1)
    samples[fault : fault + 1, 1] = value
    utterance = recording(tmp_path_factory.mktemp("audio"), samples)
    whole = inspect_audio(utterance)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audio, "_BLOCK_FRAMES", block)
        assert inspect_audio(utterance) == whole


def test_digests_depend_on_bytes_not_on_file_names(tmp_path):
    first, second = recording(tmp_path, noise(), "a.wav"), recording(tmp_path, noise(), "b.wav")
    assert content_digest(first) == content_digest(second)
    assert len(content_digest(first)) == 64


def test_another_byte_gives_another_digest(tmp_path):
    utterance = recording(tmp_path, noise())
    before = content_digest(utterance)
    content = bytearray(utterance.path.read_bytes())
    content[-1] ^= 1
    utterance.path.write_bytes(content)
    assert content_digest(utterance) != before


def test_digests_depend_on_the_stretch_not_on_labels(tmp_path):
    path = recording(tmp_path, noise()).path
    stretches = [(0.0, None), (0.0, 0.1), (0.1, None), (0.1, 0.2), (0.1, 0.3), (0.2, 0.3)]
    digests = {content_digest(Utterance(path, "joy", "s1", *stretch)) for stretch in stretches}
    assert len(digests) == len(stretches)
    assert digests == {content_digest(Utterance(path, "fear", "s2", *stretch)) for stretch in stretches}


def test_a_folder_has_no_digest(tmp_path):
    with pytest.raises(BadAudioError, match="it cannot be read"):
        content_digest(Utterance(Path(tmp_path), "joy", "s1"))
