"""One run, from data to a tracked result: every stage in order."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from bserkit.console import ConsoleReporter, show_findings
from bserkit.corpus import CorpusReader, read_corpus
from bserkit.experiment import FUSION, check_corpus, evaluate, pool_features
from bserkit.extraction import extract, pending
from bserkit.protocol import split
from bserkit.record import (
    confusion_rows,
    csv_text,
    fold_metrics,
    fold_rows,
    overall_metrics,
    prediction_rows,
    result_rows,
    search_curves,
    search_rows,
)
from bserkit.tracking import TrackedRun, tracked_run

if TYPE_CHECKING:
    from bserkit.config import Settings
    from bserkit.experiment import Checked, Evaluation
    from bserkit.plugins import Plugins
    from bserkit.protocol import Fold
    from bserkit.store import FeatureStore

#: Libraries whose versions can move a number.
_LIBRARIES = ("bserkit", "torch", "torchaudio", "torchvision", "scikit-learn", "numpy", "soundfile", "mlflow")


@dataclass(frozen=True)
class RunResult:
    """What a run came to, and where it is kept."""

    evaluation: Evaluation
    run_id: str
    experiment_id: str


def run(settings: Settings, plugins: Plugins, store: FeatureStore, reporter: ConsoleReporter) -> RunResult:
    """Do one run.

    Raises:
        UsageError: what was asked for does not fit the data.
        BserkitError: something that the run needs cannot be had.
    """
    settings = with_data(settings, plugins, store, reporter)
    # Weights that cannot be had are found out before any audio is read, and wrong ones before a run is opened.
    weights = settings.extraction.backbone.weights_digest()
    checked, folds = prepare(settings, store, reporter)
    work = pending(checked.corpus.utterances, checked.digests, settings.extraction, store)
    show_findings(reporter.console, settings, checked, folds)
    name = settings.run_name or f"{checked.corpus.reader.name} {settings.pooler.spec} {settings.fusion.spec}"
    parameters = settings.flat() | {"backbone.weights_digest": weights}
    with tracked_run(settings.experiment, name, parameters, _tags(settings, plugins, checked)) as tracked:
        _log_inputs(tracked, settings, checked, folds)
        extract(work, store, reporter)
        views = pool_features(checked, settings.extraction, settings.pooler, store, reporter)
        evaluation = evaluate(views, folds, settings.fusion, settings.classifier, reporter)
        _log_results(tracked, evaluation, checked)
        return RunResult(evaluation, tracked.run_id, tracked.experiment_id)


def with_data(settings: Settings, plugins: Plugins, store: FeatureStore, reporter: ConsoleReporter) -> Settings:
    """Return the settings with the demonstration corpus where no data is named, saying that it is one."""
    if settings.data:
        return settings
    from bserkit.demo import demo_corpus

    reporter.say(
        "No DATA was named: this is a demonstration on a small synthetic corpus"
        + (", with an untrained network" if "random" in settings.extraction.backbone.spec else "")
        + ". Its numbers say nothing about speech."
    )
    return replace(settings, data=demo_corpus(store.root), corpus=plugins.make(CorpusReader, "csv"), found_reader=False)


def prepare(settings: Settings, store: FeatureStore, reporter: ConsoleReporter) -> tuple[Checked, list[Fold]]:
    """Read and check the corpus, and split it."""
    assert settings.data is not None  # noqa: S101
    assert settings.corpus is not None  # noqa: S101
    corpus = read_corpus(settings.data, settings.corpus)
    checked = check_corpus(corpus, settings.extraction.transforms, settings.mono, store, reporter)
    return checked, split(settings.protocol, checked.corpus.utterances)


def _tags(settings: Settings, plugins: Plugins, checked: Checked) -> dict[str, str]:
    tags = {f"version.{name}": version(name) for name in _LIBRARIES}
    tags |= {"version.python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for component in settings.components():
        source = plugins.source_of(component)
        tags[f"plugin.{component.kind}.{component.name}"] = f"{source.name} {source.version} ({source.location})"
    return tags | {"notes": "; ".join(checked.notes)} if checked.notes else tags


def _log_inputs(tracked: TrackedRun, settings: Settings, checked: Checked, folds: list[Fold]) -> None:
    corpus = checked.corpus
    tracked.log_text("config.toml", settings.to_toml())
    tracked.log_dataset(corpus.reader.name, corpus.fingerprint(checked.digests), str(corpus.root))
    tracked.tag("corpus.fingerprint", corpus.fingerprint(checked.digests))
    tracked.log_text("folds.csv", csv_text(fold_rows(corpus, folds)))
    tracked.log_metrics({"items": len(corpus.utterances), "skipped": len(corpus.skipped)})
    if corpus.skipped:
        tracked.log_text("skipped.csv", csv_text([{"item": one.item, "reason": one.reason} for one in corpus.skipped]))


def _log_results(tracked: TrackedRun, evaluation: Evaluation, checked: Checked) -> None:
    from bserkit.plots import confusion_figure, fusion_search_figure

    tracked.log_metrics(overall_metrics(evaluation))
    for fold in range(len(evaluation.outcomes)):
        tracked.log_metrics(fold_metrics(evaluation, fold), step=fold)
    tracked.log_text("results.csv", csv_text(result_rows(evaluation)))
    tracked.log_text("predictions.csv", csv_text(prediction_rows(evaluation, checked.corpus)))
    tracked.log_text("confusion.csv", csv_text(confusion_rows(evaluation)))
    tracked.log_figure("confusion.png", confusion_figure(evaluation, [FUSION]))
    if others := [part for part in evaluation.scores if part != FUSION]:
        tracked.log_figure("confusion_parts.png", confusion_figure(evaluation, others))
    if rows := search_rows(evaluation):
        tracked.log_text("fusion_search.csv", csv_text(rows))
    if curves := search_curves(evaluation):
        tracked.log_figure("fusion_search.png", fusion_search_figure(curves, "score"))
    if notes := evaluation.notes():
        tracked.tag("fusion.notes", "; ".join(notes))
