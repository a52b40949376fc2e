"""What a report says, by hand, and how it is written."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch

from bserkit.corpora.audio import content_digest, inspect_audio
from bserkit.corpora.checking import Checked
from bserkit.corpora.reading import Corpus, Utterance
from bserkit.errors import UsageError
from bserkit.evaluation.metrics import measure
from bserkit.evaluation.statistics import Interval
from bserkit.features.example import channel_example
from bserkit.features.extraction import Extraction
from bserkit.features.frontends import Frontend
from bserkit.plugins.builtin.channels import LeftRight, MidSide
from bserkit.plugins.builtin.corpora import Manifest
from bserkit.plugins.builtin.frontends import LogMel
from bserkit.plugins.registry import load_plugins
from bserkit.reporting import report_pictures, report_tables
from bserkit.reporting.figures import confusion_figure, interval_figure, svg
from bserkit.reporting.report import Network, gather, page
from bserkit.reporting.tables import Cell, confusion_table
from bserkit.store import FeatureStore
from bserkit.text import csv_text
from bserkit.tracking.finished import KeptRun

#: Of each utterance: speaker, what is true, what the fusion decided, what left decided.
DECIDED = [
    ("ann", "calm", "calm", "calm"),
    ("ann", "calm", "calm", "calm"),
    ("ann", "mad", "calm", "mad"),
    ("bob", "calm", "calm", "calm"),
    ("bob", "mad", "mad", "calm"),
    ("bob", "mad", "calm", "calm"),
]
FOLDS = [
    {"fold": "ann", "train_items": 3, "test_items": 3, "train_speakers": "bob", "test_speakers": "ann"},
    {"fold": "bob", "train_items": 3, "test_items": 3, "train_speakers": "ann", "test_speakers": "bob"},
]
#: What each weight of left reached in the search: of fold ann, of fold bob and of the oracle.
SEARCH = {"ann": [0.2, 0.6, 0.3], "bob": [0.4, 0.6, 0.8], "oracle": [0.5, 0.75, 0.7]}
CHOSEN = {"ann": 0.5, "bob": 1.0, "oracle": 0.5}
PARAMETERS = {"channels": "lr", "corpus": "csv", "protocol": "loso", "fusion": "two-stage", "fusion.metric": "uar"}
PLUGINS = load_plugins(outside=False)


def predictions(decided=DECIDED):
    return [
        {"item": f"{index}.wav", "speaker": speaker, "fold": speaker, "part": part, "label": label, "decided": choice}
        | {"score_calm": 0, "score_mad": 0}
        for column, part in enumerate(("left", "fusion"))
        for index, (speaker, label, *choices) in enumerate(decided)
        for choice in [choices[1 - column]]
    ]


def search():
    return [
        {"fold": fold, "stage": "lr", "weight_left": weight, "weight_right": 1 - weight}
        | {"score": score, "chosen": int(weight == CHOSEN[fold])}
        for fold, scores in SEARCH.items()
        for weight, score in zip((0.0, 0.5, 1.0), scores, strict=True)
    ]


def gathered(networks=(), tags=None, parameters=None, metrics=None, given=None, **files):
    run = KeptRun("a" * 32, "a run", "bserkit", PARAMETERS | (parameters or {}), tags or {}, metrics or {}, "today")
    artifacts = {"predictions.csv": csv_text(given or predictions()), "folds.csv": csv_text(FOLDS)} | files
    return gather(run, {name: text.encode() for name, text in artifacts.items()}, networks)


class Section(HTMLParser):
    """What a reader of one section of a page reads."""

    def __init__(self, report, name):
        super().__init__()
        self.paragraphs, self.warnings, self.said, self.tables = [], [], [], {}
        self.text, self.rows = "", []
        (found,) = re.findall(rf'<section aria-labelledby="{name}">.*?</section>', page(report), re.DOTALL)
        self.feed(found)

    def handle_starttag(self, tag, attributes):
        self.text = "" if tag in {"p", "li", "th", "td", "caption"} else self.text
        self.rows += [[]] if tag == "tr" else []
        self.said += [value for name, value in attributes if name == "aria-label"]

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        told = " ".join(self.text.split())
        if tag == "p":
            self.paragraphs.append(told)
        elif tag == "li":
            self.warnings.append(told)
        elif tag == "caption":
            self.tables[told], self.rows = [], []
        elif tag in {"th", "td"}:
            self.rows[-1].append(told)
        elif tag == "table":
            self.tables[list(self.tables)[-1]] = self.rows


def table(report, name, title):
    (found,) = (rows for known, rows in Section(report, name).tables.items() if known.startswith(title))
    return found[1:]


def test_the_speaker_table_equals_a_count_by_hand():
    # accuracy, UAR and macro F1 of the fusion, then UAR of left
    assert table(gathered(), "tables", "Speaker by speaker") == [
        ["ann", "3", "0.667", "0.500", "0.400", "1.000"],
        ["bob", "3", "0.667", "0.750", "0.667", "0.500"],
    ]


def test_the_emotion_table_equals_a_count_by_hand():
    # utterances, decided, recall and precision of the fusion, then recall of left
    assert table(gathered(), "tables", "Emotion by emotion") == [
        ["calm", "3", "5", "1.000", "0.600", "1.000"],
        ["mad", "3", "1", "0.333", "1.000", "0.333"],
    ]


def test_a_report_without_speakers_says_so():
    nameless = [row | {"speaker": ""} for row in predictions()]
    tags = {"speakers_unknown": "6 of 6 utterances name no speaker", "absent_classes": "ann: mad"}
    report = gathered(given=nameless, tags=tags)
    told = page(report)
    for said in (
        "WARNING: the same speaker may be in training and in test: 6 of 6 utterances name no speaker.",
        "WARNING: folds test classes that they do not learn (ann: mad)",
        "of unknown speakers was given",
        "No utterance names its speaker: there are no intervals over speakers",
    ):
        assert said in told
    assert "95% intervals" not in told
    assert "speakers_unknown:" not in told


def test_the_newer_summary_of_folds_is_read_too():
    newer = {"folds_summary.csv": csv_text(FOLDS), "folds.csv": "utterance,fold,part\n0.wav,ann,test\n"}
    assert page(gathered(**newer)) == page(gathered())


def test_an_emotion_never_predicted_has_no_precision():
    never = [(speaker, label, "calm", left) for speaker, label, _, left in DECIDED]
    assert table(gathered(given=predictions(never)), "tables", "Emotion")[1][1:5] == ["3", "0", "0.000", ""]


def test_a_confusion_matrix_has_row_shares_and_counts():
    assert list(Section(gathered(), "confusion").tables) == [
        "Confusion of fusion (UAR 0.667), %",
        "Confusion of left (UAR 0.667), %",
    ]
    fusion, _ = report_tables.confusions(gathered())
    assert fusion.header == ["true", "calm", "mad"]
    assert fusion.rows == [
        ["calm", Cell("100.0", 1.0, "3", chosen=True), Cell("0.0", 0.0, "0")],
        ["mad", Cell("66.7", 2 / 3, "2"), Cell("33.3", 1 / 3, "1", chosen=True)],
    ]
    counts = confusion_table("counts", gathered().fusion.measures())
    assert [[str(cell) for cell in row] for row in counts.rows] == [
        ["calm", "3", "0", "1.000"],
        ["mad", "2", "1", "0.333"],
    ]
    assert counts.markdown().splitlines()[2:4] == ["| true | calm | mad | recall |", "| --- | ---: | ---: | ---: |"]


def test_the_result_states_chance_and_few_speakers():
    result = Section(gathered(), "result")
    first, second = result.paragraphs
    assert "Each of 6 utterances of 2 speakers was given one of 2 emotions" in first
    assert "UAR 0.667 [0.500, 0.750], accuracy 0.667 [0.667, 0.667], macro F1" in first
    assert "]; brackets hold 95% intervals over speakers. UAR, the recall" in first
    assert "guessing reaches a UAR of 0.500, and always predicting calm an accuracy of 0.500." in second
    assert "this run does not show that anything was learned" in second
    assert result.warnings[0].startswith("There are only 2 speakers")


def test_what_must_be_known_stands_beside_the_result():
    tags = {"notes": "3 recordings without stereo", "mlflow.user": "root", "version.numpy": "2", "careful": "odd"}
    warnings = Section(gathered(tags=tags, parameters={"backbone.weights": "random"}), "result").warnings
    assert warnings[1:] == [
        "The network's weights are random: it was never trained on anything.",
        "3 recordings without stereo.",
        "careful: odd",
    ]


def test_the_oracle_is_shown_with_its_optimism():
    metrics = {"oracle_uar": 0.9, "oracle_accuracy": 0.75, "oracle_macro_f1": 0.7, "oracle_weight/left": 0.5}
    report = gathered(metrics=metrics, **{"fusion_search.csv": csv_text(search())})
    assert [row[2:] for row in table(report, "fusion", "Inner and oracle")] == [
        ["0.667", "0.667", "0.625"],
        ["0.900", "0.750", "0.700"],
        ["+0.233", "+0.083", "+0.075"],
    ]
    assert ["oracle fusion weights", "the test utterances", "an upper bound, not the result"] in table(
        report, "protocol", "What was fitted"
    )
    assert "oracle" not in page(gathered())


def test_a_search_is_described_and_shown_as_a_table():
    (picture,) = report_pictures.searches(gathered(**{"fusion_search.csv": csv_text(search())}))
    assert picture.text == (
        "Lines of uar by weight. The mean of 2 folds goes from 0.300 at weight 0 over its best, 0.600 at 0.5, to 0.550 "
        "at 1; folds chose 0.5 to 1. The oracle chose 0.5, with 0.750."
    )
    assert picture.text in Section(gathered(**{"fusion_search.csv": csv_text(search())}), "fusion").said
    assert picture.table.header == ["fold", "0", "0.5", "1"]
    assert [
        (fold, [(cell.text, round(cell.shade, 3), cell.chosen) for cell in cells])
        for fold, *cells in picture.table.rows[:2]
    ] == [
        ("ann", [("0.200", 0.0, False), ("0.600", 0.667, True), ("0.300", 0.167, False)]),
        ("bob", [("0.400", 0.333, False), ("0.600", 0.667, False), ("0.800", 1.0, True)]),
    ]


def test_networks_show_first_last_and_best_epoch():
    curves = {"train/loss": [(1, 2.0), (2, 1.0), (3, 0.5)], "validation/loss": [(1, 1.5), (2, 1.0), (3, 1.25)]}
    others = {"train/loss": [(1, 1.0), (2, 0.25)]}
    networks = [
        Network({"channel": "left", "fold": "ann"}, {"weights.digest": "0" * 64, "reused": "true"}, curves),
        Network({"channel": "left", "fold": "bob"}, {}, others),
    ]
    report = gathered(networks, parameters={"finetune": "sgd", "finetune.patience": "1"})
    rows = table(report, "fine-tuning", "Networks")
    assert rows[0] == ["left", "ann", f"{'0' * 16} (used again)", "3", "2", "2.000 to 0.500", "", "1.500 to 1.250", ""]
    assert rows[1][3:6] == ["2", "", "1.000 to 0.250"]
    (said,) = (one for one in Section(report, "fine-tuning").said if "loss" in one)
    assert "training loss, mean of 2 networks: from 1.500 to 0.375." in said
    (fitted,) = (row for row in table(report, "protocol", "What was fitted") if row[0] == "backbone")
    assert fitted[1] == "training utterances of each fold"
    assert fitted[2].endswith("a group of the training speakers tells when to stop")


def test_reports_name_frozen_weights_and_cost_search():
    given = {"backbone.weights_digest": "abc", "classifier": "linear-svm", "classifier.c": "search"}
    fitted = table(gathered(parameters=given), "protocol", "What was fitted")
    assert ["backbone", "nothing", "frozen weights abc"] in fitted
    assert [row[1] for row in fitted if row[0].startswith(("classifier", "cost"))] == [
        "training utterances of each fold"
    ] * 2


def test_what_a_search_chose_in_each_fold_is_a_table():
    chosen = {"ann": "c=0.1", "bob": "c=10"}
    measures = {"items": 3, "accuracy": 0.5, "uar": 0.5, "macro_f1": 0.5, "weight": ""}
    rows = [{"part": "left", "fold": fold, "chosen": text} | measures for fold, text in chosen.items()]
    results = csv_text([*rows, {"part": "left", "fold": "all", "chosen": ""} | measures])
    report = gathered(**{"results.csv": results})
    assert table(report, "tables", "Fold by fold: what the classifier") == [["ann", "c=0.1"], ["bob", "c=10"]]
    assert "c=10" in page(report)


def test_what_a_run_did_not_keep_is_left_out():
    report = gathered()
    assert list(report.sections) == ["result", "protocol", "tables", "confusion", "everything"]
    assert re.findall(r'<section aria-labelledby="(.*?)">', page(report)) == list(report.sections)


def test_a_run_without_a_fusion_is_refused():
    with pytest.raises(UsageError, match="has no part 'fusion'"):
        gathered(given=[row for row in predictions() if row["part"] == "left"])


def test_the_page_does_not_depend_on_store_order():
    tags = {"version.b": "1", "version.a": "2", "careful": "odd", "also": "this"}
    backwards = dict(reversed(tags.items()))
    files = {"fusion_search.csv": csv_text(search())}
    assert page(gathered(tags=tags, **files)) == page(gathered(tags=backwards, **files))


def test_names_that_look_like_a_page_are_shown_as_text():
    evil = "<script>alert(1)</script>"
    decided = [(f'"{speaker}&<b>', evil if label == "calm" else label, *rest) for speaker, label, *rest in DECIDED]
    given = predictions([(speaker, label, label, "mad") for speaker, label, *_ in decided])
    renamed = [{f"score_{evil}" if name == "score_calm" else name: one for name, one in row.items()} for row in given]
    written = page(
        gathered(given=renamed, tags={"notes": evil, "command": evil}, **{"config.toml": f"data = '{evil}'"})
    )
    assert "<script" not in written
    assert written.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 10
    assert "&#34;ann&amp;&lt;b&gt;" in written


def test_a_page_refers_to_nothing_outside_itself():
    written = page(gathered(**{"fusion_search.csv": csv_text(search())}))
    assert re.findall(r'(?:src|href)\s*=\s*(?!"#|"data:).*', written) == []
    assert not re.search(r"@import|url\((?!#)|<link|<script|<iframe|<object|<base", written)
    assert """content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">""" in written


