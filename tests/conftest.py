"""What tests of several folders share: real speech where it is there, a small corpus, the command line, its record."""

from __future__ import annotations

import os

# Before anything that starts threads is imported: where tests are spread over processes, each has one core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import functools
import io
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import traceback
import warnings
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import numpy as np
import pytest
import soundfile

from bserkit.testing import sample_corpus
from bserkit.testing.samples import SAMPLE_RATE

# How long an example takes says nothing on a busy machine; the examples are the same at each run.
hypothesis.settings.register_profile("bserkit", deadline=None, derandomize=True)
hypothesis.settings.load_profile("bserkit")

# A shell that starts work in the background has it ignore interrupts, and what that starts inherits it; commands that
# are to be interrupted must not.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: Backbone ``band-means``: no network, so a run takes seconds. With BAND_MEANS_PAUSE it waits so many seconds after
#: every batch but the first of its process, so that a test can break the work off half-way.
BAND_MEANS = '''
import itertools
import os
import time

import bserkit.testing
from bserkit import hookimpl


class BandMeans(bserkit.testing.BandMeans):
    """No network at all: the mean of each mel band of each plane."""

    def load(self, device):
        means = super().load(device)
        if pause := float(os.environ.get("BAND_MEANS_PAUSE", "0")):
            batches = itertools.count()
            means.register_forward_pre_hook(lambda *_: time.sleep(pause) if next(batches) else None)
        return means


@hookimpl
def bserkit_backbones():
    return [BandMeans]
'''

#: Backbone ``small``: a network that learns in a moment. With SMALL_PAUSE it waits so many seconds before each step, so
#: that a test can break the learning off.
SMALL = '''
import os
import time

import torch

from bserkit import Backbone, hookimpl


class Small(Backbone):
    """A linear layer on the mean of each quarter of the bands."""

    name = "small"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 8

    def load(self, device):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = [torch.nn.AdaptiveAvgPool2d((16, 2)), torch.nn.Flatten(), torch.nn.Linear(96, 8), torch.nn.ReLU()]
            network = torch.nn.Sequential(*layers, torch.nn.Dropout(0.1)).to(device).eval()
        if pause := float(os.environ.get("SMALL_PAUSE", "0")):
            network.register_forward_pre_hook(lambda *_: time.sleep(pause))
        return network


@hookimpl
def bserkit_backbones():
    return [Small]
'''
#: Pooler ``unlucky``: fails half-way through whatever uses it.
UNLUCKY = '''
from bserkit import Pooler, hookimpl


class Unlucky(Pooler):
    """Never pools anything."""

    name = "unlucky"

    def pool(self, segments):
        raise ValueError("no such luck")


@hookimpl
def bserkit_poolers():
    return [Unlucky]
'''


def pytest_collection_modifyitems(items):
    """Mark as slow what starts real processes, a browser or the demonstration."""
    for item in items:
        if {"start_cli", "browser", "demo"} & set(item.fixturenames):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def shared():
    """The folder of real corpora and weights; without it, tests of real speech are skipped."""
    folder = (Path(__file__).parents[1] / os.environ.get("BSERKIT_SHARED", "../shared")).resolve()
    if not (folder / "corpora").is_dir() or not (folder / "weights").is_dir():
        pytest.skip(f"there is no real speech: {folder} has no corpora and weights (BSERKIT_SHARED names the folder)")
    return folder


@pytest.fixture(scope="session")
def plugins_dir(tmp_path_factory):
    """A plugins folder with the backbone ``band-means`` and the pooler ``unlucky``."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "band_means.py").write_text(BAND_MEANS)
    (folder / "unlucky.py").write_text(UNLUCKY)
    return folder


@pytest.fixture(scope="session")
def fast(plugins_dir):
    """Options that choose the backbone without a network."""
    return ("--plugins-dir", str(plugins_dir), "--backbone", "band-means")


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """Options that choose a backbone that can be fine-tuned in a moment."""
    folder = tmp_path_factory.mktemp("small-plugins")
    (folder / "small.py").write_text(SMALL)
    return ("--plugins-dir", str(folder), "--backbone", "small")


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory):
    """The feature store that tests share, so that features are computed once."""
    return tmp_path_factory.mktemp("cache")


def _environment(cache, env, without=()):
    """The environment of a command: nothing of the caller's set-up reaches it but HOME."""
    own = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("BSERKIT_", "MLFLOW_")) and key not in {"FORCE_COLOR", "TORCH_HOME", *without}
    }
    return own | {"BSERKIT_CACHE": str(cache)} | (env or {})


