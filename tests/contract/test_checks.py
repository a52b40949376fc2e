"""Everything that is built in, shown in the documentation or shipped passes the checks that are offered to authors."""

import importlib
import importlib.util
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from unittest import SkipTest

import numpy as np
import pytest
import soundfile

from bserkit import CorpusReader
from bserkit.corpora.protocols import FoldsFile
from bserkit.corpora.reading import read_corpus
from bserkit.features.finetuning import FromRun
from bserkit.plugins import hooks
from bserkit.plugins.builtin.backbones import AlexNet, Torchvision
from bserkit.plugins.builtin.classifiers import LinearSvm
from bserkit.plugins.builtin.corpora.manifest import Manifest
from bserkit.plugins.builtin.frontends import LogMel, Waveform
from bserkit.plugins.builtin.normalisers import Speaker
from bserkit.plugins.builtin.opensmile import OpenSmile
from bserkit.plugins.builtin.poolers import BlockAverage, BlockMax
from bserkit.plugins.registry import CONTRACTS, load_plugins
from bserkit.testing import BandMeans, checks_of, parametrize_with_checks
from bserkit.testing.checks import KINDS
from bserkit.testing.probe import HEAVY
from bserkit.testing.recipes import example_of

ROOT = Path(__file__).parents[2]
REGISTERED = [one.component for one in load_plugins(outside=False).registered]
#: Those that need a parameter, and those that take seconds.
OTHERWISE = {
    AlexNet: AlexNet(weights="random"),
    Torchvision: Torchvision(arch="squeezenet1_1", weights="random"),
    FromRun: FromRun(run="first"),
    FoldsFile: FoldsFile(path="folds.csv"),
}
BY_DEFAULTS = [example_of(one) for one in REGISTERED if one not in {*OTHERWISE, OpenSmile}]
#: Other ways through the code.
VARIED = [
    BandMeans(bands=16),
    LogMel(normalise="none", segment_frames=20, shift_frames=33),
    Waveform(segment_seconds=0.5, shift_seconds=0.2),
    BlockMax(pyramid=True, blocks=3),
    BlockAverage(magnitude=False, deltas=False),
    Speaker(by="each"),
    LinearSvm(scale="none", class_weight="balanced", decision="ovo"),
]


@parametrize_with_checks([*BY_DEFAULTS, *VARIED, OTHERWISE[FromRun], OTHERWISE[FoldsFile]])
def test_a_built_in_component_keeps_the_rules(check):
    check()


@pytest.mark.slow
@parametrize_with_checks([OTHERWISE[AlexNet], OTHERWISE[Torchvision]])
def test_a_built_in_network_keeps_the_rules(check):
    check()


@pytest.mark.skipif(not importlib.util.find_spec("opensmile"), reason="openSMILE is not installed")
@parametrize_with_checks([OpenSmile()])
def test_opensmile_keeps_the_rules(check):
    check()


@parametrize_with_checks([ROOT / "plugins" / "quantiles.py", ROOT / "plugins" / "short_time.py"])
def test_a_shipped_plugin_keeps_the_rules(check):
    check()


@pytest.mark.slow
@parametrize_with_checks([ROOT / "plugins" / "random_forest.py"])
def test_a_shipped_forest_keeps_the_rules(check):
    check()


def passed(thing, data=None):
    """Run every check of something and return the names of those that ran, by what they were asked of."""
    found = {}
    for check in checks_of(thing, data):
        try:
            check()
        except SkipTest:
            continue
        found.setdefault(check.subject, []).append(check.name)
    return found


def example(hook):
    """Return the complete plugin in a hook's documentation."""
    documentation = inspect.getdoc(getattr(hooks, hook)) or ""
    _, found, code = documentation.partition(".. code-block:: python\n")
    assert found, f"{hook} shows no example"
    return textwrap.dedent(code)


@pytest.mark.parametrize("hook", CONTRACTS)
def test_the_example_of_every_hook_keeps_the_rules(hook, tmp_path):
    assert inspect.getdoc(getattr(hooks, hook)).splitlines()[0].endswith(".")
    path = tmp_path / f"{hook}_example.py"
    path.write_text(example(hook))
    kinds = {subject.split()[0] for subject in passed(path)}
    assert kinds == {"plugin", CONTRACTS[hook].kind}


def test_the_example_of_a_reader_reads_a_corpus(tmp_path):
    (tmp_path / "dyads.py").write_text(example("bserkit_corpora"))
    for name in ("anna_joy_1", "anna_fear_2", "ben_joy_1"):
        soundfile.write(tmp_path / f"{name}.wav", np.full((40, 2), 0.1), 16000)
    corpus = read_corpus(tmp_path, load_plugins([tmp_path / "dyads.py"]).make(CorpusReader, "dyads"))
    assert corpus.items == ["anna_fear_2.wav", "anna_joy_1.wav", "ben_joy_1.wav"]
    assert corpus.labels == ("fear", "joy")
    assert corpus.speakers == ("anna", "ben")


def test_the_installable_example_keeps_the_rules(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples" / "bserkit-vote" / "src")
    assert set(passed(importlib.import_module("bserkit_vote"))) == {"plugin bserkit_vote", "fusion vote"}


def test_a_reader_keeps_the_rules_with_a_corpus(corpus):
    (names,) = passed(Manifest(), corpus / "manifest.csv").values()
    assert "writes-nothing-into-a-corpus" in names


def test_every_kind_of_a_hook_has_rules_of_its_own():
    assert {kind.contract for kind in KINDS} == set(CONTRACTS.values())


@pytest.mark.parametrize("component", BY_DEFAULTS, ids=lambda one: f"{one.kind}-{one.name}")
def test_every_built_in_parameter_is_described(component):
    for name, _, type_, description in component.describe_parameters():
        assert description, name
        assert type_, name


def test_testing_imports_no_pytest_and_nothing_heavy():
    script = "import sys, bserkit.testing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {"pytest", *HEAVY}.isdisjoint(done.stdout.split())
