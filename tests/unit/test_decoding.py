import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from bserkit import BserkitError, Utterance
from bserkit.corpora.audio import BadAudioError, content_digest, inspect_audio, read_stereo
from bserkit.corpora.decoding import open_sound

av = pytest.importorskip("av")
RATE = 16000


def noise(seconds=1.0, channels=2, seed=0):
    """``(time, channel)`` of 16-bit samples."""
    return np.random.default_rng(seed).integers(-16000, 16000, (int(seconds * RATE), channels), dtype=np.int16)


def tones(left_hz, right_hz, seconds=1.0):
    time = np.arange(int(seconds * RATE)) / RATE
    return (8000 * np.sin(2 * np.pi * time[:, None] * np.array([left_hz, right_hz]))).astype(np.int16)


@pytest.mark.parametrize("ending", [".mkv", ".avi", ".mov", ".MKV"])
def test_sound_of_a_video_equals_the_same_wav(tmp_path, film, ending):
    samples = noise()
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    from_wav, _ = read_stereo(Utterance(tmp_path / "a.wav", "joy", ""))
    from_film, rate = read_stereo(Utterance(film(tmp_path / f"a{ending}", samples), "joy", ""))
    assert rate == RATE
    assert from_film.dtype == np.float32
    np.testing.assert_array_equal(from_film, from_wav)


def test_tags_that_are_not_unicode_are_no_problem(tmp_path, film):
    path = film(tmp_path / "a.avi", noise())
    content, utterance = path.read_bytes(), Utterance(path, "joy", "")
    before, _ = read_stereo(utterance)
    assert b"Lavf" in content
    path.write_bytes(content.replace(b"Lavf", b"L\xffvf"))
    np.testing.assert_array_equal(read_stereo(utterance)[0], before)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.avi", "mp3"), ("a.m4a", "aac")])
