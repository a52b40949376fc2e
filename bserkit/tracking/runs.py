"""Tracking: the only module that talks to MLflow."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bserkit.errors import BserkitError, UsageError, is_interrupt, nearest
from bserkit.tracking.moving import follow

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: Where runs go unless MLFLOW_TRACKING_URI says otherwise, below the working folder.
LOCAL_FOLDER = Path("mlruns")
#: The SHA-256 of a fine-tuned network, and the run that has its file.
DIGEST_TAG, _HOLDER_TAG = "weights.digest", "weights.run"
_WEIGHTS = "weights.safetensors"
_HOST_TAG, _PROCESS_TAG, _ENDED_TAG = "bserkit.host", "bserkit.process", "bserkit.ended"
#: What an MLflow run is, where it is no ordinary run: those have no such tag.
_KIND_TAG, _COMPARISON, _NETWORK, _SWEEP = "bserkit.kind", "comparison", "network", "sweep"
#: What a run of a sweep was made of, and the sweep that it was made in before it was taken over.
IDENTITY_TAG, _MADE_IN_TAG = "bserkit.identity", "bserkit.made_in"
_PARENT_TAG = "mlflow.parentRunId"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the database in the local folder, by its whole path.

    MLflow keeps one connection a URI, which must not be that of a folder that the process worked in before.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(LOCAL_FOLDER / 'mlflow.db').resolve().as_posix()}"


def artifact_root() -> str | None:
    """Return where a new experiment keeps its artifacts, or None to leave that to the tracking server."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else (LOCAL_FOLDER / "artifacts").resolve().as_uri()


