from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bserkit import UsageError, Utterance, speaker_groups, stratified_groups
from bserkit.corpora.protocols import (
    Fold,
    FoldsFile,
    Protocol,
    by_fold,
    cautions,
    speaker_overlap,
    warnings_of,
)
from bserkit.corpora.protocols import split as split_corpus
from bserkit.corpora.reading import Corpus, Skipped
from bserkit.plugins.builtin.corpora import Folders
from bserkit.plugins.registry import load_plugins

PLUGINS = load_plugins(outside=False)


class Given(Protocol):
    name = "given"
    train: tuple[int, ...]
    test: tuple[int, ...]

    def folds_of(self, corpus):
        return [Fold("only", np.array(self.train, dtype=int), np.array(self.test, dtype=int))]


def utterances(speakers, splits=()):
    splits = splits or [""] * len(speakers)
    return [
        Utterance(Path(f"{index}.wav"), "joy", speaker, split=part)
        for index, (speaker, part) in enumerate(zip(speakers, splits, strict=True))
    ]


def corpus(utterances, skipped=()):
    return Corpus(Path.cwd(), Folders(), tuple(utterances), tuple(Skipped(item, "corrupt") for item in skipped))


def split(protocol, utterances, **options):
    return split_corpus(protocol, corpus(utterances), **options)


def protocol(spec):
    return PLUGINS.make(Protocol, spec)


def sides(found, folds):
    return [
        (fold.name, [found[index].path.stem for index in fold.train], [found[index].path.stem for index in fold.test])
        for fold in folds
    ]


def fold_of_speakers(found, folds):
    return {found[index].speaker: fold.name for fold in folds for index in fold.test}


SPEAKERS = st.lists(st.sampled_from([f"s{number}" for number in range(12)]), min_size=2, max_size=60).filter(
    lambda speakers: len(set(speakers)) > 1
)
SHUFFLED = SPEAKERS.flatmap(lambda speakers: st.tuples(st.just(speakers), st.permutations(range(len(speakers)))))
LEAVING_OUT = st.sampled_from(["loso", "losgo", "losgo:groups=2", "losgo:groups=3", "losgo:groups=50"])


def test_loso_tests_each_speaker_in_order_of_names():
    found = utterances(["b", "a", "c", "a"])
    assert sides(found, split(protocol("loso"), found)) == [
        ("a", ["0", "2"], ["1", "3"]),
        ("b", ["1", "2", "3"], ["0"]),
        ("c", ["0", "1", "3"], ["2"]),
    ]


def test_losgo_evaluates_each_group_on_all_others():
    found = utterances(["a", "a", "a", "b", "c", "c"])
    assert sides(found, split(protocol("losgo:groups=2"), found)) == [
        ("group1", ["3", "4", "5"], ["0", "1", "2"]),
        ("group2", ["0", "1", "2"], ["3", "4", "5"]),
    ]


def test_losgo_has_five_groups_unless_asked_otherwise():
    found = utterances([f"s{number:02}" for number in range(20)])
    folds = split(protocol("losgo"), found)
    assert [fold.name for fold in folds] == ["group1", "group2", "group3", "group4", "group5"]
    assert [len(fold.test) for fold in folds] == [4] * 5


def test_losgo_with_as_many_groups_as_speakers_is_loso():
    found = utterances(["b", "a", "c", "a"])
    assert sides(found, split(protocol("losgo:groups=3"), found)) == sides(found, split(protocol("loso"), found))


@pytest.mark.parametrize("groups", [0, 1, -1])
def test_fewer_than_two_groups_are_refused(groups):
    with pytest.raises(UsageError, match=f"losgo: groups={groups}: input should be greater than or equal to 2"):
        protocol(f"losgo:groups={groups}")


@given(SPEAKERS, LEAVING_OUT)
def test_every_utterance_is_tested_once_across_folds(speakers, spec):
    found = utterances(speakers)
    folds = split(protocol(spec), found)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(found)))
    for fold in folds:
        assert sorted([*fold.train.tolist(), *fold.test.tolist()]) == list(range(len(found)))
        assert not {speakers[index] for index in fold.train} & {speakers[index] for index in fold.test}
    assert len({fold.name for fold in folds}) == len(folds)


