import os
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from bserkit import CorpusReader, CorpusTable, Skipped, UsageError, Utterance
from bserkit.corpora.decoding import CONTAINER_SUFFIXES, SOUND_SUFFIXES
from bserkit.corpora.reading import audio_files, check_level, find_reader, read_corpus
from bserkit.plugins.registry import load_plugins

PLUGINS = load_plugins(outside=False)
READERS = [PLUGINS.make(CorpusReader, name) for name in PLUGINS.of_kind("corpus")]


class Listed(CorpusReader):
    name = "listed"
    table: Any

    def read(self, root):
        return self.table


class Eager(CorpusReader):
    name = "eager"

    def recognises(self, root):
        return True

    def read(self, root):
        return CorpusTable([])


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in SOUND_SUFFIXES:
            soundfile.write(path, np.full((40, 2), 0.1), 16000, format="WAV")
        else:
            # A reader looks at names alone.
            path.touch()
    return root


def read(root, spec):
    return read_corpus(root, PLUGINS.make(CorpusReader, spec))


def rows(corpus):
    return [(item, one.label, one.speaker) for item, one in zip(corpus.items, corpus.utterances, strict=True)]


def reasons(corpus):
    return {one.item: one.reason for one in corpus.skipped}


def manifest(folder, text, name="list.csv", encoding="utf-8"):
    tree(folder, "a.wav", "deep/b.wav")
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


EMOVO = ("f1/dis-f1-b1.wav", "f1/gio-f1-b2.wav", "f1/neu-f1-l1.wav", "m2/pau-m2-n5.wav", "m2/rab-m2-d1.wav",
         "m2/sor-m2-l4.wav", "m3/tri-m3-b3.wav")  # fmt: skip
URDU = ("Angry/SM1_F10_A010.wav", "Happy/SF2_F1_H03.wav", "Neutral/SM5_F2_N011.wav", "Sad/SM27_F9_S090.wav")
EMODB = ("wav/03a01Wa.wav", "wav/03a02La.wav", "wav/08b03Ea.wav", "wav/08b09Ab.wav", "wav/10a01Fa.wav",
         "wav/16a07Td.wav", "wav/16b10N.wav")  # fmt: skip
RAVDESS = ("Actor_01/03-01-01-01-01-01-01.wav", "Actor_01/03-01-02-01-01-01-01.wav",
           "Actor_02/03-01-05-02-02-02-02.wav", "Actor_02/03-01-08-01-02-01-02.wav")  # fmt: skip
CREMAD = ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_IEO_DIS_HI.wav", "AudioWAV/1002_IEO_FEA_LO.wav",
          "AudioWAV/1002_IEO_HAP_MD.wav", "AudioWAV/1091_WSI_NEU_XX.wav", "AudioWAV/1040_ITH_SAD_X.wav")  # fmt: skip
SAVEE = ("AudioData/DC/a01.wav", "AudioData/DC/d15.wav", "AudioData/JE/f02.wav", "AudioData/JE/h03.wav",
         "AudioData/JK/n30.wav", "AudioData/KL/sa01.wav", "AudioData/KL/su12.wav")  # fmt: skip
TESS = ("OAF_angry/OAF_back_angry.wav", "OAF_disgust/OAF_bar_disgust.wav", "OAF_Fear/OAF_base_fear.wav",
        "OAF_neutral/OA_bite_neutral.wav", "YAF_happy/YAF_back_happy.wav", "YAF_sad/YAF_bean_sad.wav",
        "YAF_pleasant_surprised/YAF_back_ps.wav")  # fmt: skip
NEMO = ("samples/EB0_fear_35.wav", "samples/IC0_sadness_21.wav", "samples/KD0_neutral_2.wav",
        "samples/MK0_anger_8.wav", "samples/WR0_happiness_86.wav", "samples/WR0_surprised_64.wav")  # fmt: skip


def test_emovo_is_read_from_its_file_names(tmp_path):
    corpus = read(tree(tmp_path, *EMOVO), "emovo")
    assert rows(corpus) == [
        ("f1/dis-f1-b1.wav", "disgust", "f1"),
        ("f1/gio-f1-b2.wav", "joy", "f1"),
        ("f1/neu-f1-l1.wav", "neutral", "f1"),
        ("m2/pau-m2-n5.wav", "fear", "m2"),
        ("m2/rab-m2-d1.wav", "anger", "m2"),
        ("m2/sor-m2-l4.wav", "surprise", "m2"),
        ("m3/tri-m3-b3.wav", "sadness", "m3"),
    ]
    assert corpus.skipped == ()


def test_urdu_is_read_from_its_file_names(tmp_path):
    corpus = read(tree(tmp_path, *URDU), "urdu")
    assert [row[1:] for row in rows(corpus)] == [
        ("angry", "SM1"),
        ("happy", "SF2"),
        ("neutral", "SM5"),
        ("sad", "SM27"),
    ]


def test_emodb_is_read_from_its_file_names(tmp_path):
    corpus = read(tree(tmp_path, *EMODB), "emodb")
    assert [row[1:] for row in rows(corpus)] == [
        ("anger", "03"), ("boredom", "03"), ("disgust", "08"), ("fear", "08"),
        ("happiness", "10"), ("sadness", "16"), ("neutral", "16"),
    ]  # fmt: skip


def test_ravdess_is_read_from_its_file_names(tmp_path):
    corpus = read(tree(tmp_path, *RAVDESS), "ravdess")
    assert [row[1:] for row in rows(corpus)] == [
        ("neutral", "actor01"), ("calm", "actor01"), ("angry", "actor02"), ("surprised", "actor02"),
    ]  # fmt: skip


