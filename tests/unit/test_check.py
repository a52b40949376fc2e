"""Recordings that are not of two ears are refused, left out or made so, as the policies say."""

import numpy as np
import pytest
import soundfile

from bserkit import UsageError, Utterance
from bserkit.corpora.audio import inspect_audio, read_stereo
from bserkit.corpora.checking import check_corpus
from bserkit.corpora.reading import read_corpus
from bserkit.plugins.builtin.channels import LeftRight, MidSide, Mono
from bserkit.plugins.builtin.corpora.folders import Folders
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

TRANSFORMS = (LeftRight(), MidSide())


def noise(channels=2, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (1600, channels)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path):
    """Write four stereo recordings and those given by name, and return how to check them all."""

    def check(mono="refuse", microphones="refuse", transforms=TRANSFORMS, **more):
        for number, name in enumerate(("joy/a", "joy/b", "sad/a", "sad/b")):
            more.setdefault(name, noise(seed=number))
        for name, samples in more.items():
            path = tmp_path / "corpus" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Written once: the header of a float file holds the time.
            if not path.exists():
                soundfile.write(path, samples, 16000, "FLOAT")
        read = read_corpus(tmp_path / "corpus", Folders())
        needs_stereo = any(one.needs_stereo for one in transforms)
        return check_corpus(read, needs_stereo, mono, microphones, Workspace(FeatureStore(tmp_path / "store")))

    return check


def dead(channel):
    samples = noise(seed=9)
    samples[:, channel] = 0
    return samples


def rows_of(checked, name):
    (index,) = (number for number, item in enumerate(checked.corpus.items) if item == f"{name}.wav")
    return read_stereo(checked.corpus.utterances[index])[0]


def test_a_dead_microphone_is_refused_as_mono_is(corpus):
    with pytest.raises(UsageError) as refused:
        corpus(**{"joy/x": dead(1), "sad/x": dead(0), "sad/y": noise(1)})
    text = "3 of 7 recordings are not stereo (1 mono, 1 with a silent left channel, 1 with a silent right channel)"
    assert text in str(refused.value)


@pytest.mark.parametrize("channel", [0, 1])
def test_duplicate_takes_the_live_channel_for_both(corpus, channel):
    samples = dead(channel)
    checked = corpus("duplicate", **{"joy/x": samples})
    np.testing.assert_array_equal(rows_of(checked, "joy/x"), [samples[:, 1 - channel]] * 2)
    np.testing.assert_array_equal(rows_of(checked, "joy/a"), noise(seed=0).T)
    assert "1 recording without stereo was kept with a silent Side" in checked.notes[0]
    # Kept features of the file as it is are not taken for those of its live channel.
    plain = corpus("refuse", transforms=(Mono(),))
    assert set(checked.digests) - set(plain.digests)


def test_skip_leaves_a_dead_microphone_out_by_name(corpus):
    checked = corpus("skip", **{"joy/x": dead(1)})
    assert [(one.item, one.reason) for one in checked.corpus.skipped] == [
        ("joy/x.wav", "its right channel is silent (--mono skip)")
    ]


def test_more_than_two_channels_are_refused_by_name(corpus):
    with pytest.raises(UsageError) as refused:
        corpus(**{"joy/x": noise(4), "sad/x": noise(6)})
    text = str(refused.value)
    assert "2 of 6 recordings have more than two channels:\n  joy/x.wav: 4 channels\n  sad/x.wav: 6 channels" in text
    assert "--microphones 1,2 " in text
    assert "--microphones skip" in text


def test_more_than_two_channels_can_be_left_out(corpus):
    checked = corpus(microphones="skip", **{"joy/x": noise(4)})
    assert len(checked.corpus.utterances) == 4
    assert checked.corpus.skipped[0].reason.startswith("it has 4 channels")


def test_microphones_are_chosen_of_more_than_two_only(corpus):
    plain = corpus()
    samples = noise(4)
    checked = corpus(microphones=(4, 2), **{"joy/x": samples})
    np.testing.assert_array_equal(rows_of(checked, "joy/x"), samples[:, [3, 1]].T)
    np.testing.assert_array_equal(rows_of(checked, "joy/a"), noise(seed=0).T)
    assert set(plain.digests) < set(checked.digests)


def test_a_recording_with_too_few_microphones_is_named(corpus):
    with pytest.raises(UsageError, match=r"1 of 6 .* --microphones 1,5 names:\n  joy/x\.wav: 4 channels$"):
        corpus(microphones=(1, 5), **{"joy/x": noise(4), "sad/x": noise(6)})


def test_a_dead_microphone_among_the_chosen_is_found(corpus):
    samples = noise(4)
    samples[:, 2] = 0
    with pytest.raises(UsageError, match="1 with a silent right channel"):
        corpus(microphones=(1, 3), **{"joy/x": samples})
    checked = corpus("duplicate", (1, 3), **{"joy/x": samples})
    np.testing.assert_array_equal(rows_of(checked, "joy/x"), [samples[:, 0]] * 2)


def test_facts_of_another_shape_are_found_out_anew(corpus, monkeypatch, tmp_path):
    corpus()
    for path in (tmp_path / "store").glob("audio-*/*/*.json"):
        path.write_text('{"channels": 2, "sample_rate": 1}')
    checked = corpus()
    assert checked.facts[0] == inspect_audio(Utterance(checked.corpus.utterances[0].path, "joy", ""))


def test_one_label_is_refused_before_reading_audio(tmp_path):
    (tmp_path / "joy").mkdir()
    soundfile.write(tmp_path / "joy" / "a.wav", noise(), 16000, "FLOAT")
    store = FeatureStore(tmp_path / "store")
    with pytest.raises(UsageError, match="are labelled 'joy'; two classes are needed"):
        check_corpus(read_corpus(tmp_path, Folders()), True, "refuse", "refuse", Workspace(store))
    assert not store.root.exists()
