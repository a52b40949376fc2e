"""One run: ``plan`` checks all that can be checked before work, ``execute`` does it and logs what it came to."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from bserkit.corpora.audit.audit import Audit, audit, markdown
from bserkit.corpora.checking import check_corpus
from bserkit.corpora.demo import demo_corpus
from bserkit.corpora.protocols import cautions, split
from bserkit.corpora.reading import read_corpus
from bserkit.evaluation.cross_validation import evaluate
from bserkit.evaluation.numbers import fold_metrics, overall_metrics
from bserkit.evaluation.results import (
    FoldMember,
    FoldSummary,
    LeftOut,
    Results,
    fold_members,
    fold_summaries,
    results_of,
    search_curves,
)
from bserkit.experiments.features import planned_features
from bserkit.experiments.settings import SETTINGS
from bserkit.features.example import Level, channel_example
from bserkit.features.finetuning import FromRun
from bserkit.features.pooling import LearningPooler
from bserkit.reporting.description import description
from bserkit.rows import write_rows
from bserkit.schema import (
    AUDIT,
    COMMAND,
    CONFIG,
    CONFUSION_FIGURE,
    FINGERPRINT,
    FOLD_SUMMARIES,
    FOLDS,
    FUSION,
    FUSION_NOTES,
    LEARNING_POOLER,
    LEVELS,
    LEVELS_FIGURE,
    MACHINE,
    NOTES,
    PARTS_FIGURE,
    PLUGINS,
    SEARCH_FIGURE,
    SKIPPED,
    SKIPPED_COUNT,
    UNLABELLED,
    UTTERANCES,
)
from bserkit.tracking.finished import find_run
from bserkit.tracking.runs import TrackedRun, tracked_run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bserkit.corpora.checking import Checked
    from bserkit.corpora.protocols import Fold
    from bserkit.corpora.reading import Corpus
    from bserkit.evaluation.cross_validation import Evaluation
    from bserkit.experiments.features import PlannedFeatures
    from bserkit.experiments.settings import Settings
    from bserkit.features.extraction import Extraction
    from bserkit.plugins.registry import Plugins
    from bserkit.store import FeatureStore
    from bserkit.workspace import Workspace

#: Libraries whose versions can move a number.
_LIBRARIES = ("bserkit", "torch", "torchaudio", "torchvision", "scikit-learn", "numpy", "soundfile", "mlflow")


@dataclass(frozen=True)
class Prepared:
    """A corpus that was checked, audited and split.

    Attributes:
        cautions: what a reader of the numbers must know of the split, as a run's tags.
    """

    checked: Checked
    folds: Sequence[Fold]
    audit: Audit
    cautions: Mapping[str, str]

    @property
    def corpus(self) -> Corpus:
        """The usable utterances."""
        return self.checked.corpus


@dataclass(frozen=True)
class Plan:
    """A run before its work, which was found to be possible.

    Attributes:
        features: makes the features, networks included.
        name: the run's name in MLflow.
        parameters: under the names that MLflow shows.
        tags: likewise.
        plugins: by path, the files of the plugins that are not installed and that it uses.
    """

    settings: Settings
    prepared: Prepared
    features: PlannedFeatures
    name: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    plugins: Mapping[str, str]

    @property
    def cautions(self) -> dict[str, str]:
        """What a reader of the numbers must know, as the run's tags."""
        return _cautions(self.settings, self.prepared)


@dataclass(frozen=True)
class Result:
    """What a run came to, and where it is kept.

    Attributes:
        cautions: what a reader of the numbers must know, as the run's tags.
    """

    evaluation: Evaluation
    run_id: str
    experiment_id: str
    cautions: Mapping[str, str]


def plan(settings: Settings, plugins: Plugins, workspace: Workspace) -> Plan:
    """Read, check, audit and split the corpus, and find out whether the features can be made.

    Raises:
        UsageError: what was asked for does not fit the data.
        BserkitError: something that the run needs cannot be had.
    """
    # Weights that cannot be had are found out before any audio is read, and wrong ones before a run is opened.
    settings.extraction.recipes()
    settings.protocol.digest()
    prepared = prepare(settings, workspace)
    settings = with_whole_id(settings)
    return Plan(
        settings=settings,
        prepared=prepared,
        features=planned_features(settings, prepared.checked, prepared.folds, workspace),
        name=settings.run_name or " ".join([prepared.corpus.reader.name, *_stages(settings)]),
        parameters=parameters(settings),
        tags=tags(settings, plugins, prepared),
        plugins=plugins.files_of(settings.components()),
    )


