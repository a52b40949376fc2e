"""The tables of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bserkit.component import Spec
from bserkit.evaluation.statistics import over_speakers
from bserkit.reporting.report import SHOWN
from bserkit.reporting.tables import TextTable, confusion_table
from bserkit.schema import (
    DIGEST,
    FINGERPRINT,
    FUSION,
    LEARNING_POOLER,
    MACHINE,
    ORACLE,
    REUSED,
    SKIPPED_COUNT,
    UTTERANCES,
    measure_of,
    oracle_weights,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bserkit.reporting.report import Network, Report

#: What a network's curves are called.
CURVES = {
    "train/loss": "training loss",
    "train/accuracy": "training accuracy",
    "validation/loss": "held-out loss",
    "validation/accuracy": "held-out accuracy",
}


def card(report: Report) -> TextTable:
    """Show what was done, stage by stage."""
    run, fusion = report.run, report.fusion
    given, tested = run.parameters, len(fusion.utterances)
    counts = {name: int((fusion.labels == name).sum()) for name in fusion.classes}
    stages = ("frontend", "backbone", "finetune", "pooler", "normaliser", "classifier", "fusion")
    told = {
        "run": f"{run.run_id} in experiment {run.experiment}",
        "begun": run.began,
        "corpus": f"{_spelt(given, 'corpus')}, read from {given.get('data', 'an unknown place')}",
        "content of the corpus": run.tags.get(FINGERPRINT, "not kept"),
        "utterances": f"{run.metrics.get(UTTERANCES, tested):.0f} usable, {tested} tested, "
        f"{run.metrics.get(SKIPPED_COUNT, 0):.0f} left out",
        "emotions": ", ".join(f"{name} {count}" for name, count in counts.items()),
        "speakers": ", ".join(name or "unknown" for name in sorted(set(fusion.speakers.tolist()))),
        "split": _spelt(given, "protocol"),
        "not stereo": f"--mono {given.get('mono', 'not kept')}",
        "channels": given.get("channels", "not kept"),
        **{stage: _spelt(given, stage) for stage in stages},
        "arithmetic": f"{given.get('precision', 'not kept')} on {given.get('device', 'not kept')}",
        "seed": given.get("seed", "not kept"),
    }
    return TextTable("Protocol card", ["what", "in this run"], [[*pair] for pair in told.items() if pair[1]], 2)


def fitted(report: Report) -> TextTable:
    """Show what each stage was fitted on."""
    given, training = report.run.parameters, "training utterances of each fold"
    alone, one = "nothing", "each utterance is treated alone"
    digest = given.get("backbone.weights_digest", "not kept")
    if "finetune" in given:
        held_out = given.get("finetune.patience", "0") != "0"
        how = f"{given['finetune']}, a network a channel and fold, beginning with the weights {digest}"
        network = [training, how + ("; a group of the training speakers tells when to stop" if held_out else "")]
    else:
        network = [alone, f"frozen weights {digest}"]
    beside = "; and the test utterances, without labels" if report.unlabelled else ""
    rows = [
        ["channels and frontend", alone, one],
        ["backbone", *network],
        ["pooler", training, _spelt(given, "pooler")] if LEARNING_POOLER in report.run.tags else ["pooler", alone, one],
        *([["normaliser", training + beside, _spelt(given, "normaliser")]] if "normaliser" in given else []),
        ["classifier and its scaling", training, given.get("classifier", "")],
    ]
    if given.get("classifier.c") == "search":
        rows.append(["cost of the classifier", training, f"searched on inner groups of {inner(report)}"])
    if any(one.fold != ORACLE for one in report.results.search):
        groups = given.get("fusion.inner_groups", "some")
        rows.append(["fusion weights", training, f"searched on {groups} inner groups of {inner(report)}"])
    elif report.results.weights:
        rows.append(["fusion weights", alone, "equal"])
    if report.has_oracle:
        rows.append(["oracle fusion weights", "the test utterances", "an upper bound, not the result"])
    return TextTable("What was fitted, and on what", ["stage", "fitted on", "how"], rows, 3)


def inner(report: Report) -> str:
    """Say what inner groups of the training side are made of."""
    return {
        "session": "training sessions",
        "random": "training utterances, at random by emotion: the same speaker may be on both sides of the search",
    }.get(report.run.parameters.get("fusion.inner_by", ""), "training speakers")


def folds(report: Report) -> TextTable:
    """Show who was in training and who in test."""
    rows = [
        [
            one.fold,
            *map(", ".join, (one.speakers_in_training, one.speakers_in_test)),
            *map(str, (one.train_utterances, one.test_utterances)),
        ]
        for one in report.results.folds
    ]
    header = ["fold", "training", "test", "training utterances", "test utterances"]
    return TextTable("Who was in training and who in test, fold by fold", header, rows, 3)


def skipped(report: Report) -> TextTable:
    """Show the recordings that were left out."""
    return TextTable("Left out", ["recording", "reason"], [[one.utterance, one.reason] for one in report.skipped], 2)


def by_part(report: Report) -> TextTable:
    """Show the measures of each part with their intervals, and its weights."""
    transforms = report.run.parameters.get("channels", "").split(",")
    rows = []
    for part, one in report.results.predictions.items():
        kind = "all" if part == FUSION else "transform" if part in transforms else "channel"
        own = [of_fold[part] for of_fold in report.results.weights.values() if part in of_fold]
        spread = f"{np.mean(own):.2f} ({min(own):.2g} to {max(own):.2g})" if own else ""
        intervals = one.intervals()
        rows.append([part, kind, *(str(intervals[name]) for name in SHOWN), spread])
    title = f"Channels, transforms and fusion{over_speakers(sorted(set(report.fusion.speakers.tolist())))}"
    header = ["part", "kind", *SHOWN.values(), "weight: mean (lowest to highest over folds)"]
    return TextTable(title, header, rows, 2)


def by_fold(report: Report) -> TextTable:
    """Show the fusion's measures in each fold, and the UAR of each other part."""
    names = [one.fold for one in report.results.folds]
    return _by_group(report, "fold", "Fold by fold", report.fusion.folds, names)


