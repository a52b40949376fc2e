"""Batches: the segments of many utterances go through a loaded network together."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.devices import compute_whole_fp32
from bserkit.errors import BserkitError
from bserkit.features.contracts import asked, features_of, loaded

if TYPE_CHECKING:
    import torch

    from bserkit.features.extraction import Extraction
    from bserkit.features.preparing import Piece, Wanted

#: Segments that go through the network at once, by kind of device. Every batch is filled up to it, so that what a
#: segment's features are does not depend on how many others came along. More take more memory; fewer take longer, since
#: AlexNet's last layers are read from memory once a batch.
BATCH_SEGMENTS = {"cpu": 64, "cuda": 256}


class Network:
    """A loaded backbone in its precision: ``(segment, 3, mel, frame) -> (segment, feature)``, batches always full.

    Attributes:
        behind: batches that it may be at while the next one is gathered.
    """

    def __init__(self, extraction: Extraction) -> None:
        import torch

        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[extraction.precision]
        self.device = extraction.device
        self.on_gpu = self.device != "cpu"
        self.behind = int(self.on_gpu)
        self.batch_segments = BATCH_SEGMENTS[extraction.device.partition(":")[0]]
        self.backbone = extraction.backbone
        self.threads = os.cpu_count() or 1 if extraction.backbone.concurrent else 1
        network, self.feature_size = loaded(self.backbone, self.device)
        self.module = network.to(self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # After whatever the backbone's own code has set.
        compute_whole_fp32()

    def batch(self, segment: torch.Size) -> torch.Tensor:
        """Return an empty batch of segments of this shape, in memory that a GPU reads by itself."""
        import torch

        return torch.zeros((self.batch_segments, *segment), dtype=self.dtype, pin_memory=self.on_gpu)

    def start(self, batch: torch.Tensor, where: Sequence[str]) -> Callable[[], np.ndarray]:
        """Begin with a batch, given the recording of each segment that is wanted; return what waits for their features.

        The batch is the network's until then.
        """
        import torch

        ready = torch.cuda.Event() if self.on_gpu else None  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            with asked(self.backbone, f"features of {where[0]}"):
                made = self.module(batch.to(self.device, non_blocking=True))
            if ready and isinstance(made, torch.Tensor):
                made = made.to("cpu", non_blocking=True)
                ready.record(torch.cuda.current_stream(self.device))

        def features() -> np.ndarray:
            if ready:
                ready.synchronize()
            with torch.inference_mode():
                return features_of(self.backbone, made, len(batch), self.feature_size, where).numpy()

        return features

    def kept_as(self, largest: float) -> np.dtype[Any]:
        """Return what features are stored as: what was computed in half precision fits into half the room.

        A bfloat16 value of ordinary size is a float16 value too, so nothing is lost by it.
        """
        narrow = self.dtype.itemsize == 2 and largest < float(np.finfo(np.float16).max)
        return np.dtype(np.float16 if narrow else np.float32)


@dataclass(frozen=True)
class Part:
    """Successive segments of one utterance's channel that go through the network together.

    Attributes:
        last: whether the channel is done with them.
    """

    digest: str
    channel: str
    times: np.ndarray
    last: bool


def _where(wanted: Wanted, digest: str, channel: str) -> str:
    """Name the channel of a recording."""
    return f"channel {channel} of {wanted[digest][0].path}"


def batched(pieces: Iterable[Piece], network: Network, wanted: Wanted) -> Iterator[tuple[Part, np.ndarray]]:
    """Yield parts of utterances with their features, in order, as batches fill."""
    batches: list[torch.Tensor] = []
    parts: list[Part] = []
    free = 0
    started: deque[tuple[list[Part], Callable[[], np.ndarray]]] = deque()

    def run() -> None:
        if parts:
            # A last batch is not filled: what is left in it of one before changes nothing.
            where = [_where(wanted, part.digest, part.channel) for part in parts for _ in part.times]
            started.append((parts, network.start(batches[0], where)))
            batches.append(batches.pop(0))

    def done(behind: int) -> Iterator[tuple[Part, np.ndarray]]:
        while len(started) > behind:
            of, features = started.popleft()
            yield from zip(of, np.split(features(), np.cumsum([len(part.times) for part in of])[:-1]), strict=True)

    for piece in pieces:
        planes, times = piece.segments.planes[0], piece.segments.times.numpy()
        if not batches or batches[0].shape[1:] != planes.shape[1:]:
            run()
            yield from done(0)
            batches = [network.batch(planes.shape[1:]) for _ in range(network.behind + 1)]
            parts, free = [], network.batch_segments
        start = 0
        while start < len(planes):
            end = min(start + free, len(planes))
            batches[0][network.batch_segments - free :][: end - start] = planes[start:end]
            parts.append(Part(piece.digest, piece.channel, times[start:end], piece.last and end == len(planes)))
            free -= end - start
            start = end
            if not free:
                run()
                yield from done(network.behind)
                parts, free = [], network.batch_segments
    run()
    yield from done(0)


def one_by_one(pieces: Iterable[Piece], network: Network, wanted: Wanted) -> Iterator[tuple[Part, np.ndarray]]:
    """Yield what ``batched`` does of whole utterances, which have no common length and so make no batches."""

    def compute(piece: Piece) -> np.ndarray:
        where = _where(wanted, piece.digest, piece.channel)
        try:
            return network.start(piece.segments.planes[0].clone(), [where])()
        except BserkitError as error:
            named = where in str(error)
            raise error if named else BserkitError(f"backbone {network.backbone.name}, {where}: {error}") from None

    waiting: deque[tuple[Piece, Future[np.ndarray]]] = deque()

    def first() -> tuple[Part, np.ndarray]:
        piece, made = waiting.popleft()
        return Part(piece.digest, piece.channel, piece.segments.times.numpy(), piece.last), made.result()

    with ThreadPoolExecutor(network.threads, thread_name_prefix="backbone") as pool:
        try:
            for piece in pieces:
                waiting.append((piece, pool.submit(compute, piece)))
                # One more than threads, so that none waits for what is made of the first one's features.
                if len(waiting) > network.threads:
                    yield first()
            while waiting:
                yield first()
        finally:
            pool.shutdown(cancel_futures=True)
