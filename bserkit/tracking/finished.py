"""Finished runs, found and read back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit.errors import UsageError, nearest
from bserkit.schema import ENDED, KIND
from bserkit.tracking.place import existing_store, shown_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

#: With how many runs' names one that is not known is compared.
_COMPARED = 200
#: Whether a text can begin a run's id.
_BEGINS_AN_ID = re.compile(r"[0-9a-f]{1,32}").fullmatch


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
    with existing_store() as client:
        if re.fullmatch(r"[0-9a-f]{32}", reference):
            return _finished(client, _run_of_id(client, reference))
        named = list(_runs(client, experiment, _equals("run_name", reference)))
        if named:
            finished = (run for run in named if run.info.status == "FINISHED")
            return _finished(client, next(finished, named[0]))
        begins = (
            list(_runs(client, experiment, f"attributes.run_id LIKE '{reference}%'"))
            if _BEGINS_AN_ID(reference)
            else []
        )
        if len(begins) > 1:
            several = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in begins[:5])
            more = f" and {len(begins) - 5} more" if len(begins) > 5 else ""
            raise UsageError(f"{reference!r} begins the ids of several runs: {several}{more}. Give more of the id.")
        if not begins:
            names = {run.info.run_name for run in islice(_runs(client, experiment), _COMPARED)}
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
    with existing_store() as client:
        for run in _runs(client, experiment, "attributes.status = 'FINISHED'", f"metrics.{metric} DESC", 2 * count):
            if metric in run.data.metrics:
                best.append(_finished(client, run))
            if len(best) == count:
                break
    return best


def read_artifact_text(run: KeptRun, name: str) -> str:
    """Read a text file that a run logged.

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
    with existing_store() as client, tempfile.TemporaryDirectory() as folder:
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


def _run_of_id(client: MlflowClient, run_id: str) -> Run:
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        raise UsageError(f"There is no run {run_id} at {shown_uri()}.") from error


def _equals(attribute: str, value: str) -> str:
    """Return the filter of MLflow's that wants an attribute to have a value; quotes of one kind can be in it."""
    quote = '"' if "'" in value else "'"
    if quote in value:
        raise UsageError(f"A run cannot be found by a name with quotes of both kinds: {value}. Give its id.")
    return f"attributes.{attribute} = {quote}{value}{quote}"


def _runs(
    client: MlflowClient,
    experiment: str,
    wanted: str = "",
    order: str = "attributes.start_time DESC",
    page: int = 200,
) -> Iterator[Run]:
    """Find the ordinary runs of an experiment that a filter of MLflow's wants, page by page."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        known = [one.name for one in client.search_experiments()]
        raise UsageError(
            f"There is no experiment {experiment!r} at {shown_uri()}{nearest(experiment, known)}. "
            f"Known: {', '.join(known)}. Choose with --experiment NAME."
        )
    yield from (run for run in search(client, [found.experiment_id], wanted, order, page) if KIND not in run.data.tags)


def search(
    client: MlflowClient,
    experiment_ids: Sequence[str],
    wanted: str,
    order: str = "attributes.start_time ASC",
    size: int = 200,
) -> Iterator[Run]:
    """Find the runs of some experiments that a filter of MLflow's wants, page by page."""
    token = None
    while True:
        page = client.search_runs(list(experiment_ids), wanted, order_by=[order], max_results=size, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _finished(client: MlflowClient, run: Run) -> KeptRun:
    shown = f"Run {run.info.run_id} ({run.info.run_name})"
    if run.info.lifecycle_stage == "deleted":
        raise UsageError(f"{shown} was deleted in MLflow.")
    if kind := run.data.tags.get(KIND):
        raise UsageError(f"{shown} is a {kind}: it has no predictions of its own.")
    if run.info.status != "FINISHED":
        reason = run.data.tags.get(ENDED)
        raise UsageError(
            f"{shown} is not finished but {run.info.status.lower()}{f': {reason}' if reason else ''}. "
            "Its numbers would be of a part of the utterances, if any."
        )
    experiment = client.get_experiment(run.info.experiment_id).name
    return kept(run, experiment)


def kept(run: Run, experiment: str) -> KeptRun:
    """Return what matters of a run of MLflow's."""
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
