"""What a notebook or a program calls: the commands of the command line as functions that return their results.

Nothing is printed. Notices and stages go to the log ``bserkit``; ``logging.basicConfig(level=logging.INFO)`` shows it.
Settings are spelt as on the command line and in configuration files: ``bserkit.run("corpora/emovo", mono="duplicate",
pooler="block-max:blocks=3")``. What names a component may also be one, of a class written in the notebook itself:
``pooler=Mine(blocks=3)``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

import numpy as np

from bserkit.component import Component
from bserkit.corpora.audit.audit import Audit, audit_data
from bserkit.corpora.checking import read_microphones
from bserkit.corpora.protocols import warnings_of
from bserkit.evaluation.comparison import RunPart
from bserkit.evaluation.results import NEEDED, WANTED, Results, read_results
from bserkit.evaluation.statistics import RESAMPLES, SEED, Interval
from bserkit.experiments.compare import Compared, compare_runs
from bserkit.experiments.export import check_writable, export
from bserkit.experiments.grid import AXES, combinations
from bserkit.experiments.opening import given_plugins, given_store, given_values
from bserkit.experiments.run import execute, plan
from bserkit.experiments.settings import reader_for, resolve
from bserkit.experiments.sweep import Swept
from bserkit.experiments.sweep import execute as execute_sweep
from bserkit.experiments.sweep import plan as plan_sweep
from bserkit.learning import model_files
from bserkit.progress import Logged
from bserkit.rows import plain
from bserkit.schema import FUSION, MEASURES, measure_of
from bserkit.tracking.finished import KeptRun, find_run, read_artifacts
from bserkit.workspace import Workspace

if TYPE_CHECKING:
    from pandas import DataFrame

    from bserkit.corpora.reading import CorpusReader
    from bserkit.evaluation.results import Predictions
    from bserkit.features.backbones import Backbone
    from bserkit.features.channels import ChannelTransform
    from bserkit.features.frontends import Frontend
    from bserkit.features.pooling import Pooler
    from bserkit.learning.classifiers import Classifier
    from bserkit.learning.fusion import Fuser
    from bserkit.learning.model import FittedModel
    from bserkit.learning.normalising import Normaliser
    from bserkit.plugins.registry import Plugins


class Given(TypedDict, total=False):
    """Settings of a run; ``bserkit run --help`` and ``bserkit components`` explain them."""

    corpus: str | CorpusReader
    mono: str
    microphones: str
    channels: str | ChannelTransform | Sequence[str | ChannelTransform]
    frontend: str | Frontend
    backbone: str | Backbone
    finetune: str
    pooler: str | Pooler
    normaliser: str | Normaliser
    classifier: str | Classifier
    fusion: str | Fuser
    protocol: str
    allow_speaker_overlap: bool
    device: str
    precision: str
    seed: int
    experiment: str
    run_name: str
    config: str | Path
    cache: str | Path
    plugins_dir: str
    no_plugins: bool


class Grid(TypedDict, total=False):
    """Settings of a sweep: as those of a run, but what names a component may be a list, each of which is tried."""

    corpus: str | CorpusReader
    mono: str
    microphones: str
    channels: str | ChannelTransform | Sequence[str | ChannelTransform]
    frontend: str | Frontend | Sequence[str | Frontend]
    backbone: str | Backbone | Sequence[str | Backbone]
    finetune: str | Sequence[str]
    pooler: str | Pooler | Sequence[str | Pooler]
    normaliser: str | Normaliser | Sequence[str | Normaliser]
    classifier: str | Classifier | Sequence[str | Classifier]
    fusion: str | Fuser | Sequence[str | Fuser]
    protocol: str
    allow_speaker_overlap: bool
    device: str
    precision: str
    seed: int
    experiment: str
    config: str | Path
    cache: str | Path
    plugins_dir: str
    no_plugins: bool


@dataclass(frozen=True)
class Run:
    """A finished run. What it logged is read from MLflow when it is asked for."""

    kept: KeptRun

    @property
    def run_id(self) -> str:
        """Its id in MLflow."""
        return self.kept.run_id

    @property
    def metrics(self) -> Mapping[str, float]:
        """Every number over all folds, by its name in MLflow, such as ``uar``, ``left/uar`` or ``uar_low``."""
        return self.kept.metrics

    @property
    def parameters(self) -> Mapping[str, str]:
        """Every parameter by its name in MLflow, such as ``pooler`` and ``pooler.blocks``."""
        return self.kept.parameters

    @property
    def tags(self) -> Mapping[str, str]:
        """Versions, sources of plugins, and what a reader of the numbers must know."""
        return self.kept.tags

    @cached_property
    def predictions(self) -> DataFrame:
        """One row an utterance and part: what is true, what was predicted, and every score."""
        import pandas

        parts = [pandas.DataFrame(one.columns(part)) for part, one in self._results.predictions.items()]
        return pandas.concat(parts, ignore_index=True)

    @cached_property
    def results(self) -> DataFrame:
        """One row a part and fold, and one a part over all folds."""
        import pandas

        return pandas.DataFrame(map(plain, self._results.parts))

    def confusion(self, part: str = FUSION) -> DataFrame:
        """Return ``(class, class)`` counts of a channel, a transform or the fusion: rows true, columns predicted."""
        import pandas

        one = self._part(part)
        return pandas.DataFrame(
            one.measures().confusion,
            pandas.Index(one.classes, name="true"),
            pandas.Index(one.classes, name="predicted"),
        )

    def intervals(self, part: str = FUSION) -> dict[str, Interval]:
        """Return accuracy, UAR and macro F1 of a part with their 95% intervals over speakers."""
        return self._part(part).intervals()

    def artifact(self, name: str) -> bytes:
        """Return a file that the run logged.

        Raises:
            UsageError: the run has no such file.
        """
        return read_artifacts(self.kept, [name])[name]

    @cached_property
    def _results(self) -> Results:
        return read_results(read_artifacts(self.kept, NEEDED, WANTED), self.run_id)

    def _part(self, part: str) -> Predictions:
        return RunPart.of(self.kept, self._results, part).predictions

    def _repr_html_(self) -> str:
        import pandas

        parts = self._results.predictions
        shown = {part: [self.metrics.get(measure_of(name, part), np.nan) for name in MEASURES] for part in parts}
        table = pandas.DataFrame.from_dict(shown, orient="index", columns=list(MEASURES.values()))
        told = [f"{self.kept.name} ({self.run_id})", *warnings_of(self.tags)]
        title = pandas.Series(told).to_frame().to_html(index=False, header=False)
        return f"{title}{table.to_html(float_format='%.3f')}"


def run(data: str | Path | None = None, **settings: Unpack[Given]) -> Run:
    """Learn from a corpus of stereo speech and evaluate on unseen speakers, as ``bserkit run`` does.

    Args:
        data: a folder or a csv manifest; None takes the small synthetic corpus of the demonstration.

    Raises:
        UsageError: something given is not known, or does not fit the data.
        BserkitError: something that the run needs cannot be had.
    """
    values, plugins = _given({"data": data, **settings})
    workspace = _workspace(values)
    result = execute(plan(resolve(values, plugins), plugins, workspace), workspace)
    return load_run(result.run_id)


def load_run(reference: str, experiment: str = "bserkit") -> Run:
    """Return a finished run by its id, the first characters of it, or its name in an experiment.

    Raises:
        UsageError: there is no such run, or it is not finished.
    """
    return Run(find_run(reference, experiment))


def load_model(folder: str | Path, plugins_dir: str | None = None, no_plugins: bool = False) -> FittedModel:
    """Return the fitted model that a folder holds.

    Raises:
        BserkitError: there is no model, it is damaged or of another format, or it cannot be restored here.
        UsageError: no plugin brings its fuser or classifier.
    """
    return model_files.load_model(Path(folder), given_plugins(plugins_dir, outside=not no_plugins).make)


def sweep(
    data: str | Path | None = None, name: str | None = None, references: Sequence[str | Path] = (), **grid: Unpack[Grid]
) -> Swept:
    """Run every combination of several components, as ``bserkit sweep`` does.

    Args:
        name: of the sweep in MLflow.
        references: configuration files of runs to compare with.

    Raises:
        UsageError: something given is not known, or does not fit the data.
        BserkitError: something that every run needs cannot be had.
    """
    given: dict[str, Any] = {"data": data, **grid}
    axes = {axis: list(one) if isinstance(one := given.pop(axis, ()), list | tuple) else [one] for axis in AXES}
    axes = {axis: choices for axis, choices in axes.items() if choices}
    values, plugins = _given(given | axes)
    workspace, files = _workspace(values), [Path(one) for one in references]
    every = combinations(values, {axis: values.pop(axis) for axis in axes}, files, plugins)
    return execute_sweep(plan_sweep(every, plugins, workspace), name, workspace)


def compare(
    *runs: str | Run,
    experiment: str = "bserkit",
    best: int | None = None,
    part: str = FUSION,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Compared:
    """Compare finished runs on the same utterances, as ``bserkit compare`` does.

    Args:
        best: compares so many runs of the experiment that have the best UAR, instead of those named.

    Raises:
        UsageError: there are not two runs, or their utterances, labels or folds differ.
    """
    references = [one.run_id if isinstance(one, Run) else one for one in runs]
    return compare_runs(references, experiment, best, part, resamples, seed)


def audit(
    data: str | Path | None = None,
    corpus: str | None = None,
    microphones: str = "refuse",
    cache: str | Path | None = None,
    plugins_dir: str | None = None,
    no_plugins: bool = False,
) -> Audit:
    """Look for what could fool the numbers of a corpus, without data the demonstration's, as ``bserkit audit`` does.

    Raises:
        UsageError: the corpus cannot be read.
    """
    plugins = given_plugins(plugins_dir, outside=not no_plugins)
    root = Path(data) if data else None
    reader = reader_for(root, corpus, plugins)
    return audit_data(root, reader, read_microphones(microphones), _workspace({"cache": cache}))


def extract(data: str | Path, out: str | Path | None = None, **settings: Unpack[Given]) -> DataFrame:
    """Return the features of a corpus with their metadata, a row a segment or frame and channel.

    It is what ``bserkit extract`` writes. With ``pooler=...`` there is one row an utterance and channel.

    Args:
        out: a Parquet file that is written too.

    Raises:
        UsageError: something given is not known, or does not fit the data.
        BserkitError: features cannot be computed, or the file cannot be written.
    """
    import pandas

    values, plugins = _given({"data": data, **settings})
    pooled = "pooler" in settings
    chosen, workspace = resolve(values, plugins), _workspace(values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(out) if out else Path(folder) / "features.parquet"
        check_writable(path)
        export(path, chosen, chosen.pooler if pooled else None, workspace)
        return pandas.read_parquet(path)


def _given(given: Mapping[str, Any]) -> tuple[dict[str, Any], Plugins]:
    """Return values as ``given_values`` does, components among them as they are spelt, and plugins that know these."""
    values, plugins = given_values(given)

    def spelt(value: Any) -> Any:
        nonlocal plugins
        if isinstance(value, list | tuple):
            return [spelt(one) for one in value]
        if not isinstance(value, Component):
            return value
        plugins = plugins.knowing(type(value))
        return {"name": plugins.name_of(plugins.registered_of(value)), **value.parameters}

    return {key: spelt(value) for key, value in values.items()}, plugins


def _workspace(values: Mapping[str, Any]) -> Workspace:
    return Workspace(given_store(values.get("cache")), Logged())