def test_cremad_is_read_from_its_file_names(tmp_path):
    assert [row[1:] for row in rows(read(tree(tmp_path, *CREMAD), "cremad"))] == [
        ("anger", "1001"), ("disgust", "1001"), ("fear", "1002"), ("happiness", "1002"), ("sadness", "1040"),
        ("neutral", "1091"),
    ]  # fmt: skip


@pytest.mark.parametrize("flat", [False, True])
def test_savee_is_read_from_folders_or_file_names(tmp_path, flat):
    names = [f"ALL/{'_'.join(name.split('/')[1:])}" for name in SAVEE] if flat else SAVEE
    assert [row[1:] for row in rows(read(tree(tmp_path, *names), "savee"))] == [
        ("anger", "DC"), ("disgust", "DC"), ("fear", "JE"), ("happiness", "JE"), ("neutral", "JK"), ("sadness", "KL"),
        ("surprise", "KL"),
    ]  # fmt: skip


def test_tess_is_read_in_spite_of_a_missing_letter(tmp_path):
    assert [row[1:] for row in rows(read(tree(tmp_path, *TESS), "tess"))] == [
        ("fear", "OAF"), ("angry", "OAF"), ("disgust", "OAF"), ("neutral", "OAF"), ("happy", "YAF"),
        ("pleasant surprise", "YAF"), ("sad", "YAF"),
    ]  # fmt: skip


def test_nemo_is_read_from_its_file_names(tmp_path):
    assert [row[1:] for row in rows(read(tree(tmp_path, *NEMO), "nemo"))] == [
        ("fear", "EB0"), ("sadness", "IC0"), ("neutral", "KD0"), ("anger", "MK0"), ("happiness", "WR0"),
        ("surprise", "WR0"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "sound", "copies"),
    [
        ("cremad", CREMAD[:2], ("AudioMP3/1001_DFA_ANG_XX.mp3", "VideoFlash/1001_DFA_ANG_XX.flv")),
        ("savee", SAVEE[:2], ("AudioVisualClip/DC/a1.avi", "AudioVisualClip/DC/d15.avi")),
        ("tess", TESS[:2], ("TESS Toronto emotional speech set data/OAF_angry/OAF_back_angry.wav",)),
    ],
)
def test_of_several_copies_the_lossless_one_is_read(tmp_path, spec, sound, copies):
    corpus = read(tree(tmp_path, *copies, *sound), spec)
    assert corpus.items == sorted(sound)
    assert set(reasons(corpus)) == set(copies)
    assert set(reasons(corpus).values()) <= {f"the corpus has it already: {name}" for name in sound}


def test_a_video_is_read_where_there_is_no_audio_file(tmp_path):
    corpus = read(tree(tmp_path, "AudioMP3/1001_DFA_ANG_XX.mp3", "VideoFlash/1002_DFA_SAD_XX.flv"), "cremad")
    assert [row[1:] for row in rows(corpus)] == [("anger", "1001"), ("sadness", "1002")]


def test_ravdess_reads_either_sound_or_videos(tmp_path):
    names = ("Actor_01/03-01-05-01-01-01-01.wav", "Actor_01/01-01-05-01-01-01-01.mp4",
             "Actor_01/02-01-05-01-01-01-01.mp4")  # fmt: skip
    corpus = read(tree(tmp_path, *names), "ravdess")
    assert corpus.items == ["Actor_01/03-01-05-01-01-01-01.wav"]
    assert reasons(corpus) == {
        names[1]: "its modality is video with sound; audio is read (--corpus ravdess:modality=video reads videos)",
        names[2]: "its modality is video without sound; audio is read",
    }
    assert read(tmp_path, "ravdess:modality=video").items == ["Actor_01/01-01-05-01-01-01-01.mp4"]


def test_every_kind_of_sound_is_looked_for(tmp_path):
    names = [f"joy/a{suffix}" for suffix in (".aac", ".wma", ".sph", ".amr", ".ac3", ".opus", ".ogv", ".M4A")]
    assert rows(read(tree(tmp_path, *names), "folders")) == [(name, "joy", "") for name in sorted(names)]


@pytest.mark.parametrize("suffix", sorted(CONTAINER_SUFFIXES))
def test_folders_and_annotation_files_may_hold_videos(tmp_path, suffix):
    tree(tmp_path, f"joy/a{suffix}")
    (tmp_path / "list.csv").write_text(f"path,label,speaker\njoy/a{suffix},joy,s1\n")
    assert rows(read(tmp_path, "folders")) == [(f"joy/a{suffix}", "joy", "")]
    assert rows(read(tmp_path / "list.csv", "csv")) == [(f"joy/a{suffix}", "joy", "s1")]


@pytest.mark.parametrize("suffix", [".wav", ".WAV", ".flac"])
def test_file_endings_do_not_matter_to_naming_schemes(tmp_path, suffix):
    tree(tmp_path, "f1/dis-f1-b1" + suffix)
    assert rows(read(tmp_path, "emovo")) == [("f1/dis-f1-b1" + suffix, "disgust", "f1")]