@pytest.fixture(scope="session")
def start_cli(feature_cache):
    """Start ``bserkit ARGUMENTS`` in a process of its own: for kills, interrupts and several at once."""

    def start(*arguments, cwd, cache=None, env=None):
        # As many threads as a user's command has, whatever the tests' own processes are held to.
        own = _environment(cache or feature_cache, env, {"OMP_NUM_THREADS"}) | {"PYTHONFAULTHANDLER": "1"}
        command = [str(Path(sys.executable).with_name("bserkit")), *map(str, arguments)]
        # Into files rather than pipes: what a process said can be read when it ends, whoever else still holds its ends.
        said, warned = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        process = subprocess.Popen(command, cwd=cwd, env=own, stdin=subprocess.DEVNULL, stdout=said, stderr=warned)
        process.said, process.warned = said, warned
        return process

    return start


@pytest.fixture(scope="session")
def finish_cli():
    """Wait for a started command and return its exit code and all it said."""

    def finish(process):
        try:
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            # One that hangs says where: the fault handler writes the stack of every thread.
            process.send_signal(signal.SIGABRT)
            process.wait(timeout=30)
            process.warned.seek(0)
            pytest.fail(f"{process.args} did not end: {process.warned.read()}")
        finally:
            process.kill()
            process.wait()
            texts = []
            for stream in (process.said, process.warned):
                stream.seek(0)
                texts.append(stream.read())
                stream.close()
        return subprocess.CompletedProcess(process.args, process.returncode, *texts)

    return finish


@pytest.fixture(scope="session")
def run_cli(feature_cache):
    """Run ``bserkit ARGUMENTS`` in the folder ``cwd`` and return its exit code and all it said.

    In this process, which spares the seconds that a new one takes to import everything.
    """

    def run(*arguments, cwd, cache=None, env=None):
        before = dict(os.environ), signal.getsignal(signal.SIGTERM), sys.unraisablehook
        said, warned = io.StringIO(), io.StringIO()
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(cwd))
            stack.enter_context(contextlib.redirect_stdout(said))
            stack.enter_context(contextlib.redirect_stderr(warned))
            stack.enter_context(warnings.catch_warnings())
            _as_python_warns()
            os.environ.clear()
            os.environ.update(_environment(cache or feature_cache, env))
            try:
                code = _entered([str(one) for one in arguments])
            finally:
                os.environ.clear()
                os.environ.update(before[0])
                signal.signal(signal.SIGTERM, before[1])
                sys.unraisablehook = before[2]
        return subprocess.CompletedProcess(["bserkit", *arguments], code, said.getvalue(), warned.getvalue())

    return run


def _entered(arguments):
    """Enter the command line as its script does, and return the exit code that the process would have."""
    from bserkit.cli import main

    try:
        main(arguments, prog_name="bserkit")
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _as_python_warns():
    """Filter warnings as a new process does, rather than as tests do."""
    warnings.resetwarnings()
    for category in (ResourceWarning, ImportWarning, PendingDeprecationWarning, DeprecationWarning):
        warnings.simplefilter("ignore", category)


@pytest.fixture
def cli(run_cli, tmp_path):
    """Run ``bserkit ARGUMENTS`` in the test's own empty folder."""
    return functools.partial(run_cli, cwd=tmp_path)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """The folder of a stereo corpus: 36 files, four speakers and three emotions that can be told apart, if not well."""
    return sample_corpus(tmp_path_factory.mktemp("corpus")).parent


@pytest.fixture
def spoken(tmp_path, plugins_dir):
    """Nine utterances of three speakers in a store: what a fold learns of two of them, and may it not of the third."""
    return Spoken(tmp_path, plugins_dir)


class Spoken:
    """Few utterances whose features are kept, evaluated by the real code in one fold, which tests the last speaker."""

    def __init__(self, folder, plugins_dir):
        from bserkit import Utterance
        from bserkit.corpora.protocols import Fold
        from bserkit.features.extraction import Extraction
        from bserkit.plugins.builtin.channels import LeftRight
        from bserkit.plugins.builtin.frontends import LogMel
        from bserkit.plugins.registry import load_plugins
        from bserkit.store import FeatureStore
        from bserkit.workspace import Workspace

        backbone = load_plugins([plugins_dir / "band_means.py"]).find("backbone", "band-means").component()
        self.extraction = Extraction((LeftRight(),), LogMel(), backbone, "cpu", "fp32")
        self.workspace = Workspace(FeatureStore(folder / "store"))
        self.fold = Fold("last", np.arange(6), np.arange(6, 9))
        self.utterances = [
            Utterance(folder / f"{index}.wav", "ab"[index % 3 % 2], f"s{index // 3}") for index in range(9)
        ]
        for index in range(9):
            self.record(index)

    def record(self, index, seed=0):
        generator = np.random.default_rng((seed, index))
        samples = 0.1 * generator.normal(size=(16000 + 4000 * (index % 3), 2))
        soundfile.write(self.utterances[index].path, samples, SAMPLE_RATE)

    def relabel(self, index):
        one = self.utterances[index]
        self.utterances[index] = replace(one, label="ba"["ab".index(one.label)])

    @property
    def checked(self):
        """The utterances as they are, their features extracted."""
        from bserkit.corpora.audio import content_digest
        from bserkit.corpora.checking import Checked
        from bserkit.corpora.reading import Corpus
        from bserkit.features.extraction import extract, pending

        digests = tuple(content_digest(one) for one in self.utterances)
        extract(pending(self.utterances, digests, self.extraction, self.workspace.store), self.workspace)
        return Checked(Corpus(self.utterances[0].path.parent, None, tuple(self.utterances), ()), digests, (), ())

    def source(self, pooler):
        from bserkit.experiments.features import PooledByFold

        return PooledByFold(self.checked, [[self.extraction]], [self.fold], pooler, self.workspace)

    def learned(self, pooler, normaliser=None):
        """Return the evaluation of the fold, and its model."""
        from bserkit.evaluation.cross_validation import evaluate
        from bserkit.plugins.builtin.classifiers import LinearSvm
        from bserkit.plugins.builtin.fusers import Mean
        from bserkit.progress import Silent

        models = {}
        chosen = Mean(), LinearSvm(), Silent(), models.__setitem__, normaliser
        return evaluate(self.source(pooler), [self.fold], *chosen), models[0]


