"""A sweep: every combination of several components, a run each, on the same folds and the same features."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from itertools import groupby, product
from typing import TYPE_CHECKING, Any

from bserkit.cli.console import show_corpus
from bserkit.component import identity, read_specs
from bserkit.errors import BserkitError, UsageError, is_interrupt
from bserkit.evaluation.results import FOLDS
from bserkit.experiments.run import (
    evaluate_and_log,
    log_corpus,
    parameters,
    planned_features,
    prepare,
    tags,
    with_data,
    with_whole_id,
)
from bserkit.experiments.settings import read_config, resolve
from bserkit.features.channels import FUSION
from bserkit.progress import Numbered, Silent
from bserkit.reporting.paper_tables import Outcome, Page, confusions, page, result_row
from bserkit.text import counted, csv_rows, csv_text
from bserkit.tracking.runs import IDENTITY_TAG, find_run, read_artifact_text, tracked_sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from pathlib import Path

    from bserkit.cli.console import ConsoleReporter
    from bserkit.component import Component
    from bserkit.experiments.run import Features, Prepared
    from bserkit.experiments.settings import Settings
    from bserkit.learning.views import Views
    from bserkit.plugins.registry import Plugins
    from bserkit.progress import Reporter
    from bserkit.store import FeatureStore
    from bserkit.tracking.runs import TrackedRun

#: What can be varied, in the data's order; what stands last varies fastest.
AXES = ("channels", "frontend", "backbone", "finetune", "pooler", "classifier", "fusion")
#: The axes along which a sweep goes unless it is told otherwise: those of the paper. The oracle is reported beside
#: the result, never as it.
DEFAULT_GRID: Mapping[str, Sequence[str]] = {
    "pooler": ("block-max", "block-avg", "global-max", "global-avg"),
    "fusion": ("two-stage:tune=oracle", "feature"),
}
#: How ``--finetune`` spells that the backbone stays as it is, and what it then is.
_NOT_TUNED, _FROZEN = "none", "frozen"


@dataclass(frozen=True)
class Combination:
    """One run of a sweep, before it is done.

    Attributes:
        name: what tells it from the others.
        stages: what each stage is called in tables: a component's name, or its whole spelling where the sweep has
            several of that name.
        reference: whether it stands beside the grid, to be compared with.
    """

    name: str
    stages: Mapping[str, str]
    settings: Settings
    reference: bool = False


@dataclass(frozen=True)
class Failed:
    """A combination that could not be run, and why."""

    combination: Combination
    error: Exception

    @property
    def reason(self) -> str:
        """The reason in one line."""
        kind = "" if isinstance(self.error, BserkitError) else f"{type(self.error).__name__}: "
        return f"{kind}{self.error}".partition("\n")[0]


@dataclass(frozen=True)
class Swept:
    """What a sweep came to: its tables, an outcome for each combination that has one, and the others."""

    page: Page
    outcomes: Sequence[Outcome]
    failed: Sequence[Failed]
    run_id: str


@dataclass(frozen=True)
class _Ready:
    """A combination on its checked corpus and folds.

    Attributes:
        number: its place in the sweep, from 1.
        identity: everything that its numbers depend on, as one digest.
    """

    number: int
    combination: Combination
    prepared: Prepared
    identity: str


def combinations(
    values: Mapping[str, Any], grid: Mapping[str, Sequence[str]], references: Sequence[Path], plugins: Plugins
) -> list[Combination]:
    """Return every combination of the grid, the one named first first, and then the references.

    Args:
        values: settings as they were given, by an option or a configuration file; the grid's stand over them.
        grid: the components to combine, by axis; an axis that is not in it or empty has its own value or the default.
        references: configuration files whose settings stand over those of the first combination.

    Raises:
        UsageError: something given is not known or does not fit, or two combinations are the same.
    """
    fixed = {key: value for key, value in values.items() if key not in (*AXES, "run-name")}
    axes = {axis: choices for axis in AXES if (choices := _choices(axis, values, grid))}
    varied = [axis for axis, choices in axes.items() if len(choices) > 1] or ["pooler", "fusion"]
    every = [resolve(fixed | dict(zip(axes, choice, strict=True)), plugins) for choice in product(*axes.values())]
    # One name for several spellings tells nothing apart.
    short = [
        axis for axis in AXES if len({_spelt(one)[axis] for one in every}) == len({_named(one)[axis] for one in every})
    ]
    made = []
    for settings in every:
        stages = {axis: (_named if axis in short else _spelt)(settings)[axis] for axis in AXES}
        made.append(Combination(" ".join(stages[axis] for axis in varied), stages, settings))
    first = fixed | {axis: choices[0] for axis, choices in axes.items()}
    made += [_reference(path, first, made[0].settings, plugins) for path in references]
    for index, one in enumerate(made):
        if twin := next((other for other in made[:index] if other.settings == one.settings), None):
            what = f"The reference {one.name}" if one.reference else "A combination"
            raise UsageError(f"{what} is the same as {twin.name}: {one.settings.command()}. Give each once.")
        if one.name in {other.name for other in made[:index]}:
            raise UsageError(
                f"Two are named {one.name!r}. Name one in its file, such as run-name = {one.name + ' 2'!r}."
            )
    return made


def _choices(axis: str, values: Mapping[str, Any], grid: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return what an axis goes through: what was given for it, or else the default."""
    given: list[Any] = list(grid.get(axis) or ([values[axis]] if axis in values else DEFAULT_GRID.get(axis, ())))
    if axis == "finetune":
        return [None if choice == _NOT_TUNED else choice for choice in given]
    for choice in given:
        if axis != "channels" and len(specs := read_specs(choice)) > 1:
            each = " ".join(f"--{axis} {spec}" for spec in specs)
            raise UsageError(f"--{axis} {choice} names {len(specs)} components; give the option once for each: {each}.")
    return given