@pytest.mark.parametrize(
    ("spec", "good", "bad", "reason"),
    [
        ("emovo", EMOVO, "f1/dis_f1_b1.wav", "its name is not EMOTION-SPEAKER-SENTENCE, such as rab-f1-b1"),
        ("emovo", EMOVO, "f1/dis-f1-b1-copy.wav", "its name is not EMOTION-SPEAKER-SENTENCE, such as rab-f1-b1"),
        ("emovo", EMOVO, "f1/xyz-f1-b1.wav", "unknown emotion code 'xyz'; known: dis, gio, neu, pau, rab, sor, tri"),
        ("emovo", EMOVO, "f1/dis-m2-b1.wav", "its name says speaker m2, its folder f1"),
        ("urdu", URDU, "Sad/angry.wav", "its name is not SPEAKER_FILE_EMOTION, such as SM1_F10_A010"),
        ("urdu", URDU, "Sad/SM1_F10_A011.wav", "its name says emotion A, its folder Sad"),
        ("urdu", URDU, "more/SM1_F10_X011.wav", "unknown emotion code 'X'; known: A, H, N, S"),
        ("emodb", EMODB, "wav/03a01.wav", "its name is not speaker, text, emotion and version, such as 03a01Fa"),
        ("emodb", EMODB, "wav/03a01Xa.wav", "unknown emotion code 'X'; known: W, L, E, A, F, T, N"),
        ("ravdess", RAVDESS, "Actor_01/03-01-05-01-01-01-02.wav", "its name says actor 02, its folder Actor_01"),
        ("ravdess", RAVDESS, "Actor_01/03-01-09-01-01-01-01.wav", "unknown emotion code '09'; known: 01, 02, 03, "
         "04, 05, 06, 07, 08"),
        ("cremad", CREMAD, "AudioWAV/1001_DFA_ANG.wav", "its name is not ACTOR_SENTENCE_EMOTION_LEVEL, such as "
         "1001_DFA_ANG_XX"),
        ("cremad", CREMAD, "AudioWAV/1001_DFA_SUR_XX.wav", "unknown emotion code 'SUR'; known: ANG, DIS, FEA, HAP, "
         "NEU, SAD"),
        ("savee", SAVEE, "AudioData/XY/a01.wav", "its name is not a speaker's folder with emotion and sentence, such "
         "as DC/sa01 or DC_sa01"),
        ("savee", SAVEE, "AudioData/DC/x01.wav", "unknown emotion code 'x'; known: a, d, f, h, n, sa, su"),
        ("tess", TESS, "back_angry.wav", "its name is not SPEAKER_WORD_EMOTION, such as OAF_back_angry"),
        ("tess", TESS, "OAF_back_bored.wav", "unknown emotion code 'bored'; known: angry, disgust, fear, happy, "
         "neutral, ps, sad"),
        ("nemo", NEMO, "samples/WR0_64.wav", "its name is not SPEAKER_EMOTION_SENTENCE, such as WR0_surprised_64"),
        ("nemo", NEMO, "samples/WR0_bored_64.wav", "unknown emotion code 'bored'; known: anger, fear, happiness, "
         "neutral, sadness, surprised"),
        ("ravdess", RAVDESS, "Actor_01/angry.wav", "its name is not seven two-digit fields, such as "
         "03-01-06-01-02-01-12"),
    ],
)  # fmt: skip
def test_misfit_file_names_are_skipped_with_the_reason(tmp_path, spec, good, bad, reason):
    corpus = read(tree(tmp_path, *good, bad), spec)
    assert reasons(corpus) == {bad: reason}
    assert len(corpus.utterances) == len(good)


@pytest.mark.parametrize(
    ("spec", "emotion_codes"),
    [("ravdess", ["01"]), ("ravdess:vocal=speech", ["01"]), ("ravdess:vocal=song", ["02"]),
     ("ravdess:vocal=both", ["01", "02"])],
)  # fmt: skip
def test_ravdess_reads_the_requested_vocal_channel(tmp_path, spec, emotion_codes):
    tree(tmp_path, *(f"Actor_0{actor}/03-0{vocal}-05-01-01-01-0{actor}.wav" for actor in (1, 2) for vocal in (1, 2)))
    corpus = read(tmp_path, spec)
    assert sorted({one.path.name[3:5] for one in corpus.utterances}) == emotion_codes
    assert len(corpus.utterances) + len(corpus.skipped) == 4
    for reason in reasons(corpus).values():
        assert re.fullmatch(
            r"its vocal channel is (song|speech); .* is read \(--corpus ravdess:vocal=both .*\)", reason
        )


def test_a_copy_of_ravdess_inside_itself_is_read_once(tmp_path):
    copy = tuple(f"audio_speech_actors_01-24/{name}" for name in RAVDESS)
    corpus = read(tree(tmp_path, *copy, *RAVDESS), "ravdess")
    assert [item for item, _, _ in rows(corpus)] == list(RAVDESS)
    assert reasons(corpus) == {
        there: f"the corpus has it already: {here}" for there, here in zip(copy, RAVDESS, strict=True)
    }


def test_a_mislabelled_ravdess_copy_does_not_win(tmp_path):
    corpus = read(tree(tmp_path, *RAVDESS, "Actor_02/03-01-01-01-01-01-01.wav"), "ravdess")
    assert [item for item, _, _ in rows(corpus)] == list(RAVDESS)
    assert reasons(corpus) == {
        "Actor_02/03-01-01-01-01-01-01.wav": "its name says actor 01, its folder Actor_02",
    }


def test_folders_takes_the_first_folder_as_the_label(tmp_path):
    corpus = read(tree(tmp_path, "joy/x/1.wav", "joy/2.wav", "fear/3.wav"), "folders")
    assert rows(corpus) == [("fear/3.wav", "fear", ""), ("joy/2.wav", "joy", ""), ("joy/x/1.wav", "joy", "")]


