"""Kept features become views: each utterance's segments are pooled to one vector a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from bserkit.errors import BserkitError
from bserkit.features.contracts import asked, pooled
from bserkit.features.extraction import from_features
from bserkit.features.learned import ChannelView, Learned
from bserkit.features.pooling import FittedPooler, LearningPooler, Pooler
from bserkit.learning.views import Views
from bserkit.progress import Unstaged

if TYPE_CHECKING:
    from bserkit.corpora.checking import Checked
    from bserkit.features.extraction import Extraction
    from bserkit.workspace import Workspace

#: What a pooler learned in a fold.
LearnedPooler: TypeAlias = Learned[LearningPooler, FittedPooler]


def pool_features(
    checked: Checked, extraction: Extraction, pooler: Pooler | LearnedPooler, workspace: Workspace
) -> Views:
    """Read the store's segment features and pool them to one vector an utterance and channel.

    Raises:
        BserkitError: features vanished from the store meanwhile, or the pooler's output has no fixed length.
    """
    utterances, items = checked.corpus.utterances, checked.corpus.items
    learned = pooler if isinstance(pooler, Learned) else None
    recipe = pooler.recipe if isinstance(pooler, Learned) else pooler
    fitted = learned.by_channel if learned else {}

    def pool(index: int, channel: str, segments: np.ndarray, _: np.ndarray) -> np.ndarray:
        where = f"channel {channel} of {items[index]}"
        return pooled(recipe, segments.astype(np.float32, copy=False), where, fitted.get(channel))

    vectors = from_features(utterances, checked.digests, extraction, workspace, pool, "Pooling")
    features = {}
    for channel, of_channel in zip(extraction.transform_of(), zip(*vectors, strict=True), strict=True):
        first, other = (
            of_channel[0],
            next((row for row, one in enumerate(of_channel) if len(one) != len(of_channel[0])), 0),
        )
        if other:
            raise BserkitError(
                f"pooler {recipe.name} made {len(first)} numbers of channel {channel} of {items[0]} and "
                f"{len(of_channel[other])} of {items[other]}; expected one length whatever the number of segments."
            )
        features[channel] = np.stack(of_channel)
    return Views(
        features=features,
        transforms=extraction.transform_of(),
        classes=checked.corpus.labels,
        labels=np.array([utterance.label for utterance in utterances]),
        speakers=np.array([utterance.speaker for utterance in utterances]),
        sessions=np.array([utterance.session for utterance in utterances]),
        pooler=learned,
    )


def pool_by_channel(
    checked: Checked,
    extractions: Sequence[Extraction],
    pooler: Pooler | LearnedPooler,
    workspace: Workspace,
) -> Views:
    """Pool features as ``pool_features`` does where each channel has a network of its own."""
    single = [pool_features(checked, extraction, pooler, workspace) for extraction in extractions]
    return replace(
        single[0],
        features={channel: values for views in single for channel, values in views.features.items()},
        transforms={channel: transform for views in single for channel, transform in views.transforms.items()},
    )


def fit_pooler(
    checked: Checked, extractions: Sequence[Extraction], pooler: LearningPooler, train: np.ndarray, workspace: Workspace
) -> LearnedPooler:
    """Return what a pooler learns from the kept features of the training utterances, by index, of each channel.

    Raises:
        BserkitError: features vanished from the store meanwhile, or the pooler learned nothing.
    """
    utterances = [checked.corpus.utterances[index] for index in train]
    labels, speakers, sessions = (
        np.array([getattr(one, name) for one in utterances]) for name in ("label", "speaker", "session")
    )
    found: dict[str, FittedPooler] = {}
    for extraction in extractions:
        for channel, kept_as in extraction.recipes().items():
            kept = _Kept(checked, extraction.of_channel(channel), kept_as, train, workspace)
            with asked(pooler, f"what it learns from channel {channel}"):
                found[channel] = pooler.fit(ChannelView(kept, labels, speakers, sessions))
            if not isinstance(found[channel], FittedPooler):
                raise BserkitError(
                    f"pooler {pooler.name} learned {type(found[channel]).__name__} from channel {channel}; expected a "
                    "FittedPooler."
                )
    return Learned(pooler, found)


@dataclass(frozen=True)
class _Kept(Sequence[np.ndarray]):
    """The kept ``(segment, feature)`` of one channel of some utterances, each read when it is asked for."""

    checked: Checked
    extraction: Extraction
    recipe: Mapping[str, Any]
    rows: np.ndarray
    workspace: Workspace

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, which: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, which: slice) -> _Kept: ...
    def __getitem__(self, which: int | slice) -> np.ndarray | _Kept:
        if isinstance(which, slice):
            return replace(self, rows=self.rows[which])
        index = int(self.rows[which])
        utterance, digest = self.checked.corpus.utterances[index], self.checked.digests[index]
        if kept := self.workspace.store.read_features(self.recipe, digest):
            values = kept[0]
        else:
            # It vanished or was damaged meanwhile; it is computed anew.
            silent = self.workspace.telling(Unstaged(self.workspace.reporter))
            ((values,),) = from_features([utterance], [digest], self.extraction, silent, lambda *of: of[2])
        return values.astype(np.float32, copy=False)