def execute(planned: Plan, workspace: Workspace) -> Result:
    """Do a planned run in MLflow.

    Raises:
        BserkitError: something that the run needs cannot be had any more.
    """
    with tracked_run(planned.settings.experiment, planned.name, planned.parameters, planned.tags) as tracked:
        log_settings(tracked, planned.settings, planned.plugins)
        evaluation, _ = evaluate_and_log(tracked, planned.settings, planned.prepared, planned.features, workspace)
        return Result(evaluation, tracked.run_id, tracked.experiment_id, planned.cautions)


def log_settings(tracked: TrackedRun, settings: Settings, plugins: Mapping[str, str]) -> None:
    """Log the configuration that gives the run again, and with it the files of the plugins that it takes."""
    for path, text in plugins.items():
        tracked.log_text(PLUGINS.replace("PATH.py", path), text)
    if plugins:
        # The folders of the files, beside the configuration: those of twins have a folder of their own.
        begin = PurePosixPath(PLUGINS).parent
        twins = {begin / PurePosixPath(path).parts[0] for path in plugins if re.match(r"[0-9a-f]{12}/", path)}
        settings = replace(settings, plugins_dir=tuple(map(Path, (begin, *sorted(twins)))))
    tracked.log_text(CONFIG, settings.to_toml())


def evaluate_and_log(
    tracked: TrackedRun, settings: Settings, prepared: Prepared, features: PlannedFeatures, workspace: Workspace
) -> tuple[Evaluation, Results]:
    """Evaluate one choice of settings in the run that was opened for it, and log all that belongs to a run."""
    tracked.tag(COMMAND, settings.command())
    summaries = log_corpus(tracked, prepared)
    source = features(tracked)
    evaluation = evaluate(
        source,
        prepared.folds,
        settings.fusion,
        settings.classifier,
        workspace.reporter,
        normaliser=settings.normaliser,
    )
    results = results_of(evaluation, prepared.corpus, summaries)
    _log_results(tracked, evaluation, results)
    _log_example(tracked, settings.extraction, prepared.checked, workspace.store)
    return evaluation, results


def with_whole_id(settings: Settings) -> Settings:
    """Name a run whose networks are used again by its id, which stays true when other runs take its name."""
    if not isinstance(settings.finetune, FromRun):
        return settings
    return replace(settings, finetune=FromRun(run=find_run(settings.finetune.run, settings.experiment).run_id))


def prepare(settings: Settings, workspace: Workspace) -> Prepared:
    """Read and check the corpus, split it, and look for what could fool the numbers."""
    checked = checked_corpus(settings, workspace)
    folds = split(settings.protocol, checked.corpus, settings.allow_speaker_overlap)
    looked = list(zip(checked.digests, checked.facts, strict=True))
    audited = audit(checked.corpus, looked, workspace, settings.extraction.needs_stereo)
    return Prepared(checked, folds, audited, cautions(checked.corpus, folds))


def checked_corpus(settings: Settings, workspace: Workspace) -> Checked:
    """Read the corpus and check its recordings; the demonstration corpus is made where it is missing."""
    if not settings.data:
        untrained = ", with an untrained network" if "random" in settings.backbone.spec else ""
        workspace.reporter.say(
            f"No DATA was named: this is a demonstration on a small synthetic corpus{untrained}. Its numbers say "
            "nothing about speech."
        )
    corpus = read_corpus(settings.data or demo_corpus(workspace.store.root), settings.corpus)
    needs_stereo = settings.extraction.needs_stereo
    return check_corpus(corpus, needs_stereo, settings.mono, settings.microphones, workspace)


def parameters(settings: Settings) -> dict[str, str]:
    """Return a run's parameters under the names that MLflow shows, the digests of its weights and folds among them."""
    found = settings.flat() | {"backbone.weights_digest": settings.extraction.backbone.weights_digest()}
    folds_digest = settings.protocol.digest()
    return found | {"protocol.digest": folds_digest} if folds_digest else found