class TrackedRun:
    """One run in MLflow, while it goes on."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self.experiment_id = experiment_id
        self.outcome = ("FINISHED", "done")

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; those that are not numbers are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        known = [Metric(name, float(value), now, step) for name, value in metrics.items() if value == value]
        for start in range(0, len(known), 1000):
            self.client.log_batch(self.run_id, metrics=known[start : start + 1000])

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
        self.tag(DIGEST_TAG, digest)
        holder = _holder(self.client, digest)
        if holder is None:
            self.log_file(weights)
        # Named only now, so that a run that was killed half-way through is never taken for one that has the file.
        self.tag(_HOLDER_TAG, holder or self.run_id)

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self.client.set_tag(self.run_id, name, value)

    def fail(self, reason: str) -> None:
        """Have the run marked failed at its end, although it goes on to it."""
        self.outcome = ("FAILED", reason)

    @contextmanager
    def nested(self, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[TrackedRun]:
        """Open an ordinary run below this one; it ends as this one would."""
        parent = {_PARENT_TAG: self.run_id}
        with _ending(_create(self.client, self.experiment_id, run_name, parameters, parent | dict(tags))) as run:
            yield run

    def child(self, run_name: str, parameters: Mapping[str, str]) -> AbstractContextManager[TrackedRun]:
        """Open the run of a network below this one; looking for runs passes it by."""
        return self.nested(run_name, parameters, {_KIND_TAG: _NETWORK})

    def take_over(self, identities: Collection[str]) -> dict[str, str]:
        """Move below this sweep the finished runs of broken-off sweeps that are of the given identities.

        Returns each one's run id by its identity. A sweep that finished keeps its runs.
        """
        broken = {
            run.info.run_id
            for run in _search(self.client, [self.experiment_id], f"tags.`{_KIND_TAG}` = '{_SWEEP}'")
            if run.info.status in {"KILLED", "FAILED"}
        }
        made = f"attributes.status = 'FINISHED' and tags.`{IDENTITY_TAG}` != ''"
        taken: dict[str, str] = {}
        for run in list(_search(self.client, [self.experiment_id], made)):
            identity, parent = run.data.tags[IDENTITY_TAG], run.data.tags.get(_PARENT_TAG)
            if parent in broken and identity in identities and identity not in taken:
                self.client.set_tag(run.info.run_id, _MADE_IN_TAG, parent)
                self.client.set_tag(run.info.run_id, _PARENT_TAG, self.run_id)
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
    return tracked_run(experiment, run_name, parameters, {_KIND_TAG: _SWEEP, **tags})


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
    with _store() as client:
        identity = _open_experiment(client, experiment)
        _mark_vanished(client, identity)
        return _create(client, identity, run_name, parameters, tags)


def _open_experiment(client: MlflowClient, name: str) -> str:
    """Return the id of an experiment, which is made if need be."""
    from mlflow import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, artifact_root())
        except MlflowException:
            # Another run that began at the same moment may have made it since we looked.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise BserkitError(
            f"The experiment {name!r} was deleted in MLflow. Restore it there, or use --experiment NAME."
        )
    return found.experiment_id


@contextmanager
def _store() -> Iterator[MlflowClient]:
    """Open the tracking store, made if need be; its chatter is kept from users, its failures are one paragraph."""
    with warnings.catch_warnings():
        # What MLflow's own dependencies deprecate is not for our users to read.
        warnings.simplefilter("ignore")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # Of a server's runs it would print the addresses among our results.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        import logging

        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = tracking_uri()
        try:
            if uri.startswith("sqlite:///"):
                _make_database(Path(uri.removeprefix("sqlite:///")))
            _follow_folder()
            client = mlflow.MlflowClient(uri)
            yield cast("MlflowClient", _Undisturbed(client)) if uri.startswith("sqlite:") else client
        except BserkitError:
            raise
        except Exception as error:
            # A tracking store may be a database, a server or a plugin, each with failures of its own.
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise BserkitError(
                f"The tracking store {uri} cannot be used: {first}. Mend or move it away, or name another with "
                "MLFLOW_TRACKING_URI."
            ) from error


def _follow_folder() -> None:
    """Have the local store's database follow the folder that it lies in, saying so once; never a store of the user's.

    Its experiments and runs name the places of their files in full, those of the folder in which they were made.
    """
    database = (LOCAL_FOLDER / "mlflow.db").resolve()
    if os.environ.get("MLFLOW_TRACKING_URI") or not database.exists():
        return
    if before := follow(database):
        print(f"The runs in {before} were moved or copied to {database.parent}: their files follow.", file=sys.stderr)


class _Undisturbed:
    """A client of a database, into whose calls no interrupt falls: it waits for a call's end.

    SQLAlchemy would leave its transaction open, and the database locked, against what ends the run too.
    """

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*given: Any, **named: Any) -> Any:
            # Interrupts reach the main thread alone, and it waits for this one in any case.
            with ThreadPoolExecutor(1) as thread:
                return thread.submit(method, *given, **named).result()

        return call


def _create(
    client: MlflowClient, experiment_id: str, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]
) -> TrackedRun:
    """Create a run that names its process from the beginning, so that its vanishing is noticed."""
    from mlflow.entities import Param

    own = {_HOST_TAG: socket.gethostname(), _PROCESS_TAG: str(os.getpid())}
    info = client.create_run(experiment_id, tags=own | dict(tags), run_name=run_name).info
    client.log_batch(info.run_id, params=[Param(name, value) for name, value in parameters.items()])
    return TrackedRun(client, info.run_id, experiment_id)


def _make_database(path: Path) -> None:
    """Make MLflow's database beside its place and move it there, so that runs that begin together find a whole one."""
    from filelock import FileLock
    from mlflow import MlflowClient

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{partial.as_posix()}").search_experiments(max_results=1)
            partial.replace(path)


def _end(run: TrackedRun, status: str, reason: str) -> None:
    run.tag(_ENDED_TAG, reason[:5000])
    run.client.set_terminated(run.run_id, status)


def _mark_vanished(client: MlflowClient, experiment_id: str) -> None:
    """Mark runs of this machine that are still called running although their process is gone (kill -9, power)."""
    for run in client.search_runs([experiment_id], "attributes.status = 'RUNNING'", max_results=100):
        process = run.data.tags.get(_PROCESS_TAG, "")
        if run.data.tags.get(_HOST_TAG) == socket.gethostname() and process.isdigit() and not _alive(int(process)):
            client.set_tag(run.info.run_id, _ENDED_TAG, "its process vanished before it was done")
            client.set_terminated(run.info.run_id, "KILLED")


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class KeptRun:
    """A finished run as MLflow keeps it.

    Attributes:
        metrics: by name; of those with several steps, the last.
        began: when, to the minute.
    """

    run_id: str
    name: str
    experiment: str
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    began: str = ""