def _spelt(settings: Settings) -> dict[str, str]:
    """Return each axis's components as they are spelt."""
    return _by_axis(settings, lambda component: component.spec)


def _named(settings: Settings) -> dict[str, str]:
    """Return each axis's components by their names alone."""
    return _by_axis(settings, lambda component: component.name)


def _by_axis(settings: Settings, write: Callable[[Component], str]) -> dict[str, str]:
    written: dict[str, list[str]] = {axis: [] for axis in AXES}
    for component in settings.components():
        if component.kind in written:
            written[component.kind].append(write(component))
    return {axis: ",".join(words) or _FROZEN for axis, words in written.items()}


def _reference(path: Path, first: Mapping[str, Any], base: Settings, plugins: Plugins) -> Combination:
    """Read a configuration that stands beside the grid: on the same data and folds, whatever else it sets."""
    values = read_config(path)
    name = str(values.pop("run-name", path.stem))
    settings = resolve({**first, **values}, plugins)
    for what in ("data", "corpus", "protocol"):
        if getattr(settings, what) != getattr(base, what):
            raise UsageError(
                f"The reference {path} sets another {what} than the sweep, but a reference is held against it on the "
                "same items in the same folds. Leave that setting out of the file."
            )
    settings = replace(
        settings,
        run_name=None,
        experiment=base.experiment,
        plugins_dir=base.plugins_dir,
        found_reader=base.found_reader,
    )
    return Combination(name, _named(settings), settings, reference=True)


