"""Fine-tuned networks: nested runs, each file kept once however many runs use it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit.errors import BserkitError
from bserkit.schema import DIGEST, HOLDER, KIND, NETWORK, PARENT, WEIGHTS
from bserkit.tracking.finished import KeptRun, kept, search
from bserkit.tracking.place import existing_store

if TYPE_CHECKING:
    from mlflow import MlflowClient


def networks_of(run: KeptRun) -> list[KeptRun]:
    """Return the nested runs of a run's fine-tuned networks, the first first."""
    with existing_store() as client:
        nested = f"tags.`{PARENT}` = '{run.run_id}' and tags.`{KIND}` = '{NETWORK}'"
        found = search(client, [client.get_run(run.run_id).info.experiment_id], nested)
        return [kept(one, run.experiment) for one in found if one.info.status == "FINISHED"]


def curves_of(network: KeptRun) -> dict[str, list[tuple[int, float]]]:
    """Return, by metric, its (epoch, value) after each epoch of a network's fine-tuning."""
    with existing_store() as client:
        return {
            name: [(point.step, point.value) for point in client.get_metric_history(network.run_id, name)]
            for name in sorted(network.metrics)
        }


def has_network(network: KeptRun) -> bool:
    """Say whether the file of a nested run's network can be had from a run."""
    with existing_store() as client:
        return holder_of(client, network.tags[DIGEST]) is not None


def fetch_network(network: KeptRun) -> bytes:
    """Return the file of a nested run's network, from whatever run has it.

    Raises:
        BserkitError: no run has it any more.
    """
    with existing_store() as client, tempfile.TemporaryDirectory() as folder:
        if (holder := holder_of(client, network.tags[DIGEST])) is None:
            raise BserkitError(f"No run has the network of run {network.run_id} ({network.name}) any more.")
        return Path(client.download_artifacts(holder, WEIGHTS, folder)).read_bytes()


def holder_of(client: MlflowClient, digest: str) -> str | None:
    """Return the run that has the file of a fine-tuned network, if one has."""
    everywhere = [one.experiment_id for one in client.search_experiments()]
    found = search(client, everywhere, f"tags.`{DIGEST}` = '{digest}'")
    for holder in dict.fromkeys(run.data.tags[HOLDER] for run in found if HOLDER in run.data.tags):
        if any(file.path == WEIGHTS for file in client.list_artifacts(holder)):
            return str(holder)
    return None
