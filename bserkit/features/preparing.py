"""Preparing: audio files become segments ahead of the network, in threads of their own."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from bserkit.corpora.audio import read_stereo, stereo_blocks, unchanged
from bserkit.errors import BserkitError
from bserkit.features.contracts import asked, segments_of, transformed

if TYPE_CHECKING:
    import torch

    from bserkit.corpora.reading import Utterance
    from bserkit.features.channels import ChannelTransform
    from bserkit.features.extraction import Extraction
    from bserkit.features.frontends import Frontend, Segments

_Made = TypeVar("_Made")

#: Pieces of utterances' channels that are prepared ahead of the network, by each thread that does so.
_AHEAD = 8
#: Threads that prepare utterances, by kind of device. A processor's network leaves room for one.
_PREPARING = {"cpu": 1, "cuda": min(8, os.cpu_count() or 1)}
#: Utterances of up to so many frames, 11 s at 48 kHz, go through the frontend whole; longer ones in blocks of so many.
_WHOLE_FRAMES, _BLOCK_FRAMES = 1 << 19, 1 << 16
#: By digest, an utterance and the channels that are wanted of it.
Wanted: TypeAlias = "Mapping[str, tuple[Utterance, list[str]]]"


@dataclass(frozen=True)
class Piece:
    """Successive segments of one channel of an utterance: all of them, but of a long utterance.

    Attributes:
        segments: of this channel alone.
        last: whether the channel ends with them.
    """

    digest: str
    channel: str
    segments: Segments
    last: bool


def prepared(wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction) -> Generator[Piece]:
    """Yield every utterance's pieces in order, prepared ahead in other threads.

    Where several threads do so, each is at an utterance of its own.

    Args:
        wanted: by digest, the utterance and the channels that are wanted of it.

    Raises:
        BserkitError: audio cannot be read, or a transform or the frontend makes something of another shape.
    """
    import torch

    def prepare(pieces: Iterator[Piece]) -> Piece | None:
        with torch.inference_mode():
            return next(pieces, None)

    threads, own = _PREPARING[extraction.device.partition(":")[0]], torch.get_num_threads()
    # Where there are several, none shares its work out, which would be waiting for processors that others are at.
    pool = ThreadPoolExecutor(threads, "frontend", *((torch.set_num_threads, (1,)) if threads > 1 else ()))
    try:
        if threads > 1:
            torch.set_num_threads(1)
            each = (iter(partial(prepare, _pieces({digest: one}, extraction)), None) for digest, one in wanted.items())
            yield from in_order(each, pool, 2 * threads, _AHEAD)
        else:
            pieces = _pieces(wanted, extraction)
            ahead = deque(pool.submit(prepare, pieces) for _ in range(_AHEAD))
            while piece := ahead.popleft().result():
                ahead.append(pool.submit(prepare, pieces))
                yield piece
    finally:
        # Without waiting: what a thread is at when work breaks off is not wanted, and it may be that very thread.
        pool.shutdown(wait=False, cancel_futures=True)
        if threads > 1:
            torch.set_num_threads(own)


def in_order(sources: Iterable[Iterator[_Made]], pool: Executor, begun: int, ahead: int) -> Iterator[_Made]:
    """Yield what iterators give, one iterator after the other, while a pool's threads are at the next ones.

    No iterator is in two threads at a time.

    Args:
        begun: how many iterators are begun at a time, at most.
        ahead: how much of each is held before it is wanted, at most.
    """

    def some(source: Iterator[_Made]) -> list[_Made]:
        return list(islice(source, ahead))

    each = iter(sources)
    waiting: deque[tuple[Iterator[_Made], Future[list[_Made]]]] = deque()
    while True:
        waiting.extend((source, pool.submit(some, source)) for source in islice(each, begun - len(waiting)))
        if not waiting:
            return
        source, made = waiting.popleft()
        while len(given := made.result()) == ahead:
            made = pool.submit(some, source)
            yield from given
        yield from given


def _pieces(wanted: Mapping[str, tuple[Utterance, list[str]]], extraction: Extraction) -> Iterator[Piece]:
    """Yield every utterance's pieces in order."""
    for digest, (utterance, channels) in wanted.items():
        for channel, made in _by_channel(utterance, digest, channels, extraction):
            held: Segments | None = None
            for segments in made:
                if held:
                    yield Piece(digest, channel, held, last=False)
                held = segments
            if held is None:
                raise BserkitError(
                    f"frontend {extraction.frontend.name} made no segment of channel {channel} of {utterance.path}."
                )
            yield Piece(digest, channel, held, last=True)