def test_a_file_outside_any_class_folder_is_skipped(tmp_path):
    corpus = read(tree(tmp_path, "joy/1.wav", "stray.wav"), "folders")
    assert reasons(corpus) == {"stray.wav": "it lies in no class's folder"}


@pytest.mark.parametrize(
    ("spec", "speaker"),
    [
        (r"folders:speaker=s\d+", "s12"),
        (r"folders:speaker=s(\d+)", "12"),
        (r"folders:speaker=^[^/]+/([^/]+)/", "take"),
        (r'folders:speaker="s\d{1,1}"', "s1"),
        (r"folders:speaker=(?:x(\d+)|s(\d+))", "12"),
    ],
)
def test_speaker_is_the_match_or_its_first_group(tmp_path, spec, speaker):
    corpus = read(tree(tmp_path, "joy/take/s12-a.wav"), spec)
    assert corpus.speakers == (speaker,)


def test_files_without_the_speaker_pattern_are_skipped(tmp_path):
    corpus = read(tree(tmp_path, "joy/s1.wav", "joy/s.wav", "joy/x.wav"), r"folders:speaker=s(\d*)")
    reason = r"speaker=s(\d*) finds nothing in its path"
    assert reasons(corpus) == {"joy/s.wav": reason, "joy/x.wav": reason}


def test_folders_takes_labels_by_an_expression(tmp_path):
    names = ("s1/ang_1.wav", "s1/hap_1.wav", "s2/ang_1.wav", "sad_2.wav", "s2/1.wav")
    spec = r"folders:label=([a-z]+)_\d,speaker=^(s\d)/|_,names=ang=anger;hap=very happy"
    corpus = read(tree(tmp_path, *names), r"folders:label=([a-z]+)_\d,names=ang=anger;hap=very happy")
    assert PLUGINS.make(CorpusReader, spec).spec == spec
    assert [row[1] for row in rows(corpus)] == ["anger", "very happy", "anger", "sad"]
    assert reasons(corpus) == {"s2/1.wav": r"label=([a-z]+)_\d finds nothing in its path"}


@pytest.mark.parametrize("names", ["anger", "ang=", "=anger", "ang=anger;ang=joy"])
def test_names_of_labels_that_are_none_are_refused(names):
    with pytest.raises(UsageError, match="expected each label once with its name, such as ang=anger;hap=joy"):
        PLUGINS.make(CorpusReader, f"folders:names={names}")


def test_renaming_an_unknown_label_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no label is 'agn' \(did you mean 'ang'\?\); the labels are ang, sad"):
        read(tree(tmp_path, "ang/1.wav", "sad/2.wav"), "folders:names=agn=anger")


def test_an_invalid_speaker_expression_is_refused():
    with pytest.raises(UsageError, match=r"speaker=\(: it is not a regular expression: .*unterminated"):
        PLUGINS.make(CorpusReader, "folders:speaker=(")


def test_a_manifest_gives_path_label_and_speaker(tmp_path):
    corpus = read(manifest(tmp_path, "path,label,speaker\na.wav,joy,s1\ndeep/b.wav,fear,s2\n"), "csv")
    assert rows(corpus) == [("a.wav", "joy", "s1"), ("deep/b.wav", "fear", "s2")]
    assert [one.end for one in corpus.utterances] == [None, None]


def test_annotation_columns_may_be_in_any_order(tmp_path):
    corpus = read(manifest(tmp_path, "note, speaker ,label,path\nx,s1, joy ,a.wav\n"), "csv")
    assert rows(corpus) == [("a.wav", "joy", "s1")]


def test_a_manifest_may_begin_with_a_byte_order_mark(tmp_path):
    corpus = read(manifest(tmp_path, "path,label,speaker\na.wav,joy,s1\n", encoding="utf-8-sig"), "csv")
    assert rows(corpus) == [("a.wav", "joy", "s1")]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_a_manifest_may_end_its_lines_in_any_way(tmp_path, line_end):
    lines = ["path,label,speaker", "a.wav,joy,s1", "deep/b.wav,fear,s2"]
    assert len(read(manifest(tmp_path, line_end.join(lines)), "csv").utterances) == 2


def test_a_manifest_named_tsv_is_tab_separated(tmp_path):
    path = manifest(tmp_path, "path\tlabel\tspeaker\na.wav\tjoy, mild\ts1\n", name="list.TSV")
    assert rows(read(path, "csv")) == [("a.wav", "joy, mild", "s1")]


def test_a_manifest_that_is_not_utf8_is_refused(tmp_path):
    path = manifest(tmp_path, "path,label,speaker\na.wav,Ärger,s1\n", encoding="latin-1")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        read(path, "csv")


def test_a_missing_annotation_column_is_refused(tmp_path):
    path = manifest(tmp_path, "path,lable,speaker\na.wav,joy,s1\n")
    with pytest.raises(UsageError) as caught:
        read(path, "csv")
    message = str(caught.value)
    assert "lacks the column label (did you mean 'lable'?); it has path, lable, speaker" in message
    assert "Needed: path, label, speaker; optional: start, end, session, split" in message


def test_an_empty_manifest_is_refused(tmp_path):
    with pytest.raises(UsageError, match="it has no header"):
        read(manifest(tmp_path, ""), "csv")


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "1:30", "1;5"])
@pytest.mark.parametrize("column", ["start", "end"])
def test_invalid_seconds_are_refused_with_their_line(tmp_path, column, text):
    path = manifest(tmp_path, f"path,label,speaker,{column}\na.wav,joy,s1,\na.wav,joy,s1,{text}\n")
    with pytest.raises(UsageError, match=f"line 3: {column} is '{re.escape(text)}'; expected seconds"):
        read(path, "csv")


