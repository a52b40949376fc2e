"""Where runs are kept, and how that place is opened."""

from __future__ import annotations

import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bserkit.errors import BserkitError, UsageError
from bserkit.tracking.moving import follow

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG = logging.getLogger("bserkit")
#: Where runs go unless MLFLOW_TRACKING_URI says otherwise, below the working folder.
LOCAL_FOLDER = Path("mlruns")


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the database in the local folder, by its whole path.

    MLflow keeps one connection a URI, which must not be that of a folder that the process worked in before.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(LOCAL_FOLDER / 'mlflow.db').resolve().as_posix()}"


def shown_uri() -> str:
    """Return ``tracking_uri`` as it may be shown: without the password that it may hold."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*(?=@)", r"\1:***", tracking_uri())


def artifact_root() -> str | None:
    """Return where a new experiment keeps its artifacts, or None to leave that to the tracking server."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else (LOCAL_FOLDER / "artifacts").resolve().as_uri()


@contextmanager
def open_store() -> Iterator[MlflowClient]:
    """Open the tracking store, made if need be; its chatter is kept from users, its failures are one paragraph."""
    with warnings.catch_warnings():
        # What MLflow's own dependencies deprecate is not for our users to read.
        warnings.simplefilter("ignore")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        # Of a server's runs it would print the addresses among our results.
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # It would try a server that is gone for minutes without a word.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
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
            first = (str(error) or type(error).__name__).splitlines()[0].replace(uri, shown_uri())
            raise BserkitError(
                f"The tracking store {shown_uri()} cannot be used: {first}. Mend or move it away, or name another with "
                "MLFLOW_TRACKING_URI."
            ) from error


@contextmanager
def existing_store() -> Iterator[MlflowClient]:
    """Open a tracking store to read from; looking into an empty folder leaves it empty."""
    uri = tracking_uri()
    if uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists():
        raise UsageError(
            f"There are no runs at {uri}. Make some with bserkit run, or go to the folder in which they were made."
        )
    with open_store() as client:
        yield client


def _follow_folder() -> None:
    """Have the local store's database follow the folder that it lies in, saying so once; never a store of the user's.

    Its experiments and runs name the places of their files in full, those of the folder in which they were made.
    """
    database = (LOCAL_FOLDER / "mlflow.db").resolve()
    if os.environ.get("MLFLOW_TRACKING_URI") or not database.exists():
        return
    if before := follow(database):
        _LOG.warning("%s", f"The runs in {before} were moved or copied to {database.parent}: their files follow.")


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


def ui_command(port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command that serves the MLflow UI on the same store, for this machine alone, and its environment.

    The store's address, which may hold a password, is not in the command, since any user sees what commands run.
    """
    _follow_folder()
    arguments = ["--host", "127.0.0.1", "--port", str(port)]
    # A file of the working folder that is called like a module of the server's is not run in its place.
    if (mlflow := find_spec("mlflow")) and mlflow.origin:
        arguments += ["--uvicorn-opts", f"--app-dir {shlex.quote(str(Path(mlflow.origin).parents[1]))}"]
    command = [sys.executable, "-P", "-m", "mlflow", "ui", *arguments]
    return command, os.environ | {"MLFLOW_BACKEND_STORE_URI": tracking_uri()}