def test_coded_sound_keeps_left_and_right_in_place(tmp_path, film, name, codec):
    samples = tones(500, 1200)
    samples[: RATE // 2] = 0
    path = film(tmp_path / name, samples, codec, pictures=not name.endswith(".m4a"))
    (left, right), _ = read_stereo(Utterance(path, "joy", ""))
    # What an encoder adds is some frames of 1024 or 1152 samples; MP3 in AVI says nothing of what it put in front.
    assert abs(len(left) - RATE) < 4 * 1152
    for row, own, other in ((left, 500, 1200), (right, 1200, 500)):
        power = np.abs(np.fft.rfft(row[10000:15000])) ** 2
        hertz = np.fft.rfftfreq(5000, 1 / RATE)
        assert power[np.abs(hertz - own) < 40].sum() > 1e3 * power[np.abs(hertz - other) < 40].sum()
    if codec == "aac":
        loud = np.abs(left) > 0.1
        assert abs(int(loud.argmax()) - RATE // 2) < 64


def test_what_an_aac_encoder_puts_in_front_is_not_read(tmp_path, film):
    samples = noise(channels=1).repeat(2, axis=1)
    stereo, _ = read_stereo(Utterance(film(tmp_path / "a.mp4", samples, "aac"), "joy", ""))
    wanted = samples[:, 0] / 32768
    lags = range(-1100, 1101, 1)
    middle = slice(4000, 8000)
    likeness = [float(stereo[0, 4000 + lag : 8000 + lag] @ wanted[middle]) for lag in lags]
    assert lags[int(np.argmax(likeness))] == 0


def test_mono_video_becomes_two_equal_rows_not_stereo(tmp_path, film):
    utterance = Utterance(film(tmp_path / "a.mkv", noise(channels=1)), "joy", "")
    facts = inspect_audio(utterance)
    assert (facts.channels, facts.stereo, facts.seconds, facts.problem) == (1, False, 1.0, "")
    left, right = read_stereo(utterance)[0]
    np.testing.assert_array_equal(left, right)


def test_facts_of_a_video_equal_those_of_the_same_wav(tmp_path, film):
    samples = noise()
    samples[100:103] = -32768
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    assert inspect_audio(Utterance(film(tmp_path / "a.avi", samples), "joy", "")) == inspect_audio(
        Utterance(tmp_path / "a.wav", "joy", "")
    )


def test_surround_sound_is_refused_as_not_stereo(tmp_path, film):
    utterance = Utterance(film(tmp_path / "a.mkv", noise(channels=6)), "joy", "")
    assert inspect_audio(utterance).problem.startswith("it has 6 channels; two are expected")
    with pytest.raises(BadAudioError, match=r"a\.mkv: it has 6 channels; two are expected"):
        read_stereo(utterance)


def test_a_video_without_sound_is_a_problem(tmp_path):
    with av.open(tmp_path / "a.mp4", "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(video.encode(None))
    utterance = Utterance(tmp_path / "a.mp4", "joy", "")
    assert inspect_audio(utterance).problem == "it holds no sound"
    with pytest.raises(BadAudioError, match=r"a\.mp4: it holds no sound"):
        read_stereo(utterance)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"a letter, not a film" * 100])
@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_file_that_is_no_container_cannot_be_decoded(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    utterance = Utterance(tmp_path / name, "joy", "")
    assert inspect_audio(utterance).problem.startswith("it cannot be decoded (")
    with pytest.raises(BadAudioError, match=rf"{name}: it cannot be decoded \("):
        read_stereo(utterance)


def test_a_playlist_named_as_a_video_opens_no_file(tmp_path, film):
    part = film(tmp_path / "part.mkv", noise())
    for text in (f"ffconcat version 1.0\nfile {part.name}\n", f"#EXTM3U\n#EXTINF:1,\n{part.name}\n#EXT-X-ENDLIST\n"):
        (tmp_path / "a.mkv").write_text(text)
        assert inspect_audio(Utterance(tmp_path / "a.mkv", "joy", "")).problem.startswith("it cannot be decoded (")


@pytest.mark.parametrize("name", ["a.mkv", "a.avi", "a.mp4"])
@pytest.mark.parametrize("kept", [0.3, 0.7])
def test_a_video_that_was_cut_off_is_a_problem(tmp_path, film, name, kept):
    path = film(tmp_path / name, noise(4.0), "aac" if name == "a.mp4" else "pcm_s16le")
    utterance = Utterance(path, "joy", "")
    assert not inspect_audio(utterance).problem
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    assert inspect_audio(utterance).problem.startswith(("it was cut off: ", "it cannot be decoded ("))


def test_a_video_longer_than_its_sound_is_not_cut_off(tmp_path, film):
    path = tmp_path / "a.mkv"
    with av.open(film(tmp_path / "long.mkv", noise(3.0))) as long, av.open(path, "w") as short:
        streams = {one.index: short.add_stream_from_template(one) for one in long.streams}
        for packet in long.demux():
            sound = packet.stream.type == "audio"
            if packet.dts is not None and not (sound and packet.pts * packet.time_base >= 1):
                packet.stream = streams[packet.stream.index]
                short.mux(packet)
    facts = inspect_audio(Utterance(path, "joy", ""))
    assert (facts.problem, facts.seconds) == ("", pytest.approx(1, abs=0.1))


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [(0.0, None, 0, 32000), (0.75, None, 12000, 32000), (0.0, 0.5, 0, 8000), (0.3, 1.7, 4800, 27200)],
)
def test_a_stretch_of_a_video_is_read_to_the_sample(tmp_path, film, start, end, first, last):
    samples = noise(2.0)
    utterance = Utterance(film(tmp_path / "a.mkv", samples), "joy", "", start, end)
    np.testing.assert_array_equal(read_stereo(utterance)[0], samples[first:last].T / np.float32(32768))
    assert inspect_audio(utterance).seconds == (last - first) / RATE


@pytest.mark.parametrize(
    ("stretch", "reason"),
    [
        ({"start": 1.0}, "it starts at 1 s but the file ends at 1 s"),
        ({"start": 7.0, "end": 8.0}, "it starts at 7 s but the file ends at 1 s"),
        ({"end": 1.3}, "it ends at 1.3 s but the file does at 1 s"),
    ],
)
def test_a_stretch_beyond_a_video_is_a_problem(tmp_path, film, stretch, reason):
    utterance = Utterance(film(tmp_path / "a.mkv", noise()), "joy", "", **stretch)
    assert inspect_audio(utterance).problem == reason
    with pytest.raises(BadAudioError, match=reason):
        read_stereo(utterance)


@pytest.mark.parametrize("name", ["a.wav", "a.mkv"])
@pytest.mark.parametrize(("start", "end"), [(0, None), (0, 9000), (700, None), (700, 9000), (15999, None), (500, 500)])
@pytest.mark.parametrize("frames", [1, 999, 1000, 20000])
def test_blocks_are_full_and_together_give_the_stretch(tmp_path, film, name, start, end, frames):
    samples = noise(1.0 if frames > 1 else 0.1)
    end = end if frames > 1 or end is None else end // 10
    path = tmp_path / name
    film(path, samples) if name == "a.mkv" else soundfile.write(path, samples, RATE)
    with open_sound(path) as sound:
        blocks = list(sound.blocks(frames, start, end))
    assert [len(block) for block in blocks[:-1]] == [frames] * (len(blocks) - 1)
    assert all(0 < len(block) <= frames and block.dtype == np.float32 for block in blocks)
    together = np.concatenate([np.empty((0, 2)), *blocks])
    np.testing.assert_array_equal(together, samples[start:end] / np.float32(32768))


@pytest.mark.parametrize(
    "kind", ["WAV", "AIFF", "AU", "CAF", "FLAC", "W64", "RF64", "NIST", "VOC", "mkv", "avi", "mov"]
)
@pytest.mark.parametrize("ending", [".wav", ".mp4", ".mp3"])
def test_the_content_decides_what_reads_a_file(tmp_path, film, kind, ending):
    samples, path = noise(), tmp_path / f"a{ending}"
    if kind.isupper():
        soundfile.write(path, samples, RATE, "PCM_16", format=kind)
    else:
        film(tmp_path / f"film.{kind}", samples).rename(path)
    np.testing.assert_array_equal(read_stereo(Utterance(path, "joy", ""))[0], samples.T / np.float32(32768))


@pytest.mark.parametrize("named", ["a.wav", "a.aac", "a.mp3"])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\1\x48" + bytes(200)], ids=["bare", "tagged"])
def test_aac_without_a_container_is_read(tmp_path, film, named, tag):
    samples = tones(500, 1200)
    coded = film(tmp_path / "a.adts", samples, "aac", pictures=False, format="adts").read_bytes()
    (tmp_path / named).write_bytes(tag + coded)
    (left, right), rate = read_stereo(Utterance(tmp_path / named, "joy", ""))
    assert (rate, abs(len(left) - RATE) < 4 * 1024) == (RATE, True)
    for row, hertz in ((left, 500), (right, 1200)):
        assert abs(int(np.abs(np.fft.rfft(row[4000:12000])).argmax()) * 2 - hertz) <= 2


def test_a_guessed_length_cuts_nothing_off(tmp_path, film):
    samples = np.concatenate([np.zeros((6 * RATE, 2), np.int16), noise()])
    path = film(tmp_path / "a.aac", samples, "aac", pictures=False, format="adts")
    facts = inspect_audio(Utterance(path, "joy", ""))
    assert (facts.problem, facts.seconds) == ("", pytest.approx(7, abs=0.2))


def test_without_pyav_an_mp4_named_wav_is_explained(tmp_path, film, monkeypatch):
    film(tmp_path / "a.m4a", noise(), "aac", pictures=False).rename(tmp_path / "a.wav")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        BserkitError, match=r"a\.wav is an MP4 .* PyAV is not installed: pip install 'bserkit\[video\]'"
    ):
        inspect_audio(Utterance(tmp_path / "a.wav", "joy", ""))


