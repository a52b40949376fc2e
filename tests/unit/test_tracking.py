"""What MLflow is told, where the command line cannot bring it about at will."""

from __future__ import annotations

import mlflow
import pytest

from bserkit.errors import BserkitError
from bserkit.tracking import tracked_run


@pytest.fixture
def _store(tmp_path, monkeypatch):
    """An empty tracking store of the test's own; MLflow keeps a store open by its address while a process lives."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_store")
def test_an_experiment_that_another_run_made_since_we_looked_is_joined(monkeypatch):
    look = mlflow.MlflowClient.get_experiment_by_name
    others = []

    def look_too_early(client, name):
        found = look(client, name)
        if not others:
            others.append(client.create_experiment(name))
        return found

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", look_too_early)
    with tracked_run("shared", "ours", {"a": "1"}, {}) as run:
        assert run.experiment_id == others[0]
    assert run.client.get_run(run.run_id).info.status == "FINISHED"


@pytest.mark.usefixtures("_store")
def test_a_store_that_cannot_make_an_experiment_says_why(monkeypatch):
    def refuse(client, name, artifact_location=None):
        raise mlflow.MlflowException("disk is full")

    monkeypatch.setattr(mlflow.MlflowClient, "create_experiment", refuse)
    with pytest.raises(BserkitError, match="cannot be used: disk is full"), tracked_run("new", "ours", {}, {}):
        pass