def sweep(
    planned: Sequence[Combination], name: str | None, plugins: Plugins, store: FeatureStore, reporter: ConsoleReporter
) -> Swept:
    """Do one run for each combination, below a run of the sweep itself, and write the paper's tables.

    Runs that a broken-off sweep finished are taken over where nothing that their numbers depend on has changed. A
    combination that fails stops no other.

    Raises:
        UsageError: what was asked for does not fit the data.
        BserkitError: something that every run needs cannot be had.
    """
    planned = _with_data(planned, plugins, store, reporter)
    # Weights that cannot be had are found out before any audio is read.
    for one in planned:
        one.settings.extraction.recipes()
    ready = _ready(planned, plugins, store, reporter)
    first = ready[0]
    show_corpus(reporter.console, first.combination.settings, first.prepared)
    references = sum(one.reference for one in planned)
    count = counted(len(ready) - references, "combination")
    count += f" and {counted(references, 'reference')}" * bool(references)
    reporter.say(f"{count}, on the same folds")
    title = name or f"sweep of {first.prepared.corpus.reader.name}: {count}"
    settings = first.combination.settings
    own_tags = tags(settings, plugins, first.prepared)
    with tracked_sweep(settings.experiment, title, _grid_parameters(planned), own_tags) as parent:
        log_corpus(parent, first.prepared)
        ids = parent.take_over({one.identity for one in ready})
        if ids:
            reporter.say(f"{len(ids)} of {len(ready)} kept from the sweep that was broken off")
        made, failed = _run_all(
            [one for one in ready if one.identity not in ids], len(ready), parent, plugins, store, reporter
        )
        ids |= made
        outcomes = [_outcome(one.combination, ids[one.identity]) for one in ready if one.identity in ids]
        chosen = outcomes[0] if first.identity in ids else None
        written = page(outcomes, chosen) if outcomes else Page([], [])
        _log(parent, title, written, outcomes, failed, chosen)
        return Swept(written, outcomes, failed, parent.run_id)


def _with_data(
    planned: Sequence[Combination], plugins: Plugins, store: FeatureStore, reporter: Reporter
) -> list[Combination]:
    """Put the demonstration corpus under every combination where no data is named."""
    first = with_data(planned[0].settings, plugins, store, reporter)
    return [
        replace(
            one,
            settings=replace(
                with_whole_id(one.settings), data=first.data, corpus=first.corpus, found_reader=first.found_reader
            ),
        )
        for one in planned
    ]


def _ready(planned: Sequence[Combination], plugins: Plugins, store: FeatureStore, reporter: Reporter) -> list[_Ready]:
    """Check the corpus and split it, once for all combinations that ask the same of it, and see that items agree."""
    known: dict[Hashable, Prepared] = {}
    ready: list[_Ready] = []
    for number, one in enumerate(planned, start=1):
        asked = one.settings.mono, one.settings.microphones, one.settings.extraction.needs_stereo
        if asked not in known:
            known[asked] = prepare(one.settings, store, Silent() if known else reporter)
        prepared = known[asked]
        if ready and (ours := ready[0].prepared.corpus.utterances) != prepared.corpus.utterances:
            raise UsageError(
                f"{planned[0].name} has {len(ours)} usable recordings, but {one.name} has "
                f"{len(prepared.corpus.utterances)}: recordings without stereo are left out of the one only. A sweep "
                "compares on the same items: use --mono duplicate, or sweep separately."
            )
        ready.append(_Ready(number, one, prepared, _identity(one.settings, prepared, plugins)))
    return ready


def _identity(settings: Settings, prepared: Prepared, plugins: Plugins) -> str:
    """Name everything that a run's numbers depend on: settings, code, weights, versions, the corpus and its folds."""
    items = prepared.corpus.items
    everything = {
        "parameters": parameters(settings),
        "components": [identity(component) for component in settings.components()],
        "tags": tags(settings, plugins, prepared),
        "corpus": prepared.corpus.fingerprint(prepared.checked.digests),
        "folds": [
            [fold.name, *([items[index] for index in side] for side in (fold.train, fold.test))]
            for fold in prepared.folds
        ],
    }
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _grid_parameters(planned: Sequence[Combination]) -> dict[str, str]:
    """Return what a sweep went through, by axis, its references, and what all of it has in common."""
    grid = [one for one in planned if not one.reference]
    rows = {axis: " ".join(dict.fromkeys(_spelt(one.settings)[axis] for one in grid)) for axis in AXES}
    flat = grid[0].settings.flat()
    rows |= {key: flat[key] for key in ("data", "corpus", "protocol", "device", "precision", "seed", "mono")}
    references = [one for one in planned if one.reference]
    return rows | {
        f"reference.{number}": f"{one.name}: {one.settings.command()}" for number, one in enumerate(references, start=1)
    }