@pytest.mark.parametrize(("start", "end"), [("1", "1"), ("2", "1"), ("", "0")])
def test_a_stretch_ending_before_its_start_is_refused(tmp_path, start, end):
    path = manifest(tmp_path, f"path,label,speaker,start,end\na.wav,joy,s1,{start},{end}\n")
    with pytest.raises(UsageError, match=r"line 2: end .* s is not after start"):
        read(path, "csv")


def test_annotation_files_give_stretches_and_splits(tmp_path):
    path = manifest(
        tmp_path,
        "path,label,speaker,start,end,session,split\n"
        "a.wav,joy,s1,0.5,1.25,day1,train\n"
        "a.wav,joy,s1,,0.5,day1,val\n"
        "deep/b.wav,joy,s1,2,,,\n",
    )
    corpus = read(path, "csv")
    assert [(one.start, one.end, one.session, one.split) for one in corpus.utterances] == [
        (0.0, 0.5, "day1", "val"),
        (0.5, 1.25, "day1", "train"),
        (2.0, None, "", ""),
    ]
    assert corpus.items == ["a.wav#0-0.5", "a.wav#0.5-1.25", "deep/b.wav#2-"]


def test_lines_without_file_or_label_are_skipped(tmp_path):
    path = manifest(tmp_path, "path,label,speaker\nnone.wav,joy,s1\na.wav,,s1\n,joy,s1\ndeep,joy,s1\na.wav,joy,s1\n")
    assert reasons(read(path, "csv")) == {
        "line 2": "there is no file 'none.wav'",
        "line 3": "it has no label",
        "line 4": "there is no file ''",
        "line 5": "there is no file 'deep'",
    }


def test_paths_in_a_manifest_begin_where_it_lies(tmp_path, monkeypatch):
    (tmp_path / "lists").mkdir()
    tree(tmp_path, "sound/a.wav")
    path = tmp_path / "lists" / "list.csv"
    path.write_text("path,label,speaker\n../sound/a.wav,joy,s1\n")
    monkeypatch.chdir(tmp_path)
    corpus = read(Path("lists/list.csv"), "csv")
    assert corpus.utterances[0].path.resolve() == (tmp_path / "sound" / "a.wav").resolve()
    assert corpus.items == ["../sound/a.wav"]


def test_a_manifest_may_name_its_columns_otherwise(tmp_path):
    text = "file_id;emotion;who;start\na.wav;ang;s1;later\ndeep/b.wav;hap;s2;now\n"
    path = manifest(tmp_path, text)
    corpus = read(path, "csv:path=file_id,label=emotion,speaker=who,start=,names=ang=anger")
    assert rows(corpus) == [("a.wav", "anger", "s1"), ("deep/b.wav", "hap", "s2")]
    assert read(path, "csv:path=file_id,label=emotion,speaker=,start=").speakers == ("",)


def test_a_named_but_missing_column_is_refused(tmp_path):
    path = manifest(tmp_path, "path,label,speaker\na.wav,joy,s1\n")
    with pytest.raises(UsageError, match=r"lacks the column part .* with --corpus csv:label=COLUMN; csv:speaker= "):
        read(path, "csv:split=part")


def test_a_file_under_two_labels_is_refused_with_lines(tmp_path):
    text = "path,label,speaker\na.wav,joy,s1\ndeep/b.wav,joy,s1\na.wav,sad,s1\n./deep//b.wav,joy,S2\n"
    with pytest.raises(UsageError) as caught:
        read(manifest(tmp_path, text), "csv")
    assert (
        "list.csv: line 2 and line 4 are the same recording, a.wav, but differ: label 'joy' and 'sad'. "
        "So do 1 more pair." in str(caught.value)
    )


def test_a_row_that_stands_twice_counts_once(tmp_path):
    text = "path,label,speaker,end\na.wav,joy,s1,\na.wav,joy,s1,1\na.wav, joy,s1,\ndeep/../a.wav,joy,s1,1.0\n"
    corpus = read(manifest(tmp_path, text), "csv")
    assert corpus.items == ["a.wav", "a.wav#0-1"]
    assert reasons(corpus) == {
        "line 4": "it is the same recording as line 2, which is used",
        "line 5": "it is the same recording as line 3, which is used",
    }


def test_paths_as_windows_writes_them_are_found(tmp_path):
    text = "path,label,speaker\na.wav,joy,s1\ndeep\\b.wav,fear,s1\nC:\\data\\deep\\b.wav,joy,s1\n"
    corpus = read(manifest(tmp_path, text), "csv")
    assert corpus.items == ["a.wav", "deep/b.wav"]
    assert reasons(corpus) == {
        "line 4": r"there is no file 'C:\\data\\deep\\b.wav', but 'deep/b.wav'; paths may begin where the table lies"
    }


def test_a_path_in_wrong_case_suggests_the_right_one(tmp_path):
    path = manifest(tmp_path, "path,label,speaker\na.wav,joy,s1\nDeep/B.WAV,joy,s1\n")
    assert reasons(read(path, "csv")) == {
        "line 3": "there is no file 'Deep/B.WAV', but 'deep/b.wav', of other small and capital letters"
    }


def test_paths_of_another_unicode_form_are_found(tmp_path):
    tree(tmp_path, f"{DECOMPOSED}/{COMPOSED}.wav")
    corpus = read(manifest(tmp_path, f"path,label,speaker\n{COMPOSED}/{DECOMPOSED}.wav,joy,s1\n"), "csv")
    assert corpus.items == [f"{COMPOSED}/{COMPOSED}.wav"]
    assert corpus.utterances[0].path.is_file()


