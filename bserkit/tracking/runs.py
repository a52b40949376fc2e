"""Runs while they go on: opened, logged to, and marked by how they ended."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit.errors import BserkitError, is_interrupt
from bserkit.schema import (
    COMPARISON,
    DESCRIPTION,
    DIGEST,
    ENDED,
    HOLDER,
    HOST,
    IDENTITY,
    KIND,
    MADE_IN,
    NETWORK,
    PARENT,
    PROCESS,
    SWEEP,
)
from bserkit.tracking.finished import KeptRun, search
from bserkit.tracking.networks import holder_of
from bserkit.tracking.place import artifact_root, open_store

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

#: How many parameters MLflow takes at once.
_MOST = 100
#: The view of an experiment in which a table has columns of metrics.
_MODEL_TRAINING = {"mlflow.experimentKind": "custom_model_development"}


class TrackedRun:
    """One run in MLflow, while it goes on.

    Attributes:
        kept: what was logged so far, as it will be found when the run is finished.
    """

    def __init__(self, client: MlflowClient, experiment_id: str, kept: KeptRun) -> None:
        self.client = client
        self.experiment_id = experiment_id
        self.outcome = ("FINISHED", "done")
        self._metrics: dict[str, float] = {}
        self._tags = dict(kept.tags)
        self.kept = replace(kept, metrics=self._metrics, tags=self._tags)

    @property
    def run_id(self) -> str:
        """Its id in MLflow."""
        return self.kept.run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; those that are not numbers are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        known = {name: float(value) for name, value in metrics.items() if value == value}
        logged = [Metric(name, value, now, step) for name, value in known.items()]
        for start in range(0, len(logged), 1000):
            self.client.log_batch(self.run_id, metrics=logged[start : start + 1000])
        self._metrics |= known

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Log the corpus that was used, by its content."""
        from mlflow import MlflowException
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=json.dumps({"uri": source}))
        given = [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])]
        try:
            self.client.log_inputs(self.run_id, given)
        except MlflowException:
            # Another run may have made the same dataset at the same moment: now it is found.
            self.client.log_inputs(self.run_id, given)

    def log_text(self, name: str, text: str) -> None:
        """Log a text file."""
        self.client.log_text(self.run_id, text, name)

    def log_figure(self, name: str, figure: Figure) -> None:
        """Log a picture."""
        self.client.log_figure(self.run_id, figure, name)

    def log_file(self, path: Path) -> None:
        """Log a copy of a file."""
        self.client.log_artifact(self.run_id, str(path))

    def log_network(self, weights: Path, digest: str) -> None:
        """Log a fine-tuned network's file, unless a run has it already, and name the run that has it."""
        self.tag(DIGEST, digest)
        holder = holder_of(self.client, digest)
        if holder is None:
            self.log_file(weights)
        # Named only now, so that a run that was killed half-way through is never taken for one that has the file.
        self.tag(HOLDER, holder or self.run_id)

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self.client.set_tag(self.run_id, name, value)
        self._tags[name] = value

    def describe(self, text: str) -> None:
        """Say in Markdown what the run came to; a text of more than 5000 characters is cut."""
        self.tag(DESCRIPTION, text[:5000])

    def fail(self, reason: str) -> None:
        """Have the run marked failed at its end, although it goes on to it."""
        self.outcome = ("FAILED", reason)

    @contextmanager
    def nested(self, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[TrackedRun]:
        """Open an ordinary run below this one; it ends as this one would."""
        tags = {PARENT: self.run_id, **tags}
        made = _create(self.client, self.experiment_id, self.kept.experiment, run_name, parameters, tags)
        with _ending(made) as run:
            yield run

    def child(self, run_name: str, parameters: Mapping[str, str]) -> AbstractContextManager[TrackedRun]:
        """Open the run of a network below this one; looking for runs passes it by."""
        return self.nested(run_name, parameters, {KIND: NETWORK})

    def take_over(self, identities: Collection[str]) -> dict[str, str]:
        """Move below this sweep the finished runs of broken-off sweeps that are of the given identities.

        Returns each one's run id by its identity. A sweep that finished keeps its runs.
        """
        broken = {
            run.info.run_id
            for run in search(self.client, [self.experiment_id], f"tags.`{KIND}` = '{SWEEP}'")
            if run.info.status in {"KILLED", "FAILED"}
        }
        made = f"attributes.status = 'FINISHED' and tags.`{IDENTITY}` != ''"
        if not broken:
            return {}
        taken: dict[str, str] = {}
        for run in list(search(self.client, [self.experiment_id], made)):
            identity, parent = run.data.tags[IDENTITY], run.data.tags.get(PARENT)
            if parent in broken and identity in identities and identity not in taken:
                self.client.set_tag(run.info.run_id, MADE_IN, parent)
                self.client.set_tag(run.info.run_id, PARENT, self.run_id)
                taken[identity] = run.info.run_id
        return taken


@contextmanager
def tracked_run(
    experiment: str, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]
) -> Iterator[TrackedRun]:
    """Open a run; it is marked finished at the end, and failed or killed, with the reason, if something intervenes.

    Raises:
        BserkitError: the tracking store cannot be used.
    """
    with _ending(_start(experiment, run_name, parameters, tags)) as run:
        yield run


