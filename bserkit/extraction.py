"""Extraction: audio files become segment features in the store, each computed once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.audio import read_stereo
from bserkit.component import identity
from bserkit.errors import BserkitError, UsageError
from bserkit.frontend import SHAPES

if TYPE_CHECKING:
    import torch

    from bserkit.backbone import Backbone
    from bserkit.channels import ChannelTransform
    from bserkit.corpus import Utterance
    from bserkit.frontend import Frontend, Segments
    from bserkit.progress import Reporter
    from bserkit.store import FeatureStore

#: Segments that go through the network at once, by kind of device. Every batch is filled up to it, so that what a
#: segment's features are does not depend on how many others came along. On a processor a few are fastest: their
#: intermediate values stay in its caches and in memory that is used again.
BATCH_SEGMENTS = {"cpu": 16, "cuda": 256}
#: Utterances that are decoded ahead of the network.
_AHEAD = 4


@dataclass(frozen=True)
class Extraction:
    """How features are made: every recipe on the way, and the arithmetic.

    Attributes:
        device: ``cpu`` or ``cuda:N``.
        precision: ``fp32``, ``bf16`` or ``fp16``.
        only: the one channel that is wanted; empty means every one that the transforms make.
    """

    transforms: tuple[ChannelTransform, ...]
    frontend: Frontend
    backbone: Backbone
    device: str
    precision: str
    only: str = ""

    def of_channel(self, channel: str) -> Extraction:
        """Return how the features of one channel alone are made."""
        return replace(self, only=channel)

    def transform_of(self) -> dict[str, str]:
        """Return the transform of every channel, in order.

        Raises:
            UsageError: two transforms make a channel of the same name.
        """
        found: dict[str, str] = {}
        for transform in self.transforms:
            for channel in transform.outputs:
                if channel in found:
                    raise UsageError(f"Channels {found[channel]} and {transform.name} both make a channel {channel!r}.")
                found[channel] = transform.name
        return {self.only: found[self.only]} if self.only else found

    def recipes(self) -> dict[str, dict[str, Any]]:
        """Return, by channel, everything that its features depend on beside the audio."""
        shared = {
            "frontend": identity(self.frontend),
            "backbone": identity(self.backbone) | {"parameters": self.backbone.recipe()},
            "weights": self.backbone.weights_digest(),
            "device": self.device.partition(":")[0],
            "precision": self.precision,
            "torch": version("torch"),
            "torchaudio": version("torchaudio"),
        }
        return {
            channel: {"channel": channel, "transform": identity(transform), **shared}
            for transform in self.transforms
            for channel in transform.outputs
            if channel == self.only or not self.only
        }


@dataclass(frozen=True)
class Pending:
    """What the store does not hold yet, and the loaded network that will make it, if there is anything to make.

    Attributes:
        wanted: by digest, the utterance and the channels that are missing of it.
    """

    extraction: Extraction
    wanted: Mapping[str, tuple[Utterance, list[str]]]
    network: _Network | None


def pending(
    utterances: Sequence[Utterance], digests: Sequence[str], extraction: Extraction, store: FeatureStore
) -> Pending:
    """Find out what has to be computed and load the network for it, so that wrong weights are told before any work.

    Raises:
        BserkitError: the weights cannot be had or do not fit the architecture.
    """
    recipes = extraction.recipes()
    for recipe in recipes.values():
        store.touch(recipe)
    # One recording under several names is computed once.
    wanted = {
        digest: (utterance, missing)
        for digest, utterance in dict(zip(digests, utterances, strict=True)).items()
        if (missing := [channel for channel, recipe in recipes.items() if not store.has(recipe, digest)])
    }
    return Pending(extraction, wanted, _Network(extraction) if wanted else None)


def extract(work: Pending, store: FeatureStore, reporter: Reporter) -> int:
    """Compute what is pending; return how many segments went through the network.

    Decoding and the frontend run ahead in a thread of their own; batches fill across utterances and channels. What is
    done is kept even if the work is broken off.

    Raises:
        BserkitError: audio or the disk stand in the way, or the network makes values that are not numbers.
    """
    if work.network is None:
        return 0
    recipes = work.extraction.recipes()
    segments = 0
    with reporter.stage("Extracting features", len(work.wanted), "utterances") as advance:
        compute = _one_by_one if work.extraction.frontend.makes == "waveform" else _features
        for digest, channel, features, times, last in compute(work.wanted, work.extraction, work.network):
            store.write_features(recipes[channel], digest, features, times)
            segments += len(features)
            advance(int(last))
    return segments


class _Network:
    """A loaded backbone in its precision: ``(segment, 3, mel, frame) -> (segment, feature)``, batches always full."""

    def __init__(self, extraction: Extraction) -> None:
        import torch

        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[extraction.precision]
        self.device = extraction.device
        self.batch_segments = BATCH_SEGMENTS[extraction.device.partition(":")[0]]
        self.name = extraction.backbone.name
        network = extraction.backbone.load(self.device).to(self.dtype)
        self.module = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def __call__(self, planes: torch.Tensor) -> np.ndarray:
        import torch

        count = len(planes)
        batch = torch.zeros((self.batch_segments, *planes.shape[1:]), dtype=self.dtype, device=self.device)
        batch[:count] = planes
        with torch.inference_mode():
            features = self.module(batch)[:count]
        if features.ndim != 2 or len(features) != count:
            raise BserkitError(
                f"backbone {self.name} made {tuple(features.shape)} of {count} segments; expected (segment, feature)."
            )
        if not torch.isfinite(features).all():
            raise BserkitError(f"backbone {self.name} made values that are not numbers; try --precision fp32.")
        return self._keep(features.float().cpu().numpy())

    def _keep(self, features: np.ndarray) -> np.ndarray:
        """Return the features as they are stored: what was computed in half precision fits into half the room.

        A bfloat16 value of ordinary size is a float16 value too, so nothing is lost by it.
        """
        if self.dtype.itemsize == 2 and np.abs(features).max(initial=0.0) < np.finfo(np.float16).max:
            return features.astype(np.float16)
        return features


def _features(
    wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction, network: _Network
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, bool]]:
    """Yield (digest, channel, features, times, whether the utterance is done) as batches fill."""
    import torch

    batch = network.batch_segments
    open_pieces: deque[_Piece] = deque()
    waiting: list[torch.Tensor] = []
    count = 0

    def run(planes: torch.Tensor) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, bool]]:
        features = network(planes)
        while len(features):
            piece = open_pieces[0]
            taken = features[: piece.missing]
            piece.done.append(taken)
            piece.missing -= len(taken)
            features = features[len(taken) :]
            if not piece.missing:
                open_pieces.popleft()
                yield piece.digest, piece.channel, np.concatenate(piece.done), piece.times, piece.last

    for digest, channels, (planes, times) in prepared(wanted, extraction):
        for index, channel in enumerate(channels):
            last = index == len(channels) - 1
            open_pieces.append(_Piece(digest, channel, times.numpy(), len(times), [], last))
            for start in range(0, len(times), batch):
                part = planes[index, start : start + batch]
                waiting.append(part)
                count += len(part)
                while count >= batch:
                    together = torch.cat(waiting)
                    yield from run(together[:batch])
                    waiting = [together[batch:]]
                    count = len(waiting[0])
    if count:
        yield from run(torch.cat(waiting))


def _one_by_one(
    wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction, network: _Network
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray, bool]]:
    """Yield what ``_features`` does of whole utterances, which have no common length and so make no batches."""
    import torch

    for digest, channels, (waveforms, times) in prepared(wanted, extraction):
        for index, channel in enumerate(channels):
            try:
                with torch.inference_mode():
                    features = network.module(waveforms[index].to(network.device)).float().cpu().numpy()
                if not np.isfinite(features).all():
                    raise BserkitError("it made values that are not numbers")
            except BserkitError as error:
                path = wanted[digest][0].path
                raise BserkitError(f"backbone {network.name}, channel {channel} of {path}: {error}") from None
            yield digest, channel, features, times.numpy(), index == len(channels) - 1


@dataclass
class _Piece:
    """One utterance's channel on its way through the network."""

    digest: str
    channel: str
    times: np.ndarray
    missing: int
    done: list[np.ndarray]
    last: bool


