"""What MLflow keeps of runs is what the page of its names says, and can be searched as that page says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from bserkit import schema

MAKE = Path(__file__).parents[2] / "docs" / "make.py"
#: What a run has only where something happened that none of these tests' runs brings about.
RARE = {
    *(
        "skipped.csv",
        "speaker_overlap",
        "speakers_unknown",
        "absent_classes",
        "unlabelled_test",
        "notes",
        "fusion.notes",
        "pooler.learns",
    ),
    *("fold/chosen/NAME/PART", "bserkit.made_in", "network.run", "validation/loss", "validation/accuracy"),
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return tmp_path_factory.mktemp("schema")


@pytest.fixture(scope="module")
def kept(run_cli, lab, corpus, small):
    """Every run that a sweep, a run with fine-tuned networks and a comparison leave in MLflow, by its kind."""
    from mlflow import MlflowClient

    same = (corpus / "manifest.csv", *small, "--channels", "lr", "--seed", "1")
    networks = ("--finetune", "sgd:epochs=1", "--protocol", "losgo:groups=2")
    for command in (
        (
            "sweep",
            *same,
            "--pooler",
            "block-max",
            "--fusion",
            "two-stage:tune=oracle",
            "--fusion",
            "mean",
            "--protocol",
            "losgo:groups=2",
        ),
        ("run", *same, *networks),
        ("compare", "--best", "2"),
    ):
        ended = run_cli(*command, cwd=lab)
        assert ended.returncode == 0, ended.stderr
    client = MlflowClient(f"sqlite:///{lab / 'mlruns' / 'mlflow.db'}")
    found = {}
    for run in client.search_runs([one.experiment_id for one in client.search_experiments()]):
        found.setdefault(run.data.tags.get(schema.KIND, schema.RUN), []).append(run)
    return client, found


def files_of(client, run, below=None):
    found = client.list_artifacts(run.info.run_id, below)
    inner = [files_of(client, run, one.path) for one in found if one.is_dir]
    return {one.path for one in found if not one.is_dir}.union(*inner)


def names_of(client, run):
    """What a run has, each beside the names that it may be."""
    yield schema.ARTIFACTS, files_of(client, run)
    yield schema.METRICS, set(run.data.metrics)
    yield schema.TAGS, {tag for tag in run.data.tags if not tag.startswith("mlflow.")} - {"mlflow.parentRunId"}


def test_whatever_mlflow_keeps_is_on_the_page(kept):
    client, found = kept
    assert set(found) == {schema.RUN, schema.SWEEP, schema.COMPARISON, schema.NETWORK}
    for kind, runs in found.items():
        for run in runs:
            for known, names in names_of(client, run):
                unknown = [name for name in names if not any(kind in one.kinds and one.names(name) for one in known)]
                assert not unknown, (kind, unknown)


def test_whatever_is_on_the_page_can_be_met(kept):
    client, found = kept
    every = schema.ARTIFACTS, schema.METRICS, schema.TAGS
    missing = {(kind, one.name) for known in every for one in known for kind in one.kinds}
    for kind, runs in found.items():
        for run in runs:
            have = {*run.data.tags, *run.data.metrics, *files_of(client, run)}
            missing -= {(of, name) for of, name in missing if of == kind and any(map(_named(name).names, have))}
    assert {name for _, name in missing} <= RARE, missing


def _named(name):
    return schema.Named(name, (), "")


def test_every_search_on_the_page_is_one_of_mlflows(kept):
    client, found = kept
    searches = runpy.run_path(str(MAKE))["SEARCHES"]
    parent = found[schema.SWEEP][0].info.run_id
    experiments = [one.experiment_id for one in client.search_experiments()]
    answers = {
        what: {run.info.run_id for run in client.search_runs(experiments, search.replace("ID", parent))}
        for what, search in searches.items()
    }
    assert answers["Sweeps"] == {parent}
    assert len(answers["The runs of a sweep, by its id"]) == 2
    assert answers["What one version computed"] >= {run.info.run_id for run in found[schema.RUN]}
    assert answers["The same recordings, labels and speakers"] >= {run.info.run_id for run in found[schema.RUN]}