@given(SHUFFLED, LEAVING_OUT)
def test_a_speakers_fold_ignores_the_utterance_order(shuffled, spec):
    speakers, order = shuffled
    found = utterances(speakers)
    reordered = [found[index] for index in order]
    assert fold_of_speakers(found, split(protocol(spec), found)) == fold_of_speakers(
        reordered, split(protocol(spec), reordered)
    )


@pytest.mark.parametrize("spec", ["loso", "losgo"])
def test_utterances_without_a_speaker_are_refused(spec):
    with pytest.raises(UsageError) as caught:
        split(protocol(spec), utterances(["a", "", "b", ""]))
    message = str(caught.value)
    assert f"Protocol {spec} splits by speaker, but 2 of 4 utterances name none" in message
    assert "folders:speaker=REGEX" in message
    assert "--protocol predefined" in message
    assert "--protocol stratified" in message


@pytest.mark.parametrize("spec", ["loso", "losgo"])
def test_one_speaker_alone_is_refused(spec):
    with pytest.raises(UsageError, match="needs at least two speakers; the corpus has 1"):
        split(protocol(spec), utterances(["a", "a"]))


def test_predefined_tests_the_only_split_but_train():
    found = utterances(["a", "b", "c", "d"], ["train", "val", "train", ""])
    assert sides(found, split(protocol("predefined"), found)) == [("val", ["0", "2"], ["1"])]


def test_predefined_takes_the_splits_that_are_named():
    found = utterances(["a", "b", "c"], ["one", "two", "three"])
    assert sides(found, split(protocol("predefined:train=three,test=one"), found)) == [("one", ["2"], ["0"])]


@pytest.mark.parametrize(
    ("spec", "splits", "known"),
    [
        ("predefined", ["", "", ""], "none"),
        ("predefined", ["train", "train", "train"], "train"),
        ("predefined", ["val", "test", "val"], "test, val"),
        ("predefined", ["train", "val", "test"], "test, train, val"),
        ("predefined:test=dev", ["train", "val", "val"], "train, val"),
        ("predefined:test=train", ["train", "val", "val"], "train, val"),
    ],
)
def test_predefined_refuses_missing_or_unclear_splits(spec, splits, known):
    with pytest.raises(UsageError) as caught:
        split(protocol(spec), utterances(["a", "b", "c"], splits))
    assert f"the corpus has {known}" in str(caught.value)
    assert "--protocol predefined:train=NAME,test=NAME" in str(caught.value)


def test_a_speaker_on_both_sides_is_refused_by_name():
    found = utterances(["a", "b", "c", "b", "a", "d"], ["train", "train", "train", "val", "val", "val"])
    with pytest.raises(UsageError) as caught:
        split(protocol("predefined"), found)
    message = str(caught.value)
    assert "Fold val of protocol predefined has the same speaker in training and in test: a, b." in message
    assert "--protocol loso" in message


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["train", "val"])), min_size=1))
def test_predefined_splits_may_not_share_speakers(items):
    found = utterances(*(list(column) for column in zip(*items, strict=True)))
    parts = {part: {speaker for speaker, where in items if where == part} for part in ("train", "val")}
    fair = all(parts.values()) and not parts["train"] & parts["val"]
    if fair:
        (fold,) = split(protocol("predefined"), found)
        assert {found[index].speaker for index in fold.train} == parts["train"]
        assert {found[index].speaker for index in fold.test} == parts["val"]
    else:
        with pytest.raises(UsageError):
            split(protocol("predefined"), found)


def test_nameless_speakers_are_no_shared_speaker():
    found = utterances(["", "", "a"], ["train", "val", "val"])
    assert len(split(protocol("predefined"), found)) == 1


