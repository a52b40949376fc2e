"""``bserkit compare`` from the command line to what MLflow keeps of it, and the intervals of every run."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, f1_score, recall_score

from bserkit.evaluation.metrics import confuse
from bserkit.evaluation.statistics import speaker_intervals

EXPERIMENT = "compared"
HERE = ("--experiment", EXPERIMENT)


@pytest.fixture(scope="module")
def runs(run_cli, read_run, runs_of, corpus, fast, lab, first_run):
    """Runs by what they are: two to compare, one elsewhere in other folds, and one of the first's name that failed."""
    options = {
        "plain": (*HERE, "--run-name", "plain"),
        "joined": (*HERE, "--run-name", "joined", "--fusion", "feature"),
        "grouped": ("--experiment", "elsewhere", "--run-name", "grouped", "--protocol", "losgo:groups=2"),
        "failed": (*HERE, "--run-name", "plain", "--pooler", "unlucky"),
    }
    ended = {kind: run_cli("run", corpus / "manifest.csv", *fast, *own, cwd=lab) for kind, own in options.items()}
    said = "\n".join(f"{kind}: exit {one.returncode}\n{one.stderr}" for kind, one in ended.items())
    assert [one.returncode for one in ended.values()] == [0, 0, 0, 1], said
    (failed,) = (run for run in runs_of(lab, EXPERIMENT) if run.status == "FAILED")
    return {kind: read_run(lab, ended[kind]) for kind in ("plain", "joined", "grouped")} | {"failed": failed}