CELLS = st.text(st.sampled_from('ab ,"'), max_size=5)
LINES = st.tuples(st.sampled_from(["a.wav", "deep/b.wav", "none.wav", ""]), CELLS, st.sampled_from(["joy", ""]))


@given(st.lists(LINES | st.just(()), max_size=8))
def test_every_line_is_used_left_out_or_refused(tmp_path_factory, lines):
    root = tmp_path_factory.getbasetemp() / "random"
    text = "\n".join(["path,text,label,speaker", *(",".join((*line, "s1")) if line else "" for line in lines)])
    path = manifest(root, text)
    try:
        table = PLUGINS.make(CorpusReader, "csv").read(path)
    except UsageError:
        return
    # A quoted text may go on over lines that could not be rows.
    longer = sum("," not in line[1] and line[1].lstrip().startswith('"') for line in lines if line)
    left = len([line for line in lines if line]) - len(table.utterances) - len(table.skipped)
    assert 0 <= left <= longer


def test_annotation_files_may_hold_absolute_paths(tmp_path):
    sound = tree(tmp_path / "elsewhere", "c.wav") / "c.wav"
    path = manifest(tmp_path / "here", f"path,label,speaker\n{sound},joy,\n")
    corpus = read(path, "csv")
    assert rows(corpus) == [(sound.resolve().as_posix(), "joy", "")]


@pytest.mark.parametrize("spec", [reader.name for reader in READERS if reader.name not in ("csv", "demo")])
def test_a_reader_of_folders_refuses_a_file(tmp_path, spec):
    with pytest.raises(UsageError, match=f"The reader {spec} reads a folder; .* is none"):
        read(manifest(tmp_path, "x"), spec)


def test_the_reader_of_manifests_refuses_a_folder(tmp_path):
    with pytest.raises(UsageError, match="The reader csv reads a manifest, a file"):
        read(tmp_path, "csv")


@pytest.mark.parametrize(
    ("names", "expected"),
    [(EMOVO, "emovo"), (URDU, "urdu"), (EMODB, "emodb"), (RAVDESS, "ravdess"), (CREMAD, "cremad"), (SAVEE, "savee"),
     (TESS, "tess"), (NEMO, "nemo")],
)  # fmt: skip
def test_each_corpus_is_recognised_by_its_reader_alone(tmp_path, names, expected):
    assert find_reader(tree(tmp_path, *names), READERS).name == expected


@pytest.mark.parametrize("name", ["list.csv", "list.tsv", "LIST.CSV"])
def test_a_manifest_is_recognised_by_its_ending(tmp_path, name):
    assert find_reader(manifest(tmp_path, "path,label,speaker\n", name=name), READERS).name == "csv"


def test_one_odd_file_in_ten_does_not_hide_a_layout(tmp_path):
    tree(tmp_path, *(f"f1/dis-f1-b{take}.wav" for take in range(9)), "odd.wav")
    assert find_reader(tmp_path, READERS).name == "emovo"
    tree(tmp_path, "odder.wav")
    with pytest.raises(UsageError, match="No reader recognises"):
        find_reader(tmp_path, READERS)


@pytest.mark.parametrize("names", [(), ("joy/1.wav", "fear/2.wav")])
def test_unknown_layouts_are_refused_with_ways_out(tmp_path, names):
    with pytest.raises(UsageError) as caught:
        find_reader(tree(tmp_path, *names), READERS)
    message = str(caught.value)
    assert f"--corpus NAME ({', '.join(PLUGINS.of_kind('corpus'))})" in message
    assert "folders:speaker=REGEX" in message
    assert "path, label, speaker" in message


def several_corpora(root):
    tree(root / "spoken" / "emovo", *EMOVO)
    tree(root / "spoken" / "urdu", *URDU)
    return root / "spoken"


def test_a_folder_of_corpora_is_refused_naming_them(tmp_path):
    root = several_corpora(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_reader(root, READERS)
    wanted = f"Did you mean a folder below: {root / 'emovo'} (emovo), {root / 'urdu'} (urdu)?"
    assert wanted in str(caught.value)
    folders = PLUGINS.make(CorpusReader, "folders")
    with pytest.raises(UsageError) as caught:
        check_level(root, folders, READERS)
    assert str(caught.value) == f"The reader folders would take emovo, urdu in {root} for labels. {wanted}"


def test_one_folder_of_class_folders_is_refused(tmp_path):
    folders = PLUGINS.make(CorpusReader, "folders")
    tree(tmp_path, "all/joy/1.wav", "all/fear/2.wav")
    with pytest.raises(UsageError, match=r"Did you mean a folder below: .*all \(2 folders\)\?"):
        check_level(tmp_path, folders, READERS)
    check_level(tmp_path / "all", folders, READERS)


def test_folders_of_one_corpus_may_be_its_labels(tmp_path):
    folders = PLUGINS.make(CorpusReader, "folders")
    check_level(tree(tmp_path, *URDU), folders, READERS)
    # Recordings of one label in a folder are no corpus, whatever their names.
    tree(tmp_path / "mixed", "anger/rab-f1-b1.wav", "anger/rab-f1-b2.wav", "joy/1.wav", "joy/2.wav")
    check_level(tmp_path / "mixed", folders, READERS)


def test_a_layout_of_several_readers_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"in several ways: emovo, eager\. Choose one with --corpus NAME"):
        find_reader(tree(tmp_path, *EMOVO), [*(one for one in READERS if one.name == "emovo"), Eager()])