def by_speaker(report: Report) -> TextTable:
    """Show the fusion's measures of each speaker, and the UAR of each other part."""
    names = sorted(set(report.fusion.speakers.tolist()))
    return _by_group(report, "speaker", "Speaker by speaker", report.fusion.speakers, names)


def _by_group(report: Report, what: str, begin: str, group_of: np.ndarray, groups: Iterable[str]) -> TextTable:
    others, rows = _others(report), []
    for group in groups:
        where = group_of == group
        if where.any():
            own = report.fusion.measures(where)
            uars = [report.results.predictions[part].measures(where).uar for part in others]
            numbers = map(_number, [own.accuracy, own.uar, own.macro_f1, *uars])
            rows.append([group or "unknown", str(where.sum()), *numbers])
    header = [what, "utterances", "accuracy", "UAR", "macro F1", *others]
    return TextTable(f"{begin}: the fusion, and the UAR of each part", header, rows, 1)


def by_emotion(report: Report) -> TextTable:
    """Show the fusion's recall and precision of each class, and the recall of each other part."""
    others, own = _others(report), report.fusion.measures()
    recalls = [report.results.predictions[part].measures().recall for part in others]
    rows = []
    for index, name in enumerate(report.fusion.classes):
        predicted, right = own.confusion[:, index].sum(), own.confusion[index, index]
        precision = right / predicted if predicted else float("nan")
        numbers = [own.recall[name], precision, *(recall[name] for recall in recalls)]
        rows.append([name, str(own.confusion[index].sum()), str(predicted), *map(_number, numbers)])
    header = ["emotion", "utterances", "predicted", "recall", "precision", *others]
    return TextTable("Emotion by emotion: the fusion, and the recall of each part", header, rows, 1)


def chosen(report: Report) -> TextTable:
    """Show what each fold's classifiers chose by searching."""
    choices = report.choices
    parts = [part for part in report.results.predictions if any(part in one for one in choices.values())]
    rows = [[fold, *(one.get(part, "") for part in parts)] for fold, one in choices.items()]
    title = f"Fold by fold: what the classifier's search chose, on inner groups of {inner(report)}"
    return TextTable(title, ["fold", *parts], rows, 1 + len(parts))