@pytest.fixture(scope="module")
def compared(run_cli, read_run, lab, runs):
    """The comparison of a run by its name with one by the first characters of its id."""
    ended = run_cli("compare", "plain", runs["joined"].id[:10], *HERE, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    return ended, read_run(lab, re.search(r"^Kept as run ([0-9a-f]{32})", ended.stdout, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def refusals(run_cli, lab, runs, compared):
    """What is said of runs that cannot be compared with the plain one, by what they are."""
    given = {
        "grouped": runs["grouped"].id,
        "failed": runs["failed"].id,
        "comparison": compared[1].id,
        "unknown": "joind",
    }
    return {kind: refused(run_cli("compare", "plain", other, *HERE, cwd=lab)) for kind, other in given.items()}


def fusion(run):
    table = pd.read_csv(run.artifacts / "predictions.csv")
    return table[table["part"] == "fusion"].sort_values("utterance", ignore_index=True)


def measures(table):
    return {
        "accuracy": accuracy_score(table["label"], table["predicted"]),
        "uar": recall_score(table["label"], table["predicted"], average="macro"),
        "macro_f1": f1_score(table["label"], table["predicted"], average="macro"),
    }


def refused(ended):
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    return ended.stderr.removeprefix("Error: ")


def test_runs_log_intervals_over_speakers(first_run):
    table = fusion(first_run)
    counts = [confuse(own["label"], own["predicted"], ["calm", "glad", "mad"]) for _, own in table.groupby("speaker")]
    expected = speaker_intervals(np.stack(counts))
    for name in ("accuracy", "uar"):
        assert first_run.metrics[name] == pytest.approx(expected[name].value)
        assert first_run.metrics[f"{name}_low"] == pytest.approx(expected[name].low)
        assert first_run.metrics[f"{name}_high"] == pytest.approx(expected[name].high)
        assert first_run.metrics[f"{name}_low"] <= first_run.metrics[name] <= first_run.metrics[f"{name}_high"]


def test_runs_print_intervals_and_warn_of_few_speakers(first, first_run):
    told = {name: f"{value:.3f}" for name, value in first_run.metrics.items()}
    assert (
        f"95% intervals of the fusion over 4 speakers: accuracy {told['accuracy']} [{told['accuracy_low']}, "
        f"{told['accuracy_high']}], UAR {told['uar']} [{told['uar_low']}, {told['uar_high']}]\n"
        "There are only 4 speakers"
    ) in first.stdout


def test_comparisons_show_differences_and_intervals(compared, runs):
    lines = compared[0].stdout.splitlines()
    for kind, differs in (("plain", "fusion=two-stage"), ("joined", "fusion=feature")):
        (line,) = (line for line in lines if runs[kind].id[:8] in line)
        logged = {name: f"{value:.3f}" for name, value in runs[kind].metrics.items()}
        assert kind in line
        assert differs in line
        assert "pooler" not in line
        for name in ("accuracy", "uar"):
            assert f"{logged[name]} [{logged[f'{name}_low']}, {logged[f'{name}_high']}]" in line
        assert logged["macro_f1"] in line


def test_comparisons_state_chance_and_too_few_speakers(compared):
    said = " ".join(compared[0].stdout.split())
    assert "Chance: UAR 0.333; always 'calm': accuracy 0.444." in said
    assert "There are only 4 speakers" in said
    assert "the smallest p that a permutation test can give is 2/2^4 = 0.125" in said


def test_the_comparison_table_agrees_with_predictions(compared, runs):
    table = pd.read_csv(compared[1].artifacts / "comparison.csv")
    tables = {runs[kind].id: fusion(runs[kind]) for kind in ("plain", "joined")}
    for (run, measure), row in table[table["kind"] == "run"].groupby(["run", "measure"]):
        assert row["value"].item() == pytest.approx(measures(tables[run])[measure])
    for (run, speaker), row in table[table["kind"] == "speaker"].groupby(["run", "speaker"]):
        own = tables[run][tables[run]["speaker"] == speaker]
        assert row["value"].item() == pytest.approx(measures(own)["uar"])
    pairs = table[table["kind"] == "pair"].set_index("measure")
    assert set(pairs["run"]) == {runs["joined"].id}
    assert set(pairs["other"]) == {runs["plain"].id}
    joined, plain = tables[runs["joined"].id], tables[runs["plain"].id]
    for measure in ("accuracy", "uar"):
        assert pairs.loc[measure, "value"] == pytest.approx(measures(joined)[measure] - measures(plain)[measure])
    right = [one["predicted"] == one["label"] for one in (joined, plain)]
    b, c = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
    assert (pairs["b"] == b).all()
    assert (pairs["c"] == c).all()
    assert pairs.loc["uar", "mcnemar_p"] == pytest.approx(binomtest(b, b + c).pvalue if b + c else 1)


def test_a_comparison_is_kept_as_a_run_with_its_recipe(compared, runs):
    ended, kept = compared
    assert (kept.experiment, kept.status) == (EXPERIMENT, "FINISHED")
    assert kept.name == f"compare {runs['plain'].id[:8]} {runs['joined'].id[:8]}"
    assert kept.tags["bserkit.kind"] == "comparison"
    assert dict(kept.params) == {
        "runs": f"{runs['plain'].id} {runs['joined'].id}",
        "part": "fusion",
        "resamples": "2000",
        "seed": "0",
    }
    assert {path.name for path in kept.artifacts.iterdir()} == {"comparison.csv", "comparison.md"}
    assert str(kept.artifacts) in ended.stdout
    assert "bserkit.kind" not in runs["plain"].tags


def test_best_runs_are_compared_in_order_of_uar(run_cli, lab, compared, runs):
    ended = run_cli("compare", "--best", "9", "--part", "left", "--resamples", "500", *HERE, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    ordered = sorted((runs[kind] for kind in ("plain", "joined")), key=lambda run: -run.metrics["uar"])
    shown = re.findall(r"^│ \d │ \w+ +│ ([0-9a-f]{8}) │", ended.stdout, re.MULTILINE)
    assert shown == [run.id[:8] for run in ordered]
    assert "left of 36 utterances of 4 speakers" in ended.stdout
    for run in ordered:
        assert f"{run.metrics['left/uar']:.3f} [" in ended.stdout
    assert "the best owes some of its lead to luck" in ended.stdout


def test_runs_in_other_folds_are_refused_by_utterance(refusals, runs):
    both = f"Runs {runs['plain'].id[:8]} (plain) and {runs['grouped'].id[:8]} (grouped) cannot be compared"
    assert both in refusals["grouped"]
    assert "the folds of 36 of 36 utterances differ (wav/ann-calm-0.wav: ann, group" in refusals["grouped"]


def test_a_run_that_failed_is_refused_with_its_reason(refusals, runs):
    assert runs["failed"].name == "plain"
    said = f"Run {runs['failed'].id} (plain) is not finished but failed: ValueError: no such luck"
    assert said in refusals["failed"]


def test_a_comparison_is_refused_as_a_run(refusals):
    assert "is a comparison" in refusals["comparison"]


def test_an_unknown_run_suggests_the_nearest_name(refusals):
    assert "There is no run 'joind' in experiment 'compared' (did you mean 'joined'?)" in refusals["unknown"]


def test_looking_for_runs_in_vain_leaves_no_trace(cli, tmp_path):
    assert "There are no runs" in refused(cli("compare", "--best", "2"))
    assert not list(tmp_path.iterdir())
