"""A report: what a finished run logged becomes sections of words, tables and pictures.

Nothing is learned or decided here: numbers come from the run's predictions through ``metrics`` and ``statistics``.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bserkit.component import Spec
from bserkit.corpora.protocols import CAUTIONS, warnings_of
from bserkit.corpora.speakers import one_spelling
from bserkit.evaluation.comparison import Predictions, read_predictions, utterance_of
from bserkit.evaluation.metrics import Measures, measure
from bserkit.evaluation.results import FOLDS, ORACLE, SearchPoint, mean_scores, search_curves
from bserkit.evaluation.statistics import (
    Interval,
    chance,
    interval_warning,
    nobody,
    over_speakers,
    speaker_confusions,
    speaker_intervals,
)
from bserkit.features.channels import FUSION
from bserkit.reporting.figures import fusion_search_figure, interval_figure, svg, training_figure
from bserkit.reporting.page import Cell, Listing, Picture, Report, Section, ShadedTable
from bserkit.reporting.tables import TextTable
from bserkit.text import counted, csv_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bserkit.tracking.finished import KeptRun

#: The files of a run that a report is made of, and those that it shows where there are any.
NEEDED = ("predictions.csv", FOLDS)
WANTED = ("config.toml", "results.csv", "fusion_search.csv", "skipped.csv", "channels.csv", "channels.png")
_MEASURES = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1"}
#: What a network's curves are called.
_CURVES = {
    "train/loss": "training loss",
    "train/accuracy": "training accuracy",
    "validation/loss": "held-out loss",
    "validation/accuracy": "held-out accuracy",
}
#: Beginnings of tags that have a place of their own, or that say nothing to a reader.
_OWN_TAGS = (
    "mlflow.", "bserkit.", "version.", "plugin.", "corpus.", "command", "machine", "notes", "fusion.notes",
    "pooler.learns", *CAUTIONS,
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A nested run: how one network was fine-tuned.

    Attributes:
        curves: by metric, its (epoch, value) after each epoch.
    """

    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    curves: Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class _Facts:
    """What a run logged, read once.

    Attributes:
        parts: what each channel, each transform and, last, the fusion decided; all in the order of the same items.
        weights: by fold, the fusion's weight of each channel and transform, where it has such.
        choices: by fold, what the classifier of each channel, transform or the fusion chose by searching.
    """

    run: KeptRun
    parts: Mapping[str, Predictions]
    folds: Sequence[Mapping[str, str]]
    weights: Mapping[str, Mapping[str, float]]
    choices: Mapping[str, Mapping[str, str]]
    networks: Sequence[Network]
    texts: Mapping[str, str]
    example: bytes | None

    @property
    def search(self) -> list[dict[str, str]]:
        return csv_rows(self.texts.get("fusion_search.csv", ""))

    @property
    def has_oracle(self) -> bool:
        return all(f"{ORACLE}_{name}" in self.run.metrics for name in _MEASURES)

    @property
    def fusion(self) -> Predictions:
        return self.parts[FUSION]

    @property
    def transforms(self) -> list[str]:
        return self.run.parameters.get("channels", "").split(",")

    def measures(self, part: str = FUSION, where: np.ndarray | None = None) -> Measures:
        """Measure a part on all items, or on some."""
        one = self.parts[part]
        chosen = np.ones(len(one.items), dtype=bool) if where is None else where
        return measure(one.labels[chosen], one.decided[chosen], one.classes)

    def intervals(self, part: str = FUSION) -> dict[str, Interval]:
        """Return a part's numbers with their intervals over speakers."""
        one = self.parts[part]
        return speaker_intervals(speaker_confusions(one.speakers, one.labels, one.decided, one.classes)[1])


