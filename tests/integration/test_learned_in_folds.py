"""What learns inside a fold from the command line on: ``--normaliser``, its warnings, and poolers that learn."""

from __future__ import annotations

import re
import tomllib

import pandas as pd
import pytest

EACH = "speaker:by=each"
WARNING = f"WARNING: test recordings were used without their labels ({EACH})"


@pytest.fixture(scope="module")
def asked(corpus, fast):
    return ("run", corpus / "manifest.csv", *fast, "--fusion", "mean")


@pytest.fixture(scope="module")
def plain(run_cli, read_run, asked, lab, first_run):
    return read_run(lab, run_cli(*asked, cwd=lab))


@pytest.fixture(scope="module")
def each(run_cli, read_run, asked, lab, first_run):
    """A run in which each speaker is standardised by recordings of that speaker's own: what it said, and itself."""
    ended = run_cli(*asked, "--normaliser", EACH, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    return ended, read_run(lab, ended)


def test_unlabelled_test_recordings_are_told(each, asked, cli, lab):
    ended, run = each
    for text in (ended.stderr, ended.stdout):
        assert WARNING in " ".join(text.split())
    assert run.tags["unlabelled_test"] == EACH
    params = dict(run.params)
    assert (params["normaliser"], params["normaliser.by"], params["normaliser.least"]) == ("speaker", "each", "5")
    assert run.name == f"csv band-means block-max {EACH} mean"
    quiet = cli(*asked, "--normaliser", EACH, "--quiet", cwd=lab)
    assert quiet.stdout.endswith(" unlabelled_test=true\n")


def test_a_report_says_what_the_normaliser_saw(each, cli, lab, tmp_path):
    ended = cli("report", each[1].id, "--out", tmp_path / "page.html", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    page = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "page.html").read_text()).split())
    assert WARNING in page
    assert (
        "normaliser training utterances of each fold; and the test utterances, without labels speaker:by=each" in page
    )
    assert "from its training side and, without labels, from its test side" in page


def test_runs_with_and_without_one_are_compared(each, plain, cli, lab):
    ended = cli("compare", plain.id, each[1].id, "--resamples", "100", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    assert WARNING in " ".join(ended.stdout.split())


def test_a_run_with_one_is_given_again_by_its_file(each, cli, lab, read_run):
    _, run = each
    written = run.artifacts / "config.toml"
    assert tomllib.loads(written.read_text())["normaliser"] == {"name": "speaker", "by": "each", "least": 5}
    ended = cli("run", "--config", written, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    assert read_run(lab, ended).metrics == run.metrics


def test_none_is_as_if_the_option_were_not_there(asked, plain, cli, lab, read_run):
    again = read_run(lab, cli(*asked, "--normaliser", "none", cwd=lab))
    assert sorted(again.params) == sorted(plain.params)
    assert not any(name.startswith("normaliser") for name, _ in plain.params)
    assert again.metrics == plain.metrics
    assert not {"unlabelled_test"} & again.tags.keys()
    for name in ("predictions.csv", "config.toml"):
        assert (again.artifacts / name).read_bytes() == (plain.artifacts / name).read_bytes()


def test_a_sweep_marks_unlabelled_recordings(corpus, fast, plain, each, cli, runs_of, tmp_path):
    sweep = ("sweep", corpus / "manifest.csv", *fast, "--pooler", "block-max", "--fusion", "mean")
    ended = cli(*sweep, "--normaliser", "none", "--normaliser", EACH, "--quiet")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [re.sub(".* run=[0-9a-f]+ ", "", line) for line in lines[:2]] == ["none", "unlabelled_test=true speaker"]
    parent, first, second = runs_of(tmp_path, "bserkit")
    assert (first.metrics, second.metrics) == (plain.metrics, each[1].metrics)
    text = (parent.artifacts / "tables.md").read_text()
    assert "| speaker (uses unlabelled test recordings) |" in text
    assert WARNING in text
    table = pd.read_csv(parent.artifacts / "combinations.csv", keep_default_na=False).set_index("name")
    assert table["cautions"].to_dict() == {"none": "", "speaker": "unlabelled_test"}
    again = cli(*sweep, "--normaliser", "none", "--normaliser", "speaker")
    assert again.returncode == 0, again.stderr
    assert len(re.findall("^1/2 Pooling", again.stderr, re.MULTILINE)) == 1
    assert "2/2 Pooling" not in again.stderr


@pytest.fixture(scope="module")
def vlad(run_cli, corpus, fast, lab, first_run):
    """A sweep of two fusions on a pooler that learns."""
    sweep = ("sweep", corpus / "manifest.csv", *fast, "--pooler", "vlad:centres=3", "--experiment", "learned")
    return run_cli(*sweep, "--fusion", "mean", "--fusion", "feature", cwd=lab)


def test_a_pooler_that_learns_is_swept_and_reported(vlad, cli, runs_of, lab, tmp_path):
    assert vlad.returncode == 0, vlad.stderr
    _, run, _ = runs_of(lab, "learned")
    params = dict(run.params)
    assert (params["pooler"], params["pooler.centres"], params["pooler.seed"]) == ("vlad", "3", "0")
    assert run.tags["pooler.learns"] == "true"
    ended = cli("report", run.id, "--experiment", "learned", "--out", tmp_path / "page.html", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    page = " ".join(re.sub(r"<[^>]+>", " ", (tmp_path / "page.html").read_text()).split())
    assert "pooler training utterances of each fold vlad:centres=3" in page
    assert "pooler.learns:" not in page


def test_a_run_with_a_pooler_that_learns_is_the_same(vlad, cli, corpus, fast, runs_of, lab, read_run):
    _, run, _ = runs_of(lab, "learned")
    ended = cli("run", corpus / "manifest.csv", *fast, "--pooler", "vlad:centres=3", "--fusion", "mean", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    assert read_run(lab, ended).metrics == run.metrics


def test_what_learns_in_a_fold_is_not_extracted(cli, corpus, fast, tmp_path):
    ended = cli("extract", corpus / "manifest.csv", tmp_path / "out.parquet", *fast, "--pooler", "vlad")
    assert ended.returncode == 2
    assert "pooler vlad learns from the training utterances of each" in ended.stderr
