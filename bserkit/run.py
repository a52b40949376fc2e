"""One run, from data to a tracked result: every stage in order."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

from bserkit.console import ConsoleReporter, show_findings
from bserkit.corpus import CorpusReader, read_corpus
from bserkit.experiment import FUSION, check_corpus, evaluate, pool_by_channel, pool_features
from bserkit.extraction import extract, pending
from bserkit.finetune import FromRun, trainings
from bserkit.progress import Silent
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
from bserkit.reuse import changed_code, reuse
from bserkit.tracking import TrackedRun, find_run, tracked_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any

    from bserkit.config import Settings
    from bserkit.experiment import Checked, Evaluation
    from bserkit.extraction import Extraction
    from bserkit.finetune import Sgd, Trained, Training
    from bserkit.fusion import Views
    from bserkit.plugins import Plugins
    from bserkit.protocol import Fold
    from bserkit.reuse import Reused
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
    settings = _with_whole_id(settings)
    learn = _planned_features(settings, checked, folds, store, reporter)
    show_findings(reporter.console, settings, checked, folds)
    name = settings.run_name or f"{checked.corpus.reader.name} {settings.pooler.spec} {settings.fusion.spec}"
    parameters = settings.flat() | {"backbone.weights_digest": weights}
    with tracked_run(settings.experiment, name, parameters, _tags(settings, plugins, checked)) as tracked:
        _log_inputs(tracked, settings, checked, folds)
        evaluation = evaluate(learn(tracked), folds, settings.fusion, settings.classifier, reporter)
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


def _with_whole_id(settings: Settings) -> Settings:
    """Name a run whose networks are used again by its id, which stays true when other runs take its name."""
    if not isinstance(settings.finetune, FromRun):
        return settings
    return replace(settings, finetune=FromRun(run=find_run(settings.finetune.run, settings.experiment).run_id))


def prepare(settings: Settings, store: FeatureStore, reporter: ConsoleReporter) -> tuple[Checked, list[Fold]]:
    """Read and check the corpus, and split it."""
    assert settings.data is not None  # noqa: S101
    assert settings.corpus is not None  # noqa: S101
    corpus = read_corpus(settings.data, settings.corpus)
    checked = check_corpus(corpus, settings.extraction.transforms, settings.mono, store, reporter)
    return checked, split(settings.protocol, checked.corpus.utterances)


def _planned_features(
    settings: Settings, checked: Checked, folds: Sequence[Fold], store: FeatureStore, reporter: ConsoleReporter
) -> Callable[[TrackedRun], Views | Callable[[int], Views]]:
    """Find out whether the features can be made, and return what makes them, in the run that it is given."""
    utterances, extraction = checked.corpus.utterances, settings.extraction
    if settings.finetune is None:
        work = pending(utterances, checked.digests, extraction, store)

        def frozen(_: TrackedRun) -> Views:
            extract(work, store, reporter)
            return pool_features(checked, extraction, settings.pooler, store, reporter)

        return frozen

    networks = _planned_networks(settings.finetune, settings, checked, folds, store, reporter)

    def tuned(tracked: TrackedRun) -> Callable[[int], Views]:
        made = networks(tracked)
        with reporter.stage("Extracting features", len(made), "networks") as advance:
            for network in made:
                extract(pending(utterances, checked.digests, network, store), store, Silent())
                advance(1)
        each = len(made) // len(folds)
        return lambda fold: pool_by_channel(checked, made[fold * each : (fold + 1) * each], settings.pooler, store)

    return tuned


def _planned_networks(
    finetune: Sgd | FromRun,
    settings: Settings,
    checked: Checked,
    folds: Sequence[Fold],
    store: FeatureStore,
    reporter: ConsoleReporter,
) -> Callable[[TrackedRun], list[Extraction]]:
    """Find out whether each fold's and channel's network can be had, and return what gets them, in the given run."""
    if isinstance(finetune, FromRun):
        chosen = reuse(find_run(finetune.run, settings.experiment), settings.extraction, checked, folds, store)
        if changed := changed_code(chosen):
            reporter.say(f"Note: the code of {', '.join(changed)} is not what it was when the networks learned.")
        return lambda tracked: _bring_back(chosen, tracked, store, reporter)

    from bserkit.training import check_trainable

    planned = trainings(finetune, settings.extraction, checked.corpus.utterances, checked.digests, folds)
    check_trainable(finetune, settings.extraction.backbone)
    return lambda tracked: _fine_tune(planned, tracked, store, reporter)


def _fine_tune(
    planned: Sequence[Training], tracked: TrackedRun, store: FeatureStore, reporter: ConsoleReporter
) -> list[Extraction]:
    """Fine-tune every fold's and channel's network, a nested run each, and return how each makes its features."""
    from bserkit.training import train

    made = []
    with reporter.stage("Fine-tuning", sum(one.recipe.epochs for one in planned), "epochs") as advance:
        for number, training in enumerate(planned, start=1):
            with _network_run(tracked, training) as child:

                def note(epoch: int, numbers: dict[str, float], child: TrackedRun = child) -> None:
                    child.log_metrics(numbers, step=epoch)
                    advance(1)

                trained = train(training, store, note)
                # Epochs that stopping early saved are done with too.
                advance(training.recipe.epochs - len(trained.curves))
                _log_network(child, trained, training.identity())
            last = trained.curves[-1]
            reporter.say(
                f"Network {number} of {len(planned)}, {training.channel} without {training.fold}: "
                f"{'kept from before, ' * trained.reused}{len(trained.curves)} epochs, at last training loss "
                f"{last['train/loss']:.3f}, accuracy {last['train/accuracy']:.3f}"
            )
            made.append(replace(training.extraction, backbone=trained.backbone))
    return made


def _bring_back(
    chosen: Sequence[Reused], tracked: TrackedRun, store: FeatureStore, reporter: ConsoleReporter
) -> list[Extraction]:
    """Bring every fold's and channel's network back, a nested run each, and return how each makes its features."""
    made = []
    with reporter.stage("Bringing networks back", len(chosen), "networks") as advance:
        for one in chosen:
            with _network_run(tracked, one) as child:
                trained = one.trained(store)
                for epoch, numbers in enumerate(trained.curves, start=1):
                    child.log_metrics(numbers, step=epoch)
                child.tag("network.run", one.network.run.run_id)
                _log_network(child, trained, one.network.identity)
            made.append(replace(one.extraction, backbone=trained.backbone))
            advance(1)
    return made


def _network_run(tracked: TrackedRun, one: Training | Reused) -> AbstractContextManager[TrackedRun]:
    return tracked.child(f"{one.channel} without {one.fold}", {"channel": one.channel, "fold": one.fold})


def _log_network(child: TrackedRun, trained: Trained, identity: Mapping[str, Any]) -> None:
    """Log all that a later run needs to use the network again, the weights once however many runs use them."""
    child.tag("weights.path", str(trained.weights))
    child.tag("reused", str(trained.reused).lower())
    child.log_text("recipe.json", json.dumps(identity, sort_keys=True, indent=1))
    child.log_text("curves.json", json.dumps(trained.curves, indent=1))
    child.log_network(trained.weights, trained.backbone.weights_digest())


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
