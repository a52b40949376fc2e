"""The names under which a run is kept in MLflow: its artifacts, metrics and tags, each with what it is.

In a metric or a tag, words in capital letters stand for names of the run's own: PART for a channel, a transform or the
fusion, CLASS for an emotion; PATH stands for a path. Parameters have the names of the settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What an MLflow run is: an ordinary one has no such tag.
RUN, SWEEP, COMPARISON, NETWORK = "run", "sweep", "comparison", "network"

#: The part that stands for all channels together.
FUSION = "fusion"
#: What no channel may be called, since results stand under these names.
RESERVED = (FUSION, "oracle", "all", "audit", "class", "fold")
#: What the measures are called in words.
MEASURES = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro F1"}
#: Begins what is of a fusion whose weights were searched on the test utterances.
ORACLE = "oracle"


class Named(NamedTuple):
    """A name in MLflow, the kinds of runs that may have it, and what it is."""

    name: str
    kinds: tuple[str, ...]
    text: str

    def names(self, given: str) -> bool:
        """Say whether a name is this one, capital words standing for anything."""
        pattern = re.escape(self.name).replace("MEASURE", f"({'|'.join(MEASURES)})")
        pattern = re.sub(r"[A-Z]{2,}", "[^/]+", pattern.replace("PATH", ".+"))
        return re.fullmatch(pattern, given) is not None


ARTIFACTS: list[Named] = []
METRICS: list[Named] = []
TAGS: list[Named] = []


def _artifact(name: str, text: str, *kinds: str) -> str:
    ARTIFACTS.append(Named(name, kinds or (RUN,), text))
    return name


def _metric(name: str, text: str, *kinds: str) -> str:
    METRICS.append(Named(name, kinds or (RUN,), text))
    return name


def _tag(name: str, text: str, *kinds: str) -> str:
    TAGS.append(Named(name, kinds or (RUN, SWEEP), text))
    return name


RESULTS = _artifact("results.csv", "The measures of each part, by fold and over all folds.")
PREDICTIONS = _artifact("predictions.csv", "What each part predicted for each test utterance, with all scores.")
CONFUSIONS = _artifact("confusion.csv", "The confusion matrix of each part, over all folds.")
SEARCH = _artifact("fusion_search.csv", "The weights that the fusion tried, fold by fold, if it searches any.")
FOLDS = _artifact("folds.csv", "The folds as `--protocol folds:path=FILE` reads them.", RUN, SWEEP)
FOLD_SUMMARIES = _artifact("folds_summary.csv", "Who is in training and who in test, fold by fold.", RUN, SWEEP)
SKIPPED = _artifact("skipped.csv", "The recordings that were left out, if any, with the reason.", RUN, SWEEP)
LEVELS = _artifact("channels.csv", "How loud one utterance is in each channel.")
CONFIG = _artifact("config.toml", "The settings: `bserkit run --config config.toml` gives the run again.")
PLUGINS = _artifact(
    "plugins/PATH.py", "The files of the plugins that it used, but installed ones; `config.toml` takes them from there."
)
AUDIT = _artifact("audit.md", "What could fool the numbers: see `bserkit audit`.", RUN, SWEEP)
CONFUSION_FIGURE = _artifact(
    "confusion.png", "The confusion matrix of the fusion; of a sweep, of each part.", RUN, SWEEP
)
PARTS_FIGURE = _artifact("confusion_parts.png", "The confusion matrices of channels and transforms.")
SEARCH_FIGURE = _artifact("fusion_search.png", "What each fusion weight reached in the search.")
LEVELS_FIGURE = _artifact("channels.png", "The spectrograms of one utterance, one a channel.")
COMBINATIONS = _artifact("combinations.csv", "A sweep's combinations, with their numbers and commands.", SWEEP)
TABLES = _artifact("tables.md", "The paper's tables.", SWEEP)
COMPARISON_ROWS = _artifact("comparison.csv", "Every number of a comparison.", COMPARISON)
COMPARISON_PAGE = _artifact("comparison.md", "A comparison as tables.", COMPARISON)
WEIGHTS = _artifact("weights.safetensors", "A fine-tuned network, kept once however many runs use it.", NETWORK)
RECIPE = _artifact("recipe.json", "What a network was made of.", NETWORK)
CURVES = _artifact("curves.json", "The metrics after each epoch.", NETWORK)

for _measure, _words in MEASURES.items():
    _metric(_measure, f"The fusion's {_words} over all test utterances: the result.")
for _measure in ("accuracy", "uar"):
    _metric(f"{_measure}_low", f"Where the 95% interval over speakers of {MEASURES[_measure]} begins.")
    _metric(f"{_measure}_high", "Where it ends.")
CHANCE_UAR = _metric("chance_uar", "The UAR of guessing.")
_metric("PART/MEASURE", "`accuracy`, `uar` and `macro_f1` of each other part.")
_metric("class/CLASS/recall", "The fusion's recall of each emotion.")
for _measure in ("accuracy", "uar"):
    _metric(f"mean_fold_{_measure}", f"{MEASURES[_measure]} averaged over the folds, as some papers give it.")
_metric("fold/MEASURE", "The fusion's measures of each fold; the step is the fold's number, from 0.")
_metric("fold/PART/uar", "The UAR of each other part, likewise.")
_metric("fold/weight/PART", "The weight that a fold's fusion gave a part.")
_metric("fold/chosen/NAME/PART", "What a fold's classifier chose by searching, where it is a number.")
for _measure, _words in MEASURES.items():
    _metric(f"oracle_{_measure}", f"{_words} where the weights are searched on the test utterances: no result.")
_metric("oracle_PART/MEASURE", "The measures of a transform as the oracle fuses it.")
_metric("oracle_weight/PART", "The weight that the oracle gave a part.")
for _measure in ("accuracy", "uar"):
    _metric(f"oracle_optimism_{_measure}", f"How much more {MEASURES[_measure]} the oracle has than the result.")
UTTERANCES = _metric("utterances", "The usable utterances.", RUN, SWEEP)
SKIPPED_COUNT = _metric("skipped", "The recordings that were left out.", RUN, SWEEP)
_metric("audit/COUNT", "How often the audit found something: see `audit.md`.", RUN, SWEEP)
for _side, _who in (("train", "training"), ("validation", "held-out training")):
    for _measure in ("loss", "accuracy"):
        _metric(f"{_side}/{_measure}", f"The {_measure} of {_who} speakers; the step is the epoch, from 1.", NETWORK)
_metric("learning_rate", "The learning rate of each epoch.", NETWORK)
_metric("seconds", "How long the epoch took.", NETWORK)
_metric("segments_per_second", "How fast it was.", NETWORK)

COMMAND = _tag("command", "What to type for this run.", RUN)
FINGERPRINT = _tag("corpus.fingerprint", "The corpus by its content: recordings, labels, speakers.")
_tag("speaker_overlap", "The folds with the same speaker in training and in test.")
_tag("speakers_unknown", "How many utterances name no speaker, where these may be on both sides.")
UNLABELLED = _tag("unlabelled_test", "What used test recordings without their labels.")
_tag("absent_classes", "The folds that test classes which they do not learn.")
NOTES = _tag("notes", "What was noticed while the corpus was checked.")
FUSION_NOTES = _tag("fusion.notes", "What the fusion and the classifiers noticed.", RUN)
LEARNING_POOLER = _tag("pooler.learns", "`true` where the pooler learns from each fold's training utterances.")
MACHINE = _tag("machine", "Operating system and kind of processor.")
_tag("version.LIBRARY", "The version of each library that can move a number.")
_tag("plugin.KIND.NAME", "Where each component comes from.")
ENDED = _tag("bserkit.ended", "Why the run ended.", RUN, SWEEP, COMPARISON, NETWORK)
KIND = _tag(
    "bserkit.kind", "`sweep`, `comparison` or `network`; an ordinary run has no such tag.", SWEEP, COMPARISON, NETWORK
)
HOST = _tag("bserkit.host", "The machine that makes the run.", RUN, SWEEP, COMPARISON, NETWORK)
PROCESS = _tag(
    "bserkit.process", "The process that makes it, by which a vanished one is noticed.", RUN, SWEEP, COMPARISON, NETWORK
)
IDENTITY = _tag("bserkit.identity", "All that the numbers of a sweep's run depend on.", RUN)
MADE_IN = _tag("bserkit.made_in", "The broken-off sweep that a run was taken over from.", RUN)
DESCRIPTION = _tag("mlflow.note.content", "The result in a few lines of Markdown.", RUN, SWEEP, COMPARISON)
PARENT = _tag("mlflow.parentRunId", "The sweep or the run that it is below.", RUN, NETWORK)
DIGEST = _tag("weights.digest", "The SHA-256 of a network's file.", NETWORK)
HOLDER = _tag("weights.run", "The run that has that file.", NETWORK)
WEIGHTS_PATH = _tag("weights.path", "Where the feature store has it.", NETWORK)
REUSED = _tag("reused", "Whether the network was kept from before.", NETWORK)
NETWORK_RUN = _tag("network.run", "The run whose network was restored.", NETWORK)


def measure_of(measure: str, part: str = FUSION, oracle: bool = False) -> str:
    """Name the metric of a part's measure, or of the oracle's.

    >>> measure_of("uar"), measure_of("uar", "left"), measure_of("uar", "lr", oracle=True)
    ('uar', 'left/uar', 'oracle_lr/uar')
    """
    name = measure if part == FUSION else f"{part}/{measure}"
    return f"{ORACLE}_{name}" if oracle else name


def bounds_of(measure: str) -> tuple[str, str]:
    """Name the metrics of the interval of the fusion's measure."""
    return f"{measure}_low", f"{measure}_high"


def oracle_weights(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the oracle's weight of each part, given a run's metrics."""
    begin = f"{ORACLE}_weight/"
    return {name.removeprefix(begin): metrics[name] for name in sorted(metrics) if name.startswith(begin)}
