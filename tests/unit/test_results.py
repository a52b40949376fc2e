"""A run's tables: what is made of an evaluation is what is read back from its files."""

from __future__ import annotations

import numpy as np
import pytest

from bserkit.corpora.protocols import Fold
from bserkit.corpora.reading import Corpus, Utterance
from bserkit.errors import BserkitError, UsageError
from bserkit.evaluation.cross_validation import evaluate
from bserkit.evaluation.results import fold_summaries, read_results, results_of, search_curves
from bserkit.learning.views import Views
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.corpora import Manifest
from bserkit.plugins.builtin.fusers import TwoStage
from bserkit.progress import Silent
from bserkit.rows import write_rows

#: What is read back exactly; scores are written with six digits.
EXACT = ("utterances", "speakers", "folds", "labels", "predicted")


#: Names that a table of commas, a metric or a search could trip over.
CLASSES = ("label, or\rso", "part", 'sad "é" \n')
TRANSFORMS = {"left": "lr", "right": "lr", "mid": "ms", "side": "ms"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    generator, root = np.random.default_rng(0), tmp_path_factory.mktemp("corpus")
    utterances = tuple(
        Utterance(root / f"{index:02}.wav", CLASSES[index % 3], f"speaker {index // 12}") for index in range(48)
    )
    labels, speakers = (np.array([getattr(one, name) for one in utterances]) for name in ("label", "speaker"))
    seen = (labels[:, None] == np.array(CLASSES)).astype(np.float32)
    features = {channel: seen + generator.normal(size=(48, 3)).astype(np.float32) for channel in TRANSFORMS}
    views = Views(features, TRANSFORMS, CLASSES, labels, speakers)
    folds = [Fold(name, *map(np.flatnonzero, (speakers != name, speakers == name))) for name in sorted({*speakers})]
    evaluation = evaluate(views, folds, TwoStage(tune="oracle"), LinearSvm(), Silent())
    corpus = Corpus(root, Manifest(), utterances, ())
    return results_of(evaluation, corpus, fold_summaries(corpus, folds))


def files_of(results):
    written = results.files() | {"folds_summary.csv": write_rows(type(results.folds[0]), results.folds)}
    return {name: text.encode() for name, text in written.items()}


def test_results_are_read_back_as_they_were_written(results):
    read = read_results(files_of(results), "a run")
    assert list(read.predictions) == list(results.predictions)
    assert list(read.predictions)[-1] == "fusion"
    for part, one in read.predictions.items():
        assert one.classes == results.predictions[part].classes
        for name in EXACT:
            assert np.array_equal(getattr(one, name), getattr(results.predictions[part], name)), (part, name)
        assert np.allclose(one.scores, results.predictions[part].scores, rtol=1e-5, atol=0)
    assert list(read.folds) == list(results.folds)
    assert list(read.parts) == list(results.parts)
    assert list(read.search) == list(results.search)
    assert read.confusions() == results.confusions()
    assert read.weights == results.weights
    assert search_curves(read.search) == search_curves(results.search)


def test_a_damaged_table_names_the_run_and_the_file(results):
    files = files_of(results)
    cut = files["predictions.csv"][: len(files["predictions.csv"]) // 2].rpartition(b",")[0]
    for damaged in (cut, b"", b"utterance,speaker\n"):
        with pytest.raises((BserkitError, UsageError), match="run 3f2a"):
            read_results(files | {"predictions.csv": damaged}, "3f2a")