@pytest.mark.parametrize("use", [lambda root: find_reader(root, READERS), lambda root: read_corpus(root, Eager())])
def test_a_corpus_that_is_not_there_is_refused(tmp_path, use):
    with pytest.raises(UsageError, match=r"There is no corpus at .*nowhere: no such file or folder"):
        use(tmp_path / "nowhere")


def test_a_corpus_without_utterances_is_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UsageError, match=r"The reader emovo found no utterance in .*x\.wav: its name is not EMOTION"):
        read(tree(tmp_path, "x.wav"), "emovo")
    with pytest.raises(UsageError, match="There is no audio file in it"):
        read(empty, "folders")


def test_hidden_files_and_other_files_are_no_audio(tmp_path):
    tree(tmp_path, "joy/1.wav", "joy/._1.wav", "joy/.hidden.wav")
    (tmp_path / "joy" / "notes.txt").write_text("no audio")
    (tmp_path / "joy" / "folder.wav").mkdir()
    assert [path.name for path in audio_files(tmp_path)] == ["1.wav"]


@pytest.mark.parametrize(
    "name",
    [".Trash-1000/files", ".ipynb_checkpoints", ".git/annex/objects", "__MACOSX", "@eaDir", "System Volume Information",
     "$RECYCLE.BIN", "lost+found", ".AppleDouble", "joy/@eaDir", "joy/.ipynb_checkpoints"],
)  # fmt: skip
def test_hidden_and_system_folders_are_passed_over(tmp_path, name):
    hidden = tmp_path / ".corpora" / "mine"
    corpus = read(tree(hidden, "joy/s1.wav", "fear/s1.wav", f"{name}/s2.wav"), "folders")
    assert rows(corpus) == [("fear/s1.wav", "fear", ""), ("joy/s1.wav", "joy", "")]
    assert corpus.skipped == ()


def linked(tmp_path, **links):
    for name, target in links.items():
        place = tmp_path / "corpus" / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)
    return tmp_path / "corpus"


def test_folders_that_are_links_are_entered(tmp_path):
    store = tree(tmp_path / "store", "joy/s1.wav", "deep/fear/s1.wav")
    root = tree(linked(tmp_path, joy=store / "joy", fear=store / "deep" / "fear"), "anger/s1.wav")
    assert rows(read(root, "folders")) == [
        ("anger/s1.wav", "anger", ""), ("fear/s1.wav", "fear", ""), ("joy/s1.wav", "joy", "")
    ]  # fmt: skip


def test_links_to_folders_above_are_no_loop(tmp_path):
    root = tree(linked(tmp_path, joy__loop="..", joy__self=".", fear__up="../.."), "joy/1.wav", "fear/2.wav")
    corpus = read(root, "folders")
    assert corpus.items == ["fear/2.wav", "joy/1.wav"]
    assert reasons(corpus) == dict.fromkeys(["fear/up", "joy/loop", "joy/self"], "it links to a folder that it lies in")


def test_folders_that_link_to_each_other_end(tmp_path):
    root = tree(tmp_path / "corpus", *(f"f{n}/dis-f{n}-b1.wav" for n in range(1, 9)))
    for one in range(1, 9):
        for other in range(1, 9):
            (root / f"f{one}" / f"to{other}").symlink_to(f"../f{other}")
    corpus = read(root, "emovo")
    assert corpus.items == [f"f{n}/dis-f{n}-b1.wav" for n in range(1, 9)]


def test_links_to_nothing_are_listed_with_the_reason(tmp_path):
    links = {"joy__a.wav": "../none.wav", "fear": "/none/fear", "joy__b.wav": "../.git/annex/objects/x/y/z.wav"}
    corpus = read(tree(linked(tmp_path, **links), "joy/1.wav"), "folders")
    assert corpus.items == ["joy/1.wav"]
    assert reasons(corpus) == {
        "fear": "it links to /none/fear, which is not there",
        "joy/a.wav": "it links to ../none.wav, which is not there",
        "joy/b.wav": "its content is not here; git annex get fetches it",
    }


def test_a_file_whose_content_an_annex_holds_is_read(tmp_path):
    root = linked(tmp_path, **{"joy__a.wav": "../.git/annex/objects/x/SHA256-1.wav"})
    corpus = read(tree(root, ".git/annex/objects/x/SHA256-1.wav"), "folders")
    assert corpus.items == ["joy/a.wav"]


def test_a_folder_that_cannot_be_read_is_listed(tmp_path, monkeypatch):
    scan = os.scandir

    def refuse(name):
        if str(name).endswith("fear"):
            raise PermissionError(13, "Permission denied")
        return scan(name)

    tree(tmp_path, "joy/1.wav", "fear/2.wav")
    monkeypatch.setattr(os, "scandir", refuse)
    assert reasons(read(tmp_path, "folders")) == {"fear": "the folder cannot be read: Permission denied"}


def test_a_recording_under_two_labels_is_refused(tmp_path):
    store = tree(tmp_path / "store", "s1.wav", "s2.wav")
    with pytest.raises(UsageError) as caught:
        read(linked(tmp_path, fear=store, joy=store), "folders")
    assert (
        "fear/s1.wav and joy/s1.wav are the same recording, s1.wav, but differ: label 'fear' and 'joy'. "
        "So do 1 more pair." in str(caught.value)
    )