def test_a_speaker_on_both_sides_is_refused():
    with pytest.raises(UsageError, match="the same speaker in training and in test: a"):
        split(Given(train=(0, 1), test=(2,)), utterances(["a", "b", "a"]))


@pytest.mark.parametrize(("train", "test"), [((), (0,)), ((0,), ()), ((), ())])
def test_a_fold_without_items_on_one_side_is_refused(train, test):
    with pytest.raises(
        UsageError, match=f"has {len(train)} training and {len(test)} test utterances; both sides need some"
    ):
        split(Given(train=train, test=test), utterances(["a", "b"]))


@pytest.mark.parametrize("other", ["S1", " s1", "\uff531"])
def test_one_speaker_spelt_two_ways_is_an_overlap(other):
    found = utterances(["s1", "s2", other], ["train", "train", "val"])
    with pytest.raises(UsageError) as caught:
        split(protocol("predefined"), found)
    shown = " = ".join(map(repr, sorted(["s1", other])))
    assert f"has the same speaker in training and in test: {shown}. Names that differ in case" in str(caught.value)
    folds = split(protocol("predefined"), found, allow_speaker_overlap=True)
    assert speaker_overlap(corpus(found), folds) == {"val": [shown]}


@pytest.mark.parametrize("spec", ["loso", "losgo:groups=2"])
def test_folds_by_speaker_do_not_part_two_spellings(spec):
    found = utterances(["S1", "s2", "s1", "s3", "S2"])
    for fold in split(protocol(spec), found):
        sides = [{found[index].speaker.casefold() for index in side} for side in (fold.train, fold.test)]
        assert not sides[0] & sides[1]


def test_one_speaker_spelt_two_ways_is_one_speaker():
    with pytest.raises(UsageError, match="needs at least two speakers; the corpus has 1"):
        split(protocol("loso"), utterances(["s1", "S1"]))


def test_speaker_groups_do_not_part_two_spellings():
    assert speaker_groups(["s1", "S1 ", "b", "S1"], 9).tolist() == [0, 0, 1, 0]


def labelled(*pairs, splits=()):
    """Utterances by (speaker, label)."""
    return [replace(one, label=label) for one, (_, label) in zip(
        utterances([speaker for speaker, _ in pairs], splits), pairs, strict=True)]  # fmt: skip


@pytest.mark.parametrize("spec", ["loso", "losgo:groups=3"])
def test_speakers_that_are_emotions_are_refused(spec):
    found = labelled(("joy", "joy"), ("joy", "joy"), ("fear", "fear"), ("calm", "calm"))
    with pytest.raises(UsageError) as caught:
        split(protocol(spec), found)
    message = str(caught.value)
    assert message.startswith(f"Fold calm of protocol {spec} tests calm, but learns fear, joy: it learns no class that")
    assert "So do 2 more folds. Every speaker has a single emotion: it looks as if the speaker names" in message
    assert "--corpus 'folders:speaker=REGEX'" in message


def test_a_fold_that_learns_no_tested_class_is_refused():
    found = labelled(("a", "joy"), ("a", "fear"), ("b", "calm"), splits=["train", "train", "val"])
    with pytest.raises(UsageError, match=r"Fold val .* tests calm, but learns fear, joy: .*the folds part emotions"):
        split(protocol("predefined"), found)


def test_classes_absent_from_training_are_a_caution():
    found = labelled(("a", "joy"), ("a", "fear"), ("b", "joy"), ("b", "fear"), ("c", "joy"), ("c", "calm"))
    folds = split(protocol("loso"), found)
    told = cautions(corpus(found), folds)
    assert told == {"absent_classes": "c: calm"}
    assert warnings_of(told) == [
        "WARNING: folds test classes that they do not learn (c: calm): no such utterance can be predicted rightly."
    ]


def test_a_cut_list_of_folds_says_where_all_are():
    found = {f"fold{number}": ["x" * 100] for number in range(20)}
    assert by_fold(found).endswith("fold8: " + "x" * 100 + "; and 11 more folds, all in the run's folds_summary.csv")


