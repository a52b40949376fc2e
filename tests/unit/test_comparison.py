"""Comparisons: which runs may be compared, and what is written of them."""

from dataclasses import replace

import numpy as np
import pytest

from bserkit.errors import UsageError
from bserkit.evaluation.comparison import ComparisonRow, RunPart, check_comparable, compare, comparison_rows
from bserkit.evaluation.results import read_results
from bserkit.reporting.comparison import markdown
from bserkit.rows import read_rows, write_rows
from bserkit.text import csv_text
from bserkit.tracking.finished import KeptRun

SPEAKERS = ["ann", "bob", "cat", "dan", "eve", "fay"]
LABELS = ["calm", "glad", "calm", "mad"]
FOLDS = [
    {"fold": name, "train_items": 20, "test_items": 4, "train_speakers": "all but " + name, "test_speakers": name}
    for name in SPEAKERS
]


def rows(wrong=(), part="fusion"):
    """Return a run's predictions: all right but those of the items whose names are given."""
    return [
        {
            "utterance": f"{speaker}-{take}",
            "speaker": speaker,
            "fold": speaker,
            "part": part,
            "label": label,
            "decided": "sad" if f"{speaker}-{take}" in wrong else label,
            **{f"score_{name}": 0 for name in ("calm", "glad", "mad", "sad")},
        }
        for speaker in SPEAKERS
        for take, label in enumerate(LABELS)
    ]


def predictions(name, given, folds=FOLDS, **parameters):
    run = KeptRun(name * 32, f"run {name}", "bserkit", parameters, {"corpus.fingerprint": parameters.get("data", "")})
    return part_of(run, given, folds)


def part_of(run, given, folds=FOLDS, part="fusion"):
    files = {"predictions.csv": csv_text(given).encode(), "folds.csv": csv_text(folds).encode()}
    return RunPart.of(run, read_results(files, run.run_id), part)


def changed(column, value, count=1):
    return [row | ({column: value} if index < count else {}) for index, row in enumerate(rows())]


def refusal(given, folds=FOLDS):
    with pytest.raises(UsageError) as refused:
        check_comparable(predictions("a", rows()), predictions("b", given, folds))
    return str(refused.value)


def test_the_order_of_items_is_of_no_account():
    check_comparable(predictions("a", rows()), predictions("b", rows()[::-1]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (rows()[2:], "their utterances differ: 22 are in both, 2 only in aaaaaaaa (ann-0, ann-1), 0 only in bbbbbbbb"),
        (changed("utterance", "new"), "23 are in both, 1 only in aaaaaaaa (ann-0), 1 only in bbbbbbbb (new)"),
        (changed("utterance", "z")[4:], "only in aaaaaaaa (ann-0, ann-1, ann-2, ...)"),
        (changed("label", "mad", 2), "the labels of 2 of 24 utterances differ (ann-0: calm, mad; ann-1: glad, mad)"),
        (changed("speaker", "eve"), "the speakers of 1 of 24 utterances differ (ann-0: ann, eve)"),
        (changed("fold", "one", 24), "the folds of 24 of 24 utterances differ (ann-0: ann, one; ann-1: ann, one"),
        ([row | {"score_shy": 0} for row in rows()], "calm, glad, mad, sad and calm, glad, mad, sad, shy"),
    ],
)  # fmt: skip
def test_runs_of_unlike_utterances_are_refused(given, said):
    assert said in refusal(given)


def test_runs_with_other_training_speakers_are_refused():
    folds = [*FOLDS[:-1], FOLDS[-1] | {"train_speakers": "ann"}]
    assert "1 of 6 folds have other speakers in training (fay)" in refusal(rows(), folds)


def test_a_missing_part_is_refused_with_the_known_ones():
    run = KeptRun("a" * 32, "run a", "bserkit", {}, {})
    given = rows() + rows(part="left")
    with pytest.raises(UsageError, match=r"no part 'lefd' \(did you mean 'left'\?\)\. It has: left, fusion"):
        part_of(run, given, part="lefd")
    assert len(part_of(run, given, part="left").predictions.utterances) == 24


def test_a_difference_is_later_minus_earlier_by_hand():
    # Run a errs once with every speaker, on a calm item; run b errs once with ann alone, on an item that a got right.
    one = predictions("a", rows([f"{name}-0" for name in SPEAKERS]), pooler="x", seed="0")
    other = predictions("b", rows(["ann-1"]), pooler="y", seed="0")
    found = compare([one, other], "fusion", resamples=500, seed=0)
    assert found.differing == [{"pooler": "x"}, {"pooler": "y"}]
    assert [one["accuracy"].value for one in found.intervals] == pytest.approx([18 / 24, 23 / 24])
    (pair,) = found.pairs
    assert (pair.run, pair.other, pair.utterances.b, pair.utterances.c) == (1, 0, 6, 1)
    assert pair.difference["accuracy"].value == pytest.approx(5 / 24)
    assert pair.difference["uar"].value == pytest.approx((1 + 5 / 6 + 1 - 1 / 2 - 1 - 1) / 3)
    assert pair.utterances.p == pair.mcnemar_holm == pytest.approx(2 * (1 + 7) / 2**7)
    # Five speakers gain a quarter and one gains nothing, whatever its sign.
    assert pair.permutation["accuracy"] == pair.permutation_holm["accuracy"] == 4 / 2**6
    assert found.speaker_uar[0].tolist() == pytest.approx([5 / 6] * 6)
    assert found.speaker_uar[1].tolist() == pytest.approx([2 / 3, *[1] * 5])
    assert (found.chance.uar, found.chance.accuracy, found.chance.majority) == (1 / 4, 1 / 2, "calm")