def test_pictures_repeat_exactly_with_their_own_ids():
    intervals = {"<b>$x$</b>": Interval(0.5, 0.4, 0.6), "one $": Interval(0.5, float("nan"), float("nan"))}
    first, again, other = (svg(interval_figure(intervals, 0.25, "UAR"), name) for name in ("a", "a", "b"))
    assert first == again
    assert "<b>" not in first
    assert "&lt;b&gt;$x$&lt;/b&gt;" in first
    assert "currentColor" in first
    identifiers = set(re.findall(r'\bid="([^"]+)"', first))
    assert identifiers
    assert identifiers.isdisjoint(re.findall(r'\bid="([^"]+)"', other))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', first)) <= identifiers


def test_labels_with_dollars_are_no_mathematics():
    classes = (r"$\frac$", "$ $")
    confusion_figure({"p": measure(np.array(classes), np.array(classes), classes)}).savefig(io.BytesIO())


class Blind(Frontend):
    name = "blind"

    def segments(self, waveform, sample_rate):
        raise AssertionError


def checked(folder, **recordings):
    """Return a checked corpus of recordings by name, each ``(time, channel)``."""
    utterances = []
    for name, samples in recordings.items():
        soundfile.write(folder / f"{name}.wav", samples, 8000)
        utterances.append(Utterance(folder / f"{name}.wav", "calm", "ann"))
    facts = tuple(inspect_audio(one) for one in utterances)
    return Checked(
        Corpus(folder, Manifest(), tuple(utterances), ()), tuple(content_digest(one) for one in utterances), facts, ()
    )


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "store")