def tags(settings: Settings, plugins: Plugins, prepared: Prepared) -> dict[str, str]:
    """Return a run's tags: versions, the machine, where each component came from, what a reader must know."""
    videos = ("av",) if find_spec("av") else ()
    found = {f"version.{name}": version(name) for name in (*_LIBRARIES, *videos)}
    found |= {"version.python": platform.python_version(), MACHINE: f"{platform.system()} {platform.machine()}"}
    for component in settings.components():
        source = plugins.source_of(component)
        found[f"plugin.{component.kind}.{component.known_as.replace('/', '.')}"] = (
            f"{source.name} {source.version} ({source.location})"
        )
    if prepared.checked.notes:
        found[NOTES] = "; ".join(prepared.checked.notes)
    if isinstance(settings.pooler, LearningPooler):
        found[LEARNING_POOLER] = "true"
    return {**found, **_cautions(settings, prepared)}


def _cautions(settings: Settings, prepared: Prepared) -> dict[str, str]:
    own = settings.normaliser
    return {**prepared.cautions, **({UNLABELLED: own.spec} if own and own.uses_unlabelled() else {})}


def _stages(settings: Settings) -> list[str]:
    """Return the stages that a run without a name is called by; a backbone without the place of its file."""
    stages = settings.pooler, settings.normaliser, settings.fusion
    return [SETTINGS["backbone"].short(settings.backbone), *(one.spec for one in stages if one)]


def log_corpus(tracked: TrackedRun, prepared: Prepared) -> list[FoldSummary]:
    """Log the corpus by its content, what was left out of it, what could fool the numbers, and the folds.

    Returns who is in training and who in test.
    """
    audited = prepared.audit
    corpus, fingerprint = prepared.corpus, prepared.corpus.fingerprint(prepared.checked.digests)
    tracked.log_dataset(corpus.reader.name, fingerprint, str(corpus.root))
    tracked.tag(FINGERPRINT, fingerprint)
    summaries = fold_summaries(corpus, prepared.folds)
    tracked.log_text(FOLDS, write_rows(FoldMember, fold_members(corpus, prepared.folds)))
    tracked.log_text(FOLD_SUMMARIES, write_rows(FoldSummary, summaries))
    tracked.log_metrics({UTTERANCES: len(corpus.utterances), SKIPPED_COUNT: len(corpus.skipped)} | audited.metrics())
    tracked.log_text(AUDIT, markdown(audited))
    if corpus.skipped:
        tracked.log_text(SKIPPED, write_rows(LeftOut, [LeftOut(one.item, one.reason) for one in corpus.skipped]))
    return summaries


def _log_results(tracked: TrackedRun, evaluation: Evaluation, results: Results) -> None:
    from bserkit.reporting.figures import confusion_figure, fusion_search_figure

    tracked.log_metrics(overall_metrics(evaluation))
    for fold in range(len(evaluation.outcomes)):
        tracked.log_metrics(fold_metrics(evaluation, fold), step=fold)
    for name, text in results.files().items():
        tracked.log_text(name, text)
    tracked.log_figure(CONFUSION_FIGURE, confusion_figure({FUSION: evaluation.measures()}))
    if others := [part for part in evaluation.scores if part != FUSION]:
        tracked.log_figure(PARTS_FIGURE, confusion_figure({one: evaluation.measures(one) for one in others}))
    if curves := search_curves(results.search):
        tracked.log_figure(SEARCH_FIGURE, fusion_search_figure(curves, "score"))
    if notes := evaluation.notes():
        tracked.tag(FUSION_NOTES, "; ".join(notes))
    tracked.describe(description(tracked.kept, results))


def _log_example(tracked: TrackedRun, extraction: Extraction, checked: Checked, store: FeatureStore) -> None:
    from bserkit.reporting.figures import channels_figure

    if example := channel_example(extraction, checked, store):
        tracked.log_figure(LEVELS_FIGURE, channels_figure(example))
        tracked.log_text(LEVELS, write_rows(Level, example.levels()))