def find_run(reference: str, experiment: str) -> KeptRun:
    """Find a finished run by its id, by its name or by the first characters of its id, in this order.

    A whole id is found in any experiment. Of several finished runs of one name the most recent is meant.

    Raises:
        UsageError: there is no such run, the characters begin several ids, or the run is not finished.
    """
    with _existing_store() as client:
        if re.fullmatch(r"[0-9a-f]{32}", reference):
            return _finished(client, _run_of_id(client, reference))
        names, begins, unfinished = set(), [], None
        for run in _runs(client, experiment, "attributes.start_time DESC"):
            if run.info.run_name == reference and run.info.status == "FINISHED":
                return _finished(client, run)
            if run.info.run_name == reference:
                unfinished = unfinished or run
            if run.info.run_id.startswith(reference):
                begins.append(run)
            names.add(run.info.run_name)
        if unfinished:
            return _finished(client, unfinished)
        if len(begins) > 1:
            several = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in begins[:5])
            more = f" and {len(begins) - 5} more" if len(begins) > 5 else ""
            raise UsageError(f"{reference!r} begins the ids of several runs: {several}{more}. Give more of the id.")
        if not begins:
            raise UsageError(
                f"There is no run {reference!r} in experiment {experiment!r}{nearest(reference, names)}. A run is "
                "given by its id, the first characters of it, or its name; bserkit ui shows all of them."
            )
        return _finished(client, begins[0])


def best_runs(experiment: str, count: int, metric: str = "uar") -> list[KeptRun]:
    """Return the finished runs of an experiment that have the most of a metric, the best first; at most ``count``.

    Raises:
        UsageError: there is no such experiment.
    """
    best: list[KeptRun] = []
    with _existing_store() as client:
        for run in _runs(client, experiment, f"metrics.{metric} DESC"):
            if run.info.status == "FINISHED" and metric in run.data.metrics:
                best.append(_finished(client, run))
            if len(best) == count:
                break
    return best


def read_artifact_text(run: KeptRun, name: str | tuple[str, ...]) -> str:
    """Read a text file that a run logged; of several names the first that it has.

    Raises:
        UsageError: the run has no such file.
    """
    (content,) = read_artifacts(run, [name]).values()
    return content.decode()


def read_artifacts(
    run: KeptRun, needed: Sequence[str | tuple[str, ...]], wanted: Sequence[str] = ()
) -> dict[str, bytes]:
    """Read files that a run logged, by name: all that are needed, and those that are wanted if it has them.

    Of a needed one with several names the first that the run has is read.

    Raises:
        UsageError: the run lacks one that is needed.
    """
    with _existing_store() as client, tempfile.TemporaryDirectory() as folder:
        logged = {file.path for file in client.list_artifacts(run.run_id)}
        found = [name for name in wanted if name in logged]
        for names in needed:
            names = (names,) if isinstance(names, str) else names
            if not (kept := [name for name in names if name in logged]):
                raise UsageError(
                    f"Run {run.run_id} ({run.name}) has no {names[0]}: it is no run of this kind, or lost its files."
                )
            found.append(kept[0])
        return {name: Path(client.download_artifacts(run.run_id, name, folder)).read_bytes() for name in found}


def networks_of(run: KeptRun) -> list[KeptRun]:
    """Return the nested runs of a run's fine-tuned networks, the first first."""
    with _existing_store() as client:
        nested = f"tags.`mlflow.parentRunId` = '{run.run_id}' and tags.`{_KIND_TAG}` = '{_NETWORK}'"
        found = _search(client, [client.get_run(run.run_id).info.experiment_id], nested)
        return [_kept(one, run.experiment) for one in found if one.info.status == "FINISHED"]


def curves_of(network: KeptRun) -> dict[str, list[tuple[int, float]]]:
    """Return, by metric, its (epoch, value) after each epoch of a network's fine-tuning."""
    with _existing_store() as client:
        return {
            name: [(point.step, point.value) for point in client.get_metric_history(network.run_id, name)]
            for name in sorted(network.metrics)
        }


def has_network(network: KeptRun) -> bool:
    """Say whether the file of a nested run's network can be had from a run."""
    with _existing_store() as client:
        return _holder(client, network.tags[DIGEST_TAG]) is not None