def tracked_sweep(
    experiment: str, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]
) -> AbstractContextManager[TrackedRun]:
    """Open the run below which a sweep's runs go; looking for runs passes it by, but not those below it.

    Raises:
        BserkitError: the tracking store cannot be used.
    """
    return tracked_run(experiment, run_name, parameters, {KIND: SWEEP, **tags})


@contextmanager
def _ending(run: TrackedRun) -> Iterator[TrackedRun]:
    """Mark a run finished at the end, or failed or killed with the reason."""
    try:
        yield run
    except BaseException as error:
        if is_interrupt(error):
            _end(run, "KILLED", "interrupted")
        else:
            _end(run, "FAILED", f"{type(error).__name__}: {error}")
        raise
    _end(run, *run.outcome)


def _start(experiment: str, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> TrackedRun:
    with open_store() as client:
        identity = _open_experiment(client, experiment)
        _mark_vanished(client, identity)
        return _create(client, identity, experiment, run_name, parameters, tags)


def _open_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is made if need be."""
    from mlflow import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_root(), tags=_MODEL_TRAINING)
        except MlflowException:
            # Another run that began at the same moment may have made it since we looked.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise BserkitError(
            f"The experiment {name!r} was deleted in MLflow. Restore it there, or use --experiment NAME."
        )
    # One that was made elsewhere, or before, keeps the view that somebody chose for it.
    for key, value in _MODEL_TRAINING.items():
        if key not in found.tags:
            client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def _create(
    client: MlflowClient,
    experiment_id: str,
    experiment: str,
    run_name: str,
    parameters: Mapping[str, str],
    tags: Mapping[str, str],
) -> TrackedRun:
    """Create a run that names its process from the beginning, so that its vanishing is noticed."""
    from mlflow.entities import Param

    tags = {HOST: socket.gethostname(), PROCESS: str(os.getpid()), **tags}
    info = client.create_run(experiment_id, tags=tags, run_name=run_name).info
    given = [Param(name, value) for name, value in parameters.items()]
    for start in range(0, len(given), _MOST):
        client.log_batch(info.run_id, params=given[start : start + _MOST])
    return TrackedRun(client, experiment_id, KeptRun(info.run_id, run_name, experiment, dict(parameters), tags))


def _end(run: TrackedRun, status: str, reason: str) -> None:
    run.tag(ENDED, reason[:5000])
    run.client.set_terminated(run.run_id, status)


def _mark_vanished(client: MlflowClient, experiment_id: str) -> None:
    """Mark runs of this machine that are still called running although their process is gone (kill -9, power)."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=100):
        process = run.data.tags.get(PROCESS, "")
        if run.data.tags.get(HOST) == socket.gethostname() and process.isdigit() and not _alive(int(process)):
            client.set_tag(run.info.run_id, ENDED, "its process vanished before it was done")
            client.set_terminated(run.info.run_id, "KILLED")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def log_comparison(
    experiment: str, run_name: str, parameters: Mapping[str, str], files: Mapping[str, str], description: str
) -> tuple[str, str]:
    """Keep a comparison's files and description on an MLflow run of its own; return its id and the files' address.

    It is tagged as a comparison, so that looking for runs passes it by.
    """
    with tracked_run(experiment, run_name, parameters, {KIND: COMPARISON}) as tracked:
        for name, text in files.items():
            tracked.log_text(name, text)
        tracked.describe(description)
        return tracked.run_id, tracked.client.get_run(tracked.run_id).info.artifact_uri