def _by_channel(
    utterance: Utterance, digest: str, channels: Sequence[str], extraction: Extraction
) -> Iterator[tuple[str, Iterable[Segments]]]:
    """Yield each channel with its segments, in the order asked for; they end when the recording has proven unchanged.

    The frontend is given one channel at a time, in memory of its own, so that no bit of what it makes depends on which
    others were asked for: how a processor adds up depends on how many rows there are and where they lie in memory.
    """
    import torch

    frontend, transforms = extraction.frontend, extraction.transforms
    with unchanged(utterance, digest), closing(waveforms(utterance, channels, transforms, _WHOLE_FRAMES)) as blocks:
        (waveform, sample_rate), is_whole = next(blocks), next(blocks, None) is None

    def again(channel: str) -> Iterator[torch.Tensor]:
        return (block for block, _ in waveforms(utterance, [channel], transforms, _BLOCK_FRAMES))

    for channel, alone in zip(channels, torch.split(waveform, 1), strict=True):
        where = f"channel {channel} of {utterance.path}"
        if is_whole:
            with asked(frontend, f"segments of {where}"):
                made = [frontend.segments(alone.clone(), sample_rate)]
            yield channel, _checked(made, frontend, where)
        else:
            yield channel, _streamed(partial(again, channel), sample_rate, frontend, where, utterance, digest)


def _streamed(
    blocks: Callable[[], Iterable[torch.Tensor]],
    sample_rate: int,
    frontend: Frontend,
    where: str,
    utterance: Utterance,
    digest: str,
) -> Iterator[Segments]:
    """Yield the segments of a channel of a long recording, which is read anew for it."""
    with unchanged(utterance, digest):
        with asked(frontend, f"segments of {where}"):
            made = frontend.stream(blocks, sample_rate)
        yield from _checked(made, frontend, where)


def _checked(made: Iterable[Any], frontend: Frontend, where: str) -> Iterator[Segments]:
    """Yield what a frontend makes of a channel, once it has proven to be successive segments."""
    after, ended = 0.0, object()
    with asked(frontend, f"segments of {where}"):
        successive = iter(made)
    while True:
        with asked(frontend, f"segments of {where}"):
            one = next(successive, ended)
        if one is ended:
            return
        segments = segments_of(frontend, one, where, after)
        after = float(segments.times[-1, 0])
        yield segments


def waveforms(
    utterance: Utterance, channels: Sequence[str], transforms: Sequence[ChannelTransform], frames: int
) -> Generator[tuple[torch.Tensor, int]]:
    """Yield ``(channel, time)`` blocks of so many frames with their sample rate, Hz; one where it must be whole."""
    import torch

    needed = [transform for transform in transforms if not set(transform.outputs).isdisjoint(channels)]
    pointwise = all(transform.pointwise for transform in needed)
    for samples, sample_rate in stereo_blocks(utterance, frames) if pointwise else [read_stereo(utterance)]:
        stereo = torch.from_numpy(samples)
        rows: dict[str, torch.Tensor] = {}
        for transform in needed:
            made = transformed(transform, stereo, str(utterance.path))
            rows |= dict(zip(transform.outputs, made, strict=True))
        yield torch.stack([rows[channel] for channel in channels]), sample_rate