def noise(seconds, channels):
    return np.random.default_rng(0).normal(0, 0.1, (round(8000 * seconds), channels))


def extraction(frontend):
    return Extraction((LeftRight(), MidSide()), frontend, None, "cpu", "fp32")


def test_the_example_is_the_first_stereo_recording(tmp_path, store):
    frontend = LogMel(sample_rate=8000, high_hz=4000)
    recordings = checked(tmp_path, a=noise(1, 1), b=noise(1, 2), c=noise(2, 2))
    example = channel_example(extraction(frontend), recordings, store)
    assert (example.utterance, example.seconds) == ("b.wav", 1.0)
    assert list(example.channels) == ["left", "right", "mid", "side"]
    samples, _ = soundfile.read(tmp_path / "b.wav", dtype="float32")
    left, right = torch.from_numpy(samples.T)
    np.testing.assert_allclose(
        example.channels["side"], frontend.spectrogram((left - right).unsqueeze(0), 8000)[0], rtol=1e-5
    )
    kept = channel_example(extraction(frontend), recordings, store)
    assert (kept.utterance, kept.seconds) == (example.utterance, example.seconds)
    assert all((kept.channels[name] == picture).all() for name, picture in example.channels.items())
    levels = {one.channel: one for one in example.levels()}
    assert levels["mid"].mean == pytest.approx(example.channels["mid"].mean(), abs=1e-3)


def test_the_example_is_cut_or_mono_if_it_must_be(tmp_path, store):
    frontend = LogMel(sample_rate=8000, high_hz=4000)
    example = channel_example(extraction(frontend), checked(tmp_path, a=noise(11, 1)), store)
    assert (example.utterance, example.seconds) == ("a.wav", 10.0)


def test_frontends_without_pictures_have_no_example(tmp_path, store):
    assert channel_example(extraction(Blind()), checked(tmp_path, a=noise(1, 2)), store) is None