def test_a_split_that_is_beyond_doubt_has_no_caution():
    found = utterances(["a", "b", "a", "b"])
    assert cautions(corpus(found), split(protocol("loso"), found)) == {}


@given(
    st.lists(st.sampled_from(["joy", "fear", "calm"]), min_size=9, max_size=40).filter(lambda one: len(set(one)) > 1)
)
def test_stratified_tests_each_utterance_once_evenly(labels):
    found = labelled(*(("", label) for label in [*labels, "joy", "joy", "fear", "fear"]))
    folds = split(protocol("stratified:folds=2"), found)
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(found)))
    assert [fold.name for fold in folds] == ["fold1", "fold2"]
    for label in set(labels):
        counts = [sum(found[index].label == label for index in fold.test) for fold in folds]
        assert abs(counts[0] - counts[1]) <= 1
    assert (
        cautions(corpus(found), folds)["speakers_unknown"] == f"{len(found)} of {len(found)} utterances name no speaker"
    )


def test_stratified_folds_do_not_depend_on_order():
    found = labelled(*(("", label) for label in ["joy", "fear"] * 8))
    order = np.random.default_rng(0).permutation(16)
    shuffled = [found[index] for index in order]
    by_path = [
        {one.path: fold.name for fold in split(protocol("stratified"), some) for one in (some[i] for i in fold.test)}
        for some in (found, shuffled)
    ]
    assert by_path[0] == by_path[1]


def test_stratified_folds_follow_their_seed():
    found = labelled(*(("", label) for label in ["joy", "fear"] * 8))
    one, other = (sides(found, split(protocol(f"stratified:seed={seed}"), found)) for seed in (0, 1))
    assert one != other


def test_stratified_is_refused_if_speakers_are_known():
    found = labelled(*((speaker, label) for speaker in "ab" for label in ["joy", "fear"] * 5))
    with pytest.raises(UsageError, match=r"the same speaker in training and in test: .*--protocol loso"):
        split(protocol("stratified"), found)
    assert len(split(protocol("stratified"), found, allow_speaker_overlap=True)) == 5


def test_more_stratified_folds_than_items_are_refused():
    with pytest.raises(UsageError, match="makes 5 folds, but there are 2 utterances"):
        split(protocol("stratified"), utterances(["", ""]))


def test_the_largest_speaker_joins_the_smallest_group():
    speakers = ["e"] + ["d"] * 5 + ["c"] * 2 + ["b"] * 3 + ["a"] * 3
    groups = dict(zip(speakers, speaker_groups(speakers, 2).tolist(), strict=True))
    assert groups == {"d": 0, "a": 1, "b": 1, "c": 0, "e": 1}


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=40), st.integers(2, 6), st.integers(0, 3))
def test_stratified_groups_deal_every_class_out_evenly(labels, groups, seed):
    group_of = stratified_groups(labels, groups, seed)
    for chosen in ({"a"}, {"b"}, {"c"}, {"a", "b", "c"}):
        inside = [group for label, group in zip(labels, group_of.tolist(), strict=True) if label in chosen]
        sizes = [inside.count(group) for group in range(groups)]
        assert max(sizes) - min(sizes) <= 1
    assert stratified_groups(labels, groups, seed).tolist() == group_of.tolist()


def test_speakers_of_equal_size_are_grouped_by_name():
    assert speaker_groups(["c", "b", "a", "d"], 2).tolist() == [0, 1, 0, 1]


@given(SPEAKERS, st.integers(1, 15))
def test_groups_split_no_speaker_and_are_never_empty(speakers, groups):
    group_of = speaker_groups(speakers, groups)
    assert len({*zip(speakers, group_of.tolist(), strict=True)}) == len(set(speakers))
    assert set(group_of.tolist()) == set(range(min(groups, len(set(speakers)))))


@given(SPEAKERS, st.integers(2, 15))
def test_group_sizes_differ_by_one_speaker_at_most(speakers, groups):
    sizes = Counter(speaker_groups(speakers, groups).tolist()).values()
    assert max(sizes) - min(sizes) <= max(Counter(speakers).values())