def gather(run: KeptRun, artifacts: Mapping[str, bytes], networks: Sequence[Network]) -> Report:
    """Gather what a finished run logged.

    Args:
        artifacts: the contents of the files ``NEEDED`` and of those ``WANTED`` that the run has.
        networks: how its networks were fine-tuned, if they were.

    Raises:
        UsageError: the run has no predictions of a fusion.
    """
    texts = {name: content.decode() for name, content in artifacts.items() if not name.endswith(".png")}
    predictions, folds = texts["predictions.csv"], next(texts[name] for name in FOLDS if name in texts)
    others = [name for name in dict.fromkeys(row["part"] for row in csv_rows(predictions)) if name != FUSION]
    weights: dict[str, dict[str, float]] = {}
    choices: dict[str, dict[str, str]] = {}
    for row in csv_rows(texts.get("results.csv", "")):
        if row.get("chosen"):
            choices.setdefault(row["fold"], {})[row["part"]] = row["chosen"]
        if row["weight"]:
            weights.setdefault(row["fold"], {})[row["part"]] = float(row["weight"])
    facts = _Facts(
        run=run,
        parts={name: read_predictions(run, predictions, folds, name) for name in [*others, FUSION]},
        folds=csv_rows(folds),
        weights=weights,
        choices=choices,
        networks=networks,
        texts=texts,
        example=artifacts.get("channels.png"),
    )
    sections = [_result, _protocol, _tables, _confusions, _fusion, _fine_tuning, _example, _again, _everything]
    return Report(run, _headline(facts), [made for section in sections if (made := section(facts))])


def _headline(facts: _Facts) -> list[tuple[str, str, str]]:
    without, intervals = chance(facts.fusion.labels, facts.fusion.classes), facts.intervals()
    beside = {"uar": f"chance {without.uar:.3f}", "accuracy": f"always {without.majority}: {without.accuracy:.3f}"}
    return [
        (words, f"{intervals[name].value:.3f}", "; ".join(filter(None, [_bounds(intervals[name]), beside.get(name)])))
        for name, words in _MEASURES.items()
    ]


def _bounds(one: Interval) -> str:
    return "" if np.isnan(one.low) else f"{one.low:.3f} to {one.high:.3f}"


def _result(facts: _Facts) -> Section:
    fusion = facts.fusion
    speakers = sorted(set(one_spelling(fusion.speakers).tolist()))
    without = chance(fusion.labels, fusion.classes)
    intervals = facts.intervals()
    said = ", ".join(f"{words} {intervals[name]}" for name, words in _MEASURES.items())
    who = "unknown speakers" if nobody(speakers) else counted(len(speakers), "speaker")
    brackets = "" if nobody(speakers) else "; brackets hold 95% intervals over speakers"
    paragraphs = [
        f"Each of {len(fusion.items)} utterances of {who} was given one of "
        f"{len(fusion.classes)} emotions by what was learned from the training side of its fold "
        f"({counted(len(facts.folds), 'fold')}). The fusion of all channels reached {said}{brackets}. "
        "UAR, the recall averaged over the emotions, is the number to look at where some emotions are more frequent "
        "than others.",
        f"Without listening, guessing reaches a UAR of {without.uar:.3f}, and always deciding for "
        f"{without.majority} an accuracy of {without.accuracy:.3f}. {_verdict(intervals['uar'], without.uar)}".rstrip(),
    ]
    by_part = {part: facts.intervals(part)["uar"] for part in facts.parts}
    told = "; ".join(f"{part} {one}" for part, one in by_part.items())
    picture = Picture(
        f"UAR of each channel, each transform and the fusion{over_speakers(speakers)}",
        f"Dots{'' if nobody(speakers) else ' with intervals'}. UAR: {told}. Chance is {without.uar:.3f}.",
        svg(interval_figure(by_part, without.uar, "UAR"), "intervals"),
    )
    return Section("result", "Result", paragraphs, [picture], _warnings(facts, speakers))