def _write_manifest(path, rows, columns=("path", "label", "speaker")):
    """Write a csv manifest and return its path."""
    path.write_text("\n".join(",".join(row) for row in [columns, *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def film():
    """Write a video with these 16-bit ``(time, channel)`` samples for its sound and return its path."""
    return _film


def _film(path, samples, codec="pcm_s16le", rate=SAMPLE_RATE, pictures=True, format=None):
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[samples.shape[1]]
    with av.open(path, "w", format=format) as container:
        if pictures:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        sound = container.add_stream(codec, rate=rate, layout=layout)
        if pictures:
            for number in range(len(samples) * 25 // rate):
                picture = av.VideoFrame.from_ndarray(np.full((32, 32, 3), number, np.uint8))
                picture.pts = number
                container.mux(video.encode(picture))
            container.mux(video.encode(None))
        for start in range(0, len(samples), 1000):
            block = np.ascontiguousarray(samples[start : start + 1000]).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="session")
def rows(corpus):
    """The lines of the corpus's manifest: path, label, speaker."""
    lines = (corpus / "manifest.csv").read_text().splitlines()[1:]
    return [tuple(line.split(",")) for line in lines]


@pytest.fixture(scope="session")
def manifest(corpus):
    """Write a manifest with rows of one's own beside the corpus's and return its path."""
    return lambda name, rows, **settings: _write_manifest(corpus / name, rows, **settings)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A working folder whose ``mlruns`` tests share; it takes seconds to make one."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def read_run():
    """Read what MLflow's database keeps of the run that a command reports, or of the run of that id."""

    def read(folder, run):
        if not isinstance(run, str):
            run = re.search(r"(?:^Run |run=)([0-9a-f]{32})", run.stdout, re.MULTILINE)[1]
        with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:

            def ask(query):
                return database.execute(query, (run,)).fetchall()

            ((status, name, uri, experiment),) = ask(
                "SELECT status, runs.name, artifact_uri, experiments.name FROM runs JOIN experiments "
                "ON runs.experiment_id = experiments.experiment_id WHERE run_uuid = ?"
            )
            params = ask("SELECT key, value FROM params WHERE run_uuid = ?")
            tags = ask("SELECT key, value FROM tags WHERE run_uuid = ?")
            metrics = ask("SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step")
            datasets = ask(
                "SELECT name, digest, dataset_source FROM datasets JOIN inputs ON source_id = dataset_uuid "
                "WHERE destination_id = ?"
            )
        steps = {}
        for key, step, value in metrics:
            steps.setdefault(key, []).append((step, value))
        return SimpleNamespace(
            id=run,
            status=status,
            name=name,
            experiment=experiment,
            params=params,
            tags=dict(tags),
            steps=steps,
            metrics={key: values[0][1] for key, values in steps.items() if [step for step, _ in values] == [0]},
            datasets=datasets,
            artifacts=Path(uri.removeprefix("file://")),
        )

    return read


@pytest.fixture(scope="session")
def runs_of(read_run):
    """Read every run of an experiment, the oldest first."""

    def read(folder, experiment):
        with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
            found = database.execute(
                "SELECT run_uuid FROM runs JOIN experiments ON runs.experiment_id = experiments.experiment_id "
                "WHERE experiments.name = ? ORDER BY start_time",
                (experiment,),
            ).fetchall()
        return [read_run(folder, run) for (run,) in found]

    return read


@pytest.fixture(scope="session")
def first(run_cli, corpus, fast, lab):
    """The first run on the corpus, with every other default: the run that others are compared with."""
    return run_cli("run", corpus / "manifest.csv", *fast, cwd=lab)


@pytest.fixture(scope="session")
def first_run(read_run, first, lab):
    """What MLflow keeps of the first run."""
    assert first.returncode == 0, first.stderr
    return read_run(lab, first)
