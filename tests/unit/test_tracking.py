"""What MLflow is told, where the command line cannot bring it about at will."""

from __future__ import annotations

import os
import signal
import threading
import time

import mlflow
import pytest

from bserkit.errors import BserkitError, UsageError
from bserkit.schema import IDENTITY
from bserkit.tracking.finished import best_runs, find_run
from bserkit.tracking.place import shown_uri
from bserkit.tracking.runs import tracked_run, tracked_sweep


@pytest.fixture
def _store(tmp_path, monkeypatch):
    """An empty tracking store of the test's own; MLflow keeps a store open by its address while a process lives."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_store")
def test_an_experiment_made_meanwhile_is_joined(monkeypatch):
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
def test_experiment_creation_errors_give_the_reason(monkeypatch):
    def refuse(client, name, artifact_location=None, tags=None):
        raise mlflow.MlflowException("disk is full")

    monkeypatch.setattr(mlflow.MlflowClient, "create_experiment", refuse)
    with pytest.raises(BserkitError, match="cannot be used: disk is full"), tracked_run("new", "ours", {}, {}):
        pass


@pytest.fixture(scope="module")
def _shared_store(tmp_path_factory):
    """A store that tests share, an experiment each: it takes seconds to make one."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        folder = tmp_path_factory.mktemp("store")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        monkeypatch.chdir(folder)
        yield


def sweep_of(experiment, *identities, broken=None):
    """Make a sweep with a finished run of each identity and one that failed, and return its id and theirs."""
    made = {}
    try:
        with tracked_sweep(experiment, "sweep", {}, {}) as sweep:
            for identity in identities:
                with sweep.nested(identity, {}, {IDENTITY: identity}) as run:
                    made[identity] = run.run_id
            with pytest.raises(ValueError, match="no"), sweep.nested("bad", {}, {IDENTITY: "bad"}):
                raise ValueError("no")
            if broken:
                raise broken
    except (KeyboardInterrupt, ValueError):
        pass
    return sweep.run_id, made


def taken_over(experiment, *identities):
    with tracked_sweep(experiment, "sweep", {}, {}) as sweep:
        return sweep, sweep.take_over(identities)


@pytest.mark.usefixtures("_shared_store")
@pytest.mark.parametrize("broken", [KeyboardInterrupt(), ValueError("no")], ids=["killed", "failed"])
def test_a_sweep_takes_over_runs_of_a_broken_off_one(broken):
    experiment = type(broken).__name__
    old, made = sweep_of(experiment, "a", "b", broken=broken)
    sweep, taken = taken_over(experiment, "a", "bad", "c")
    assert taken == {"a": made["a"]}
    tags = {name: find_run(run, experiment).tags for name, run in made.items()}
    assert (tags["a"]["mlflow.parentRunId"], tags["a"]["bserkit.made_in"]) == (sweep.run_id, old)
    assert tags["b"]["mlflow.parentRunId"] == old
    # It belongs to a sweep that finished now.
    assert taken_over(experiment, "a")[1] == {}


@pytest.mark.usefixtures("_shared_store")
def test_finished_sweeps_keep_their_runs():
    sweep, made = sweep_of("finished", "a")
    assert taken_over("finished", "a")[1] == {}
    assert find_run("a", "finished").run_id == made["a"]
    with pytest.raises(UsageError, match="is a sweep: it has no predictions"):
        find_run(sweep, "finished")


@pytest.mark.usefixtures("_shared_store")
def test_a_run_can_fail_and_still_go_on():
    with tracked_run("ours", "one", {}, {}) as run:
        run.fail("1 of 2")
    kept = run.client.get_run(run.run_id)
    assert (kept.info.status, kept.data.tags["bserkit.ended"]) == ("FAILED", "1 of 2")


@pytest.mark.usefixtures("_shared_store")
def test_a_run_names_its_process_first(monkeypatch):
    def die(client, run_id, **given):
        raise KeyboardInterrupt

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", die)
    with pytest.raises(KeyboardInterrupt), tracked_run("died", "one", {"a": "1"}, {}):
        pass
    monkeypatch.undo()
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("died").experiment_id])
    assert run.info.status == "RUNNING"
    assert run.data.tags["bserkit.process"] == str(os.getpid())