def _verdict(uar: Interval, without: float) -> str:
    if np.isnan(uar.low):
        return ""
    if uar.low > without:
        return "The whole interval of the UAR lies above that."
    if uar.high < without:
        return "The whole interval of the UAR lies below that."
    return "The interval of the UAR reaches down to that: this run does not show that anything was learned."


def _warnings(facts: _Facts, speakers: Sequence[str]) -> list[str]:
    tags = facts.run.tags
    untrained = facts.run.parameters.get("backbone.weights") == "random" and not facts.networks
    said = [
        *warnings_of(tags),
        interval_warning(speakers),
        "The network's weights are random: it was never trained on anything." if untrained else "",
        *(f"{tags[name]}." for name in ("notes", "fusion.notes") if tags.get(name)),
        *(f"{name}: {tags[name]}" for name in sorted(tags) if not name.startswith(_OWN_TAGS)),
    ]
    return [one for one in said if one]


def _protocol(facts: _Facts) -> Section:
    run, fusion = facts.run, facts.fusion
    given = run.parameters
    counts = {name: int((fusion.labels == name).sum()) for name in fusion.classes}
    card = {
        "run": f"{run.run_id} in experiment {run.experiment}",
        "begun": run.began,
        "corpus": f"{_spelt(given, 'corpus')}, read from {given.get('data', 'an unknown place')}",
        "content of the corpus": run.tags.get("corpus.fingerprint", "not kept"),
        "utterances": f"{run.metrics.get('items', len(fusion.items)):.0f} usable, {len(fusion.items)} evaluated, "
        f"{run.metrics.get('skipped', 0):.0f} left out",
        "emotions": ", ".join(f"{name} {count}" for name, count in counts.items()),
        "speakers": ", ".join(name or "unknown" for name in sorted(set(fusion.speakers.tolist()))),
        "split": _spelt(given, "protocol"),
        "not stereo": f"--mono {given.get('mono', 'not kept')}",
        "channels": given.get("channels", "not kept"),
        **{
            stage: _spelt(given, stage)
            for stage in ("frontend", "backbone", "finetune", "pooler", "normaliser", "classifier", "fusion")
        },
        "arithmetic": f"{given.get('precision', 'not kept')} on {given.get('device', 'not kept')}",
        "seed": given.get("seed", "not kept"),
    }
    blocks = [
        TextTable("Protocol card", ["what", "in this run"], [[*pair] for pair in card.items() if pair[1]], 2),
        TextTable("What was fitted, and on what", ["stage", "fitted on", "how"], _fitted(facts), 3),
        TextTable(
            "Who was learned from and who was evaluated, fold by fold",
            ["fold", "learned from", "evaluated", "utterances learned from", "utterances evaluated"],
            [[fold[name] for name in ("fold", "train_speakers", "test_speakers", "train_items", "test_items")]
             for fold in facts.folds],
            3,
        ),
    ]  # fmt: skip
    if skipped := csv_rows(facts.texts.get("skipped.csv", "")):
        blocks.append(
            TextTable("Left out", ["recording", "reason"], [[utterance_of(one), one["reason"]] for one in skipped], 2)
        )
    but = " The oracle fusion, which is no result, is the one exception." if facts.has_oracle else ""
    beside = " and, without labels, from its test side" if "unlabelled_test" in run.tags else " alone"
    paragraphs = [
        f"What is learned from this corpus is learned anew in each fold, from its training side{beside}. The labels of "
        f"the evaluated utterances are used once: to count what was decided rightly.{but}"
    ]
    return Section("protocol", "Protocol", paragraphs, blocks)


