"""Benchmarks say what they do, and docs/speed.md quotes the committed figures and no others."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "benchmarks").glob("*.py") if path.name != "figures.py")


@pytest.fixture(scope="module")
def suite():
    folder = str(ROOT / "benchmarks")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("benchmark_suite", ROOT / "benchmarks" / "suite.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


def result(value, better="higher", goal=2.0):
    figure = {"value": value, "unit": "times", "better": better, "goal": goal}
    machine = {"processor": "P", "cores": 2, "torch": "1"}
    return {"speed": {"benchmark": "speed", "machine": machine, "figures": {"faster": figure}, "notes": []}}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_benchmark_has_help(script):
    ended = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert "usage:" in ended.stdout


SMALL = ("--backbone", "torchvision:arch=squeezenet1_1,weights=random", "--device", "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["extraction", "finetune"])
def test_a_small_benchmark_runs_to_its_end(corpus, tmp_path, name):
    of = {"extraction": (corpus / "manifest.csv", "--quick"), "finetune": ("--batches", "1")}[name]
    command = [sys.executable, f"benchmarks/{name}.py", *of, *SMALL, "--json", tmp_path / "figures.json"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert all(figure["value"] > 0 for figure in figures.values())


def test_speed_page_quotes_committed_figures(suite):
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert page == suite.with_table(page, suite.kept_figures())


def test_every_benchmark_belongs_to_the_suite(suite):
    known = set(suite.scripts(None, None, Path()))
    assert {path.stem for path in SCRIPTS} - {"suite"} <= known


def test_worse_figures_are_marked_in_either_direction(suite):
    def last(now, before, better):
        return suite.table(result(now, better), result(before, better))[-1]

    assert "-50% REGRESSION" in last(1.0, 2.0, "higher")
    assert "-50% REGRESSION" in last(3.0, 2.0, "lower")
    assert "REGRESSION" not in last(1.9, 2.0, "higher")
    assert "+50%" in last(3.0, 2.0, "higher")


def test_a_goal_is_met_or_said_not_to_be(suite):
    assert "NOT MET" in suite.table(result(1.0), {})[-1]
    assert suite.table(result(2.0), {})[-1].split() == ["faster", "2", "times", "2", "met"]
    assert "| faster | 1 times | at least 2 times, not met |" in suite.markdown(result(1.0))
    assert "On P, 2 cores, torch 1." in suite.markdown(result(1.0))


def test_a_benchmark_writes_its_figures_as_json(suite, tmp_path):
    figures = sys.modules["figures"]
    out = tmp_path / "out.json"
    figures.report("speed", {"faster": figures.Figure(3.0, "times", "higher", 2.0)}, out, ["a note"])
    written = json.loads(out.read_text())
    assert written["figures"] == {"faster": {"value": 3.0, "unit": "times", "better": "higher", "goal": 2.0}}
    assert set(written["machine"]) == {"processor", "cores", "torch"}
