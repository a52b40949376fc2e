"""bserkit: binaural speech emotion recognition, from stereo corpora to tracked, honest experiments.

The names below are what a plugin needs. The folders read in the data's order: ``corpora``, ``features``, ``learning``,
``evaluation``, ``reporting``, ``plugins``, ``experiments``, ``cli``; below them ``tracking`` and single modules that
all use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bserkit.component import Component
from bserkit.corpora.reading import CorpusReader, CorpusTable, Skipped, Utterance, audio_files, audio_names, distinct
from bserkit.corpora.speakers import one_spelling, same_name, speaker_groups, stratified_groups, unknown_speakers
from bserkit.corpora.table_file import read_cells, read_table
from bserkit.corpora.walk import absence, walk
from bserkit.errors import BserkitError, UsageError, nearest
from bserkit.evaluation.metrics import measure
from bserkit.features.backbones import Backbone
from bserkit.features.channels import ChannelTransform
from bserkit.features.frontends import Frontend, Segments
from bserkit.features.learned import ChannelView
from bserkit.features.pooling import FittedPooler, LearningPooler, Pooler
from bserkit.identity.content import file_digest
from bserkit.learning.classifiers import (
    Classifier,
    chosen,
    class_scores,
    fit_classifier,
    fit_joined,
    joined,
    search_notes,
)
from bserkit.learning.fusion import FittedFuser, Fuser, OracleFusion, Trial
from bserkit.learning.normalising import FittedNormaliser, Normaliser
from bserkit.learning.views import Views
from bserkit.plugins.hooks import hookimpl

if TYPE_CHECKING:
    from bserkit.api import audit, compare, extract, load_model, load_run, run, sweep

__all__ = [
    "Backbone",
    "BserkitError",
    "ChannelTransform",
    "ChannelView",
    "Classifier",
    "Component",
    "CorpusReader",
    "CorpusTable",
    "FittedFuser",
    "FittedNormaliser",
    "FittedPooler",
    "Frontend",
    "Fuser",
    "LearningPooler",
    "Normaliser",
    "OracleFusion",
    "Pooler",
    "Segments",
    "Skipped",
    "Trial",
    "UsageError",
    "Utterance",
    "Views",
    "absence",
    "audio_files",
    "audio_names",
    "audit",
    "chosen",
    "class_scores",
    "compare",
    "distinct",
    "extract",
    "file_digest",
    "fit_classifier",
    "fit_joined",
    "hookimpl",
    "joined",
    "load_model",
    "load_run",
    "measure",
    "nearest",
    "one_spelling",
    "read_cells",
    "read_table",
    "run",
    "same_name",
    "search_notes",
    "speaker_groups",
    "stratified_groups",
    "sweep",
    "unknown_speakers",
    "walk",
]


#: Functions for notebooks and programs, which import what takes a second: only once they are asked for.
_API = frozenset({"audit", "compare", "extract", "load_model", "load_run", "run", "sweep"})


def __getattr__(name: str) -> Any:
    """Return what is looked up only when it is asked for, so that importing stays instant."""
    if name == "__version__":
        from importlib.metadata import version

        return version("bserkit")
    if name in _API:
        return getattr(import_module("bserkit.api"), name)
    raise AttributeError(f"module 'bserkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what there is, for completion in a notebook."""
    return sorted([*globals(), *_API])
