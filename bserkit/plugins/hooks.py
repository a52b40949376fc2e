"""The eight hooks of the pluggy project ``bserkit``: one a kind, each returning the component classes that it adds.

A plugin is a module with functions of these names, marked with ``@hookimpl``. A single file in a folder given with
``--plugins-dir`` is one, and may import modules that lie beside it; so is a package in that folder, which imports its
own by ``from . import``; so is an installed package with an entry point in the group ``bserkit``. The examples below
are complete files.

A component's name is its own among those of its kind. Where a plugin calls one like a built-in, the name means the
built-in; where two plugins do, neither. The plugin's name before it always tells which: ``bserkit-band/block-max`` is
that of the distribution ``bserkit-band``, ``bands/block-max`` that of the file ``bands.py``.

Features are kept under the name of what made them: a class's code, that of its bases and of every module that they
import within their package or beside their file, without comments and docstrings; the versions of its distribution and
of the libraries that it imports; and its parameters, with the content of each file that one of type ``Path`` names.
Other data that moves numbers belongs into ``weights_digest``.

What ``bserkit`` and ``bserkit.testing`` name in ``__all__``, and these hooks, are public: they change with a line in
the changelog only, from 1.0 on in a major version only, and what will go warns for a version before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from bserkit.identity.modules import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bserkit.corpora.reading import CorpusReader
    from bserkit.features.backbones import Backbone
    from bserkit.features.channels import ChannelTransform
    from bserkit.features.frontends import Frontend
    from bserkit.features.pooling import Pooler
    from bserkit.learning.classifiers import Classifier
    from bserkit.learning.fusion import Fuser
    from bserkit.learning.normalising import Normaliser

hookspec = pluggy.HookspecMarker(PROJECT)
#: Marks a function as a hook's implementation.
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def bserkit_corpora() -> Iterable[type[CorpusReader]]:
    """Add readers of corpora.

    Example:
        .. code-block:: python

            from pathlib import Path

            from bserkit import CorpusReader, CorpusTable, Utterance, audio_files, hookimpl


            class Dyads(CorpusReader):
                '''Files named SPEAKER_EMOTION_NUMBER.wav.'''

                name = "dyads"

                def read(self, root: Path) -> CorpusTable:
                    found = [(path, *path.stem.split("_")[:2]) for path in audio_files(root)]
                    return CorpusTable([Utterance(path, label, speaker) for path, speaker, label in found])


            @hookimpl
            def bserkit_corpora():
                return [Dyads]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_channels() -> Iterable[type[ChannelTransform]]:
    """Add channel transforms.

    Example:
        .. code-block:: python

            from bserkit import ChannelTransform, hookimpl


            class LeftOnly(ChannelTransform):
                '''The left microphone alone.'''

                name = "left-only"
                outputs = ("left",)

                def transform(self, stereo):
                    return stereo[:1]


            @hookimpl
            def bserkit_channels():
                return [LeftOnly]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_frontends() -> Iterable[type[Frontend]]:
    """Add frontends.

    One that sets ``makes = "waveform"`` makes ``(channel, segment, time)`` instead of planes: the whole utterance as
    one segment, or cut into several of equal length. One that cuts should offer ``stream`` too, so that an hour is not
    held in memory.

    Example:
        .. code-block:: python

            from bserkit import Frontend, Segments, hookimpl


            class Envelope(Frontend):
                '''The loudness contour of each second, painted as a picture.'''

                name = "envelope"

                def segments(self, waveform, sample_rate):
                    import torch

                    step = sample_rate // 64
                    missing = max(0, 64 * step - waveform.shape[1])
                    waveform = torch.nn.functional.pad(waveform, (0, missing))
                    # (channel, time) -> (channel, segment, 64 steps, step)
                    steps = waveform.unfold(1, 64 * step, 64 * step).unflatten(2, (64, step))
                    loudness = steps.abs().mean(dim=-1)[:, :, None, :, None]
                    starts = torch.arange(steps.shape[1]) * 64 * step / sample_rate
                    times = torch.stack([starts, starts + 64 * step / sample_rate], dim=1)
                    return Segments(loudness.expand(-1, -1, 3, -1, 64), times)


            @hookimpl
            def bserkit_frontends():
                return [Envelope]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_backbones() -> Iterable[type[Backbone]]:
    """Add backbones.

    One that sets ``reads = "waveform"`` and has a parameter ``sample_rate`` is given waveforms instead of planes, by
    the frontend ``waveform``: one at a time, ``(1, time)``, unless ``batching = "equal"`` says that its network takes
    several of one length, ``(segment, time)``, or ``batching = "masked"`` that it takes several that are filled up with
    zeros, and a mask of the same shape that is true where they are not.

    A network that makes several vectors of a segment, ``(segment, frame, feature)``, says by ``frame_bounds(length)``
    where in a segment of so many samples (or columns of planes) each of them lies; ``plugins/short_time.py`` does.
    Every vector is kept with its times, and a pooler is given all of them in time's order.

    Example:
        .. code-block:: python

            from bserkit import Backbone, hookimpl


            class BandMeans(Backbone):
                '''No network at all: the mean of each mel band of each plane.'''

                name = "band-means"
                bands: int = 64

                def weights_digest(self):
                    return "none"

                def feature_size(self):
                    return 3 * self.bands

                def load(self, device):
                    import torch

                    means = torch.nn.AdaptiveAvgPool2d((self.bands, 1))
                    return torch.nn.Sequential(means, torch.nn.Flatten()).to(device).eval()


            @hookimpl
            def bserkit_backbones():
                return [BandMeans]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_poolers() -> Iterable[type[Pooler]]:
    """Add poolers.

    One that learns from the training utterances of each fold is a ``LearningPooler``: its ``fit(training)`` is given
    one channel, of which ``training.values`` holds each utterance's ``(segment, feature)``, read when it is asked for,
    and returns a ``FittedPooler`` with ``pool(segments)`` and ``state()``, from which ``restore`` makes the same again.

    Example:
        .. code-block:: python

            import numpy as np
            from bserkit import Pooler, hookimpl


            class Quantiles(Pooler):
                '''The median of each feature and the spread between two quantiles.'''

                name = "quantiles"
                low: float = 0.1

                def pool(self, segments):
                    low, median, high = np.quantile(segments, [self.low, 0.5, 1 - self.low], axis=0)
                    return np.concatenate([median, high - low])


            @hookimpl
            def bserkit_poolers():
                return [Quantiles]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_normalisers() -> Iterable[type[Normaliser]]:
    """Add normalisers.

    What is fitted on the training utterances of a fold is saved with the fold's model by ``state`` and ``restore``.
    ``training`` and ``view`` have ``values``, ``labels`` (of the training utterances alone), ``speakers`` and
    ``sessions``. A normaliser by which an utterance depends on the other ones that are given with it must say so:
    ``uses_unlabelled()`` returns True, and every output says that unlabelled test recordings were used.

    Example:
        .. code-block:: python

            import numpy as np
            from bserkit import FittedNormaliser, Normaliser, hookimpl


            class Robust(Normaliser):
                '''Less the median, divided by the spread between two quantiles of the training utterances.'''

                name = "robust"
                low: float = 0.25

                def fit(self, training):
                    low, median, high = np.quantile(training.values, [self.low, 0.5, 1 - self.low], axis=0)
                    return FittedRobust(median, np.where(high > low, high - low, 1))

                def restore(self, state):
                    return FittedRobust(**state)


            class FittedRobust(FittedNormaliser):
                def __init__(self, median, spread):
                    self.median, self.spread = median, spread

                def apply(self, view):
                    return (view.values - self.median) / self.spread

                def state(self):
                    return {"median": self.median, "spread": self.spread}


            @hookimpl
            def bserkit_normalisers():
                return [Robust]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_classifiers() -> Iterable[type[Classifier]]:
    """Add classifiers.

    The training utterances' speakers reach every search inside a classifier, such as ``GridSearchCV`` in a
    ``Pipeline``. A ``cv`` that is a whole number, or None for five, becomes as many stratified folds of speakers;
    ``GroupKFold`` and its like get the speakers as groups; a splitter that takes no groups, such as ``KFold``, is
    refused. Where speakers are not known a whole number splits single utterances, and the run notes it. What a search
    chose (``best_params_``, or ``chosen_`` of an estimator of your own) is logged by fold.

    A fitted classifier of scikit-learn's own can be saved as it is; an estimator of your own needs ``state()``, which
    returns what scoring needs as numbers, text, arrays, lists and dictionaries, and ``restore(state)``, which is called
    on a fresh one and returns the fitted one again. Nothing is pickled.

    Example:
        .. code-block:: python

            from bserkit import Classifier, hookimpl


            class Nearest(Classifier):
                '''The votes of the nearest neighbours.'''

                name = "nearest"
                neighbours: int = 5

                def make(self):
                    from sklearn.neighbors import KNeighborsClassifier
                    from sklearn.pipeline import make_pipeline
                    from sklearn.preprocessing import StandardScaler

                    return make_pipeline(StandardScaler(), KNeighborsClassifier(self.neighbours))


            @hookimpl
            def bserkit_classifiers():
                return [Nearest]
    """
    raise AssertionError("a hook specification is never called")


@hookspec
def bserkit_fusers() -> Iterable[type[Fuser]]:
    """Add fusers.

    A fitted fuser's ``choices``, by part what ``bserkit.chosen`` says of its classifier, and its ``notes``, to which
    ``bserkit.search_notes`` of each classifier belong, are logged by fold. ``FittedFuser.state`` and ``Fuser.restore``,
    two methods of one line, are what a model of it is saved and loaded by; without them it is evaluated all the same.
    One that searches on inner groups of the training utterances takes ``views.parted(learn, score)`` of them, so that a
    normaliser is fitted on what the search learns from alone.

    Example:
        .. code-block:: python

            import numpy as np
            from bserkit import FittedFuser, Fuser, class_scores, fit_classifier, hookimpl


            class Loudest(Fuser):
                '''The decision of whichever channel is surest.'''

                name = "loudest"

                def fit(self, views, make_classifier):
                    return FittedLoudest(
                        {
                            channel: fit_classifier(make_classifier, features, views.labels, views.speakers)
                            for channel, features in views.features.items()
                        }
                    )

                def restore(self, state):
                    return FittedLoudest(state["estimators"])


            class FittedLoudest(FittedFuser):
                def __init__(self, estimators):
                    self.estimators = estimators

                def scores(self, views):
                    scored = [
                        class_scores(estimator, views.features[channel], views.classes)
                        for channel, estimator in self.estimators.items()
                    ]
                    return np.max(scored, axis=0)

                def state(self):
                    return {"estimators": self.estimators}


            @hookimpl
            def bserkit_fusers():
                return [Loudest]
    """
    raise AssertionError("a hook specification is never called")
