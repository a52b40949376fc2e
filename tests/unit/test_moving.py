"""A project's folder is moved or copied, and the files of its runs follow."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from bserkit.tracking.finished import find_run, read_artifact_text
from bserkit.tracking.place import ui_command
from bserkit.tracking.runs import tracked_run

OTHER = "file:///elsewhere/mlruns/mine"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one finished run, named first, whose file says so; it is the working folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "my project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    run("first")
    return folder


def run(name, experiment="ours"):
    with tracked_run(experiment, name, {}, {}) as tracked:
        tracked.log_text("said.txt", name)


def said(name):
    return read_artifact_text(find_run(name, "ours"), "said.txt")


def files(folder):
    return sorted(path.read_text() for path in folder.rglob("said.txt"))


def test_a_moved_project_keeps_its_files_and_adds_more(project, monkeypatch, caplog):
    moved = project.rename(project.with_name("moved"))
    monkeypatch.chdir(moved)
    assert said("first") == "first"
    run("second")
    assert (said("second"), files(moved)) == ("second", ["first", "second"])
    assert not project.exists()
    told = [one.message for one in caplog.records if one.name == "bserkit"]
    assert told == [f"The runs in {project / 'mlruns'} were moved or copied to {moved / 'mlruns'}: their files follow."]


def test_a_copied_project_has_files_of_its_own(project, monkeypatch):
    copy = project.with_name("copy")
    shutil.copytree(project, copy)
    monkeypatch.chdir(copy)
    for path in copy.rglob("said.txt"):
        path.write_text("of the copy")
    assert said("first") == "of the copy"
    run("second")
    assert (files(copy), files(project)) == (["of the copy", "second"], ["first"])
    monkeypatch.chdir(project)
    assert said("first") == "first"


def test_a_copy_without_files_reads_those_left_behind(project, monkeypatch):
    copy = project.with_name("copy")
    (copy / "mlruns").mkdir(parents=True)
    shutil.copy(project / "mlruns" / "mlflow.db", copy / "mlruns")
    monkeypatch.chdir(copy)
    assert said("first") == "first"
    run("second")
    assert (files(copy), files(project)) == (["second"], ["first"])


def places(folder):
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        rows = database.execute("SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs")
        return {place for (place,) in rows}


def test_the_interface_shows_files_of_a_moved_project(project, monkeypatch):
    moved = project.rename(project.with_name("moved"))
    monkeypatch.chdir(moved)
    ui_command(5000)
    assert all(str(moved) in place for place in places(moved))


def test_places_that_a_user_chose_are_left_alone(project, monkeypatch):
    with closing(sqlite3.connect("mlruns/mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE name = 'Default'", (OTHER,))
    before = places(project)
    moved = project.rename(project.with_name("moved"))
    monkeypatch.chdir(moved)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{moved / 'mlruns' / 'mlflow.db'}")
    ui_command(5000)
    assert places(moved) == before
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    ui_command(5000)
    assert OTHER in places(moved)
