"""A sweep: a run for each combination of a grid, on the same folds and the same features."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

from bserkit.component import identity
from bserkit.errors import BserkitError, UsageError, is_interrupt
from bserkit.evaluation.results import NEEDED, WANTED, read_results
from bserkit.experiments.features import planned_features
from bserkit.experiments.grid import AXES, spelt
from bserkit.experiments.run import (
    evaluate_and_log,
    log_corpus,
    log_settings,
    parameters,
    prepare,
    tags,
    with_whole_id,
)
from bserkit.progress import Numbered, Silent
from bserkit.reporting.paper_tables import CombinationRow, Outcome, Page, combination_row, confusions, page
from bserkit.rows import plain, write_rows
from bserkit.schema import COMBINATIONS, CONFUSION_FIGURE, IDENTITY, TABLES
from bserkit.text import counted
from bserkit.tracking.finished import find_run, read_artifacts
from bserkit.tracking.runs import tracked_sweep

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from pandas import DataFrame

    from bserkit.evaluation.results import Results
    from bserkit.experiments.features import PlannedFeatures
    from bserkit.experiments.grid import Combination
    from bserkit.experiments.run import Prepared
    from bserkit.experiments.settings import Settings
    from bserkit.learning.views import FeatureSource
    from bserkit.plugins.registry import Plugins
    from bserkit.tracking.finished import KeptRun
    from bserkit.tracking.runs import TrackedRun
    from bserkit.workspace import Workspace


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

    @property
    def table(self) -> DataFrame:
        """One row a combination: its stages, every number over all folds, its run and its command."""
        import pandas

        return pandas.DataFrame([plain(one.row()) for one in self.outcomes])

    def _repr_markdown_(self) -> str:
        return self.page.markdown("Sweep", [one.command for one in self.outcomes])


@dataclass(frozen=True)
class Ready:
    """A combination on its checked corpus and folds.

    Attributes:
        number: its place in the sweep, from 1.
        parameters: of its run, under the names that MLflow shows.
        tags: likewise.
        identity: everything that its numbers depend on, as one digest.
        plugins: by path, the files of the plugins that are not installed and that it uses.
    """

    number: int
    combination: Combination
    prepared: Prepared
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    identity: str
    plugins: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """A sweep before its work: every combination, the one named first first, on the same utterances and folds."""

    ready: Sequence[Ready]

    @property
    def first(self) -> Ready:
        """The combination that was named first."""
        return self.ready[0]

    @property
    def size(self) -> str:
        """How many runs there will be, in words."""
        references = sum(one.combination.reference for one in self.ready)
        count = counted(len(self.ready) - references, "combination")
        return f"{count} and {counted(references, 'reference')}" if references else count


def plan(combinations: Sequence[Combination], plugins: Plugins, workspace: Workspace) -> Plan:
    """Check the corpus and split it, once for all combinations that ask the same of it, and see that utterances agree.

    Raises:
        UsageError: what was asked for does not fit the data.
        BserkitError: something that every run needs cannot be had.
    """
    combinations = [replace(one, settings=with_whole_id(one.settings)) for one in combinations]
    # Weights that cannot be had are found out before any audio is read.
    for one in combinations:
        one.settings.extraction.recipes()
    known: dict[Hashable, Prepared] = {}
    ready: list[Ready] = []
    for number, one in enumerate(combinations, start=1):
        settings = one.settings
        asked = settings.mono, settings.microphones, settings.extraction.needs_stereo
        if asked not in known:
            known[asked] = prepare(settings, workspace.telling(Silent()) if known else workspace)
        prepared = known[asked]
        if ready and (ours := ready[0].prepared.corpus.utterances) != prepared.corpus.utterances:
            raise UsageError(
                f"{combinations[0].name} has {len(ours)} usable recordings, but {one.name} has "
                f"{len(prepared.corpus.utterances)}: recordings without stereo are left out of the one only. A sweep "
                "compares on the same utterances: use --mono duplicate, or sweep separately."
            )
        flat, own_tags = parameters(settings), tags(settings, plugins, prepared)
        named = _identity(settings, prepared, flat, own_tags)
        files = plugins.files_of(settings.components())
        ready.append(Ready(number, one, prepared, flat, own_tags, named, files))
    return Plan(ready)


def execute(planned: Plan, name: str | None, workspace: Workspace) -> Swept:
    """Do one run for each combination, below a run of the sweep itself, and write the paper's tables.

    Runs that a broken-off sweep finished are taken over where nothing that their numbers depend on has changed. A
    combination that fails stops no other.

    Raises:
        BserkitError: something that every run needs cannot be had.
    """
    ready, first = planned.ready, planned.first
    title = name or f"sweep of {first.prepared.corpus.reader.name}: {planned.size}"
    grid = _grid_parameters([one.combination for one in ready])
    with tracked_sweep(first.combination.settings.experiment, title, grid, first.tags) as parent:
        log_corpus(parent, first.prepared)
        ids = parent.take_over({one.identity for one in ready})
        if ids:
            workspace.reporter.say(f"{len(ids)} of {len(ready)} kept from the sweep that was broken off")
        found = {one.identity: _read(one, ids[one.identity]) for one in ready if one.identity in ids}
        made, failed = _run_all([one for one in ready if one.identity not in ids], len(ready), parent, workspace)
        found |= made
        outcomes = [found[one.identity] for one in ready if one.identity in found]
        chosen = found.get(first.identity)
        written = page(outcomes, chosen) if outcomes else Page([], [])
        _log(parent, title, written, outcomes, failed, chosen)
        return Swept(written, outcomes, failed, parent.run_id)


def _identity(settings: Settings, prepared: Prepared, flat: Mapping[str, str], own_tags: Mapping[str, str]) -> str:
    """Name everything that a run's numbers depend on: settings, code, weights, versions, the corpus and its folds."""
    items = prepared.corpus.items
    everything = {
        "parameters": flat,
        "components": [identity(component) for component in settings.components()],
        "tags": own_tags,
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
    rows = {axis: " ".join(dict.fromkeys(spelt(one.settings)[axis] for one in grid)) for axis in AXES}
    flat = grid[0].settings.flat()
    rows |= {key: flat[key] for key in ("data", "corpus", "protocol", "device", "precision", "seed", "mono")}
    references = [one for one in planned if one.reference]
    return rows | {
        f"reference.{number}": f"{one.name}: {one.settings.command()}" for number, one in enumerate(references, start=1)
    }


def _run_all(
    todo: Sequence[Ready], of: int, parent: TrackedRun, workspace: Workspace
) -> tuple[dict[str, Outcome], list[Failed]]:
    """Run combinations one after another; return each one's outcome by its identity, and those that failed."""
    made: dict[str, Outcome] = {}
    failed: list[Failed] = []
    # Combinations of the same features stand one after another: these are pooled once, and dropped before the next.
    for _, group in groupby(todo, _pooled_as):
        shared: list[FeatureSource] = []
        for one in group:
            own = workspace.telling(Numbered(workspace.reporter, f"{one.number}/{of} "))
            try:
                made[one.identity] = _run_one(one, parent, _shared(one, own, shared), own)
            except Exception as error:
                if is_interrupt(error):
                    raise
                # A component may fail in any way; the other combinations have nothing to do with it.
                failed.append(Failed(one.combination, error))
                own.reporter.say(f"{one.combination.name}: failed: {failed[-1].reason}")
    return made, failed


def _pooled_as(one: Ready) -> Hashable:
    """Name what the pooled features of a combination depend on."""
    settings = one.combination.settings
    return settings.extraction, settings.finetune, settings.pooler


def _shared(one: Ready, workspace: Workspace, kept: list[FeatureSource]) -> PlannedFeatures:
    """Return what makes a combination's features, unless ``kept`` has them, where it then keeps them."""

    def features(tracked: TrackedRun) -> FeatureSource:
        settings, prepared = one.combination.settings, one.prepared
        if not kept or settings.finetune:
            kept[:] = [planned_features(settings, prepared.checked, prepared.folds, workspace)(tracked)]
        return kept[0]

    return features


def _run_one(one: Ready, parent: TrackedRun, features: PlannedFeatures, workspace: Workspace) -> Outcome:
    """Do one combination's run, below the sweep's."""
    name = f"{one.prepared.corpus.reader.name} {one.combination.name}"
    with parent.nested(name, one.parameters, {**one.tags, IDENTITY: one.identity}) as tracked:
        log_settings(tracked, one.combination.settings, one.plugins)
        evaluation, results = evaluate_and_log(tracked, one.combination.settings, one.prepared, features, workspace)
    measures = evaluation.measures()
    workspace.reporter.say(f"{one.combination.name}: UAR {measures.uar:.3f}, accuracy {measures.accuracy:.3f}")
    return _outcome(one.combination, tracked.kept, results)


def _read(one: Ready, run_id: str) -> Outcome:
    """Read back what the run of a combination logged."""
    run = find_run(run_id, one.combination.settings.experiment)
    return _outcome(one.combination, run, read_results(read_artifacts(run, NEEDED, WANTED), run_id))


def _outcome(combination: Combination, run: KeptRun, results: Results) -> Outcome:
    settings = combination.settings
    return Outcome(
        name=combination.name,
        stages=combination.stages,
        transforms=settings.extraction.transform_of(),
        run=run,
        results=results,
        command=settings.command(),
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

    rows = [one.row() for one in outcomes]
    for lost in failed:
        one = lost.combination
        rows.append(combination_row(one.name, one.stages, one.reference, one.settings.command(), None, lost.reason))
    parent.log_text(COMBINATIONS, write_rows(CombinationRow, rows))
    if outcomes:
        commands = [one.command for one in outcomes]
        parent.log_text(TABLES, written.markdown(title, commands))
        parent.describe(written.sections[-1][1][0].markdown())
    if chosen:
        parent.log_figure(CONFUSION_FIGURE, confusion_figure(confusions(chosen)))
    if failed:
        parent.fail("; ".join(f"{one.combination.name}: {one.reason}" for one in failed))
