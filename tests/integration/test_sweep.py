"""``bserkit sweep`` from the command line to what MLflow keeps of it; broken off, resumed, and with one that fails."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sqlite3
import time
from contextlib import closing

import pandas as pd
import pytest

GRID = ("--pooler", "block-max", "--pooler", "global-max", "--fusion", "two-stage:tune=oracle", "--fusion", "feature")
NAMES = ["block-max two-stage", "block-max feature", "global-max two-stage", "global-max feature"]
MONO = 'channels = "mono"\npooler = "global-avg"\nclassifier = "linear-svm:c=search"\n'

#: Pooler ``slow``: waits where SLOW_POOLER says so, that a sweep can be broken off in it.
SLOW = '''
import os
import time

from bserkit import Pooler, hookimpl


class Slow(Pooler):
    """The mean of each feature, slowly."""

    name = "slow"

    def pool(self, segments):
        time.sleep(float(os.environ.get("SLOW_POOLER", "0")))
        return segments.mean(axis=0)


@hookimpl
def bserkit_poolers():
    return [Slow]
'''


@pytest.fixture(scope="module")
def swept(run_cli, read_run, runs_of, corpus, fast, lab, first_run, tmp_path_factory):
    """A whole sweep with a reference: what it said, its own run, and its runs by name."""
    reference = tmp_path_factory.mktemp("references") / "mono.toml"
    reference.write_text(MONO)
    command = ("sweep", corpus / "manifest.csv", *fast, *GRID, "--reference", reference, "--experiment", "swept")
    ended = run_cli(*command, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    parent, *children = runs_of(lab, "swept")
    return ended, parent, {run.name.removeprefix("csv "): run for run in children}


def results(parent):
    return pd.read_csv(parent.artifacts / "combinations.csv").set_index("name")


def test_a_sweep_is_a_parent_run_of_its_combinations(swept):
    _, parent, children = swept
    assert list(children) == [*NAMES, "mono"]
    assert (parent.status, parent.tags["bserkit.kind"]) == ("FINISHED", "sweep")
    assert {run.tags["mlflow.parentRunId"] for run in children.values()} == {parent.id}
    assert {run.status for run in children.values()} == {"FINISHED"}
    assert not any("bserkit.kind" in run.tags for run in children.values())


def test_a_sweep_logs_its_grid_and_no_result(swept, corpus):
    _, parent, _ = swept
    params = dict(parent.params)
    assert params["pooler"] == "block-max global-max"
    assert params["fusion"] == "two-stage:tune=oracle feature"
    assert (params["channels"], params["data"]) == ("lr,ms", str(corpus / "manifest.csv"))
    assert re.fullmatch(r"mono: bserkit run .* --channels mono .*", params["reference.1"])
    assert {name for name in parent.metrics if not name.startswith("audit/")} == {"utterances", "skipped"}
    names = {path.name for path in parent.artifacts.iterdir()}
    assert names == {"tables.md", "combinations.csv", "confusion.png", "folds.csv", "folds_summary.csv", "audit.md"}


def test_features_are_computed_and_pooled_once(swept):
    ended, _, _ = swept
    assert len(re.findall(r"^\d/5 Pooling", ended.stderr, re.MULTILINE)) == 3
    assert len(re.findall(r"^Checking audio", ended.stderr, re.MULTILINE)) == 1


def test_each_combination_is_told_when_it_is_done(swept):
    ended, _, children = swept
    for number, (name, run) in enumerate(children.items(), start=1):
        assert (
            f"\n{number}/5 {name}: UAR {run.metrics['uar']:.3f}, accuracy {run.metrics['accuracy']:.3f}\n"
            in ended.stderr
        )
    assert "4 combinations and 1 reference, on the same folds" in ended.stderr


@pytest.mark.parametrize("name", ["global-max two-stage", "mono"])
def test_a_runs_own_command_gives_the_very_same_run(cli, swept, lab, read_run, name):
    _, parent, children = swept
    program, *words = shlex.split(results(parent).loc[name, "command"])
    assert program == "bserkit"
    ended = cli(*words, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    again, run = read_run(lab, ended), children[name]
    assert sorted(again.params) == sorted(run.params)
    assert again.metrics == run.metrics
    assert again.steps == run.steps
    files, expected = (
        {path.relative_to(one.artifacts) for path in one.artifacts.rglob("*") if path.is_file()} for one in (again, run)
    )
    assert files == expected
    for name in files:
        if name.suffix != ".png":
            assert (again.artifacts / name).read_bytes() == (run.artifacts / name).read_bytes(), name


def test_the_tables_hold_what_the_runs_logged(swept):
    ended, parent, children = swept
    text = (parent.artifacts / "tables.md").read_text()
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        assert f"\nTable {number}. " in text
        assert f"\nTable {number}. " in ended.stdout
    first = {name: f"{100 * value:.2f}" for name, value in children[NAMES[0]].metrics.items()}
    assert f"| left | {first['left/accuracy']} | {first['left/uar']} |" in text
    pair = f"{first['lr/accuracy']} | {first['lr/uar']} | α = {children[NAMES[0]].metrics['oracle_weight/left']:.1f}"
    assert f"{pair} | {first['oracle_lr/accuracy']} (" in text
    assert f"| {first['accuracy']} [{first['accuracy_low']}, {first['accuracy_high']}] |" in text
    weights = [weight for _, weight in children[NAMES[0]].steps["fold/weight/left"]]
    assert f"| block-max | left, right | α = {sum(weights) / 4:.2f} (" in text
    joined = {name: f"{100 * value:.2f}" for name, value in children[NAMES[1]].metrics.items()}
    assert f"| block-max | left, right, mid, side | {joined['accuracy']} | {joined['uar']} |" in text


def test_the_logged_results_have_a_row_for_each_run(swept):
    _, parent, children = swept
    table = results(parent)
    assert list(table.index) == list(children)
    assert table["run"].tolist() == [run.id for run in children.values()]
    assert table["uar"].tolist() == pytest.approx([run.metrics["uar"] for run in children.values()])
    assert table.loc["mono", "kind"] == "reference"


def test_runs_of_a_sweep_are_compared_without_it(cli, swept, lab):
    ended = cli("compare", "--best", "9", "--experiment", "swept", "--resamples", "100", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    assert "mono" in ended.stdout
    assert "sweep of" not in ended.stdout


@pytest.fixture(scope="module")
def broken_off(start_cli, finish_cli, run_cli, runs_of, corpus, fast, lab, plugins_dir, first_run, tmp_path_factory):
    """A sweep interrupted in its second combination, killed there, then left to its end: what was said, and runs."""
    own = tmp_path_factory.mktemp("slow")
    (own / "slow.py").write_text(SLOW)
    command = ("sweep", corpus / "manifest.csv", "--plugins-dir", f"{plugins_dir}{os.pathsep}{own}", *fast[2:])
    command += ("--pooler", "block-max", "--pooler", "slow", "--fusion", "feature", "--experiment", "broken-sweep")
    ends, seen = [], []
    for number in (signal.SIGINT, signal.SIGKILL):
        # Longer than a command is waited for: an interrupt does not wait for what threads are at.
        process = start_cli(*command, cwd=lab, env={"SLOW_POOLER": "900"})
        wait_for_run(process, lab, "csv slow", number=len(ends) + 1)
        process.send_signal(number)
        ends.append(finish_cli(process))
        seen.append([(run.name, run.status) for run in runs_of(lab, "broken-sweep")])
    ends.append(run_cli(*command, cwd=lab))
    return ends, seen, runs_of(lab, "broken-sweep")


def wait_for_run(process, folder, name, number):
    """Wait until so many runs of that name are at work, as long as the process lives."""
    at_work = "SELECT count(*) FROM runs JOIN tags USING (run_uuid) WHERE name = ? AND tags.key = 'corpus.fingerprint'"
    while True:
        assert process.poll() is None
        if (folder / "mlruns" / "mlflow.db").exists():
            with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
                if database.execute(at_work, (name,)).fetchone()[0] == number:
                    return
        time.sleep(0.1)


def test_an_interrupted_sweep_marks_both_runs_killed(broken_off):
    ends, seen, _ = broken_off
    assert ends[0].returncode == 1
    assert ends[0].stderr.splitlines()[-1].startswith("Interrupted."), ends[0].stderr
    assert "Traceback" not in ends[0].stderr
    assert [status for _, status in seen[0]] == ["KILLED", "FINISHED", "KILLED"]


def test_a_killed_sweep_is_marked_by_the_next_one(broken_off):
    ends, seen, runs = broken_off
    assert ends[1].returncode == -signal.SIGKILL
    assert [status for _, status in seen[1]][-2:] == ["RUNNING", "RUNNING"]
    assert {run.status for run in runs} == {"KILLED", "FINISHED"}


def test_a_sweep_resumes_what_broken_off_ones_finished(broken_off):
    ends, _, runs = broken_off
    assert ends[2].returncode == 0, ends[2].stderr
    for ended in ends[1:]:
        assert "1 of 2 kept from the sweep that was broken off\n" in ended.stderr
        assert "block-max: UAR" not in ended.stderr
    finished = [run for run in runs if run.status == "FINISHED"]
    (parent,) = (run for run in finished if run.tags.get("bserkit.kind") == "sweep")
    kept, slow = (run for run in finished if run is not parent)
    assert (kept.name, slow.name) == ("csv block-max", "csv slow")
    assert {kept.tags["mlflow.parentRunId"], slow.tags["mlflow.parentRunId"]} == {parent.id}
    assert results(parent)["run"].tolist() == [kept.id, slow.id]
    assert "Table 2. Poolers, left" in ends[2].stdout


@pytest.fixture(scope="module")
def with_a_failure(run_cli, runs_of, corpus, fast, lab, first_run):
    """A quiet sweep whose first combination fails."""
    command = ("sweep", corpus / "manifest.csv", *fast, "--pooler", "unlucky", "--pooler", "global-avg")
    ended = run_cli(*command, "--fusion", "mean", "--experiment", "failing", "--quiet", cwd=lab)
    return ended, runs_of(lab, "failing")


def test_a_failed_combination_stops_no_other(with_a_failure):
    ended, (parent, failed, done) = with_a_failure
    assert ended.returncode == 1
    said = "Error: 1 of 2 combinations failed:\n  unlucky: ValueError: no such luck\n"
    assert ended.stderr.startswith(said)
    assert "Traceback" not in ended.stderr
    assert (failed.status, failed.tags["bserkit.ended"]) == ("FAILED", "ValueError: no such luck")
    assert done.status == "FINISHED"
    assert (parent.status, parent.tags["bserkit.ended"]) == ("FAILED", "unlucky: ValueError: no such luck")
    table = results(parent)
    assert table.loc["unlucky", "failed"] == "ValueError: no such luck"
    assert table.loc["global-avg", "run"] == done.id
    assert "The combination named first has no result" in (parent.artifacts / "tables.md").read_text()


def test_quiet_prints_one_line_a_run_and_the_sweep(with_a_failure):
    ended, (parent, _, done) = with_a_failure
    numbers = " ".join(f"{name}={done.metrics[name]:.4f}" for name in ("accuracy", "uar", "macro_f1"))
    assert ended.stdout == f"{numbers} run={done.id} global-avg\nsweep={parent.id}\n"


def test_wrong_usage_ends_with_2_before_any_work(cli, corpus, fast, tmp_path):
    ended = cli("sweep", corpus / "manifest.csv", *fast, "--pooler", "block-max", "--pooler", "blok-max")
    assert ended.returncode == 2
    assert "did you mean 'block-max'?" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_combinations_on_other_recordings_are_refused(cli, corpus, rows, manifest, fast):
    samples = (corpus / "wav" / "dan-glad-0.wav").read_bytes()
    (corpus / "wav" / "twin.wav").write_bytes(samples[:22] + b"\x01" + samples[23:])
    path = manifest("one-mono.csv", [*rows, ("wav/twin.wav", "glad", "dan")])
    options = ("--channels", "lr", "--channels", "mono", "--mono", "skip")
    ended = cli("sweep", path, *fast, *options)
    assert ended.returncode == 2
    assert "has 36 usable recordings, but mono" in ended.stderr
    assert "--mono duplicate" in ended.stderr


def test_help_teaches(cli):
    ended = cli("sweep", "--help")
    assert ended.returncode == 0
    for words in ("--reference FILE", "several times", "the same command", "Tables 2 to 5", "never as the result"):
        assert words in " ".join(ended.stdout.split())