def _fitted(facts: _Facts) -> list[list[str]]:
    """Say of each stage what it was fitted on."""
    given, training = facts.run.parameters, "training utterances of each fold"
    alone, one = "nothing", "each utterance is treated alone"
    digest = given.get("backbone.weights_digest", "not kept")
    if "finetune" in given:
        held_out = given.get("finetune.patience", "0") != "0"
        how = f"{given['finetune']}, a network a channel and fold, beginning with the weights {digest}"
        network = [training, how + ("; a group of the training speakers tells when to stop" if held_out else "")]
    else:
        network = [alone, f"frozen weights {digest}"]
    rows = [
        ["channels and frontend", alone, one],
        ["backbone", *network],
        ["pooler", training, _spelt(given, "pooler")] if "pooler.learns" in facts.run.tags else ["pooler", alone, one],
        *_normaliser(facts, training),
        ["classifier and its scaling", training, given.get("classifier", "")],
    ]
    if given.get("classifier.c") == "search":
        rows.append(["cost of the classifier", training, f"searched on inner groups of {_inner(facts)}"])
    if any(row["fold"] != ORACLE for row in facts.search):
        groups = given.get("fusion.inner_groups", "some")
        rows.append(["fusion weights", training, f"searched on {groups} inner groups of {_inner(facts)}"])
    elif facts.weights:
        rows.append(["fusion weights", alone, "equal"])
    if facts.has_oracle:
        rows.append(["oracle fusion weights", "the evaluated utterances", "an upper bound, not the result"])
    return rows


def _normaliser(facts: _Facts, training: str) -> list[list[str]]:
    given = facts.run.parameters
    unlabelled = "unlabelled_test" in facts.run.tags
    beside = "; and the test utterances, without labels" if unlabelled else ""
    return [["normaliser", training + beside, _spelt(given, "normaliser")]] if "normaliser" in given else []


def _inner(facts: _Facts) -> str:
    """Say what inner groups of the training side are made of."""
    return {
        "session": "training sessions",
        "random": "training utterances, at random by emotion: the same speaker may be on both sides of the search",
    }.get(facts.run.parameters.get("fusion.inner_by", ""), "training speakers")


def _tables(facts: _Facts) -> Section:
    others = [part for part in facts.parts if part != FUSION]
    return Section(
        "tables",
        "Channels, folds, speakers, emotions",
        ["UAR of a speaker or a fold is over the emotions that it has."],
        [
            TextTable(
                f"Channels, transforms and fusion{over_speakers(sorted(set(facts.fusion.speakers.tolist())))}",
                ["part", "kind", *_MEASURES.values(), "weight: mean (lowest to highest over folds)"],
                [_part_row(facts, part) for part in facts.parts],
                2,
            ),
            TextTable(
                "Fold by fold: the fusion, and the UAR of each part",
                ["fold", "utterances", "accuracy", "UAR", "macro F1", *others],
                _group_rows(facts, facts.fusion.folds, [fold["fold"] for fold in facts.folds], others),
                1,
            ),
            TextTable(
                "Speaker by speaker: the fusion, and the UAR of each part",
                ["speaker", "utterances", "accuracy", "UAR", "macro F1", *others],
                _group_rows(facts, facts.fusion.speakers, sorted(set(facts.fusion.speakers.tolist())), others),
                1,
            ),
            TextTable(
                "Emotion by emotion: the fusion, and the recall of each part",
                ["emotion", "utterances", "decided", "recall", "precision", *others],
                _class_rows(facts, others),
                1,
            ),
            *_chosen(facts),
        ],
    )


def _chosen(facts: _Facts) -> list[TextTable]:
    if not facts.choices:
        return []
    parts = [part for part in facts.parts if any(part in one for one in facts.choices.values())]
    rows = [[fold, *(one.get(part, "") for part in parts)] for fold, one in facts.choices.items()]
    title = f"Fold by fold: what the classifier's search chose, on inner groups of {_inner(facts)}"
    return [TextTable(title, ["fold", *parts], rows, 1 + len(parts))]


def _part_row(facts: _Facts, part: str) -> list[str]:
    kind = "all" if part == FUSION else "transform" if part in facts.transforms else "channel"
    weights = [of_fold[part] for of_fold in facts.weights.values() if part in of_fold]
    spread = f"{np.mean(weights):.2f} ({min(weights):.2g} to {max(weights):.2g})" if weights else ""
    intervals = facts.intervals(part)
    return [part, kind, *(str(intervals[name]) for name in _MEASURES), spread]