def test_a_recording_with_two_paths_is_used_once(tmp_path):
    root = tree(linked(tmp_path, joy__again="take", **{"joy__0.wav": "take/1.wav"}), "joy/take/1.wav")
    corpus = read(root, "folders")
    assert corpus.items == ["joy/take/1.wav"]
    assert set(reasons(corpus)) == {"joy/0.wav", "joy/again/1.wav"}
    assert set(reasons(corpus).values()) == {"it is the same recording as joy/take/1.wav, which is used"}


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "zo\u00e9") for form in ("NFC", "NFD"))


def test_names_of_two_unicode_forms_are_one(tmp_path):
    names = [f"{form}/{form}_{n}.wav" for n, form in enumerate((COMPOSED, DECOMPOSED))]
    corpus = read(tree(tmp_path, *names), "folders:speaker=/([^/]+)_")
    assert rows(corpus) == [(f"{COMPOSED}/{COMPOSED}_{n}.wav", COMPOSED, COMPOSED) for n in (0, 1)]
    assert all(one.path.is_file() for one in corpus.utterances)


def test_blanks_in_labels_and_speakers_count_as_one():
    corpus = corpus_of(Utterance(Path("a"), " very  sad", "s\t1"), Utterance(Path("b"), "very sad ", "s 1"))
    assert (corpus.labels, corpus.speakers) == (("very sad",), ("s 1",))


def test_files_whose_names_look_alike_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"1 name in .* stand for several files each, such as joy/zo\u00e9\.wav"):
        read(tree(tmp_path, f"joy/{COMPOSED}.wav", f"joy/{DECOMPOSED}.wav"), "folders")


def test_names_that_cannot_be_printed_are_escaped(tmp_path):
    tree(tmp_path, "joy\x1b/two\nlines.wav")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/joy\x1b/caf\xe9.wav")).touch()
    corpus = read(tmp_path, "folders")
    assert rows(corpus) == [
        (r"joy\x1b/caf\xe9.wav", r"joy\x1b", ""), (r"joy\x1b/two\nlines.wav", r"joy\x1b", "")
    ]  # fmt: skip
    assert all(one.path.is_file() for one in corpus.utterances)


def test_a_reader_that_fits_many_files_is_named(tmp_path):
    names = [
        *(f"{speaker}_{word}_angry.wav" for word in ("a", "b", "c", "d") for speaker in ("OAF", "YAF")),
        "a.wav",
        "b.wav",
        "c.wav",
    ]
    with pytest.raises(UsageError, match=r"tess would read 8 of 11 files: choose it with --corpus tess\."):
        find_reader(tree(tmp_path, *names), READERS)


def test_links_and_relative_paths_give_the_same_corpus(tmp_path, monkeypatch):
    tree(tmp_path / "real", *EMOVO)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    assert read(Path("link"), "emovo").items == read(tmp_path / "real", "emovo").items == list(EMOVO)


STRETCHES = st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.none() | st.integers(4, 6))


@given(st.lists(STRETCHES, min_size=1, unique=True).flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))))
def test_corpus_order_does_not_depend_on_file_order(orders):
    root = Path(__file__).parent
    first, second = (
        read_corpus(
            root,
            Listed(table=CorpusTable([Utterance(root / name, "joy", "s", start, end) for name, start, end in order])),
        )
        for order in orders
    )
    assert first.utterances == second.utterances
    assert first.items == second.items


@given(st.integers(0, 36_000_000), st.integers(1, 40), st.integers(1, 40))
def test_two_stretches_of_one_file_have_two_names(start, length, pause):
    first, second, third = (number / 1000 for number in (start, start + length, start + length + pause))
    root = Path("corpus")
    names = {
        Utterance(root / "a.wav", "joy", "s", begin, end).item(root)
        for begin, end in ((first, second), (second, third), (first, third), (second, None), (third, None))
    }
    assert len(names) == 5


def corpus_of(*utterances):
    root = Path(__file__).parent
    return read_corpus(root, Listed(table=CorpusTable(utterances, [Skipped("x", "y")])))


def test_fingerprints_depend_on_content_not_on_paths():
    one = corpus_of(Utterance(Path("a"), "joy", "s1"), Utterance(Path("b"), "fear", "s2"))
    renamed = corpus_of(Utterance(Path("z"), "joy", "s1"), Utterance(Path("b"), "fear", "s2"))
    assert one.fingerprint(["1", "2"]) == renamed.fingerprint(["2", "1"])


@pytest.mark.parametrize("change", [{"label": "fear"}, {"speaker": "s9"}, {"split": "val"}])
def test_fingerprints_depend_on_label_speaker_split(change):
    usual = {"path": Path("a"), "label": "joy", "speaker": "s1", "split": "train"}
    one, other = corpus_of(Utterance(**usual)), corpus_of(Utterance(**usual | change))
    assert one.fingerprint(["1"]) != other.fingerprint(["1"])
    assert one.fingerprint(["1"]) != one.fingerprint(["2"])


def test_a_corpus_counts_its_labels_and_speakers():
    corpus = corpus_of(
        Utterance(Path("a"), "joy", "s2"), Utterance(Path("b"), "fear", "s1"), Utterance(Path("c"), "joy", "s2")
    )
    assert corpus.labels == ("fear", "joy")
    assert corpus.speakers == ("s1", "s2")
    assert corpus.count() == {("s2", "joy"): 2, ("s1", "fear"): 1}
    assert corpus.skipped == (Skipped("x", "y"),)


def test_utterances_sort_with_and_without_an_end():
    stretches = [(0.0, None), (0.0, 1.0), (1.0, None), (1.0, 2.0)]
    made = sorted(Utterance(Path("a"), "joy", "s1", *one) for one in stretches[::-1])
    assert [(one.start, one.end) for one in made] == stretches
