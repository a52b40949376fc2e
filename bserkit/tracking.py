"""Tracking: the only module that talks to MLflow."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit.errors import BserkitError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

#: Where runs go unless MLFLOW_TRACKING_URI says otherwise, below the working folder.
LOCAL_FOLDER = Path("mlruns")
_HOST_TAG, _PROCESS_TAG, _ENDED_TAG = "bserkit.host", "bserkit.process", "bserkit.ended"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the database in the local folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(LOCAL_FOLDER / 'mlflow.db').as_posix()}"


def artifact_root() -> str | None:
    """Return where a new experiment keeps its artifacts, or None to leave that to the tracking server."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else (LOCAL_FOLDER / "artifacts").resolve().as_uri()


class TrackedRun:
    """One run in MLflow, while it goes on."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self.experiment_id = experiment_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers; those that are not numbers are left out."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        known = [Metric(name, float(value), now, step) for name, value in metrics.items() if value == value]
        for start in range(0, len(known), 1000):
            self.client.log_batch(self.run_id, metrics=known[start : start + 1000])

    def log_dataset(self, name: str, digest: str, source: str) -> None:
        """Log the corpus that was used, by its content."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=name, digest=digest[:36], source_type="local", source=json.dumps({"uri": source}))
        self.client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])])

    def log_text(self, name: str, text: str) -> None:
        """Log a text file."""
        self.client.log_text(self.run_id, text, name)

    def log_figure(self, name: str, figure: Figure) -> None:
        """Log a picture."""
        self.client.log_figure(self.run_id, figure, name)

    def log_file(self, path: Path) -> None:
        """Log a copy of a file."""
        self.client.log_artifact(self.run_id, str(path))

    def tag(self, name: str, value: str) -> None:
        """Set a tag."""
        self.client.set_tag(self.run_id, name, value)

    @contextmanager
    def child(self, run_name: str, parameters: Mapping[str, str]) -> Iterator[TrackedRun]:
        """Open a run nested in this one; it ends as this one would."""
        parent = {"mlflow.parentRunId": self.run_id}
        with _ending(_create(self.client, self.experiment_id, run_name, parameters, parent)) as run:
            yield run


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


@contextmanager
def _ending(run: TrackedRun) -> Iterator[TrackedRun]:
    """Mark a run finished at the end, or failed or killed with the reason."""
    try:
        yield run
    except KeyboardInterrupt:
        _end(run, "KILLED", "interrupted")
        raise
    except BaseException as error:
        _end(run, "FAILED", f"{type(error).__name__}: {error}")
        raise
    _end(run, "FINISHED", "done")


def _start(experiment: str, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> TrackedRun:
    with warnings.catch_warnings():
        # What MLflow's own dependencies deprecate is not for our users to read.
        warnings.simplefilter("ignore")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        import logging

        import mlflow

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = tracking_uri()
        try:
            if uri.startswith("sqlite:///"):
                _make_database(Path(uri.removeprefix("sqlite:///")))
            client = mlflow.MlflowClient(uri)
            found = client.get_experiment_by_name(experiment)
            if found and found.lifecycle_stage == "deleted":
                raise BserkitError(
                    f"The experiment {experiment!r} was deleted in MLflow. Restore it there, or use --experiment NAME."
                )
            identity = found.experiment_id if found else client.create_experiment(experiment, artifact_root())
            _mark_vanished(client, identity)
            return _create(client, identity, run_name, parameters, tags)
        except BserkitError:
            raise
        except Exception as error:
            # A tracking store may be a database, a server or a plugin, each with failures of its own.
            first = (str(error) or type(error).__name__).splitlines()[0]
            raise BserkitError(
                f"The tracking store {uri} cannot be used: {first}. Mend or move it away, or name another with "
                "MLFLOW_TRACKING_URI."
            ) from error


def _create(
    client: MlflowClient, experiment_id: str, run_name: str, parameters: Mapping[str, str], tags: Mapping[str, str]
) -> TrackedRun:
    """Create a run that names its process, so that its vanishing is noticed."""
    from mlflow.entities import Param, RunTag

    info = client.create_run(experiment_id, run_name=run_name).info
    own = {_HOST_TAG: socket.gethostname(), _PROCESS_TAG: str(os.getpid())}
    client.log_batch(
        info.run_id,
        params=[Param(name, value) for name, value in parameters.items()],
        tags=[RunTag(name, value) for name, value in (own | dict(tags)).items()],
    )
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


def ui_command(port: int) -> list[str]:
    """Return the command that serves the MLflow UI on the same store, for this machine alone."""
    import sys

    arguments = ["--backend-store-uri", tracking_uri(), "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "mlflow", "ui", *arguments]