def _group_rows(facts: _Facts, group_of: np.ndarray, groups: Iterable[str], others: Sequence[str]) -> list[list[str]]:
    """Return one row a group of items: how many, the fusion's numbers and each other part's UAR."""
    rows = []
    for group in groups:
        where = group_of == group
        if where.any():
            own = facts.measures(FUSION, where)
            numbers = [own.accuracy, own.uar, own.macro_f1, *(facts.measures(part, where).uar for part in others)]
            rows.append([group or "unknown", str(where.sum()), *map(_number, numbers)])
    return rows


def _class_rows(facts: _Facts, others: Sequence[str]) -> list[list[str]]:
    own = facts.measures()
    recalls = [own.recall, *(facts.measures(part).recall for part in others)]
    rows = []
    for index, name in enumerate(facts.fusion.classes):
        decided, right = own.confusion[:, index].sum(), own.confusion[index, index]
        precision = right / decided if decided else float("nan")
        numbers = [recalls[0][name], precision, *(recall[name] for recall in recalls[1:])]
        rows.append([name, str(own.confusion[index].sum()), str(decided), *map(_number, numbers)])
    return rows


def _confusions(facts: _Facts) -> Section:
    blocks = [_confusion(facts, part) for part in [FUSION, *(one for one in facts.parts if one != FUSION)]]
    paragraph = "Rows are what is true, columns what was decided. Each cell is the share of its row, with the count."
    return Section("confusion", "Confusion matrices", [paragraph], blocks)


def _confusion(facts: _Facts, part: str) -> ShadedTable:
    measures, classes = facts.measures(part), facts.parts[part].classes
    rows = []
    for index, (name, counts) in enumerate(zip(classes, measures.confusion.tolist(), strict=True)):
        shares = [count / max(1, sum(counts)) for count in counts]
        cells = [
            Cell(f"{100 * share:.0f}%", share, str(count), column == index)
            for column, (share, count) in enumerate(zip(shares, counts, strict=True))
        ]
        rows.append((name, cells))
    return ShadedTable(f"Confusion of {part} (UAR {measures.uar:.3f})", ["true", *classes], rows)


def _fusion(facts: _Facts) -> Section | None:
    blocks: list[TextTable | Picture] = []
    paragraphs = []
    metric = facts.run.parameters.get("fusion.metric", "score")
    if facts.has_oracle:
        blocks.append(_optimism(facts))
        paragraphs.append(
            f"The result takes its weights from inner groups of {_inner(facts)}. The oracle searched them on the "
            "evaluated utterances themselves, as the paper did: it knows the answers, and what it gains is optimism."
        )
    if facts.weights:
        names = list(dict.fromkeys(name for one in facts.weights.values() for name in one))
        rows = [[fold, *(f"{one[name]:.2f}" if name in one else "" for name in names)]
                for fold, one in facts.weights.items()]  # fmt: skip
        means = [np.mean([one[name] for one in facts.weights.values() if name in one]) for name in names]
        blocks.append(
            TextTable("Weights by fold", ["fold", *names], [*rows, ["mean", *(f"{one:.2f}" for one in means)]], 1)
        )
    for number, (stage, points) in enumerate(search_curves(facts.search).items(), start=1):
        blocks.append(_search_picture(stage, points, metric, f"search{number}"))
    if facts.search:
        paragraphs.append(
            "The search tries every weight in steps. A flat line, or chosen weights that scatter over the folds, say "
            "that the weight matters little."
        )
    return Section("fusion", "Fusion weights", paragraphs, blocks) if blocks else None