@pytest.mark.usefixtures("_store")
def test_an_interrupt_waits_for_a_databases_call(monkeypatch):
    done = []

    def set_tag(_, *given):
        time.sleep(0.5)
        done.append(given)

    monkeypatch.setattr(mlflow.MlflowClient, "set_tag", set_tag)
    interrupt = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    with tracked_run("default", "one", {}, {}) as run:
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            run.tag("name", "value")
        assert done == [(run.run_id, "name", "value")]


def _made(name, metrics=None, finished=True):
    """Return the id of a run that was kept."""
    with tracked_run("finding", name, {}, {}) as run:
        run.log_metrics(metrics or {})
        if not finished:
            run.fail("asked to")
        return run.run_id


@pytest.mark.usefixtures("_shared_store")
def test_a_run_is_found_by_name_id_or_beginning():
    older, newer, failed = _made("twice"), _made("twice"), _made("twice", finished=False)
    other = _made("ann's", {"uar": 0.5})
    better = _made('the "best"', {"uar": 0.7})
    assert find_run("twice", "finding").run_id == newer
    assert find_run(older, "elsewhere").run_id == older
    assert find_run(older[:12], "finding").run_id == older
    assert find_run("ann's", "finding").run_id == other
    assert find_run('the "best"', "finding").run_id == better
    assert [run.run_id for run in best_runs("finding", 5)] == [better, other]
    with pytest.raises(UsageError, match="is not finished but failed: asked to"):
        find_run(failed, "finding")
    with pytest.raises(UsageError, match=r"no run 'twic' in experiment 'finding' \(did you mean 'twice'\?\)"):
        find_run("twic", "finding")
    with pytest.raises(UsageError, match="quotes of both kinds"):
        find_run('ann\'s "own"', "finding")


@pytest.mark.usefixtures("_shared_store")
def test_a_run_may_have_hundreds_of_parameters():
    given = {f"p{number}": str(number) for number in range(250)}
    with tracked_run("many", "ours", given, {}) as run:
        pass
    assert find_run(run.run_id, "many").parameters == given


@pytest.mark.usefixtures("_shared_store")
def test_an_experiment_opens_among_metrics():
    with tracked_run("viewed", "ours", {}, {}) as run:
        made = run.client.get_experiment(run.experiment_id)
        assert made.tags["mlflow.experimentKind"] == "custom_model_development"
        run.client.set_experiment_tag(run.experiment_id, "mlflow.experimentKind", "genai_development")
    with tracked_run("viewed", "again", {}, {}) as run:
        assert run.client.get_experiment(run.experiment_id).tags["mlflow.experimentKind"] == "genai_development"


@pytest.mark.usefixtures("_shared_store")
def test_what_was_logged_is_what_will_be_found():
    with tracked_run("kept", "ours", {"a": "1"}, {"b": "2"}) as run:
        run.log_metrics({"uar": 0.25, "none": float("nan")})
        run.log_metrics({"uar": 0.5}, step=1)
        run.tag("later", "3")
        now = run.kept
    found = find_run(run.run_id, "kept")
    assert (now.name, now.experiment, now.parameters, now.metrics) == (
        found.name,
        found.experiment,
        found.parameters,
        found.metrics,
    )
    assert now.tags.items() <= found.tags.items()


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("postgresql://ann:secret@host:5432/runs", "postgresql://ann:***@host:5432/runs"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////a/b@c:d/mlflow.db", "sqlite:////a/b@c:d/mlflow.db"),
    ],
)
def test_a_store_is_named_without_its_password(monkeypatch, given, shown):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given)
    assert shown_uri() == shown


def test_an_error_of_a_store_hides_its_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:secret@127.0.0.1:9/runs")
    with pytest.raises(BserkitError, match=r"ann:\*\*\*@") as refused, tracked_run("new", "ours", {}, {}):
        pass
    assert "secret" not in str(refused.value)
