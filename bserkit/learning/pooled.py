"""Kept features become views: each utterance's segments are pooled to one vector a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bserkit.errors import BserkitError
from bserkit.features.contracts import pooled
from bserkit.features.extraction import from_features
from bserkit.learning.views import Views

if TYPE_CHECKING:
    from bserkit.corpora.checking import Checked
    from bserkit.features.extraction import Extraction
    from bserkit.features.pooling import Pooler
    from bserkit.workspace import Workspace


def pool_features(checked: Checked, extraction: Extraction, pooler: Pooler, workspace: Workspace) -> Views:
    """Read the store's segment features and pool them to one vector an utterance and channel.

    Raises:
        BserkitError: features vanished from the store meanwhile, or the pooler's output has no fixed length.
    """
    utterances, items = checked.corpus.utterances, checked.corpus.items

    def pool(index: int, channel: str, segments: np.ndarray, _: np.ndarray) -> np.ndarray:
        return pooled(pooler, segments.astype(np.float32, copy=False), f"channel {channel} of {items[index]}")

    vectors = from_features(utterances, checked.digests, extraction, workspace, pool, "Pooling")
    features = {}
    for channel, of_channel in zip(extraction.transform_of(), zip(*vectors, strict=True), strict=True):
        first, other = (
            of_channel[0],
            next((row for row, one in enumerate(of_channel) if len(one) != len(of_channel[0])), 0),
        )
        if other:
            raise BserkitError(
                f"pooler {pooler.name} made {len(first)} numbers of channel {channel} of {items[0]} and "
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
    )


def pool_by_channel(
    checked: Checked,
    extractions: Sequence[Extraction],
    pooler: Pooler,
    workspace: Workspace,
) -> Views:
    """Pool features as ``pool_features`` does where each channel has a network of its own."""
    single = [pool_features(checked, extraction, pooler, workspace) for extraction in extractions]
    return replace(
        single[0],
        features={channel: values for views in single for channel, values in views.features.items()},
        transforms={channel: transform for views in single for channel, transform in views.transforms.items()},
    )