def test_predictions_of_older_runs_can_be_read():
    older = [{"item" if name == "utterance" else name: value for name, value in row.items()} for row in rows()]
    check_comparable(predictions("a", rows()), predictions("b", older))


def test_without_speakers_there_are_no_speaker_results():
    nameless = [row | {"speaker": "", "fold": "fold1"} for row in rows(["ann-0"])]
    runs = [predictions(name, given) for name, given in (("a", nameless), ("b", nameless[::-1]))]
    warned = {"speakers_unknown": "24 of 24 utterances name no speaker"}
    runs = [replace(one, run=replace(one.run, tags=warned)) for one in runs]
    found = compare(runs, "fusion", resamples=100, seed=0)
    page = markdown(found)
    assert "of unknown speakers\n" in page
    assert "over speakers" not in page.replace("there are no intervals over speakers", "")
    assert "permutation test" not in page
    assert "No utterance names its speaker" in page
    assert "WARNING: the same speaker may be in training and in test: 24 of 24 utterances name no speaker" in page
    (pair,) = found.pairs
    assert np.isnan([*pair.permutation.values(), *pair.permutation_holm.values()]).all()
    assert "nan" not in page


@pytest.mark.parametrize(("runs", "pairs"), [(2, 1), (4, 6), (5, 4)])
def test_over_four_runs_are_each_tested_with_the_first(runs, pairs):
    decisions = [predictions(f"{index}", rows([f"{name}-0" for name in SPEAKERS[:index]])) for index in range(runs)]
    found = compare(decisions, "fusion", resamples=100, seed=0)
    assert len(found.pairs) == len({(pair.run, pair.other) for pair in found.pairs}) == pairs
    assert all(pair.other < pair.run for pair in found.pairs)
    if runs > 4:
        assert {pair.other for pair in found.pairs} == {0}
    least = min(pair.utterances.p for pair in found.pairs)
    assert min(pair.mcnemar_holm for pair in found.pairs) == pytest.approx(min(1, pairs * least))


def test_what_a_reader_must_know_is_said_in_words():
    decisions = [predictions("a", rows(), data="here"), predictions("b", rows(["ann-0"]), data="there")]
    notes = "\n".join(compare(decisions, "fusion", 100, 0, notes=["Chosen by lot."]).notes)
    assert "only 6 speakers" in notes
    assert "their recordings differ in content" in notes
    assert "Chosen by lot." in notes
    assert "permutation" not in notes
    three = compare([*decisions, predictions("c", rows(["bob-0"]), data="here")], "fusion", 100, 0)
    assert any("2/2^6 = 0.0312 (0.0938 corrected for 3 comparisons)" in note for note in three.notes)


def test_a_comparison_is_read_back_as_it_was_written():
    decisions = [predictions("a", rows(["ann-0", "bob-3"])), predictions("b", rows(["ann-1"]))]
    found = compare(decisions, "fusion", 200, 0)
    written = comparison_rows(found)
    assert [row.kind for row in written] == ["run"] * 6 + ["pair"] * 2 + ["speaker"] * 12
    assert [row.value for row in written if row.kind == "speaker"] == found.speaker_uar.ravel().tolist()
    pair = next(row for row in written if row.kind == "pair" and row.measure == "uar")
    assert (pair.run, pair.other) == ("b" * 32, "a" * 32)
    assert pair.permutation_p == found.pairs[0].permutation["uar"]
    assert written[1].low == found.intervals[0]["uar"].low
    assert read_rows(ComparisonRow, write_rows(ComparisonRow, written)) == written


def test_the_page_is_valid_markdown_for_any_run_name():
    one, other = predictions("a", rows(), pooler="p|q"), predictions("b", rows(["ann-1"]))
    text = markdown(compare([one, other], "fusion", 100, 0))
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for lines in tables:
        assert len({line.replace("\\|", "").count("|") for line in lines}) == 1
    assert "pooler=p\\|q" in text
    assert "Chance: UAR 0.250" in text


def test_a_run_and_its_copy_do_not_differ():
    found = compare([predictions("a", rows(["ann-1"])), predictions("b", rows(["ann-1"]))], "fusion", 100, 0)
    (pair,) = found.pairs
    assert (pair.utterances.p, *pair.permutation.values()) == (1, 1, 1)
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in pair.difference.values())
    assert found.differing == [{}, {}]
    assert np.array_equal(*found.speaker_uar)