def prepared(
    wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction
) -> Iterator[tuple[str, list[str], Segments]]:
    """Yield each utterance's digest, wanted channels and their segments in order, prepared ahead in another thread.

    Args:
        wanted: by digest, the utterance and the channels that are wanted of it.

    Raises:
        BserkitError: audio cannot be read, or a transform or the frontend makes something of another shape.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="frontend") as pool:
        ahead: deque[Any] = deque()
        try:
            for digest, (utterance, channels) in wanted.items():
                ahead.append((digest, channels, pool.submit(_segments, utterance, channels, extraction)))
                if len(ahead) > _AHEAD:
                    digest, channels, future = ahead.popleft()
                    yield digest, channels, future.result()
            while ahead:
                digest, channels, future = ahead.popleft()
                yield digest, channels, future.result()
        finally:
            for _, _, future in ahead:
                future.cancel()


def _segments(utterance: Utterance, channels: Sequence[str], extraction: Extraction) -> Segments:
    """Return the segments of one utterance's channels, in the order asked for."""
    import torch

    samples, sample_rate = read_stereo(utterance)
    stereo = torch.from_numpy(samples)
    rows: dict[str, torch.Tensor] = {}
    for transform in extraction.transforms:
        if not set(transform.outputs).isdisjoint(channels):
            made = transform.transform(stereo)
            if made.shape != (len(transform.outputs), stereo.shape[1]):
                raise BserkitError(
                    f"channels {transform.name} made {tuple(made.shape)} of {tuple(stereo.shape)}; expected "
                    f"(channel, time) with a row for each of {', '.join(transform.outputs)}."
                )
            rows |= dict(zip(transform.outputs, made, strict=True))
    with torch.inference_mode():
        segments = extraction.frontend.segments(torch.stack([rows[channel] for channel in channels]), sample_rate)
    if not extraction.frontend.fits(segments, len(channels)):
        raise BserkitError(
            f"frontend {extraction.frontend.name} made {extraction.frontend.makes} {tuple(segments.planes.shape)} and "
            f"{len(segments.times)} times for {len(channels)} channels of {utterance.path.name}; "
            f"expected {SHAPES[extraction.frontend.makes]}."
        )
    return segments
