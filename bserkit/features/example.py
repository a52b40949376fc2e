"""An example: what one utterance looks like in each channel."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.component import identity
from bserkit.corpora.audio import read_stereo, unchanged
from bserkit.features.contracts import asked, transformed
from bserkit.identity.meaning import meaning
from bserkit.rows import column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bserkit.corpora.checking import Checked
    from bserkit.corpora.reading import Utterance
    from bserkit.features.extraction import Extraction
    from bserkit.store import FeatureStore

#: More than this is not shown of an utterance, seconds.
LONGEST_SECONDS = 10


@dataclass(frozen=True)
class Level:
    """How loud one utterance is in one channel: log power over all bands and frames."""

    utterance: str = column("By its name in the corpus.", older="item")
    label: str = column("Its emotion.")
    speaker: str = column("Who speaks.")
    seconds: float = column("How much of it is shown.")
    channel: str = column("The channel.")
    mean: float = column("The mean.")
    low: float = column("What 5% lie below.")
    high: float = column("What 95% lie below.")


@dataclass(frozen=True)
class Example:
    """One utterance by its spectrograms.

    Attributes:
        seconds: how much of it is shown.
        channels: ``(mel, frame)`` by channel, as the frontend makes it before segments are cut and normalised.
    """

    utterance: str
    label: str
    speaker: str
    seconds: float
    channels: Mapping[str, np.ndarray]

    def levels(self) -> list[Level]:
        """Return how loud it is in each channel."""
        return [
            Level(
                utterance=self.utterance,
                label=self.label,
                speaker=self.speaker,
                seconds=round(self.seconds, 3),
                channel=channel,
                mean=round(float(picture.mean()), 3),
                low=round(float(np.quantile(picture, 0.05)), 3),
                high=round(float(np.quantile(picture, 0.95)), 3),
            )
            for channel, picture in self.channels.items()
        ]


def channel_example(extraction: Extraction, checked: Checked, store: FeatureStore) -> Example | None:
    """Return the spectrograms of the first utterance by name that is stereo, or of the first if none is.

    They are kept in the store, so that a run on kept features need not load what makes them. None where the frontend
    makes nothing that can be looked at.

    Raises:
        BserkitError: audio cannot be read.
    """
    index = next((index for index, one in enumerate(checked.facts) if one.stereo), 0)
    utterance = checked.corpus.utterances[index]
    components = [identity(one) for one in (*extraction.transforms, extraction.frontend)]
    made_by = json.dumps([*components, meaning(_spectrograms)], sort_keys=True)
    kind = f"spectrogram-{hashlib.sha256(made_by.encode()).hexdigest()[:16]}"
    digest = checked.digests[index]
    kept = store.facts(digest, lambda: _spectrograms(extraction, utterance, digest), kind)
    if not kept:
        return None
    pictures = np.asarray(kept["channels"], dtype=np.float32)
    return Example(
        utterance=checked.corpus.items[index],
        label=utterance.label,
        speaker=utterance.speaker,
        seconds=kept["seconds"],
        channels=dict(zip(extraction.transform_of(), pictures, strict=True)),
    )


def _spectrograms(extraction: Extraction, utterance: Utterance, digest: str) -> dict[str, Any]:
    """Return the ``(channel, mel, frame)`` of an utterance's beginning as plain values; nothing if there are none."""
    import torch

    with unchanged(utterance, digest):
        samples, sample_rate = read_stereo(utterance)
    stereo = torch.from_numpy(samples[:, : LONGEST_SECONDS * sample_rate])
    with torch.inference_mode():
        where = str(utterance.path)
        waveform = torch.cat([transformed(transform, stereo, where) for transform in extraction.transforms])
        with asked(extraction.frontend, f"a picture of {where}"):
            pictures = extraction.frontend.spectrogram(waveform, sample_rate)
    return {} if pictures is None else {"seconds": stereo.shape[1] / sample_rate, "channels": pictures.tolist()}