def _optimism(facts: _Facts) -> TextTable:
    own, metrics = facts.measures().overall(), facts.run.metrics
    oracle = {name: metrics[f"{ORACLE}_{name}"] for name in _MEASURES}
    begin = f"{ORACLE}_weight/"
    weights = [f"{name.removeprefix(begin)} {metrics[name]:.2g}" for name in sorted(metrics) if name.startswith(begin)]
    return TextTable(
        "Inner and oracle fusion",
        ["weights searched on", "which are", *_MEASURES.values()],
        [
            [
                "inner groups of the training side (the result)",
                "by fold, below",
                *(f"{own[name]:.3f}" for name in _MEASURES),
            ],
            [
                "evaluated utterances (oracle, no result)",
                ", ".join(weights),
                *(f"{oracle[name]:.3f}" for name in _MEASURES),
            ],
            ["optimism of the oracle", "", *(f"{oracle[name] - own[name]:+.3f}" for name in _MEASURES)],
        ],
        2,
    )


def _search_picture(stage: str, points: Sequence[SearchPoint], metric: str, name: str) -> Picture:
    told = []
    if means := mean_scores(points):
        (begin, first), (best, most), (end, last) = means[0], max(means, key=lambda mean: mean[1]), means[-1]
        chosen = [one.weight for one in points if one.chosen and one.fold != ORACLE]
        told.append(
            f"The mean of {counted(len(chosen), 'fold')} goes from {first:.3f} at weight {begin:g} over its best, "
            f"{most:.3f} at {best:g}, to {last:.3f} at {end:g}; folds chose {min(chosen):g} to {max(chosen):g}."
        )
    told += [
        f"The oracle chose {one.weight:g}, with {one.score:.3f}." for one in points if one.chosen and one.fold == ORACLE
    ]
    return Picture(
        f"What each weight of {stage} reached in the search",
        f"Lines of {metric} by weight. {' '.join(told)}",
        svg(fusion_search_figure({stage: points}, metric), name),
        table=_search_table(stage, points, metric),
    )


def _search_table(stage: str, points: Sequence[SearchPoint], metric: str) -> ShadedTable:
    low, high = (bound([point.score for point in points]) for bound in (min, max))
    weights = sorted({point.weight for point in points})
    rows: dict[str, dict[float, Cell]] = {}
    for one in points:
        shade = (one.score - low) / (high - low) if high > low else 0.0
        rows.setdefault(one.fold, {})[one.weight] = Cell(_number(one.score), shade, chosen=one.chosen)
    return ShadedTable(
        f"{metric} by weight of {stage}; chosen weights are framed",
        ["fold", *(f"{weight:g}" for weight in weights)],
        [(fold, [cells.get(weight, Cell("", 0.0)) for weight in weights]) for fold, cells in rows.items()],
    )


def _fine_tuning(facts: _Facts) -> Section | None:
    if not facts.networks:
        return None
    by_channel: dict[str, list[Network]] = {}
    for one in facts.networks:
        by_channel.setdefault(one.parameters.get("channel", ""), []).append(one)
    table = TextTable(
        "Networks: values after the first and the last epoch",
        ["channel", "fold", "weights", "epochs", "best epoch", *_CURVES.values()],
        [_network_row(one) for own in by_channel.values() for one in own],
        3,
    )
    pictures = [
        Picture(
            f"Learning of {channel}, a line a fold",
            " ".join(_told_curve(own, curve, words) for curve, words in _CURVES.items()),
            svg(training_figure([one.curves for one in own]), f"training{number}"),
        )
        for number, (channel, own) in enumerate(by_channel.items(), start=1)
    ]
    paragraph = (
        "Each network learned from the training speakers of its fold alone. Held-out speakers, where there are any, "
        "are training speakers too: they told when to stop."
    )
    return Section("fine-tuning", "Fine-tuning", [paragraph], [*pictures, table])