@given(SHUFFLED, st.integers(1, 15))
def test_speaker_groups_do_not_depend_on_order(shuffled, groups):
    speakers, order = shuffled
    reordered = speaker_groups([speakers[index] for index in order], groups)
    np.testing.assert_array_equal(reordered, speaker_groups(speakers, groups)[list(order)])


@given(SPEAKERS)
def test_enough_groups_give_one_speaker_each_by_name(speakers):
    names = sorted(set(speakers))
    expected = [names.index(speaker) for speaker in speakers]
    assert speaker_groups(speakers, len(names)).tolist() == expected
    assert speaker_groups(np.array(speakers), len(speakers)).tolist() == expected


def folds_file(folder, *rows, header="utterance,fold,part"):
    path = folder / "folds.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return FoldsFile(path=str(path))


def found(speakers):
    return [Utterance(Path.cwd() / one.path, one.label, one.speaker) for one in utterances(speakers)]


def test_a_folds_file_sets_fold_order_and_contents(tmp_path):
    file = folds_file(
        tmp_path,
        "2.wav,second,test",
        "0.wav,second,train",
        "4.wav,first,test",
        "3.wav,first,train",
        "0.wav,first,train",
    )
    speakers = found("abcde")
    assert sides(speakers, split(file, speakers)) == [("second", ["0"], ["2"]), ("first", ["0", "3"], ["4"])]


def test_a_folds_file_may_have_more_columns_and_a_bom(tmp_path):
    rows = ("test, x ,0.wav,anything", "train,x,1.wav,", "")
    file = folds_file(tmp_path, *rows, header="\ufeffpart,fold,utterance,comment")
    assert sides(found("ab"), split(file, found("ab"))) == [("x", ["1"], ["0"])]


def test_a_folds_file_finds_names_with_a_leading_blank(tmp_path):
    file = folds_file(tmp_path, " 0.wav,x,train", "1.wav,x,test")
    one, other = found("ab")
    (fold,) = split(file, [replace(one, path=Path.cwd() / " 0.wav"), other])
    assert (fold.train.tolist(), fold.test.tolist()) == ([0], [1])


def test_stretches_of_a_file_are_told_apart_by_seconds(tmp_path):
    path = Path.cwd() / "long.wav"
    parts = [Utterance(path, "joy", "a", 0.0, 1.5), Utterance(path, "joy", "b", 1.5)]
    (fold,) = split(folds_file(tmp_path, "long.wav#0-1.5,x,train", "long.wav#1.5-,x,test"), parts)
    assert (fold.train.tolist(), fold.test.tolist()) == ([0], [1])


def test_skipped_recordings_are_left_out_of_the_folds(tmp_path):
    file = folds_file(tmp_path, "0.wav,x,train", "bad.wav,x,train", "1.wav,x,test")
    (fold,) = split_corpus(file, corpus(found("ab"), skipped=["bad.wav"]))
    assert (fold.train.tolist(), fold.test.tolist()) == ([0], [1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["0.wav,x,train", "9.wav,x,test"], r"line 3: there is no utterance '9\.wav'.* such as '0\.wav'"),
        (["0.wav,x,train", "0.wav,x,test"], r"line 3: '0\.wav' stands in fold 'x' as test, but as train on line 2"),
        (["0.wav,x,train", "0.wav,x,train"], r"line 3: '0\.wav' stands in fold 'x' as train on line 2 already"),
        (
            ["0.wav,x,test", "1.wav,x,train", "", "0.wav,y,test"],
            r"line 5: '0\.wav' is tested in fold 'y', but on line 2 in fold 'x' already",
        ),
        (["0.wav,x,valid"], "line 2: the part is 'valid'; expected train or test"),
        (["0.wav,x,"], "line 2: the part is ''"),
        (["0.wav,x"], "line 2: it has 2 cells, the header 3"),
        (["0.wav,x,train", "1.wav,x,test,more"], "line 3: it has 4 cells, the header 3"),
        (["0.wav,x,train", '"1.wav,x,test', "2.wav,x,test"], "line 3: a quotation mark opens a cell and is not closed"),
        ([",x,train"], "line 2: it names no utterance or no fold"),
        (["0.wav,,train"], "line 2: it names no utterance or no fold"),
        (["0.wav,x,train"], "Fold x of .* has 1 training and 0 test utterances"),
        (["0.wav,x,test"], "Fold x of .* has 0 training and 1 test utterances"),
        ([], "has no rows below its first line"),
    ],
)
def test_an_invalid_folds_file_is_refused_by_line(tmp_path, rows, message):
    with pytest.raises(UsageError, match=message):
        split(folds_file(tmp_path, *rows), found("abc"))


