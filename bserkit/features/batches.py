"""Batches: the segments of many utterances go through a loaded network together."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bserkit.devices import compute_whole_fp32
from bserkit.errors import BserkitError
from bserkit.features.contracts import asked, features_of, frames_of, loaded, vectors_of

if TYPE_CHECKING:
    import torch

    from bserkit.features.backbones import Batching
    from bserkit.features.extraction import Extraction
    from bserkit.features.preparing import Piece, Wanted

#: Segments that go through the network at once, by kind of device. Every batch is filled up to it, so that what a
#: segment's features are does not depend on how many others came along. More take more memory; fewer take longer, since
#: AlexNet's last layers are read from memory once a batch.
BATCH_SEGMENTS = {"cpu": 64, "cuda": 256}
#: Samples of waveforms that go through it at once, where the backbone takes several: 2 s and 8 s at 16 kHz. No more
#: than keep a device busy, since a batch is filled up however rare waveforms of its length are.
BATCH_SAMPLES = {"cpu": 1 << 15, "cuda": 1 << 17}
#: A batch that is not full goes through when so many were begun after it, so that little waits for it.
_PATIENCE = 16


class Network:
    """A loaded backbone in its precision, and the shapes of the batches that it is given.

    Attributes:
        behind: batches that it may be at while the next one is gathered.
        threads: that may call it at a time.
    """

    def __init__(self, extraction: Extraction) -> None:
        import torch

        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[extraction.precision]
        self.device = extraction.device
        self.on_gpu = self.device != "cpu"
        self.backbone = extraction.backbone
        self.batching: Batching = self.backbone.batching if self.backbone.reads == "waveform" else "equal"
        self.threads = os.cpu_count() or 1 if self.backbone.concurrent else 1
        self.behind = self.threads if self.batching == "one" else int(self.on_gpu)
        network, self.feature_size = loaded(self.backbone, self.device)
        self.module = network.to(self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # After whatever the backbone's own code has set.
        compute_whole_fp32()

    def batch_shape(self, segment: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the batch that a segment of this shape goes into.

        It depends on nothing else, and how a device adds up depends on nothing else: so no bit of a segment's features
        depends on which others come along.
        """
        most, samples = (of[self.device.partition(":")[0]] for of in (BATCH_SEGMENTS, BATCH_SAMPLES))
        if self.backbone.reads == "planes":
            return (most, *segment)
        (length,) = segment
        padded = padded_length(length) if self.batching == "masked" else length
        rows = 1 if self.batching == "one" else min(most, samples // padded)
        return (rows, padded) if rows > 1 else (1, length)

    def empty(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a batch's memory, which a GPU reads by itself."""
        import torch

        return torch.empty(shape, dtype=self.dtype, pin_memory=self.on_gpu)

    def start(self, batch: _Batch) -> Callable[[], np.ndarray]:
        """Begin with a batch; return what waits for its ``(segment, frame, feature)``, one frame where it knows none.

        Raises:
            BserkitError: the network makes something else, or says what is wrong with its batch.
        """
        import torch

        ready = torch.cuda.Event() if self.on_gpu else None  # type: ignore[no-untyped-call]
        given = batch.whole(self.batching == "masked")
        where = f"{batch.where} and others" if batch.shared else batch.where
        try:
            with torch.inference_mode(), asked(self.backbone, f"features of {where}"):
                made = self.module(*(one.to(self.device, non_blocking=True) for one in given))
                if ready and isinstance(made, torch.Tensor):
                    made = made.to("cpu", non_blocking=True)
                    ready.record(torch.cuda.current_stream(self.device))
        except BserkitError as error:
            raise BserkitError(f"backbone {self.backbone.name}, {where}: {error}") from None

        def features() -> np.ndarray:
            if ready:
                ready.synchronize()
            rows, length = len(given[0]), given[0].shape[-1]
            with torch.inference_mode():
                return features_of(self.backbone, made, rows, length, self.feature_size, batch.where).numpy()

        return features

    def kept_as(self, largest: float) -> np.dtype[Any]:
        """Return what features are stored as: what was computed in half precision fits into half the room.

        A bfloat16 value of ordinary size is a float16 value too, so nothing is lost by it.
        """
        narrow = self.dtype.itemsize == 2 and largest < float(np.finfo(np.float16).max)
        return np.dtype(np.float16 if narrow else np.float32)


def padded_length(length: int) -> int:
    """Return the length that a waveform is filled up to, so that like ones go together: an eighth more at most.

    >>> [padded_length(length) for length in (7, 15, 16, 17, 1000, 16000, 16385)]
    [7, 15, 16, 18, 1024, 16384, 18432]
    """
    step = 1 << max(0, (length - 1).bit_length() - 4)
    return -(-length // step) * step


@dataclass(frozen=True)
class Part:
    """Vectors of successive segments of one utterance's channel that went through the network together.

    Attributes:
        times: ``(vector, 2)``: start and end of what each describes, seconds.
        last: whether the channel is done with them.
    """

    digest: str
    channel: str
    times: np.ndarray
    last: bool


_Done: TypeAlias = tuple[Part, np.ndarray]


def batched(pieces: Iterable[Piece], network: Network, wanted: Wanted) -> Iterator[_Done]:
    """Yield parts of utterances with their ``(vector, feature)``, in order, as batches fill.

    Raises:
        BserkitError: the network makes something else than its backbone says.
    """
    with ThreadPoolExecutor(network.threads, thread_name_prefix="backbone") as pool:
        line = _Line(network, pool)
        try:
            for piece in pieces:
                yield from line.put(piece, f"channel {piece.channel} of {wanted[piece.digest][0].path}")
            yield from line.rest()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass
class _Batch:
    """Segments that go through the network together, as they gather.

    Attributes:
        segments: ``(segment, ...)``, as many as there is room for.
        where: the recording of the first.
        number: how many batches were begun before it.
        shared: whether there are segments of another recording too.
        lengths: of the segments that are there, along the last axis.
        waits: waits for what the network makes, once it has begun.
        made: ``(segment, frame, feature)``, once it is there.
    """

    segments: torch.Tensor
    where: str
    number: int
    shared: bool = False
    lengths: list[int] = field(default_factory=list)
    waits: Callable[[], np.ndarray] | None = None
    made: np.ndarray | None = None

    @property
    def room(self) -> int:
        """How many segments more it takes."""
        return len(self.segments) - len(self.lengths)

    def add(self, segments: torch.Tensor, where: str) -> slice:
        """Take segments of one length and recording, and return where they are."""
        rows = slice(len(self.lengths), len(self.lengths) + len(segments))
        length = segments.shape[-1]
        self.segments[rows, ..., :length] = segments
        self.segments[rows, ..., length:] = 0
        self.lengths += [length] * len(segments)
        self.shared |= where != self.where
        return rows

    def whole(self, masked: bool) -> list[torch.Tensor]:
        """Return the segments, filled up with the first, and, if asked for, ``(segment, time)``: what is no padding."""
        import torch

        lengths = torch.tensor(self.lengths + self.lengths[:1] * self.room)
        self.segments[len(self.lengths) :] = self.segments[0]
        return [self.segments, *([torch.arange(self.segments.shape[-1]) < lengths[:, None]] if masked else [])]


@dataclass(frozen=True)
class _Share:
    """What of a batch is a part's."""

    part: Part
    where: str
    batch: _Batch
    rows: slice


class _Line:
    """Segments wait in line: those of one shape for their batch to fill, parts for those that came before them."""

    def __init__(self, network: Network, pool: Executor) -> None:
        self._network, self._pool = network, pool
        self._filling: dict[tuple[int, ...], _Batch] = {}
        self._started: deque[_Batch] = deque()
        self._shares: deque[_Share] = deque()
        self._begun = 0

    def put(self, piece: Piece, where: str) -> Iterator[_Done]:
        """Take a piece of the recording ``where`` into batches; yield what is done meanwhile."""
        segments = piece.segments.planes[0]
        shape = self._network.batch_shape(tuple(segments.shape[1:]))
        times = _times(piece, frames_of(self._network.backbone, segments.shape[-1], where))
        start = 0
        while start < len(segments):
            batch = self._batch(shape, where)
            end = min(start + batch.room, len(segments))
            last = piece.last and end == len(segments)
            part = Part(piece.digest, piece.channel, times[start:end].reshape(-1, 2), last)
            self._shares.append(_Share(part, where, batch, batch.add(segments[start:end], where)))
            start = end
            if not batch.room:
                self._start(shape)
            elif self._begun - (oldest := next(iter(self._filling.values()))).number > _PATIENCE:
                self._start(tuple(oldest.segments.shape))
            yield from self._done(self._network.behind)

    def rest(self) -> Iterator[_Done]:
        """Yield what is left, batches going through as they are."""
        for shape in list(self._filling):
            self._start(shape)
            yield from self._done(self._network.behind)
        yield from self._done(0)

    def _batch(self, shape: tuple[int, ...], where: str) -> _Batch:
        """Return the batch of this shape that fills, which may have to be begun."""
        if shape not in self._filling:
            self._filling[shape] = _Batch(self._network.empty(shape), where, self._begun)
            self._begun += 1
        return self._filling[shape]

    def _start(self, shape: tuple[int, ...]) -> None:
        """Let a batch go through the network."""
        batch, network = self._filling.pop(shape), self._network
        if network.batching == "one":
            batch.waits = self._pool.submit(lambda: network.start(batch)()).result
        else:
            batch.waits = network.start(batch)
        self._started.append(batch)

    def _done(self, behind: int) -> Iterator[_Done]:
        """Wait until the network is at so many batches at most; yield what is done, in order."""
        while len(self._started) > behind:
            batch = self._started.popleft()
            assert batch.waits  # noqa: S101
            batch.made, batch.waits = batch.waits(), None
        while self._shares and (made := self._shares[0].batch.made) is not None:
            share = self._shares.popleft()
            yield share.part, vectors_of(self._network.backbone, made[share.rows], len(share.part.times), share.where)


def _times(piece: Piece, frames: np.ndarray | None) -> np.ndarray:
    """Return ``(segment, frame, 2)``: when each frame of a piece's segments begins and ends, seconds.

    A segment's steps share its time evenly.
    """
    times = piece.segments.times.numpy()[:, np.newaxis]
    if frames is None:
        return times
    starts, ends = times[..., :1], times[..., 1:]
    return starts + (ends - starts) * frames / piece.segments.planes.shape[-1]
