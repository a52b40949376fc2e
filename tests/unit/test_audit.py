"""The audit finds what is planted, and nothing where nothing is."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from bserkit import Utterance
from bserkit.corpora.audit import audit as audit_module
from bserkit.corpora.audit.audit import audit, duplicate_rows, markdown, summary, summary_rows
from bserkit.corpora.checking import look_at
from bserkit.corpora.reading import Corpus, read_corpus
from bserkit.plugins.builtin.corpora import Manifest, Ravdess
from bserkit.store import FeatureStore
from bserkit.workspace import Workspace

RATE = 16000


def voice(seed, seconds=2.0):
    """Sound that changes all the time, as speech does: noise through a resonance that moves."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(RATE * seconds)) / RATE
    sound = np.zeros_like(time)
    for _ in range(12):
        frequency = generator.uniform(300, 3000) * (1 + 0.3 * np.sin(2 * np.pi * generator.uniform(1, 6) * time))
        loudness = np.maximum(0, np.sin(2 * np.pi * generator.uniform(0.5, 5) * time + generator.uniform(0, 6)))
        sound += loudness * np.sin(2 * np.pi * np.cumsum(frequency) / RATE)
    return 0.3 * sound / np.abs(sound).max()


def stereo(sound, seed):
    noise = 0.01 * np.random.default_rng(seed).normal(size=(2, len(sound)))
    return np.stack([sound, np.roll(sound, 5)]) + noise


def corpus(folder, recordings):
    """Write (speaker, label, samples) and return them as a corpus."""
    utterances = []
    for index, (speaker, label, samples) in enumerate(recordings):
        path = folder / f"{index:02d}-{speaker}-{label}.wav"
        soundfile.write(path, np.asarray(samples).T, RATE, "FLOAT")
        utterances.append(Utterance(path, label, speaker))
    return Corpus(folder, Manifest(), tuple(utterances), ())


def clean(speakers=4, labels=("calm", "mad")):
    return [
        (f"s{speaker}", label, stereo(voice(10 * speaker + index), index))
        for speaker in range(speakers)
        for index, label in enumerate(labels)
    ]


def audited(found, store=None):
    store = store or FeatureStore(found.root / "store")
    return audit(found, look_at(found, Workspace(store)), Workspace(store))


def findings(folder, recordings):
    return [one.text for one in audited(corpus(folder, recordings)).findings]


def test_a_clean_corpus_has_no_findings(tmp_path):
    assert findings(tmp_path, clean()) == []


def test_one_recording_under_two_speakers_is_found(tmp_path):
    recordings = clean()
    recordings.append(("s3", "calm", recordings[0][2]))
    assert findings(tmp_path, recordings)[0].startswith(
        "1 group of equal recordings under several speakers (s0 and s3 1): one of the names is wrong"
    )


def test_altered_near_duplicates_of_speakers_are_found(tmp_path):
    recordings = clean()
    shared = 0.6 * voice(0)[3000:] + 0.003 * np.random.default_rng(1).normal(size=len(voice(0)) - 3000)
    recordings.append(("s3", "calm", stereo(shared, 99)))
    found = audited(corpus(tmp_path, recordings))
    assert found.findings[0].text == (
        "1 pair of recordings under several speakers share a stretch of sound (s0 and s3 1)"
    )
    (row,) = duplicate_rows(found)
    assert (row["first"], row["second"], row["kind"]) == ("00-s0-calm.wav", "08-s3-calm.wav", "near")


def test_a_silent_side_that_reveals_a_label_is_found(tmp_path):
    recordings = clean()
    recordings += [("s0", "calm", stereo(voice(50 + index), index)) for index in range(4)]
    recordings += [("s0", "glad", np.tile(voice(100 + index), (2, 1))) for index in range(5)]
    recordings += [(f"s{speaker}", "glad", stereo(voice(200 + speaker), 3)) for speaker in range(1, 4)]
    found = findings(tmp_path, recordings)
    assert "5 recordings are without stereo (s0 glad 5): a silent Side would mark them" in found
    assert "a silent Side gives glad away for speaker s0 (5 of 5, of other labels 0 of 6, p = .013)" in found


