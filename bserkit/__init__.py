"""bserkit: binaural speech emotion recognition, from stereo corpora to tracked, honest experiments.

The names below are what a plugin needs. The package reads in the data's order: ``decoding``, ``corpus``, ``audio``,
``channels``, ``frontend``, ``backbone``, ``extraction``, ``finetune``, ``pooling``, ``classifier``, ``fusion``,
``protocol``, ``metrics``, ``experiment``, ``tracking``.
"""

from bserkit.backbone import Backbone
from bserkit.channels import ChannelTransform
from bserkit.classifier import Classifier, chosen, class_scores, fit_classifier, fit_joined, joined, search_notes
from bserkit.component import Component
from bserkit.corpus import CorpusReader, CorpusTable, Skipped, Utterance, audio_files
from bserkit.errors import BserkitError, UsageError
from bserkit.frontend import Frontend, Segments
from bserkit.fusion import FittedFuser, Fuser, OracleFusion, Trial, Views
from bserkit.hooks import hookimpl
from bserkit.pooling import Pooler
from bserkit.speakers import one_spelling, same_name, speaker_groups, stratified_groups, unknown_speakers

__all__ = [
    "Backbone",
    "BserkitError",
    "ChannelTransform",
    "Classifier",
    "Component",
    "CorpusReader",
    "CorpusTable",
    "FittedFuser",
    "Frontend",
    "Fuser",
    "OracleFusion",
    "Pooler",
    "Segments",
    "Skipped",
    "Trial",
    "UsageError",
    "Utterance",
    "Views",
    "audio_files",
    "chosen",
    "class_scores",
    "fit_classifier",
    "fit_joined",
    "hookimpl",
    "joined",
    "one_spelling",
    "same_name",
    "search_notes",
    "speaker_groups",
    "stratified_groups",
    "unknown_speakers",
]


def __getattr__(name: str) -> str:
    """Return ``__version__``, looked up only when it is asked for, so that importing stays instant."""
    if name == "__version__":
        from importlib.metadata import version

        return version("bserkit")
    raise AttributeError(f"module 'bserkit' has no attribute {name!r}")