def _network_row(network: Network) -> list[str]:
    curves = network.curves
    losses = curves.get("validation/loss", [])
    best = str(min(losses, key=lambda point: point[1])[0]) if losses else ""
    digest = network.tags.get("weights.digest", "not kept")[:16]
    again = " (used again)" if network.tags.get("reused") == "true" else ""
    ends = [f"{curve[0][1]:.3f} to {curve[-1][1]:.3f}" if (curve := curves.get(name)) else "" for name in _CURVES]
    epochs = str(len(curves.get("train/loss", [])))
    return [
        network.parameters.get("channel", ""),
        network.parameters.get("fold", ""),
        digest + again,
        epochs,
        best,
        *ends,
    ]


def _told_curve(networks: Sequence[Network], curve: str, words: str) -> str:
    ends = [(found[0][1], found[-1][1]) for one in networks if (found := one.curves.get(curve))]
    if not ends:
        return ""
    first, last = np.mean(ends, axis=0)
    return f"{words}, mean of {counted(len(ends), 'network')}: from {first:.3f} to {last:.3f}."


def _example(facts: _Facts) -> Section | None:
    rows = csv_rows(facts.texts.get("channels.csv", ""))
    if not rows or facts.example is None:
        return None
    one = rows[0]
    levels = "; ".join(f"{row['channel']} {float(row['mean']):.1f}" for row in rows)
    what = f"{utterance_of(one)} ({one['label']}, {one['speaker'] or 'unknown'}), {float(one['seconds']):.2f} s"
    picture = Picture(
        f"Spectrograms of {what}",
        f"Spectrograms of {what}, one a channel, low bands below, brighter is louder. Mean log power: {levels}.",
        address=f"data:image/png;base64,{base64.b64encode(facts.example).decode()}",
        table=TextTable(
            "Log power over all bands and frames",
            ["channel", "mean", "5% lie below", "95% lie below"],
            [[row["channel"], *(f"{float(row[name]):.2f}" for name in ("mean", "low", "high"))] for row in rows],
            1,
        ),
    )
    paragraph = "One utterance as the frontend sees it in each channel, before it is cut into segments and normalised."
    return Section("channels", "What the channels look like", [paragraph], [picture])


def _again(facts: _Facts) -> Section | None:
    config = facts.texts.get("config.toml")
    if config is None:
        return None
    paragraphs = [
        "Save the configuration as config.toml and run it; the data, the weights and the plugins that it names have to "
        "be there. The same versions on the same kind of machine give the same numbers."
    ]
    blocks = [
        Listing("Command", "bserkit run --config config.toml"),
        Listing("config.toml", config.rstrip()),
    ]
    if command := facts.run.tags.get("command"):
        blocks.append(Listing("The same as options", command))
    return Section("again", "Running it again", paragraphs, blocks)


def _everything(facts: _Facts) -> Section:
    run = facts.run
    versions = {name.removeprefix("version."): value for name, value in run.tags.items() if name.startswith("version.")}
    versions |= {"machine": run.tags["machine"]} if "machine" in run.tags else {}
    sources = {name.removeprefix("plugin."): value for name, value in run.tags.items() if name.startswith("plugin.")}
    tables = {
        "Parameters": (["parameter", "value"], run.parameters),
        "Versions": (["library", "version"], versions),
        "Where components come from": (["component", "source, version and place"], sources),
    }
    blocks = [
        TextTable(title, header, [[name, values[name]] for name in sorted(values)], 2)
        for title, (header, values) in tables.items()
        if values
    ]
    return Section("everything", "Parameters and versions", [], blocks)


def _spelt(given: Mapping[str, str], kind: str) -> str:
    """Spell a run's component of a kind with its parameters; nothing if it has none of that kind."""
    begin = f"{kind}."
    own = {name.removeprefix(begin): value for name, value in given.items() if name.startswith(begin)}
    own.pop("weights_digest", None)
    return str(Spec(given[kind], dict(sorted(own.items())))).replace(",", ", ") if kind in given else ""


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"
