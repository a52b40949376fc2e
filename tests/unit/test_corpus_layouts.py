"""Labels in folders, annotation files, evaluations or tables; readers look at names and never at sound."""

import pickle
import sys
from pathlib import Path

import pytest

from bserkit import CorpusReader, UsageError
from bserkit.corpora.protocols import LeaveOneSpeakerGroupOut, Predefined, split
from bserkit.corpora.reading import find_reader, read_corpus
from bserkit.plugins.registry import load_plugins

# audformat is not yet written for what the newest pandas asks for.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pandas", "ignore:The inplace keyword")

PLUGINS = load_plugins(outside=False)
READERS = [PLUGINS.make(CorpusReader, name) for name in PLUGINS.of_kind("corpus")]


def tree(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def read(root, spec):
    return read_corpus(root, PLUGINS.make(CorpusReader, spec))


def rows(corpus):
    return [(item, one.label, one.speaker) for item, one in zip(corpus.items, corpus.utterances, strict=True)]


def reasons(corpus):
    return {one.item: one.reason for one in corpus.skipped}


EMOTIONS = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")


def afew5(root, train="Train", val="Val"):
    clips = enumerate(EMOTIONS)
    names = [(f"{train}/{one}/00004628{n}.avi", f"{val}/{one}/01213436{n}.avi") for n, one in clips]
    return tree(root, *(name for pair in names for name in pair))


BAUM1S = (
    ("S001_001", "Anger", 1), ("S001_002", "Boredom", 2), ("S002_001", "Disgust", 6), ("S002_002", "Fear", 7),
    ("S003_001", "Happiness", 8), ("S003_002", "Neutral", 9), ("S004_001", "Sadness", 10), ("S005_001", "Surprise", 11),
    ("S031_012", "Thinking", 12),
)  # fmt: skip


def baum1s(root, ending="xlsx", lines=BAUM1S):
    tree(root, *(f"BAUM1s_MP4 - All/{clip[:4].lower()}/{clip}.mp4" for clip, _, _ in BAUM1S))
    header = ("Video no", "Subject", "Clip no", "Clip Name", "Emotion", "Emotion code", "Gender")
    table = [header, *((n, int(c[1:4]), n, c, state, code, "Female") for n, (c, state, code) in enumerate(lines))]
    if ending == "csv":
        (root / "Annotations_BAUM1s.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in table))
    else:
        book = pytest.importorskip("openpyxl").Workbook()
        for row in table:
            book.active.append(row)
        book.save(root / "Annotations_BAUM1s.xlsx")
    return root


EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M000\thap\t[2.5000, 2.5000, 2.5000]
[14.8872 - 18.0175]\tSes01F_impro01_F001\texc\t[2.5000, 2.5000, 2.5000]
[19.2900 - 20.7875]\tSes01F_impro01_M001\txxx\t[2.5000, 3.0000, 3.0000]
[21.3257 - 24.7400]\tSes01F_impro01_F002\tfru\t[2.5000, 3.5000, 3.5000]
[24.8000 - 26.0000]\tSes01F_impro01_F003\tsad\t[2.0000, 3.5000, 3.5000]
"""


def iemocap(root):
    turns = ("F000", "M000", "F001", "M001", "F002")
    tree(root, *(f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav" for turn in turns))
    tree(root, "Session1/dialog/wav/Ses01F_impro01.wav", "Session2/dialog/wav/Ses02M_script01_1.wav")
    tree(root, "Session2/sentences/wav/Ses02M_script01_1/Ses02M_script01_1_M008.wav")
    for name, text in (
        ("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt", EVALUATION),
        ("Session1/dialog/EmoEvaluation/._Ses01F_impro01.txt", "\0Mac OS X"),
        ("Session1/dialog/EmoEvaluation/Categorical/Ses01F_impro01_e2_cat.txt", "Ses01F_impro01_F000 :Neutral; ()"),
        (
            "Session2/dialog/EmoEvaluation/Ses02M_script01_1.txt",
            "[60.5 - 62.25]\tSes02M_script01_1_M008\tang\t[1.5, 4.0, 4.5]\n",
        ),
    ):
        (tree(root, name) / name).write_text(text)
    return root


MELD_HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def meld(root):
    for split_name, text in (
        ("train", '1,"I\x92m here, you\nknow",Ross,joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"\n'
                  '2,"No.",Phoebe,anger,negative,0,1,8,21,"00:16:22","00:16:23"\n'
                  '3,"Hm.",Phoebe,neutral,neutral,125,3,8,21,"00:16:22","00:16:23"\n'),
        ("dev", '1,Oh!,Monica,surprise,positive,0,0,4,7,"00:16:22","00:16:23"\n'),
        ("test", '1,Why?,Ross,sadness,negative,0,0,3,19,"00:16:22","00:16:23"\n'),
    ):  # fmt: skip
        (root / f"{split_name}_sent_emo.csv").write_bytes((MELD_HEADER + text).encode("latin-1"))
    return tree(
        root,
        "train/train_splits/dia0_utt0.mp4",
        "train/train_splits/dia0_utt1.mp4",
        "dev/dev_splits_complete/dia0_utt0.mp4",
        "test/output_repeated_splits_test/dia0_utt0.mp4",
        "test/output_repeated_splits_test/final_videos_testdia0_utt0.mp4",
        "test/output_repeated_splits_test/dia9_utt9.mp4",
        "test/output_repeated_splits_test/._dia0_utt0.mp4",
    )


@pytest.fixture
def database():
    """Write an audformat database of six files and two segments into a folder."""
    audformat = pytest.importorskip("audformat")

    def write(root, storage="csv", labels=("joy", "fear", "joy", "fear"), **emotion):
        files = [f"wav/{number}.wav" for number in range(6)]
        tree(root, *files)
        made = audformat.Database("toy")
        made.schemes["emotion"] = audformat.Scheme("str", labels=["joy", "fear"], **emotion)
        made.schemes["speaker"] = audformat.Scheme("str", labels={f"s{n}": {"gender": "female"} for n in range(3)})
        for name in ("train", "test"):
            made.splits[name] = audformat.Split(name)
        made["files"] = audformat.Table(audformat.filewise_index(files))
        made["files"]["speaker"] = audformat.Column(scheme_id="speaker")
        made["files"]["speaker"].set(["s0", "s0", "s1", "s1", "s2", "s2"])
        segments = audformat.segmented_index([files[0], files[0], files[1]], ["0s", "1.5s", "0s"], ["1.5s", "2s", "1s"])
        made["emotion.train"] = audformat.Table(segments, split_id="train")
        made["emotion.train"]["emotion"] = audformat.Column(scheme_id="emotion")
        made["emotion.train"]["emotion"].set(["joy", "fear", None])
        made["emotion.test"] = audformat.Table(audformat.filewise_index(files[2:]), split_id="test")
        made["emotion.test"]["emotion"] = audformat.Column(scheme_id="emotion")
        made["emotion.test"]["emotion"].set(list(labels))
        made.save(str(root), storage_format=storage)
        return made

    return write


@pytest.mark.parametrize("folders", [("Train", "Val"), ("Train_AFEW", "Val_AFEW")])
def test_afew5_is_read_from_folders_with_its_splits(tmp_path, folders):
    corpus = read(afew5(tmp_path, *folders), "afew5")
    assert rows(corpus)[0] == (f"{folders[0]}/Angry/000046280.avi", "angry", "")
    assert corpus.labels == ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise")
    (fold,) = split(Predefined(), corpus)
    assert (fold.name, len(fold.train), len(fold.test)) == ("val", 7, 7)
    assert {corpus.utterances[index].path.parts[-3] for index in fold.test} == {folders[1]}


def test_what_lies_elsewhere_in_afew5_is_skipped(tmp_path):
    tree(afew5(tmp_path), "Test/000000001.avi", "Train/Bored/1.avi", "Train/Angry/Faces/2.avi", "Val/Sad/012134365.wav")
    assert reasons(read(tmp_path, "afew5")) == {
        "Test/000000001.avi": "it lies neither in Train nor in Val",
        "Train/Bored/1.avi": "it lies in no emotion's folder",
        "Train/Angry/Faces/2.avi": "it lies in no emotion's folder",
        "Val/Sad/012134365.avi": "the corpus has it already: Val/Sad/012134365.wav",
    }


@pytest.mark.parametrize("ending", ["xlsx", "csv"])
def test_baum1s_gives_the_six_basic_emotions_alone(tmp_path, ending):
    corpus = read(baum1s(tmp_path, ending), "baum1s")
    assert [row[1:] for row in rows(corpus)] == [
        ("anger", "S001"), ("disgust", "S002"), ("fear", "S002"), ("happiness", "S003"), ("sadness", "S004"),
        ("surprise", "S005"),
    ]  # fmt: skip
    assert reasons(corpus) == {
        f"BAUM1s_MP4 - All/{clip[:4].lower()}/{clip}.mp4": f"its state is {state}; the six basic emotions are read"
        for clip, state in (("S001_002", "boredom"), ("S003_002", "neutral"), ("S031_012", "thinking"))
    }
    assert len(LeaveOneSpeakerGroupOut(groups=5).folds_of(corpus)) == 5


def test_unclear_or_missing_baum1s_clips_are_skipped(tmp_path):
    lines = (("S001_001", "Anger", 8), *BAUM1S[2:5], ("S009_001", "Fear", 7))
    skipped = reasons(read(baum1s(tmp_path, lines=lines), "baum1s"))
    assert skipped["BAUM1s_MP4 - All/s001/S001_001.mp4"] == "Annotations_BAUM1s.xlsx says 'Anger' but code '8'"
    assert skipped["BAUM1s_MP4 - All/s001/S001_002.mp4"] == "Annotations_BAUM1s.xlsx does not list it"
    assert skipped["S009_001"] == "Annotations_BAUM1s.xlsx lists it, but there is no file"


def test_baum1s_leaves_out_acted_and_misplaced_clips(tmp_path):
    acted, moved = "BAUM1a_MP4_all/s001/S001_001.mp4", "BAUM1s_MP4 - All/s004/S003_001.mp4"
    corpus = read(tree(baum1s(tmp_path), acted, moved), "baum1s")
    assert len(corpus.utterances) == 6
    assert reasons(corpus)[acted] == "it is of BAUM-1a, the acted part, whose clips have the same names"
    assert reasons(corpus)[moved] == "its name says subject S003, its folder s004"


def test_an_unreadable_annotation_file_is_refused(tmp_path, monkeypatch):
    (baum1s(tmp_path) / "Annotations_BAUM1s.xlsx").write_bytes(b"no workbook")
    with pytest.raises(UsageError, match=r"Annotations_BAUM1s\.xlsx is no \.xlsx workbook that can be read"):
        read(tmp_path, "baum1s")
    with pytest.raises(UsageError, match="has no line with a clip's name, such as S001_001"):
        read(baum1s(tmp_path, lines=()), "baum1s")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UsageError, match=r"pip install 'bserkit\[xlsx\]'"):
        read(tmp_path, "baum1s")


def test_an_annotation_file_must_agree_with_itself(tmp_path):
    with pytest.raises(UsageError, match=r"says of S001_001 Anger 1 and Fear 7; leave one of these lines"):
        read(baum1s(tmp_path, "csv", (*BAUM1S, ("S001_001", "Fear", 7))), "baum1s")


def test_iemocap_reads_the_four_classes_of_the_field(tmp_path):
    corpus = read(iemocap(tmp_path), "iemocap")
    sentences = "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_"
    assert rows(corpus) == [
        (f"{sentences}F000.wav", "neutral", "Ses01F"),
        (f"{sentences}F001.wav", "happiness", "Ses01F"),
        (f"{sentences}M000.wav", "happiness", "Ses01M"),
        ("Session2/sentences/wav/Ses02M_script01_1/Ses02M_script01_1_M008.wav", "anger", "Ses02M"),
    ]
    assert [one.session for one in corpus.utterances] == ["Session1"] * 3 + ["Session2"]
    assert reasons(corpus) == {
        "Ses01F_impro01_M001": "it is evaluated as no agreement; labels=ang hap+exc neu sad are read",
        "Ses01F_impro01_F002": "it is evaluated as frustration; labels=ang hap+exc neu sad are read",
        "Ses01F_impro01_F003": f"there is no file {sentences}F003.wav",
    }


def test_iemocap_reads_the_classes_that_are_asked_for(tmp_path):
    corpus = read(iemocap(tmp_path), "iemocap:labels=fru+ang exc xxx")
    assert [row[1] for row in rows(corpus)] == ["excitement", "frustration", "no agreement", "frustration"]


def test_iemocap_turns_are_stretches_of_dialogues(tmp_path):
    corpus = read(iemocap(tmp_path), "iemocap:sound=dialogs")
    assert corpus.items == [
        "Session1/dialog/wav/Ses01F_impro01.wav#6.2901-8.2357",
        "Session1/dialog/wav/Ses01F_impro01.wav#10.01-11.3925",
        "Session1/dialog/wav/Ses01F_impro01.wav#14.8872-18.0175",
        "Session1/dialog/wav/Ses01F_impro01.wav#24.8-26",
        "Session2/dialog/wav/Ses02M_script01_1.wav#60.5-62.25",
    ]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [("ang hapy", r"unknown code 'hapy' \(did you mean 'hap'\?\)"), ("ang ang+hap", "two classes")],
)
def test_classes_of_iemocap_that_are_none_are_refused(labels, reason):
    with pytest.raises(UsageError, match=reason):
        PLUGINS.make(CorpusReader, f"iemocap:labels={labels}")


def test_meld_is_read_from_its_annotation_files(tmp_path):
    corpus = read(meld(tmp_path), "meld")
    assert [(one.label, one.speaker, one.session, one.split) for one in corpus.utterances] == [
        ("surprise", "Monica", "s04e07", "dev"),
        ("sadness", "Ross", "s03e19", "test"),
        ("joy", "Ross", "s08e21", "train"),
        ("anger", "Phoebe", "s08e21", "train"),
    ]
    test = "test/output_repeated_splits_test"
    assert reasons(corpus) == {
        "train_sent_emo.csv, line 5": "there is no train video dia125_utt3",
        f"{test}/final_videos_testdia0_utt0.mp4": "it is another take of a clip",
        f"{test}/dia9_utt9.mp4": "no annotation file lists it among test",
    }


def test_meld_splits_that_share_speakers_are_refused(tmp_path):
    corpus = read(meld(tmp_path), "meld")
    with pytest.raises(UsageError, match=r"the same speaker in training and in test: Ross\..*--protocol loso or losgo"):
        split(Predefined(test="test"), corpus)
    assert len(LeaveOneSpeakerGroupOut(groups=3).folds_of(corpus)) == 3


def test_meld_without_its_columns_is_refused(tmp_path):
    (meld(tmp_path) / "dev_sent_emo.csv").write_text("Speaker,Utterance\nRoss,Hi\n")
    with pytest.raises(
        UsageError, match=r"lacks the column Emotion, Dialogue_ID, Utterance_ID .*; it has Speaker, Utt"
    ):
        read(tmp_path, "meld")


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_audformat_gives_labels_stretches_and_splits(tmp_path, database, storage):
    database(tmp_path, storage)
    corpus = read(tmp_path, "audformat")
    assert [(*row, one.split) for row, one in zip(rows(corpus), corpus.utterances, strict=True)] == [
        ("wav/0.wav#0-1.5", "joy", "s0", "train"),
        ("wav/0.wav#1.5-2", "fear", "s0", "train"),
        ("wav/2.wav", "joy", "s1", "test"),
        ("wav/3.wav", "fear", "s1", "test"),
        ("wav/4.wav", "joy", "s2", "test"),
        ("wav/5.wav", "fear", "s2", "test"),
    ]
    assert reasons(corpus) == {"wav/1.wav#0-1": "emotion.train gives it no emotion"}


def test_a_file_labelled_twice_is_read_in_segments(tmp_path, database):
    audformat, made = pytest.importorskip("audformat"), database(tmp_path)
    made["whole"] = audformat.Table(audformat.filewise_index(["wav/0.wav", "wav/1.wav"]))
    made["whole"]["emotion"] = audformat.Column(scheme_id="emotion")
    made["whole"]["emotion"].set(["joy", "fear"])
    made.save(str(tmp_path), storage_format="csv")
    corpus = read(tmp_path, "audformat")
    assert corpus.items[:4] == ["wav/0.wav#0-1.5", "wav/0.wav#1.5-2", "wav/1.wav", "wav/2.wav"]
    assert "its segments are read; --corpus audformat:table=" in reasons(corpus)["wav/0.wav"]
    assert read(tmp_path, "audformat:table=whole").items == ["wav/0.wav", "wav/1.wav"]


def test_audformat_is_read_by_table_and_column(tmp_path, database):
    database(tmp_path)
    (tmp_path / "wav" / "5.wav").unlink()
    corpus = read(tmp_path, "audformat:table=emotion.test,speaker=gender")
    assert corpus.speakers == ("female",)
    assert reasons(corpus) == {"wav/5.wav": "there is no file 'wav/5.wav'"}
    assert read(tmp_path, "audformat:label=speaker,speaker=").labels == ("s0", "s1", "s2")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_audb_publishes_and_loads_is_read(tmp_path, database):
    audb = pytest.importorskip("audb")
    import audbackend
    import soundfile

    made = database(tmp_path / "toy")
    for file in made.files:
        soundfile.write(tmp_path / "toy" / file, [[0.1, -0.1]] * 800, 8000)
    (tmp_path / "host").mkdir()
    audbackend.backend.FileSystem.create(str(tmp_path / "host"), "repository")
    repository = audb.Repository("repository", str(tmp_path / "host"), "file-system")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audb.config, "REPOSITORIES", [repository])
        audb.publish(str(tmp_path / "toy"), "1.0.0", repository, verbose=False)
        where = {"cache_root": str(tmp_path / "cache"), "verbose": False}
        audb.load_to(str(tmp_path / "copy"), "toy", version="1.0.0", **where)
        cached = Path(audb.load("toy", version="1.0.0", **where).root)
    published = rows(read(tmp_path / "toy", "audformat"))
    assert rows(read(tmp_path / "copy", "audformat")) == published
    assert rows(read(cached, "audformat")) == published


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("audformat:table=emotion.tset", r"no table 'emotion.tset' \(did you mean 'emotion.test'\?\); it has emotion"),
        ("audformat:label=emotions", r"labels 'emotions' \(did you mean 'emotion'\?\); it has emotion, speaker\."),
        ("audformat:speaker=spaeker", r"column 'spaeker' for the speaker \(did you mean 'speaker'\?\); it has emotion"),
    ],
)
def test_what_audformat_lacks_is_named_with_the_rest(tmp_path, database, spec, reason):
    database(tmp_path)
    with pytest.raises(UsageError, match=reason):
        read(tmp_path, spec)


def test_audformat_tables_that_disagree_are_refused(tmp_path, database):
    import audformat

    made = database(tmp_path)
    made["raw"] = audformat.Table(audformat.filewise_index(["wav/2.wav"]))
    made["raw"]["emotion"] = audformat.Column(scheme_id="emotion")
    made["raw"]["emotion"].set(["fear"])
    made.save(str(tmp_path), storage_format="csv")
    with pytest.raises(UsageError, match=r"disagree about wav/2\.wav: joy test and fear .*audformat:table=NAME"):
        read(tmp_path, "audformat")
    assert read(tmp_path, "audformat:table=raw").labels == ("fear",)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_and_code_in_audformat_are_never_run(tmp_path, database):
    made = database(tmp_path)
    sprung = tmp_path / "sprung"
    for table in made.tables:
        (tmp_path / f"db.{table}.pkl").write_bytes(pickle.dumps(Trap(sprung)))
    assert len(read(tmp_path, "audformat").utterances) == 6
    (tmp_path / "db.files.csv").unlink()
    with pytest.raises(
        UsageError, match=r"The table files of .* is not there as csv or parquet\. A pickle is not read"
    ):
        read(tmp_path, "audformat")
    (tmp_path / "db.yaml").write_text(f"name: !!python/object/apply:pathlib.Path.touch [{sprung}]\n")
    with pytest.raises(UsageError, match=r"db\.yaml is no header of a database: could not determine a constructor"):
        read(tmp_path, "audformat")
    assert not sprung.exists()


def test_without_audformat_the_error_names_the_package(tmp_path, database, monkeypatch):
    database(tmp_path)
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(UsageError, match=r"pip install 'bserkit\[audformat\]'"):
        read(tmp_path, "audformat")


@pytest.mark.parametrize(
    ("make", "expected"), [(afew5, "afew5"), (baum1s, "baum1s"), (iemocap, "iemocap"), (meld, "meld")]
)
def test_each_layout_is_recognised_by_its_reader_alone(tmp_path, make, expected):
    assert find_reader(make(tmp_path), READERS).name == expected


def test_audformat_is_recognised_by_its_reader_alone(tmp_path, database):
    database(tmp_path)
    assert find_reader(tmp_path, READERS).name == "audformat"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("afew5", "expects the folders Train and Val, in each a folder an emotion .* has joy"),
        ("baum1s", r"expects the annotation file Annotations_BAUM1s\.xlsx \(or \.csv\) beside the folder of videos"),
        ("iemocap", r"expects Session1 to Session5, each with dialog/EmoEvaluation/\*\.txt and sentences/wav"),
        ("meld", r"expects train_sent_emo\.csv, dev_sent_emo\.csv or test_sent_emo\.csv, beside the folders"),
        ("audformat", r"expects a database's header, db\.yaml, beside its tables and media"),
    ],
)
def test_another_layout_is_refused_with_the_expected(tmp_path, spec, expected):
    with pytest.raises(UsageError, match=f"The reader {spec} {expected}"):
        read(tree(tmp_path, "joy/1.wav"), spec)