def test_equal_channels_among_mono_files_are_found(tmp_path):
    # RAVDESS is mono but for some files of two channels, whose left equals right.
    for actor in (1, 2, 3, 4):
        (tmp_path / f"Actor_{actor:02d}").mkdir()
        for emotion in (1, 3, 5):
            sound = voice(10 * actor + emotion)
            both = actor == 4 or (actor, emotion) in {(1, 3), (2, 5)}
            path = tmp_path / f"Actor_{actor:02d}" / f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            soundfile.write(path, np.tile(sound, (2, 1)).T if both else sound, RATE)
    found = audited(read_corpus(tmp_path, Ravdess()))
    said = [one.text for one in found.findings]
    assert "all 12 recordings are without stereo: learn from them with --channels mono" in said
    (equal,) = [finding for finding in said if "left equal to right" in finding]
    assert equal.startswith("5 two-channel files have left equal to right (Actor_01/03-01-03-01-01-01-01.wav, ")
    assert found.metrics()["audit/without_stereo"] == 12


def test_measurements_are_kept_and_give_the_same_audit(tmp_path, monkeypatch):
    recordings = clean()
    recordings += [("s3", "calm", recordings[0][2]), ("s2", "mad", 0.6 * recordings[1][2][:, 3000:])]
    found, store = corpus(tmp_path, recordings), FeatureStore(tmp_path / "store")
    first = audited(found, store)
    assert len(first.exact) == len(first.near) == 1

    def fail(*_):
        raise AssertionError("measured or compared again")

    for name in ("measure", "near_duplicates"):
        monkeypatch.setattr(audit_module, name, fail)
    again = audited(found, store)
    assert (markdown(again), again.metrics()) == (markdown(first), first.metrics())
    # Other labels and speakers of the same audio are another audit, of the same measurements.
    other = Corpus(found.root, found.reader, tuple(replace(one, speaker="s9") for one in found.utterances), ())
    assert audited(other, store).metrics()["audit/shared_between_speakers"] == 0
    with pytest.raises(AssertionError, match="again"):
        audited(found, FeatureStore(tmp_path / "other"))


def test_summary_is_one_line_and_page_holds_everything(tmp_path):
    recordings = clean()
    recordings += [("s3", "calm", recordings[0][2]), ("s2", "mad", np.zeros((2, 9)))]
    found = audited(corpus(tmp_path, recordings))
    said = [one.text for one in found.findings]
    assert summary(found).startswith(f"Audit: {said[0]}. 1 more finding in the run's audit.md; ")
    assert len(said) == 2
    assert "\n" not in summary(found)
    page = markdown(found)
    for finding in said:
        assert f"- {finding}\n" in page
    assert "| speaker | files | seconds |" in page
    assert "| label | files | seconds |" in page
    assert "| 00-s0-calm.wav | 08-s3-calm.wav | s0 s3 | calm | exact | 100% |" in page
    counts = {name.removeprefix("audit/"): value for name, value in found.metrics().items()}
    assert counts == {
        "findings": len(said), "without_stereo": 0, "clipped": 0, "left_out": 1,
        "shared_between_speakers": 1, "shared_by_one_speaker": 0,
    }  # fmt: skip


def test_a_level_that_tells_the_speaker_is_found(tmp_path):
    recordings = [
        (f"s{speaker}", label, stereo(voice(10 * speaker + take), take) * 0.5**speaker)
        for speaker in range(4)
        for take, label in enumerate(("calm", "mad") * 3)
    ]
    assert any("the speaker explains" in finding and "level" in finding for finding in findings(tmp_path, recordings))


def test_clipped_and_unusable_recordings_are_counted(tmp_path):
    recordings = [*clean(), ("s1", "mad", np.clip(20 * stereo(voice(400), 1), -1, 1)), ("s2", "mad", np.zeros((2, 9)))]
    found = findings(tmp_path, recordings)
    assert "1 recording has more than 0.1% of the samples at full scale" in found
    assert "1 recording cannot be used" in found


def test_speaker_rows_hold_level_balance_and_delay(tmp_path):
    sound = voice(1)
    samples = np.stack([sound, 0.5 * np.roll(sound, 8)])
    (row,) = summary_rows(audited(corpus(tmp_path, [("s0", "calm", samples)])), "speaker")
    assert row["delay ms"].startswith("+0.50 ")
    assert row["right/left dB"].startswith("-6.0 ")
