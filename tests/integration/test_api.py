"""The functions for notebooks do what the commands do, print nothing and return what can be worked with."""

import json
import logging
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import bserkit
from bserkit.api import Given, Grid
from bserkit.cli.run import run as run_command
from bserkit.cli.sweep import sweep as sweep_command
from bserkit.learning.model import fit_model
from bserkit.learning.model_files import save_model
from bserkit.plugins.registry import load_plugins

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch, feature_cache):
    """An empty working folder in which nothing of the caller's set-up counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BSERKIT_CACHE", str(feature_cache))
    for name in ("MLFLOW_TRACKING_URI", "BSERKIT_PLUGINS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def fast_settings(plugins_dir):
    return {"plugins_dir": str(plugins_dir), "backbone": "band-means"}


def test_a_run_gives_what_the_command_gives(here, corpus, fast_settings, first_run, capfd, caplog):
    caplog.set_level(logging.INFO, logger="bserkit")
    run = bserkit.run(corpus / "manifest.csv", **fast_settings)
    assert capfd.readouterr() == ("", "")
    assert any("Learning and evaluating: 4 folds" in one.message for one in caplog.records)
    assert {name: run.metrics[name] for name in ("uar", "accuracy")} == {
        name: first_run.metrics[name] for name in ("uar", "accuracy")
    }
    confusion = run.confusion()
    assert np.diag(confusion).sum() / confusion.to_numpy().sum() == pytest.approx(run.metrics["accuracy"])
    assert run.confusion("left").to_numpy().sum() == len(run.predictions.query("part == 'left'"))
    assert run.intervals()["uar"].low == run.metrics["uar_low"]
    assert run.results.query("part == 'fusion' and fold == 'all'")["uar"].item() == run.metrics["uar"]
    assert run.artifact("confusion.png").startswith(b"\x89PNG")
    page = run._repr_html_()
    assert run.run_id in page
    assert f"{run.metrics['left/uar']:.3f}" in page
    assert bserkit.load_run(run.run_id[:8]).metrics == run.metrics


def test_a_sweep_and_a_comparison_give_tables(here, corpus, fast_settings):
    swept = bserkit.sweep(corpus / "manifest.csv", pooler=["block-max", "global-avg"], fusion="mean", **fast_settings)
    assert swept.table["pooler"].tolist() == ["block-max", "global-avg"]
    assert "Table 1." in swept._repr_markdown_()
    runs = [bserkit.load_run(run) for run in swept.table["run"]]
    compared = bserkit.compare(*runs)
    assert set(compared.table["kind"]) == {"run", "pair", "speaker"}
    assert "McNemar" in compared._repr_markdown_()
    with pytest.raises(bserkit.UsageError, match="A comparison needs two runs; 1 given"):
        bserkit.compare(runs[0])


class Last(bserkit.Pooler):
    """The last segment, scaled."""

    name = "last"
    scale: float = 1.0

    def pool(self, segments):
        return self.scale * segments[-1]


def test_a_component_of_the_program_is_used(here, corpus, fast_settings):
    run = bserkit.run(corpus / "manifest.csv", pooler=Last(scale=2.0), **fast_settings)
    assert (run.parameters["pooler"], run.parameters["pooler.scale"]) == ("last", "2.0")
    assert run.tags["plugin.pooler.last"].startswith("program ")
    swept = bserkit.sweep(corpus / "manifest.csv", pooler=[Last(), "global-avg"], fusion="mean", **fast_settings)
    assert swept.table["pooler"].tolist() == ["last", "global-avg"]


def test_a_component_with_a_taken_name_is_the_one_used(here, corpus, fast_settings):
    class Taken(Last):
        name = "block-max"

    ours, plain, theirs = (
        bserkit.run(corpus / "manifest.csv", pooler=pooler, **fast_settings)
        for pooler in (Taken(), Last(), "block-max")
    )
    assert ours.parameters["pooler"] == "program/block-max"
    assert ours.predictions.equals(plain.predictions)
    assert not ours.predictions.equals(theirs.predictions)


def test_features_and_an_audit_are_returned(here, corpus, fast_settings):
    pooled = bserkit.extract(corpus / "manifest.csv", pooler="global-avg", **fast_settings)
    assert set(pooled["channel"]) == {"left", "right", "mid", "side"}
    assert len(pooled) == 4 * pooled["utterance"].nunique()
    audit = bserkit.audit(corpus / "manifest.csv")
    assert len(audit.measured) == pooled["utterance"].nunique()
    assert audit._repr_markdown_().startswith("# ")


def test_a_model_is_loaded_from_its_folder(here):
    labels, features = np.array(["a", "b"] * 6), np.random.default_rng(0).normal(size=(12, 3))
    views = bserkit.Views({"mono": features}, {"mono": "mono"}, ("a", "b"), labels, np.array(["s"] * 12))
    plugins = load_plugins(outside=False)
    model = fit_model(views, plugins.make(bserkit.Fuser, "mean"), plugins.make(bserkit.Classifier, "linear-svm"))
    save_model(model, here / "model")
    np.testing.assert_array_equal(bserkit.load_model(here / "model").scores(views), model.scores(views))


def test_a_run_needs_no_main_thread(here, corpus, fast_settings):
    made = []
    work = threading.Thread(target=lambda: made.append(bserkit.run(corpus / "manifest.csv", **fast_settings)))
    work.start()
    work.join()
    assert made[0].metrics["uar"] > 0


@pytest.mark.parametrize(("settings", "command"), [(Given, run_command), (Grid, sweep_command)])
def test_functions_take_what_commands_take(settings, command):
    options = {one.name for one in command.params} - {"data", "quiet", "references", "verbose"}
    assert set(settings.__annotations__) == options - ({"run_name"} if settings is Grid else set())


@pytest.mark.slow
def test_the_notebook_runs(here):
    notebook = json.loads((ROOT / "examples" / "notebook.ipynb").read_text(encoding="utf-8"))
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), "notebook.ipynb", "exec"), names)  # noqa: S102
    assert names["pooled"].metrics["uar"] > 0


def test_importing_bserkit_imports_no_function():
    script = "import sys, bserkit; assert 'run' in dir(bserkit); print({'bserkit.api', 'torch'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