def _run_all(
    todo: Sequence[_Ready], of: int, parent: TrackedRun, plugins: Plugins, store: FeatureStore, reporter: Reporter
) -> tuple[dict[str, str], list[Failed]]:
    """Run combinations one after another; return each one's run id by its identity, and those that failed."""
    made: dict[str, str] = {}
    failed: list[Failed] = []
    # Combinations of the same features stand one after another: these are pooled once, and dropped before the next.
    for _, group in groupby(todo, _pooled_as):
        shared: list[Views | Callable[[int], Views]] = []
        for one in group:
            say = Numbered(reporter, f"{one.number}/{of} ")
            try:
                made[one.identity] = _run_one(one, parent, _shared(one, store, say, shared), plugins, store, say)
            except Exception as error:
                if is_interrupt(error):
                    raise
                # A component may fail in any way; the other combinations have nothing to do with it.
                failed.append(Failed(one.combination, error))
                say.say(f"{one.combination.name}: failed: {failed[-1].reason}")
    return made, failed


def _pooled_as(one: _Ready) -> Hashable:
    """Name what the pooled features of a combination depend on."""
    settings = one.combination.settings
    return settings.extraction, settings.finetune, settings.pooler


def _shared(
    one: _Ready, store: FeatureStore, reporter: Reporter, kept: list[Views | Callable[[int], Views]]
) -> Features:
    """Return what makes a combination's features, unless ``kept`` has them, where it then keeps them."""

    def features(tracked: TrackedRun) -> Views | Callable[[int], Views]:
        settings = one.combination.settings
        if not kept or settings.finetune:
            kept[:] = [planned_features(settings, one.prepared, store, reporter)(tracked)]
        return kept[0]

    return features


def _run_one(
    one: _Ready, parent: TrackedRun, features: Features, plugins: Plugins, store: FeatureStore, reporter: Numbered
) -> str:
    """Do one combination's run, below the sweep's, and return its id."""
    settings = one.combination.settings
    own_tags = tags(settings, plugins, one.prepared) | {IDENTITY_TAG: one.identity}
    name = f"{one.prepared.corpus.reader.name} {one.combination.name}"
    with parent.nested(name, parameters(settings), own_tags) as tracked:
        evaluation = evaluate_and_log(tracked, settings, one.prepared, features, store, reporter)
    measures = evaluation.measures()
    reporter.say(f"{one.combination.name}: UAR {measures.uar:.3f}, accuracy {measures.accuracy:.3f}")
    return tracked.run_id


def _outcome(combination: Combination, run_id: str) -> Outcome:
    """Read back what a combination's run logged."""
    run = find_run(run_id, combination.settings.experiment)
    weights: dict[str, list[float]] = {}
    for row in csv_rows(read_artifact_text(run, "results.csv")):
        if row["weight"] and row["part"] != FUSION:
            weights.setdefault(row["part"], []).append(float(row["weight"]))
    return Outcome(
        name=combination.name,
        stages=combination.stages,
        transforms=combination.settings.extraction.transform_of(),
        run=run,
        weights=weights,
        predictions=read_artifact_text(run, "predictions.csv"),
        folds=read_artifact_text(run, FOLDS),
        command=combination.settings.command(),
        reference=combination.reference,
    )


def _log(
    parent: TrackedRun,
    title: str,
    written: Page,
    outcomes: Sequence[Outcome],
    failed: Sequence[Failed],
    chosen: Outcome | None,
) -> None:
    """Log the sweep's tables and confusions, and mark it failed where a combination did."""
    from bserkit.reporting.figures import confusion_figure

    rows = [result_row(one) for one in outcomes]
    rows += [
        {"name": one.combination.name, "command": one.combination.settings.command(), "failed": one.reason}
        for one in failed
    ]
    parent.log_text("results.csv", csv_text(rows))
    if outcomes:
        commands = [one.command for one in outcomes]
        parent.log_text("tables.md", written.markdown(title, commands))
    if chosen:
        parent.log_figure("confusion.png", confusion_figure(confusions(chosen)))
    if failed:
        parent.fail("; ".join(f"{one.combination.name}: {one.reason}" for one in failed))