def confusions(report: Report) -> list[TextTable]:
    """Show the confusion matrix of each part, the fusion's first."""
    measured = {part: report.results.predictions[part].measures() for part in (FUSION, *_others(report))}
    return [
        confusion_table(f"Confusion of {part} (UAR {one.uar:.3f}), %", one, shares=True)
        for part, one in measured.items()
    ]


def weights(report: Report) -> TextTable:
    """Show the fusion's weights in each fold, and their means."""
    every = report.results.weights
    names = list(dict.fromkeys(name for one in every.values() for name in one))
    rows = [[fold, *(f"{one[name]:.2f}" if name in one else "" for name in names)] for fold, one in every.items()]
    means = [np.mean([one[name] for one in every.values() if name in one]) for name in names]
    return TextTable("Weights by fold", ["fold", *names], [*rows, ["mean", *(f"{one:.2f}" for one in means)]], 1)


def optimism(report: Report) -> TextTable:
    """Show what the oracle fusion has above the result."""
    own, metrics = report.fusion.measures().overall(), report.run.metrics
    oracle = {name: metrics[measure_of(name, oracle=True)] for name in SHOWN}
    searched = ", ".join(f"{name} {weight:.2g}" for name, weight in oracle_weights(metrics).items())
    rows = [
        [
            "inner groups of the training side (the result)",
            "by fold, below",
            *(f"{own[name]:.3f}" for name in SHOWN),
        ],
        ["test utterances (oracle, no result)", searched, *(f"{oracle[name]:.3f}" for name in SHOWN)],
        ["optimism of the oracle", "", *(f"{oracle[name] - own[name]:+.3f}" for name in SHOWN)],
    ]
    return TextTable("Inner and oracle fusion", ["weights searched on", "which are", *SHOWN.values()], rows, 2)


def networks(report: Report) -> TextTable:
    """Show how each network was fine-tuned, those of a channel together."""
    channels = list(dict.fromkeys(one.parameters.get("channel", "") for one in report.networks))
    ordered = sorted(report.networks, key=lambda one: channels.index(one.parameters.get("channel", "")))
    header = ["channel", "fold", "weights", "epochs", "best epoch", *CURVES.values()]
    title = "Networks: values after the first and the last epoch"
    return TextTable(title, header, [_network_row(one) for one in ordered], 3)


def _network_row(network: Network) -> list[str]:
    curves, given = network.curves, network.parameters
    losses = curves.get("validation/loss", [])
    best = str(min(losses, key=lambda point: point[1])[0]) if losses else ""
    again = " (used again)" if network.tags.get(REUSED) == "true" else ""
    digest = network.tags.get(DIGEST, "not kept")[:16] + again
    ends = [f"{curve[0][1]:.3f} to {curve[-1][1]:.3f}" if (curve := curves.get(name)) else "" for name in CURVES]
    epochs = str(len(curves.get("train/loss", [])))
    return [given.get("channel", ""), given.get("fold", ""), digest, epochs, best, *ends]


def everything(report: Report) -> list[TextTable]:
    """Show every parameter, the versions, and where components come from."""
    tags = report.run.tags
    versions = _below("version.", tags) | ({MACHINE: tags[MACHINE]} if MACHINE in tags else {})
    tables = {
        "Parameters": (["parameter", "value"], report.run.parameters),
        "Versions": (["library", "version"], versions),
        "Where components come from": (["component", "source, version and place"], _below("plugin.", tags)),
    }
    return [
        TextTable(title, header, [[name, values[name]] for name in sorted(values)], 2)
        for title, (header, values) in tables.items()
        if values
    ]


def _below(begin: str, values: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(begin): value for name, value in values.items() if name.startswith(begin)}


def _others(report: Report) -> Sequence[str]:
    return [part for part in report.results.predictions if part != FUSION]


def _spelt(given: Mapping[str, str], kind: str) -> str:
    """Spell a run's component of a kind with its parameters; nothing if it has none of that kind."""
    own = _below(f"{kind}.", given)
    own.pop("weights_digest", None)
    return str(Spec(given[kind], dict(sorted(own.items())))).replace(",", ", ") if kind in given else ""


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"