def fetch_network(network: KeptRun) -> bytes:
    """Return the file of a nested run's network, from whatever run has it.

    Raises:
        BserkitError: no run has it any more.
    """
    with _existing_store() as client, tempfile.TemporaryDirectory() as folder:
        if (holder := _holder(client, network.tags[DIGEST_TAG])) is None:
            raise BserkitError(f"No run has the network of run {network.run_id} ({network.name}) any more.")
        return Path(client.download_artifacts(holder, _WEIGHTS, folder)).read_bytes()


def log_comparison(
    experiment: str, run_name: str, parameters: Mapping[str, str], files: Mapping[str, str]
) -> tuple[str, str]:
    """Keep a comparison's text files on an MLflow run of their own, and return its id and the address of the files.

    It is tagged as a comparison, so that looking for runs passes it by.
    """
    with tracked_run(experiment, run_name, parameters, {_KIND_TAG: _COMPARISON}) as tracked:
        for name, text in files.items():
            tracked.log_text(name, text)
        return tracked.run_id, tracked.client.get_run(tracked.run_id).info.artifact_uri


@contextmanager
def _existing_store() -> Iterator[MlflowClient]:
    """Open a tracking store to read from; looking into an empty folder leaves it empty."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UsageError(
            f"There are no runs at {uri}. Make some with bserkit run, or go to the folder in which they were made."
        )
    with _store() as client:
        yield client


def _run_of_id(client: MlflowClient, run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise UsageError(f"There is no run {run_id} at {tracking_uri()}.") from error


def _runs(client: MlflowClient, experiment: str, order: str) -> Iterator[Run]:
    """Find the ordinary runs of an experiment, page by page."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = [one.name for one in client.search_experiments()]
        raise UsageError(
            f"There is no experiment {experiment!r} at {tracking_uri()}{nearest(experiment, known)}. "
            f"Known: {', '.join(known)}. Choose with --experiment NAME."
        )
    yield from (run for run in _search(client, [found.experiment_id], "", order) if _KIND_TAG not in run.data.tags)


def _search(
    client: MlflowClient, experiment_ids: Sequence[str], wanted: str, order: str = "attributes.start_time ASC"
) -> Iterator[Run]:
    """Find the runs of some experiments that a filter of MLflow's wants, page by page."""
    token = None
    while True:
        page = client.search_runs(list(experiment_ids), wanted, order_by=[order], max_results=200, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _holder(client: MlflowClient, digest: str) -> str | None:
    """Return the run that has the file of a fine-tuned network, if one has."""
    everywhere = [one.experiment_id for one in client.search_experiments()]
    found = _search(client, everywhere, f"tags.`{DIGEST_TAG}` = '{digest}'")
    for holder in dict.fromkeys(run.data.tags[_HOLDER_TAG] for run in found if _HOLDER_TAG in run.data.tags):
        if any(file.path == _WEIGHTS for file in client.list_artifacts(holder)):
            return str(holder)
    return None


def _finished(client: MlflowClient, run: Run) -> KeptRun:
    shown = f"Run {run.info.run_id} ({run.info.run_name})"
    if run.info.lifecycle_stage == "deleted":
        raise UsageError(f"{shown} was deleted in MLflow.")
    if kind := run.data.tags.get(_KIND_TAG):
        raise UsageError(f"{shown} is a {kind}: it has no predictions of its own.")
    if run.info.status != "FINISHED":
        reason = run.data.tags.get(_ENDED_TAG)
        raise UsageError(
            f"{shown} is not finished but {run.info.status.lower()}{f': {reason}' if reason else ''}. "
            "Its numbers would be of a part of the items, if any."
        )
    experiment = client.get_experiment(run.info.experiment_id).name
    return _kept(run, experiment)


def _kept(run: Run, experiment: str) -> KeptRun:
    began = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return KeptRun(
        run_id=run.info.run_id,
        name=run.info.run_name,
        experiment=experiment,
        parameters=dict(run.data.params),
        tags=dict(run.data.tags),
        metrics=dict(run.data.metrics),
        began=began,
    )


def ui_command(port: int) -> list[str]:
    """Return the command that serves the MLflow UI on the same store, for this machine alone."""
    _follow_folder()
    arguments = ["--backend-store-uri", tracking_uri(), "--host", "127.0.0.1", "--port", str(port)]
    if root := artifact_root():
        arguments += ["--default-artifact-root", root]
    return [sys.executable, "-m", "mlflow", "ui", *arguments]