@pytest.mark.parametrize("header", ["", "utterance,part", "item,fold,part"])
def test_a_folds_file_without_a_column_is_refused(tmp_path, header):
    with pytest.raises(UsageError, match=r"The folds file .* lacks the column .*Needed: utterance, fold, part"):
        split(folds_file(tmp_path, "0.wav,x,train", header=header), found("ab"))


def test_a_folds_file_with_a_column_twice_is_refused(tmp_path):
    file = folds_file(tmp_path, "0.wav,x,train,y", header="utterance,fold,part,fold")
    with pytest.raises(UsageError, match="names the column fold 2 times"):
        split(file, found("ab"))


def test_a_folds_file_names_files_in_any_unicode_form(tmp_path):
    file = folds_file(tmp_path, "e\u0301.wav,x,train", "1.wav,x,test")
    one, other = found("ab")
    (fold,) = split(file, [replace(one, path=Path.cwd() / "\u00e9.wav"), other])
    assert (fold.train.tolist(), fold.test.tolist()) == ([0], [1])


def test_a_missing_or_binary_folds_file_is_refused(tmp_path):
    missing = FoldsFile(path=str(tmp_path / "none.csv"))
    for ask in (missing.digest, lambda: split(missing, found("ab"))):
        with pytest.raises(UsageError, match=r"none\.csv cannot be read: No such file"):
            ask()
    (tmp_path / "binary.csv").write_bytes(b"utterance,fold,part\n\xff\xfe,x,train\n")
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        split(FoldsFile(path=str(tmp_path / "binary.csv")), found("ab"))


def test_a_folds_file_is_named_by_its_content(tmp_path):
    (tmp_path / "other").mkdir()
    one, same = folds_file(tmp_path, "0.wav,x,train"), folds_file(tmp_path / "other", "0.wav,x,train")
    assert one.digest() == same.digest() != ""
    assert protocol("loso").digest() == ""


def test_overlapping_speakers_need_permission(tmp_path):
    rows = ["0.wav,x,train", "1.wav,x,test", "2.wav,x,train", "3.wav,y,train", "2.wav,y,test", "0.wav,z,train"]
    file, speakers = folds_file(tmp_path, *rows, "4.wav,z,test"), found("aabba")
    with pytest.raises(UsageError) as caught:
        split(file, speakers)
    assert "Fold x" in str(caught.value)
    assert "in training and in test: a. So have 2 more folds." in str(caught.value)
    assert "--allow-speaker-overlap" in str(caught.value)
    folds = split(file, speakers, allow_speaker_overlap=True)
    overlap = speaker_overlap(corpus(speakers), folds)
    assert overlap == {"x": ["a"], "y": ["b"], "z": ["a"]}
    assert by_fold(overlap) == "x: a; y: b; z: a"


def test_overlap_may_be_allowed_but_empty_sides_never():
    speakers = utterances(["a", "b", "a"], ["train", "train", "val"])
    assert len(split(protocol("predefined"), speakers, allow_speaker_overlap=True)) == 1
    with pytest.raises(UsageError, match="both sides need some"):
        split(Given(train=(), test=(0,)), speakers, allow_speaker_overlap=True)