def test_what_nothing_reads_keeps_its_reason(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"no sound" * 100)
    utterance = Utterance(tmp_path / "a.wav", "joy", "")
    assert inspect_audio(utterance).problem == "it cannot be decoded (Format not recognised)"
    monkeypatch.setitem(sys.modules, "av", None)
    assert inspect_audio(utterance).problem.endswith("; pip install 'bserkit[video]' reads more kinds of files")


def test_each_stretch_of_a_video_has_its_own_digest(tmp_path, film):
    path = film(tmp_path / "a.mkv", noise())
    assert len({content_digest(Utterance(path, "joy", "", *one)) for one in ((0.0, None), (0.0, 0.5), (0.5, 1.0))}) == 3


def test_without_pyav_a_video_says_what_to_install(tmp_path, film, monkeypatch):
    path = film(tmp_path / "a.mp4", noise(), "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BserkitError, match=r"a\.mp4 .* PyAV is not installed: pip install 'bserkit\[video\]'"):
        inspect_audio(Utterance(path, "joy", ""))


def test_a_file_whose_name_is_not_utf8_is_read(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    with path.open("wb") as stream:
        soundfile.write(stream, np.zeros((40, 2)), 16000, format="WAV")
    with open_sound(path) as sound:
        assert sound.channels == 2
